"""Own code on a Ray cluster: the same rows as on this machine."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import RayCluster

from bench.execute.options import Options
from bench.execute.ray.kind import RayOptions, cautions
from bench.grid.own import Run

ROOT = Path(__file__).parents[1]
SCRIPT = """
import json, os, sys

def run(width, *, seed, report=None):
    if width == 3 and seed == 1:
        raise KeyError("three")
    if report:
        report(step=1, rmse=9.0)
    return {"rmse": width + seed / 10}

if __name__ == "__main__":
    values = run(int(sys.argv[1]), seed=int(sys.argv[2]))
    print(json.dumps(values), file=open(os.environ["BENCH_METRICS"], "a"))
"""
GRID = """
question: Is a cluster another place?
run: {%s}
metrics: {rmse: {better: lower}}
factors: {width: [1, 2, 3]}
seeds: 2
"""
WAYS = {"function": "function: train:run", "command": 'command: "python train.py {width} {seed}"'}
SAME = ("trial_id", "status", "error", "rmse", "seed", "settings.width", "source_fingerprint")


def rows(results: str) -> list[list[str]]:
    with Path(results, "own", "trials.csv").open(newline="") as file:
        return sorted([row[name] for name in SAME] for row in csv.DictReader(file))


@pytest.mark.parametrize("way", WAYS)
def test_own_code_gives_the_same_rows_on_a_cluster(
    workshop: Callable[[str, str], None], cluster: RayCluster, way: str
) -> None:
    workshop("train", SCRIPT)
    Path("own.yaml").write_text(GRID % WAYS[way])
    words = [sys.executable, "-m", "bench", "run", "own.yaml", "--no-time", "--device", "cpu", "--results"]
    on_ray = ["--executor", "ray", "--address", cluster.address]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for results, more in (("here", []), ("there", on_ray)):
        done = subprocess.run([*words, results, *more], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr  # one trial fails
    assert "a trial's folder is removed from its node when it ends" in " ".join(done.stdout.split())
    assert len(rows("here")) == 6
    assert rows("there") == rows("here")
    assert "KeyError" in "".join(log.read_text() for log in Path("there/own/logs").glob("*.log"))


CROWDED = """
import time
from pathlib import Path

HERE = Path({folder!r})

def run(width, *, seed):
    under_way, tried = HERE / f"under-way-{{width}}", HERE / f"tried-{{width}}"
    is_first = not tried.exists()
    under_way.touch()
    tried.touch()
    while is_first and len([*HERE.glob("tried-*")]) < 2:
        time.sleep(0.01)
    others = [mark for mark in HERE.glob("under-way-*") if mark != under_way]
    time.sleep(0 if is_first else 0.5)
    under_way.unlink()
    if is_first:
        raise MemoryError("no room beside another")
    return {{"rmse": len(others)}}
"""


def test_trials_for_which_memory_runs_out_beside_each_other_run_one_after_the_other(
    workshop: Callable[[str, str], None], cluster: RayCluster, tmp_path: Path
) -> None:
    (tmp_path / "marks").mkdir()
    workshop("train", CROWDED.format(folder=str(tmp_path / "marks")))
    grid = (GRID % WAYS["function"]).replace("[1, 2, 3]", "[1, 2]").replace("seeds: 2", "seeds: 1")
    Path("own.yaml").write_text(grid)
    words = ["run", "own.yaml", "--no-time", "--device", "cpu", "--executor", "ray", "--address", cluster.address]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "bench", *words], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count("is tried again alone, after the others: MemoryError: no room beside another") == 2
    with Path("results/own/trials.csv").open(newline="") as file:
        assert [(row["status"], row["rmse"]) for row in csv.DictReader(file)] == [("ok", "0.0")] * 2


def test_what_stays_on_a_node_is_said_before_the_run() -> None:
    options = Options(results=Path("results"), executor_options=RayOptions("auto"))
    (said,) = cautions(options, Run(command="python train.py", resume="continue"))
    assert said.endswith("files are not; `resume: continue` starts again, and `--reread` finds nothing")
    (said,) = cautions(options, Run(function="train:run"))
    assert said.endswith("files are not")
