"""Logarithms of positive results: what compares by ratios is a difference of these, and its mean a geometric one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def outcomes_of(value: float, examples: NDArray[Any], *, log: bool) -> NDArray[Any] | None:
    """Returns outcomes of examples (I,) whose mean is a trial's value, or its logarithm; None where they are not of it.

    The examples' mean is the value, or its square where that is the root of a mean (RMSE); then, and on the log scale,
    they are the linear approximation (the delta method), as of :func:`logarithms`. Bits stay what they are.
    """
    if examples.dtype == bool:
        return examples
    power = _power(value, examples)
    if power is None:
        return None
    relative = power * (examples / value ** (1 / power) - 1) if log or power != 1.0 else None
    if log:
        return math.log(value) + np.asarray(relative)
    return examples if relative is None else value * (1 + relative)


def _power(value: float, examples: Floats) -> float | None:
    """Returns which power of the examples' mean the value is: 1, or 0.5 of a root of a mean; None of neither."""
    rounding, mean = 1e-4 * float(np.abs(examples).max(initial=0.0)), float(np.mean(examples))
    return next(
        (power for power in (1.0, 0.5) if value > 0 or power == 1.0 if abs(mean - value ** (1 / power)) <= rounding),
        None,
    )
