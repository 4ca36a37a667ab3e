"""Where training stands, and how it may end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from lab.result import Evaluation


class Diverged(ArithmeticError):  # noqa: N818  # an outcome, not an error
    """The training loss, or the loss on dev after it, is no longer a finite number."""


class Undefined(ArithmeticError):  # noqa: N818  # an outcome, not an error
    """A score is not a finite number, although the loss is."""


class Interrupted(Exception):  # noqa: N818  # a request, not an error
    """Training was asked to stop; the Runner's state says where it stands."""


@dataclass
class TrainingProgress:
    """Where training stands: everything, beside weights and optimizer, that resuming from here needs."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    images: int = 0
    train_seconds: float = 0.0
    curve: list[Evaluation] = field(default_factory=list)
    select: str = "dev_accuracy"
    sign: int = 1  # -1 where the lowest value of the selecting score is the best

    @property
    def best(self) -> Evaluation | None:
        """The evaluation with the best selecting score, the earliest of equals; None where none has a finite one.

        Never one after the loss diverged.
        """
        sound = [point for point in self.curve if point.step == 0 or is_sound(point)]
        known = [point for point in sound if math.isfinite(point.scores[self.select])]
        return max(known, key=lambda point: (self.sign * point.scores[self.select], -point.step), default=None)


def is_sound(point: Evaluation) -> bool:
    """Tells whether training and dev loss are finite numbers."""
    return math.isfinite(point.train_loss) and math.isfinite(point.scores["dev_loss"])


@dataclass(frozen=True)
class SplitResult:
    """The result of one pass over a split: scores by name; for each example its loss, and whether it was right.

    Of float targets ``squares`` has the squared error of each example.
    """

    scores: dict[str, float]
    losses: Tensor | None
    correct: Tensor | None
    squares: Tensor | None = None
