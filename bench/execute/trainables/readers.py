"""Where a command leaves its metrics: JSON lines, JSON, CSV, events of TensorBoard, or its output by a pattern.

Each reader is asked again and again while the command runs, and a last time when it has ended. What cannot be read
rightly is a ValueError; a last look that finds nothing at all says so in ``Reported.silent``.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.execute.trainables.reported import Reported, number_of, numbers
from bench.record.printable import without_escapes
from lab.result import Evaluation

STEPS = ("step", "epoch")  # names of steps where the grid does not say
BEGIN = 4096  # bytes by which a file is known to be the same one


class Reader(Protocol):
    def read(self, reported: Reported, *, is_last: bool) -> Evaluation | None:
        """Takes what is new; returns the last point of it. Raises ValueError for what cannot be read."""
        ...


def take(row: Mapping[str, Any], reported: Reported, step_name: str | None) -> Evaluation | None:
    """One row: a point of the curve where it has a step, else final values."""
    names = STEPS if step_name is None else (step_name,)
    name = next((one for one in names if number_of(row.get(one)) is not None), None)
    reported.note(row)
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
class _Growing:
    """A file that is appended to; one that was cut or written anew is read from its start."""

    path: Path
    _begin: bytes = b""
    _offset: int = 0

    def new(self) -> tuple[bytes, bool]:
        """Returns what is there beyond what was used, and whether that is the file's start; nothing without a file."""
        try:
            with self.path.open("rb") as file:
                begin = file.read(BEGIN)
                is_same = begin.startswith(self._begin) and file.seek(0, io.SEEK_END) >= self._offset
                self._begin, self._offset = begin, self._offset if is_same else 0
                file.seek(self._offset)
                return file.read(), self._offset == 0
        except (FileNotFoundError, NotADirectoryError):
            return b"", True
        except IsADirectoryError:
            raise ValueError(f"{self.path} is a folder, no file") from None

    def use(self, data: bytes) -> None:
        self._offset += len(data)


@dataclass
class JsonLines:
    """A mapping a line; the last line may still be under way."""

    path: Path
    step: str | None = None
    is_asked: bool = True  # by the grid: it is told of where it is not there
    _file: _Growing = field(init=False)
    _line: int = 0

    def __post_init__(self) -> None:
        self._file = _Growing(self.path)

    def read(self, reported: Reported, *, is_last: bool) -> Evaluation | None:
        new, is_start = self._file.new()
        whole = new if is_last else new[: new.rfind(b"\n") + 1]
        self._file.use(whole)
        self._line = 0 if is_start else self._line
        if is_last and self.is_asked and not self.path.exists():
            reported.silent.append(f"there is no file {_named(self.path)}")
        return _last(take(row, reported, self.step) for row in self._rows(whole))

    def _rows(self, text: bytes) -> Iterator[Mapping[str, Any]]:
        for line in text.split(b"\n"):
            self._line += 1
            if line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                if not isinstance(row, dict):
                    raise ValueError(f"{self.path.name}:{self._line}: must be a JSON mapping, got {line[:80]!r}")
                yield row
        self._line -= 1  # what follows the last line feed is no line yet


@dataclass
class Json:
    """A mapping of final values, or a list of rows; a list in a mapping (``log_history``) is of rows, too.

    Lists of numbers in a mapping that are equally long, as Keras keeps its history, are columns of a table.
    """

    path: Path
    step: str | None = None

    def read(self, reported: Reported, *, is_last: bool) -> Evaluation | None:
        if not is_last:
            return None
        if not self.path.is_file():
            reported.silent.append(f"there is no file {_named(self.path)}")
            return None
        try:
            whole = json.loads(self.path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.path.name}: no JSON: {error}") from None
        if not isinstance(whole, dict | list):
            raise ValueError(f"{self.path.name}: must be a mapping or a list of rows, got {str(whole)[:80]}")
        if isinstance(whole, dict):
            reported.note(whole)
            reported.add(numbers(whole))
        return _last(take(row, reported, self.step) for row in self._rows(whole))

    def _rows(self, whole: dict[str, Any] | list[Any]) -> Iterator[Mapping[str, Any]]:
        inner = whole if isinstance(whole, list) else [*whole.values()]
        lists = [inner] if isinstance(whole, list) else [one for one in inner if isinstance(one, list)]
        yield from (row for one in lists for row in one if isinstance(row, dict))
        for table in map(_columns, [whole, *inner]):
            named = any(name in table for name in ((self.step,) if self.step else STEPS))
            for index, cells in enumerate(zip(*table.values(), strict=True)):
                row = dict(zip(table, cells, strict=True))
                yield row if named else row | {self.step or "step": index}


