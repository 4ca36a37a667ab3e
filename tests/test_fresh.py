"""A trial that names user code has a process of its own: what its modules hold, replace or start ends with it."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

POLLUTES = """
import multiprocessing, os, random, subprocess
import numpy as np
import torch
from torch import nn

COUNT = []
PLACE = list({"ab", "cd", "ef", "gh", "ij"}).index("ab")  # by the hash of text, which Python draws anew

class Net(nn.Module):
    def __init__(self, in_channels: int, num_classes: int, size: int, loud: bool = False):
        super().__init__()
        COUNT.append(1)
        factor = 0.5 if len(COUNT) > 1 else 1.0  # a second trial in the same process would be another network
        self.first = nn.Linear(in_channels * size * size, 8)
        self.head = nn.Linear(8, num_classes)
        self.factor = factor * (1 + PLACE) * float(os.environ.get("LEFT", 1))
        if loud:
            torch.set_default_dtype(torch.float64)
            torch.set_num_threads(2)
            torch.manual_seed(1); np.random.seed(1); random.seed(1)
            os.environ["LEFT"] = "3"
            nn.functional.relu = torch.relu = torch.tanh
            random.shuffle = None
            COUNT.append(multiprocessing.get_context("spawn").Lock())  # the system keeps it until somebody removes it
            self.child = subprocess.Popen(["sleep", "8765"])

    def forward(self, X):
        h = nn.functional.relu(self.first(X.flatten(1).to(self.first.weight.dtype)))
        return self.head(h) * self.factor
"""
GRID = """
question: Does the order of trials matter?
base:
  data: {{name: digits, limit: 100}}
  model: {{name: "nets:Net"}}
  optimizer: {{name: momentum, lr: 0.05}}
  train: {{epochs: 1}}
factors: {{model.loud: {levels}}}
seeds: 1
"""


def bench(folder: Path, *words: str, hashes: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100", "PYTHONHASHSEED": str(hashes)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(POLLUTES)
    for name, levels in (("loud_first", "[true, false]"), ("loud_last", "[false, true]")):
        (tmp_path / f"{name}.yaml").write_text(GRID.format(levels=levels))
    return tmp_path


def numbers(folder: Path, name: str) -> dict[str, list[str]]:
    with (folder / "results" / name / "trials.csv").open(newline="") as file:
        columns = ("status", "test_accuracy", "dev_accuracy", "final_train_loss", "threads")
        return {row["trial_id"]: [row[column] for column in columns] for row in csv.DictReader(file)}


def test_the_order_of_trials_changes_no_number_and_nothing_is_left_running(folder: Path) -> None:
    for hashes, name in enumerate(("loud_first", "loud_last"), start=3):  # in which the place is another
        done = bench(folder, "run", f"{name}.yaml", "-j", "1", "--no-time", hashes=hashes)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not done.stderr, "what its end leaves is removed without a word"
        assert "warning" not in done.stdout, "the look before the run has processes of its own, too"
    assert numbers(folder, "loud_first") == numbers(folder, "loud_last")
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 8765" not in left
    checked = bench(folder, "verify", "loud_first.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("agrees") == 2


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def make():\n    return {}['x']\n", "data make:make: raised: KeyError: 'x' (make.py, line 2)"),
        ("import sys\ndef make():\n    sys.exit('no disk')\n", "raised: SystemExit: no disk (make.py, line 3)"),
        ("def make():\n    open('gone.bin')\n", "No such file or directory: 'gone.bin' (make.py, line 2)"),
        (
            "import os\ndef make():\n    os._exit(4)\n",
            "data make:make: cannot be read: the worker process ended",
        ),
    ],
)
def test_a_data_function_that_fails_is_named_with_its_file_and_reason(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "make.py").write_text(source)
    grid = GRID.format(levels="[1]").replace("name: digits, limit: 100", 'name: "make:make"')
    grid = grid.replace('name: "nets:Net"', "name: mlp").replace("model.loud: [1]", "optimizer.lr: [0.1, 0.2]")
    (tmp_path / "g.yaml").write_text(grid)
    done = bench(tmp_path, "run", "g.yaml", "-j", "1", "--no-time")
    assert done.returncode == 2, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(words) == 1
    assert "Traceback" not in done.stderr
    assert "cannot be written" not in done.stderr


def test_inline_imports_the_modules_that_a_trial_names_again(folder: Path) -> None:
    quiet = POLLUTES.replace("if loud:", "if False:")
    (folder / "nets.py").write_text(quiet)
    for name in ("loud_first", "loud_last"):
        done = bench(folder, "run", f"{name}.yaml", "--executor", "inline", "--no-time")
        assert done.returncode == 0, done.stdout + done.stderr
    assert numbers(folder, "loud_first") == numbers(folder, "loud_last")
    first, second = numbers(folder, "loud_first").values()
    assert first == second, "the second trial counts its networks from one, as the first did"
