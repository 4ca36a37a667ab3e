"""Own code before and after it is run: its price by three runs of the baseline, and metrics that are read again."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bench.cli import app
from bench.execute.own_price import OwnPrice, baseline_trial
from bench.execute.run import as_measured
from bench.grid.load import load_plan

SCRIPT = """
import json, os, random, sys, time
width, seed = int(sys.argv[2]), int(sys.argv[1])
random.seed({seed})
open("runs.txt", "a").write(f"{{width}} {{seed}}\\n")
print(f"epoch 1 rmse={{width + random.random() / 2}}")
print(json.dumps({{"test_rmse": width + random.random(), "noise": 3}}), file=open(os.environ["BENCH_METRICS"], "a"))
"""

GRID = """
question: Does the width matter?
run: {command: "python train.py {seed} {width}"}
metrics: {test_rmse: {better: lower}}
factors: {width: [32, 64]}
baseline: {width: 64}
seeds: 2
"""

Workshop = Callable[[str, str], None]


def bench(*words: str) -> Result:
    return CliRunner().invoke(app, ["run", "own.yaml", "--device", "cpu", *words])


def rows() -> list[dict[str, str]]:
    with Path("results/own/trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write(workshop: Workshop, grid: str = GRID, seed: str = "seed") -> None:
    workshop("train", SCRIPT.format(seed=seed))
    Path("own.yaml").write_text(grid)


# --- the price ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "deterministic", "acts"),
    [
        ("seed", "yes", "yes"),
        ("7", "yes", "no\nwarning: seeds 0 and 1 give the same numbers: more seeds would be copies of one run"),
    ],
)
def test_own_code_is_priced_by_running_the_baseline_three_times(
    workshop: Workshop, seed: str, deterministic: str, acts: str
) -> None:
    write(workshop, seed=seed)
    done = bench("--dry-run", "--price")
    assert done.exit_code == 0, done.output
    assert Path("runs.txt").read_text().splitlines() == ["64 0", "64 0", "64 1"]
    assert [(row["settings.width"], row["seed"], row["status"]) for row in rows()] == [("64", "0", "ok")]
    assert f"deterministic: {deterministic}\nthe seed acts: {acts}\n" in done.output
    assert "metrics found: test_rmse 64." in done.output
    assert "undeclared: noise" in done.output
    assert "for the 3 trials to run" in done.output


def test_a_metric_that_nobody_reports_is_told_before_the_run(workshop: Workshop) -> None:
    write(workshop, GRID.replace("test_rmse", "test_mse"))
    done = bench("--dry-run", "--price")
    assert "metric test_mse was not reported; reported were test_rmse, noise" in str(done.exception)


def test_code_that_fails_has_no_price(workshop: Workshop) -> None:
    write(workshop)
    Path("train.py").write_text("raise SystemExit(3)")
    done = bench("--dry-run", "--price")
    assert done.exit_code == 1
    assert "would fail: width=64: error: the command ended by itself with exit code 3" in done.output


def price(first: dict[str, float], again: dict[str, float], other: dict[str, float]) -> OwnPrice:
    return OwnPrice(None, 1, *({**one, "total_seconds": 1.0 + one["a"]} for one in (first, again, other)), 2)  # type: ignore[arg-type]


def test_whether_the_seed_acts_is_told_by_what_one_seed_repeats() -> None:
    noisy = price({"a": 1, "b": 2}, {"a": 1.5, "b": 2}, {"a": 1.7, "b": 2})
    assert noisy.differing(["a", "b"]) == ["a"]
    assert noisy.seed_acts is False  # b is repeated, and the same at the other seed
    assert price({"a": 1, "b": 2}, {"a": 1.5, "b": 2}, {"a": 1.7, "b": 3}).seed_acts is True
    assert price({"a": 1}, {"a": 1.5}, {"a": 1.7}).seed_acts is None
    assert noisy.seconds == pytest.approx((2 + 2.5 + 2.7) / 3)


def test_the_baseline_is_a_cell_with_its_levels(workshop: Workshop) -> None:
    write(
        workshop,
        GRID.replace("{width: [32, 64]}", "{width: [32, 64], lr: [1, 2]}").replace("{width}", "{flags} {width}"),
    )
    assert baseline_trial(load_plan(Path("own.yaml"))).cell.label == "width=64 lr=1"


def test_a_trial_of_each_cell_runs_first_then_those_of_the_cells_that_took_longest(workshop: Workshop) -> None:
    write(workshop, GRID.replace("[32, 64]", "[32, 64, 128]").replace("seeds: 2", "seeds: 3"))
    seconds: dict[str, float] = {}
    order = as_measured(load_plan(Path("own.yaml")).trials, seconds)
    first = [next(order) for _ in range(3)]
    assert [(one.cell.label, one.seed) for one in first] == [("width=32", 0), ("width=64", 0), ("width=128", 0)]
    seconds |= {"width=32": 1.0, "width=64": 3.0, "width=128": 2.0}
    assert [(one.cell.label, one.seed) for one in order] == [
        (f"width={width}", seed) for width in (64, 128, 32) for seed in (1, 2)
    ]


# --- reading again --------------------------------------------------------------------------------------------------

TO_OUTPUT = ('{width}"}', '{width}", read: {stdout: "rmse=(?P<rmse>[0-9.]+)"}}')


def reread(*changes: tuple[str, str]) -> Any:
    text = Path("own.yaml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path("own.yaml").write_text(text)
    return bench("--reread")


def test_metrics_are_read_again_as_the_grid_declares_them_now_and_nothing_is_run(workshop: Workshop) -> None:
    write(workshop, GRID.replace("test_rmse", "test_mse"))
    refused = bench("-j", "1")
    assert "outputs are kept: once `read` or `metrics` is corrected, `run --reread` reads them again" in str(
        refused.exception
    )
    done = reread(("test_mse", "test_rmse"))
    assert done.exit_code == 0, done.output
    assert "3 trials left no output to read; without --reread they are run" in done.output
    assert [(row["settings.width"], row["status"]) for row in rows()] == [("32", "ok")]
    assert bench("-j", "1").exit_code == 0
    before = {row["trial_id"]: row for row in rows()}
    assert len(Path("runs.txt").read_text().splitlines()) == len(before) == 4

    done = reread(TO_OUTPUT, ("{test_rmse", "{rmse"))  # another `read` is another identity: the output is the same
    assert done.exit_code == 0, done.output
    again = [row for row in rows() if row["trial_id"] not in before]
    assert len(again) == 4
    for row in again:
        (one,) = (old for old in before.values() if (old["cell"], old["seed"]) == (row["cell"], row["seed"]))
        log = Path("results/own/logs", f"{one['trial_id']}.log").read_text()
        assert float(row["rmse"]) == float(log.rpartition("rmse=")[2])
        same = ("test_rmse", "total_seconds", "hostname", "threads", "source_fingerprint")
        assert [row[name] for name in same] == [one[name] for name in same]
    assert len(Path("runs.txt").read_text().splitlines()) == 4


def test_what_lacks_a_metric_when_it_is_read_again_changes_no_row(workshop: Workshop) -> None:
    write(workshop)
    assert bench().exit_code == 0
    before = rows()
    done = reread(("test_rmse", "test_mse"))
    assert "metric test_mse was not reported; reported were test_rmse, noise" in str(done.exception)
    assert rows() == before


def test_a_command_that_failed_leaves_nothing_to_read(workshop: Workshop) -> None:
    write(workshop)
    with Path("train.py").open("a") as file:
        file.write("raise SystemExit(1)")
    assert bench().exit_code == 1
    assert "4 trials left no output to read" in reread().output
    assert {row["status"] for row in rows()} == {"error"}


def test_only_commands_leave_what_can_be_read_again(workshop: Workshop) -> None:
    workshop("train", "def run(width):\n    return 1.0\n")
    Path("own.yaml").write_text(GRID.replace('command: "python train.py {seed} {width}"', "function: train:run"))
    assert "--reread reads the kept output of commands" in str(reread().exception)


def test_a_change_of_which_step_counts_makes_results_stale_until_they_are_read_again(workshop: Workshop) -> None:
    write(workshop, GRID.replace("{better: lower}}", "{better: lower, at: best}}"))
    line = 'print(json.dumps({"step": STEP, "test_rmse": STEP}), file=open(os.environ["BENCH_METRICS"], "a"))\n'
    Path("train.py").write_text("import json, os\n" + line.replace("STEP", "1") + line.replace("STEP", "2"))
    assert bench().exit_code == 0
    assert {row["test_rmse"] for row in rows()} == {"1.0"}

    text = Path("own.yaml").read_text().replace("at: best", "at: last")
    Path("own.yaml").write_text(text)
    told = " ".join(CliRunner().invoke(app, ["report", "own.yaml"]).output.split())
    assert "4 of 4 results were made by other source code than what is here now: metrics (at) changed" in told
    assert reread().exit_code == 0
    assert {row["test_rmse"] for row in rows()[-4:]} == {"2.0"}
    assert "metrics (at)" not in CliRunner().invoke(app, ["report", "own.yaml"]).output
