"""Estimates from seeds and test images: plain numbers in, frozen dataclasses out.

What is estimated: the expectation over new seeds *and* new test images of the same kind, for the training set and split
at hand. Where ``d[s, i]`` is the difference of two variants at seed ``s`` (of n) and test image ``i`` (of m),

    d[s, i] = mean + seed[s] + image[i] + rest[s, i]
    variance of the mean = var(seed) / n + var(image) / m + var(rest) / (n m)

The spread of the seeds' own means misses var(image) / m, since all seeds share the test set; the images alone miss
var(seed). It is the design of multi-reader multi-case studies, seeds being the readers, and the mean squares of the
two-way layout give its variance (Hillis 2007, Statistics in Medicine 26:596), but not its degrees of freedom at n = 3:
:func:`critical_value`. ``python -m bench.studies.simulate coverage`` shows what that covers, and what bootstraps do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from bench.stats.effect_sizes import standardised

Floats = NDArray[np.float64]
Basis = Literal["seeds and test set", "seeds", "test set", "exact", "nothing"]

ALPHA = 0.05


# --- one estimate and its interval ----------------------------------------------------------------------------------


class Estimated(Protocol):
    """The protocol of estimates that verdicts take, whatever the interval is made of."""

    @property
    def value(self) -> float: ...
    @property
    def centre(self) -> float: ...
    @property
    def num_seeds(self) -> int: ...
    @property
    def basis(self) -> Basis: ...
    @property
    def is_general(self) -> bool: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    def interval(self, level: float = ...) -> tuple[float, float]: ...
    def p_value(self, null: float = ...) -> float: ...
    def p_equivalence(self, margin: float) -> float: ...
    def minus(self, value: float) -> Estimated: ...


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and test images, and the two parts of its variance.

    ``basis`` says which sources of variance the interval counts: with "nothing" there is no interval (NaN), what is
    "exact" has none to count. ``centre`` is the interval's middle: ``value``, except that an accuracy with its images
    is drawn a little to 1/2, and a difference at one seed a little to 0.
    """

    value: float
    centre: float
    seed_variance: float
    image_variance: float
    num_seeds: int
    num_images: int
    basis: Basis
    degrees: float | None = None  # of freedom of the seeds' part; None: one less than the seeds

    @property
    def df(self) -> float:
        return self.num_seeds - 1 if self.degrees is None else self.degrees

    @property
    def is_general(self) -> bool:
        """Whether it says anything about a new seed."""
        return self.basis == "exact" or (self.basis != "nothing" and self.num_seeds > 1)

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
        if self.basis in ("nothing", "exact"):
            return (self.value, self.value) if self.basis == "exact" else (math.nan, math.nan)
        half = float(critical_value(1 - level, self.df, self.seed_share)) * self.standard_error
        return self.centre - half, self.centre + half

    def p_value(self, null: float = 0.0) -> float:
        """Tests two-sided: under 0.05 exactly when ``null`` is outside the 95 % interval."""
        if self.basis in ("nothing", "exact"):
            return float(self.value == null) if self.basis == "exact" else math.nan
        return two_sided_p(abs(self.centre - null) / self.standard_error, self.df, self.seed_share)

    def p_equivalence(self, margin: float) -> float:
        """Does two one-sided tests: under 0.05 exactly when the 95 % interval lies within ``margin`` of 0.

        It is twice the larger one-sided p (each side is tested at 2.5 %), so that one interval serves both questions.
        """
        if self.basis in ("nothing", "exact"):
            return float(abs(self.value) > margin) if self.basis == "exact" else math.nan
        distance = (margin - abs(self.centre)) / self.standard_error
        return two_sided_p(distance, self.df, self.seed_share) if distance > 0 else 1.0

    def minus(self, value: float) -> Estimate:
        return replace(self, value=self.value - value, centre=self.centre - value)


def critical_value(alpha: float, df: float, seed_share: float | Floats) -> Any:
    """Returns a half-width in standard errors, where ``seed_share`` of the variance has ``df`` degrees of freedom.

    ``sqrt(z^2 + (t^2 - z^2) share^k)``: Student's t where seeds make all the variance, the normal where images do.
    k = 1 is Banerjee (1960, Sankhya 22:351), never below its level, but up to 97.7 % at n = 3; Satterthwaite's degrees
    of freedom go down to 92.2 %. k = 1 + 16 alpha keeps 95 % intervals between 94.4 and 95.9 % whatever the true share,
    for n >= 3, and is near k = 1 at the strict levels of Holm's first steps, where k = 2 rejects too often.
    """
    z = -special.ndtri(alpha / 2)
    t = -special.stdtrit(df, alpha / 2) if df > 0 else z
    return np.sqrt(z**2 + (t**2 - z**2) * np.power(seed_share, min(2.0, 1 + 16 * alpha)))


