"""Times to an event that not everyone was watched long enough to see, by the curve of Kaplan and Meier (1958)."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from bench.stats.estimates import ALPHA, Floats

EQUAL = 1e-12  # shares closer than this differ by rounding


def kaplan_meier(times: Floats, reached: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Returns the times (E,) of events, the share without one after each, and its standard error by Greenwood (1926).

    ``times`` (N,) are those of the event where it was ``reached``, and elsewhere until when it was watched for.
    """
    moments = np.unique(times[reached])
    at_risk = (times[:, None] >= moments).sum(0)
    events = (times[reached][:, None] == moments).sum(0)
    left = np.cumprod(1 - events / at_risk)
    with np.errstate(divide="ignore", invalid="ignore"):  # no error is known of a share of none
        return moments, left, left * np.sqrt(np.cumsum(events / (at_risk * (at_risk - events))))


def median_time(times: Floats, reached: NDArray[np.bool_], alpha: float = ALPHA) -> tuple[float, float, float]:
    """Returns the median and its interval, each bound the time of an event; infinite where it lies beyond the last.

    The median is the first time after which under half are left. The interval inverts the test of Brookmeyer and
    Crowley (1982) on the log(-log) scale; its bounds are NaN where no share is compatible with one half.
    """
    moments, left, error = kaplan_meier(times, reached)
    under_half = np.flatnonzero(left < 0.5 - EQUAL)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.log(-np.log(left)) - math.log(math.log(2))
        compatible = np.flatnonzero(
            np.abs(distance * left * np.log(left) / error) <= NormalDist().inv_cdf(1 - alpha / 2)
        )
    median = float(moments[under_half[0]]) if under_half.size else math.inf
    if not compatible.size:
        return median, math.nan, math.nan
    high = float(moments[compatible[-1] + 1]) if compatible[-1] + 1 < len(moments) else math.inf
    return median, float(moments[compatible[0]]), high
