"""Results of one grid from several folders, and of several grids: typed records in, one report or an overview out."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.analysis.findings import Findings, gather
from bench.cli.options import CommandError
from bench.cli.report import report as command
from bench.grid.load import load_plan
from bench.record.pool import PoolError
from bench.record.records import Records
from lab.settings import timing_id

GRID = """
    name: rates
    question: Which rate, <b>small</b> or large?
    base:
      data: {name: digits}
      model: {name: mlp, hidden: [8]}
      optimizer: {name: sgd}
      train: {epochs: 1}
    factors: {optimizer.lr: [0.1, 1.0]}
    seeds: SEEDS
    baseline: {optimizer.lr: 0.1}
"""
IMAGES = 100


def record(results: Path, seeds: list[int], device: str, right: dict[tuple[str, int], int], grid: str = GRID) -> Path:
    """Records of a grid as a machine of that name leaves them: so many of 100 test images right, by cell and seed."""
    folder = results / "rates"
    folder.mkdir(parents=True)
    (folder / "grid.yaml").write_text(textwrap.dedent(grid).replace("SEEDS", str(seeds)))
    plan, records = load_plan(folder / "grid.yaml"), Records(folder)
    for trial in plan.trials:
        count = right[trial.cell.label, trial.seed]
        bits = np.arange(IMAGES) < count
        accuracy = count / IMAGES
        row = {"trial_id": trial.trial_id, "grid": plan.name, "cell": trial.cell.label, "seed": trial.seed}
        row |= {"status": "ok", "test_accuracy": accuracy, "dev_accuracy": accuracy, "final_dev_accuracy": accuracy}
        row |= {"device": "cpu", "device_name": device, "threads": 1, "concurrent_trials": 2}
        records.append(row, [], (), np.packbits(bits).tobytes(), IMAGES)
    speed = {"EPYC": 100, "Xeon": 300}[device]
    timing = {"timing_id": timing_id(plan.trials[0].settings), "device": "cpu", "device_name": device, "threads": 1}
    timing |= {"torch_version": "2.13", "reliable": "true", "train_images_per_second": speed}
    timing |= {"train_images_per_second_low": speed - 10, "train_images_per_second_high": speed + 10}
    pd.DataFrame([timing]).to_csv(folder / "timings.csv", index=False)
    return folder


FIRST = {("lr=0.1", 0): 50, ("lr=0.1", 1): 60, ("lr=1.0", 0): 80, ("lr=1.0", 1): 90}
SECOND = {("lr=0.1", 1): 60, ("lr=0.1", 2): 70, ("lr=1.0", 1): 87, ("lr=1.0", 2): 85}


@pytest.fixture
def pooled(tmp_path: Path) -> Findings:
    one, two = record(tmp_path / "a", [0, 1], "EPYC", FIRST), record(tmp_path / "b", [1, 2], "Xeon", SECOND)
    return gather(one, others=[two])


def test_other_seeds_of_the_same_cells_pool_and_a_trial_of_both_counts_once(pooled: Findings) -> None:
    assert pooled.coverage == "6 of 6 trials"
    assert pooled.plan.seeds == (0, 1, 2)
    assert pooled.cells["n"].tolist() == [3, 3]
    assert pooled.cells["test_accuracy"].tolist() == pytest.approx([0.6, 0.85])  # 90, as the first folder has it
    assert "the trials ran on unlike machines: they differ in device_name" in pooled.cautions


def test_the_same_trials_are_compared_bit_for_bit(pooled: Findings) -> None:
    (row,) = pooled.machines.to_dict("records")
    assert (row["one"].endswith("a (EPYC)"), row["other"].endswith("b (Xeon)")) == (True, True)
    assert (row["shared"], row["identical"], row["statuses_differ"]) == (2, 1, 0)
    assert row["largest_difference"] == pytest.approx(0.03)
    assert row["largest_images_differ"] == 3


def test_images_that_differ_are_seen_at_equal_accuracy(tmp_path: Path) -> None:
    folders = [record(tmp_path / name, [0, 1], "EPYC", FIRST) for name in "ab"]
    table = pd.read_csv(folders[1] / "correct.csv")
    table.loc[0, "correct"] = table.loc[0, "correct"][::-1].strip("=") + "=="  # any other bits
    table.to_csv(folders[1] / "correct.csv", index=False)
    (row,) = gather(folders[0], others=[folders[1]]).machines.to_dict("records")
    assert (row["shared"], row["identical"], row["largest_difference"]) == (4, 3, 0)
    assert row["largest_images_differ"] > 0


def test_speeds_stay_apart_by_machine(pooled: Findings) -> None:
    assert pooled.speeds["machine"].tolist() == ["cpu, EPYC, 1 thread, 2.13"] * 2 + ["cpu, Xeon, 1 thread, 2.13"] * 2
    assert pooled.speeds["train_images_per_second"].tolist() == [100, 100, 300, 300]
    assert set(pooled.cells["train_images_per_second"]) == {100}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("hidden: [8]", "hidden: [9]"), r"in the cell `lr=0.1` they differ in model.hidden"),
        (("[0.1, 1.0]", "[0.1, 2.0]"), r"are not one grid: only the former has the cell `lr=1.0`"),
    ],
)
def test_folders_whose_settings_differ_are_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    one = record(tmp_path / "a", [0, 1], "EPYC", FIRST)
    other = {(label.replace("1.0", "2.0"), seed): count for (label, seed), count in FIRST.items()} | FIRST
    two = record(tmp_path / "b", [0, 1], "EPYC", other, GRID.replace(*change))
    with pytest.raises(PoolError, match=message):
        gather(one, others=[two])
    with pytest.raises(CommandError, match=message):
        command(results=[tmp_path / "a", tmp_path / "b"])


def test_the_command_pools_a_grid_of_two_folders_in_a_report_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "a", [0, 1], "EPYC", FIRST)
    record(tmp_path / "b", [1, 2], "Xeon", SECOND)
    command(results=[tmp_path / "a", tmp_path / "b"], full=True)
    text = capsys.readouterr().out
    assert "6 of 6 trials" in text
    assert "the same trials on several machines" in text
    assert "images/s by machine" in text
    target = tmp_path / "a" / "report" / "rates"
    assert {"index.html", "report.md", "machines.csv", "speeds.csv"} <= {path.name for path in target.iterdir()}
    assert not (tmp_path / "a" / "rates" / "report").exists()
    assert not (tmp_path / "a" / "report" / "index.html").exists()  # one grid needs no overview


def test_of_several_grids_there_is_an_overview_that_links_to_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path, [0, 1], "EPYC", FIRST)
    (tmp_path / "rates").rename(tmp_path / "first")
    record(
        tmp_path,
        [1, 2],
        "Xeon",
        SECOND,
        GRID + "    hypotheses: [optimizer.lr=0.1 ~ optimizer.lr=1.0 on test_accuracy]\n",
    )
    command(results=[tmp_path])
    text = capsys.readouterr().out
    assert "2 grids" in text
    assert "1 effect: 1 undecided; 1 hypothesis: 1 " in " ".join(text.split())
    page = (tmp_path / "report" / "index.html").read_text()
    for name in ("first", "rates"):
        assert f'href="../{name}/report/index.html"' in page
        assert (tmp_path / name / "report" / "index.html").exists()
        assert f"(../{name}/report/report.md)" in (tmp_path / "report" / "report.md").read_text()
    assert "small</b>" not in page
    assert page.count("4 of 4 trials") == 2
