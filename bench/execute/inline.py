"""The executor that runs trials in this process, for debugging."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench.execute.events import Ended, Evaluated, Event, Started
from bench.execute.executor import ExecutorKind
from bench.execute.job import Job
from bench.execute.options import Options
from bench.execute.processes import limit_threads
from bench.execute.trainables import TRAINABLES
from bench.execute.worker import attempt
from bench.grid.plan import Trial, run_of
from lab.imports import forget
from lab.limits import cores
from lab.memory import release_memory
from lab.result import Evaluation


class InlineExecutor:
    """Runs one job after the other in this process."""

    num_workers = 1

    def __init__(self, device: str, threads: int) -> None:
        self._device, self._threads = device, threads
        self._stopping = False

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        limit_threads(self._threads)
        for job in jobs:
            if self._stopping:
                return
            yield Started(job.trial_id, 0)
            points: list[Evaluation] = []
            forget([job.settings, job.run and job.run.function], job.working_dir)
            outcome = attempt(job, self._device, points.append, lambda: self._stopping)
            yield from (Evaluated(job.trial_id, 0, point) for point in points)
            release_memory()
            yield Ended(0, outcome)

    def stop(self) -> None:
        self._stopping = True


def make(options: Options, trials: Sequence[Trial]) -> InlineExecutor:
    """Makes the executor once the device is known to be there."""
    run = run_of(trials)
    slots = TRAINABLES["lab" if run is None else run.name].devices(options.device)
    return InlineExecutor(slots[0], threads=cores())


INLINE = ExecutorKind("inline", "one trial after the other in this process, for debugging", make)
