"""Estimates against published examples, scipy and statsmodels; what happens where little or nothing is known."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from bench.stats.effect_sizes import hedges_factor
from bench.stats.estimates import (
    Variant,
    contrast,
    critical_value,
    effect,
    exact,
    mean,
    mean_squares,
    two_sided_p,
    unmatched,
)

# Extra hours of sleep with two drugs (Cushny and Peebles 1905; Student 1908, "The probable error of a mean").
SLEEP_A = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_B = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def bits(*rows: str) -> np.ndarray:
    return np.array([[mark == "1" for mark in row] for row in rows])


def variant(correct: np.ndarray) -> Variant:
    return Variant(correct.mean(-1), correct)


# --- without test images: Student's t -------------------------------------------------------------------------------


def test_a_paired_effect_agrees_with_the_published_analysis_of_students_sleep_data() -> None:
    result = effect(Variant(SLEEP_A), Variant(SLEEP_B))
    assert result.estimate.value == pytest.approx(-1.58)
    assert result.estimate.interval() == pytest.approx((-2.4598858, -0.7001142), abs=1e-6)  # R: t.test, paired
    assert result.p == pytest.approx(0.002833, abs=1e-6)
    assert (result.estimate.num_seeds, result.estimate.basis) == (10, "seeds")
    assert (result.pairs, result.pairs_planned) == (10, 10)


def test_a_mean_has_students_interval() -> None:
    interval = scipy_stats.ttest_1samp(SLEEP_B, 0).confidence_interval(0.95)
    assert mean(SLEEP_B).interval() == pytest.approx((interval.low, interval.high))


def test_effect_size_is_corrected_for_few_seeds() -> None:
    difference = np.subtract(SLEEP_A, SLEEP_B)
    expected = -1.58 / difference.std(ddof=1) * 0.9139
    assert effect(Variant(SLEEP_A), Variant(SLEEP_B)).effect_size == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("df", "published"), [(2, 0.5642), (3, 0.7236), (4, 0.7979), (10, 0.9228), (50, 0.9849)])
def test_the_small_sample_factor_is_that_of_hedges_table(df: int, published: float) -> None:
    assert hedges_factor(df) == pytest.approx(published, abs=1e-4)


def test_a_wins_with_the_predictive_probability_of_one_more_difference() -> None:
    difference = np.subtract(SLEEP_A, SLEEP_B)
    predictive = scipy_stats.t(9, difference.mean(), difference.std(ddof=1) * math.sqrt(1 + 1 / 10))
    result = effect(Variant(SLEEP_A), Variant(SLEEP_B))
    assert result.probability_a_wins == pytest.approx(predictive.sf(0))
    assert effect(Variant(SLEEP_B), Variant(SLEEP_A)).probability_a_wins == pytest.approx(predictive.cdf(0))


# --- with test images: two sources of variance ----------------------------------------------------------------------


def test_mean_squares_are_those_of_the_two_way_layout() -> None:
    table = np.array([[1.0, 0.0, -1.0, 1.0], [0.0, 0.0, -1.0, 1.0], [1.0, 1.0, 0.0, -1.0]])
    long = pd.DataFrame([(r, c, table[r, c]) for r in range(3) for c in range(4)], columns=["seed", "image", "value"])
    published = anova_lm(ols("value ~ C(seed) + C(image)", long).fit())
    assert mean_squares(table) == pytest.approx(tuple(published["sum_sq"] / published["df"]))


def test_both_sources_make_the_variance() -> None:
    a, b = bits("110111", "111110", "111011"), bits("110011", "010110", "101011")
    seeds, images, rest = mean_squares(np.subtract(a, b, dtype=float))
    estimate = effect(variant(a), variant(b)).estimate
    assert estimate.value == pytest.approx(5 / 18 - 1 / 18)  # five images for A, one for B, of 18
    assert estimate.basis == "seeds and test set"
    assert estimate.seed_variance == pytest.approx(seeds / 18)
    assert estimate.image_variance == pytest.approx(max(images - rest, -0.1 * seeds) / 18)


def test_an_image_that_always_favours_one_arm_widens_the_interval() -> None:
    rng = np.random.default_rng(0)
    a = rng.random((5, 300)) < 0.9
    b = rng.random((5, 300)) < 0.9
    seeds_only = effect(Variant(a.mean(1)), Variant(b.mean(1))).estimate
    a[:, :20], b[:, :20] = True, False
    a[:, 20:40], b[:, 20:40] = False, True
    both = effect(variant(a), variant(b)).estimate
    # 40 images of 300 have a squared difference of 1 each: 40 / 300^2 and hardly less.
    assert both.image_variance == pytest.approx(40 / 300**2, rel=0.1)
    assert both.standard_error > 1.5 * seeds_only.standard_error


@pytest.mark.parametrize("df", [1, 2, 9])
@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
def test_critical_values_run_from_the_normals_to_students(df: int, alpha: float) -> None:
    assert critical_value(alpha, df, 0.0) == pytest.approx(scipy_stats.norm.isf(alpha / 2))
    assert critical_value(alpha, df, 1.0) == pytest.approx(scipy_stats.t.isf(alpha / 2, df))
    between = critical_value(alpha, df, np.linspace(0, 1, 11))
    assert (np.diff(between) > 0).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("alpha", [0.5, 0.05, 1e-6])
def test_a_p_value_is_the_level_at_which_the_interval_ends(share: float, alpha: float) -> None:
    assert two_sided_p(float(critical_value(alpha, 4, share)), 4, share) == pytest.approx(alpha, rel=1e-9)


@pytest.mark.parametrize("true_share", [0.05, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_intervals_cover_94_to_96_percent_whichever_source_prevails(num_seeds: int, true_share: float) -> None:
    """By integration over the estimated seed variance, where the test set's variance is known."""
    df = num_seeds - 1
    chance = (np.arange(4000) + 0.5) / 4000
    seeds = true_share * scipy_stats.chi2.ppf(chance, df) / df
    variance = seeds + 1 - true_share

    def misses(alpha: float) -> float:
        half = critical_value(alpha, df, seeds / variance) * np.sqrt(variance)
        return float(2 * scipy_stats.norm.sf(half).mean())

    assert 0.04 < misses(0.05) < 0.06
    assert misses(0.05 / 6) < 1.06 * 0.05 / 6  # Holm's first step of six


