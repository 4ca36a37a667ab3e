"""Mean and deviation of the pixels of a channel."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from lab.data.image_files import ImageFiles

ROUNDING = 1e-7  # of float32, relative to the mean: what varies by less is constant


def moments(images: Tensor | ImageFiles) -> tuple[Tensor, Tensor]:
    """Returns the mean and deviation over all pixels of a channel, each ``(C, 1, 1)``, computed in float64.

    Of signals ``(C, 1)``, of features ``(F,)``. A channel that does not vary is only centred: its deviation is 1.
    """
    if images.dtype == torch.uint8:  # by counts of the 256 values: exact, whatever the pieces
        pieces: Iterable[Tensor] = images.pieces() if isinstance(images, ImageFiles) else [images]
        counts = [torch.stack([_counts(channel) for channel in piece.unbind(1)]) for piece in pieces]
        channels = [_moments_of_counts(count) for count in torch.stack(counts).sum(0)]
    else:
        assert isinstance(images, Tensor)
        channels = [_moments_of_floats(channel) for channel in images.unbind(1)]
    shape = (2, -1) + (1,) * (len(images.shape) - 2)
    mean, deviation = torch.tensor(channels).T.reshape(shape)
    deviation[deviation <= ROUNDING * mean.abs()] = 1
    return mean, deviation


def _counts(pixels: Tensor) -> Tensor:
    return torch.bincount(pixels.flatten(), minlength=256)


def _moments_of_counts(counts: Tensor) -> tuple[float, float]:
    weights, values = counts.double(), torch.arange(256, dtype=torch.float64)
    mean = float(weights @ values / weights.sum())
    return mean, math.sqrt(weights @ (values - mean).square() / weights.sum())


def _moments_of_floats(pixels: Tensor) -> tuple[float, float]:
    variance, average = torch.var_mean(pixels.double(), correction=0)
    return float(average), math.sqrt(variance)
