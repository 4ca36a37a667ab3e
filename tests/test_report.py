"""The report of recorded trials, from files to files; the trials are made up here, no network is trained."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bench.grid import Plan, Trial, load_plan
from bench.records import Records
from bench.report import report
from lab.result import Evaluation

RESIDUAL = """
    name: residual_vs_plain
    question: Do residual shortcuts make deep networks trainable, with and without BatchNorm?
    base:
      data: {name: digits, size: 32, batch_size: 64}
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
OPTIMIZERS = """
    name: optimizers
    question: Which optimizer learns fastest at its usual rate?
    base:
      data: {name: digits}
      model: {name: lenet}
      train: {epochs: 8}
    factors:
      optimizer:
        sgd: {name: sgd, lr: 0.1}
        momentum: {name: momentum, lr: 0.05}
        rmsprop: {name: rmsprop, lr: 0.001}
        adam: {name: adam, lr: 0.001}
    seeds: 3
    baseline: {optimizer: adam}
"""
RATES = """
    name: batch_norm
    question: Does BatchNorm allow larger learning rates and converge sooner?
    base:
      data: {name: digits}
      model: {name: lenet}
      optimizer: {name: momentum, lr: 0.1}
      train: {epochs: 10}
    factors:
      model.batch_norm: [true, false]
      optimizer.lr: [0.001, 0.003, 0.01, 0.1, 1.0, 10.0]
    seeds: 5
    baseline: {model.batch_norm: true, optimizer.lr: 0.1}
"""
IMAGES = 360


def record(folder: Path, grid: str, level: Callable[[Trial], tuple[str, float, float]]) -> Plan:
    """Writes a grid and made-up records: ``level`` gives a trial's status ("" for none), accuracy and images/s."""
    folder.mkdir(parents=True)
    (folder / "grid.yaml").write_text(textwrap.dedent(grid))
    plan = load_plan(folder / "grid.yaml")
    records = Records(folder)
    images = np.random.default_rng(7).uniform(0, 0.1, IMAGES)
    for index, trial in enumerate(plan.trials):
        status, accuracy, rate = level(trial)
        random = np.random.default_rng(index)
        accuracy = float(np.clip(accuracy + random.normal(0, 0.15 * accuracy * (1.02 - accuracy)), 0.05, 0.995))
        correct = random.uniform(size=IMAGES) + images < accuracy + 0.05
        epochs = trial.settings.train.epochs
        curve = [
            Evaluation(20 * epoch, float(epoch), 0.1 + (accuracy - 0.1) * (1 - math.exp(-0.9 * epoch)), 1.0, 1.0, epoch / 5)
            for epoch in range(epochs + 1)
        ]
        row = {
            **{"trial_id": trial.trial_id, "grid": plan.name, "cell": trial.cell.label, "status": status},
            **{"seed": trial.seed, "parameters": 61706 if rate > 2000 else 175000, "device": "cpu"},
            **{"device_name": "AMD EPYC", "threads": 1, "concurrent_trials": 2, "source_fingerprint": "f"},
            **({"error": "loss is nan at step 31"} if status == "diverged" else {}),
        }
        if status == "ok":
            row |= {"test_accuracy": float(correct.mean()), "dev_accuracy": curve[-1].dev_accuracy}
            row |= {"first_epoch_dev_accuracy": curve[1].dev_accuracy}
            row |= {"train_images_per_second": float(rate * random.normal(1, 0.03))}
            records.append(row, [], curve, np.packbits(correct).tobytes(), IMAGES)
        elif status:
            records.append(row, [])
    return plan


def residual(trial: Trial) -> tuple[str, float, float]:
    levels = trial.cell.levels
    residual, norm = levels["model.residual"] == "true", levels["model.batch_norm"] == "true"
    deep = levels["model.name"] == "resnet34"
    accuracy = {(True, True): 0.95, (True, False): 0.9, (False, True): 0.7, (False, False): 0.12}[residual, norm]
    return "ok", accuracy - 0.12 * deep * (not residual), (1500 if deep else 2600) * (1 if norm else 1.3)


def optimizer(trial: Trial) -> tuple[str, float, float]:
    accuracy, rate = {"sgd": (0.93, 9100), "momentum": (0.97, 8800), "rmsprop": (0.965, 8100), "adam": (0.975, 7900)}[
        trial.cell.levels["optimizer"]
    ]
    return "ok", accuracy, rate


def rates(trial: Trial) -> tuple[str, float, float]:
    rate, norm = float(trial.cell.levels["optimizer.lr"]), trial.cell.levels["model.batch_norm"] == "true"
    accuracy = {0.001: 0.6, 0.003: 0.8, 0.01: 0.93, 0.1: 0.975, 1.0: 0.95, 10.0: 0.5}[rate] - 0.06 * (not norm)
    diverges = not norm and (rate > 1 or (rate == 1 and trial.seed > 2))
    return "diverged" if diverges else "ok", accuracy, 8000 if norm else 9500


def text_of(folder: Path, width: int = 80) -> str:
    output = io.StringIO()
    report(folder, Console(file=output, width=width, highlight=False))
    return output.getvalue()
