"""Executors: who runs the trials. Each yields events; the next trial of a worker starts when its event was taken.

The names follow :mod:`concurrent.futures`. ``inline`` runs in this process, for debugging; ``local`` in worker
processes that stay warm: torch is imported once, in a server process that the workers are forked from where the
system allows.
"""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from bench.worker import Job, Outcome, attempt
from lab.result import Evaluation

POLL_SECONDS = 0.2  # how long a deadline or a request to stop may go unnoticed


@dataclass(frozen=True)
class Started:
    trial_id: str
    worker: int


@dataclass(frozen=True)
class Evaluated:
    trial_id: str
    worker: int
    point: Evaluation


@dataclass(frozen=True)
class Ended:
    worker: int
    outcome: Outcome


Event = Started | Evaluated | Ended


@functools.cache
def context() -> Any:
    """How processes start: forked from a server that has imported torch, where the system allows; else anew."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["torch._dynamo", "lab.trial", "bench.worker"])  # the first optimizer imports it
    return found


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Executor(Protocol):
    """Runs jobs and tells what happens. After ``stop`` no job starts, and those under way end as interrupted."""

    @property
    def num_workers(self) -> int: ...

    def run(self, jobs: Sequence[Job]) -> Iterator[Event]: ...

    def stop(self) -> None: ...


class InlineExecutor:
    """Runs one job after the other in this process."""

    num_workers = 1

    def __init__(self, device: str, threads: int) -> None:
        self._device, self._threads = device, threads
        self._stopping = False

    def run(self, jobs: Sequence[Job]) -> Iterator[Event]:
        import torch

        torch.set_num_threads(self._threads)
        for job in jobs:
            if self._stopping:
                return
            yield Started(job.trial_id, 0)
            points: list[Evaluation] = []
            outcome = attempt(job, self._device, points.append, lambda: self._stopping)
            yield from (Evaluated(job.trial_id, 0, point) for point in points)
            yield Ended(0, outcome)

    def stop(self) -> None:
        self._stopping = True


@dataclass
class _Worker:
    """One process, the connection to it, and what it is doing."""

    index: int
    device: str
    process: BaseProcess
    connection: Connection
    job: Job | None = None
    deadline: float = float("inf")


@dataclass
class LocalExecutor:
    """One process for each of ``devices``, each with so many ``threads``; ``timeout`` is seconds a trial."""

    devices: Sequence[str]
    threads: int
    timeout: float | None = None
    now: Callable[[], float] = time.monotonic
    _workers: list[_Worker] = field(default_factory=list)
    _stopping: bool = False

    @property
    def num_workers(self) -> int:
        return len(self.devices)

    def run(self, jobs: Sequence[Job]) -> Iterator[Event]:
        waiting = deque(jobs)
        self._workers = [self._start(i, device) for i, device in enumerate(self.devices[: len(jobs)])]
        try:
            for worker in self._workers:
                yield from self._assign(worker, waiting)
            while any(worker.job for worker in self._workers):
                for worker in self._ready():
                    for event in self._receive(worker):
                        yield event
                        if isinstance(event, Ended):
                            yield from self._assign(self._workers[worker.index], waiting)
        finally:
            self._shut_down()

    def stop(self) -> None:
        """Asks the trials under way to end; they are interrupted after their current step."""
        self._stopping = True
        for worker in self._workers:
            if worker.job and worker.process.pid:
                os.kill(worker.process.pid, signal.SIGTERM)

    def _start(self, index: int, device: str) -> _Worker:
        ours, theirs = context().Pipe()
        process = context().Process(target=_serve, args=(theirs, device, self.threads), daemon=False)
        process.start()
        theirs.close()
        return _Worker(index, device, process, ours)

    def _assign(self, worker: _Worker, waiting: deque[Job]) -> Iterator[Event]:
        worker.job, worker.deadline = None, float("inf")
        if not waiting or self._stopping:
            return
        worker.job = waiting.popleft()
        if self.timeout is not None:
            worker.deadline = self.now() + self.timeout
        worker.connection.send(worker.job)
        yield Started(worker.job.trial_id, worker.index)

    def _ready(self) -> list[_Worker]:
        """Workers that have something to say, died, or are late."""
        busy = [worker for worker in self._workers if worker.job]
        found = wait([worker.connection for worker in busy], timeout=POLL_SECONDS)
        now = self.now()
        return [worker for worker in busy if worker.connection in found or now > worker.deadline]

    def _receive(self, worker: _Worker) -> Iterator[Event]:
        assert worker.job is not None
        try:
            if worker.connection.poll():
                message = worker.connection.recv()
                ended = isinstance(message, Outcome)
                yield Ended(worker.index, message) if ended else Evaluated(worker.job.trial_id, worker.index, message)
                return
            status, error = "timed_out", f"ran longer than {self.timeout:g} seconds"
            worker.process.kill()
            worker.process.join()
        except (EOFError, ConnectionResetError):
            worker.process.join()
            status, error = "error", _death(worker.process.exitcode)
        self._workers[worker.index] = self._start(worker.index, worker.device)
        yield Ended(worker.index, Outcome(worker.job.trial_id, status, error))

    def _shut_down(self) -> None:
        for worker in self._workers:
            if worker.job:
                worker.process.kill()
            worker.connection.close()  # an idle worker ends when its connection does
        for worker in self._workers:
            worker.process.join()
        self._workers = []


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"the worker process was ended by {name}{hint}"
    return f"the worker process ended by itself with exit code {exitcode}"


def call_in_child(module: str, function: str, *args: Any) -> Any:
    """Calls a function in a process that may import torch; its ValueError or OSError is raised here."""
    receiver, sender = context().Pipe(duplex=False)
    process = context().Process(target=_call, args=(sender, Path.cwd(), module, function, args))
    process.start()
    sender.close()
    try:
        value = receiver.recv()
    except EOFError:
        process.join()
        raise OSError(_death(process.exitcode)) from None
    process.join()
    if isinstance(value, Exception):
        raise value
    return value


def _call(sender: Connection, working_dir: Path, module: str, function: str, args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.chdir(working_dir)
    try:
        sender.send(getattr(importlib.import_module(module), function)(*args))
    except (ValueError, OSError) as error:
        sender.send(type(error)(str(error)) if isinstance(error, ValueError) else OSError(str(error)))


def _serve(connection: Connection, device: str, threads: int) -> None:
    """In a worker process: runs jobs until the connection closes. Ctrl-C is the driver's to handle."""
    import torch

    asked_to_stop = False

    def on_terminate(*_: object) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, on_terminate)
    torch.set_num_threads(threads)
    while True:
        try:
            job: Job = connection.recv()
        except EOFError:
            return
        os.chdir(job.working_dir)
        connection.send(attempt(job, device, connection.send, lambda: asked_to_stop))
