"""How often trials train: exact intervals and tests against scipy, statsmodels and counting by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from bench.stats.proportions import Share, is_above_floor, p_equal_shares, permutation_p


@pytest.mark.parametrize(("count", "total"), [(0, 5), (3, 5), (5, 5), (18, 30), (1, 1)])
def test_shares_have_clopper_and_pearsons_interval(count: int, total: int) -> None:
    expected = proportion_confint(count, total, method="beta")
    assert Share(count, total).interval() == pytest.approx(tuple(float(end) for end in expected))


def test_a_share_is_tested_by_the_binomial_as_its_interval_says() -> None:
    share = Share(9, 10)
    low, high = share.interval()
    assert share.p_value(low) == pytest.approx(0.05)
    assert share.p_value(high) == pytest.approx(0.05)
    assert share.p_value(0.9) == 1.0
    assert Share(0, 10).p_value(0.5) == pytest.approx(2 * 0.5**10)


def test_a_trial_trained_where_it_beats_the_most_frequent_class_by_more_than_chance() -> None:
    # 144 dev images, 16 of the most frequent class: 24 right are too many for chance, not for the best of five times.
    p = stats.binomtest(24, 144, 16 / 144, "greater").pvalue
    assert 0.01 < p < 0.05
    assert is_above_floor(24 / 144, 144, 16 / 144, evaluations=1)
    assert not is_above_floor(24 / 144, 144, 16 / 144, evaluations=5)
    assert not is_above_floor(0.0, 144, 16 / 144, evaluations=5)
    assert is_above_floor(1.0, 144, 16 / 144, evaluations=1000)


def test_two_shares_in_one_context_have_boschloos_test() -> None:
    expected = stats.boschloo_exact([[5, 1], [0, 4]], n=64).pvalue
    assert p_equal_shares([1, 1, 1, 1, 1], [1, 0, 0, 0, 0]) == pytest.approx(expected)
    assert p_equal_shares([1, 1, 1], [0, 0, 0]) == pytest.approx(2 / 64)  # twice 2^-6, the worst case at one half
    assert p_equal_shares([1, 1, math.nan], [1, 1, 1]) == 1.0
    assert math.isnan(p_equal_shares([1, 1], [math.nan, math.nan]))


def test_over_several_contexts_whole_seeds_are_permuted() -> None:
    a = np.ones((2, 5))
    b = np.array([[1, 0, 0, 1, 0], [0, 0, 1, 1, 0.0]])
    sums = np.concatenate([a.sum(0), b.sum(0)])
    choices = [sum(sums[list(chosen)]) for chosen in itertools.combinations(range(10), 5)]
    far = [abs(total - sums.sum() / 2) >= abs(10 - sums.sum() / 2) for total in choices]
    assert p_equal_shares(a, b) == pytest.approx(np.mean(far))


def test_seeds_that_lack_a_context_are_permuted_by_their_distance_from_its_share() -> None:
    a = np.array([[1, 1, 1, 1], [1, 1, 1, math.nan]])
    b = np.array([[0, 1, 0, 0], [math.nan, 0, 1, 0]])
    rows = np.concatenate([a, b], axis=1)
    scores = np.rint(100 * np.nansum(rows - np.nanmean(rows, axis=1, keepdims=True), axis=0))
    choices = [scores[list(chosen)].sum() - scores.sum() / 2 for chosen in itertools.combinations(range(8), 4)]
    observed = abs(scores[:4].sum() - scores.sum() / 2)
    assert p_equal_shares(a, b) == pytest.approx(np.mean(np.abs(choices) >= observed - 1e-9))


def test_permutations_of_unequal_numbers_are_counted() -> None:
    a, b = np.array([3, 3, 2]), np.array([0, 1, 0, 2, 0])
    scores = np.concatenate([a, b])
    choices = [scores[list(chosen)].sum() for chosen in itertools.combinations(range(8), 3)]
    expected = scores.mean() * 3
    assert permutation_p(a, b) == pytest.approx(
        np.mean(np.abs(np.subtract(choices, expected)) >= abs(8 - expected) - 1e-9)
    )


def test_the_ways_of_a_thousand_seeds_are_counted_without_overflow() -> None:
    a, b = np.repeat([1, 0], [340, 360]), np.repeat([1, 0], [300, 400])
    assert permutation_p(a, b) == pytest.approx(stats.fisher_exact([[340, 360], [300, 400]]).pvalue)
