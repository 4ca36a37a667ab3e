"""Figures are drawn beside tables and page, by another process and its twin where they can be forked.

It imports Matplotlib while findings are gathered here, which takes as long, and leaves every other figure to its twin.
Where none can be forked, or one ends before all figures are there, they are drawn here: an error is then said as any
other.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from bench.report.telling import Asked

Say = Callable[[str], None]


def draw(asked: Asked, say: Say, part: slice = slice(None)) -> None:
    """Draws the figures, or a ``part`` of them; ``say`` is told which, one after the other."""
    if not asked.titles:
        return
    from bench.report import canvas, figures
    from bench.report.lettering import lettered

    ending = f"-{asked.columns}-column" if asked.columns else ""
    with lettered(asked.letters):
        for number, (name, title) in [*enumerate(asked.titles.items(), 1)][part]:
            say(f"drawing figure {number} of {len(asked.titles)}: {title}")
            figure = figures.figure_of(asked, name)
            canvas.save(figure, asked.target / f"{name}{ending}", asked.columns)


@contextlib.contextmanager
def drawer(wanted: bool = True) -> Iterator[Drawer]:
    """Where this process can be forked, another stands ready to draw meanwhile, if one is ``wanted``."""
    found = Drawer(wanted and _can_fork())
    try:
        yield found
    finally:
        found.end()


class Drawer:
    """Draws while this process does something else, which then waits: :meth:`begin`, and then :meth:`finish`."""

    def __init__(self, is_forked: bool) -> None:
        self.process = 0
        self._connection = self._start() if is_forked else None

    def begin(self, asked: Asked) -> None:
        """Begins to draw, where another process can."""
        if self._connection and asked.titles:
            with self._ending():
                self._connection.send(asked)

    def finish(self, asked: Asked, say: Say) -> None:
        """Returns once all figures are there that were begun; ``say`` is told which, one after the other."""
        if self._connection and asked.titles:
            with self._ending():
                while (said := self._connection.recv()) is not None:
                    say(said)
                return
        draw(asked, say)

    def end(self) -> None:
        """Ends the other process, if there is one."""
        if self._connection:
            self._connection.close()
            self._connection = None
            os.killpg(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """Ends what is left of the other process if it has gone."""
        try:
            yield
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.end()

    def _start(self) -> Connection:
        ours, theirs = Pipe()
        self.process = os.fork()
        if self.process == 0:
            try:
                os.setpgid(0, 0)  # a group with its twin, which ends with it
                ours.close()
                _serve(theirs)
            finally:  # whatever is raised: nothing of the command may run here, and it draws itself what is missing
                os._exit(1)
        theirs.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):  # whichever of both comes first
            os.setpgid(self.process, self.process)
        return ours


def _can_fork() -> bool:
    """Tells whether this process has one thread, whose fork can do all that it can: elsewhere nobody knows."""
    threads = Path("/proc/self/task")
    return threads.is_dir() and len(list(threads.iterdir())) == 1


def _serve(connection: Connection) -> None:
    """Draws what is asked for until nobody is there to ask."""
    from bench.report import figures  # noqa: F401  # ahead: findings are being gathered

    while True:
        _draw_by_two(connection.recv(), connection.send)
        connection.send(None)


def _draw_by_two(asked: Asked, say: Say) -> None:
    if len(asked.titles) == 1 or not _can_fork():
        draw(asked, say)
        return
    twin = os.fork()
    if twin == 0:
        try:
            draw(asked, say, slice(1, None, 2))  # short messages of two are not mixed
            os._exit(0)
        finally:
            os._exit(1)
    draw(asked, say, slice(0, None, 2))
    if os.waitpid(twin, 0)[1]:
        raise ChildProcessError("the twin did not draw all of its figures")
