"""The shipped examples of own code: each runs, cut down to seconds, and gives what its script gives by itself."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_script_gives_what_it_gives_by_hand(tmp_path: Path) -> None:
    results = ["--results", str(tmp_path)]
    cut = ["--seeds", "1", "--only", "width=64", "--only", "dropout=0"]
    done = bench("run", "grids/own/script.yaml", *cut, *results, "--device", "cpu", "--no-time")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "own-script" / "trials.csv").open(newline="") as file:
        found = {row["settings.norm"]: row for row in csv.DictReader(file)}
    assert found.keys() == {"true", "false"}
    script = [
        sys.executable,
        "grids/own/train_digits.py",
        "--norm",
        "--width",
        "64",
        "--dropout",
        "0",
        "--out",
        str(tmp_path),
    ]
    subprocess.run(script, cwd=ROOT, check=True)
    with (tmp_path / "log.csv").open(newline="") as file:
        best = max(csv.DictReader(file), key=lambda row: float(row["dev_accuracy"]))
    assert float(found["true"]["test_accuracy"]) == pytest.approx(float(best["test_accuracy"]), abs=0.01)
    assert float(found["true"]["dev_accuracy"]) == pytest.approx(float(best["dev_accuracy"]), abs=0.01)


def test_a_pipeline_of_scikit_learn_runs_where_torch_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(
        "import sys\nclass Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'torchvision'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "blocked"), str(ROOT)])}
    for words in (
        ["run", "grids/own/pipeline.yaml", "--seeds", "3", "--no-time", "--device", "cpu"],
        ["report", "grids/own/pipeline.yaml", "--seeds", "3"],
    ):
        command = [sys.executable, "-c", "import torch"]
        assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 1
        done = subprocess.run(
            [sys.executable, "-m", "bench", *words, "--results", str(tmp_path)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_the_language_model_reports_nats_and_their_ratio(tmp_path: Path) -> None:
    results = ["--results", str(tmp_path)]
    cut = ["--seeds", "3", "--set", "steps=40"]
    assert bench("run", "grids/own/characters.yaml", *cut, *results, "--device", "cpu", "--no-time").returncode == 0
    done = bench("report", "grids/own/characters.yaml", *cut, *results)
    assert done.returncode == 0, done.stderr
    assert "nats" in done.stdout


def test_a_hydra_script_runs_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("hydra", reason="needs the extra peers")
    done = bench(
        "run", "grids/own/hydra.yaml", "--seeds", "1", "--results", str(tmp_path), "--device", "cpu", "--no-time"
    )
    assert done.returncode == 0, done.stderr
