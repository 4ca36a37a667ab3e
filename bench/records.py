"""The record: CSV files that only grow, one locked, flushed and synced write an ended trial.

``trials.csv`` holds a row a trial, ``curves.csv`` a row an evaluation, ``correct.csv`` a bit a test image, and
``sources.csv`` what each fingerprint in ``trials.csv`` is of. A trial that was tried again stands there more than once
until :meth:`Records.compact`; readers take its last row.
"""

from __future__ import annotations

import base64
import csv
import errno
import io
import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock

from bench import columns
from lab.result import Evaluation

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

IDENTITY, MEASURES, ENVIRONMENT = (columns.names(kind) for kind in ("identity", "measure", "environment"))
ATTEMPTS, COMPILE_ERROR = columns.ATTEMPTS, columns.COMPILE_ERROR
CURVE = ["trial_id", *Evaluation.__dataclass_fields__]
CORRECT = ["trial_id", "num_images", "correct"]
SOURCES = ["source_fingerprint", "file", "digest"]
FINISHED = {"ok", "diverged"}  # running it again would give the same
FAILED = {"error", "out_of_memory", "timed_out"}
NUMERIC = {*(column.name for column in columns.COLUMNS if column.is_number), *CURVE[1:], "num_images"}

# A spreadsheet takes a cell that begins so for a formula.
FORMULA = re.compile(r"'*[=+\-@\t]")
# A row is one line, so that a line that ends is a row that is whole.
ESCAPES = {"\\": r"\\", "\n": r"\n", "\r": r"\r"}
PLAIN = {escape: character for character, escape in ESCAPES.items()}
ESCAPED = re.compile(r"\\[\\nr]")


class RecordError(ValueError):
    """A record file holds what this program did not write; the message says file and line."""


def encode(value: Any) -> str:
    """A value as the text of a CSV cell; :func:`decode_text` undoes what it does to text."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            line = "".join(ESCAPES.get(character, character) for character in value)
            return "'" + line if FORMULA.match(line) else line
        case list() | dict() | tuple():
            return json.dumps(value)
        case float():
            return repr(float(value))  # also of a numpy float, which is one
        case _:
            return str(value)


def decode_text(cell: str) -> str:
    text = cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
    return ESCAPED.sub(lambda match: PLAIN[match[0]], text) if "\\" in text else text


class Table:
    """One CSV file with a header. Writers hold its lock; every write ends with a whole line on the disk.

    A file that lacks one of the columns ``needed`` is not ours: reading it raises :class:`RecordError`.
    """

    def __init__(self, path: Path, needed: Sequence[str] = ()) -> None:
        self.path, self._needed = path, needed
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        self._written = (0, 0)

    def _stamp(self) -> tuple[int, int]:
        """Changes whenever somebody writes to the file."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return 0, 0
        return status.st_ino, status.st_size

    def changed(self) -> bool:
        """Whether somebody else wrote since this object last wrote or was last asked; at first, if there is a file."""
        before, self._written = self._written, self._stamp()
        return before != self._written

    def append(self, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds rows in one write; columns that the file lacks are added to it first."""
        with self._lock:
            self._set_torn_line_aside()
            header = self.header()
            missing = [column for column in columns if column not in header]
            if missing:
                header = merged(header, columns)
                self._rewrite(header, self.cells())
            text = io.StringIO()
            writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
            writer.writerows({name: encode(value) for name, value in row.items()} for row in rows)
            with self.path.open("ab", buffering=0) as file:
                end = file.tell()
                try:
                    _write_all(file, text.getvalue().encode())
                except OSError:
                    file.truncate(end)  # no room for all of it: then none of it
                    raise
            self._written = self._stamp()

    def header(self) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file), [])

    def rows(self) -> list[dict[str, str]]:
        """All whole rows as text; raises :class:`RecordError` at a row that doesn't have the header's columns."""
        return [{name: decode_text(cell) for name, cell in row.items()} for row in self.cells()]

    def cells(self) -> list[dict[str, str]]:
        """Like :meth:`rows`, each cell as it stands in the file."""
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        try:
            text = data[: data.rfind(b"\n") + 1].decode("utf-8-sig")  # a spreadsheet may put a mark first
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise RecordError(f"{self.path}:{line}: must be UTF-8, has byte {data[error.start]:#04x}") from error
        reader = csv.reader(io.StringIO(text, newline=""))
        header = next(reader, [])
        lacking = [column for column in self._needed if column not in header]
        if lacking:
            raise RecordError(f"{self.path}:1: the header must have {', '.join(lacking)}, has {', '.join(header)}")
        rows = []
        for cells in reader:
            if len(cells) != len(header):
                where = f"{self.path}:{reader.line_num}"
                raise RecordError(f"{where}: a row must have the header's {len(header)} columns, has {len(cells)}")
            rows.append(dict(zip(header, cells, strict=True)))
        return rows

    def where(self, index: int) -> str:
        """File and line of a row, counted from 0, for a message."""
        with self.path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            for _ in itertools.islice(reader, index + 2):  # the header, and up to the row
                pass
            return f"{self.path}:{reader.line_num}"

    def keep(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Rewrites the file with these of its :meth:`cells` only."""
        with self._lock:
            self._rewrite(self.header(), rows)

    def _rewrite(self, header: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
        aside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with aside.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, header, restval="", lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self.path)
        finally:
            aside.unlink(missing_ok=True)

    def _set_torn_line_aside(self) -> None:
        """A write that was cut off leaves a line without its end: it goes to a file of its own."""
        if not self.path.exists() or self.path.stat().st_size == 0:
            return
        with self.path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) == b"\n":
                return
            file.seek(0)
            whole = file.read()
            end = whole.rfind(b"\n") + 1
            with self.path.with_name(f"{self.path.name}.torn").open("ab") as torn:
                torn.write(whole[end:] + b"\n")
            file.truncate(end)


