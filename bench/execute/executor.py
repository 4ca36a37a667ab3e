"""The protocol of executors, and their kinds. The names follow :mod:`concurrent.futures`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bench.execute.events import Event
from bench.execute.job import Job
from bench.execute.options import Options
from bench.grid.own import Run
from bench.grid.plan import Trial

POLL_SECONDS = 0.2  # how long a deadline or a request to stop may go unnoticed
STOP_SECONDS = 8  # what is under way may take so long to write its checkpoint when asked to stop


class Executor(Protocol):
    """Runs jobs and tells what happens. After ``stop`` no job starts, and those under way end as interrupted.

    A job is taken from the iterable only when a worker is free for it.
    """

    @property
    def num_workers(self) -> int: ...

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]: ...

    def stop(self) -> None: ...


@dataclass(frozen=True)
class ExecutorKind:
    """An executor by ``name``. ``make`` raises ValueError where devices or data are missing.

    ``options`` is a dataclass of its own options: each field is an option of the command line, described by the
    field's metadata (``help``, ``metavar``, ``min``). It raises ValueError for values that do not fit. ``cautions``
    says what a user must know of a run before it starts.
    """

    name: str
    about: str
    make: Callable[[Options, Sequence[Trial]], Executor]
    options: type[Any] | None = None
    is_here: bool = True  # whether trials run on the driver's machine
    cautions: Callable[[Options, Run | None], list[str]] = lambda options, run: []
