"""What a plan costs and whether its toggles act: one look at each distinct model, before training."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from bench.cli.planning import show_plan
from bench.execute.price import Prices, check_models, price_key, price_plan, without_effect
from bench.grid.load import Plan, load_plan
from lab.result import Inspection

GRID = """
question: What does it cost?
base:
  data: {name: digits, limit: 100, batch_size: 16}
  model: {name: mlp, hidden: [8, 4]}
  optimizer: {name: momentum, lr: 0.05}
  train: {epochs: 3}
factors:
  model.residual: [true, false]
  model.batch_norm: [true, false]
exclude:
  - when: {model.residual: true, model.batch_norm: true}
    because: it is too much
tune: {optimizer.lr: [0.1, 0.05]}
tune_seeds: 2
seeds: 2
baseline: {model.residual: false, model.batch_norm: false}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "cost.yaml").write_text(GRID)
    return load_plan(tmp_path / "cost.yaml")


@pytest.fixture
def shapes_differ(tmp_path: Path) -> Plan:
    (tmp_path / "swap.yaml").write_text(
        GRID.split("exclude")[0].replace("model.residual: [true, false]", "model.replace: {a: {}, b: {ReLu: GELU}}")
        + "seeds: 1\n"
    )
    return load_plan(tmp_path / "swap.yaml")


def shown(plan: Plan, prices: Prices | None = None, width: int = 80) -> tuple[int, str]:
    text = io.StringIO()
    code = show_plan(plan, plan.trials[3:], Console(file=text, width=width, highlight=False), prices)
    return code, text.getvalue()


def test_the_plan_shows_cells_candidates_seeds_trials_and_what_is_left_out(plan: Plan) -> None:
    code, text = shown(plan)
    lines = [line.split() for line in text.splitlines()]
    assert code == 0
    assert lines[1:5] == [
        ["model.residual", "model.batch_norm", "candidates", "seeds", "trials", "recorded"],
        ["true", "false", "2", "2", "4", "3"],
        ["false", "true", "2", "2", "4", "0"],
        ["false", "false", "2", "2", "4", "0"],
    ]
    assert "tuned in every cell: optimizer.lr in 0.1, 0.05" in text
    assert "excluded, it is too much: residual=true batch_norm=true" in text
    assert "3 cells, 12 trials: 3 recorded, 9 to run" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_price_is_that_of_the_steps_and_evaluations_shared_by_the_workers(plan: Plan) -> None:
    one = Inspection("", parameters=10, forward_macs=8, signature="a", step_seconds=2.0, steps=50, evaluations=0)
    prices = Prices({price_key(trial.settings): one for trial in plan.trials}, num_workers=2)
    assert one.trial_seconds == 100
    assert prices.seconds(plan.trials) == 600
    code, text = shown(plan, prices)
    assert (code, "estimated: 8 min for the 9 trials to run, 2 at once" in text) == (0, True)


def test_a_shortcut_that_no_layer_can_take_has_no_effect(plan: Plan, tmp_path: Path) -> None:
    assert check_models(plan, "cpu", tmp_path).warnings == [
        "model.residual has no effect on the first step of mlp with hidden [8, 4]: "
        "true and false give the same outputs and gradients, with model.batch_norm=false"
    ]


def test_toggles_with_another_output_have_an_effect(plan: Plan) -> None:
    inspections = {cell.label: Inspection("", signature=cell.label) for cell in plan.cells}
    assert without_effect(plan, inspections) == []


def test_real_prices_count_the_network_and_its_steps(plan: Plan, tmp_path: Path) -> None:
    prices = price_plan(plan, "cpu", 1, tmp_path)
    assert len(prices.found) == 3  # the candidates cost the same
    found = prices.of(plan.trials[-1].settings)
    # 64*8 + 8 + 8*4 + 4 + 4*10 + 10 = 606; 90 of 100 images in batches of 16 are 6 steps, three times
    assert (found.parameters, found.forward_macs, found.steps, found.evaluations) == (606, 584, 18, 4)
    assert (found.num_dev_images, found.error) == (10, None)
    assert found.trial_seconds > 0


def test_what_would_fail_is_shown_and_fails_the_dry_run(shapes_differ: Plan, tmp_path: Path) -> None:
    code, text = shown(shapes_differ, price_plan(shapes_differ, "cpu", 1, tmp_path), width=300)
    assert code == 1
    assert "would fail: replace=b batch_norm=true: ValueError: model.replace: no module of class 'ReLu'" in text


@pytest.mark.parametrize(
    ("act", "why"),
    [("os._exit(3)", "the worker process ended by itself with exit code 3"), ("time.sleep(60)", "ran longer than 3 s")],
)
def test_a_network_that_ends_or_stops_the_check_does_not_keep_the_run_from_starting(
    workshop: Callable[[str, str], None], tmp_path: Path, act: str, why: str
) -> None:
    workshop("rude", f"import os, time\n\ndef net(num_classes: int, on: bool):\n    {act}\n")
    grid = "question: Is it rude?\nbase:\n  data: {name: digits}\n  model: {name: 'rude:net'}\n"
    grid += "  optimizer: {name: sgd, lr: 0.1}\n  train: {epochs: 1}\nfactors: {model.on: [true, false]}\n"
    (tmp_path / "rude.yaml").write_text(grid)
    (warning,) = check_models(load_plan(tmp_path / "rude.yaml"), "cpu", None, timeout=3).warnings
    assert warning.startswith(f"not checked whether each toggle does anything: {why}")


def test_probabilities_where_the_loss_takes_logits_are_told(
    workshop: Callable[[str, str], None], tmp_path: Path
) -> None:
    net = (
        "from torch import nn\n\ndef net(num_classes: int, end: str):\n    last = {'softmax': nn.Softmax(1)}.get(end)\n"
    )
    net += "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes), *([last] if last else []))\n"
    workshop("shares", net)
    grid = "question: Is it worse?\nbase:\n  data: {name: digits, limit: 40}\n  model: {name: 'shares:net'}\n"
    grid += "  optimizer: {name: sgd, lr: 0.1}\n  train: {epochs: 1}\nfactors: {model.end: [softmax, logits]}\n"
    (tmp_path / "ends.yaml").write_text(grid)
    (warning,) = check_models(load_plan(tmp_path / "ends.yaml"), "cpu", None).warnings
    assert warning.startswith("the outputs are probabilities, as after a softmax; cross_entropy takes logits, and")
    assert warning.endswith("leave it out, with end=softmax")


# --- from the command line ------------------------------------------------------------------------------------------


def bench(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    command = [sys.executable, "-m", "bench", "run", "cost.yaml", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.usefixtures("plan")
def test_a_run_warns_of_an_idle_toggle_and_starts_nothing_without_a_budget(tmp_path: Path) -> None:
    done = bench("--budget", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warning: model.residual has no effect on the first step of mlp with hidden [8, 4]" in done.stdout
    assert "cost: 12 trials not started: they would not have ended in the budget" in done.stdout
    assert not (tmp_path / "results" / "cost" / "trials.csv").exists()


@pytest.mark.usefixtures("plan")
def test_price_goes_with_a_dry_run(tmp_path: Path) -> None:
    refused = bench("--price", cwd=tmp_path)
    assert (refused.returncode, refused.stderr.splitlines()) == (
        2,
        ["--price goes with --dry-run, which shows the plan and its price"],
    )
    shown = bench("--price", "--dry-run", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "per trial" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
