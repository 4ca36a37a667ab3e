"""Estimates as columns of a row: the value, its interval, what it rests on, the number of seeds."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.analysis import amounts
from bench.grid.metrics import Metric
from bench.stats import estimates


def columns(name: str, value: estimates.Estimated, least: float = -np.inf, greatest: float = np.inf) -> dict[str, Any]:
    """Returns a row's columns of an estimate; its interval ends where values do, at ``least`` and ``greatest``."""
    low, high = value.interval()
    return {
        name: value.value,
        f"{name}_low": float(np.maximum(low, least)),
        f"{name}_high": float(np.minimum(high, greatest)),
        f"{name}_basis": value.basis,
        f"{name}_seeds": value.num_seeds,
    }


def value_columns(metric: Metric, value: estimates.Estimated) -> dict[str, Any]:
    """Returns a row's columns of a mean, as the metric is recorded: on a log scale the geometric mean."""
    row = columns(metric.name, value)
    return row | {name: amounts.shown(metric, row[name]) for name in list(row)[:3]}
