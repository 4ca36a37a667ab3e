"""Tells which trials trained: derived from the record, never a status.

A trial trained where it ended ``ok`` and was above chance on dev at its selected epoch. One that diverged, or ended at
chance, did not. One without a result (an error, out of time or memory, not run) is missing: NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import pandas as pd

from bench.grid.plan import Plan
from bench.record.status import Status
from bench.stats.proportions import is_above_floor
from lab.settings import num_classes

MOST_EXAMPLES = 1_000_000
SAMPLE = 500  # accuracies that tell how many examples they are shares of


def trained(plan: Plan, found: pd.DataFrame, curves: pd.DataFrame | None = None) -> pd.Series:
    """Returns 1.0 or 0.0 for each row of ``found``, NaN where there is no result.

    The floor is the share of the most frequent class on dev, and the level 5 % over the number of evaluations: the row
    says both (``dev_majority``, ``num_dev_images``) or, where it was recorded before, 1 over the number of classes and
    the common denominator of the accuracies. Data of the user's own have no floor then, and every ``ok`` trial trained.
    """
    if plan.run is not None:
        return above_chance(found)  # nobody knows what chance is of own code's metrics
    data = {trial.cell.label: trial.lab.data for trial in plan.trials}
    result = pd.Series(np.nan, found.index, dtype=float)
    for _, rows in found.groupby(found["cell"].map({cell: repr(own) for cell, own in data.items()}), sort=False):
        classes = num_classes(data[rows["cell"].iloc[0]])
        own = curves[curves["trial_id"].isin(rows["trial_id"])] if curves is not None else None
        result[rows.index] = above_chance(rows, 1 / classes if classes else math.nan, own)
    return result


def above_chance(found: pd.DataFrame, floor: float = math.nan, curves: pd.DataFrame | None = None) -> pd.Series:
    """Returns the same for rows of one data set, whose rows know of no floor but this one; NaN: none."""
    columns = found.reindex(columns=["trial_id", "status", "dev_accuracy", "num_dev_images", "dev_majority"])
    accuracies, sizes, shares = columns[["dev_accuracy", "num_dev_images", "dev_majority"]].astype(float).to_numpy().T
    curves = curves if curves is not None and "dev_accuracy" in curves else None  # of a regression there are none
    seen = accuracies if curves is None else np.append(accuracies, curves["dev_accuracy"].to_numpy(float))
    counts = {} if curves is None else (curves["step"] > 0).groupby(curves["trial_id"]).sum().to_dict()
    sizes = np.where(np.isnan(sizes), number_of_examples(seen[np.isfinite(seen)]) or math.nan, sizes)
    shares = np.where(np.isnan(shares), floor, shares)
    evaluations = [int(counts.get(key, 1)) for key in columns["trial_id"]]
    tested = zip(accuracies, sizes, shares, evaluations, strict=True)
    above = pd.Series([_is_above(*numbers) for numbers in tested], found.index, dtype=float)
    result = pd.Series(np.nan, found.index, dtype=float)
    return result.mask(columns["status"] == Status.DIVERGED, 0.0).mask(columns["status"] == Status.OK, above)


def _is_above(accuracy: float, size: float, floor: float, evaluations: int) -> bool:
    unknown = math.isnan(accuracy) or math.isnan(size) or math.isnan(floor)
    return unknown or is_above_floor(accuracy, int(size), floor, evaluations)


def number_of_examples(accuracies: Iterable[float]) -> int | None:
    """Returns the least number of examples that all of these accuracies are shares of: their common denominator.

    It may be a divisor of the true number, which makes a test of one accuracy only more careful. None where they are
    no shares of up to a million.
    """
    values = np.unique(np.asarray(list(accuracies), float))
    total = 1
    for value in values[:: max(1, len(values) // SAMPLE)]:
        total = math.lcm(total, Fraction(value).limit_denominator(MOST_EXAMPLES).denominator)
        if total > MOST_EXAMPLES:
            return None
    return total if len(values) and np.abs(values * total - np.rint(values * total)).max() < 1e-6 * total else None