def _columns(value: Any) -> dict[str, list[Any]]:
    """Returns the lists of numbers of a mapping, none if they differ in length."""
    lists = {name: one for name, one in value.items() if isinstance(one, list)} if isinstance(value, dict) else {}
    table = {name: one for name, one in lists.items() if all(number_of(cell) is not None for cell in one)}
    return table if len({len(one) for one in table.values()}) == 1 else {}


@dataclass
class Csv:
    """A header, then a row per point; values of one step may stand on several rows, columns may come later.

    Cells are parted by what parts those of the header: commas, semicolons (numbers then may have decimal commas), tabs.
    """

    path: Path
    step: str | None = None
    _file: _Growing = field(init=False)
    _header: list[str] = field(default_factory=list)
    _delimiter: str = ","
    _index: int = 0  # of the next row
    _line: int = 0

    def __post_init__(self) -> None:
        self._file = _Growing(self.path)

    def read(self, reported: Reported, *, is_last: bool) -> Evaluation | None:
        new, is_start = self._file.new()
        if is_start:
            self._header, self._index, self._line = [], 0, 0
        whole = new if is_last else new[: new.rfind(b"\n") + 1]
        if not is_last and whole.count(b'"') % 2:  # a cell of several lines is under way
            return None
        self._file.use(whole)
        text = whole.decode("utf-8-sig" if is_start else "utf-8", "replace").replace("\0", "")
        points = [point for cells in self._rows(text) if (point := self._take(cells, reported))]
        if is_last and not self._header:
            there = "is empty" if self.path.exists() else "is not there"
            reported.silent.append(f"the file {_named(self.path)} {there}")
        return _last(points)

    def _rows(self, text: str) -> Iterator[list[str]]:
        """Yields the cells of each row; a header is told from them and kept."""
        if not self._header:
            first = text.lstrip().partition("\n")[0]
            self._delimiter = max(",;\t", key=first.count)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter)
        before = self._line
        try:
            for row in lines:
                self._line = before + lines.line_num
                cells = [cell.strip() for cell in row]
                if not any(cells):
                    continue
                if self._header and not self._is_header(cells):
                    yield cells
                    continue
                self._header = cells
                if self.step is not None and self.step not in cells:
                    there = ", ".join(filter(None, cells))
                    raise ValueError(f"{self.path.name}: there is no column {self.step}; there are {there}")
        except csv.Error as error:
            raise ValueError(f"{self.path.name}:{self._line + 1}: no CSV: {error}") from None

    def _is_header(self, cells: Sequence[str]) -> bool:
        """Tells a header that stands below rows: names that are known, and no number."""
        return bool(set(filter(None, self._header)) & set(cells)) and not any(
            _number(cell) is not None for cell in cells
        )

    def _take(self, cells: Sequence[str], reported: Reported) -> Evaluation | None:
        if any(cells[len(self._header) :]):
            rule = f"{len(cells)} cells below {len(self._header)} columns, so which is which nobody knows"
            raise ValueError(f"{self.path.name}:{self._line}: {rule}")
        values: dict[str, Any] = {}
        for name, cell in zip(self._header, cells, strict=False):
            value = self._value(cell)
            if name in values and value not in ("", values[name]) and value == value:
                rule = f"two columns are called {name}, and hold {values[name]} and {value}"
                raise ValueError(f"{self.path.name}:{self._line}: {rule}")
            if name and value != "":
                values[name] = value
        names = [self.step] if self.step else STEPS
        known = any(number_of(values.get(name)) is not None for name in names)
        self._index += 1
        row = values if known else values | {"step": self._index - 1}
        return take(row, reported, self.step if known else "step")

    def _value(self, cell: str) -> float | str:
        """Returns the number that a cell is, else its text."""
        comma = self._delimiter == ";" and cell.count(",") == 1 and "." not in cell
        number = _number(cell.replace(",", ".") if comma else cell)
        return cell if number is None else number


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