def _write_all(file: io.FileIO, data: bytes) -> None:
    """Writes and syncs; raises OSError where not all of it is on the disk."""
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file.name))
    os.fsync(file.fileno())


def merged(header: Sequence[str], columns: Sequence[str]) -> list[str]:
    """The columns of both, in the order of ``columns``; those only in ``header`` keep their place after their left."""
    result = list(columns)
    for index, column in enumerate(header):
        if column not in result:
            before = header[index - 1] if index else None
            result.insert(result.index(before) + 1 if before is not None else 0, column)
    return result


class Recorded(NamedTuple):
    """How a trial's last attempt ended; ``dev_accuracy`` is None where it failed."""

    status: str
    dev_accuracy: float | None
    attempts: int
    source_fingerprint: str  # empty where it is not known


def ended(recorded: Mapping[str, Recorded]) -> dict[str, float | None]:
    """The dev accuracy of each trial that ended, None where it failed: what decides a tuned setting."""
    return {key: last.dev_accuracy for key, last in recorded.items() if last.status in FINISHED | FAILED}


class Records:
    """What is recorded in one results folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trials = Table(folder / "trials.csv", ["trial_id", "status"])
        self.curves = Table(folder / "curves.csv", CURVE)
        self.correct = Table(folder / "correct.csv", CORRECT)
        self.sources = Table(folder / "sources.csv", SOURCES)
        self._fingerprints: set[str] = set()

    def append(
        self,
        row: Mapping[str, Any],
        setting_columns: Sequence[str],
        curve: Sequence[Evaluation] = (),
        correct: bytes | None = None,
        num_images: int = 0,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        """Records one ended trial. Its row in ``trials.csv`` comes last: where it stands, all of it stands."""
        trial_id = row["trial_id"]
        if sources:
            self._append_sources(row["source_fingerprint"], sources)
        if curve:
            self.curves.append(CURVE, [{"trial_id": trial_id, **asdict(point)} for point in curve])
        if correct is not None:
            bits = base64.b64encode(correct).decode()
            self.correct.append(CORRECT, [{"trial_id": trial_id, "num_images": num_images, "correct": bits}])
        self.trials.append([*IDENTITY, *setting_columns, *MEASURES, *ENVIRONMENT, ATTEMPTS, COMPILE_ERROR], [row])

    def _append_sources(self, fingerprint: str, digests: Mapping[str, str]) -> None:
        if self.sources.changed():
            self._fingerprints = set(self.digests())
        if fingerprint not in self._fingerprints:
            rows = [dict(zip(SOURCES, (fingerprint, *item), strict=True)) for item in digests.items()]
            self.sources.append(SOURCES, rows)
            self._fingerprints.add(fingerprint)

    def digests(self) -> dict[str, dict[str, str]]:
        """What each recorded fingerprint is of: a digest a source file."""
        found: dict[str, dict[str, str]] = {}
        for row in self.sources.rows():
            found.setdefault(row["source_fingerprint"], {})[row["file"]] = row["digest"]
        return found

    def outcomes(self) -> dict[str, Recorded]:
        """Each recorded trial by its last row."""
        return {row["trial_id"]: self._outcome(index, row) for index, row in enumerate(self.trials.rows())}

    def _outcome(self, index: int, row: Mapping[str, str]) -> Recorded:
        status, attempts = row["status"], row.get(ATTEMPTS, "")
        try:
            dev_accuracy = float(row.get("dev_accuracy", "")) if status == "ok" else None
            count = int(attempts) if attempts else int(status != "interrupted")
        except ValueError as error:
            raise RecordError(f"{self.trials.where(index)}: {error}") from error
        return Recorded(status, dev_accuracy, count, row.get("source_fingerprint", ""))

    def compact(self) -> None:
        """Removes the rows of earlier attempts, where a trial was tried again."""
        for table in (self.trials, self.correct):
            rows = table.cells()
            last = {row["trial_id"]: row for row in rows}
            if len(last) < len(rows):
                table.keep(list(last.values()))
        rows = self.curves.cells()
        curves: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            if row["step"] == "0":
                curves[row["trial_id"]] = []
            curves.setdefault(row["trial_id"], []).append(row)
        if sum(map(len, curves.values())) < len(rows):
            self.curves.keep([row for curve in curves.values() for row in curve])


def read_trials(folder: Path) -> pd.DataFrame:
    """``trials.csv``, one row a trial; measures as numbers, all else as text."""
    frame = _frame(Records(folder).trials, [*IDENTITY, *MEASURES, *ENVIRONMENT])
    return frame.drop_duplicates("trial_id", keep="last", ignore_index=True)


def read_curves(folder: Path) -> pd.DataFrame:
    """``curves.csv``: each trial's last attempt, in the order of its steps."""
    frame = _frame(Records(folder).curves, CURVE)
    attempt = (frame["step"] == 0).groupby(frame["trial_id"]).cumsum()
    return frame[attempt == attempt.groupby(frame["trial_id"]).transform("max")].reset_index(drop=True)


def read_correct(folder: Path) -> dict[str, np.ndarray]:
    """For each trial ``(num_images,)`` booleans: which test images were predicted right."""
    import numpy as np

    found, table = {}, Records(folder).correct
    for index, row in enumerate(table.rows()):
        try:
            packed = np.frombuffer(base64.b64decode(row["correct"], validate=True), np.uint8)
            found[row["trial_id"]] = np.unpackbits(packed, count=int(row["num_images"])).astype(bool)
        except ValueError as error:
            raise RecordError(f"{table.where(index)}: must hold num_images bits in base64: {error}") from error
    return found


def _frame(table: Table, columns: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(table.rows(), columns=table.header() or list(columns), dtype=str)
    for column in frame.columns.intersection(list(NUMERIC)):
        cells = frame[column].where(~frame[column].isin(["", "nan"]))
        frame[column] = pd.to_numeric(cells, errors="coerce")
        wrong = cells.notna() & frame[column].isna()
        if wrong.any():
            index = int(wrong.to_numpy().argmax())
            raise RecordError(f"{table.where(index)}: {column} must be a number, got {cells[index]!r}")
    return frame
