"""The record: CSV files that only grow, one locked, flushed and synced write per ended trial.

``trials.csv`` has a row per trial, ``curves.csv`` one per evaluation, ``correct.csv`` a bit per test image, and
``sources.csv`` what each fingerprint in ``trials.csv`` is of. A trial that was tried again stands there more than once
until :meth:`Records.compact`; readers take its last row. ``examples/<trial_id>.npz`` has what each test image gave in
real numbers.
"""

from __future__ import annotations

import base64
import io
import math
import zipfile
import zlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bench.grid import columns
from bench.record.datasets import other_data
from bench.record.status import Status
from bench.record.table import Cells, RecordError, Table, encoded, last_of, replace_file
from lab.result import Evaluation

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

IDENTITY, MEASURES, ENVIRONMENT = (columns.names(kind) for kind in ("identity", "measure", "environment"))
ATTEMPTS, COMPILE_ERROR = columns.ATTEMPTS, columns.COMPILE_ERROR
CURVE = ["trial_id", "step", "epoch", "train_loss", "train_seconds"]
CORRECT = ["trial_id", "num_images", "correct"]
DEV_CORRECT = ["num_dev_images", "dev_correct"]
SOURCES = ["source_fingerprint", "file", "digest"]
CURVE_NUMBERS = {*CURVE[1:], "num_images", "num_dev_images"}


EMPTY = ("", "nan")
COUNTS = {"seed", "threads", ATTEMPTS, "step"}
INFINITE = [math.inf, -math.inf]


class Recorded(NamedTuple):
    """The end of a trial's last attempt; ``score`` is the selecting one, None where it failed."""

    status: Status
    score: float | None
    attempts: int
    source_fingerprint: str  # empty where it is not known
    has_other_data: bool = False  # than what a run found last


def ended(recorded: Mapping[str, Recorded]) -> dict[str, float | None]:
    """Returns the selecting score of each trial that ended, None where it failed: what decides a tuned setting."""
    return {key: last.score for key, last in recorded.items() if last.status.has_ended}


class Records:
    """The record in one results folder, read by the score in the column ``selecting``."""

    def __init__(self, folder: Path, selecting: str = "dev_accuracy") -> None:
        self.folder, self._selecting = folder, selecting
        self.trials = Table(folder / "trials.csv", ["trial_id", "status"])
        self.curves = Table(folder / "curves.csv", CURVE)
        self.correct = Table(folder / "correct.csv", CORRECT)
        self.sources = Table(folder / "sources.csv", SOURCES)
        self._fingerprints: set[str] = set()
        self.unreadable: list[str] = []  # rows of the last :meth:`outcomes`: where, and why

    def append(
        self,
        row: Mapping[str, Any],
        setting_columns: Sequence[str],
        curve: Sequence[Evaluation] = (),
        correct: bytes | None = None,
        num_images: int = 0,
        sources: Mapping[str, str] | None = None,
        *,
        dev_correct: tuple[bytes, int] | None = None,
        examples: Mapping[str, bytes] | None = None,
    ) -> None:
        """Records one ended trial. Its row in ``trials.csv`` comes last: where it stands, all of it stands.

        ``correct`` and ``dev_correct`` (with the number of images) are packed bits, ``examples`` float32 by metric.
        """
        trial_id = row["trial_id"]
        if sources:
            self._append_sources(row["source_fingerprint"], sources)
        if curve:
            self._append_curve(trial_id, curve)
        if correct is not None:
            cells = {"trial_id": trial_id, "num_images": num_images, "correct": _base64(correct)}
            if dev_correct is not None:
                cells |= {"num_dev_images": dev_correct[1], "dev_correct": _base64(dev_correct[0])}
            self.correct.append(list(cells), [cells])
        if examples:
            self._write_examples(trial_id, examples)
        measures = [*MEASURES, *(name for name in row if columns.is_measure(name) and name not in MEASURES)]
        self.trials.append([*IDENTITY, *setting_columns, *measures, *ENVIRONMENT, ATTEMPTS, COMPILE_ERROR], [row])

    def _append_curve(self, trial_id: str, curve: Sequence[Evaluation]) -> None:
        start, end = CURVE[:3], CURVE[3:]
        rows = [{"trial_id": trial_id, **asdict(point), **point.scores} for point in curve]
        header = [*start, *curve[0].scores, *end]
        self.curves.append(header, [{name: row[name] for name in header} for row in rows])

    def _write_examples(self, trial_id: str, examples: Mapping[str, bytes]) -> None:
        """Writes one array ``(num_images,)`` float32 per metric."""
        import numpy as np

        folder, whole = self.folder / "examples", io.BytesIO()
        arrays: dict[str, Any] = {name: np.frombuffer(values, np.float32) for name, values in examples.items()}
        np.savez_compressed(whole, **arrays)
        folder.mkdir(exist_ok=True)
        replace_file(folder / f"{trial_id}.npz", whole.getvalue())

    def _append_sources(self, fingerprint: str, digests: Mapping[str, str]) -> None:
        if self.sources.changed():
            self._fingerprints = set(self.digests())
        if fingerprint not in self._fingerprints:
            rows = [encoded(dict(zip(SOURCES, (fingerprint, *item), strict=True))) for item in digests.items()]
            self.sources.rewrite(lambda before: last_of(SOURCES[:2], [*before, *rows]), SOURCES)
            self._fingerprints.add(fingerprint)

    def digests(self) -> dict[str, dict[str, str]]:
        """Returns what each recorded fingerprint is of: a digest per source file."""
        found: dict[str, dict[str, str]] = {}
        for row in self.sources.rows():
            found.setdefault(row["source_fingerprint"], {})[row["file"]] = row["digest"]
        return found

    def outcomes(self) -> dict[str, Recorded]:
        """Reads each recorded trial by its last row; ``unreadable`` tells the rows that count as absent."""
        header, rows = self.trials.read()
        column = self._selecting if self._selecting in header else "dev_accuracy"  # earlier versions kept all there
        numbers = [name for name in header if columns.is_number(name)]
        other = other_data(self.folder, list({row["trial_id"]: row for row in rows}.values()))
        found: dict[str, Recorded | str] = {}
        for index, row in enumerate(rows):
            try:
                found[row["trial_id"]] = _outcome(row, column, numbers, other)
            except ValueError as error:
                found[row["trial_id"]] = f"{self.trials.line_of(index)}: {error}"
        self.unreadable = [*self.trials.unreadable, *(one for one in found.values() if isinstance(one, str))]
        return {trial_id: one for trial_id, one in found.items() if isinstance(one, Recorded)}

    def compact(self) -> None:
        """Removes the rows of earlier attempts, where a trial was tried again."""
        for table in (self.trials, self.correct):
            table.rewrite(lambda rows: last_of(["trial_id"], rows))
        self.curves.rewrite(_last_curves)


