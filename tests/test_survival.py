"""Times to an event: the curve, the median and its interval against statsmodels, on random trials with many ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.duration.survfunc import SurvfuncRight

from bench.stats.survival import kaplan_meier, median_time


@pytest.mark.parametrize("seed", range(40))
def test_curve_median_and_interval_are_those_of_statsmodels(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = int(random.integers(2, 40))
    times = random.integers(1, random.integers(3, 30), size).astype(float)
    reached = random.random(size) < random.uniform(0.3, 1)
    reached[0] = True
    curve = SurvfuncRight(times, reached.astype(int))
    moments, left, error = kaplan_meier(times, reached)
    assert moments.tolist() == curve.surv_times.tolist()
    assert left == pytest.approx(curve.surv_prob, abs=1e-12)
    known = left > 1e-12
    assert error[known] == pytest.approx(curve.surv_prob_se[known])
    median, low, high = median_time(times, reached)
    if np.abs(left - 0.5).min() > 1e-9:  # elsewhere theirs goes by the last bit
        theirs = float(curve.quantile(0.5))
        assert median == (math.inf if math.isnan(theirs) else theirs)
    with np.errstate(divide="ignore", invalid="ignore"):
        assert (low, high) == pytest.approx(curve.quantile_ci(0.5), nan_ok=True)


def test_where_exactly_half_are_left_the_next_event_is_the_median() -> None:
    assert median_time(np.arange(1.0, 5.0), np.ones(4, bool))[0] == 3
    assert median_time(np.array([1.0, 2.0, 9.0, 9.0]), np.array([True, True, False, False]))[0] == math.inf
