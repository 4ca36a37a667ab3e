"""Estimates without pairing: the seeds of one variant have nothing to do with those of another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bench.stats.estimates import Basis, Estimate, Floats, Variant, combine, mean_squares


def unpaired(variants: Sequence[Variant], weights: Sequence[float]) -> Estimate:
    """Estimates a weighted sum of the variants' means, whose seeds are independent: Welch's t (1947, Biometrika 34:28).

    Variants may have other seeds, (S,) or (C, S) each; the degrees of freedom are Satterthwaite's (1946). Where each
    has examples, the same in all, their part of the variance counts as in :func:`bench.stats.estimates.contrast`.
    """
    samples = [combine([variant], [1]) for variant in variants]
    sizes = [sample.values.size for sample in samples]
    if not all(sizes):
        return Estimate(math.nan, math.nan, math.nan, math.nan, 0, 0, "nothing")
    value = sum(weight * float(sample.values.mean()) for weight, sample in zip(weights, samples, strict=True))
    tables = [sample.per_example for sample in samples if sample.per_example is not None]
    if min(sizes) < 2 or any(sample.thin for sample in samples):
        return Estimate(value, value, math.nan, math.nan, min(sizes), 0, "nothing")
    squared = np.square(np.asarray(weights, float)) / sizes
    if len(tables) == len(samples):
        seeds, images = _parts(tables, squared, weights)
        counted = tables[0].shape[1]
    else:
        seeds, images, counted = squared * [sample.values.var(ddof=1) for sample in samples], 0.0, 0
    total = float(seeds.sum())
    if total <= 1e-24 * max(1e-300, max(float(np.square(sample.values).max()) for sample in samples)):
        return Estimate(value, value, math.nan, math.nan, min(sizes), 0, "nothing")
    degrees = total**2 / float((np.square(seeds) / (np.asarray(sizes) - 1)).sum())
    basis: Basis = "seeds and test set" if counted else "seeds"
    return Estimate(value, value, total, images, min(sizes), counted, basis, degrees)


def _parts(tables: Sequence[Floats], squared: Floats, weights: Sequence[float]) -> tuple[Floats, float]:
    """Returns the seeds' part of the variance by variant, and the examples' part of all without the rest of chance."""
    num_examples = tables[0].shape[1]
    rows, _, rest = np.array([mean_squares(table) for table in tables]).T
    seeds = squared * np.where(rows > 0, rows, rest) / num_examples
    by_example = np.sum([weight * table.mean(0) for weight, table in zip(weights, tables, strict=True)], axis=0)
    extra = float(by_example.var(ddof=1) / num_examples - (squared * rest).sum() / num_examples)
    return seeds, max(extra, -0.1 * float(seeds.sum()))
