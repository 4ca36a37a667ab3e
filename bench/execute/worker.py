"""Turns a trial into an outcome, whatever it does."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from bench.execute.job import Job
from bench.execute.trainables import TRAINABLES
from bench.record.outcome import Outcome
from bench.record.status import Status
from lab.imports import told
from lab.limits import kills, mebibytes, memory, peak_bytes
from lab.memory import is_out_of_memory
from lab.result import Evaluation
from lab.visiting import output_to


def attempt(
    job: Job,
    device: str,
    on_evaluation: Callable[[Evaluation], None] = lambda point: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Runs the trial; its output and, where it failed, the traceback are left in its log."""
    own, before = os.getpid(), kills()

    def evaluated(point: Evaluation) -> None:
        _end_if_forked(own)
        on_evaluation(point)

    with open_log(job.folder / "logs" / f"{job.trial_id}.log") as file, output_to(file):
        try:
            if job.is_fresh:
                shutil.rmtree(job.folder / "checkpoints" / job.trial_id, ignore_errors=True)
            return TRAINABLES[job.trainable].run(job, device, evaluated, should_stop)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the one place where any failure of a trial becomes its record
            traceback.print_exc()
            if not is_out_of_memory(error, before):
                return Outcome(job.trial_id, Status.ERROR, told(error))
            return Outcome(job.trial_id, Status.OUT_OF_MEMORY, f"{type(error).__name__}: {error}{_room(device)}")
        finally:
            _end_if_forked(own)


def _end_if_forked(own: int) -> None:
    """Ends a process that a network forked and left running: it must not go on as the worker beside it."""
    if os.getpid() != own:
        os._exit(1)


class Log(io.FileIO):
    """A file that goes without what there is no room for: no trial fails of its log."""

    def write(self, data: Any) -> int:
        with contextlib.suppress(OSError):
            super().write(data)
        return memoryview(data).nbytes


def open_log(path: Path) -> TextIO:
    """Opens the log to append to, line by line; where it cannot be opened, output goes nowhere."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = Log(path, "a")
    except OSError:
        file = Log(os.devnull, "a")
    return io.TextIOWrapper(io.BufferedWriter(file), encoding="utf-8", errors="replace", line_buffering=True)


def _room(device: str) -> str:
    """Says what this process held and what there is; of a card torch has said it."""
    held, room = peak_bytes(), memory()
    if device != "cpu" or held is None or room is None:
        return ""
    return f"; this process held {mebibytes(held)}; {room}"