def two_sided_p(statistic: float, df: float, seed_share: float) -> float:
    """Returns the alpha whose critical value is ``statistic`` (>= 0, in standard errors)."""

    def excess(log_alpha: float) -> float:
        return float(critical_value(math.exp(log_alpha), df, seed_share)) - statistic

    smallest = -300.0  # exp(-300): far under any p worth telling from 0; t squared is still a number at one df
    return math.exp(optimize.brentq(excess, smallest, 0.0, xtol=1e-12)) if excess(smallest) > 0 else 0.0


# --- contrasts of variants: means, paired effects, differences of differences ---------------------------------------


@dataclass(frozen=True)
class Variant:
    """Results of one variant: (S,) for S seeds, or (C, S) where it stands in C contexts (cells of the other factors).

    NaN where a trial has no result. ``examples`` (S, I) or (C, S, I): the outcome of each test example, bool (right or
    wrong) or real; where it is given, ``values`` are its means. Its rows for trials without result may hold anything.
    """

    values: ArrayLike
    examples: ArrayLike | None = None


@dataclass(frozen=True)
class Effect:
    """A minus B, paired by seed and context; ``pairs`` of ``pairs_planned`` have a result of both variants.

    ``effect_size`` is the mean of the seeds' differences in their standard deviations (d_z), freed of small-sample
    bias; NaN under three seeds. ``probability_a_wins``: that A is above B at one more seed on this test set.
    ``identical``: no image at any seed tells the variants apart.
    """

    estimate: Estimated
    p: float
    effect_size: float
    probability_a_wins: float
    identical: bool
    contexts: int
    contexts_planned: int
    pairs: int
    pairs_planned: int
    thin_contexts: int = 0  # of several seeds, one has a result there: no interval


def mean(values: ArrayLike, examples: ArrayLike | None = None) -> Estimate:
    """Estimates the mean of one variant over its contexts, new seeds and (with ``examples``) new test examples.

    Without ``examples`` it is Student's t-interval. One seed alone has an interval only with ``examples``.
    """
    return contrast([Variant(values, examples)], [1])


def effect(a: Variant, b: Variant) -> Effect:
    """Estimates the mean difference of A and B; :func:`contrast` says what counts where results are missing."""
    sample = combine([a, b], [1, -1])
    difference = estimate(sample)
    size, wins = standardised(sample.values, _rest(sample.per_example))
    return Effect(
        estimate=difference,
        p=difference.p_value(),
        effect_size=size,
        probability_a_wins=wins,
        identical=sample.per_example is not None and not sample.per_example.any(),
        contexts=int(sample.there.any(1).sum()),
        contexts_planned=sample.there.shape[0],
        pairs=int(sample.there.sum()),
        pairs_planned=sample.there.size,
        thin_contexts=thin_contexts(sample.there),
    )


def contrast(variants: Sequence[Variant], weights: Sequence[float]) -> Estimate:
    """Estimates a weighted sum of means: (1) a mean, (1, -1) a difference, (1, -1, -1, 1) a difference of differences.

    Variants share seeds, contexts and test examples, by position. Contexts are fixed and weigh the same. A seed is the
    unit, however many contexts share it. A place counts where every variant has a result; a context without any is left
    out. Where some lack, the variance is that of leaving out one seed at a time (the jackknife: Miller 1974, Biometrika
    61:1), which needs two results in every context: without, there is no interval. Raises ValueError where shapes
    differ or values are not the means of their examples.
    """
    return estimate(combine(variants, weights))


def unmatched(variants: Sequence[Variant], weights: Sequence[float]) -> Estimate:
    """Like :func:`contrast`, but averages each variant over all of its own results, whether or not the others have one.

    Seeds are shared all the same: what a seed does to several variants at once cancels.
    """
    return estimate(combine(variants, weights, matched=False))


def exact(values: ArrayLike) -> Estimate:
    """Averages what no seed changes, such as parameters or MACs: (C, S) for contexts and seeds, NaN without a result.

    Raises ValueError where seeds differ.
    """
    sample = combine([Variant(values)], [1])
    if sample.values.size and np.ptp(sample.values) > 1e-9 * np.abs(sample.values).max():
        raise ValueError(f"an exact quantity must be the same at all seeds, got {sample.values.tolist()}")
    value = float(sample.values[0]) if sample.values.size else math.nan
    return Estimate(value, value, 0.0, 0.0, sample.values.size, 0, "exact" if sample.values.size else "nothing")