def test_real_outcomes_have_the_same_two_way_layout_as_bits() -> None:
    rng = np.random.default_rng(3)
    losses = rng.gamma(1.0, size=(2, 4, 60))
    a, b = (Variant(table.mean(-1), table) for table in losses)
    difference = losses[0] - losses[1]
    long = pd.DataFrame([(s, i, difference[s, i]) for s in range(4) for i in range(60)], columns=["seed", "image", "d"])
    table = anova_lm(ols("d ~ C(seed) + C(image)", long).fit())
    seeds, images, rest = table["sum_sq"] / table["df"]
    estimate = effect(a, b).estimate
    assert estimate.value == estimate.centre == pytest.approx(difference.mean())
    assert estimate.seed_variance == pytest.approx(seeds / 240)
    assert estimate.image_variance == pytest.approx(max(images - rest, -0.1 * seeds) / 240)
    assert estimate.basis == "seeds and test set"


def test_arms_can_be_swapped() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 4, 50)) < 0.8
    one, other = effect(variant(a), variant(b)), effect(variant(b), variant(a))
    assert one.estimate.interval() == pytest.approx(tuple(-bound for bound in reversed(other.estimate.interval())))
    assert one.p == pytest.approx(other.p)


# --- one seed, or seeds that do not differ --------------------------------------------------------------------------


def test_one_seed_has_the_test_sets_interval_alone() -> None:
    """Approval by 1,600 voters twice, 150 and 86 of whom changed (Agresti, Categorical Data Analysis, section 11.1)."""
    a, b = np.ones((1, 1600), bool), np.ones((1, 1600), bool)
    a[0, :86], b[0, 86:236] = False, False
    result = effect(variant(a), variant(b))
    assert result.estimate.basis == "test set"
    assert result.estimate.interval() == pytest.approx((0.0214, 0.0586), abs=3e-4)
    assert math.isnan(result.effect_size)
    assert math.isnan(result.probability_a_wins)


def test_one_seeds_accuracy_has_agresti_and_coulls_interval() -> None:
    correct = np.ones((1, 100), bool)
    correct[0, :6] = False
    share = 96 / 104  # two right and two wrong added
    half = 1.959964 * math.sqrt(share * (1 - share) / 104)
    estimate = mean(correct.mean(1), correct)
    assert estimate.value == pytest.approx(0.94)
    assert estimate.interval() == pytest.approx((share - half, share + half), rel=1e-5)


def test_an_accuracy_near_one_has_more_room_below_than_above() -> None:
    correct = ~np.eye(3, 360, dtype=bool)  # one image wrong at each seed, and never the same
    estimate = mean(correct.mean(1), correct)
    assert estimate.value == pytest.approx(359 / 360)
    assert estimate.centre == pytest.approx(361 / 364)  # two right and two wrong added
    assert estimate.low < 0.99 < 359 / 360 < estimate.high < 1.002


def test_one_seed_without_images_has_no_interval() -> None:
    estimate = mean([0.9])
    assert (estimate.value, estimate.basis) == (0.9, "nothing")
    assert np.isnan([estimate.low, estimate.high, estimate.p_value()]).all()


