"""Figures are drawn beside tables and page, by another process where one can be forked.

It imports Matplotlib while findings are gathered here, which takes as long. Where none can be forked, or it ends before
all figures are there, they are drawn here: an error is then said as any other.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import pandas as pd

from bench.analysis.findings import Findings
from bench.analysis.summaries import position, watched
from bench.grid.metrics import Metric
from bench.report.telling import letters

Say = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """Figures to draw to a folder, by :func:`bench.report.telling.titles`, and what they are drawn from.

    ``columns`` of text is the width of those for a paper, which say so in their names.
    """

    titles: Mapping[str, str]
    target: Path
    columns: int
    metric: Metric
    watched: Metric  # the one of the curves
    position: str  # of a point of a curve: epoch or step
    letters: str
    cells: pd.DataFrame
    seeds: pd.DataFrame
    curves: pd.DataFrame
    effects: pd.DataFrame
    means: pd.DataFrame | None  # by the levels of two factors


def asked(findings: Findings, titles: Mapping[str, str], target: Path, columns: int = 0) -> Asked:
    """Takes from the findings what the figures show."""
    plan, variance = findings.plan, findings.variance
    return Asked(
        titles=titles,
        target=target,
        columns=columns,
        metric=plan.primary,
        watched=watched(plan),
        position=position(plan),
        letters=letters(plan),
        cells=findings.cells,
        seeds=findings.seeds,
        curves=findings.curves,
        effects=findings.effects,
        means=None if variance is None else variance.cell_means,
    )


def draw(asked: Asked, say: Say) -> None:
    """Draws the figures; ``say`` is told which, one after the other."""
    if not asked.titles:
        return
    from bench.report import canvas, figures
    from bench.report.lettering import lettered

    ending = f"-{asked.columns}-column" if asked.columns else ""
    with lettered(asked.letters):
        for number, (name, title) in enumerate(asked.titles.items(), 1):
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
            os.kill(self.process, signal.SIGKILL)
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
                ours.close()
                _serve(theirs)
            finally:  # whatever is raised: nothing of the command may run here, and it draws itself what is missing
                os._exit(1)
        theirs.close()
        return ours


def _can_fork() -> bool:
    """Tells whether this process has one thread, whose fork can do all that it can: elsewhere nobody knows."""
    threads = Path("/proc/self/task")
    return threads.is_dir() and len(list(threads.iterdir())) == 1


def _serve(connection: Connection) -> None:
    """Draws what is asked for until nobody is there to ask."""
    from bench.report import figures  # noqa: F401  # ahead: findings are being gathered

    while True:
        draw(connection.recv(), connection.send)
        connection.send(None)
