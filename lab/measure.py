"""Counts of one model: parameters and multiply-accumulates."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """Numbers that training can change."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def forward_macs(model: nn.Module, in_channels: int, size: int) -> int:
    """Multiply-accumulates of one image's forward pass in matrix products and convolutions, as torch counts them."""
    parameter = next(model.parameters())
    X = torch.zeros(1, in_channels, size, size, device=parameter.device, dtype=parameter.dtype)
    training = model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.forward(X)  # not model(X): counting through torch.compile would switch compilation off for good
    model.train(training)
    return counter.get_total_flops() // 2
