"""Ends all that a command started, also what left its group and its session."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Collection
from pathlib import Path

SET_CHILD_SUBREAPER = 36  # of prctl(2)


def adopt() -> set[int]:
    """Has orphans among this process's descendants become its children, where the system can; returns those it has."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1)
    return children()


def children() -> set[int]:
    """Returns the processes whose parent is this one; none where the system does not say."""
    try:
        return {int(pid) for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()}
    except OSError:
        return set()


def end_adopted(before: Collection[int]) -> None:
    """Kills the children that were not there before, and theirs, which become this process's, until none is left."""
    while new := children().difference(before):
        for pid in new:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in new:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
