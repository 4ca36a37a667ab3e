"""Counts of one model: parameters and multiply-accumulates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from lab.models import Conv2d


@dataclass
class Macs:
    """Multiply-accumulates of a forward pass in matrix products, convolutions, attention and recurrent layers.

    ``forward`` is the count that others report: a convolution has all its taps at every pixel of its output, padding
    included, and attention no mask. ``computed`` leaves out what a built-in network does not compute, because it would
    meet padding alone.
    """

    forward: int = 0
    computed: int = 0

    def per_image(self, num_images: int) -> Macs:
        return Macs(self.forward // num_images, self.computed // num_images)


def count_parameters(model: nn.Module) -> int:
    """Numbers that training can change."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count_macs(model: nn.Module, in_channels: int, size: int) -> Macs:
    """Counts the multiply-accumulates of one image's forward pass, in evaluation mode."""
    parameter = next(model.parameters())
    X = torch.zeros(1, in_channels, size, size, device=parameter.device, dtype=parameter.dtype)
    training = model.training
    model.eval()
    with torch.no_grad(), counting_macs(model) as macs:
        model.forward(X)  # not model(X): counting through torch.compile would switch compilation off for good
    model.train(training)
    return macs


@contextmanager
def counting_macs(model: nn.Module) -> Iterator[Macs]:
    """Counts what passes through the model within: the numbers stand when the block has ended."""
    macs, left_out = Macs(), [0]

    def note(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(layer, Conv2d)
        left_out[0] += layer.macs_left_out(inputs[0])

    with ExitStack() as stack:
        for layer in model.modules():
            if isinstance(layer, Conv2d):
                stack.callback(layer.register_forward_pre_hook(note).remove)
        fused = torch.backends.mha.get_fastpath_enabled()
        stack.callback(torch.backends.mha.set_fastpath_enabled, fused)
        torch.backends.mha.set_fastpath_enabled(False)  # one operation for a whole layer, which nobody counts
        counter = stack.enter_context(FlopCounterMode(display=False, custom_mapping=_uncounted()))
        yield macs
    macs.computed = counter.get_total_flops() // 2
    macs.forward = macs.computed + left_out[0]


def _uncounted() -> dict[Any, Callable[..., int]]:
    """Returns what torch does not count of itself: operations, each with its FLOPs from the shapes of its inputs."""
    aten = torch.ops.aten
    known = {
        "_scaled_dot_product_flash_attention_for_cpu": lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        "mkldnn_rnn_layer": lambda X, inner, outer, *_, **__: 2 * prod(X[:-1]) * (prod(inner) + prod(outer)),
        "_cudnn_rnn": lambda X, kept, *_, **__: 2 * prod(X[:-1]) * sum(prod(one) for one in kept if len(one) == 2),
        "_trilinear": lambda a, weight, b, *_, **__: 2 * a[0] * prod(weight),
        "mv": lambda matrix, *_, **__: 2 * prod(matrix),
        "dot": lambda vector, *_, **__: 2 * prod(vector),
    }
    return {getattr(aten, name): count for name, count in known.items() if hasattr(aten, name)}
