"""Executors: who runs the trials. Each yields events; the next trial of a worker starts when its event was taken.

The names follow :mod:`concurrent.futures`. ``inline`` runs in this process, for debugging; ``local`` in worker
processes that stay warm: torch is imported once, in a server process that the workers are forked from where the
system allows.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import json
import multiprocessing
import multiprocessing.context
import multiprocessing.forkserver
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from bench.execute.worker import Job, attempt
from bench.record.outcome import Outcome
from bench.record.status import Status
from lab.result import Evaluation

POLL_SECONDS = 0.2  # how long a deadline or a request to stop may go unnoticed
DATA_VARIABLE = "BENCH_WARM_DATA"  # what the server process reads ahead: [folder or null, [data section, ...]]
STOP_SECONDS = 8  # what is under way may take so long to write its checkpoint when asked to stop


@dataclass(frozen=True)
class Started:
    trial_id: str
    worker: int
    node: str = ""  # of a cluster: its name


@dataclass(frozen=True)
class Evaluated:
    trial_id: str
    worker: int
    point: Evaluation


@dataclass(frozen=True)
class Ended:
    worker: int
    outcome: Outcome


@dataclass(frozen=True)
class Lost:
    """A worker of a cluster is gone, and why; its trial starts again on another."""

    worker: int
    why: str


Event = Started | Evaluated | Ended | Lost


@functools.cache
def context() -> Any:
    """How processes start: forked from a server that has imported torch, where the system allows; else anew."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["bench.execute.warm"])
    return found


def warm_up(data: Sequence[Mapping[str, Any]], data_dir: Path | None) -> None:
    """Starts the server process, which imports torch and reads the data sets ahead; returns at once.

    Where there is one already, or the system allows none, workers read what they need themselves.
    """
    if isinstance(context(), multiprocessing.context.ForkServerContext):
        os.environ[DATA_VARIABLE] = json.dumps([data_dir and str(data_dir.resolve()), list(data)])
        multiprocessing.forkserver.ensure_running()
        del os.environ[DATA_VARIABLE]


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Executor(Protocol):
    """Runs jobs and tells what happens. After ``stop`` no job starts, and those under way end as interrupted.

    A job is taken from the iterable only when a worker is free for it.
    """

    @property
    def num_workers(self) -> int: ...

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]: ...

    def stop(self) -> None: ...


class InlineExecutor:
    """Runs one job after the other in this process."""

    num_workers = 1

    def __init__(self, device: str, threads: int) -> None:
        self._device, self._threads = device, threads
        self._stopping = False

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
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

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        waiting = iter(jobs)
        try:
            for index, device in enumerate(self.devices):
                job = None if self._stopping else next(waiting, None)
                if job is None:
                    break
                self._workers.append(self._start(index, device))
                yield self._assign(self._workers[index], job)
            while any(worker.job for worker in self._workers):
                for worker in self._ready():
                    event = self._receive(worker)
                    yield event
                    if isinstance(event, Ended):
                        self._workers[worker.index].job = None
                        job = None if self._stopping else next(waiting, None)
                        if job is not None:
                            yield self._assign(self._workers[worker.index], job)
        finally:
            self._shut_down()

    def stop(self) -> None:
        """Asks the trials under way to end after their current step; what has not after some seconds is killed."""
        self._stopping = True
        for worker in self._workers:
            if worker.job and worker.process.pid:
                worker.deadline = min(worker.deadline, self.now() + STOP_SECONDS)
                os.kill(worker.process.pid, signal.SIGTERM)

    def _start(self, index: int, device: str) -> _Worker:
        ours, theirs = context().Pipe()
        process = context().Process(target=_serve, args=(theirs, device, self.threads), daemon=False)
        process.start()
        theirs.close()
        return _Worker(index, device, process, ours)

    def _assign(self, worker: _Worker, job: Job) -> Started:
        worker.job = job
        worker.deadline = float("inf") if self.timeout is None else self.now() + self.timeout
        with contextlib.suppress(BrokenPipeError):  # it died waiting: receiving from it will tell
            worker.connection.send(job)
        return Started(job.trial_id, worker.index)

    def _ready(self) -> list[_Worker]:
        """Workers that have something to say, died, or are late."""
        busy = [worker for worker in self._workers if worker.job]
        found = wait([end for worker in busy for end in _ends(worker)], timeout=POLL_SECONDS)
        now = self.now()
        return [worker for worker in busy if now > worker.deadline or any(end in found for end in _ends(worker))]

    def _receive(self, worker: _Worker) -> Event:
        assert worker.job is not None
        try:
            if worker.connection.poll():
                message: Outcome | Evaluation = worker.connection.recv()
                if isinstance(message, Outcome):
                    return Ended(worker.index, message)
                return Evaluated(worker.job.trial_id, worker.index, message)
            if not worker.process.is_alive():  # what it forked may hold its end of the connection
                raise EOFError
            worker.process.kill()
            status, error = Status.TIMED_OUT, f"ran longer than {self.timeout:g} seconds"
        except (EOFError, ConnectionResetError):
            worker.process.join()
            status, error = Status.ERROR, _death(worker.process.exitcode)
        worker.process.join()
        if self._stopping:
            status, error = Status.INTERRUPTED, "asked to stop, and was ended"
        else:
            self._workers[worker.index] = replace(self._start(worker.index, worker.device), job=worker.job)
        return Ended(worker.index, Outcome(worker.job.trial_id, status, error))

    def _shut_down(self) -> None:
        for worker in self._workers:
            if worker.job:
                worker.process.kill()
            worker.connection.close()  # an idle worker ends when its connection does
        for worker in self._workers:
            worker.process.join()
        self._workers = []


