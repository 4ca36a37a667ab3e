"""A command as training code: a process group of its own, no shell, its metrics read while it runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import selectors
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from bench.execute.job import Job
from bench.execute.processes import death, end_with_parent, held_bytes, out_of_memory
from bench.execute.trainables.descendants import adopt, end_adopted
from bench.execute.trainables.devices import cards
from bench.execute.trainables.kept import ENDED, FILES, Kept
from bench.execute.trainables.readers import Output, Reader, make_readers
from bench.execute.trainables.reported import Reported, Stream, origin, outcome
from bench.grid.own import OwnSettings
from bench.grid.own_command import Command, program_path, search_path
from bench.record.outcome import Outcome
from bench.record.status import Status
from lab.limits import kills, mebibytes, memory
from lab.result import Evaluation

END = 5_000_000  # bytes of the log that are kept, from its start and from its end
GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL
POLL_SECONDS = 0.1
PIECE = 1 << 20  # bytes of output that are taken at once, as far as the system's pipe holds so many
SMALL = 1 << 16
BATCH_SECONDS = 0.005  # for which a program that writes in small pieces is left alone
READ_SECONDS = 0.5  # between two looks at the metrics
LAST = 4000  # bytes of the end of its output that say why a command failed
NO_MEMORY = re.compile(
    rb"MemoryError|[Oo]ut of memory|[Nn]ot enough memory|can't allocate memory|Cannot allocate memory"
)


@dataclass
class Log:
    """The first and the last 5 MB of what is written; what is between them is counted."""

    file: BinaryIO
    _written: int = 0
    _left_out: int = 0
    _size: int = 0
    _tail: deque[bytes] = field(default_factory=deque)

    def write(self, data: bytes) -> None:
        first = data[: max(0, END - self._written)]
        if first:
            with contextlib.suppress(OSError):  # no trial fails of its log
                self.file.write(first)
                self.file.flush()
            self._written += len(first)
        if rest := data[len(first) :]:
            self._tail.append(rest)
            self._size += len(rest)
            while self._size - len(self._tail[0]) >= END:
                self._size -= len(self._tail[0])
                self._left_out += len(self._tail.popleft())

    def close(self) -> None:
        tail = b"".join(self._tail)
        left_out = self._left_out + max(0, len(tail) - END)
        with contextlib.suppress(OSError):
            if left_out:
                self.file.write(b"\n... %d bytes left out ...\n" % left_out)
            self.file.write(tail[-END:])
            self.file.flush()


@dataclass(frozen=True)
class CommandTrainable:
    """Starts the command of a trial, watches it, and ends all that it started."""

    def run(
        self,
        job: Job,
        device: str,
        on_evaluation: Callable[[Evaluation], None],
        should_stop: Callable[[], bool],
    ) -> Outcome:
        """Raises ValueError where the metrics cannot be read."""
        assert job.run is not None
        folder = folder_of(job)
        goes_on = job.run.resume == "continue" and folder.exists() and not job.is_fresh
        if not goes_on:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        settings = own_settings(job)
        (folder / ENDED).unlink(missing_ok=True)
        (folder / "settings.json").write_text(json.dumps(settings.model_dump(), ensure_ascii=False, indent=1))
        environment = _environment(job, folder, device, goes_on)
        words = Command(job.run).arguments(settings, _handed(job, folder, environment))
        readers = make_readers(job.run.read, folder / "metrics.jsonl", {"folder": folder})
        watched = _Watched(job, readers, Stream(on_evaluation), should_stop)
        kills_before = kills()
        code, why = watched.run(words, environment)
        threads = int(environment.get("OMP_NUM_THREADS") or 1)
        if why is not None:
            error = "asked to stop" if why is Status.INTERRUPTED else f"ran longer than {job.timeout:g} seconds"
            return Outcome(job.trial_id, why, error)
        if code != 0:
            return Outcome(job.trial_id, *_failure(code, watched, kills() > kills_before))
        made = origin(job, device, threads, watched.reported)
        seconds_at = {str(step): seconds for step, seconds in watched.reported.seconds.items()}
        with contextlib.suppress(OSError):  # a disk without room: it cannot be read again
            Kept(folder, job.run, settings.model_dump(), made, watched.output, seconds_at).write()
        watched.read(is_last=True)
        return outcome(job, watched.reported, made)

    def devices(self, device: str) -> list[str]:
        """Names the devices to use, one per trial at a time; raises ValueError for one that is not there."""
        return cards(device)


COMMAND = CommandTrainable()


def own_settings(job: Job) -> OwnSettings:
    assert job.run is not None
    sections = {name: members for name, members in job.settings.items() if name != "seed"}
    return OwnSettings(sections, job.run, job.settings["seed"])


def folder_of(job: Job) -> Path:
    """The folder that is the trial's own."""
    return job.folder / FILES / job.trial_id


