"""A CSV file with a header that several processes change at once, and files that are replaced whole."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from bench.record.printable import printable

# A spreadsheet takes a cell that begins so for a formula.
FORMULA = re.compile(r"'*[=+\-@\t]")
# A row is one line, so that a line that ends is a row that is whole.
ESCAPES = {"\\": r"\\", "\n": r"\n", "\r": r"\r"}
PLAIN = {escape: character for character, escape in ESCAPES.items()}
ESCAPED = re.compile(r"\\[\\nr]")


Cells = dict[str, str]  # a row by column, as it stands in the file
LOCK_SECONDS = 60.0  # a change takes milliseconds: whoever holds a lock so long hangs, or died where locks outlive it
POLL_SECONDS = 0.005
NO_FILE = (0, 0, 0)
MOST_SHOWN = 300  # characters of a header that is not ours


class RecordError(ValueError):
    """A record file holds what this program did not write; the message says file and line."""


def encode(value: Any) -> str:
    """Returns a value as the text of a CSV cell; :func:`decode_text` undoes what it does to text."""
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
    """One CSV file with a header. Each change is one read-modify-write under its lock, on the disk when it returns.

    A reader needs no lock: a file that is rewritten is replaced whole, and a line without its end is not read.
    A file that lacks one of the columns ``needed`` is not ours: reading it raises :class:`RecordError`. A row that
    cannot be read is left out, ``unreadable`` says of each where and why, and a file beside this one keeps those that a
    rewrite would lose. A change raises OSError where the disk does not take it, or the lock is not to be had; it can
    then be tried again.
    """

    def __init__(self, path: Path, needed: Sequence[str] = ()) -> None:
        self.path, self._needed = path, needed
        self._lock = lock_of(path)
        self._seen = NO_FILE
        self._in_doubt = False  # a write failed and may stand all the same
        self.unreadable: list[str] = []  # of the last reading
        self._bad_rows: list[list[str]] = []
        self._line_numbers: list[int] = []

    def changed(self) -> bool:
        """Tells whether somebody else wrote since this object was last asked; at first, if there is a file."""
        before, self._seen = self._seen, _stamp(self.path)
        return before != self._seen

    def append(self, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds rows in one write; columns that the file lacks are added to it first."""
        with self._changing():
            header = self.header()
            if not set(columns) <= set(header):
                header = merged(header, columns)
                self._replace(header, self.cells())
            self._add(_lines(header, (encoded(row) for row in rows)))

    def rewrite(self, change: Callable[[list[Cells]], Sequence[Cells]], columns: Sequence[str] = ()) -> None:
        """Replaces the rows by what ``change`` makes of all that stand there, and adds ``columns`` that they lack.

        Rows are as :meth:`cells` gives them. Nothing is written where ``change`` returns what it was given.
        """
        with self._changing():
            before = self.cells()
            after = change(before)
            if after != before:
                self._replace(merged(self.header(), columns), after)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Holds the lock; what others wrote until then still counts as changed, what is written meanwhile does not."""
        with self._lock.acquire(poll_interval=POLL_SECONDS):
            others_wrote = _stamp(self.path) != self._seen
            self._set_torn_line_aside()
            yield
            if not others_wrote:
                self._seen = _stamp(self.path)

    def header(self) -> list[str]:
        if _stamp(self.path) == NO_FILE:
            return []
        with self.path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            return next(csv.reader(file), [])

    def rows(self) -> list[dict[str, str]]:
        """Reads all whole rows that can be read, as text; raises :class:`RecordError` where the header is not ours."""
        return self.read()[1]

    def read(self) -> tuple[list[str], list[dict[str, str]]]:
        """Reads the header and :meth:`rows`, of one moment."""
        header, rows = self._read()
        return header, [{name: decode_text(cell) for name, cell in row.items()} for row in rows]

    def cells(self) -> list[Cells]:
        """Like :meth:`rows`, each cell as it stands in the file."""
        return self._read()[1]

    def _read(self) -> tuple[list[str], list[Cells]]:
        self.unreadable, self._bad_rows, self._line_numbers = [], [], []
        if _stamp(self.path) == NO_FILE:
            return [], []
        data = self.path.read_bytes()
        # A spreadsheet may put a mark first.
        text = data[: data.rfind(b"\n") + 1].decode("utf-8-sig", "surrogateescape")
        if not text.strip():  # whoever was to write the header was cut off
            return [], []
        reader = csv.reader(io.StringIO(text, newline=""))
        header = next(reader, [])
        lacking = [column for column in self._needed if column not in header]
        if lacking:
            has = printable(", ".join(header).encode("utf-8", "replace").decode())
            has = has if len(has) <= MOST_SHOWN else f"{has[:MOST_SHOWN]}..."
            raise RecordError(f"{self.path}:1: the header must have {', '.join(lacking)}, has {has}")
        rows = []
        for cells in reader:
            if problem := _problem(cells, len(header)):
                self.unreadable.append(f"{self.path}:{reader.line_num}: {problem}")
                self._bad_rows.append(cells)
                continue
            rows.append(dict(zip(header, cells, strict=True)))
            self._line_numbers.append(reader.line_num)
        return header, rows

    def line_of(self, index: int) -> str:
        """Returns file and line of a row of the last reading, counted from 0, for a message."""
        return f"{self.path}:{self._line_numbers[index]}"

    def _add(self, lines: bytes) -> None:
        """Appends to the file that has this name now; where that fails, none of the lines stand."""
        if self._in_doubt and b"\n" + lines in self.path.read_bytes():
            _sync(self.path)
            self._in_doubt = False
            return
        with open(self.path, "ab", buffering=0, opener=_existing) as file:
            end = file.tell()
            try:
                _write_all(file, lines)
            except OSError:
                self._in_doubt = True
                file.truncate(end)
                self._in_doubt = False
                raise
        self._in_doubt = False

    def _replace(self, header: Sequence[str], rows: Iterable[Cells]) -> None:
        """Replaces the file; rows of the last reading that could not be read go to a file of their own."""
        if self._bad_rows:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(self._bad_rows)
            with self.path.with_name(f"{self.path.name}.unreadable").open("ab", buffering=0) as file:
                _write_all(file, text.getvalue().encode("utf-8", "surrogateescape"))
        replace_file(self.path, _lines(header, [dict(zip(header, header, strict=True)), *rows]))

    def _set_torn_line_aside(self) -> None:
        """Moves a line without its end, which a write that was cut off leaves, to a file of its own."""
        if _stamp(self.path)[1] == 0:
            return
        with self.path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) == b"\n":
                return
            file.seek(0)
            whole = file.read()
            end = whole.rfind(b"\n") + 1
            with self.path.with_name(f"{self.path.name}.torn").open("ab", buffering=0) as torn:
                _write_all(torn, whole[end:] + b"\n")
            file.truncate(end)


def _problem(cells: Sequence[str], num_columns: int) -> str | None:
    """Says why a row cannot be read; None where it can."""
    if len(cells) != num_columns:
        return f"a row must have the header's {num_columns} columns, has {len(cells)}"
    if all(map(str.isascii, cells)):
        return None
    odd = re.search("[\udc80-\udcff]", "".join(cells))
    return f"must be UTF-8, has byte {ord(odd[0]) - 0xDC00:#04x}" if odd else None


def lock_of(path: Path) -> FileLock:
    """Returns the lock that whoever changes the file holds: a file beside it, which nobody removes.

    Raises OSError where it is not to be had: the file system has no locks, or somebody holds it too long.
    """
    return FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_SECONDS)


def replace_file(path: Path, data: bytes) -> None:
    """Replaces a file, whose lock the caller holds: whoever reads it sees the old one or the new one whole."""
    aside = path.with_name(f".{path.name}.new")
    try:
        with aside.open("wb", buffering=0) as file:
            _write_all(file, data)
        aside.replace(path)
        _sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def _stamp(path: Path) -> tuple[int, int, int]:
    """Changes whenever somebody writes to the file; raises OSError unless it is there, or known not to be.

    A file that can't be opened is not taken for one that is not there: what stands in it would be written over.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return NO_FILE
    return status.st_ino, status.st_size, status.st_mtime_ns


