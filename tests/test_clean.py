"""What no report needs is listed with its size and freed; rows, and what a process at work holds, stay."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from bench.cli import app
from bench.cli.clean import size
from bench.record import leftovers
from bench.record.leftovers import Leftover
from bench.record.records import Records

STATUSES = {"a" * 12: "ok", "b" * 12: "diverged", "c" * 12: "error", "d" * 12: "interrupted"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A grid's results: a trial of each status with checkpoint, log and claim, and a report."""
    monkeypatch.chdir(tmp_path)
    folder = Path("results/grid")
    records = Records(folder)
    for name in ("claims", "logs", "report"):
        (folder / name).mkdir(parents=True)
    (folder / "grid.yaml").write_text("question: what?\n")
    for trial_id, status in STATUSES.items():
        (folder / "checkpoints" / trial_id).mkdir(parents=True)
        (folder / "checkpoints" / trial_id / "best.pt").write_bytes(bytes(1000))
        (folder / "logs" / f"{trial_id}.log").write_bytes(bytes(10))
        (folder / "claims" / f"{trial_id}.lock").touch()
        records.append({"trial_id": trial_id, "status": status, "test_accuracy": 0.5, "dev_accuracy": 0.5}, [])
    (folder / "report" / "report.md").write_text("![Test accuracy by cell](test_rmse.png)\n")
    for name in ("test_rmse.png", "test_rmse.svg", "rmse.png", "accuracy.svg", "cells.csv"):
        (folder / "report" / name).write_bytes(bytes(7))
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def found(folder: Path) -> dict[tuple[str, str], int]:
    return {(one.kind, one.trial_id[:1] or one.path.name): one.size for one in leftovers.find(folder)}


def test_what_has_ended_so_that_nothing_resumes_or_explains_from_it_is_found(folder: Path) -> None:
    assert found(folder) == {
        ("checkpoints", "a"): 1000,
        ("checkpoints", "b"): 1000,
        ("logs", "a"): 10,
        ("claims", "a"): 0,
        ("claims", "b"): 0,
        ("figures", "rmse.png"): 7,
        ("figures", "accuracy.svg"): 7,
    }


def test_what_is_not_recorded_stays(folder: Path) -> None:
    (folder / "logs" / "eeee.log").touch()
    assert not [one for one in leftovers.find(folder) if "eeee" in one.path.name]


def test_nothing_is_freed_unless_asked(folder: Path) -> None:
    before = files(folder)
    text = CliRunner().invoke(app, ["clean"], env={"COLUMNS": "80"}).output
    assert re.search(r"checkpoints: weights of trials that are finished +2  2.0 KiB", text)
    assert "2.0 KiB in all; nothing is freed without --yes" in text
    assert files(folder) == before


def test_what_is_freed_is_what_was_listed_and_no_row(folder: Path) -> None:
    before, tables = files(folder), {path: path.read_bytes() for path in folder.glob("*.csv")}
    listed = {one.path for one in leftovers.find(folder)}
    done = CliRunner().invoke(app, ["clean", "--yes"])
    assert (done.exit_code, "freed: 2.0 KiB" in done.output) == (0, True)
    gone = {folder / name for name in before - files(folder)}
    assert {path.parent if path.name == "best.pt" else path for path in gone} == listed
    assert {path: path.read_bytes() for path in tables} == tables
    assert "nothing to free" in CliRunner().invoke(app, ["clean"]).output


def test_one_kind_alone(folder: Path) -> None:
    CliRunner().invoke(app, ["clean", "--yes", "--kind", "logs"])
    assert found(folder).keys() == {
        *((kind, trial) for kind in ("checkpoints", "claims") for trial in "ab" if (kind, trial) != ("claims", "a")),
        ("figures", "rmse.png"),
        ("figures", "accuracy.svg"),
    }


def test_what_a_process_at_work_holds_stays(folder: Path) -> None:
    with FileLock(folder / "claims" / f"{'a' * 12}.lock"):
        text = CliRunner().invoke(app, ["clean", "--yes"]).output
    assert "1010 B of 1 trials stay: a process at work holds them" in text
    assert (folder / "checkpoints" / ("a" * 12) / "best.pt").exists()
    assert not (folder / "checkpoints" / ("b" * 12)).exists()


def test_a_trial_that_is_no_longer_as_it_was_listed_keeps_what_it_needs(folder: Path) -> None:
    """A driver was asked to train it again, and was interrupted, between the list and the broom."""
    listed = leftovers.find(folder)
    table = folder / "trials.csv"
    table.write_text(table.read_text().replace("ok", "interrupted"))
    stayed = leftovers.free(folder, listed)
    assert {one.trial_id for one in stayed} == {"a" * 12}
    assert (folder / "checkpoints" / ("a" * 12) / "best.pt").exists()


def test_a_figure_is_taken_alone_without_a_claim(folder: Path) -> None:
    path = folder / "report" / "rmse.png"
    assert leftovers.free(folder, [Leftover("figures", path, 7)]) == []
    assert not path.exists()


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**40, "1.0 TiB")])
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text
