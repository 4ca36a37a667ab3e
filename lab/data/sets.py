"""Data sets as published, and the splits of a trial: tensors on the device, as they came."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lab import device as devices
from lab.data.errors import DataError
from lab.data.image_files import ImageFiles

# What a data set holds, and the axes of one example.
AXES = {"images": ("C", "H", "W"), "signals": ("C", "L"), "features": ("F",)}


def shape_of(word: str) -> str:
    """Returns the shape of an array of such examples, in words: ``images (N, C, H, W)``."""
    return f"{word} ({', '.join(('N', *AXES[word]))})"


@dataclass(frozen=True, eq=False)
class Images:
    """Images ``(N, C, H, W)`` uint8 (or float, already scaled as wished) with labels ``(N,)`` int64.

    Signals ``(N, C, L)`` or features ``(N, F)`` may stand in their place, and targets ``(N, K)`` float32 in that of the
    labels. They lie on the device of a trial where they fit, else in the host's memory, else on the disk.
    """

    images: Tensor | ImageFiles
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def word(self) -> str:
        """``images``, ``signals`` or ``features``."""
        return next(word for word, axes in AXES.items() if len(axes) == len(self.images.shape) - 1)

    def __getitem__(self, index: Tensor) -> Images:
        return Images(self.images.index_select(0, index), self.labels.index_select(0, index))

    def to(self, device: torch.device) -> Images:
        return Images(self.images.to(device), self.labels.to(device))

    def settle(self, device: torch.device) -> Images:
        """Puts the images on the device if they fit there, else leaves them as they are."""
        num_bytes = math.prod(self.images.shape) * self.images.dtype.itemsize
        return self.to(device) if devices.fits(num_bytes, device) else self

    def read(self, indices: Sequence[Tensor], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields a batch's images and labels, on the device, per item of ``indices``, which lie where the labels do."""
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
    """A data set as published: its own training and test images; ``num_classes`` is the width of targets as well."""

    train: Images
    test: Images
    num_classes: int


@dataclass(frozen=True, eq=False)
class Splits:
    """The images of a trial on its device, and the mean and deviation ``(C, 1, 1)`` of the training split's pixels.

    Signals have them per channel, ``(C, 1)``, features per feature, ``(F,)``.
    """

    train: Images
    dev: Images
    test: Images
    num_classes: int
    mean: Tensor
    deviation: Tensor
    digests: Mapping[str, str] = field(default_factory=dict)  # train_digest, dev_digest, test_digest

    @property
    def in_channels(self) -> int:
        """The number of channels, or of features."""
        return self.mean.shape[0]

    def check_digests(self, expected: Mapping[str, str]) -> None:
        """Raises :class:`DataError` where the data are others than those that the driver of the run read."""
        other = [name.removesuffix("_digest") for name, was in expected.items() if self.digests.get(name) != was]
        if other:
            rule = f"{', '.join(other)} of this process and of the run's start hold other examples"
            raise DataError(f"the data are not repeatable: {rule}; whatever draws or orders them needs a fixed seed")

    @property
    def dims(self) -> int:
        """The axes beside the channels: 2 for images, 1 for signals, 0 for features."""
        return self.mean.ndim - 1

    @property
    def is_regression(self) -> bool:
        """Whether the labels are targets ``(N, K)``, not classes."""
        return self.train.labels.is_floating_point()
