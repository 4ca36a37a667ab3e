"""Estimates, comparisons, verdicts: plain numbers in, frozen dataclasses out.

What is estimated. A trial's accuracy varies with its seed and with the test images that happen to be in the test set. The
target of every interval here is the expectation over new seeds *and* new test images of the same kind, for the training
set and the split at hand. With ``d[s, i]`` the difference of two arms at seed ``s`` and image ``i`` (right minus right),

    d[s, i] = mean + seed[s] + image[i] + rest[s, i]
    variance of the mean = var(seed) / n + var(image) / m + var(rest) / (n m)

This is the design of multi-reader multi-case studies: seeds are the readers, images the cases. Its variance components
come from the mean squares of the two-way layout (Hillis 2007, Statistics in Medicine 26:596). The spread of the seeds'
own means misses var(image) / m, because all seeds share the test set; the images alone miss var(seed).

``python -m bench.simulate coverage`` shows what these intervals cover, and that two-way bootstraps do not at n = 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special
from scipy.stats import binomtest

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Basis = Literal["seeds and test set", "seeds", "test set", "nothing"]
Verdict = Literal["better", "worse", "equivalent", "undecided"]
Ruling = Literal["supported", "refuted", "undecided"]
Relation = Literal[">", "<", "="]

ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 10_000  # beyond this, "more seeds" is no advice


# --- one estimate and its interval ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and test images, and the two parts of its variance.

    ``basis`` says which sources of variance the interval counts; with "nothing" there is no interval (NaN). ``centre`` is
    the middle of the interval: ``value``, or drawn a little to 0 (to 1/2 for an accuracy) where only images count.
    """

    value: float
    centre: float
    seed_variance: float
    image_variance: float
    num_seeds: int
    num_images: int
    basis: Basis

    @property
    def standard_error(self) -> float:
        return math.sqrt(self.seed_variance + self.image_variance)

    @property
    def seed_share(self) -> float:
        """Part of the variance that the seeds make, 0 to 1."""
        return min(1.0, self.seed_variance / (self.seed_variance + self.image_variance))

    @property
    def low(self) -> float:
        return self.interval()[0]

    @property
    def high(self) -> float:
        return self.interval()[1]

    def interval(self, level: float = 1 - ALPHA) -> tuple[float, float]:
        if self.basis == "nothing":
            return math.nan, math.nan
        half = float(critical_value(1 - level, self.num_seeds - 1, self.seed_share)) * self.standard_error
        return self.centre - half, self.centre + half

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided: under 0.05 exactly when ``null`` is outside the 95 % interval."""
        if self.basis == "nothing":
            return math.nan
        return two_sided_p(abs(self.centre - null) / self.standard_error, self.num_seeds - 1, self.seed_share)

    def p_equivalence(self, margin: float) -> float:
        """Two one-sided tests: under 0.05 exactly when the 95 % interval lies within ``margin`` of 0.

        It is twice the larger one-sided p (each side is tested at 2.5 %), so that one interval serves both questions.
        """
        if self.basis == "nothing":
            return math.nan
        distance = (margin - abs(self.centre)) / self.standard_error
        return two_sided_p(distance, self.num_seeds - 1, self.seed_share) if distance > 0 else 1.0

    def minus(self, value: float) -> Estimate:
        return replace(self, value=self.value - value, centre=self.centre - value)


def critical_value(alpha: float, df: int, seed_share: float | Floats) -> Any:
    """Half-width of the interval in standard errors, where ``seed_share`` of the variance has ``df`` degrees of freedom.

    ``sqrt(z^2 + (t^2 - z^2) share^k)``: Student's t where seeds make all the variance, the normal where images do.
    k = 1 is Banerjee (1960, Sankhya 22:351): never below its level, but 97.7 % at n = 3. k = 2 is near Satterthwaite,
    whose df fall to 92.2 % there. k = 1 + 16 alpha keeps 95 % intervals between 94.4 and 95.9 % whatever the share, for
    n >= 3, and strict levels (those of Holm's first steps) at or under alpha.
    """
    z = -special.ndtri(alpha / 2)
    t = -special.stdtrit(df, alpha / 2) if df > 0 else z
    return np.sqrt(z**2 + (t**2 - z**2) * np.power(seed_share, min(2.0, 1 + 16 * alpha)))


def two_sided_p(statistic: float, df: int, seed_share: float) -> float:
    """The alpha whose critical value is ``statistic`` (>= 0, in standard errors)."""

    def excess(log_alpha: float) -> float:
        return float(critical_value(math.exp(log_alpha), df, seed_share)) - statistic

    smallest = -600.0  # exp(-600): far under any p that is worth telling from 0
    return math.exp(optimize.brentq(excess, smallest, 0.0, xtol=1e-12)) if excess(smallest) > 0 else 0.0


def mean(values: ArrayLike, correct: ArrayLike | None = None) -> Estimate:
    """Mean of ``values`` (S,) over seeds; NaN where a seed has none. With ``correct`` (S, I) the test set counts too.

    Without ``correct`` it is Student's t-interval. One seed alone has an interval only with ``correct``.
    """
    bits = None if correct is None else np.asarray(correct, float)
    return _estimate(np.asarray(values, float), bits, extremes=(0.0, 0.0, 1.0, 1.0))


def _estimate(values: Floats, per_image: Floats | None, extremes: Sequence[float]) -> Estimate:
    kept = np.isfinite(values)
    values, num_seeds = values[kept], int(kept.sum())
    if num_seeds == 0:
        return Estimate(math.nan, math.nan, math.nan, math.nan, 0, 0, "nothing")
    value = float(values.mean())
    if per_image is not None:
        return _estimate_from_images(value, per_image[kept], extremes)
    if num_seeds == 1 or np.ptp(values) <= 1e-12 * np.abs(values).max():
        return Estimate(value, value, math.nan, math.nan, num_seeds, 0, "nothing")
    return Estimate(value, value, float(values.var(ddof=1)) / num_seeds, 0.0, num_seeds, 0, "seeds")


def _estimate_from_images(value: float, per_image: Floats, extremes: Sequence[float]) -> Estimate:
    num_seeds, num_images = per_image.shape
    if (per_image == per_image[0]).all():
        return _estimate_from_one_row(value, per_image[0], num_seeds, extremes)
    seeds, images, rest = mean_squares(per_image)
    # Means that agree by rounding to 1/m do not show that seeds never differ: then the spread within seeds stands in.
    seeds = seeds if seeds > 1e-12 else rest
    # Unbiased where images play no part, without an interval of nothing where three seeds happen to agree.
    extra = max(images - rest, -0.2 * seeds)
    size = per_image.size
    return Estimate(value, value, seeds / size, extra / size, num_seeds, num_images, "seeds and test set")


def _estimate_from_one_row(value: float, row: Floats, num_seeds: int, extremes: Sequence[float]) -> Estimate:
    """Interval from the images alone, after adding an image or two at each extreme.

    Two for a proportion (Agresti and Coull 1998), one for a paired difference (Agresti and Min 2005; Bonett and Price
    2012): close to its level where hardly any image tells the arms apart, and never empty.
    """
    padded = np.concatenate([row, extremes])
    variance = float(padded.var()) / padded.size
    return Estimate(value, float(padded.mean()), 0.0, variance, num_seeds, row.size, "test set")


def mean_squares(table: Floats) -> tuple[float, float, float]:
    """Mean squares of rows, columns and their interaction in a two-way layout (R, C) with one number a place."""
    num_rows, num_columns = table.shape
    total_mean = table.mean()
    rows = num_columns * float(np.square(table.mean(1) - total_mean).sum())
    columns = num_rows * float(np.square(table.mean(0) - total_mean).sum())
    rest = float(np.square(table).sum()) - table.size * float(total_mean) ** 2 - rows - columns
    return (
        rows / (num_rows - 1),
        columns / (num_columns - 1),
        max(0.0, rest) / ((num_rows - 1) * (num_columns - 1)),
    )


# --- paired effects -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pairs:
    """Results of arms A and B at the same seeds: (S,), or (C, S) for C contexts (cells of the other factors).

    NaN where a trial has no result. ``correct_a`` and ``correct_b`` (S, I) or (C, S, I) say which test images each trial
    got right; where they are given, ``a`` and ``b`` are their means.
    """

    a: ArrayLike
    b: ArrayLike
    correct_a: ArrayLike | None = None
    correct_b: ArrayLike | None = None


@dataclass(frozen=True)
class Effect:
    """A minus B. ``estimate.num_seeds`` seeds count: those with a result of both arms in every context used.

    ``effect_size`` is the mean of the seeds' differences in their standard deviations (d_z), freed of small-sample bias
    by Hedges' factor; NaN under three seeds. ``identical``: no image of any seed tells the arms apart.
    """

    estimate: Estimate
    p: float
    effect_size: float
    probability_a_wins: float
    identical: bool
    contexts_used: int
    contexts_planned: int
    pairs_used: int
    pairs_planned: int


def effect(pairs: Pairs) -> Effect:
    """Mean difference of A and B over contexts, new seeds and new test images.

    Contexts are fixed and weigh the same; one in which no seed has both results is left out, then a seed that misses one
    of the others. Differences are averaged over contexts first, so that a seed counts once, however many contexts
    share it. Raises ValueError where shapes differ or accuracies are not the means of their bits.
    """
    difference, used = _differences(pairs)
    values, per_image = difference
    estimate = _estimate(values, per_image, extremes=(-1.0, 1.0))
    size, wins = _standardised(values, per_image)
    identical = per_image is not None and estimate.num_seeds > 0 and not per_image[np.isfinite(values)].any()
    contexts_used = int(used.any(1).sum())
    return Effect(
        estimate=estimate,
        p=estimate.p_value(),
        effect_size=size,
        probability_a_wins=wins,
        identical=identical,
        contexts_used=contexts_used,
        contexts_planned=used.shape[0],
        pairs_used=contexts_used * estimate.num_seeds,
        pairs_planned=used.size,
    )


def difference_of_differences(first: Pairs, second: Pairs) -> Estimate:
    """(A minus B) of ``first``, less (A minus B) of ``second``, at the same seeds and test images."""
    (values, per_image), _ = _differences(first)
    (other_values, other_per_image), _ = _differences(second)
    if values.shape != other_values.shape:
        raise ValueError(f"both differences need the same seeds, got {values.size} and {other_values.size}")
    both = None if per_image is None or other_per_image is None else per_image - other_per_image
    return _estimate(values - other_values, both, extremes=(-2.0, 2.0))


def _differences(pairs: Pairs) -> tuple[tuple[Floats, Floats | None], NDArray[np.bool_]]:
    """Per seed (S,) and per seed and image (S, I), averaged over contexts; NaN at seeds left out. And what is there."""
    a, b = (np.atleast_2d(np.asarray(values, float)) for values in (pairs.a, pairs.b))
    if a.shape != b.shape:
        raise ValueError(f"arms need the same contexts and seeds, got shapes {a.shape} and {b.shape}")
    there = np.isfinite(a) & np.isfinite(b)
    used = there.any(1)
    complete = there[used].all(0) if used.any() else np.zeros(a.shape[1], bool)
    values = np.full(a.shape[1], np.nan)
    values[complete] = (a - b)[used][:, complete].mean(0)
    if pairs.correct_a is None or pairs.correct_b is None:
        return (values, None), there
    right_a, right_b = (_bits(bits, arm, there) for bits, arm in ((pairs.correct_a, a), (pairs.correct_b, b)))
    if right_a.shape != right_b.shape:
        raise ValueError(f"arms need the same test images, got {right_a.shape[-1]} and {right_b.shape[-1]}")
    per_image = np.subtract(right_a, right_b, dtype=np.float64)[used]
    return (values, per_image[0] if len(per_image) == 1 else per_image.sum(0) / max(1, len(per_image))), there


def _bits(correct: ArrayLike, accuracy: Floats, there: NDArray[np.bool_]) -> NDArray[np.int8]:
    bits = np.asarray(correct, np.int8)
    bits = bits[None] if bits.ndim == 2 else bits
    if bits.shape[:2] != accuracy.shape:
        raise ValueError(f"bits need the contexts and seeds of the accuracies {accuracy.shape}, got {bits.shape[:2]}")
    gap = np.abs(bits.mean(-1) - accuracy)[there]
    if gap.size and gap.max() > 0.5 / bits.shape[-1]:
        raise ValueError(f"an accuracy is the mean of its bits, got one that is {gap.max():.4f} away")
    return bits


def _standardised(values: Floats, per_image: Floats | None) -> tuple[float, float]:
    """Hedges' g of the paired differences, and the probability that A beats B at one more seed on this test set.

    The first: Hedges 1981, exact factor. The second: Student's predictive distribution of one more difference (Gelman
    et al., Bayesian Data Analysis 3rd ed., section 3.2).
    """
    kept = np.isfinite(values)
    n, difference = int(kept.sum()), values[kept]
    if n < 2:
        return math.nan, math.nan
    variance, df = float(difference.var(ddof=1)), n - 1
    if variance <= 1e-24 and per_image is not None:  # equal by rounding to 1/m
        variance = mean_squares(per_image[kept])[2] / per_image.shape[1]
    if variance <= 1e-24:
        return math.nan, math.nan
    standardised = float(difference.mean()) / math.sqrt(variance)
    wins = float(special.stdtr(df, standardised / math.sqrt(1 + 1 / n)))
    return (standardised * hedges_factor(df) if n > 2 else math.nan), wins


def hedges_factor(df: int) -> float:
    """Small-sample correction of a standardised mean (Hedges 1981, J. Educational Statistics 6:107), df >= 2."""
    return math.exp(special.gammaln(df / 2) - special.gammaln((df - 1) / 2)) / math.sqrt(df / 2)


# --- decisions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """An effect within its family: p-values after Holm's correction, and the verdict on A.

    ``detectable``: the difference found with 80 % power at this number of seeds. ``seeds_needed``: where undecided, the
    seeds at which a verdict comes with 80 % power if the difference is what was estimated; None where no number up to
    10,000 does. Both count the correction as if this effect were the family's first step.
    """

    effect: Effect
    verdict: Verdict
    p_holm: float
    p_equivalence_holm: float
    margin: float | None
    detectable: float
    seeds_needed: int | None


def compare(
    effects: Sequence[Effect], *, margin: float | None = None, alpha: float = ALPHA, higher_is_better: bool = True
) -> list[Comparison]:
    """The verdicts of one family of effects.

    Equivalent where the interval lies within ``margin`` of 0: a difference that is real yet within it does not matter.
    Else better or worse where p is under ``alpha``, else undecided. Each of the two questions is corrected by Holm over
    the family: the chance of any false "better" or "worse" is at most alpha, and so is that of any false "equivalent".
    With one seed always undecided: its interval says nothing about seeds.
    """
    outcomes = _decide([item.estimate for item in effects], [margin] * len(effects), alpha)
    words: dict[str, Verdict] = {"above": "better", "below": "worse"}
    if not higher_is_better:
        words = {"above": "worse", "below": "better"}
    step = alpha / max(1, len(effects))
    return [
        Comparison(
            effect=item,
            verdict=words.get(direction, "equivalent" if direction == "equivalent" else "undecided"),
            p_holm=p,
            p_equivalence_holm=p_equivalence,
            margin=margin,
            detectable=detectable_difference(item.estimate, alpha=step),
            seeds_needed=seeds_to_decide(item.estimate, margin=margin, alpha=step) if direction == "undecided" else None,
        )
        for item, (direction, p, p_equivalence) in zip(effects, outcomes, strict=True)
    ]


def _decide(
    estimates: Sequence[Estimate], margins: Sequence[float | None], alpha: float
) -> Iterator[tuple[Literal["above", "below", "equivalent", "undecided"], float, float]]:
    """Direction, and the two corrected p-values, of each estimate against 0."""
    corrected = holm([estimate.p_value() for estimate in estimates])
    equivalent = holm(
        [
            math.nan if margin is None else estimate.p_equivalence(margin)
            for estimate, margin in zip(estimates, margins, strict=True)
        ]
    )
    for estimate, p, p_equivalence in zip(estimates, corrected, equivalent, strict=True):
        if estimate.num_seeds < 2 or not min(p, p_equivalence) < alpha and not p_equivalence < alpha and not p < alpha:
            yield "undecided", p, p_equivalence
        elif p_equivalence < alpha:
            yield "equivalent", p, p_equivalence
        else:
            yield ("above" if estimate.centre > 0 else "below"), p, p_equivalence
