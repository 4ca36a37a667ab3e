"""User code that is imported only to be looked at: the process that looks stays as it was, and alive."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import TextIO

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGCHLD")
_said: list[TextIO] = []  # where output goes meanwhile, the innermost last


@contextlib.contextmanager
def visiting() -> Iterator[None]:
    """Keeps what user code does on import from this process.

    It sees no command line, prints nowhere, and environment, folder, warnings and signal handlers are put back.
    Processes that it started and that nobody ends at the exit are killed.
    """
    before = dict(os.environ), Path.cwd(), sys.argv, _handlers(), _children()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file, warnings.catch_warnings():
        sys.argv = sys.argv[:1]
        _said.append(file)
        try:
            with output_to(file):
                yield
        finally:
            _said.pop()
            environment, folder, sys.argv, handlers, children = before
            restore_environment(environment)
            os.chdir(folder)
            _restore_handlers(handlers)
            for process in _children() - children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def is_visiting() -> bool:
    return bool(_said)


def last_words() -> str:
    """Returns the last line that user code printed meanwhile: where it ends itself, that often says why."""
    if not _said:
        return ""
    with contextlib.suppress(OSError, ValueError):
        _said[-1].flush()
        _said[-1].seek(0)
        return next((line.strip() for line in reversed(_said[-1].read().splitlines()) if line.strip()), "")
    return ""


def survives(module: str, with_torch: bool = True) -> str | None:
    """Imports a module in a fork of this process; says how that ended the fork, if it did, else None.

    An import that only raises is told by the real one.
    """
    if not hasattr(os, "fork"):
        return None
    if with_torch:
        importlib.import_module("torch")  # here, or both would wait for it
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):  # also what would end an interpreter in order
            os.setsid()
            importlib.import_module(module)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    if os.WIFSIGNALED(status):
        return f"it ended the process by {signal.Signals(os.WTERMSIG(status)).name}"
    code = os.waitstatus_to_exitcode(status)
    return f"it ended the process with exit code {code}" if code else None


@contextlib.contextmanager
def output_to(file: TextIO) -> Iterator[None]:
    """Sends standard output and error to an open file meanwhile, those of C code and child processes included."""
    kept = os.dup(1), os.dup(2)
    try:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            yield
    finally:
        for old, new in zip(kept, (1, 2), strict=True):
            os.dup2(old, new)
            os.close(old)


def restore_environment(wanted: dict[str, str]) -> None:
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update({name: value for name, value in wanted.items() if os.environ.get(name) != value})


def _handlers() -> dict[int, object]:
    return {number: signal.getsignal(number) for name in SIGNALS if (number := getattr(signal, name, None)) is not None}


def _restore_handlers(wanted: dict[int, object]) -> None:
    for number, handler in wanted.items():
        if handler is not None and signal.getsignal(number) != handler:
            with contextlib.suppress(ValueError):  # a thread may not
                signal.signal(number, handler)  # type: ignore[arg-type]  # it came from getsignal


def _children() -> set[int]:
    """Processes that this one started, but for those that Python itself ends at its exit."""
    found: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found |= set(map(int, task.read_text().split()))
    servers = {forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid}  # type: ignore[attr-defined]
    return found - servers - {child.pid for child in multiprocessing.active_children() if child.daemon}
