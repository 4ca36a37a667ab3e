"""The executor of this machine: worker processes that stay warm, forked from a server where the system allows.

torch is imported once, in that server. A trial that names user code gets a process of its own: what its modules hold,
replace or start ends with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from bench.execute.events import Ended, Evaluated, Event, Lost, Started
from bench.execute.executor import POLL_SECONDS, STOP_SECONDS, ExecutorKind
from bench.execute.job import Job
from bench.execute.options import Options
from bench.execute.processes import (
    be_killed_first,
    context,
    death,
    end,
    end_with_parent,
    kill,
    lead_group,
    limit_threads,
    out_of_memory,
    ran_out,
    start,
)
from bench.execute.trainables import devices as devices_of
from bench.execute.worker import attempt
from bench.grid.plan import Trial, run_of
from bench.record.outcome import Outcome
from bench.record.status import Status
from lab.limits import cores, kills, peak_bytes
from lab.memory import release_memory
from lab.result import Evaluation


@dataclass
class _Worker:
    """One process, the connection to it, and what it is doing."""

    index: int
    device: str
    process: BaseProcess
    connection: Connection
    job: Job | None = None
    used: bool = False  # it has run a trial: user code needs another
    deadline: float = float("inf")
    crowded: bool = False  # another worker has been busy since its trial began, or it had run one before
    kills_before: int = 0  # what the system had killed for want of memory when its trial began
    peak: int = 0  # the most memory that it was seen to hold, in bytes


@dataclass
class LocalExecutor:
    """One process for each of ``devices``, each with so many ``threads``; ``timeout`` is seconds per trial.

    A trial for which memory runs out beside others, or in a process that still holds some of an earlier trial's, is
    tried again alone in a fresh one, once they have ended: only that counts.
    """

    devices: Sequence[str]
    threads: int
    timeout: float | None = None
    now: Callable[[], float] = time.monotonic
    _workers: list[_Worker] = field(default_factory=list)
    _spares: dict[int, _Worker] = field(default_factory=dict)  # started while user code runs, to take its place
    _ending: dict[int, list[BaseProcess]] = field(default_factory=dict)  # killed, perhaps not gone yet
    _again: list[Job] = field(default_factory=list)  # memory ran out for them, and they were not alone
    _stopping: bool = False

    @property
    def num_workers(self) -> int:
        return len(self.devices)

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        waiting = iter(jobs)
        try:
            for index, device in enumerate(self.devices):
                job = self._next(waiting)
                if job is None:
                    break
                self._workers.append(self._start(index, device))
                yield self._assign(self._workers[index], job)
            while any(worker.job for worker in self._workers):
                for worker in self._ready():
                    event = self._receive(worker)
                    yield event
                    if not isinstance(event, Evaluated) and (job := self._next(waiting)) is not None:
                        yield self._assign(self._workers[worker.index], job)
        finally:
            self._shut_down()

    def _next(self, waiting: Iterator[Job]) -> Job | None:
        """Takes the job to run next: where nothing else runs, one that is to run alone; else one that waits."""
        if self._stopping:
            return None
        if self._again and not any(worker.job for worker in self._workers):
            for worker in self._workers:  # what an idle process holds is room, too
                self._renew(worker)
            return self._again.pop(0)
        return next(waiting, None)

    def stop(self) -> None:
        """Asks the trials under way to end after their current step; what has not after some seconds is killed."""
        self._stopping = True
        for worker in self._workers:
            if worker.job and worker.process.pid:
                worker.deadline = min(worker.deadline, self.now() + STOP_SECONDS)
                os.kill(worker.process.pid, signal.SIGTERM)

    def _start(self, index: int, device: str) -> _Worker:
        processes = context()
        ours, theirs = processes.Pipe()
        process = processes.Process(target=_serve, args=(theirs, device, self.threads), daemon=False)
        start(process)
        theirs.close()
        return _Worker(index, device, process, ours)

    def _renew(self, worker: _Worker) -> None:
        """Replaces a process that died, is late, or has run user code; what that one started ends with it.

        It is gone before the next trial starts in its place: what it held is free then.
        """
        kill(worker.process)
        worker.connection.close()
        self._ending.setdefault(worker.index, []).append(worker.process)
        if self._stopping:
            return
        spare = self._spares.pop(worker.index, None)
        fresh = spare is not None and spare.process.is_alive()
        self._workers[worker.index] = spare if spare and fresh else self._start(worker.index, worker.device)

    def _assign(self, worker: _Worker, job: Job) -> Started:
        if worker.used and job.runs_user_code:
            self._renew(worker)
            worker = self._workers[worker.index]
        for process in self._ending.pop(worker.index, ()):
            process.join()
        others = [other for other in self._workers if other.job]
        for one in others:
            one.crowded = True
        worker.crowded = bool(others) or (worker.used and job.trainable == "lab")
        worker.job, worker.used = job, True
        worker.kills_before, worker.peak = kills(), 0
        worker.deadline = float("inf") if self.timeout is None else self.now() + self.timeout + job.late_seconds
        with contextlib.suppress(BrokenPipeError):  # it died waiting: receiving from it will tell
            worker.connection.send(job)
        if job.runs_user_code and worker.index not in self._spares:
            self._spares[worker.index] = self._start(worker.index, worker.device)
        return Started(job.trial_id, worker.index)

    def _ready(self) -> list[_Worker]:
        """Workers that have something to say, died, or are late."""
        busy = [worker for worker in self._workers if worker.job]
        for worker in busy:
            worker.peak = max(worker.peak, peak_bytes(worker.process.pid or 0) or 0)
        found = wait([end for worker in busy for end in _ends(worker)], timeout=POLL_SECONDS)
        now = self.now()
        return [worker for worker in busy if now > worker.deadline or any(end in found for end in _ends(worker))]

    def _receive(self, worker: _Worker) -> Event:
        assert worker.job is not None
        trial_id = worker.job.trial_id
        try:
            if worker.connection.poll():
                message: Outcome | Evaluation = worker.connection.recv()
                if not isinstance(message, Outcome):
                    return Evaluated(trial_id, worker.index, message)
                return self._ended(worker, message, renew=worker.job.runs_user_code)
            if not worker.process.is_alive():  # what it forked may hold its end of the connection
                raise EOFError
            limit = self.timeout or STOP_SECONDS  # without a limit, only who was asked to stop is late
            status, error = Status.TIMED_OUT, f"ran longer than {limit:g} seconds"
        except (EOFError, ConnectionResetError):
            status, error = _death(worker)
        if self._stopping:
            status, error = Status.INTERRUPTED, "asked to stop, and was ended"
        return self._ended(worker, Outcome(trial_id, status, error), renew=True)

    def _ended(self, worker: _Worker, outcome: Outcome, *, renew: bool) -> Ended | Lost:
        job, worker.job = worker.job, None
        again = outcome.status is Status.OUT_OF_MEMORY and worker.crowded and not self._stopping
        if again and job is not None:
            self._again.append(job)
        if renew or again:
            self._renew(worker)
        why = f"trial {outcome.trial_id} is tried again alone, after the others: {outcome.error}"
        return Lost(worker.index, why) if again else Ended(worker.index, outcome)

    def _shut_down(self) -> None:
        workers = [*self._workers, *self._spares.values()]
        for worker in workers:
            if worker.job:
                end(worker.process)
            worker.connection.close()  # an idle worker ends when its connection does
        for process in [*(worker.process for worker in workers), *chain.from_iterable(self._ending.values())]:
            process.join()
        self._workers, self._spares, self._ending = [], {}, {}


def _ends(worker: _Worker) -> tuple[Connection, int]:
    """Returns what is ready when the worker says something, and when it died."""
    return worker.connection, worker.process.sentinel


def _death(worker: _Worker) -> tuple[Status, str]:
    """Tells how a worker's process ended, as the status and error of its trial."""
    worker.process.join()
    if ran_out(worker.process.exitcode, worker.kills_before):
        return Status.OUT_OF_MEMORY, out_of_memory(worker.peak)
    return Status.ERROR, death(worker.process.exitcode)


def _serve(connection: Connection, device: str, threads: int) -> None:
    """Runs jobs, in a worker process, until the connection closes. Ctrl-C is the driver's to handle."""
    end_with_parent()
    be_killed_first()
    lead_group()
    asked_to_stop = False

    def on_terminate(*_: object) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, on_terminate)
    limit_threads(threads)
    while True:
        try:
            job: Job = connection.recv()
        except (EOFError, ConnectionResetError):  # the driver is done, or gone
            return
        os.chdir(job.working_dir)
        try:
            connection.send(attempt(job, device, connection.send, lambda: asked_to_stop))
        except BrokenPipeError:  # the driver is gone
            return
        if not job.runs_user_code:  # else this process ends
            release_memory()


def make(options: Options, trials: Sequence[Trial]) -> LocalExecutor:
    """Makes the executor once the device is known to be there."""
    usable = devices_of(run_of(trials), options.device)
    num_workers = options.jobs or (cores() if usable == ["cpu"] else len(usable))
    devices = [usable[index % len(usable)] for index in range(num_workers)]
    return LocalExecutor(devices, threads=max(1, cores() // num_workers), timeout=options.timeout)


LOCAL = ExecutorKind("local", "worker processes on this machine", make)
