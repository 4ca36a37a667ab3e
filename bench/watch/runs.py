"""What ``live.jsonl`` tells of runs: who trains what, how far it is, and how long the rest takes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

SILENT_SECONDS = 60.0  # without a line, while a run that lives writes one every 15
MOST_RUNS, MOST_WORKERS, MOST_POINTS = 8, 256, 120
Points = list[tuple[float, float]]  # epoch or step, and value


@dataclass
class Running:
    """A trial that a worker has begun."""

    trial: str
    cell: str
    seed: int
    since: float
    epochs: float | None = None
    node: str = ""
    step: int = 0
    points: Points = field(default_factory=list)


@dataclass
class Run:
    """One driver's run: the batch that it is at, its workers, and its last sign of life in seconds of its clock."""

    seen: float = 0.0
    trials: int = 0
    num_workers: int = 1
    ended: int = 0
    is_over: bool = False
    running: dict[int, Running] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)  # per cell: trials that ended, and their seconds

    def is_silent(self, now: float) -> bool:
        """Tells whether it neither ended nor shows a sign of life."""
        return not self.is_over and now - self.seen > SILENT_SECONDS

    def seconds_left(self, left: Mapping[str, int], now: float) -> float | None:
        """Estimates the rest of the batch from the mean time of each cell; None before the first trial has ended.

        ``left`` is how many trials each cell lacks.
        """
        count, total = (sum(one[index] for one in self.times.values()) for index in (0, 1))
        remaining = self.trials - self.ended
        if not count or remaining <= 0:
            return None
        usual = total / count
        means = {cell: seconds / number for cell, (number, seconds) in self.times.items()}
        weighted = sum(number * means.get(cell, usual) for cell, number in left.items())
        mean = weighted / sum(left.values()) if sum(left.values()) else usual
        under_way = sum(min(now - one.since, means.get(one.cell, usual)) for one in self.running.values())
        return max(0.0, (remaining * mean - under_way) / min(self.num_workers, remaining))


class Runs:
    """The runs of one grid, from the lines of its ``live.jsonl``; what is no line of ours is left out."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}

    def clear(self) -> None:
        self.runs.clear()

    def tell(self, lines: Iterable[bytes], watched: str) -> None:
        """Takes in the lines; ``watched`` is the score that curves show."""
        for line in lines:
            try:
                told = json.loads(line)
                self._take(told, watched)
            except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
                continue  # half written, or not ours

    def _take(self, told: Mapping[str, Any], watched: str) -> None:
        take = TAKERS.get(told["event"])
        if take is None:
            return
        name = str(told["run"])
        run = self.runs.setdefault(name, Run())
        run.seen, run.is_over = max(run.seen, _number(told["at"])), False
        take(run, told, watched)
        if len(self.runs) > MOST_RUNS:
            del self.runs[min(self.runs, key=lambda one: self.runs[one].seen)]

    def under_way(self, now: float) -> list[tuple[str, int, Running]]:
        """Lists what runs: run, worker and trial."""
        live = [(name, run) for name, run in self.runs.items() if not run.is_over and not run.is_silent(now)]
        return [(name, worker, one) for name, run in live for worker, one in sorted(run.running.items())]


def _begin(run: Run, told: Mapping[str, Any], watched: str) -> None:
    run.trials, run.num_workers, run.ended = int(told["trials"]), max(1, int(told["workers"])), 0


def _started(run: Run, told: Mapping[str, Any], watched: str) -> None:
    if len(run.running) < MOST_WORKERS or told["worker"] in run.running:
        epochs = told.get("epochs")
        run.running[int(told["worker"])] = Running(
            str(told["trial"]),
            str(told["cell"]),
            int(told["seed"]),
            _number(told["since"]),
            None if epochs is None else _number(epochs),
            str(told.get("node", "")),
        )


def _point(run: Run, told: Mapping[str, Any], watched: str) -> None:
    one, scores = run.running.get(int(told["worker"])), told["scores"]
    if one is None or one.trial != told["trial"]:
        return
    one.step = int(told["step"])
    value = scores.get(watched)
    if value is not None:
        one.points.append((_number(told["epoch"]), _number(value)))
        one.points = thinned(one.points)


def _ended(run: Run, told: Mapping[str, Any], watched: str) -> None:
    one = run.running.pop(int(told["worker"]), None)
    run.ended += 1
    if one is not None and len(run.times) < 10_000:
        times = run.times.setdefault(one.cell, [0, 0.0])
        times[0] += 1
        times[1] += max(0.0, _number(told["at"]) - one.since)


def _lost(run: Run, told: Mapping[str, Any], watched: str) -> None:
    run.running.pop(int(told["worker"]), None)


def _beat(run: Run, told: Mapping[str, Any], watched: str) -> None:
    pass


def _end(run: Run, told: Mapping[str, Any], watched: str) -> None:
    run.running.clear()
    run.is_over = True


TAKERS: dict[str, Callable[[Run, Mapping[str, Any], str], None]] = {
    **{"begin": _begin, "started": _started, "point": _point, "ended": _ended},
    **{"lost": _lost, "beat": _beat, "end": _end},
}


def thinned(points: Points) -> Points:
    """Returns the points, every other one where they are many; the first and the last stay."""
    return points if len(points) <= MOST_POINTS else [*points[:-1:2], points[-1]]


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number
