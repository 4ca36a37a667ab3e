"""Regression: losses and errors of outputs ``(N, K)`` against float targets ``(N, K)``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

LOSSES: dict[str, Callable[..., Tensor]] = {"mse": mse_loss, "l1": l1_loss}


def is_loss(loss: object) -> bool:
    """Tells whether ``train.loss`` names one of :data:`LOSSES`; a loss with settings is a mapping."""
    return isinstance(loss, str) and loss in LOSSES


def like_targets(outputs: Tensor, targets: Tensor) -> Tensor:
    """Reshapes outputs like the targets; ``(N,)`` goes with ``(N, 1)``, which broadcasting would make ``(N, N)``.

    Raises ValueError where they are of other shapes.
    """
    if outputs.ndim == 1 and targets.shape == (len(outputs), 1):
        return outputs[:, None]
    if outputs.shape != targets.shape:
        shapes = f"{tuple(targets.shape)}, got {tuple(outputs.shape)}"
        raise ValueError(f"the network must give one output per target, {shapes}")
    return outputs


def mean_error(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns the loss ``mse`` or ``l1``: the mean over examples and targets."""
    return lambda outputs, targets: LOSSES[name](like_targets(outputs, targets), targets)


def example_error(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns the same for each example, ``(N,)``."""
    return lambda outputs, targets: LOSSES[name](like_targets(outputs, targets), targets, reduction="none").mean(1)


class Errors:
    """Keeps the errors of a regression on each target; gives every built-in score of a regression at once."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._errors: list[Tensor] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Adds a batch: outputs and targets ``(N, K)``."""
        self._errors.append(like_targets(outputs.float(), targets) - targets)

    def scores(self) -> dict[str, float]:
        """Returns the root mean square error and mean absolute error over all targets, in the targets' unit."""
        errors = torch.cat(self._errors).cpu().numpy().astype(np.float64)
        return {"rmse": float(np.sqrt(np.mean(errors**2))), "mae": float(np.mean(np.abs(errors)))}

    def squares(self) -> Tensor:
        """Returns ``(N,)``: the mean squared error of each example."""
        return torch.cat(self._errors).square().mean(dim=1)
