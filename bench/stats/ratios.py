"""Logarithms of positive results: what compares by ratios is a difference of these, and its mean a geometric one."""

from __future__ import annotations

import math

import numpy as np

from bench.stats.estimates import Floats, Variant


def logarithms(variant: Variant, *, power: float = 1.0) -> Variant:
    """Takes logarithms, so that differences are log ratios; ``power`` 0.5 where values are roots of means.

    Examples become the linear approximation of the log of their mean (the delta method): ``log(value)`` plus ``power``
    times each example's distance from the trial's mean, as a part of it. Raises ValueError where a value is not
    positive.
    """
    values = np.asarray(variant.values, float)
    if (values <= 0).any():
        raise ValueError(f"a log scale needs positive values, got {values[values <= 0].ravel()[0]:g}")
    logs = np.log(values)
    if variant.examples is None:
        return Variant(logs)
    examples = np.asarray(variant.examples, float)
    means = examples.mean(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):  # rows of trials without result may hold anything
        relative = power * (examples / means - 1)
    return Variant(logs, np.nan_to_num(relative) + np.nan_to_num(logs)[..., None])


def log_examples(value: float, examples: Floats) -> Floats:
    """Returns outcomes of examples (I,), whose mean is ``value``, on the log scale: their mean is its logarithm."""
    return math.log(value) + examples / value - 1
