"""New lines of a file that others write."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

CHUNK = MOST_LINE = 1 << 20  # bytes; what is longer than a line of ours can be is left out


@dataclass
class Tail:
    """Reads whole lines of a file as they come; never through a symbolic link, and never what is no plain file.

    At first, and where the file was replaced or cut, only the last ``most`` bytes after the header, if it has one.
    """

    path: Path
    most: int | None = None
    has_header: bool = True
    header: bytes = b""
    _inode: int = 0
    _offset: int = 0
    _rest: bytes = b""
    _stamp: tuple[int, int] = field(default=(0, 0))

    def read(self) -> tuple[bool, list[bytes]]:
        """Returns whether the lines begin anew, and the lines that came since the last call."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            gone, self._inode, self._offset, self._rest = self._inode != 0, 0, 0, b""
            return gone, []
        try:
            return self._read(descriptor)
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int) -> tuple[bool, list[bytes]]:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return False, []
        anew = status.st_ino != self._inode or status.st_size < self._offset
        if anew:
            self._begin(descriptor, status.st_ino, status.st_size)
        data = self._rest
        while chunk := os.pread(descriptor, CHUNK, self._offset):
            self._offset += len(chunk)
            data += chunk
        whole, _, self._rest = data.rpartition(b"\n")
        self._rest = self._rest[:MOST_LINE]
        return anew, whole.split(b"\n") if whole else []

    def _begin(self, descriptor: int, inode: int, size: int) -> None:
        """Goes to where the lines to be read begin: after the header, or after the line that ``most`` cuts."""
        self._inode, self._offset, self._rest, self.header = inode, 0, b"", b""
        if self.has_header:
            start = os.pread(descriptor, CHUNK, 0)
            end = start.find(b"\n") + 1
            if end == 0:
                self._inode = 0  # not there yet: read again
                self._offset = size
                return
            self.header, self._offset = start[: end - 1], end
        if self.most is not None and size - self._offset > self.most:
            cut = os.pread(descriptor, CHUNK, size - self.most)
            self._offset = size - self.most + cut.find(b"\n") + 1