def test_identical_arms_differ_by_nothing_within_what_the_test_set_can_tell() -> None:
    correct = np.ones((3, 360), bool)
    correct[:, :11] = False
    result = effect(variant(correct), variant(correct.copy()))
    half = 1.959964 * math.sqrt(2) / 362  # one image more for each variant
    assert result.identical
    assert result.estimate.value == 0
    assert result.estimate.interval() == pytest.approx((-half, half), rel=1e-5)
    assert result.p == 1
    assert not effect(variant(correct), variant(~correct)).identical


def test_equal_accuracies_of_different_networks_do_not_have_an_interval_of_nothing() -> None:
    a, b = bits("11110111", "11101111", "11111011"), bits("11111110", "10111111", "11011111")
    estimate = effect(variant(a), variant(b)).estimate
    assert estimate.value == 0
    assert estimate.low < -0.1 < 0.1 < estimate.high


@pytest.mark.parametrize("b", [[0.8, 0.7, 0.6], [0.9, 0.8, 0.7]])
def test_equal_differences_without_images_have_no_interval(b: list[float]) -> None:
    result = effect(Variant([0.9, 0.8, 0.7]), Variant(b))
    assert result.estimate.basis == "nothing"
    assert np.isnan([result.p, result.effect_size, result.probability_a_wins]).all()


def test_a_quantity_that_no_seed_changes_is_exact() -> None:
    estimate = exact([61_706, 61_706, math.nan])
    assert (estimate.value, estimate.interval(), estimate.num_seeds) == (61_706, (61_706, 61_706), 2)
    assert estimate.p_value(60_000) == 0
    with pytest.raises(ValueError, match="same at all seeds"):
        exact([61_706, 61_707])


# --- contexts and missing trials ------------------------------------------------------------------------------------


def test_a_seed_counts_once_however_many_contexts_share_it() -> None:
    a = np.array([[0.90, 0.91, 0.93], [0.80, 0.84, 0.82]])
    b = np.array([[0.88, 0.90, 0.90], [0.79, 0.80, 0.81]])
    published = scipy_stats.ttest_rel(a.mean(0), b.mean(0))
    result = effect(Variant(a), Variant(b))
    assert result.p == pytest.approx(published.pvalue)
    assert (result.estimate.num_seeds, result.contexts, result.pairs) == (3, 2, 6)


def test_images_are_averaged_over_contexts_like_seeds() -> None:
    a = np.stack([bits("1101", "1110", "0111"), bits("1111", "1011", "1111")])
    b = np.stack([bits("0101", "1100", "0111"), bits("1101", "1011", "0110")])
    seeds, _, _ = mean_squares((a.astype(float) - b).mean(0))
    estimate = effect(variant(a), variant(b)).estimate
    assert estimate.value == pytest.approx(5 / 24)
    assert estimate.seed_variance == pytest.approx(seeds / 12)


def test_with_results_missing_seeds_are_left_out_one_at_a_time() -> None:
    differences = np.array([[1.0, 2.0, 3.0], [5.0, 7.0, math.nan]])  # means 2 and 6
    result = effect(Variant(differences), Variant(np.zeros((2, 3))))
    without_one = [(2.5 + 7) / 2, (2 + 5) / 2, (1.5 + 6) / 2]
    error = math.sqrt(2 / 3 * sum((value - 4) ** 2 for value in without_one))
    half = scipy_stats.t.isf(0.025, 2) * error
    assert result.estimate.value == pytest.approx(4)
    assert result.estimate.interval() == pytest.approx((4 - half, 4 + half))
    assert (result.pairs, result.pairs_planned) == (5, 6)


def test_the_jackknife_is_the_one_that_leaves_out_rows() -> None:
    rng = np.random.default_rng(5)
    table = np.where(rng.random((4, 7)) < 0.3, np.nan, rng.standard_normal((4, 7)))
    left = [np.nanmean(np.delete(table, seed, axis=1), axis=1).mean() for seed in range(7)]
    value = np.nanmean(table, axis=1).mean()
    expected = 6 / 7 * np.square(np.subtract(left, value)).sum()
    estimate = mean(table)
    assert estimate.value == pytest.approx(value)
    assert estimate.seed_variance == pytest.approx(expected)


@pytest.mark.parametrize("lost", [[[1, 0, 0], [0, 1, 1]], [[1, 0, 0], [1, 1, 1]], [[1, 0, 0], [0, 1, 0]]])
def test_a_context_that_rests_on_one_of_several_seeds_leaves_no_interval(lost: list[list[int]]) -> None:
    table = np.where(np.array(lost, bool), [[0.9, 0.8, 0.7], [0.2, 0.5, 0.4]], np.nan)
    result = effect(Variant(table), Variant(np.zeros((2, 3))))
    assert result.thin_contexts > 0
    assert np.isnan([result.estimate.low, result.p]).all()


