"""Metrics as declared objects: what a column of numbers means, and which direction of it is better.

A plan's metrics are those that its grid asks about, the primary one first; its measures are all columns of numbers that
a row of its trials has. Values are recorded as they were reported, never negated or rescaled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from lab.scores import CLASSIFICATION, MEASURES, Better, Range, Scale, Score

if TYPE_CHECKING:
    import numpy as np

Split = Literal["test", "dev"]

ACCURACY_MARGIN = 0.01  # accuracies that differ by less count as equivalent, where a grid does not say


class MetricError(ValueError):
    """A value does not fit what its metric declares; the message names the rule and the value."""


@dataclass(frozen=True)
class Metric:
    """One column of numbers. ``margin``: in its unit, on a log scale as a share (0.02 for 2 %); None: nothing is equal.

    ``at`` says which point of a curve counts, for training code that reports curves; the laboratory reads test once.
    """

    name: str
    better: Better
    scale: Scale = "linear"
    unit: str = ""
    range: Range = (None, None)
    margin: float | None = None
    split: Split = "test"
    at: str | None = None

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is, 0 where neither is."""
        return {"higher": 1, "lower": -1, "neither": 0}[self.better]

    @property
    def is_share(self) -> bool:
        """Whether it is shown in per cent and its differences in points, though it is recorded between 0 and 1."""
        return self.unit == "%" and self.range == (0, 1)

    @property
    def factor(self) -> int:
        """The factor by which a recorded value is multiplied where it is shown."""
        return 100 if self.is_share else 1

    @property
    def difference_unit(self) -> str:
        """The unit of a difference as it is shown: ``points`` of per cents; none of a ratio, on a log scale."""
        return "" if self.scale == "log" else "points" if self.unit == "%" else self.unit

    @property
    def tolerance(self) -> float | None:
        """The margin on the scale of :meth:`compared`: differences under it do not matter."""
        return self.margin if self.margin is None or self.scale == "linear" else math.log1p(self.margin)

    def compared(self, values: np.ndarray) -> np.ndarray:
        """Returns the values as they are subtracted: themselves, or their logarithms; NaN stays. Raises MetricError."""
        import numpy as np

        numbers = np.asarray(values, float)
        if self.scale == "linear":
            return numbers
        if (numbers <= 0).any():
            lowest = float(np.nanmin(numbers))
            raise MetricError(f"{self.name}: a value on a log scale must be > 0, got {lowest:g}")
        return np.log(numbers)

    def is_better(self, one: float, other: float) -> bool:
        """Tells whether ``one`` is strictly better than ``other``; never where neither direction is."""
        return self.sign * one > self.sign * other

    def word(self, difference: float) -> str:
        """Calls a difference (or log ratio) ``better`` or ``worse``; ``higher`` or ``lower`` if neither is better."""
        if self.sign == 0:
            return "higher" if difference > 0 else "lower"
        return "better" if difference * self.sign > 0 else "worse"

    def problem(self, value: float) -> str | None:
        """Returns the rule that a recorded value breaks: a finite number in the range; None where it breaks none."""
        low, high = self.range
        if not math.isfinite(value):
            return f"{self.name} must be a finite number, got {value}"
        if (low is not None and value < low) or (high is not None and value > high):
            ends = ["" if end is None else f"{end:g}" for end in self.range]
            return f"{self.name} must lie in [{', '.join(ends)}], got {value!r}"
        return None


# Derived in the analysis from every row, and recorded in none: whether a trial trained.
TRAINED = Metric("trained", "higher", unit="%", range=(0, 1))


def lab_metrics(own: Mapping[str, Score] = {}, loss_unit: str = "nats") -> dict[str, Metric]:  # never changed
    """Returns every column of numbers of the laboratory's rows, by name; ``own`` are the scores of ``train.metric``.

    A score whose direction nobody declared is left out.
    """
    scores = {**CLASSIFICATION, **own}
    scores["loss"] = replace(scores["loss"], unit=loss_unit)
    found = [metric for name, score in scores.items() for metric in _of_score(name, score)]
    found += [_metric(name, score, "test") for name, score in MEASURES.items()]
    return {metric.name: metric for metric in found}


def _of_score(name: str, score: Score) -> list[Metric]:
    """Lists ``test_NAME``, ``dev_NAME``, and dev after one epoch and at the end; none if no direction is declared."""
    if score.better is None:
        return []
    margin = ACCURACY_MARGIN if name == "accuracy" else None
    splits: dict[str, Split] = {"test": "test", "dev": "dev", "first_epoch_dev": "dev", "final_dev": "dev"}
    return [replace(_metric(f"{start}_{name}", score, split), margin=margin) for start, split in splits.items()]


def _metric(name: str, score: Score, split: Split) -> Metric:
    assert score.better is not None
    return Metric(name, score.better, score.scale, score.unit, score.range, split=split)
