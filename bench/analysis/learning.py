"""Tells whether trials learn, and how fast."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bench.analysis import amounts
from bench.analysis.estimate_columns import columns, value_columns
from bench.analysis.summaries import first_epoch, positive, watched
from bench.grid.metrics import Metric
from bench.grid.plan import Plan, Trial
from bench.record.status import NOT_ENDED, Status
from bench.stats.estimates import mean
from bench.stats.survival import median_time

TARGET_SHARE = 0.95
FEWEST_TRIALS = 6  # the interval from the least to the greatest of five holds the median with 93.75 % only


@dataclass(frozen=True)
class TimeToTarget:
    """Kaplan-Meier median of the steps, epochs or seconds to a target, with its 95 % interval.

    Infinite where under half of the trials reach it; a bound that the data do not give is NaN (low) or infinite (high).
    Under six trials there is no finite 95 % interval of a median: both are NaN.
    """

    median: float
    low: float
    high: float
    reached: int
    total: int


def first_reach(positions: ArrayLike, values: ArrayLike, target: float, sign: int = 1) -> float:
    """Returns the first evaluation (its step, epoch or second) at ``target`` or better; infinite where there is none.

    Higher is better with ``sign`` 1, lower with -1.
    """
    reached = np.flatnonzero(sign * np.asarray(values, float) >= sign * target) if sign else np.empty(0, int)
    return float(np.asarray(positions, float)[reached[0]]) if reached.size else math.inf


def time_to_target(first: Sequence[float], last: Sequence[float]) -> TimeToTarget:
    """Returns the median over trials of :func:`first_reach`, where ``last`` is how far each trial was watched.

    A trial that ended early for no fault of its own is watched until then; one that diverged never reaches the target:
    give infinity as its last. The interval inverts Brookmeyer and Crowley's (1982) test on the log(-log) scale.
    """
    reached = np.isfinite(first)
    horizon = np.asarray(last, float)
    longest = max([value for value in [*first, *last] if math.isfinite(value)], default=0.0)
    times = np.where(reached, first, np.where(np.isfinite(horizon), horizon, longest))
    if not reached.any():
        return TimeToTarget(math.inf, math.nan, math.inf, 0, len(times))
    median, low, high = median_time(times, reached)
    if len(times) < FEWEST_TRIALS:
        low = high = math.nan
    return TimeToTarget(median, low, high, int(reached.sum()), len(times))


def area_under_curve(positions: ArrayLike, values: ArrayLike) -> float:
    """Averages a metric over training, by the trapezoid rule; raises ValueError if positions (E,) do not increase."""
    steps, heights = np.asarray(positions, float), np.asarray(values, float)
    if steps.size < 2 or (np.diff(steps) <= 0).any():
        raise ValueError(f"a curve needs two evaluations or more at increasing positions, got {steps.tolist()}")
    return float(np.diff(steps) @ (heights[1:] + heights[:-1]) / 2 / (steps[-1] - steps[0]))


# --- the table of a grid --------------------------------------------------------------------------------------------


def default_target(plan: Plan, found: pd.DataFrame, curves: pd.DataFrame) -> float:
    """Returns 95 % of what the baseline ends with on dev, down to a whole percent, where that is a share to be high.

    Of any other metric the value 95 % of the way there from before training. NaN where the baseline has no result, does
    not get better, or neither direction is better.
    """
    metric, baseline = watched(plan), [c.label for c in plan.cells if plan.baseline.items() <= c.levels.items()]
    ended = found[found["compared"] & (found["status"] == Status.OK) & found["cell"].isin(baseline)]
    final = ended.get(f"final_{metric.name}")
    if final is None or metric.sign == 0:
        return math.nan
    if metric.is_share and metric.sign > 0:
        return float(np.floor(100 * TARGET_SHARE * final.mean() + 1e-9)) / 100
    first = curves[(curves["step"] == 0) & curves["trial_id"].isin(ended["trial_id"])]
    ends = pd.Series(positive(metric, final)).mean()
    start = pd.Series(positive(metric, first[metric.name])).mean()
    better = metric.sign * (ends - start) > 0
    return amounts.shown(metric, start + TARGET_SHARE * (ends - start)) if better else math.nan


class _Curve(NamedTuple):
    """The evaluations of a trial, each ``(E,)``; ``values`` are of the metric on dev."""

    steps: np.ndarray
    epochs: np.ndarray
    values: np.ndarray


def _points(curves: pd.DataFrame, metric: Metric) -> dict[str, _Curve]:
    """Returns the curve of each trial, by its id."""
    columns = [curves[name].to_numpy(float) for name in ("step", "epoch", metric.name)]
    places = curves.groupby("trial_id", sort=False).indices
    return {str(key): _Curve(*(column[own] for column in columns)) for key, own in places.items()}


def learning_table(
    plan: Plan, found: pd.DataFrame, curves: pd.DataFrame, cells: pd.DataFrame, target: float
) -> pd.DataFrame:
    """Makes a row for each of ``cells`` (``comparison.cell_table``): how many trials ended, how many trained, how fast.

    Trials that are not run yet count nowhere. Seconds are those of the timing protocol, NaN where it did not run. Areas
    are over the epochs of each trial, of those that trained.
    """
    ended = found[found["compared"] & ~found["status"].isin(NOT_ENDED)]
    points = _points(curves, watched(plan))
    own = {str(label): rows for label, rows in ended.groupby("cell", sort=False)}
    first = {trial.cell.label: trial for trial in reversed(plan.trials)}
    by_cell = dict(zip(cells["cell"], cells.to_dict("records"), strict=True))
    rows = [
        _learning(plan, first[label], own.get(label, ended[:0]), points, by_cell[label], target)
        for label in (cell.label for cell in plan.cells)
    ]
    return pd.DataFrame(rows)


def _learning(
    plan: Plan,
    of_cell: Trial,
    own: pd.DataFrame,
    points: Mapping[str, _Curve],
    summary: Mapping[Any, Any],
    target: float,
) -> dict[str, Any]:
    trained = own["trained"] == 1
    curves = [points.get(key) for key in own["trial_id"][trained]]
    metric, first = watched(plan), first_epoch(plan, plan.primary)
    areas = [
        area_under_curve(one.epochs, positive(metric, one.values))
        for one in curves
        if one is not None and len(one.steps) > 1
    ]
    start = value_columns(first, mean(positive(first, own[first.name].where(trained)))) if first else {}
    area = columns("area_under_curve", mean(areas))
    steps = _to_target(own, points, target, metric)
    timed = summary["train_images_per_second_basis"] == "rounds"
    seconds = of_cell.lab.data.batch_size / summary["train_images_per_second"] if timed else math.nan
    return {
        "cell": of_cell.cell.label,
        "ended": len(own),
        "trained": int(trained.sum()),
        **start,
        "target": target,
        "reached": steps.reached,
        **{f"steps_to_target{end}": value for end, value in _ends(steps)},
        **{f"seconds_to_target{end}": value * seconds for end, value in _ends(steps)},
        **area,
        **{name: amounts.shown(metric, area[name]) for name in list(area)[:3]},
    }


def _ends(time: TimeToTarget) -> list[tuple[str, float]]:
    return [("", time.median), ("_low", time.low), ("_high", time.high)]


def _to_target(own: pd.DataFrame, points: Mapping[str, _Curve], target: float, metric: Metric) -> TimeToTarget:
    """Steps to the target over the trials of a cell: a failed one was watched as far as its curve goes."""
    first, last = [], []
    for key, status in zip(own["trial_id"], own["status"], strict=True):
        curve = points.get(key)
        if curve is None and status != Status.DIVERGED:
            continue
        first.append(math.inf if curve is None else first_reach(curve.steps, curve.values, target, metric.sign))
        last.append(math.inf if status == Status.DIVERGED or curve is None else float(curve.steps[-1]))
    return time_to_target(first, last)
