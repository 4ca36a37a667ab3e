"""``live.jsonl``: what a run does now, a line per event, which only :mod:`bench.watch` reads.

No result rests on it: a line that cannot be written is left out, and the file can be removed at any time. It is cut
to the newest half where it has grown to :data:`CAP` bytes.
"""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import Timeout

from bench.grid.plan import Plan, Trial
from bench.record.status import Status
from bench.record.table import lock_of, replace_file
from lab.result import Evaluation

LIVE = "live.jsonl"
CAP = 4_000_000  # bytes
BEAT_SECONDS = 15.0  # between two signs of life
GAP_SECONDS = 0.2  # between two points of one worker: what comes faster is left out


class Live:
    """Tells on the run of a plan, in the folder of its results, while the block lasts; ``now`` is a clock in seconds.

    Each line has the time and the run that wrote it: several may write to one folder.
    """

    def __init__(self, folder: Path, plan: Plan, now: Callable[[], float] = time.time) -> None:
        self.path, self._now = folder / LIVE, now
        self._run = f"{socket.gethostname()}-{os.getpid()}-{int(now())}"
        split = plan.primary.name.removeprefix("test_")
        self._names = list(dict.fromkeys((f"dev_{split}", plan.selecting, plan.primary.name)))
        self._busy: dict[int, dict[str, Any]] = {}  # what each worker was told to have started
        self._last: dict[int, float] = {}
        self._batch: dict[str, Any] = {}
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._heart = threading.Thread(target=self._beat, daemon=True, name="live")

    def __enter__(self) -> Self:
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._heart.join()
        self._tell({"event": "end"})

    def begin(self, num_trials: int, num_workers: int) -> None:
        """Tells that a batch begins."""
        self._batch = {"event": "begin", "trials": num_trials, "workers": num_workers}
        self._tell(self._batch)

    def started(self, worker: int, trial: Trial, node: str = "") -> None:
        line = {"event": "started", "worker": worker, "trial": trial.trial_id, "cell": trial.cell.label}
        line |= {"seed": trial.seed, "epochs": trial.settings.flat().get("train.epochs"), "since": self._now()}
        self._busy[worker] = line | ({"node": node} if node else {})
        self._last.pop(worker, None)
        self._tell(self._busy[worker])

    def evaluated(self, worker: int, point: Evaluation) -> None:
        """Tells a point of the curve: of its scores those that the report shows, or the first."""
        if self._now() - self._last.get(worker, -math.inf) < GAP_SECONDS or worker not in self._busy:
            return
        self._last[worker] = self._now()
        known = [name for name in self._names if name in point.scores] or list(point.scores)[:1]
        scores = {name: _plain(point.scores[name]) for name in known}
        place = {"step": point.step, "epoch": _plain(point.epoch)}
        trial = self._busy[worker]["trial"]
        self._tell({"event": "point", "worker": worker, "trial": trial, **place, "scores": scores})

    def ended(self, worker: int, trial_id: str, status: Status) -> None:
        self._busy.pop(worker, None)
        self._tell({"event": "ended", "worker": worker, "trial": trial_id, "status": status})

    def lost(self, worker: int, why: str) -> None:
        self._busy.pop(worker, None)
        self._tell({"event": "lost", "worker": worker, "why": why[:500]})

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            self._tell({"event": "beat"})

    def _tell(self, line: Mapping[str, Any]) -> None:
        """Appends a line in one write; does without where the folder is gone, full or not to be written."""
        text = json.dumps({"at": round(self._now(), 3), "run": self._run, **line}, allow_nan=False)
        with self._lock, suppress(OSError):
            with self.path.open("ab", buffering=0) as file:
                file.write(text.encode() + b"\n")
                full = file.tell() > CAP
            if full:
                self._cut()

    def _cut(self) -> None:
        """Keeps the newest half, after what this run does now; leaves it to whoever is at it already."""
        with suppress(Timeout), lock_of(self.path).acquire(timeout=0):
            data = self.path.read_bytes()
            kept = data[data.index(b"\n", len(data) - CAP // 2) + 1 :]
            now = [line for line in (self._batch, *self._busy.values()) if line]
            head = [{"at": round(self._now(), 3), "run": self._run, **line} for line in now]
            replace_file(self.path, b"".join(json.dumps(line).encode() + b"\n" for line in head) + kept)


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
