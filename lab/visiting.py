"""User code that is only looked at is imported in a process of its own: the one that looks never runs a line of it.

What a module replaces, starts, prints or ends on import dies with that process; what is asked of it comes back as plain
data. Where a process cannot fork, or uses a card already, user code is imported here, and what can be put back is.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from pickle import dumps, loads  # by name: user code may have put others in their place
from typing import Any, TextIO, TypeVar

POLL_SECONDS = 0.05  # how soon it is seen that a process ended without an answer

T = TypeVar("T")


class PartError(ValueError):
    """An import path leads nowhere, or to something that cannot be called, or its code fails."""


@contextlib.contextmanager
def visiting() -> Iterator[None]:
    """Has what is :func:`asked` meanwhile answered by another process; answers are kept until the next time."""
    if _visits:
        yield
        return
    _answers.clear()
    visit = _Visit() if _can_fork() else None
    _visits.append(visit)
    try:
        with contextlib.nullcontext() if visit else _guarded():
            yield
    finally:
        _visits.pop()
        if visit:
            visit.end()


def _can_fork() -> bool:
    """Tells whether a fork of this process can do all that it can: none may use a card that its parent uses."""
    torch = sys.modules.get("torch")
    return hasattr(os, "fork") and not (torch and torch.cuda.is_initialized())


def is_asked(function: Callable[..., object], path: str, *more: str) -> bool:
    """Tells whether another process answers, or has answered, what is :func:`asked`: nothing is imported here."""
    return any(_visits) or _key(function, path, more) in _answers


def asked(function: Callable[..., T], path: str, *more: str) -> T:
    """Calls a function that imports what is at ``path``: once per visit, in its process; outside of one, here.

    It answers with plain data and classes of the laboratory's; a ValueError of those is raised here, too. Raises
    :class:`PartError` where user code ends the process.
    """
    key = _key(function, path, more)
    if key not in _answers:
        visit = next(iter(_visits), None)
        if visit is None:
            return function(path, *more)
        _answers[key] = visit.ask(function, path, *more)
    answer = _answers[key]
    if isinstance(answer, ValueError):
        raise answer.with_traceback(None)
    return answer


def _key(function: Callable[..., object], path: str, more: tuple[str, ...]) -> tuple[Any, ...]:
    return Path.cwd(), function, path, more


def last_words() -> str:
    """Returns the last line that user code printed meanwhile: where it ends itself, that often says why."""
    if not _said:
        return ""
    with contextlib.suppress(OSError, ValueError):
        _said[-1].flush()
        _said[-1].seek(0)
        return next((line.strip() for line in reversed(_said[-1].read().splitlines()) if line.strip()), "")
    return ""


# --- the process that imports user code -----------------------------------------------------------------------------


class _Visit:
    """A fork of this process that answers questions: it starts at the first one, and again where user code ended it."""

    def __init__(self) -> None:
        self._process = 0
        self._connection: Connection | None = None

    def ask(self, function: Callable[..., Any], path: str, *more: str) -> Any:
        """Returns the answer, or the error that it raised."""
        connection = self._connection or self._start()
        with contextlib.suppress(BrokenPipeError):
            connection.send_bytes(dumps((function, path, *more)))
        try:
            while not connection.poll(POLL_SECONDS):
                if self._has_ended() and not connection.poll():  # what it started may hold its end of the pipe
                    raise EOFError
            return _Plain(BytesIO(connection.recv_bytes())).load()
        except (EOFError, ConnectionResetError):
            module, how = path.partition(":")[0], _words(self.end())
            return PartError(f"{path!r}: cannot import {module}: it ended the process {how}")
        except pickle.UnpicklingError as error:
            return PartError(f"{path!r}: cannot read its signature: {error}")

    def end(self) -> int:
        """Ends the process and what it started; returns the status it ended with. One that has ended keeps its own."""
        if self._connection is None:
            return 0
        self._connection.close()
        self._connection = None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self._process, signal.SIGKILL)
        _, status = os.waitpid(self._process, 0)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process, signal.SIGKILL)
        return status

    def _start(self) -> Connection:
        ours, theirs = Pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child needs none of them
            self._process = os.fork()
        if self._process == 0:
            try:
                ours.close()
                _answer(theirs)
            finally:  # whatever user code raises: nothing of the driver's may run here
                os._exit(1)
        theirs.close()
        self._connection = ours
        return ours

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self._process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class _Plain(pickle.Unpickler):
    """Reads plain data and classes of the laboratory's; another one's module would be imported for it."""

    def find_class(self, module: str, name: str) -> Any:
        if not module.startswith("lab."):
            raise pickle.UnpicklingError(f"holds {module}.{name}, which is no plain value")
        return super().find_class(module, name)


def _words(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"with exit code {os.waitstatus_to_exitcode(status)}"


def _answer(connection: Connection) -> None:
    """Answers questions until nobody is there to ask."""
    own = os.getpid()
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    with open(os.devnull) as nothing:  # noqa: PTH123  # a device, not a path
        os.dup2(nothing.fileno(), 0)
    with _guarded():
        while True:
            function, *args = loads(connection.recv_bytes())
            try:
                answer = function(*args)
            except ValueError as error:
                answer = error
            if os.getpid() != own:  # user code forked, and let both go on
                return
            connection.send_bytes(dumps(answer))


_said: list[TextIO] = []  # where output goes meanwhile
_visits: list[_Visit | None] = []  # the one under way; None: user code is imported here
_answers: dict[tuple[Any, ...], Any] = {}  # of the last visit, errors too


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    """User code sees no command line meanwhile, and prints nowhere; environment and folder are put back."""
    environment, folder, arguments = dict(os.environ), Path.cwd(), sys.argv
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file, warnings.catch_warnings():
        sys.argv = sys.argv[:1]
        _said.append(file)
        try:
            with output_to(file):
                yield
        finally:
            _said.pop()
            sys.argv = arguments
            restore_environment(environment)
            os.chdir(folder)


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