def _handed(job: Job, folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    return {
        "seed": str(job.settings["seed"]),
        "folder": str(folder),
        "device": environment["BENCH_DEVICE"],
        "settings_file": environment["BENCH_SETTINGS"],
    }


def _environment(job: Job, folder: Path, device: str, goes_on: bool) -> dict[str, str]:
    """The environment of this process, with what a trial is told; of the cards it sees its own alone, as the first."""
    kind, _, index = device.partition(":")
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    cards_seen = seen[int(index)] if index and len(seen) > int(index) and any(seen) else index
    told = {
        "BENCH_SETTINGS": str(folder / "settings.json"),
        "BENCH_METRICS": str(folder / "metrics.jsonl"),
        "BENCH_FOLDER": str(folder),
        "BENCH_SEED": str(job.settings["seed"]),
        "BENCH_DEVICE": "cuda:0" if kind == "cuda" else kind,
        "CUDA_VISIBLE_DEVICES": cards_seen if kind == "cuda" else "",
        "PYTHONHASHSEED": str(job.settings["seed"] % 2**32),
        "PYTHONUNBUFFERED": os.environ.get("PYTHONUNBUFFERED", "1"),  # what a trial that is killed had printed is there
        "PATH": search_path(),
    }
    return {**os.environ, **told, **({"BENCH_RESUME": "1"} if goes_on else {})}


def _failure(code: int, watched: _Watched, has_killed: bool) -> tuple[Status, str]:
    """Status and error of a command that failed; ``has_killed``: meanwhile the system has ended processes for memory.

    A shell gives 128 + 9 where what it ran was killed, and another program may say so in its own words.
    """
    if has_killed and (code in (-signal.SIGKILL, 128 + signal.SIGKILL) or b"killed" in watched.last.lower()):
        return Status.OUT_OF_MEMORY, out_of_memory(watched.peak, "the command")
    error = _ended_by(code, watched.last)
    if not NO_MEMORY.search(watched.last):
        return Status.ERROR, error
    held, room = f"; it held {mebibytes(watched.peak)}" if watched.peak else "", memory()
    return Status.OUT_OF_MEMORY, f"{error}{held}" + (f"; {room}" if room is not None else "")


def _ended_by(code: int, last: bytes) -> str:
    lines = [line.strip() for line in last.decode("utf-8", "replace").splitlines() if line.strip()]
    how = death(code).replace("the worker process", "the command")
    return f"{how}: {lines[-1][:500]}" if lines else how


@dataclass
class _Watched:
    """One command under way: its output, its metrics, and whether it is to end."""

    job: Job
    readers: list[Reader]
    tell: Stream
    should_stop: Callable[[], bool]
    reported: Reported = field(default_factory=Reported)
    last: bytes = b""  # the end of its output
    peak: int = 0  # the most memory that it and what it started were seen to hold, in bytes
    output: tuple[int, int] = (0, 0)  # where its output begins and ends in the trial's log

    def run(self, words: list[str], environment: Mapping[str, str]) -> tuple[int, Status | None]:
        """Its exit code, and the status where it was ended from here."""
        program = program_path(words[0]) or words[0]
        process = subprocess.Popen(
            [program, *words[1:]],
            cwd=self.job.working_dir,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,  # a worker has one thread
        )
        _prepare(process)
        begin, before = os.fstat(1).st_size, adopt()
        with os.fdopen(os.dup(1), "wb", closefd=True) as file:
            log = Log(file)
            try:
                why = self._watch(process, log)
            finally:
                end_group(process)
                end_adopted(before)
                self._drain(process, log)
                log.close()
        self.output = begin, os.fstat(1).st_size
        return process.returncode, why

    def _watch(self, process: subprocess.Popen[bytes], log: Log) -> Status | None:
        """Waits for the end of the process, not of its output: what it started may hold that open."""
        assert process.stdout is not None
        deadline = time.monotonic() + (float("inf") if self.job.timeout is None else self.job.timeout)
        next_poll, next_look = 0.0, time.monotonic() + READ_SECONDS
        with selectors.DefaultSelector() as selector, _ending(process) as ending:
            selector.register(process.stdout, selectors.EVENT_READ)
            if ending is not None:
                selector.register(ending, selectors.EVENT_READ)
            while process.poll() is None:
                for key, _ in selector.select(POLL_SECONDS):
                    if key.fileobj is process.stdout:
                        taken = self._take(process, log)
                        if taken == 0:
                            selector.unregister(process.stdout)
                        elif taken is not None and taken < SMALL:
                            _pause(ending)
                now = time.monotonic()
                if now > next_poll:
                    self.peak = max(self.peak, held_bytes(process.pid))
                    next_poll = now + POLL_SECONDS
                if now > next_look:
                    self.read(is_last=False)
                    next_look = now + READ_SECONDS
                if now > deadline or self.should_stop():
                    end_gently(process, lambda: self._take(process, log))
                    return Status.INTERRUPTED if self.should_stop() else Status.TIMED_OUT
        return None

    def _take(self, process: subprocess.Popen[bytes], log: Log) -> int | None:
        """Takes a piece of output, as many bytes as it returns: 0 at its end, None while there is none."""
        assert process.stdout is not None
        try:
            data = os.read(process.stdout.fileno(), PIECE)
        except BlockingIOError:
            return None
        log.write(data)
        self.last = (self.last + data[-LAST:])[-LAST:]
        for reader in self.readers:
            if isinstance(reader, Output):
                reader.feed(data)
        return len(data)

    def _drain(self, process: subprocess.Popen[bytes], log: Log) -> None:
        """What was written before everything ended."""
        assert process.stdout is not None
        while self._take(process, log):
            pass
        process.stdout.close()

    def read(self, *, is_last: bool) -> None:
        for reader in self.readers:
            self.tell(reader.read(self.reported, is_last=is_last))


def _prepare(process: subprocess.Popen[bytes]) -> None:
    """Has its output never block who reads it, and hold as much as the system allows."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    with contextlib.suppress(OSError, AttributeError):  # more than one user may have, or no such thing here
        fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, PIECE)


def _pause(ending: int | None) -> None:
    """Waits until more was written than a piece that is hardly worth its while, or the process has ended."""
    if ending is None:
        time.sleep(BATCH_SECONDS)
    else:
        poll = select.poll()
        poll.register(ending, select.POLLIN)
        poll.poll(BATCH_SECONDS * 1000)


@contextlib.contextmanager
def _ending(process: subprocess.Popen[bytes]):  # type: ignore[no-untyped-def]  # a descriptor, or None
    """A descriptor that is ready when the process has ended, where the system has such."""
    if not hasattr(os, "pidfd_open"):
        yield None
        return
    descriptor = os.pidfd_open(process.pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def end_gently(process: subprocess.Popen[bytes], meanwhile: Callable[[], object]) -> None:
    """SIGTERM to the group, so that it can write what it has; it is killed after some seconds."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        meanwhile()
        time.sleep(0.02)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kills whatever is left of the command and of what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
