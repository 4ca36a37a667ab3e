"""Shares of trials that train, with exact intervals, and exact tests of two shares.

A trial trains or does not, and trials fail independently of each other; where a seed may fail in several contexts at
once, the test of :func:`p_equal_shares` takes whole seeds, so that it keeps its level there too.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from bench.stats.estimates import ALPHA, Floats

SCORE = 100  # a seed's score in a context with missing trials is rounded to a hundredth, so that scores are whole


def is_above_floor(accuracy: float, num_examples: int, floor: float, evaluations: int, alpha: float = ALPHA) -> bool:
    """Tells whether an accuracy on ``num_examples`` is above ``floor`` by more than chance: an exact binomial test.

    The level is ``alpha`` over the number of ``evaluations``, since the accuracy is the best of so many. ``floor`` is
    the share of the most frequent class where a constant guess must be beaten.
    """
    hits = round(accuracy * num_examples)
    return bool(special.bdtrc(hits - 1, num_examples, floor) < alpha / max(1, evaluations)) if hits > 0 else False


@dataclass(frozen=True)
class Share:
    """``count`` of ``total`` (at least 1), with the exact interval of Clopper and Pearson (1934, Biometrika 26:404)."""

    count: int
    total: int

    @property
    def rate(self) -> float:
        return self.count / self.total

    @property
    def low(self) -> float:
        return self.interval()[0]

    @property
    def high(self) -> float:
        return self.interval()[1]

    def interval(self, level: float = 1 - ALPHA) -> tuple[float, float]:
        tail, missed = (1 - level) / 2, self.total - self.count
        low = float(special.betaincinv(self.count, missed + 1, tail)) if self.count else 0.0
        high = float(special.betaincinv(self.count + 1, missed, 1 - tail)) if missed else 1.0
        return low, high

    def p_value(self, bound: float) -> float:
        """Tests two-sided: under 0.05 exactly when ``bound`` is outside the 95 % interval."""
        above = float(special.bdtrc(self.count - 1, self.total, bound)) if self.count else 1.0
        below = float(special.bdtr(self.count, self.total, bound))
        return min(1.0, 2 * min(above, below))


def p_equal_shares(a: ArrayLike, b: ArrayLike) -> float:
    """Tests exactly, two-sided, that A and B train equally often: (S,) or (C, S) of 1, 0, or NaN without a result.

    In one context Boschloo's test (1970, Statistica Neerlandica 24:1), which is exact and never weaker than Fisher's;
    at three seeds it tells 3 of 3 from 0 of 3. Over several contexts a permutation of whole seeds between A and B
    (Edgington and Onghena 2007, chapter 4) of the seeds' sums: exact too where a seed fails in all contexts at once,
    but four seeds are the fewest that can decide. Both take A and B for independent; where a seed that fails in one
    tends to fail in the other they are on the safe side. NaN where one of them has no result.
    """
    one, other = np.atleast_2d(np.asarray(a, float)), np.atleast_2d(np.asarray(b, float))
    both = np.isfinite(one).any(1) & np.isfinite(other).any(1)
    one, other = one[both], other[both]
    if not len(one):
        return math.nan
    if len(one) == 1:
        return boschloo(
            *(int(number) for variant in (one, other) for number in (np.nansum(variant), np.isfinite(variant).sum()))
        )
    return permutation_p(*_scores(one, other))


@functools.cache
def boschloo(count: int, total: int, other_count: int, other_total: int) -> float:
    """Boschloo's p for two counts; 1 where both are none or all."""
    if count + other_count in (0, total + other_total):
        return 1.0
    from scipy.stats import boschloo_exact  # here: scipy.stats would be half of the time of an import

    table = [[count, other_count], [total - count, other_total - other_count]]
    return min(1.0, float(boschloo_exact(table, n=64).pvalue))


def _scores(a: Floats, b: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sums A and B per seed over contexts, as whole numbers: distances from the context's share if some lack."""
    rows = np.concatenate([a, b], axis=1)
    there = np.isfinite(rows)
    if there.all():
        scores = rows.sum(0)
    else:
        shares = np.nanmean(rows, axis=1, keepdims=True)
        scores = np.rint(SCORE * np.nansum(rows - shares, axis=0))
    whole = scores.astype(np.int64)
    kept = there.any(0)
    split = a.shape[1]
    return whole[:split][kept[:split]], whole[split:][kept[split:]]


def permutation_p(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Computes the two-sided p of the sum of A among all choices of as many of all scores: exact, by counting.

    The sum is compared with its expectation; sums as far off count on both sides.
    """
    scores = np.concatenate([a, b])
    least = int(scores.min())
    heights = scores - least
    counts = np.zeros((len(a) + 1, int(heights.sum()) + 1))
    counts[0, 0] = 1.0
    chosen = len(a) / len(scores)  # each way weighs alike, and the weights of a thousand scores stay numbers
    for height in heights:
        shifted = np.zeros_like(counts)
        shifted[1:, height:] = chosen * counts[:-1, : counts.shape[1] - height]
        counts = (1 - chosen) * counts + shifted
    sums, ways = np.arange(counts.shape[1]), counts[-1]
    expected = len(a) * heights.mean()
    observed = abs((a - least).sum() - expected)
    return float(ways[np.abs(sums - expected) >= observed - 1e-9].sum() / ways.sum())
