"""One grid as the live page shows it, kept up from the files of its folder."""

from __future__ import annotations

import csv
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bench.analysis.amounts import axis_label, capital, spoken, value
from bench.record.live import LIVE
from bench.record.status import Status
from bench.record.table import decode_text
from bench.watch.assess import Outline
from bench.watch.runs import Points, Running, Runs, thinned
from bench.watch.tail import Tail

MOST_CELLS, MOST_FAILURES, MOST_PANELS, MOST_LINES, MOST_CURVES = 200, 50, 12, 8, 240
TAIL_BYTES = 400_000  # of the curves of an earlier run, at first
ERROR_LETTERS = 300
View = dict[str, dict[str, Any]]


class Row(NamedTuple):
    """What is kept of a recorded trial."""

    cell: str
    seed: str
    status: str
    score: float | None
    error: str


@dataclass
class Cell:
    """The trials of a cell that answer the question: how many ended, and the sum of their scores."""

    done: int = 0
    failed: int = 0
    scored: int = 0
    total: float = 0.0

    def count(self, row: Row, score: float | None, sign: int) -> None:
        """Adds a row, or takes it away with ``sign`` -1."""
        self.done += sign * (row.status in ENDED)
        self.failed += sign * (row.status in LOST)
        if score is not None:
            self.scored += sign
            self.total += sign * score


ENDED = {status.value for status in Status if status.has_ended}
LOST = ENDED - {Status.OK.value}


