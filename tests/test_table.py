"""A file of the record that several processes change at once: nothing lost, nothing doubled, no reader sees a part."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from bench.record import table as tables
from bench.record.table import Cells, Table, last_of

COLUMNS = ["trial_id", "status", "seed"]
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "trials.csv")


def row(trial_id: str, **more: object) -> dict[str, object]:
    return {"trial_id": trial_id, "status": "ok", **more}


def ids(table: Table) -> list[str]:
    return [row["trial_id"] for row in table.rows()]


def compacted(rows: list[Cells]) -> list[Cells]:
    return last_of(["trial_id"], rows)


def write(path: Path, name: str, columns: list[str]) -> None:
    """10,000 rows, 50 at a time."""
    for start in range(0, 10_000, 50):
        Table(path).append(columns, [row(f"{name}{index}", seed=index) for index in range(start, start + 50)])


def compact(path: Path, stop: Event, count: Any) -> None:
    """What a driver does that ends: rewrites the file without what was tried again."""
    while not stop.is_set():
        for attempt in range(2):
            Table(path).append(COLUMNS, [row("again", seed=attempt)])
        Table(path).rewrite(compacted)
        count.value += 1


def test_two_writers_beside_a_driver_that_compacts_lose_none_of_20000_rows(table: Table) -> None:
    stop, count = SPAWN.Event(), SPAWN.Value("i", 0)
    driver = SPAWN.Process(target=compact, args=(table.path, stop, count))
    writers = [SPAWN.Process(target=write, args=(table.path, name, [*COLUMNS, name])) for name in "ab"]
    for process in (driver, *writers):
        process.start()
    most = 0
    while any(writer.is_alive() for writer in writers):  # a reader sees each row once, and all that it saw before
        found = [name for name in ids(table) if name != "again"]
        assert len(set(found)) == len(found) >= most
        most = len(found)
    stop.set()
    for process in (driver, *writers):
        process.join()
        assert process.exitcode == 0
    assert count.value > 3
    table.rewrite(compacted)
    assert {r["trial_id"]: r["seed"] for r in table.rows()} == {"again": "1"} | {
        f"{name}{index}": str(index) for name in "ab" for index in range(10_000)
    }
    assert len(ids(table)) == 20_001
    assert sorted(table.header()) == sorted([*COLUMNS, "a", "b"])


def test_who_rewrites_sees_what_others_appended(table: Table) -> None:
    table.append(COLUMNS, [row("a1", seed=0), row("a1", seed=1)])
    other = Table(table.path)
    other.append(COLUMNS, [row("b2")])
    table.rewrite(compacted)
    assert ids(table) == ["a1", "b2"]
    other.append(COLUMNS, [row("c3")])
    assert ids(table) == ["a1", "b2", "c3"]


def test_a_rewrite_that_changes_nothing_does_not_write(table: Table) -> None:
    table.append(COLUMNS, [row("a1")])
    before = table.path.stat()
    table.rewrite(compacted)
    assert table.path.stat() == before


def test_what_another_wrote_is_seen_as_a_change_even_after_a_write_of_ones_own(table: Table) -> None:
    assert not table.changed()
    table.append(COLUMNS, [row("a1")])
    assert not table.changed()
    Table(table.path).append(COLUMNS, [row("b2")])
    table.append(COLUMNS, [row("c3")])
    assert table.changed()
    assert not table.changed()


def test_a_lock_that_was_removed_is_made_again(table: Table) -> None:
    table.append(COLUMNS, [row("a1")])
    table.path.with_name(".trials.csv.lock").unlink()
    table.append(COLUMNS, [row("b2")])
    assert ids(table) == ["a1", "b2"]


def test_a_lock_that_is_held_too_long_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "LOCK_SECONDS", 0.01)
    table = Table(tmp_path / "trials.csv")
    with tables.lock_of(table.path), pytest.raises(OSError, match=r"\.trials\.csv\.lock"):
        table.append(COLUMNS, [row("a1")])
    table.append(COLUMNS, [row("a1")])
    assert ids(table) == ["a1"]


# --- a disk that refuses ---------------------------------------------------------------------------------------------


def refuse(times: int, really: Callable[..., Any], number: int = errno.EIO, do: bool = False) -> Callable[..., Any]:
    """The system's call, which fails so often; with ``do`` it does all the same what was asked."""
    left = iter(range(times))

    def call(*arguments: Any, **options: Any) -> Any:
        refused = next(left, None) is not None
        result = really(*arguments, **options) if do or not refused else None
        if refused:
            raise OSError(number, os.strerror(number))
        return result

    return call


STEPS: dict[str, Callable[[pytest.MonkeyPatch, int], None]] = {
    "fsync": lambda patch, times: patch.setattr(os, "fsync", refuse(times, os.fsync)),
    "rename": lambda patch, times: patch.setattr(os, "replace", refuse(times, os.replace)),
    "renamed, then an error": lambda patch, times: patch.setattr(os, "replace", refuse(times, os.replace, do=True)),
    "open": lambda patch, times: patch.setattr(os, "open", refuse(times, os.open)),
    "read": lambda patch, times: patch.setattr(io, "open", refuse(times, io.open)),
    "read, as if it were not there": lambda patch, times: patch.setattr(
        io, "open", refuse(times, io.open, errno.ENOENT)
    ),
}


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("columns", [COLUMNS, [*COLUMNS, "model.width"]])
def test_a_change_that_failed_can_be_tried_again(
    table: Table, monkeypatch: pytest.MonkeyPatch, step: str, times: int, columns: list[str]
) -> None:
    table.append(COLUMNS, [row("a1"), row("a1")])

    def insist(change: Callable[[], None]) -> None:
        for _ in range(2 * times + 1):
            try:
                return change()
            except OSError:
                continue
        raise AssertionError

    with monkeypatch.context() as patch:
        STEPS[step](patch, times)
        insist(lambda: table.append(columns, [row("b2")]))
        insist(lambda: table.rewrite(compacted))
        insist(lambda: table.append(columns, [row("c3")]))
    assert ids(table) == ["a1", "b2", "c3"]
    assert [path.name for path in table.path.parent.iterdir() if path.name != ".trials.csv.lock"] == ["trials.csv"]


class Stubborn(io.FileIO):
    """A file that takes so many bytes of a write, says that it failed, and does not let itself be cut."""

    takes: int | None = None

    def __init__(self, path: Path, mode: str, buffering: int, opener: Callable[[str, int], int]) -> None:
        super().__init__(path, mode, opener=opener)

    def write(self, data: Any) -> int:
        super().write(data[: self.takes])
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def truncate(self, size: int | None = None) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("takes", [1, 4, None])
def test_a_write_that_failed_and_stands_all_the_same_is_not_written_twice(
    table: Table, monkeypatch: pytest.MonkeyPatch, takes: int | None
) -> None:
    table.append(COLUMNS, [row("a1")])
    with monkeypatch.context() as patch:
        patch.setattr(Stubborn, "takes", takes)
        patch.setattr(tables, "open", Stubborn, raising=False)
        with pytest.raises(OSError, match="Input/output"):
            table.append(COLUMNS, [row("b2")])
    Table(table.path).append(COLUMNS, [row("c3")])
    table.append(COLUMNS, [row("b2")])
    table.append(COLUMNS, [row("d4")])
    assert sorted(ids(table)) == ["a1", "b2", "c3", "d4"]
