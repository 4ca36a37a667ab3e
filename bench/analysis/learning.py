"""Whether trials learn, and how fast."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.integrate import trapezoid

from bench.analysis.comparison import columns
from bench.grid.plan import Cell, Plan
from bench.record.status import NOT_ENDED, Status
from bench.stats.estimates import ALPHA, mean

TARGET_SHARE = 0.95
FEWEST_TRIALS = 6  # the interval from the least to the greatest of five holds the median with 93.75 % only


@dataclass(frozen=True)
class TimeToTarget:
    """Kaplan-Meier median of the steps, epochs or seconds to a target accuracy, with its 95 % interval.

    Infinite where under half of the trials reach it; a bound that the data do not give is NaN (low) or infinite (high).
    Under six trials there is no finite 95 % interval of a median: both are NaN.
    """

    median: float
    low: float
    high: float
    reached: int
    total: int


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
    if len(times) < FEWEST_TRIALS:
        low = high = math.nan
        return TimeToTarget(math.inf if math.isnan(median) else median, low, high, int(reached.sum()), len(times))
    with np.errstate(divide="ignore", invalid="ignore"):  # log(-log(0)) where all have reached it
        low, high = map(float, curve.quantile_ci(0.5, ALPHA))
    return TimeToTarget(math.inf if math.isnan(median) else median, low, high, int(reached.sum()), len(times))


def area_under_curve(positions: ArrayLike, accuracies: ArrayLike) -> float:
    """Mean accuracy over training, by the trapezoid rule; raises ValueError where positions (E,) do not increase."""
    steps, heights = np.asarray(positions, float), np.asarray(accuracies, float)
    if steps.size < 2 or (np.diff(steps) <= 0).any():
        raise ValueError(f"a curve needs two evaluations or more at increasing positions, got {steps.tolist()}")
    return float(trapezoid(heights, steps) / (steps[-1] - steps[0]))


# --- the table of a grid --------------------------------------------------------------------------------------------


def default_target(plan: Plan, found: pd.DataFrame) -> float:
    """95 % of the baseline's mean final dev accuracy, down to a whole percent; NaN where it has no result."""
    baseline = [cell.label for cell in plan.cells if plan.baseline.items() <= cell.levels.items()]
    ended = found[found["compared"] & (found["status"] == Status.OK) & found["cell"].isin(baseline)]
    return float(np.floor(100 * TARGET_SHARE * ended["final_dev_accuracy"].mean() + 1e-9)) / 100


def learning_table(
    plan: Plan, found: pd.DataFrame, curves: pd.DataFrame, cells: pd.DataFrame, target: float
) -> pd.DataFrame:
    """A row for each of ``cells`` (``comparison.cell_table``): its trials that ended, how many trained, and how fast.

    Trials that are not run yet count nowhere. Seconds are those of the timing protocol, NaN where it did not run. Areas
    are over the epochs of each trial, of those that trained.
    """
    ended = found[found["compared"] & ~found["status"].isin(NOT_ENDED)]
    points = {str(key): own for key, own in curves.groupby("trial_id", sort=False)}
    by_cell = dict(zip(cells["cell"], cells.to_dict("records"), strict=True))
    return pd.DataFrame([_learning(plan, cell, ended, points, by_cell[cell.label], target) for cell in plan.cells])


def _learning(
    plan: Plan,
    cell: Cell,
    ended: pd.DataFrame,
    points: dict[str, pd.DataFrame],
    summary: Mapping[Any, Any],
    target: float,
) -> dict[str, Any]:
    own = ended[ended["cell"] == cell.label]
    trained = own["trained"] == 1
    first = next(trial for trial in plan.trials if trial.cell.label == cell.label)
    curves = [points.get(key) for key in own["trial_id"][trained]]
    areas = [area_under_curve(one["epoch"], one["dev_accuracy"]) for one in curves if one is not None and len(one) > 1]
    steps = _to_target(own, points, target)
    timed = summary["train_images_per_second_basis"] == "rounds"
    seconds = first.lab.data.batch_size / summary["train_images_per_second"] if timed else math.nan
    return {
        "cell": cell.label,
        "ended": len(own),
        "trained": int(trained.sum()),
        **columns("first_epoch_dev_accuracy", mean(own["first_epoch_dev_accuracy"].where(trained))),
        "target": target,
        "reached": steps.reached,
        **{f"steps_to_target{end}": value for end, value in _ends(steps)},
        **{f"seconds_to_target{end}": value * seconds for end, value in _ends(steps)},
        **columns("area_under_curve", mean(areas)),
    }


def _ends(time: TimeToTarget) -> list[tuple[str, float]]:
    return [("", time.median), ("_low", time.low), ("_high", time.high)]


def _to_target(own: pd.DataFrame, points: dict[str, pd.DataFrame], target: float) -> TimeToTarget:
    """Steps to the target over the trials of a cell: a failed one was watched as far as its curve goes."""
    first, last = [], []
    for key, status in own[["trial_id", "status"]].itertuples(index=False):
        curve = points.get(key)
        if curve is None and status != Status.DIVERGED:
            continue
        first.append(math.inf if curve is None else first_reach(curve["step"], curve["dev_accuracy"], target))
        last.append(math.inf if status == Status.DIVERGED or curve is None else float(curve["step"].iloc[-1]))
    return time_to_target(first, last)