def _existing(path: str, flags: int) -> int:
    """Opens a file that must be there: without its header a new one would be of no use."""
    return os.open(path, flags & ~os.O_CREAT)


def _write_all(file: io.FileIO, data: bytes) -> None:
    """Writes and syncs; raises OSError where not all of it is on the disk: why is told when the rest is written."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file.name)) from error


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk; some network file systems can't sync a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)


def _lines(header: Sequence[str], rows: Iterable[Cells]) -> bytes:
    text = io.StringIO()
    csv.DictWriter(text, header, restval="", lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def encoded(row: Mapping[str, Any]) -> Cells:
    """Returns a row's values as the cells that stand in the file."""
    return {name: encode(value) for name, value in row.items()}


def last_of(names: Sequence[str], rows: Iterable[Cells]) -> list[Cells]:
    """Keeps of the rows that are equal in the columns ``names`` the last one, in the place of the first."""
    return list({tuple(row.get(name, "") for name in names): row for row in rows}.values())


def merged(header: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Merges two lists in the order of ``columns``; those only in ``header`` keep their place after their left."""
    result = list(columns)
    for index, column in enumerate(header):
        if column not in result:
            before = header[index - 1] if index else None
            result.insert(result.index(before) + 1 if before is not None else 0, column)
    return result
