"""What the process that workers are forked from imports ahead, and what a trial finds that it did not."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.execute.preload import OF_FUNCTIONS, OF_LAB, WITH_TORCH, modules_ahead
from bench.grid.load import load_plan
from bench.grid.own import Run

GRID = """
question: Does the seed act?
run: {function: train:run}
metrics: {draw: {better: higher}}
factors: {width: [1]}
seeds: 2
"""


def test_installed_packages_that_own_modules_import_are_imported_once_for_all_trials(
    workshop: Callable[[str, str], None],
) -> None:
    workshop("train", "import inner\ndef run():\n    from sklearn.svm import SVC\n")
    workshop("inner", "import json, torch.nn, wandb\n")
    named = ["torch", "torch.nn", "sklearn", "sklearn.svm", "sklearn.svm.SVC"]
    found = modules_ahead([Run(function="train:run")])
    assert sorted(found) == sorted([*OF_FUNCTIONS, *WITH_TORCH, *named])
    assert modules_ahead([Run(command="python train.py")]) == []
    assert modules_ahead([None, Run(command="python train.py")]) == [*OF_LAB]


def test_what_installed_modules_import_is_known_from_looking_at_the_function(
    workshop: Callable[[str, str], None], tmp_path: Path
) -> None:
    workshop(
        "train", "import importlib\nimportlib.import_module('scipy' + '.optimize')\ndef run(width):\n    return 1.0\n"
    )
    (tmp_path / "own.yaml").write_text(GRID)
    plan = load_plan(tmp_path / "own.yaml")
    assert {"scipy", "scipy.optimize"} <= set(modules_ahead([plan.run]))


def test_a_function_that_does_without_torch_does_not_wait_for_it(workshop: Callable[[str, str], None]) -> None:
    workshop("train", "import math\n")
    code = "from bench.execute.preload import modules_ahead; from bench.grid.own import Run\n"
    code += "print([name for name in modules_ahead([Run(function='train:run')]) if 'torch' in name])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_torch_that_comes_with_the_function_is_seeded_as_one_that_was_there(
    workshop: Callable[[str, str], None], tmp_path: Path
) -> None:
    """Where a package that nobody knows imports it, it is not there when the trial starts."""
    workshop(
        "train",
        "import importlib\ntorch = importlib.import_module('to' + 'rch')\ndef run(width):\n    return torch.rand(1)\n",
    )
    (tmp_path / "own.yaml").write_text(GRID)
    words = [sys.executable, "-m", "bench", "run", "own.yaml", "--device", "cpu", "--no-time", "--results"]
    draws = []
    for results, executor in (("one", "inline"), ("other", "local")):
        subprocess.run([*words, results, "--executor", executor], check=True, capture_output=True)
        with Path(results, "own", "trials.csv").open(newline="") as file:
            draws.append({row["seed"]: row["draw"] for row in csv.DictReader(file)})
    assert draws[0] == draws[1]
    assert draws[0]["0"] != draws[0]["1"]
