"""Memory that runs out, however that is told, and memory that is given back. Free of torch where that is not in use."""

from __future__ import annotations

import ctypes
import errno
import gc
import sys

from lab.limits import kills


def is_out_of_memory(error: BaseException, kills_before: int) -> bool:
    """Tells whether host or device had no room: torch has no one type for it.

    Where a process that reads ahead for the trial is killed for it, torch says only that it was killed.
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
        return kills() > kills_before
    torch = sys.modules.get("torch")
    words = ("out of memory", "not enough memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError) if torch else MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def release_memory() -> None:
    """Frees what the ended trial held, before the next one starts."""
    gc.collect()
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):  # glibc's
        library.malloc_trim(0)  # what is free between two that are not goes back to the system, too
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