@dataclass
class Grid:
    """A results folder: its plan in outline, its rows, its runs, and its last curves."""

    folder: Path
    outline: Outline | None = None
    problem: str = ""
    sections: dict[str, str] = field(default_factory=dict)  # HTML that the worker made
    version: int = 0  # grows with every change

    def __post_init__(self) -> None:
        self._trials = Tail(self.folder / "trials.csv")
        self._curves = Tail(self.folder / "curves.csv", most=TAIL_BYTES)
        self._live = Tail(self.folder / LIVE, has_header=False)
        self._forget()

    def _forget(self) -> None:
        self._rows: dict[str, Row] = {}
        self._cells: dict[str, Cell] = {}
        self._failures: OrderedDict[str, tuple[int, Row]] = OrderedDict()  # the newest last, numbered
        self._count = 0
        self._recent: OrderedDict[str, Points] = OrderedDict()  # by trial, the newest last
        self._runs = Runs()

    def learn(self, outline: Outline | None, problem: str) -> None:
        """Takes in a plan; what was read with another is read again."""
        known, self.outline, self.problem = self.outline, outline, problem
        self.version += 1
        if known != outline:
            self.__post_init__()

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Changes whenever the plan does."""
        return tuple(_stamp(self.folder / name) for name in ("plan.json", "grid.yaml"))

    def recorded(self) -> tuple[int, int, int]:
        """Changes whenever a trial is recorded."""
        return _stamp(self.folder / "trials.csv")

    # --- reading ----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Reads what is new."""
        if self.outline is None:
            return
        anew, lines = self._trials.read()
        if anew:
            self._rows, self._cells, self._failures = {}, {}, OrderedDict()
        for row in _rows(self._trials.header, lines):
            self._take(row, self.outline)
        restarted, points = self._curves.read()
        if restarted:
            self._recent = OrderedDict()
        for row in _rows(self._curves.header, points):
            self._take_point(row, self.outline.watched.name)
        begun, told = self._live.read()
        if begun:
            self._runs.clear()
        self._runs.tell(told, self.outline.watched.name)
        if anew or lines or restarted or points or begun or told:
            self.version += 1

    def _take(self, row: dict[str, str], outline: Outline) -> None:
        trial, metric = row.get("trial_id", ""), outline.metric
        if trial not in outline.trials:
            return
        score = _float(row.get(metric.name, "")) if row.get("status") == Status.OK else None
        text = decode_text(row.get("error", ""))[:ERROR_LETTERS]
        cell = outline.trials[trial]  # as it is called today: the row has what it was called when it was recorded
        new = Row(cell, row.get("seed", ""), row.get("status", ""), score, text)
        old = self._rows.get(trial)
        self._rows[trial] = new
        if trial in outline.compared:
            tally = self._cells.setdefault(cell, Cell())
            for one, sign in ((old, -1), (new, 1)):
                if one is not None:
                    tally.count(one, _compared(one.score, metric.scale), sign)
        self._failures.pop(trial, None)
        if new.status in LOST:
            self._count += 1
            self._failures[trial] = (self._count, new)
            if len(self._failures) > MOST_FAILURES:
                self._failures.popitem(last=False)

    def _take_point(self, row: dict[str, str], watched: str) -> None:
        place, score = _float(row.get("epoch", "")), _float(row.get(watched, ""))
        if place is None or score is None:
            return
        trial = row.get("trial_id", "")
        points = [] if row.get("step") == "0" else self._recent.pop(trial, [])
        points.append((place, score))
        self._recent.pop(trial, None)
        self._recent[trial] = thinned(points)
        if len(self._recent) > MOST_CURVES:
            self._recent.popitem(last=False)

    # --- showing ----------------------------------------------------------------------------------------------------

    def progress(self, now: float) -> dict[str, Any]:
        """Says how far the grid is, in numbers and a sentence."""
        if self.outline is None:
            return {"state": "unread", "planned": 0, "done": 0, "failed": 0, "said": self.problem or "being read"}
        done = sum(row.status in ENDED for row in self._rows.values())
        failed = sum(row.status in LOST for row in self._rows.values())
        planned, under_way = max(done, self.outline.planned), self._runs.under_way(now)
        silent = [run for run in self._runs.runs.values() if run.is_silent(now)]
        state = "running" if under_way else "silent" if silent else "ended" if done >= planned else "stopped"
        said = f"{done:,} of {planned:,} trials"
        said += f", {failed:,} without a result" if failed else ""
        said += f", {len(under_way)} running" if under_way else ""
        left = self._seconds_left(now) if under_way else None
        said += f", about {duration(left)} left" if left is not None else ""
        if state == "silent":
            said += f"; no sign of life of its run for {duration(now - max(run.seen for run in silent))}"
        return {"state": state, "planned": planned, "done": done, "failed": failed, "said": said}

    def _seconds_left(self, now: float) -> float | None:
        assert self.outline is not None
        left = {cell: count - self._cells.get(cell, Cell()).done for cell, count in self.outline.per_cell.items()}
        left = {cell: count for cell, count in left.items() if count > 0}
        known = [run.seconds_left(left, now) for run in self._runs.runs.values() if not run.is_over]
        return max((one for one in known if one is not None), default=None)

    def view(self, now: float) -> View:
        """Returns all that the page shows of the grid, in parts that are sent where they change."""
        if self.outline is None:
            return {"head": {"name": self.folder.name, "question": self.problem}}
        running = self._runs.under_way(now)
        watched, metric = self.outline.watched, self.outline.metric
        head: dict[str, Any] = {"name": self.folder.name, "question": self.outline.question, "metric": spoken(metric)}
        head |= {"curve": capital(axis_label(watched)), "share": watched.is_share, "log": watched.scale == "log"}
        head["unit"] = self.outline.unit
        cells = self._cells_shown(running)
        if len(cells) < len(self.outline.cells):
            head["cells"] = f"{len(cells)} of {len(self.outline.cells):,} cells: those that run first, then in order"
        return {
            "head": head,
            "workers": {f"{run} {worker}": self._worker(worker, one, now) for run, worker, one in running},
            "cells": {cell: self._cell(cell, at) for at, cell in enumerate(cells)},
            "failures": {trial: row._asdict() | {"at": -count} for trial, (count, row) in self._failures.items()},
            "curves": self._panels(running),
            "sections": dict(self.sections),
        }

    def _worker(self, worker: int, one: Running, now: float) -> dict[str, Any]:
        assert self.outline is not None
        epoch = one.points[-1][0] if one.points else 0.0
        place = f"epoch {epoch:.3g} of {one.epochs:g}" if one.epochs else f"step {one.step:,}"
        place = place if one.epochs or one.points or one.step else "starting"
        score = value(self.outline.watched, one.points[-1][1]) if one.points else ""
        name = f"{worker} on {one.node}" if one.node else str(worker)
        return {
            "at": worker,
            "worker": name,
            "cell": one.cell,
            "seed": one.seed,
            "place": place,
            "score": score,
            "seconds": duration(now - one.since),
        }

    def _cells_shown(self, running: Iterable[tuple[str, int, Running]]) -> list[str]:
        assert self.outline is not None
        first = dict.fromkeys(one.cell for _, _, one in running)
        if len(self.outline.cells) <= MOST_CELLS:
            return list(self.outline.cells)
        return list(first | dict.fromkeys(self.outline.cells))[:MOST_CELLS]

    def _cell(self, cell: str, at: int) -> dict[str, Any]:
        assert self.outline is not None
        own, metric = self._cells.get(cell, Cell()), self.outline.metric
        mean = ""
        if own.scored:
            compared = own.total / own.scored
            mean = value(metric, math.exp(compared) if metric.scale == "log" else compared)
        done = f"{own.done} of {max(own.done, self.outline.per_cell.get(cell, 0))}"
        return {"at": at, "cell": cell, "done": done, "mean": mean, "failed": own.failed or ""}

    def _panels(self, running: list[tuple[str, int, Running]]) -> dict[str, Any]:
        """Chooses the cells of the newest curves, those that grow first, and of each the newest lines."""
        lines: dict[str, list[dict[str, Any]]] = {}
        for trial, cell, seed, points, grows in self._lines(running):
            if cell in lines or len(lines) < MOST_PANELS:
                own = lines.setdefault(cell, [])
                if len(own) < MOST_LINES:
                    shown = [[_short(x), _short(y)] for x, y in points]
                    own.append({"trial": trial, "seed": seed, "grows": grows, "points": shown})
        first = {cell: any(line["grows"] for line in own) for cell, own in lines.items()}
        return {
            cell: {"at": 1 - first[cell], "cell": cell, "lines": own, "said": self._said(own)}
            for cell, own in lines.items()
        }

    def _lines(self, running: list[tuple[str, int, Running]]) -> Iterator[tuple[str, str, str, Points, bool]]:
        for _, _, one in running:
            yield one.trial, one.cell, str(one.seed), one.points, True
        under_way = {one.trial for _, _, one in running}
        for trial, points in reversed(self._recent.items()):
            row = self._rows.get(trial)
            if row is not None and trial not in under_way:
                yield trial, row.cell, row.seed, points, False

    def _said(self, lines: list[dict[str, Any]]) -> str:
        """Says in words where the lines of a panel begin and how far they have come."""
        assert self.outline is not None
        watched = self.outline.watched
        known = [line for line in lines if line["points"]]
        ends = [
            f"seed {line['seed']}{' (running)' if line['grows'] else ''}: "
            f"{value(watched, line['points'][0][1])} to {value(watched, line['points'][-1][1])}"
            for line in known
        ]
        return "; ".join(ends) or "no point yet"


def _rows(header: bytes, lines: Iterable[bytes]) -> Iterator[dict[str, str]]:
    """Reads lines of a CSV file; those that do not fit the header are left out."""
    names = _cells(header)
    for line in lines:
        cells = _cells(line)
        if cells and len(cells) == len(names):
            yield dict(zip(names, cells, strict=True))


def _cells(line: bytes) -> list[str]:
    """Returns the cells of a line; none where it is no line of CSV."""
    try:
        return next(csv.reader([line.decode("utf-8", "replace")]), [])
    except csv.Error:  # a cell that is too long, or a NUL
        return []


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.lstat()
    except OSError:
        return (0, 0, 0)
    return status.st_ino, status.st_size, status.st_mtime_ns


def _float(cell: str) -> float | None:
    try:
        found = float(cell)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _compared(score: float | None, scale: str) -> float | None:
    """Returns a score as it is averaged: its logarithm on a log scale, where it has one."""
    if score is None or scale == "linear":
        return score
    return math.log(score) if score > 0 else None


def _short(number: float) -> float:
    return float(f"{number:.4g}")


def duration(seconds: float) -> str:
    """Returns the seconds in words: ``40 s``, ``3 min``, ``2 h 10 min``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
