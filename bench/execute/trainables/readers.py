"""Where a command leaves its metrics: JSON lines, JSON, CSV, events of TensorBoard, or its output by a pattern.

Each reader is asked again and again while the command runs, and a last time when it has ended.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.execute.trainables.reported import Reported, number_of, numbers
from lab.result import Evaluation

STEPS = ("step", "epoch")  # names of steps where the grid does not say


class Reader(Protocol):
    def read(self, reported: Reported, *, is_last: bool) -> Evaluation | None:
        """Takes what is new; returns the last point of it. Raises ValueError for what cannot be read."""
        ...


def take(row: Mapping[str, Any], reported: Reported, step_name: str | None) -> Evaluation | None:
    """One row: a point of the curve where it has a step, else final values."""
    names = STEPS if step_name is None else (step_name,)
    name = next((one for one in names if number_of(row.get(one)) is not None), None)
    if name is None:
        return reported.add(numbers(row))
    step = number_of(row[name])
    if step is None or step < 0 or step != int(step):
        raise ValueError(f"{name} must be an integer >= 0, got {row[name]}")
    return reported.add(numbers({key: value for key, value in row.items() if key != name or key == "epoch"}), int(step))


def _last(points: Iterable[Evaluation | None]) -> Evaluation | None:
    last = None
    for point in points:
        last = point or last
    return last


@dataclass
class JsonLines:
    """A mapping a line; the last line may still be under way."""

    path: Path
    step: str | None = None
    _offset: int = 0
    _line: int = 0

    def read(self, reported: Reported, *, is_last: bool) -> Evaluation | None:
        if not self.path.is_file():
            return None
        with self.path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        whole = new if is_last else new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        return _last(take(row, reported, self.step) for row in self._rows(whole))

    def _rows(self, text: bytes) -> Iterator[Mapping[str, Any]]:
        for line in text.splitlines():
            self._line += 1
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError:
                    row = None
                if not isinstance(row, dict):
                    raise ValueError(f"{self.path.name}:{self._line}: must be a JSON mapping, got {line[:80]!r}")
                yield row


@dataclass
class Json:
    """A mapping of final values, or a list of rows; a list in a mapping (``log_history``) is of rows, too."""

    path: Path
    step: str | None = None

    def read(self, reported: Reported, *, is_last: bool) -> Evaluation | None:
        if not is_last or not self.path.is_file():
            return None
        try:
            whole = json.loads(self.path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{self.path.name}: no JSON: {error}") from None
        lists = [whole] if isinstance(whole, list) else [v for v in whole.values() if isinstance(v, list)]
        rows = [row for one in lists for row in one if isinstance(row, dict)]
        if isinstance(whole, dict):
            reported.add(numbers(whole))
        return _last(take(row, reported, self.step) for row in rows)


@dataclass
class Csv:
    """A header, then a row per point; values of one step may stand on several rows, columns may come later."""

    path: Path
    step: str | None = None
    _size: int = -1

    def read(self, reported: Reported, *, is_last: bool) -> Evaluation | None:
        if not self.path.is_file() or (not is_last and self.path.stat().st_size == self._size):
            return None
        self._size = self.path.stat().st_size
        text = self.path.read_text(encoding="utf-8-sig", errors="replace")
        rows = list(csv.DictReader((text if is_last else text[: text.rfind("\n") + 1]).splitlines()))
        if self.step is not None and rows and self.step not in rows[0]:
            raise ValueError(f"{self.path.name}: there is no column {self.step}; there are {', '.join(rows[0])}")
        points = []
        for index, row in enumerate(rows):
            values: dict[str, Any] = {
                name: float(cell) for name, cell in row.items() if isinstance(name, str) and _is_number(cell)
            }
            known = any(name in values for name in ([self.step] if self.step else STEPS))
            points.append(take(values if known else values | {"step": index}, reported, self.step if known else None))
        return _last(points)


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


@dataclass
class TensorBoard:
    """Scalars of event files in a folder and below it, each of them, none left out."""

    path: Path
    step: str | None = None

    def read(self, reported: Reported, *, is_last: bool) -> Evaluation | None:
        if not is_last:
            return None
        try:
            from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
            from tensorboard.util.tensor_util import make_ndarray
        except ImportError:
            raise ValueError("events of TensorBoard need the extra `tensorboard` of this package") from None
        points = []
        for folder in sorted({file.parent for file in self.path.rglob("events.out.tfevents.*")}):
            events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()
            tags = events.Tags()
            for tag in tags["scalars"]:
                points += [reported.add(numbers({tag: one.value}), one.step) for one in events.Scalars(tag)]
            for tag in tags["tensors"]:
                found = [(one.step, make_ndarray(one.tensor_proto)) for one in events.Tensors(tag)]
                points += [reported.add(numbers({tag: value}), step) for step, value in found if value.ndim == 0]
        return _last(points)


@dataclass
class Output:
    """Standard output, line by line, by a pattern whose groups are metrics; the group ``step`` makes it a point."""

    pattern: re.Pattern[str]
    _lines: list[str] = field(default_factory=list)
    _rest: str = ""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data.decode("utf-8", "replace")).replace("\r", "\n").split("\n")
        self._lines += [line for line in lines if self.pattern.search(line)]
        self._rest = self._rest[-100_000:]

    def read(self, reported: Reported, *, is_last: bool) -> Evaluation | None:
        lines, self._lines = [*self._lines, *([self._rest] if is_last else [])], []
        points = []
        for line in lines:
            for match in self.pattern.finditer(line):
                named = {name: float(text) for name, text in match.groupdict().items() if _is_number(text)}
                points.append(take(named, reported, "step"))
        return _last(points)


FILES: dict[str, type[JsonLines] | type[Json] | type[Csv] | type[TensorBoard]] = {
    "jsonl": JsonLines,
    "json": Json,
    "csv": Csv,
    "tensorboard": TensorBoard,
}


def make_readers(read: Mapping[str, str], metrics: Path, place: Mapping[str, Path]) -> list[Reader]:
    """The explicit channel, ``metrics``, and what the grid names; ``place`` fills the placeholders of its path."""
    readers: list[Reader] = [JsonLines(metrics)]
    for kind, where in read.items():
        if kind == "stdout":
            readers.append(Output(re.compile(where)))
        elif kind != "step":
            path = where
            for name, folder in place.items():
                path = path.replace(f"{{{name}}}", str(folder))
            readers.append(FILES[kind](Path(path), read.get("step")))
    return readers
