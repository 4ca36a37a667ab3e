"""Standard streams that are closed, or that take no more: a disk without room, a pipe that nobody reads any longer."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, TextIO


def open_closed() -> None:
    """Opens the null device in place of each standard stream that is closed: another file would take its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class Output:
    """Standard output that no command fails of: once it takes no more, what is printed goes nowhere.

    ``error`` is why it takes no more.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self, error: OSError) -> None:
        self.error = error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if error.errno != errno.EPIPE:
            print(f"standard output cannot be written: {error.strerror}; the command goes on", file=sys.stderr)
