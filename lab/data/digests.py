"""The identity of data: a digest of what they hold, the same on every machine."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from lab.data.image_files import ImageFiles

CONTENTS = 10**9  # bytes of image files whose contents count; of those after them, path and size alone
BLOCK = 2**20


def digest(inputs: Tensor | ImageFiles, labels: Tensor) -> str:
    """12 hex digits over the examples of a split, in their order.

    Of arrays: type, shape and bytes. Of image files: path below the data set's folder, size, and contents up to
    ``CONTENTS`` bytes in all; never a time, since machines share results. The sha256 is over the check sums (CRC-32) of
    blocks: five times as fast as over the bytes themselves.
    """
    found = hashlib.sha256()
    for piece in _files(inputs) if isinstance(inputs, ImageFiles) else _array(inputs):
        found.update(piece)
    for piece in _array(labels):
        found.update(piece)
    return found.hexdigest()[:12]


def _array(tensor: Tensor) -> Iterator[bytes]:
    array = np.ascontiguousarray(tensor.numpy())
    yield f"{array.dtype.str}{array.shape}".encode()
    yield from _checksums(array.reshape(-1).view(np.uint8).data)


def _checksums(content: memoryview) -> Iterator[bytes]:
    for start in range(0, len(content), BLOCK):
        yield zlib.crc32(content[start : start + BLOCK]).to_bytes(4, "big")


def _files(files: ImageFiles) -> Iterator[bytes]:
    left = CONTENTS
    for name in files.paths:
        path = Path(name)
        size = path.stat().st_size
        yield f"{'/'.join(path.relative_to(files.root).parts)}:{size};".encode()
        if size <= left:
            left -= size
            yield from _checksums(memoryview(path.read_bytes()))