@dataclass(frozen=True)
class Sample:
    """A number per seed (S,), and per seed and example (S, I), for seeds with a result; ``there`` (C, S): what counts.

    With results missing these are the jackknife's pseudo-values: their mean is the estimate, and their spread its
    error. ``thin``: some context rests on one of several seeds. ``extremes``: what to add for examples that are few in
    effect: ones at the least and the greatest possible value.
    """

    values: Floats
    per_example: Floats | None
    extremes: tuple[float, ...]
    there: NDArray[np.bool_]
    thin: bool


def combine(variants: Sequence[Variant], weights: Sequence[float], *, matched: bool = True) -> Sample:
    """Sums variants by seed, weighted; ``matched``: only where every one of them has a result."""
    tables = [np.atleast_2d(np.asarray(variant.values, float)) for variant in variants]
    if len({table.shape for table in tables}) > 1:
        shapes = " and ".join(str(table.shape) for table in tables)
        raise ValueError(f"variants need the same contexts and seeds, got shapes {shapes}")
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(tables))
    places: NDArray[np.bool_] = np.logical_and.reduce(finite)[None] if matched else finite
    examples = [
        _examples(variant.examples, table)
        for variant, table in zip(variants, tables, strict=True)
        if variant.examples is not None
    ]
    if len({table.shape for table in examples}) > 1:
        sizes = " and ".join(str(table.shape[-1]) for table in examples)
        raise ValueError(f"variants need the same test examples, got {sizes}")
    there: NDArray[np.bool_] = np.logical_and.reduce(places)
    if not all(one.any() for one in places):
        return Sample(np.empty(0), None, (), there, thin=False)
    whole = len(examples) == len(variants)
    binary = whole and all(table.dtype == np.int8 for table in examples)
    return Sample(
        values=_by_seed(tables, weights, places),
        per_example=_by_seed(examples, weights, places) if whole else None,
        extremes=_extremes(weights) if binary else (),
        there=there,
        thin=any(thin_contexts(one) > 0 for one in places),
    )


def thin_contexts(there: NDArray[np.bool_]) -> int:
    """Contexts (C, S) that rest on one seed, of several that have a result somewhere."""
    return int((there.sum(1) == 1).sum()) if there.any(0).sum() > 1 else 0


def _extremes(weights: Sequence[float]) -> tuple[float, ...]:
    """Adds two images each for a mean (Agresti and Coull 1998); one each for a difference (Agresti and Min 2005)."""
    least, greatest = sum(w for w in weights if w < 0), sum(w for w in weights if w > 0)
    return (least, greatest) if least and greatest else (least, least, greatest, greatest)


def _examples(examples: ArrayLike, values: Floats) -> NDArray[Any]:
    """Bits as int8, other outcomes as float64, (C, S, I); each trial's mean must be its value."""
    given = np.asarray(examples)
    binary = given.dtype == bool
    table = given.astype(np.int8 if binary else float)
    table = table[None] if table.ndim == 2 else table
    if table.shape[:2] != values.shape:
        raise ValueError(f"examples need the contexts and seeds of the values {values.shape}, got {table.shape[:2]}")
    gaps = np.abs(table.mean(-1) - values)[np.isfinite(values)]
    rounding = 0.5 / table.shape[-1] if binary else 1e-4 * float(np.abs(table[np.isfinite(values)]).max(initial=0.0))
    if gaps.size and not gaps.max() <= rounding:
        raise ValueError(f"a value must be the mean of its examples, got one that is {gaps.max():.4f} away")
    return table


def _by_seed(tables: Sequence[NDArray[Any]], weights: Sequence[float], places: NDArray[np.bool_]) -> Floats:
    """Sums tables (C, S, ...) by seed, weighted: in the places (1, C, S) of all, or (K, C, S) of each its own."""
    seeds: NDArray[np.bool_] = np.logical_or.reduce(places, axis=(0, 1))
    if len(places) < len(tables):  # matched: summed first, since one pass over the contexts is cheaper
        return _over_contexts(tables, weights, places[0], seeds)
    parts = [
        _over_contexts([table], [weight], there, seeds)
        for table, weight, there in zip(tables, weights, places, strict=True)
    ]
    return np.sum(parts, axis=0) if len(parts) > 1 else parts[0]


