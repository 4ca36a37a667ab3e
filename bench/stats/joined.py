"""Estimates whose interval is joined from several: how often A trains against B, and means that count the untrained.

The rule is MOVER, the method of variance estimates recovery (Newcombe 1998, Statistics in Medicine 17:873, method 10;
Zou and Donner 2008, ibid. 27:1693): the distances from each part's estimate to its own limits add in squares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from bench.stats.estimates import ALPHA, Basis, Estimate, Floats, Variant, unmatched
from bench.stats.proportions import Share, p_equal_shares

SMALLEST_LOG_P = -30.0  # exp(-30): far under any p worth telling from 0; 1 less a level is still exact there


@dataclass(frozen=True)
class Part:
    """A share of trials times what each of them is worth; ``most`` where that is unknown, for want of two of them."""

    share: Share
    worth: float
    most: float | None = None

    @property
    def value(self) -> float:
        return self.share.rate * self.worth

    def interval(self, level: float) -> tuple[float, float]:
        low, high = self.share.interval(level)
        ends = (self.worth * low, self.worth * high) if self.most is None else (0.0 * self.most, self.most * high)
        return min(ends), max(ends)


@dataclass(frozen=True)
class Joined:
    """``constant`` plus the sum of ``parts``, with the interval of MOVER; ``spread`` adds what seeds and examples do.

    One part alone has its exact interval and test. ``exact_p``: of the hypothesis that the value is 0, where a test
    of its own says that; any other p is the level at which the interval ends.
    """

    parts: tuple[Part, ...]
    num_seeds: int
    constant: float = 0.0
    spread: Estimate | None = None
    exact_p: float | None = None

    @property
    def value(self) -> float:
        return self.constant + sum(part.value for part in self.parts) if self.parts else math.nan

    @property
    def centre(self) -> float:
        return self.value

    @property
    def basis(self) -> Basis:
        return "seeds" if self.parts and not math.isnan(self.low) else "nothing"

    @property
    def is_general(self) -> bool:
        """Whether it says anything about a new seed."""
        return self.basis != "nothing" and self.num_seeds > 1

    @property
    def low(self) -> float:
        return self.interval()[0]

    @property
    def high(self) -> float:
        return self.interval()[1]

    def interval(self, level: float = 1 - ALPHA) -> tuple[float, float]:
        below = above = 0.0
        if self.spread is not None:
            low, high = self.spread.interval(level)
            below = above = ((high - low) / 2) ** 2
        for part in self.parts:
            low, high = part.interval(level)
            below, above = below + (part.value - low) ** 2, above + (high - part.value) ** 2
        return self.value - math.sqrt(below), self.value + math.sqrt(above)

    def p_value(self, null: float = 0.0) -> float:
        """Returns the two-sided p of the hypothesis that the value is ``null``."""
        if self.exact_p is not None and null == 0.0 and self.constant == 0.0:
            return self.exact_p
        return self._level_where(lambda low, high: low < null < high)

    def p_equivalence(self, margin: float) -> float:
        """Returns the level at which the interval reaches ``margin`` on either side of 0."""
        if abs(self.value) >= margin:
            return 1.0
        return self._level_where(lambda low, high: low < -margin or high > margin)

    def minus(self, value: float) -> Joined:
        return replace(self, constant=self.constant - value) if value else self

    def _level_where(self, holds: Callable[[float, float], bool]) -> float:
        """Finds the greatest alpha whose interval still ``holds``: a p-value, since intervals shrink as alpha grows."""
        if self.basis == "nothing":
            return math.nan

        def sign(log_alpha: float) -> float:
            return 1.0 if holds(*self.interval(1 - math.exp(log_alpha))) else -1.0

        if sign(0.0) > 0:
            return 1.0
        if sign(SMALLEST_LOG_P) < 0:
            return 0.0
        return math.exp(optimize.bisect(sign, SMALLEST_LOG_P, 0.0, xtol=1e-9))


def share_contrast(variants: Sequence[ArrayLike], weights: Sequence[float]) -> Joined:
    """Estimates a weighted sum of how often variants train: each (S,) or (C, S) of 1, 0 or NaN, contexts pooled.

    A difference of two has the exact p of :func:`bench.stats.proportions.p_equal_shares`.
    """
    tables = [np.atleast_2d(np.asarray(variant, float)) for variant in variants]
    counts = [Share(int(np.nansum(table)), int(np.isfinite(table).sum())) for table in tables]
    if not all(share.total for share in counts):
        return Joined((), 0)
    parts = tuple(Part(share, weight) for share, weight in zip(counts, weights, strict=True))
    seeds = int(np.isfinite(np.concatenate(tables)).any(0).sum()) if len({t.shape[1] for t in tables}) == 1 else 0
    two = len(parts) == 2 and weights[0] == -weights[1] != 0 and len(tables[0]) == len(tables[1])
    return Joined(parts, seeds, exact_p=p_equal_shares(*tables) if two else None)


def counting_untrained(
    variants: Sequence[Variant],
    trained: Sequence[ArrayLike],
    weights: Sequence[float],
    *,
    worth: float,
    best: float,
    spread: Callable[[Sequence[Variant], Sequence[float]], Estimate] = unmatched,
) -> Joined:
    """Estimates a weighted sum of means over contexts, in which each untrained trial counts as ``worth``.

    ``trained`` has an (S,) or (C, S) table per variant: 1, 0, or NaN without a result; values count where it is 1. A
    context's mean is ``worth`` plus the share that trained times what these are above it. The share has its exact
    interval; the trained have that of ``spread``, over their own trials. ``best`` is the best value there can be: what
    trials may be worth of which fewer than two trained; NaN if there is no such bound, and then no interval.
    """
    tables = [np.atleast_2d(np.asarray(table, float)) for table in trained]
    contexts = np.flatnonzero(np.all([np.isfinite(table).any(1) for table in tables], axis=0))
    parts: list[Part] = []
    own: list[tuple[Variant, float]] = []
    for variant, table, weight in zip(variants, tables, weights, strict=True):
        for context in contexts:
            here = _context(variant, table, int(context))
            values, flags, each = np.asarray(here.values, float), table[context], weight / len(contexts)
            share = Share(int(np.nansum(flags)), int(np.isfinite(flags).sum()))
            above = float(np.nanmean(values)) - worth if share.count else 0.0
            parts.append(Part(share, each * above, each * (best - worth) if share.count < 2 else None))
            if share.count > 1:
                own.append((here, each * share.rate))
    seeds = int(np.isfinite(np.concatenate(tables)).any(0).sum()) if parts else 0
    return Joined(
        tuple(parts),
        seeds,
        constant=sum(weights) * worth,
        spread=spread(*map(list, zip(*own, strict=True))) if own else None,
    )


def _context(variant: Variant, trained: Floats, context: int) -> Variant:
    """Returns one context of a variant, with values where trials trained."""
    values = np.where(trained[context] == 1, np.atleast_2d(np.asarray(variant.values, float))[context], np.nan)
    if variant.examples is None:
        return Variant(values)
    examples = np.asarray(variant.examples)
    return Variant(values, examples if examples.ndim == 2 else examples[context])
