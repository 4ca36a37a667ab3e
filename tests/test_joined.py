"""Intervals joined from several: against statsmodels and by hand; what untrained trials do to a mean."""

import math

import numpy as np
import pytest
from scipy import stats

from bench.stats.estimates import Variant, mean
from bench.stats.joined import Joined, Part, counting_untrained, share_contrast
from bench.stats.proportions import Share, p_equal_shares
from bench.stats.unpaired import unpaired

TRAINED = np.array([0.90, 0.92, 0.91, 0.95, 0.93])


def test_a_difference_of_shares_has_newcombes_interval_from_the_exact_ones() -> None:
    a, b = [1, 1, 1, 1, 1], [1, 0, 0, 1, 0]
    result = share_contrast([a, b], [1, -1])
    (low_a, high_a), (low_b, high_b) = Share(5, 5).interval(), Share(2, 5).interval()
    below, above = math.hypot(1 - low_a, high_b - 0.4), math.hypot(high_a - 1, 0.4 - low_b)
    assert result.value == pytest.approx(0.6)
    assert result.interval() == pytest.approx((0.6 - below, 0.6 + above))
    assert result.p_value() == p_equal_shares(a, b)
    assert result.num_seeds == 5


def test_one_share_has_its_exact_interval_and_test() -> None:
    result = share_contrast([[1, 1, 1, 0]], [1])
    assert result.interval() == pytest.approx(Share(3, 4).interval())
    assert result.p_value(0.1) == pytest.approx(Share(3, 4).p_value(0.1), abs=1e-6)
    assert result.minus(0.1).p_value() == pytest.approx(Share(3, 4).p_value(0.1), abs=1e-6)


def test_nothing_in_common_is_said_to_be_nothing() -> None:
    empty = share_contrast([[math.nan], [1.0]], [1, -1])
    assert (empty.num_seeds, empty.basis) == (0, "nothing")
    assert math.isnan(empty.p_value())


def test_a_mean_that_counts_the_untrained_at_chance() -> None:
    values, trained = np.append(TRAINED, 0.11), [1, 1, 1, 1, 1, 0]
    result = counting_untrained([Variant(values)], [trained], [1], worth=0.1, best=1.0)
    above, share = TRAINED.mean() - 0.1, Share(5, 6)
    half = 5 / 6 * stats.t.isf(0.025, 4) * stats.sem(TRAINED)
    low = math.hypot(above * (5 / 6 - share.low), half)
    assert result.value == pytest.approx(0.1 + above * 5 / 6)
    assert result.low == pytest.approx(result.value - low)


def test_a_p_value_is_the_level_at_which_the_interval_ends() -> None:
    result = counting_untrained([Variant(TRAINED)], [[1, 1, 1, 1, 1]], [1], worth=0.1, best=1.0)
    assert result.p_value(result.interval(0.9)[0]) == pytest.approx(0.1, rel=1e-5)
    margin = max(abs(end) for end in result.minus(0.9).interval(0.8))
    assert result.minus(0.9).p_equivalence(margin) == pytest.approx(0.2, rel=1e-5)
    assert result.p_equivalence(0.1) == 1.0


def test_where_fewer_than_two_trained_they_may_be_worth_up_to_the_best() -> None:
    none = counting_untrained([Variant([0.1, 0.12, 0.09])], [[0, 0, 0]], [1], worth=0.1, best=1.0)
    assert none.value == pytest.approx(0.1)
    assert none.interval() == pytest.approx((0.1, 0.1 + 0.9 * Share(0, 3).high))
    unbounded = counting_untrained([Variant([0.1, 0.12, 0.09])], [[0, 0, 0]], [1], worth=0.1, best=math.nan)
    assert (unbounded.basis, unbounded.is_general) == ("nothing", False)


def test_in_a_difference_what_counts_alike_cancels() -> None:
    a, b = Variant(TRAINED), Variant(TRAINED - 0.05)
    result = counting_untrained([a, b], [[1] * 5] * 2, [1, -1], worth=0.1, best=1.0)
    assert result.value == pytest.approx(0.05)
    assert result.spread is not None
    assert result.spread.basis == "nothing"  # the seeds' differences are all alike


def test_shares_of_nothing_have_no_estimate() -> None:
    assert Joined((), 0).basis == "nothing"
    assert Part(Share(1, 2), worth=-1.0).interval(0.95) == pytest.approx(
        tuple(-e for e in Share(1, 2).interval()[::-1])
    )


# --- without pairing ------------------------------------------------------------------------------------------------


def test_unpaired_means_have_welchs_interval() -> None:
    a, b = [0.90, 0.95, 0.91, 0.99], [0.80, 0.82, 0.70, 0.91, 0.60]
    expected = stats.ttest_ind(a, b, equal_var=False)
    result = unpaired([Variant(a), Variant(b)], [1, -1])
    interval = expected.confidence_interval()
    assert result.interval() == pytest.approx((interval.low, interval.high))
    assert result.p_value() == pytest.approx(expected.pvalue)
    assert result.df == pytest.approx(expected.df)


def test_unpaired_arms_share_their_test_images() -> None:
    rng = np.random.default_rng(4)
    hard = rng.standard_normal(300)
    a, b = (rng.standard_normal((4, 300)) < 1 + hard for _ in range(2))
    result = unpaired([Variant(a.mean(1), a), Variant(b.mean(1), b)], [1, -1])
    alone = unpaired([Variant(a.mean(1)), Variant(b.mean(1))], [1, -1])
    assert result.seed_variance == pytest.approx(alone.seed_variance)
    assert (result.basis, result.num_images) == ("seeds and test set", 300)
    # Image means of the difference vary by what suits a variant (nothing here) and by the rest of chance.
    assert abs(result.image_variance) < alone.seed_variance


@pytest.mark.parametrize("b", [[0.8], [0.8, math.nan]])
def test_welch_needs_two_seeds_of_each(b: list[float]) -> None:
    result = unpaired([Variant([0.9, 0.8]), Variant(b)], [1, -1])
    assert (result.value, result.basis) == (pytest.approx(0.05), "nothing")


def test_one_mean_alone_is_what_it_always_is() -> None:
    assert unpaired([Variant(TRAINED)], [1]).interval() == pytest.approx(mean(TRAINED).interval())
