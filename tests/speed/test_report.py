"""A report with tables, figures and files, from made-up records of 40, 1,000 and 10,000 trials."""

from __future__ import annotations

import base64
import io
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from rich.console import Console

from bench.grid.load import load_plan
from bench.record.records import CORRECT, CURVE, ENVIRONMENT, IDENTITY, MEASURES, Records
from bench.report.output import report
from lab.result import Evaluation

pytestmark = pytest.mark.canary("python")
GRID = """
question: Does BatchNorm help, with and without shortcuts?
base:
  data: {name: digits, size: 32}
  model: {name: resnet18, width: 16}
  optimizer: {name: momentum, lr: 0.05}
  train: {epochs: 5}
factors:
  model.name: [resnet18, resnet34]
  model.residual: [true, false]
  model.batch_norm: [true, false]
seeds: 5
baseline: {model.residual: true, model.batch_norm: true}
"""
NUM_IMAGES = 360


def record(folder: Path, num_trials: int) -> None:
    """A grid of eight cells and all of its trials, which end as chance has it."""
    grid = folder / "grid.yaml"
    grid.write_text(GRID.replace("seeds: 5", f"name: made_up\nseeds: {num_trials // 8}"))
    random = np.random.default_rng(0)
    trials, curves, correct = [], [], []
    for trial in load_plan(grid).trials:
        right = random.uniform(size=NUM_IMAGES) < 0.9
        accuracy = float(right.mean())
        points = [
            Evaluation(20 * t, float(t), 1.0, t / 5, {"dev_accuracy": accuracy * (0.5 + t / 10), "dev_loss": 1.0})
            for t in range(6)
        ]
        best = {
            "selected_epoch": 5.0,
            "first_epoch_dev_accuracy": points[1].scores["dev_accuracy"],
            "epochs": 5.0,
            "steps": 100,
        }
        trials.append(
            {"trial_id": trial.trial_id, "grid": "made_up", "cell": trial.cell.label, "status": "ok"}
            | {"seed": trial.seed, "parameters": 175_000}
            | {"test_accuracy": accuracy, "dev_accuracy": accuracy, "final_dev_accuracy": accuracy}
            | {"train_images_per_second": 2500.0, "eval_images_per_second": 9000.0, "train_seconds": 1.0, **best}
            | {"device": "cpu", "device_name": "made up", "threads": 1, "concurrent_trials": 1, "precision": "float32"}
            | trial.settings.flat()
        )
        curves += [{"trial_id": trial.trial_id, **asdict(point)} for point in points]
        bits = base64.b64encode(np.packbits(right).tobytes()).decode()
        correct.append({"trial_id": trial.trial_id, "num_images": NUM_IMAGES, "correct": bits})
    records = Records(folder)
    settings = [name for name in trials[0] if "." in name]
    records.trials.append([*IDENTITY, *settings, *MEASURES, *ENVIRONMENT], trials)
    records.curves.append(CURVE, curves)
    records.correct.append(CORRECT, correct)


@pytest.mark.parametrize("num_trials", [40, 1000, 10_000])
@pytest.mark.benchmark(group="report with figures")
def test_report(benchmark: BenchmarkFixture, tmp_path: Path, num_trials: int) -> None:
    record(tmp_path, num_trials)
    output = io.StringIO()
    benchmark.pedantic(report, (tmp_path, Console(file=output, width=100)), rounds=1, warmup_rounds=num_trials == 40)
    assert f"{num_trials}" in output.getvalue().replace(",", "")
    assert list((tmp_path / "report").glob("*.png"))