def _ends(worker: _Worker) -> tuple[Connection, int]:
    """What is ready when the worker says something, and when it died."""
    return worker.connection, worker.process.sentinel


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        names = {number.value: number.name for number in signal.Signals}
        name = names.get(-exitcode, f"signal {-exitcode}")
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"the worker process was ended by {name}{hint}"
    return f"the worker process ended by itself with exit code {exitcode}"


def call_in_child(module: str, function: str, *args: Any, timeout: float | None = None) -> Any:
    """Calls a function in a process that may import torch; its ValueError or OSError is raised here.

    Raises OSError, too, where the process dies or takes longer than ``timeout`` seconds.
    """
    receiver, sender = context().Pipe(duplex=False)
    process = context().Process(target=_call, args=(sender, Path.cwd(), module, function, args))
    process.start()
    sender.close()
    try:
        if not wait([receiver, process.sentinel], timeout):
            raise OSError(f"ran longer than {timeout:g} seconds")
        if not receiver.poll():  # it died, and what it forked holds its end of the pipe
            raise EOFError
        value = receiver.recv()
    except EOFError:
        process.join()
        raise OSError(_death(process.exitcode)) from None
    finally:
        process.kill()
        process.join()
    if isinstance(value, Exception):
        raise value
    return value


def _call(sender: Connection, working_dir: Path, module: str, function: str, args: tuple[Any, ...]) -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.chdir(working_dir)
    try:
        answer = getattr(importlib.import_module(module), function)(*args)
    except (ValueError, OSError) as error:
        answer = type(error)(str(error)) if isinstance(error, ValueError) else OSError(str(error))
    with contextlib.suppress(BrokenPipeError):  # the driver was stopped meanwhile
        sender.send(answer)


def _serve(connection: Connection, device: str, threads: int) -> None:
    """In a worker process: runs jobs until the connection closes. Ctrl-C is the driver's to handle."""
    import torch

    end_with_parent()
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
        except (EOFError, ConnectionResetError):  # the driver is done, or gone
            return
        os.chdir(job.working_dir)
        try:
            connection.send(attempt(job, device, connection.send, lambda: asked_to_stop))
        except BrokenPipeError:  # the driver is gone
            return


def end_with_parent() -> None:
    """Where the system can: this process is killed when the one that it was forked from ends, however that ends.

    The server process ends when the driver does, so no worker goes on training for a driver that is gone.
    """
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