def _outcome(row: Mapping[str, str], selecting: str, numbers: Sequence[str], other: Container[str]) -> Recorded:
    """Reads how the trial ended; raises ValueError where the row cannot be read."""
    if row["status"] not in set(Status):
        raise ValueError(f"status must be one of {', '.join(Status)}, got {row['status']!r}")
    status = Status(row["status"])
    found = {name: number(name, row[name]) for name in numbers}
    for name, value in found.items():
        if value is not None and status is Status.OK and math.isinf(value):
            raise ValueError(f"{name} must be a finite number, got {row[name]!r}")
        if value is not None and name in COUNTS and (value < 0 or value % 1):  # of infinity no number is left
            raise ValueError(f"{name} must be a whole number, got {row[name]!r}")
    score, attempts = found.get(selecting), found.get(ATTEMPTS)
    if status is Status.OK and score is None:
        raise ValueError(f"{selecting} must be a number, got {row.get(selecting, '')!r}")
    count = int(status is not Status.INTERRUPTED) if attempts is None else int(attempts)
    kept = score if status is Status.OK else None
    return Recorded(status, kept, count, row.get("source_fingerprint", ""), row["trial_id"] in other)


def number(name: str, cell: str) -> float | None:
    """Reads a cell as a number, None where it is empty; raises ValueError, also at what only Python takes for one."""
    if cell in EMPTY:
        return None
    try:
        found = float(cell)
    except ValueError:
        found = math.nan
    if math.isnan(found) or "_" in cell or not cell.isascii():
        raise ValueError(f"{name} must be a number, got {cell!r}")
    return found


def _base64(bits: bytes) -> str:
    return base64.b64encode(bits).decode()


def _last_curves(rows: list[Cells]) -> list[Cells]:
    """Returns the rows of each trial's last attempt: those from its last step 0 on, or all where it was tried once."""
    curves: dict[str, list[Cells]] = {}
    for row in rows:
        curves.setdefault(row["trial_id"], []).append(row)
    return [row for curve in curves.values() for row in curve[_start(curve) :]]


def _start(curve: Sequence[Cells]) -> int:
    """Finds where the last of several attempts begins; 0 where there is one, in whatever order its rows stand.

    Where rows of several are mixed up all stay, and no report reads them: :func:`read_curves`.
    """
    steps = [int(row["step"]) if row["step"].isdecimal() else -1 for row in curve]
    if len(set(steps)) == len(steps) or any(0 < later <= earlier for earlier, later in pairwise(steps)):
        return 0
    return len(steps) - 1 - steps[::-1].index(0) if 0 in steps else 0


def read_trials(folder: Path) -> pd.DataFrame:
    """Reads ``trials.csv``, one row per trial; measures as numbers, all else as text.

    A trial whose last row cannot be read is left out, as :meth:`Records.outcomes` does.
    """
    frame, sound = _frame(Records(folder).trials, [*IDENTITY, *MEASURES, *ENVIRONMENT])
    sound &= frame["status"].isin(list(Status))
    numbers = [name for name in frame.columns if columns.is_number(name)]
    infinite = frame[numbers].isin(INFINITE)
    if infinite.any(axis=None):
        sound &= ~(infinite.any(axis=1) & (frame["status"] == Status.OK))
        frame[numbers] = frame[numbers].mask(infinite)
    last = ~frame.duplicated("trial_id", keep="last")
    return frame[last & sound].reset_index(drop=True)


