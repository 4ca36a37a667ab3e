"""Scores of a whole split; nothing waits for the device before they are computed, once per evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lab.outputs import check_logits
from lab.regression import Errors
from lab.returned import ReturnedError, name_of, number
from lab.scores import Better, declared

Metric = Any  # an object with reset(), update(outputs, labels), and compute() or accumulate(), which give a number

NUM_BINS = 15  # of the calibration error, as in Guo et al. (2017)


class Accuracy:
    """Share of images whose largest logit is the label's; keeps which ones, so that cells can be compared by image."""

    better: ClassVar[Better] = "higher"

    def __init__(self) -> None:
        self._correct: list[Tensor] = []

    def reset(self) -> None:
        self._correct = []

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch: logits ``(N, num_classes)``, labels ``(N,)``; raises ValueError for another number of axes."""
        if logits.ndim != 2 or labels.ndim != 1:
            shapes = f"{tuple(logits.shape)} and labels {tuple(labels.shape)}"
            raise ValueError(f"accuracy needs logits (N, num_classes) and labels (N,), got logits {shapes}")
        self._correct.append(logits.argmax(dim=1) == labels)

    def accumulate(self) -> float:
        """Returns the accuracy as a fraction; raises ValueError where nothing was added."""
        correct = self.correct()
        return int(correct.sum()) / len(correct)

    def correct(self) -> Tensor:
        """Returns ``(num_images,)`` booleans in the order of the images; raises ValueError where nothing was added."""
        if not self._correct:
            raise ValueError("accuracy of no images: update() was never called")
        return torch.cat(self._correct)


# --- what is built in -----------------------------------------------------------------------------------------------


def accuracy(predicted: np.ndarray, labels: np.ndarray, confidence: np.ndarray) -> float:
    """Returns the share of images whose predicted class is the label's."""
    return int((predicted == labels).sum()) / len(labels)


def macro_f1(predicted: np.ndarray, labels: np.ndarray, confidence: np.ndarray) -> float:
    """Returns the mean over the classes that occur, as label or as prediction, of ``2 TP / (predicted + labelled)``."""
    size = int(max(predicted.max(), labels.max())) + 1
    right, given, there = (np.bincount(x, minlength=size) for x in (labels[predicted == labels], predicted, labels))
    occurs = given + there > 0
    return float(np.mean(2 * right[occurs] / (given + there)[occurs]))


def calibration_error(predicted: np.ndarray, labels: np.ndarray, confidence: np.ndarray) -> float:
    """Computes the expected calibration error, the mean of |accuracy - confidence| of bins (Guo et al. 2017)."""
    if not np.isfinite(confidence).all():
        return float("nan")
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    gaps = np.bincount(bins, (predicted == labels) - confidence.astype(np.float64))
    return float(np.abs(gaps).sum() / len(labels))


Score = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
CLASSIFICATION: dict[str, Score] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "calibration_error": calibration_error,
}


class Predictions:
    """Keeps a classifier's predictions, the class per image and how sure it was; gives every built-in score at once."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._predicted: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._confidence: list[Tensor] = []

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch: logits ``(N, num_classes)``, labels ``(N,)``; raises ValueError for what is no logits."""
        check_logits(logits, len(labels))
        predicted = logits.argmax(dim=1)
        self._predicted.append(predicted)
        self._labels.append(labels)
        self._confidence.append(logits.float().log_softmax(dim=1).gather(1, predicted[:, None])[:, 0])

    def scores(self) -> dict[str, float]:
        """Returns the scores by name."""
        predicted, labels = (torch.cat(part).cpu().numpy() for part in (self._predicted, self._labels))
        confidence = torch.cat(self._confidence).exp().cpu().numpy()
        return {name: score(predicted, labels, confidence) for name, score in CLASSIFICATION.items()}

    def correct(self) -> Tensor:
        """Returns ``(num_images,)`` booleans in the order of the images: which were predicted right."""
        return torch.cat(self._predicted) == torch.cat(self._labels)


class Scores:
    """All scores of a split: a user's ``metrics``, and those that follow from ``predictions`` or errors."""

    def __init__(self, metrics: Mapping[str, Metric], predictions: Predictions | Errors | None = None) -> None:
        self.metrics, self.predictions = dict(metrics), predictions
        self._all = [*self.metrics.values(), *([predictions] if predictions is not None else [])]

    def to(self, device: torch.device) -> None:
        """Moves those that hold tensors of their own, as torchmetrics' do."""
        for metric in self.metrics.values():
            if callable(move := getattr(metric, "to", None)):
                move(device)

    def reset(self) -> None:
        for metric in self._all:
            metric.reset()

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """Gives each a batch of its own, as what one of them writes into it must not reach the others."""
        for metric in self._all:
            metric.update(outputs.clone(), labels.clone())

    def values(self) -> dict[str, float]:
        """Computes the scores of all since the last reset; raises ReturnedError where a metric gives no number."""
        found = self.predictions.scores() if self.predictions is not None else {}
        return found | {name: in_range(computed(metric), metric) for name, metric in self.metrics.items()}

    def correct(self) -> Tensor | None:
        """Tells which images were predicted right, where something here knows."""
        for metric in self._all:
            if isinstance(metric, Accuracy | Predictions):
                return metric.correct()
        return None


def computed(metric: Metric) -> float:
    """Returns the value of a metric as a number; raises ReturnedError."""
    return number(getattr(metric, _last_step(metric))(), source_of(metric))


def in_range(value: float, metric: Metric) -> float:
    """Returns the value, if it lies in the range that the metric declares, or is NaN; raises ReturnedError."""
    low, high = declared(metric).range
    if (low is not None and value < low) or (high is not None and value > high):
        ends = ", ".join("" if end is None else f"{end:g}" for end in (low, high))
        raise ReturnedError(f"{source_of(metric)} must lie in [{ends}], as its class says, returned {value:g}")
    return value


def source_of(metric: Metric) -> str:
    """Names what gives the value of a metric: ``scores:Hits.compute()``."""
    return f"{name_of(type(metric))}.{_last_step(metric)}()"


def _last_step(metric: Metric) -> str:
    return "accumulate" if hasattr(metric, "accumulate") else "compute"


def check_metric(metric: Metric, name: str) -> Metric:
    """Returns the metric, if it has what one must have; raises TypeError that says what is missing."""
    missing = [method for method in ("reset", "update") if not callable(getattr(metric, method, None))]
    if not any(callable(getattr(metric, method, None)) for method in ("compute", "accumulate")):
        missing.append("compute (or accumulate)")
    if missing:
        rule = "must have reset, update, and compute or accumulate"
        raise TypeError(f"train.metric {name!r} {rule}; it lacks {', '.join(missing)}")
    return metric
