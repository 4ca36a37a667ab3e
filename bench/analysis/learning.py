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
from scipy.stats import binomtest

from bench.analysis import summaries
from bench.grid.plan import Cell, Plan
from bench.record.status import NOT_ENDED, Status
from bench.stats.estimates import ALPHA, Estimate, mean
from lab.settings import num_classes

TARGET_SHARE = 0.95
ACCURACY = [f"test_accuracy{end}" for end in ("", "_low", "_high", "_basis", "_seeds")]


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


# --- the table of a grid --------------------------------------------------------------------------------------------


def default_target(plan: Plan, found: pd.DataFrame) -> float:
    """95 % of the baseline's mean final dev accuracy, down to a whole percent; NaN where it has no result."""
    baseline = [cell.label for cell in plan.cells if plan.baseline.items() <= cell.levels.items()]
    ended = found[found["compared"] & (found["status"] == Status.OK) & found["cell"].isin(baseline)]
    return float(np.floor(100 * TARGET_SHARE * ended["final_dev_accuracy"].mean() + 1e-9)) / 100


def learning_table(
    plan: Plan, found: pd.DataFrame, curves: pd.DataFrame, cells: pd.DataFrame, target: float
) -> pd.DataFrame:
    """A row for each of ``cells`` (``summaries.cell_table``): its trials that ended, how many converged, and how fast.

    Trials that are not run yet count nowhere. ``with_failures`` puts those that diverged or failed at chance, 1 over
    the number of classes; NaN where that is unknown. Seconds are those of the timing protocol, NaN where it did not
    run. Areas are over the epochs of each trial, of those that converged.
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
    converged = own["status"] == Status.OK
    settings = next(trial.settings for trial in plan.trials if trial.cell.label == cell.label)
    share = rate(int(converged.sum()), len(own)) if len(own) else Rate(0, 0, math.nan, math.nan, math.nan)
    curves = [points.get(key) for key in own["trial_id"][converged]]
    areas = [area_under_curve(one["epoch"], one["dev_accuracy"]) for one in curves if one is not None and len(one) > 1]
    steps = _to_target(own, points, target)
    timed = summary["train_images_per_second_basis"] == "rounds"
    seconds = settings.data.batch_size / summary["train_images_per_second"] if timed else math.nan
    return {
        "cell": cell.label,
        "ended": len(own),
        "converged": share.count,
        "converged_share": share.rate,
        "converged_share_low": share.low,
        "converged_share_high": share.high,
        **_with_failures(own, summary, num_classes(settings.data)),
        **summaries.columns("first_epoch_dev_accuracy", mean(own["first_epoch_dev_accuracy"].where(converged))),
        "target": target,
        "reached": steps.reached,
        **{f"steps_to_target{end}": value for end, value in _ends(steps)},
        **{f"seconds_to_target{end}": value * seconds for end, value in _ends(steps)},
        **summaries.columns("area_under_curve", mean(areas)),
    }


def _with_failures(own: pd.DataFrame, summary: Mapping[Any, Any], classes: int | None) -> dict[str, Any]:
    """The accuracy that a cell shows anyway where all of its trials converged."""
    converged = own["status"] == Status.OK
    if converged.all():
        return {name.replace("test_accuracy", "with_failures"): summary[name] for name in ACCURACY}
    accuracies = own["test_accuracy"].where(converged)
    return summaries.columns("with_failures", mean_with_failures(accuracies, 1 / classes) if classes else mean([]))


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
