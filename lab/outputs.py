"""Finds the logits in what a network returns: one tensor, or several in a tuple, a mapping or a dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Loss = Callable[[Any, Tensor], Tensor]


def tensors_of(output: object) -> Iterator[Tensor]:
    """Yields all tensors in an output, in order, whatever they are wrapped in."""
    if isinstance(output, Tensor):
        yield output
    else:
        for part in _parts(output).values():
            yield from tensors_of(part)


def logits_of(output: object, num_images: int, num_classes: int | None = None) -> Tensor:
    """Finds the logits in an output: the tensor that it is, else the one named ``logits``, else the first that fits.

    That is the first tensor of shape ``(num_images, num_classes)``, of any two-dimensional one where ``num_classes`` is
    not known. Raises ValueError in words where there is none.
    """
    if isinstance(output, Tensor):
        return output
    named = _parts(output).get("logits")
    if isinstance(named, Tensor):
        return named
    found = _candidates(output, num_images, num_classes)
    if not found:
        raise ValueError(f"the network must return {_rule(num_images, num_classes)}, returned {described(output)}")
    return found[0]


def check_logits(logits: Tensor, num_images: int) -> None:
    """Raises ValueError for a tensor that holds no score of each class for each image."""
    dense = logits.layout is torch.strided and not logits.is_complex()
    if not dense or logits.ndim != 2 or len(logits) != num_images:
        raise ValueError(f"the network must return {_rule(num_images, None)}, returned {described(logits)}")


def on_logits(loss: Callable[[Tensor, Tensor], Tensor], num_classes: int | None = None) -> Loss:
    """Returns a loss of logits, for a network that wraps them; ValueError where it returns several and names none."""

    def of_output(output: object, y: Tensor) -> Tensor:
        if not isinstance(output, Tensor):
            found = [] if "logits" in _parts(output) else _candidates(output, len(y), num_classes)
            if len(found) > 1:
                rule = "the loss of train.loss takes one tensor of logits and would train the first alone"
                how = "name the one `logits`, or name a loss of your own, which gets all that the network returns"
                raise ValueError(f"{rule}, the network returned {described(output)}: {how}")
            output = logits_of(output, len(y), num_classes)
        short = output.ndim == 2 and output.shape[1] < (num_classes or 0)
        if not y.is_floating_point() and (output.ndim != y.ndim + 1 or len(output) != len(y) or short):
            raise ValueError(f"the network must return {_rule(len(y), num_classes)}, returned {described(output)}")
        return loss(output, y)

    return of_output


def described(output: object) -> str:
    """Returns ``tuple of (32, 10) float32, (32, 5) float32``."""
    kind = type(output).__name__
    if isinstance(output, Tensor):
        layout = "" if output.layout is torch.strided else f", {str(output.layout).removeprefix('torch.')}"
        return f"{tuple(output.shape)} {str(output.dtype).removeprefix('torch.')}{layout}"
    inside = ", ".join(described(one) for one in tensors_of(output))
    return f"{kind} of {inside}" if inside else f"{kind} without a tensor"


def _candidates(output: object, num_images: int, num_classes: int | None) -> list[Tensor]:
    def fits(one: Tensor) -> bool:
        return one.ndim == 2 and len(one) == num_images and num_classes in (None, one.shape[1])

    return [one for one in tensors_of(output) if fits(one)]


def _rule(num_images: int, num_classes: int | None) -> str:
    shape = f"({num_images}, {num_classes or 'num_classes'})"
    return f"logits of shape {shape}: as a tensor, as the entry or field `logits`, or in a tuple, mapping or dataclass"


def _parts(output: object) -> Mapping[Any, Any]:
    """Takes an output apart, by name or position; nothing where it is no container."""
    if isinstance(output, Mapping):
        return output
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return dict(zip(output._fields, output, strict=True))
    return dict(enumerate(output)) if isinstance(output, tuple | list) else {}
