"""Many comparisons at once: corrected p-values, levels of intervals, and the set of cells that may be the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np

from bench.stats.estimates import ALPHA


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values (Holm 1979, Scandinavian J. Statistics 6:65) as the family of those that are not NaN."""
    p = np.array(p_values, float)
    order = np.argsort(p)[: np.isfinite(p).sum()]
    p[order] = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(len(order), 0, -1)))
    return [float(value) for value in p]


def selected_level(num_selected: int, num_family: int, alpha: float = ALPHA) -> float:
    """Returns the level of intervals for ``num_selected`` of a family that were picked out by their results.

    Of intervals at this level the expected share that misses is at most ``alpha`` whatever picks them (false coverage
    rate: Benjamini and Yekutieli 2005, J. American Statistical Association 100:71).
    """
    return 1 - alpha * num_selected / max(1, num_family)


Standing = Literal["best", "equivalent", "not told apart", "worse", "unknown"]


class Compared(Protocol):
    """A cell minus another, as the set of the best asks it."""

    @property
    def value(self) -> float: ...
    def p_value(self, null: float = 0.0) -> float: ...
    def p_equivalence(self, margin: float) -> float: ...


def standings(
    scores: Sequence[float],
    minus_best: Callable[[int, int], Compared],
    margin: float | None,
    *,
    alpha: float = ALPHA,
) -> list[Standing]:
    """Says where each cell stands to the best of ``scores`` (higher is better; NaN is unknown).

    ``minus_best`` gives cell i less cell j. "equivalent": within ``margin`` of the best, after Holm. "worse": told
    apart from the best at ``alpha`` over the number of *pairs* of cells, since it was picked as the best of all: with
    equal cells the chance that any is denied stays under ``alpha`` (Bonferroni). The rest is not told apart.
    """
    values = np.asarray(scores, float)
    known = np.flatnonzero(np.isfinite(values))
    result: list[Standing] = ["unknown"] * len(values)
    if not known.size:
        return result
    best = int(known[np.argmax(values[known])])
    others = [int(index) for index in known if index != best]
    differences = [minus_best(index, best) for index in others]
    near = holm([np.nan if margin is None else one.p_equivalence(margin) for one in differences])
    num_pairs = max(1, known.size * (known.size - 1) // 2)
    result[best] = "best"
    for index, one, p_near in zip(others, differences, near, strict=True):
        told_apart = one.value < 0 and one.p_value() * num_pairs < alpha
        result[index] = "equivalent" if p_near < alpha else "worse" if told_apart else "not told apart"
    return result
