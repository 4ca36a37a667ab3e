"""Batches of images: selected, moved, resized and normalised on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.data.sets import Images, Splits
from lab.streams import generator


class Batches:
    """Iterates over ``(X, y)``: X ``(N, C, size, size)`` float, normalised, on the images' device.

    Signals and features keep their shape; only images are resized and augmented. What does not lie there is brought
    there batch by batch. With an ``order`` seed, each epoch has its own order and augmentation, drawn from streams
    that depend on nothing else; without, the images come as they stand. All images are used; a last batch of a single
    image is left out in training, since BatchNorm cannot normalise it.
    """

    def __init__(
        self,
        images: Images,
        splits: Splits,
        *,
        batch_size: int,
        size: int,
        order: int | None = None,
        augment: str = "none",
    ) -> None:
        self.images, self.batch_size = images, batch_size
        self.device = splits.mean.device
        self._order, self._augment = order, augment
        self._mean, self._inverse = splits.mean, 1 / splits.deviation
        native = images.images.shape[2:]
        resized = len(native) == 2 and native != (size, size)
        self._resize = [resize_matrix(n, size).to(self.device) for n in native] if resized else None
        self.set_epoch(0)

    def __len__(self) -> int:
        full, last = divmod(len(self.images), self.batch_size)
        smallest = 1 if self._order is None or not full else 2
        return full + (last >= smallest)

    def set_epoch(self, epoch: int) -> None:
        """Makes the next iteration that epoch."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        indices, moves = self._indices(), self._moves()
        for index, (images, labels) in zip(indices, self.images.read(indices, self.device), strict=True):
            if moves is not None:
                images = move(images, moves.index_select(0, index).to(self.device), self._reach)
            yield self.prepare(images), labels

    def _indices(self) -> Sequence[Tensor]:
        """Yields the indices of the epoch's batches, on the device of the labels."""
        if self._order is None:
            order = torch.arange(len(self.images))
        else:
            order = torch.randperm(len(self.images), generator=generator(self._order, "order", self._epoch))
        return order.to(self.images.labels.device).split(self.batch_size)[: len(self)]

    @property
    def _reach(self) -> int:
        """The largest shift in native pixels."""
        return max(1, self.images.images.shape[-1] // 8)

    def _moves(self) -> Tensor | None:
        """Returns ``(num_images, 3)``: rows down, columns right, mirrored or not; for each image of the epoch."""
        if self._augment == "none" or self._order is None:
            return None
        stream = generator(self._order, "augment", self._epoch)
        shifts = torch.randint(-self._reach, self._reach + 1, (len(self.images), 2), generator=stream)
        flips = torch.randint(0, 2, (len(self.images), 1), generator=stream)
        moves = torch.cat([shifts, flips * (self._augment == "flip_shift")], dim=1)
        return moves.to(self.images.labels.device)

    def prepare(self, images: Tensor) -> Tensor:
        """Turns native images into what the network takes: float, resized (antialiased bilinear), normalised."""
        X = (images.float() - self._mean).mul_(self._inverse)
        if self._resize is None:
            return X
        rows, columns = self._resize
        return rows @ (X @ columns.T)  # columns first: that product takes all images at once


def resize_matrix(native: int, size: int) -> Tensor:
    """Returns ``(size, native)``: antialiased bilinear resizing of one axis, which is linear, as a matrix.

    The weights are those of ``torch.nn.functional.interpolate``, read off by resizing the identity; two small matrix
    products then do what it does, several times faster on a CPU.
    """
    identity = torch.eye(native)[None, None]
    return F.interpolate(identity, size=(size, native), mode="bilinear", antialias=True, align_corners=False)[0, 0]


def move(images: Tensor, moves: Tensor, reach: int) -> Tensor:
    """Shifts each image ``(N, C, H, W)`` by whole pixels, with zeros moving in, then mirrors it.

    ``moves`` is ``(N, 3)``: rows down and columns right, each from ``-reach`` to ``reach``, and 1 to mirror, else 0.
    """
    num_images, channels, height, width = images.shape
    down, right, mirror = moves.unsqueeze(-1).unbind(1)
    columns = torch.arange(width, device=images.device)
    columns = torch.where(mirror == 1, columns.flip(0), columns) + reach - right
    rows = torch.arange(height, device=images.device) + reach - down
    pixel = rows.unsqueeze(-1) * (width + 2 * reach) + columns.unsqueeze(-2)
    padded = F.pad(images, [reach] * 4).flatten(2)
    return padded.gather(2, pixel.view(num_images, 1, -1).expand(-1, channels, -1)).view_as(images)