def earlier_counts(trials: pd.DataFrame) -> pd.Series[bool]:
    """Marks the laboratory's trials of an earlier version: ``forward_macs`` was what is ``computed_macs`` now."""
    counted = trials.reindex(columns=["forward_macs", "computed_macs"]).notna()
    return counted["forward_macs"] & ~counted["computed_macs"]


def with_todays_counts(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the laboratory's trials with each count under the name that it has now, none where it was not made."""
    earlier = earlier_counts(trials)
    if not earlier.any():
        return trials
    computed = trials.reindex(columns=["computed_macs"])["computed_macs"].astype(float)
    moved = computed.mask(earlier, trials["forward_macs"])
    return trials.assign(computed_macs=moved, forward_macs=trials["forward_macs"].mask(earlier))


def read_curves(folder: Path, unreadable: list[str] | None = None) -> pd.DataFrame:
    """Reads ``curves.csv``: each trial's last attempt, in the order of its steps, without rows that cannot be read.

    Of those it adds to ``unreadable`` where they stand, and why. Raises :class:`RecordError` where rows of a trial that
    was tried more than once are not in that order.
    """
    table = Records(folder).curves
    frame, sound = _frame(table, [*CURVE, "dev_accuracy", "dev_loss"])
    if unreadable is not None:
        unreadable += table.unreadable
    frame = frame[sound & frame["step"].notna()].replace(INFINITE, math.nan)
    starts, trials = frame["step"] == 0, frame["trial_id"]
    attempt, last = (starts.groupby(trials).transform(how) for how in ("cumsum", "sum"))
    several = frame.duplicated(["trial_id", "step"]).groupby(trials).transform("any")
    backwards = several & ~starts & (frame.groupby("trial_id")["step"].diff() <= 0)
    kept = frame[~several | (attempt == last)].sort_values("step", kind="stable")
    if len(wrong := trials[backwards]):
        rule = "the rows of each attempt at a trial must stand together, in the order of its steps"
        raise RecordError(f"{table.path}: {rule}; those of {wrong.iloc[0]} do not")
    return kept.reset_index(drop=True)


def read_correct(
    folder: Path, split: Literal["test", "dev"] = "test", unreadable: list[str] | None = None
) -> dict[str, np.ndarray]:
    """Reads for each trial ``(num_images,)`` booleans: which images of the split were predicted right.

    Those of dev are of the selected epoch. Rows that cannot be read are left out: without them, seeds alone tell the
    size of chance. ``unreadable`` gets where they stand, and why.
    """
    import numpy as np

    found, table = {}, Records(folder).correct
    size, bits = CORRECT[1:] if split == "test" else DEV_CORRECT
    wrong = []
    for index, row in enumerate(table.rows()):
        if not row.get(bits):
            continue
        try:
            packed = np.frombuffer(base64.b64decode(row[bits], validate=True), np.uint8)
            if len(packed) != -(-int(row[size]) // 8):
                raise ValueError
        except ValueError:
            wrong.append(f"{table.line_of(index)}: {bits} must be {row[size] or size} bits in base64")
            continue
        found[row["trial_id"]] = np.unpackbits(packed, count=int(row[size])).astype(bool)
    if unreadable is not None:
        unreadable += [*table.unreadable, *wrong]
    return found


def read_examples(
    folder: Path, metric: str = "test_loss", unreadable: list[str] | None = None
) -> dict[str, np.ndarray]:
    """Reads the values ``(num_images,)`` float32 of single test images for each trial that has them.

    Files that cannot be read are left out, as rows are; ``unreadable`` gets which, and why.
    """
    import numpy as np

    found = {}
    for path in sorted((folder / "examples").glob("*.npz")):
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                values = arrays.get(metric)
            if values is not None and (values.ndim != 1 or values.dtype.kind != "f"):
                raise ValueError(f"{metric} has shape {values.shape} and type {values.dtype}")
        except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            if unreadable is not None:
                unreadable.append(f"{path}: must hold arrays (num_images,) of floats: {error}")
            continue
        if values is not None:
            found[path.stem] = values
    return found


def _frame(table: Table, known: Sequence[str]) -> tuple[pd.DataFrame, pd.Series[bool]]:
    """Returns the table, numbers as numbers, and which rows hold a number wherever one belongs."""
    import pandas as pd

    header, rows = table.read()
    frame = pd.DataFrame(rows, columns=header or list(known), dtype=str)
    sound = pd.Series(True, index=frame.index)
    for column in (name for name in frame.columns if name in CURVE_NUMBERS or columns.is_number(name)):
        cells = frame[column].where(~frame[column].isin(EMPTY))
        frame[column] = pd.to_numeric(cells, errors="coerce")
        good, rule = cells.isna() | frame[column].notna(), "a number"
        if column in COUNTS:
            good, rule = cells.isna() | ((frame[column] >= 0) & (frame[column] % 1 == 0)), "a whole number"
        for index in frame.index[sound & ~good]:
            table.unreadable.append(f"{table.line_of(index)}: {column} must be {rule}, got {cells[index]!r}")
        sound &= good
    return frame, sound