def test_each_arm_may_be_averaged_over_its_own_trials() -> None:
    a, b = np.array([1.0, 2.0, math.nan, 4.0]), np.array([0.5, math.nan, 1.0, 1.5])
    estimate = unmatched([Variant(a), Variant(b)], [1, -1])
    left = [np.nanmean(np.delete(a, seed)) - np.nanmean(np.delete(b, seed)) for seed in range(4)]
    assert estimate.value == pytest.approx(7 / 3 - 1)
    assert estimate.seed_variance == pytest.approx(3 / 4 * np.square(np.subtract(left, 7 / 3 - 1)).sum())
    complete = [Variant(np.array([1.0, 2.0, 4.0])), Variant(np.array([0.5, 1.0, 2.5]))]
    assert unmatched(complete, [1, -1]) == contrast(complete, [1, -1])


def test_images_of_a_missing_trial_do_not_count() -> None:
    rng = np.random.default_rng(2)
    correct = rng.random((2, 3, 40)) < 0.8
    values = correct.mean(-1)
    values[1, 2] = math.nan
    other = correct.copy()
    other[1, 2] = ~other[1, 2]
    plain = Variant(np.zeros((2, 3)), np.zeros((2, 3, 40), bool))
    assert effect(Variant(values, correct), plain) == effect(Variant(values, other), plain)


def test_a_context_in_which_one_arm_never_ends_is_left_out() -> None:
    a = np.array([[0.9, 0.8, 0.7], [0.5, 0.6, 0.7]])
    b = np.array([[0.8, 0.8, 0.5], [math.nan] * 3])
    result = effect(Variant(a), Variant(b))
    assert result.estimate.value == pytest.approx(0.1)
    assert (result.contexts, result.contexts_planned, result.pairs, result.pairs_planned) == (1, 2, 3, 6)


def test_nothing_in_common_is_said_to_be_nothing() -> None:
    result = effect(Variant([0.9, math.nan]), Variant([math.nan, 0.8]))
    assert (result.estimate.num_seeds, result.estimate.basis, result.identical) == (0, "nothing", False)
    assert math.isnan(result.estimate.value)


def test_a_difference_of_differences() -> None:
    deep, deep_plain, shallow, shallow_plain = (
        [0.9, 0.92, 0.91],
        [0.7, 0.75, 0.71],
        [0.9, 0.9, 0.88],
        [0.88, 0.89, 0.88],
    )
    by_hand = [0.2 - 0.02, 0.17 - 0.01, 0.2 - 0.0]
    estimate = contrast([Variant(deep), Variant(deep_plain), Variant(shallow), Variant(shallow_plain)], [1, -1, -1, 1])
    assert estimate.value == pytest.approx(0.18)
    assert estimate.p_value() == pytest.approx(scipy_stats.ttest_1samp(by_hand, 0).pvalue)


# --- what is refused ------------------------------------------------------------------------------------------------


def test_arms_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"same contexts and seeds, got shapes \(1, 2\) and \(1, 3\)"):
        effect(Variant([0.9, 0.8]), Variant([0.9, 0.8, 0.7]))
    with pytest.raises(ValueError, match="same test examples, got 4 and 5"):
        effect(variant(bits("1110", "1111")), variant(bits("11100", "11111")))
    with pytest.raises(ValueError, match=r"the values \(1, 3\), got \(1, 2\)"):
        mean([0.75, 1.0, 1.0], bits("1110", "1111"))


def test_bits_of_another_trial_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mean of its examples, got one that is 0\.2500 away"):
        mean([0.75, 0.75], bits("1110", "1111"))


@pytest.mark.parametrize("outcomes", [[[0.3]], [[0.3], [0.5], [0.4]], [[0.5, 0.5]]])
def test_one_example_or_some_that_never_differ_say_nothing_of_others(outcomes: list[list[float]]) -> None:
    """The interval is that of the seeds alone; with one seed there is none."""
    examples = np.array(outcomes)
    found, of_seeds = mean(examples.mean(1), examples), mean(examples.mean(1))
    assert found.basis == of_seeds.basis == ("seeds" if len(outcomes) > 1 else "nothing")
    np.testing.assert_equal(found.interval(), of_seeds.interval())
    np.testing.assert_equal(found.p_value(), of_seeds.p_value())
    difference = effect(Variant(examples.mean(1) + 1, examples + 1), Variant(examples.mean(1), examples)).estimate
    assert difference.basis == "nothing"
