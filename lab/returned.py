"""Checks what a user's code returns, where it returns: converted where that is exact, else an error that names both."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor


class ReturnedError(TypeError):
    """A user's function returned what cannot be used; the message names the function, the rule and what it gave."""


def number(value: object, source: object) -> float:
    """Reads a real number: of Python, of numpy, or a tensor or array of no dimensions; it may be NaN.

    ``source`` is the function that returned it, or its name. Raises :class:`ReturnedError`.
    """
    if type(value) is float:
        return value
    if isinstance(value, Tensor | np.ndarray | np.generic) and value.ndim == 0 and _is_real(value):
        return float(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53:
        return float(value)
    raise ReturnedError(f"{name_of(source)} must return a number, returned {described(value)}")


def finite(value: object, source: object, where: str = "") -> float:
    """Returns the same for a number that must be finite; ``where`` says when it was asked."""
    found = number(value, source)
    if not math.isfinite(found):
        raise ReturnedError(f"{name_of(source)} must return a finite number, returned {found}{where}")
    return found


def mean_loss(value: object, source: object) -> Tensor:
    """Returns the loss of a batch as a tensor of no dimensions; raises :class:`ReturnedError`."""
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.is_floating_point():
        rule = "must return the mean loss of the batch as one floating-point tensor"
        raise ReturnedError(f"{name_of(source)} {rule}, returned {described(value)}")
    return value if value.ndim == 0 else value.reshape(())


def with_gradient(loss: Tensor, source: object, outputs: Iterable[Tensor]) -> Tensor:
    """Returns the loss of a network's outputs, if training can follow it back; raises :class:`ReturnedError`."""
    if not loss.requires_grad:
        if not any(output.requires_grad for output in outputs):
            off = "" if torch.is_grad_enabled() else ": torch.set_grad_enabled(False) is in force"
            rule = "must return what depends on its parameters by operations of torch"
            raise ReturnedError(f"the network {rule}, returned tensors without gradient{off}")
        rule = "must return a loss that depends on the outputs by operations of torch"
        raise ReturnedError(f"{name_of(source)} {rule}, returned a tensor without gradient")
    return loss


def name_of(source: object) -> str:
    """Returns ``module:name`` of a function, a class or an object's class; text as it stands."""
    if isinstance(source, str):
        return source
    while isinstance(source, functools.partial):
        source = source.func
    named: Any = source if hasattr(source, "__qualname__") else type(source)
    return f"{named.__module__}:{named.__qualname__}"


def described(value: object) -> str:
    """Describes a value in short: ``a tensor of shape (8, 10) and type float32``, ``None``, ``the text 'good'``."""
    match value:
        case None | bool() | np.bool_():
            return str(value)
        case Tensor() | np.ndarray():
            kind = "a tensor" if isinstance(value, Tensor) else "an array"
            return f"{kind} of shape {tuple(value.shape)} and type {str(value.dtype).removeprefix('torch.')}"
        case str():
            return f"the text {value[:60]!r}"
        case _:
            text = " ".join(repr(value).split())
            return f"{type(value).__name__} {text if len(text) <= 60 else f'{text[:57]}...'}"


def _is_real(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.dtype != torch.bool and not value.is_complex()
    return value.dtype.kind in "iuf"