def _over_contexts(
    tables: Sequence[NDArray[Any]], weights: Sequence[float], there: NDArray[np.bool_], seeds: NDArray[np.bool_]
) -> Floats:
    """Pseudo-values (S, ...) of the mean of context means; on complete tables (C, S, ...) each seed's own mean."""
    kept = ... if there.all() and seeds.all() else np.ix_(there.any(1), seeds)
    total: Floats = np.multiply(tables[0][kept], weights[0], dtype=float)
    for table, weight in zip(tables[1:], weights[1:], strict=True):
        total += np.multiply(table[kept], weight, dtype=float)
    shown = there[kept]
    if shown.all():
        return total[0] if len(total) == 1 else total.mean(0)
    counts, num_seeds = shown.sum(1), shown.shape[1]
    ones = (1,) * (total.ndim - 2)
    scale = ((num_seeds - 1) / np.maximum(counts - 1, 1)).reshape(-1, 1, *ones)
    shown = shown.reshape(shown.shape + ones)
    context_means = total.mean(1, where=shown, keepdims=True)
    return context_means[:, 0].mean(0) + ((total - context_means) * scale).sum(0, where=shown) / len(total)


def estimate(sample: Sample) -> Estimate:
    """Estimates the mean over seeds and, where they are known, examples, with the two parts of its variance."""
    values, num_seeds = sample.values, sample.values.size
    value = float(values.mean()) if num_seeds else math.nan
    if sample.thin:
        return Estimate(value, value, math.nan, math.nan, num_seeds, 0, "nothing")
    if sample.per_example is not None:
        found = _estimate_from_images(value, sample.per_example, sample.extremes)
        if found is not None:
            return found
    if num_seeds < 2 or np.ptp(values) <= 1e-12 * np.abs(values).max():
        return Estimate(value, value, math.nan, math.nan, num_seeds, 0, "nothing")
    return Estimate(value, value, float(values.var(ddof=1)) / num_seeds, 0.0, num_seeds, 0, "seeds")


def _estimate_from_images(value: float, per_image: Floats, extremes: Sequence[float]) -> Estimate | None:
    """Estimates from several images; None where one alone, or some that never differ, say nothing of others."""
    num_seeds, num_images = per_image.shape
    alike = bool((per_image == per_image[0]).all())
    # Few images may tell the variants apart; an accuracy near 1 errs mostly to one side.
    if extremes and (alike or 0 in extremes):
        per_image = np.hstack([per_image, np.tile(extremes, (num_seeds, 1))])
    centre = float(per_image.mean())
    if per_image.shape[1] < 2 or bool((per_image == per_image[0, 0]).all()):
        return None
    if alike:
        variance = float(per_image[0].var()) / per_image.shape[1]
        return Estimate(value, centre, 0.0, variance, num_seeds, num_images, "test set")
    seeds, images, rest = mean_squares(per_image)
    if seeds <= 1e-12 * float(
        np.square(per_image).mean()
    ):  # means that agree, by rounding to 1/m, do not show that seeds never differ
        seeds = rest
    # Where images play no part it is near 0. Cut off there, intervals cover up to 96.1 % at 3 to 10 seeds; with more
    # room below, seeds that chance brought close get too narrow a one: at -0.2, up to 5.2 % of families err.
    extra = max(images - rest, -0.1 * seeds)
    size = per_image.size
    return Estimate(value, centre, seeds / size, extra / size, num_seeds, num_images, "seeds and test set")


def mean_squares(table: Floats) -> tuple[float, float, float]:
    """Computes mean squares of rows, columns and the rest in a two-way layout (R, C), a number per place, R, C > 1."""
    num_rows, num_columns = table.shape
    row_means, column_means, center = table.mean(1), table.mean(0), float(table.mean())
    rows = num_columns * float(np.square(row_means - center).sum())
    columns = num_rows * float(np.square(column_means - center).sum())
    flat = table.ravel()
    rest = float(flat @ flat) - table.size * center**2 - rows - columns
    df_rows, df_columns = num_rows - 1, num_columns - 1
    return rows / df_rows, columns / df_columns, max(0.0, rest) / (df_rows * df_columns)


def _rest(per_example: Floats | None) -> float:
    """Returns what is left of the variance of one seed's mean where seeds agree by rounding; 0 where nothing tells."""
    return (
        0.0
        if per_example is None or min(per_example.shape) < 2
        else mean_squares(per_example)[2] / per_example.shape[1]
    )
