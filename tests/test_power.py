"""What can be found: against statsmodels' power of the t-test, and by hand where the test set is all that varies."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.power import TTestPower

from bench.stats.estimates import Variant, effect, mean
from bench.stats.power import decision_probability, detectable_difference, planned_difference, seeds_for_margin

STEPS = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
DEVIATION = math.sqrt(2.5)


@pytest.mark.parametrize("num_seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6])
def test_where_seeds_alone_vary_it_is_the_power_of_students_test(num_seeds: int, alpha: float) -> None:
    power = decision_probability(1.2, margin=0, seed_variance=1.0, image_variance=0.0, num_seeds=num_seeds, alpha=alpha)
    assert power == pytest.approx(TTestPower().power(1.2, num_seeds, alpha), abs=1e-4)


def test_the_detectable_difference_is_that_of_students_test() -> None:
    effect_size = TTestPower().solve_power(nobs=5, alpha=0.05, power=0.8)
    assert detectable_difference(mean(STEPS)) == pytest.approx(effect_size * DEVIATION, rel=1e-3)


def test_a_new_run_is_planned_for_the_margin_with_an_upper_bound_of_the_deviation() -> None:
    # Student's tests of the margin, and of equivalence (each side at 2.5 %), at Browne's 80 % bound of the deviation.
    bound = math.sqrt(2.5 * 4 / scipy_stats.chi2.ppf(0.2, 4))
    planned = seeds_for_margin(mean(STEPS), 2.0)
    assert planned is not None
    assert planned > TTestPower().solve_power(effect_size=2.0 / bound, alpha=0.05, power=0.8)
    rng = np.random.default_rng(0)

    def equivalent(num_seeds: int) -> float:
        samples = bound * rng.standard_normal((100_000, num_seeds))
        half = scipy_stats.t.isf(0.025, num_seeds - 1) * samples.std(1, ddof=1) / math.sqrt(num_seeds)
        return float((np.abs(samples.mean(1)) + half < 2.0).mean())

    assert equivalent(planned) > 0.795
    assert equivalent(planned - 1) < 0.805


def test_the_plan_does_not_follow_the_difference_that_was_seen() -> None:
    assert seeds_for_margin(mean(STEPS), 2.0) == seeds_for_margin(mean(1.5 + STEPS), 2.0)


def test_equivalence_counts_as_a_decision() -> None:
    rng = np.random.default_rng(0)
    samples = 0.1 + rng.standard_normal((40_000, 5))
    half = scipy_stats.t.isf(0.025, 4) * samples.std(1, ddof=1) / math.sqrt(5)
    center = np.abs(samples.mean(1))
    simulated = ((center > half) | (center + half < 1.2)).mean()
    power = decision_probability(0.1, margin=1.2, seed_variance=1.0, image_variance=0.0, num_seeds=5, alpha=0.05)
    assert power == pytest.approx(simulated, abs=0.01)


def test_a_wider_margin_needs_fewer_seeds() -> None:
    narrow, wide = seeds_for_margin(mean(STEPS), 1.0), seeds_for_margin(mean(STEPS), 2.0)
    assert narrow is not None
    assert wide is not None
    assert narrow > wide > 5
    assert seeds_for_margin(mean(STEPS), 0.0) is None


def test_no_number_of_seeds_makes_up_for_a_small_test_set() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 5, 100)) < 0.95
    a[:, :7], b[:, :7] = True, False
    a[:, 7:13], b[:, 7:13] = False, True
    assert seeds_for_margin(effect(Variant(a.mean(1), a), Variant(b.mean(1), b)).estimate, 0.01) is None


def test_with_seeds_without_end_only_the_test_set_is_left() -> None:
    normal = scipy_stats.norm.isf(0.025) + scipy_stats.norm.isf(0.2)
    power = decision_probability(
        normal * 0.5, margin=0, seed_variance=1e-9, image_variance=0.25, num_seeds=1000, alpha=0.05
    )
    assert power == pytest.approx(0.8, abs=1e-4)


def test_nothing_is_known_from_one_seed() -> None:
    assert math.isnan(detectable_difference(mean([0.9])))
    assert seeds_for_margin(mean([0.9]), 0.01) is None


def test_a_plan_with_one_seed_counts_the_test_set() -> None:
    # Independent errors at 90 % differ on 0.18 of the images: (1.959964 + 0.841621) sqrt(0.18 / 10,000).
    assert planned_difference(1, 10_000, 0.9, disagreement=1.0) == pytest.approx(0.011886, rel=1e-3)


def test_a_plan_where_seeds_alone_vary() -> None:
    effect_size = TTestPower().solve_power(nobs=4, alpha=0.05, power=0.8)
    planned = planned_difference(4, 360, 0.9, disagreement=0.0, seed_deviation=0.01)
    assert planned == pytest.approx(effect_size * 0.01, rel=1e-3)


def test_more_seeds_and_more_images_find_less() -> None:
    assert planned_difference(10, 360, 0.97) < planned_difference(5, 360, 0.97) < planned_difference(3, 360, 0.97)
    assert planned_difference(5, 10_000, 0.97) < planned_difference(5, 360, 0.97)


def test_an_impossible_accuracy_is_refused() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, got 97"):
        planned_difference(5, 360, 97)
