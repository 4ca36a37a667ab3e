"""Metrics with reset, update and accumulate; nothing waits for the device before ``accumulate``."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Metric(Protocol):
    """A score of a whole split, higher is better."""

    def reset(self) -> None: ...

    def update(self, logits: Tensor, labels: Tensor) -> None: ...

    def accumulate(self) -> float: ...


class Accuracy:
    """Share of images whose largest logit is the label's; keeps which ones, so that arms can be compared by image."""

    def __init__(self) -> None:
        self._correct: list[Tensor] = []

    def reset(self) -> None:
        self._correct = []

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch: logits ``(N, num_classes)``, labels ``(N,)``."""
        self._correct.append(logits.argmax(dim=1) == labels)

    def accumulate(self) -> float:
        """The accuracy as a fraction; raises ValueError where nothing was added."""
        correct = self.correct()
        return int(correct.sum()) / len(correct)

    def correct(self) -> Tensor:
        """``(num_images,)`` booleans in the order of the images; raises ValueError where nothing was added."""
        if not self._correct:
            raise ValueError("accuracy of no images: update() was never called")
        return torch.cat(self._correct)
