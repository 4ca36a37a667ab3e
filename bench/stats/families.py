"""Families of comparisons, and the corrections that hold their error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrected p-values (Holm 1979, Scandinavian J. Statistics 6:65) of the family of those that are not NaN."""
    p = np.array(p_values, float)
    order = np.argsort(p)[: np.isfinite(p).sum()]
    p[order] = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(len(order), 0, -1)))
    return [float(value) for value in p]
