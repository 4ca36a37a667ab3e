"""Convergence and speed of learning, against published tables."""

import math

import numpy as np
import pytest

from bench.learning import area_under_curve, first_reach, mean_with_failures, rate, time_to_target
from bench.stats import mean

# Weeks of remission with 6-mercaptopurine, 9 of 21 ended; and without, all ended (Freireich et al. 1963).
TREATED_ENDED = [6, 6, 6, 7, 10, 13, 16, 22, 23]
TREATED_WATCHED = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
UNTREATED = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_rates_have_the_intervals_of_newcombes_table(count: int, total: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3."""
    found = rate(count, total)
    assert (found.rate, found.low, found.high) == pytest.approx((count / total, low, high), abs=5e-5)


def test_failures_count_at_chance_beside_what_converged() -> None:
    accuracies = [0.9, math.nan, 0.8, 0.7]
    assert mean(accuracies).value == pytest.approx(0.8)
    assert mean(accuracies).num_seeds == 3
    assert mean_with_failures(accuracies, chance=0.1).value == pytest.approx((0.9 + 0.1 + 0.8 + 0.7) / 4)
    assert mean_with_failures(accuracies, chance=0.1).num_seeds == 4


def test_the_first_evaluation_at_the_target_counts() -> None:
    steps, accuracies = [0, 10, 20, 30], [0.1, 0.8, 0.7, 0.9]
    assert first_reach(steps, accuracies, 0.75) == 10
    assert first_reach(steps, accuracies, 0.8) == 10
    assert first_reach(steps, accuracies, 0.95) == math.inf
    assert first_reach(steps, [0.1, math.nan, math.nan, math.nan], 0.5) == math.inf


def test_medians_are_those_of_the_leukaemia_trial() -> None:
    first = [*map(float, TREATED_ENDED), *[math.inf] * len(TREATED_WATCHED)]
    treated = time_to_target(first, [*TREATED_ENDED, *TREATED_WATCHED])
    assert (treated.median, treated.reached, treated.total) == (23, 9, 21)
    assert (treated.low, treated.high) == (13, math.inf)  # R: survfit with conf.type = "log-log"
    untreated = time_to_target(UNTREATED, UNTREATED)
    assert (untreated.median, untreated.low, untreated.high) == (8, 4, 11)


def test_a_diverged_trial_never_reaches_the_target() -> None:
    found = time_to_target([10, 20, math.inf, math.inf, math.inf], [50, 50, math.inf, math.inf, math.inf])
    assert (found.median, found.reached, found.total) == (math.inf, 2, 5)


def test_where_none_reaches_the_target_the_median_is_infinite() -> None:
    found = time_to_target([math.inf, math.inf], [50, math.inf])
    assert (found.median, found.high, found.reached) == (math.inf, math.inf, 0)
    assert math.isnan(found.low)


def test_where_all_reach_it_at_once_the_median_is_that() -> None:
    assert time_to_target([10, 10, 10], [50, 50, 50]).median == 10


def test_the_area_is_the_mean_accuracy_over_training() -> None:
    assert area_under_curve([0, 10, 30], [0.0, 0.5, 1.0]) == pytest.approx((10 * 0.25 + 20 * 0.75) / 30)
    assert area_under_curve(np.linspace(0, 7, 29), np.full(29, 0.4)) == pytest.approx(0.4)


@pytest.mark.parametrize("steps", [[0], [0, 0], [10, 0]])
def test_a_curve_needs_increasing_positions(steps: list[float]) -> None:
    with pytest.raises(ValueError, match="increasing"):
        area_under_curve(steps, [0.5] * len(steps))
