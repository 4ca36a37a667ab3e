"""Say what an average over the other factors hides: effects that differ among their levels, or are unknown there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.analysis import amounts
from bench.analysis.comparison import Comparison
from bench.grid.metrics import Metric
from bench.grid.plan import Cell
from bench.stats.estimates import ALPHA, Estimated


@dataclass(frozen=True)
class SimpleEffects:
    """One effect under each setting of the other factors, of the pairs that trained.

    ``low`` and ``high`` are the least and the greatest, NaN where none is known. ``differ``: they are told apart at 5 %
    over all pairs of settings (Bonferroni, since they were picked). ``without``: the cells in which no pair trained.
    """

    low: float
    high: float
    total: int
    differ: bool
    without: tuple[str, ...]


def simple_effects(comparison: Comparison, cells: Sequence[Cell], against: Mapping[str, str]) -> SimpleEffects:
    """Returns the difference of each of ``cells`` to its partner with the levels ``against``."""
    pairs = comparison.partners(cells, against)
    values = np.array([comparison.plain_difference(one, other) for one, other in pairs])
    without = tuple(one for (one, _), value in zip(pairs, values, strict=True) if np.isnan(value))
    known = np.flatnonzero(np.isfinite(values))
    if not known.size:
        return SimpleEffects(np.nan, np.nan, len(pairs), differ=False, without=without)
    least, greatest = (int(known[pick(values[known])]) for pick in (np.argmin, np.argmax))
    differ = known.size > 1 and told_apart(comparison.interaction(pairs[greatest], pairs[least]), known.size)
    return SimpleEffects(float(values[least]), float(values[greatest]), len(pairs), differ, without)


def told_apart(interaction: Estimated, num_settings: int) -> bool:
    """Says whether the greatest effect less the least of several differs from 0, whichever pair was picked."""
    return interaction.is_general and interaction.p_value() * math.comb(num_settings, 2) < ALPHA


def explain_average(simple: SimpleEffects, metric: Metric) -> str:
    """Says what goes beside an average: that it is one of unlike effects, or of some combinations only; else empty."""
    known = simple.total - len(simple.without)
    said = ""
    if simple.differ:
        times = "x " if metric.scale == "log" else ""
        ends = f"{times}{amounts.ends(metric, simple.low, simple.high, sign='+')} {metric.difference_unit}".rstrip()
        said += f"; an average of effects that differ with the other factors, {ends}"
    if simple.without and known:
        said += f"; known under {known} of {simple.total} combinations of the other factors"
    return said


def without_pairs(name: str, simple: SimpleEffects) -> list[str]:
    """Returns a caution that names the cells in which no pair of an effect trained."""
    if not simple.without or len(simple.without) == simple.total:
        return []
    shown = ", ".join(simple.without[:3]) + (", ..." if len(simple.without) > 3 else "")
    return [f"{name}: no pair has both results in {shown}; the difference is that of the other cells"]
