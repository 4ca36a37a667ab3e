"""The identity of data: a digest of what they hold, the same on every machine."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from lab.data.image_files import ImageFiles

CONTENTS = 10**9  # bytes of image files whose contents count; of those after them, path and size alone
LANES = 2**14  # 128 KiB at a time: it stays in the processor's cache
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no step forgets a bit


def digest(inputs: Tensor | ImageFiles, labels: Tensor) -> str:
    """Returns 12 hex digits of a sha256 over the examples of a split, in their order.

    Of arrays: type, shape and bytes (:func:`folded`). Of image files: path below the data set's folder, size, and the
    check sum of the contents, up to ``CONTENTS`` bytes in all; never a time, since machines share results.
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
    yield from folded(array.reshape(-1).view(np.uint8))


def folded(content: np.ndarray) -> Iterator[bytes]:
    """Yields the bytes ``(N,)`` as 128 KiB and a rest: a polynomial in each of 16,384 lanes of 64 bits, modulo 2**64.

    A change in one place always shows, two in one lane but for one chance in 2**64. Eight times as fast as sha256.
    """
    whole = len(content) - len(content) % (8 * LANES)
    lanes = np.zeros(LANES, np.uint64)
    for row in content[:whole].view("<u8").reshape(-1, LANES):
        np.multiply(lanes, MULTIPLIER, out=lanes)
        np.add(lanes, row, out=lanes)
    yield lanes.tobytes() if whole else b""
    yield content[whole:].tobytes()


def _files(files: ImageFiles) -> Iterator[bytes]:
    left, start = CONTENTS, len(str(Path(files.root, "x"))) - 1
    for path in files.paths.tolist():  # by as few calls of the system as it takes: there may be a million small files
        file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            size = os.fstat(file).st_size
            yield f"{path[start:].replace(os.sep, '/')}:{size};".encode("utf-8", "surrogateescape")
            if size <= left:
                left -= size
                content = os.read(file, size)
                while len(content) < size and (more := os.read(file, size - len(content))):
                    content += more
                yield zlib.crc32(content).to_bytes(4, "big")
        finally:
            os.close(file)
