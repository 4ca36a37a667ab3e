"""Which trials trained: derived from the record, never a status.

A trial trained where it ended ``ok`` and was above chance on dev at its selected epoch. One that diverged, or ended at
chance, did not. One without a result (an error, out of time or memory, not run) is missing: NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction

import numpy as np
import pandas as pd

from bench.record.status import Status
from bench.stats.proportions import is_above_floor

MOST_EXAMPLES = 1_000_000
SAMPLE = 500  # accuracies that tell how many examples they are shares of


def trained(found: pd.DataFrame, floors: Mapping[str, float], evaluations: Mapping[str, int]) -> pd.Series:
    """For each row of ``found`` 1.0, 0.0, or NaN where there is no result.

    ``floors`` has the share of the most frequent class on dev by cell; a cell without one has no floor, and every
    ``ok`` trial of it trained. ``evaluations`` are how often dev was read, by trial. Rows that say how many dev images
    there were and how frequent the most frequent class was (``num_dev_images``, ``dev_majority``) go before.
    """
    if not len(found):
        return pd.Series(dtype=float)
    columns = found.reindex(columns=["trial_id", "cell", "status", "dev_accuracy", "num_dev_images", "dev_majority"])
    numbers = columns[["dev_accuracy", "num_dev_images", "dev_majority"]].astype(float)
    accuracies, sizes, shares = numbers.to_numpy().T
    sizes = np.where(np.isnan(sizes), number_of_examples(accuracies[np.isfinite(accuracies)]) or math.nan, sizes)
    shares = np.where(np.isnan(shares), [floors.get(cell, math.nan) for cell in columns["cell"]], shares)
    counts = [evaluations.get(key, 1) for key in columns["trial_id"]]
    tested = zip(accuracies, sizes, shares, counts, strict=True)
    above = [_is_above(accuracy, size, share, count) for accuracy, size, share, count in tested]
    result = pd.Series(np.nan, found.index, dtype=float)
    result[columns["status"] == Status.DIVERGED] = 0.0
    return result.mask(columns["status"] == Status.OK, pd.Series(above, found.index, dtype=float))


def _is_above(accuracy: float, size: float, floor: float, evaluations: int) -> bool:
    unknown = math.isnan(accuracy) or math.isnan(size) or math.isnan(floor)
    return unknown or is_above_floor(accuracy, int(size), floor, evaluations)


def number_of_examples(accuracies: Iterable[float]) -> int | None:
    """The least number of examples that all of these accuracies are shares of: their common denominator.

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
