"""Data sets as published, and the splits of a trial: tensors on the device, as they came."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lab import device as devices
from lab.data.image_files import ImageFiles


class DataError(ValueError):
    """A data set cannot be had; the message says where it was looked for and how to get it."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images ``(N, C, H, W)`` uint8 (or float, already scaled as wished) with labels ``(N,)`` int64.

    They lie on the device of a trial where they fit, else in the host's memory, else on the disk.
    """

    images: Tensor | ImageFiles
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> Images:
        return Images(self.images.index_select(0, index), self.labels.index_select(0, index))

    def to(self, device: torch.device) -> Images:
        return Images(self.images.to(device), self.labels.to(device))

    def settle(self, device: torch.device) -> Images:
        """On the device if they fit there, else as they are."""
        num_bytes = math.prod(self.images.shape) * self.images.dtype.itemsize
        return self.to(device) if devices.fits(num_bytes, device) else self

    def read(self, indices: Sequence[Tensor], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of a batch, on the device, for each of the indices, which lie on that of the labels."""
        if isinstance(self.images, ImageFiles):
            pieces = self.images.read(indices, pin_memory=device.type == "cuda")
        else:
            pieces = (self.images.index_select(0, index) for index in indices)
        for index, images in zip(indices, pieces, strict=True):
            labels = self.labels.index_select(0, index)
            there = images.device == device
            yield (images, labels) if there else (devices.transfer(images, device), devices.transfer(labels, device))


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set as published: its own training and test images."""

    train: Images
    test: Images
    num_classes: int


@dataclass(frozen=True, eq=False)
class Splits:
    """The images of a trial on its device, and the mean and deviation ``(C, 1, 1)`` of the training split's pixels."""

    train: Images
    dev: Images
    test: Images
    num_classes: int
    mean: Tensor
    deviation: Tensor

    @property
    def in_channels(self) -> int:
        return self.mean.shape[0]
