"""Whether trials learn, and how fast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import trapezoid
from scipy.stats import binomtest

from bench.stats import ALPHA, Estimate, mean


@dataclass(frozen=True)
class Rate:
    """``count`` of ``total``, with Wilson's 95 % interval (Wilson 1927; Newcombe 1998, method 3)."""

    count: int
    total: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class TimeToTarget:
    """Kaplan-Meier median of the steps, epochs or seconds to a target accuracy, with its 95 % interval.

    Infinite where under half of the trials reach it; a bound that the data do not give is NaN (low) or infinite (high).
    """

    median: float
    low: float
    high: float
    reached: int
    total: int


def rate(count: int, total: int) -> Rate:
    """Share with Wilson's interval, as for trials that converged; ``total`` must be positive."""
    interval = binomtest(count, total).proportion_ci(1 - ALPHA, method="wilson")
    return Rate(count, total, count / total, float(interval.low), float(interval.high))


def mean_with_failures(values: ArrayLike, chance: float) -> Estimate:
    """Mean accuracy (S,) or (C, S) with failed trials (NaN) at ``chance``: what one gets who must take what comes."""
    accuracies = np.asarray(values, float)
    return mean(np.where(np.isnan(accuracies), chance, accuracies))


def first_reach(positions: ArrayLike, accuracies: ArrayLike, target: float) -> float:
    """First evaluation (its step, epoch or second) at ``target`` or above; infinite where there is none."""
    reached = np.flatnonzero(np.asarray(accuracies, float) >= target)
    return float(np.asarray(positions, float)[reached[0]]) if reached.size else math.inf


def time_to_target(first: Sequence[float], last: Sequence[float]) -> TimeToTarget:
    """Median over trials of :func:`first_reach`, where ``last`` is how far each trial was watched.

    A trial that ended early for no fault of its own is watched until then; one that diverged never reaches the target:
    give infinity as its last. The interval inverts Brookmeyer and Crowley's (1982) test on the log(-log) scale.
    """
    from statsmodels.duration.survfunc import SurvfuncRight  # here: it would double the time of every import

    reached = np.isfinite(first)
    horizon = np.asarray(last, float)
    longest = max([value for value in [*first, *last] if math.isfinite(value)], default=0.0)
    times = np.where(reached, first, np.where(np.isfinite(horizon), horizon, longest))
    if not reached.any():
        return TimeToTarget(math.inf, math.nan, math.inf, 0, len(times))
    curve = SurvfuncRight(times, reached.astype(int))
    median = float(curve.quantile(0.5))
    with np.errstate(divide="ignore", invalid="ignore"):  # log(-log(0)) where all have reached it
        low, high = map(float, curve.quantile_ci(0.5, ALPHA))
    return TimeToTarget(math.inf if math.isnan(median) else median, low, high, int(reached.sum()), len(times))


def area_under_curve(positions: ArrayLike, accuracies: ArrayLike) -> float:
    """Mean accuracy over training, by the trapezoid rule; raises ValueError where positions (E,) do not increase."""
    steps, heights = np.asarray(positions, float), np.asarray(accuracies, float)
    if steps.size < 2 or (np.diff(steps) <= 0).any():
        raise ValueError(f"a curve needs two evaluations or more at increasing positions, got {steps.tolist()}")
    return float(trapezoid(heights, steps) / (steps[-1] - steps[0]))
