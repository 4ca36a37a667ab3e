"""Image files that stay on the disk: read by a DataLoader's processes when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lab.data.errors import DataError
from lab.limits import has_shared_memory

ORIENTATION = 0x0112  # the field of Exif that says how a camera was held
LYING = (5, 6, 7, 8)  # its values for images that lie on a side

if TYPE_CHECKING:
    from PIL.Image import Image

WORTH_A_PROCESS = 1000  # files; fewer are read in less time than it takes to start one


class ImageFiles(Dataset[Tensor | DataError]):
    """Colour images of one size; stands in :class:`lab.data.Images` where a tensor ``(N, 3, H, W)`` uint8 would.

    With ``resize`` an image of another size is stretched to it, bilinearly and antialiased.
    """

    dtype = torch.uint8

    def __init__(self, root: str, paths: Sequence[str], height: int, width: int, resize: bool = False) -> None:
        self.root = root  # the data set's folder, which the paths lead through
        self.paths = np.asarray(paths)  # not a list: its strings would be copied into each process, one by one
        self.shape = torch.Size((len(self.paths), 3, height, width))
        self._resize = resize

    def __getitem__(self, index: int) -> Tensor | DataError:
        """Reads one image ``(3, H, W)``; returns its error, which would lose its words if raised in another process."""
        try:
            return read_image(self.paths[index], self.shape[2], self.shape[3], self._resize)
        except DataError as error:
            return error

    def index_select(self, dim: int, index: Tensor) -> ImageFiles:
        """Returns those files, still unread; ``dim`` must be 0, as it is where a tensor stands."""
        return ImageFiles(self.root, self.paths[index.numpy()], self.shape[2], self.shape[3], self._resize)

    def to(self, device: torch.device) -> ImageFiles:
        return self

    def read(self, indices: Sequence[Tensor], *, pin_memory: bool = False) -> Iterator[Tensor]:
        """Yields a batch ``(n, 3, H, W)`` per item of indices; as many processes read ahead as torch has threads.

        Raises :class:`DataError` at an image that cannot be read.
        """
        sampler = [index.tolist() for index in indices]
        num_workers = torch.get_num_threads() if sum(map(len, sampler)) >= WORTH_A_PROCESS else 0
        in_flight = (2 * num_workers + 2) * max(map(len, sampler), default=0) * math.prod(self.shape[1:])
        loader = DataLoader(
            self,
            batch_sampler=sampler,
            num_workers=num_workers,
            pin_memory=pin_memory,
            collate_fn=_stack if has_shared_memory(in_flight) else _stack_in_array,
            generator=torch.Generator(),  # it draws a seed, which must not be the network's to miss
        )
        for batch in loader:
            if isinstance(batch, DataError):
                raise batch
            yield torch.from_numpy(batch) if isinstance(batch, np.ndarray) else batch

    def pieces(self) -> Iterator[Tensor]:
        """Returns every image, a few at a time."""
        return self.read(torch.arange(len(self.paths)).split(64))

    def all(self) -> Tensor:
        """Returns every image, in memory."""
        return torch.cat(list(self.pieces()))


def _stack(images: list[Tensor | DataError]) -> Tensor | DataError:
    """Returns a batch, or the first image's error."""
    tensors = [image for image in images if isinstance(image, Tensor)]
    errors = [image for image in images if isinstance(image, DataError)]
    return errors[0] if errors else torch.stack(tensors)


def _stack_in_array(images: list[Tensor | DataError]) -> np.ndarray | DataError:
    """A batch as an array, which goes through a pipe: a tensor's memory would be shared; or the first image's error."""
    stacked = _stack(images)
    return stacked if isinstance(stacked, DataError) else stacked.numpy()


def read_image(path: str, height: int, width: int, resize: bool = False) -> Tensor:
    """Reads ``(3, H, W)`` uint8, upright; raises :class:`DataError` unless it is an image of that size and 8 bits."""
    from PIL.Image import Resampling
    from PIL.ImageOps import exif_transpose

    with _opened(path) as image:
        if problem := _problem(image):
            raise DataError(f"{path}: {problem}")
        colours: Image = image.convert("RGBA") if image.has_transparency_data else image  # opaque, all of it
        colours = colours.convert("RGB")
        exif_transpose(colours, in_place=True)
        if resize and colours.size != (width, height):
            colours = colours.resize((width, height), Resampling.BILINEAR)
        if colours.size != (width, height):
            sizes = f"{width} x {height}, got {colours.width} x {colours.height}"
            raise DataError(f"{path}: images must be of one size, {sizes}")
        return torch.from_numpy(np.array(colours)).permute(2, 0, 1)


def _problem(image: Image) -> str | None:
    """Says why an image cannot be read as colours of 8 bits without a guess."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a camera's, with a preview beside the image
        return f"has {frames} frames: must be a single image, so take the frames apart"
    if image.mode[0] in "IF" or ";16" in str(getattr(image, "tile", "")):
        kind = f"has pixels of more than 8 bits (mode {image.mode})"
        return f"{kind}, which would be cut: give such images as an .npz file, or as 8 bits"
    if image.has_transparency_data and min(image.convert("RGBA").getchannel("A").tobytes()) < 255:
        return "has transparent pixels, whose colour is not told: put it on a background first"
    return None


def size_of(path: str) -> tuple[int, int]:
    """Returns the width and height, upright, from the file's head; raises :class:`DataError` where it has none."""
    with _opened(path) as image:
        turned = "exif" in image.info and image.getexif().get(ORIENTATION) in LYING
        return (image.height, image.width) if turned else image.size


@contextmanager
def _opened(path: str) -> Iterator[Image]:
    """Opens the image; whatever Pillow raises of a broken one becomes a :class:`DataError` that names the file."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = "is not an image that can be read" if isinstance(error, Image.UnidentifiedImageError) else error
        raise DataError(f"{path}: cannot be read as an image: {reason}") from error
