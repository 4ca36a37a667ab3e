"""Image files that stay on the disk: read by a DataLoader's processes when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

WORTH_A_PROCESS = 1000  # files; fewer are read in less time than it takes to start one


class ImageFiles(Dataset[Tensor]):
    """Colour images of one size; stands in :class:`lab.data.Images` where a tensor ``(N, 3, H, W)`` uint8 would."""

    dtype = torch.uint8

    def __init__(self, paths: Sequence[str], height: int, width: int) -> None:
        self.paths = np.asarray(paths)  # not a list: its strings would be copied into each process, one by one
        self.shape = torch.Size((len(self.paths), 3, height, width))

    def __getitem__(self, index: int) -> Tensor:
        """One image ``(3, H, W)``."""
        from PIL import Image

        with Image.open(self.paths[index]) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)

    def index_select(self, dim: int, index: Tensor) -> ImageFiles:
        """Those files, still unread; ``dim`` must be 0, as it is where a tensor stands."""
        return ImageFiles(self.paths[index.numpy()], *self.shape[2:])

    def to(self, device: torch.device) -> ImageFiles:
        return self

    def read(self, indices: Sequence[Tensor], *, pin_memory: bool = False) -> Iterator[Tensor]:
        """For each of the indices a batch ``(n, 3, H, W)``; as many processes read ahead as torch has threads."""
        sampler = [index.tolist() for index in indices]
        num_workers = torch.get_num_threads() if sum(map(len, sampler)) >= WORTH_A_PROCESS else 0
        yield from DataLoader(
            self,
            batch_sampler=sampler,
            num_workers=num_workers,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # it draws a seed, which must not be the network's to miss
        )

    def pieces(self) -> Iterator[Tensor]:
        """Every image, a few at a time."""
        return self.read(torch.arange(len(self.paths)).split(64))

    def all(self) -> Tensor:
        """Every image, in memory."""
        return torch.cat(list(self.pieces()))


def size_of(path: str) -> tuple[int, int]:
    """Width and height, from the file's head."""
    from PIL import Image

    with Image.open(path) as image:
        return image.size