@dataclass
class TensorBoard:
    """Scalars of event files in a folder and below it, each of them, none left out.

    A tag that several folders have, such as those of training and validation, is called ``FOLDER/TAG``.
    """

    path: Path
    step: str | None = None
    _events: dict[Path, Any] = field(default_factory=dict)  # an accumulator per folder
    _seen: Reported = field(default_factory=Reported)  # while it runs: which folders there will be, nobody knows

    def read(self, reported: Reported, *, is_last: bool) -> Evaluation | None:
        folders = {file.parent for file in self.path.rglob("events.out.tfevents.*")}
        if not folders:
            if is_last:
                reported.silent.append(f"there are no event files below {_named(self.path)}")
            return None
        for folder in sorted(folders.difference(self._events)):
            self._events[folder] = _accumulator(folder)
        scalars = {folder: dict(_scalars(events.Reload())) for folder, events in sorted(self._events.items())}
        tags = [tag for found in scalars.values() for tag in found]
        target, points = reported if is_last else self._seen, []
        for folder, found in scalars.items():
            for tag, values in found.items():
                inner = folder.relative_to(self.path).as_posix()
                name = f"{inner}/{tag}" if tags.count(tag) > 1 and inner != "." else tag
                points += [target.add(numbers({name: value}), step) for step, value in values]
        reported.seconds |= self._seen.seconds if is_last else {}
        return _last(points)


def _accumulator(folder: Path) -> Any:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        raise ValueError("events of TensorBoard need the extra `tensorboard` of this package") from None
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})


def _scalars(events: Any) -> Iterator[tuple[str, list[tuple[int, Any]]]]:
    """Yields tags with their steps and values, kept as scalars or as tensors without dimensions."""
    from tensorboard.util.tensor_util import make_ndarray

    tags = events.Tags()
    for tag in tags["scalars"]:
        yield tag, [(one.step, one.value) for one in events.Scalars(tag)]
    for tag in tags["tensors"]:
        found = [(one.step, make_ndarray(one.tensor_proto)) for one in events.Tensors(tag)]
        if values := [(step, value) for step, value in found if value.ndim == 0]:
            yield tag, values


@dataclass
class Output:
    """The output, line by line, by a pattern whose groups are metrics; the group ``step`` makes it a point.

    A value on a line without a step belongs to the last step before it where it comes again; else it is final.
    """

    pattern: re.Pattern[str]
    _lines: list[str] = field(default_factory=list)
    _rest: str = ""
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )
    _step: int | None = None
    _once: dict[str, tuple[int, float]] = field(default_factory=dict)  # by name: the step before the only value so far
    _placed: set[str] = field(default_factory=set)  # names whose values belong to steps
    _has_matched: bool = False

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + self._decoder.decode(data)).replace("\r", "\n").split("\n")
        self._lines += [line for line in map(without_escapes, lines) if self.pattern.search(line)]
        self._rest = self._rest[-100_000:]

    def read(self, reported: Reported, *, is_last: bool) -> Evaluation | None:
        lines, self._lines = [*self._lines, *([without_escapes(self._rest)] if is_last else [])], []
        points = [self._take(match, reported) for line in lines for match in self.pattern.finditer(line)]
        self._has_matched |= bool(points)
        if is_last and not self._has_matched:
            reported.silent.append("the pattern of `stdout` matches no line of the output")
        return _last(points)

    def _take(self, match: re.Match[str], reported: Reported) -> Evaluation | None:
        caught = {name: text for name, text in match.groupdict().items() if text is not None}
        values = {name: text if (number := _number(text)) is None else number for name, text in caught.items()}
        if (step := number_of(values.get("step"))) is not None:
            point = take(values, reported, "step")
            self._step = int(step)
            return point
        reported.note(values)
        return _last(self._place(name, value, reported) for name, value in numbers(values).items())

    def _place(self, name: str, value: float, reported: Reported) -> Evaluation | None:
        first, before = self._once.setdefault(name, (-1 if self._step is None else self._step, value))
        if self._step is None or (name not in self._placed and self._step == first):
            self._once[name] = first, value
            return reported.add({name: value})
        if name not in self._placed:
            self._placed.add(name)
            reported.final.pop(name, None)
            reported.add({name: before}, max(0, first))
        return reported.add({name: value}, self._step)


def _named(path: Path) -> str:
    """Names a path as it is from the working folder."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


FILES: dict[str, type[JsonLines] | type[Json] | type[Csv] | type[TensorBoard]] = {
    "jsonl": JsonLines,
    "json": Json,
    "csv": Csv,
    "tensorboard": TensorBoard,
}


def make_readers(read: Mapping[str, str], metrics: Path, place: Mapping[str, Path]) -> list[Reader]:
    """The explicit channel, ``metrics``, and what the grid names; ``place`` fills the placeholders of its path."""
    readers: list[Reader] = [JsonLines(metrics, is_asked=False)]
    for kind, where in read.items():
        if kind == "stdout":
            readers.append(Output(re.compile(where)))
        elif kind != "step":
            path = where
            for name, folder in place.items():
                path = path.replace(f"{{{name}}}", str(folder))
            readers.append(FILES[kind](Path(path), read.get("step")))
    return readers
