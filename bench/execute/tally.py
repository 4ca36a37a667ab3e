"""Counts what has happened in a run, per cell and per worker, at a small cost per event. Nothing is shown here.

The thread that draws reads while the one that runs writes: what it iterates over it copies first, in one step.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.grid.metrics import Metric
from bench.grid.plan import Plan, Trial
from bench.record.outcome import Outcome
from bench.record.status import Status
from lab.result import Evaluation

ENOUGH = 0.05  # share of a trial from which on its pace tells how long it takes


@dataclass
class WorkerTally:
    """One worker: what it is doing."""

    trial: Trial
    since: float
    node: str = ""
    point: Evaluation | None = None

    @property
    def epochs(self) -> float | None:
        """Those that the trial asks for; None where it has no such setting."""
        epochs = self.trial.settings.flat().get("train.epochs")
        return epochs if isinstance(epochs, int | float) else None

    @property
    def share(self) -> float:
        """How much of the trial is done, as far as its evaluations tell."""
        epochs = self.epochs
        return min(1.0, self.point.epoch / epochs) if self.point is not None and epochs else 0.0


@dataclass
class CellTally:
    """One cell: its trials that ended, and the shown metric over those that ended well.

    ``seconds`` and ``timed`` are of trials of this run; ``left`` are to be run.
    """

    label: str
    planned: int = 0
    left: int = 0
    count: int = 0
    total: float = 0.0  # logarithms on a log scale
    best: float = math.nan
    lost: Counter[Status] = field(default_factory=Counter)
    seconds: float = 0.0
    timed: int = 0

    @property
    def known_left(self) -> float:
        """Seconds that its trials that are left take, if one has been timed."""
        return self.left * self.seconds / self.timed if self.timed else 0.0


class Tally:
    """The run so far. ``now`` is a clock in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.trials: dict[str, Trial] = {}
        self.cells: dict[str, CellTally] = {}
        self.recent: dict[str, None] = {}  # cells by label, the one that something happened to last at the end
        self.workers: dict[int, WorkerTally | None] = {}
        self.nodes: dict[str, int] = {}  # trials that ended on each node of a cluster
        self.counts: Counter[Status] = Counter()
        self.num_workers, self.start = 1, now()
        self.ended = 0  # trials of this batch
        self._seconds, self._timed = 0.0, 0
        self._known_left, self._unknown_left = 0.0, 0  # seconds, and trials of cells of which none is timed

    def begin(
        self, plan: Plan, trials: Sequence[Trial], num_workers: int, rows: Iterable[Mapping[str, str]] = ()
    ) -> None:
        """Starts a batch; ``rows`` are those of the record: what ended before counts in its cell."""
        tuning = any(trial.stage == "tune" for trial in trials)
        self.selecting = plan.selecting
        self.metric = plan.measures[plan.selecting] if tuning else plan.primary
        self.shows_best = tuning  # candidates: their mean tells nothing
        self.trials = {trial.trial_id: trial for trial in trials}
        self.workers, self.num_workers = dict.fromkeys(range(num_workers)), num_workers
        self.start, self.ended, self.counts = self.now(), 0, Counter()
        before = {row["trial_id"]: row for row in rows if row["trial_id"] not in self.trials}
        stages = {trial.stage for trial in trials}
        others = [one for one in plan.trials if one.stage in stages and one.trial_id not in self.trials]
        cells = {trial.cell.label: CellTally(trial.cell.label) for trial in (*plan.trials, *trials)}
        for trial in (*others, *trials):
            cells[trial.cell.label].planned += 1
        for trial in trials:
            cells[trial.cell.label].left += 1
        for trial in others:
            if (row := before.get(trial.trial_id)) is not None:
                self._count(cells[trial.cell.label], Status(row["status"]), row.get(self.metric.name, ""))
        self.cells = {label: cell for label, cell in cells.items() if cell.planned}
        self.recent = dict.fromkeys(reversed(self.cells))
        self._seconds, self._timed = 0.0, 0
        self._known_left, self._unknown_left = 0.0, len(trials)

    def started(self, worker: int, trial_id: str, node: str = "") -> None:
        trial = self.trials[trial_id]
        self.workers[worker] = WorkerTally(trial, self.now(), node)
        self._touch(trial.cell.label)
        if node:
            self.nodes.setdefault(node, 0)

    def lost(self, worker: int) -> None:
        self.workers.pop(worker, None)

    def evaluated(self, worker: int, point: Evaluation) -> None:
        line = self.workers[worker]
        assert line is not None
        line.point = point

    def finished(self, worker: int, outcome: Outcome) -> WorkerTally:
        """Counts an ended trial; returns what its worker did."""
        line, self.workers[worker] = self.workers[worker], None
        assert line is not None
        if line.node:
            self.nodes[line.node] += 1
        self.counts[outcome.status] += 1
        self.ended += 1
        cell = self.cells[line.trial.cell.label]
        measures = outcome.result.measures if outcome.result is not None else {}
        self._count(cell, outcome.status, measures.get(self.metric.name, ""))
        self._time(cell, self.now() - line.since, outcome.status)
        self._touch(cell.label)
        return line

    def seconds_left(self) -> float | None:
        """Estimates it by how long trials of the cell took, else all; before any ended, by the pace of the others."""
        running = [line for line in list(self.workers.values()) if line is not None]
        paces = [(self.now() - line.since) / line.share for line in running if line.share >= ENOUGH]
        mean = self._seconds / self._timed if self._timed else sum(paces) / len(paces) if paces else None
        if mean is None:
            return None
        spent = sum(min(self.now() - line.since, self._expected(line, mean)) for line in running)
        work = self._known_left + self._unknown_left * mean - spent
        return max(0.0, work) / max(1, min(self.num_workers, len(self.trials) - self.ended))

    def share(self) -> float:
        """How many of the batch's trials are done, those under way as far as they are."""
        return self.ended + sum(line.share for line in list(self.workers.values()) if line is not None)

    def _expected(self, line: WorkerTally, mean: float) -> float:
        cell = self.cells[line.trial.cell.label]
        return cell.seconds / cell.timed if cell.timed else mean

    def _count(self, cell: CellTally, status: Status, value: float | str) -> None:
        if status is not Status.OK:
            if status is not Status.INTERRUPTED:
                cell.lost[status] += 1
            return
        number = _number(value)
        if number is None or (self.metric.scale == "log" and number <= 0):
            return
        cell.count += 1
        cell.total += math.log(number) if self.metric.scale == "log" else number
        if not self.metric.sign * cell.best > self.metric.sign * number:
            cell.best = number

    def _time(self, cell: CellTally, seconds: float, status: Status) -> None:
        before = cell.known_left if cell.timed else 0.0
        unknown = 0 if cell.timed else cell.left
        cell.left -= 1
        if status is not Status.INTERRUPTED:
            cell.seconds, cell.timed = cell.seconds + seconds, cell.timed + 1
            self._seconds, self._timed = self._seconds + seconds, self._timed + 1
        self._known_left += (cell.known_left if cell.timed else 0.0) - before
        self._unknown_left += (0 if cell.timed else cell.left) - unknown

    def _touch(self, label: str) -> None:
        self.recent.pop(label, None)
        self.recent[label] = None


def shown_value(cell: CellTally, metric: Metric, *, best: bool) -> str:
    """Returns the mean (geometric on a log scale) or the best so far, as a reader sees it; a dash without any."""
    if not cell.count:
        return "–"
    mean = cell.total / cell.count
    value = cell.best if best else math.exp(mean) if metric.scale == "log" else mean
    return f"{100 * value:.1f}" if metric.is_share else f"{value:.4g}"


def _number(value: float | str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
