"""A user's own parts, in a folder outside the project: ablated by import path from the command line."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

NETS = '''
from torch import nn

class TinyNet(nn.Module):
    """A small network with three toggles."""

    def __init__(self, in_channels: int, num_classes: int, size: int, width: int = 8,
                 norm: bool = True, shortcut: bool = True, pool: bool = True):
        super().__init__()
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(2 if pool else size)
        self.shortcut = shortcut
        self.fc = nn.Linear(width * (2 if pool else size) ** 2, num_classes)

    def forward(self, X):
        X = self.first(X).relu()
        out = self.norm(self.second(X)).relu()
        return self.fc(self.pool(X + out if self.shortcut else out).flatten(1))
'''
TINY = """
question: Which part of my network matters?
base:
  data: {name: digits, limit: 200}
  model: {name: "my_nets:TinyNet", width: 4}
  optimizer: {name: momentum, lr: 0.05}
  train: {epochs: 1}
factors: {model.norm: [true, false], model.shortcut: [true, false], model.pool: [true, false]}
plan: leave_one_out
baseline: {model.norm: true, model.shortcut: true, model.pool: true}
seeds: 1
"""
PARTS = '''
import numpy as np
import torch

def stripes(num_images: int = 120, side: int = 6):
    """Images that are bright above or below."""
    labels = np.arange(num_images) % 2
    images = np.random.default_rng(0).integers(0, 60, (num_images, side, side), dtype=np.uint8)
    images[labels == 1, : side // 2] += 150
    images[labels == 0, side // 2 :] += 150
    return {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}

def halved(num_steps: int, factor: float = 0.5):
    """Half the rate from the middle on."""
    return lambda step: 1.0 if step < num_steps / 2 else factor

def squared(logits, labels):
    return ((logits.softmax(1) - torch.nn.functional.one_hot(labels, logits.shape[1])) ** 2).mean()

class Hits:
    better = "higher"

    def reset(self):
        self.hits, self.total = 0, 0

    def update(self, logits, labels):
        self.hits += (logits.argmax(1) == labels).sum()
        self.total += len(labels)

    def accumulate(self):
        return float(self.hits) / self.total
'''
OWN = """
question: Does my loss beat cross-entropy on my stripes?
base:
  data: {name: "my_parts:stripes", num_images: 160, batch_size: 16}
  model: {name: mlp, hidden: [8]}
  optimizer: {name: "torch.optim:Adagrad", lr: 0.1, lr_decay: 0.01}
  schedule: {name: "my_parts:halved", factor: 0.2}
  train: {epochs: 2, metric: "my_parts:Hits"}
factors: {train.loss: [cross_entropy, "my_parts:squared"]}
seeds: 1
"""
SWAPS = """
question: What does normalisation give torchvision's resnet18?
base:
  data: {name: digits, limit: 40, size: 32, channels: 3, batch_size: 16}
  model: {name: "torchvision.models:resnet18"}
  optimizer: {name: sgd, lr: 0.01}
  train: {epochs: 1}
factors:
  model.replace:
    batch: {}
    none: {BatchNorm2d: Identity}
    group: {BatchNorm2d: GroupNorm}
seeds: 1
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's folder, with modules and grids and nothing of the project's."""
    folder = tmp_path_factory.mktemp("workshop")
    files = {"my_nets.py": NETS, "my_parts.py": PARTS, "tiny.yaml": TINY, "own.yaml": OWN, "swaps.yaml": SWAPS}
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def bench(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    command = [sys.executable, "-m", "bench", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def run(grid: str, cwd: Path) -> dict[str, dict[str, str]]:
    """The grid's recorded trials by cell."""
    done = bench("run", f"{grid}.yaml", "-j", "1", "--no-time", cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    with (cwd / "results" / grid / "trials.csv").open(newline="") as file:
        return {row["cell"]: row for row in csv.DictReader(file)}


def test_ten_lines_ablate_ones_own_network_by_its_three_toggles(workshop: Path) -> None:
    trials = run("tiny", workshop)
    assert [trial["status"] for trial in trials.values()] == ["ok"] * 4
    found = {
        tuple(trial[f"model.{toggle}"] for toggle in ("norm", "shortcut", "pool")): int(trial["parameters"])
        for trial in trials.values()
    }
    # 1*9*4 + 4 = 40, 4*9*4 + 4 = 148, BatchNorm 8, 4*2*2*10 + 10 = 170, without the pool 4*8*8*10 + 10 = 2,570
    assert found == {
        ("true", "true", "true"): 366,
        ("false", "true", "true"): 358,
        ("true", "false", "true"): 366,
        ("true", "true", "false"): 2766,
    }


def test_ones_own_data_optimizer_schedule_loss_and_metric_train_together(workshop: Path) -> None:
    trials = list(run("own", workshop).values())
    assert [trial["train.loss"] for trial in trials] == ["cross_entropy", "my_parts:squared"]
    for trial in trials:
        assert (trial["status"], trial["steps"]) == ("ok", "18")  # 144 images in batches of 16, twice
        assert (trial["schedule.factor"], trial["optimizer.lr_decay"]) == ("0.2", "0.01")
        assert float(trial["test_accuracy"]) > 0.9  # anyone can tell above from below


def test_torchvisions_resnet_trains_with_its_batch_norm_replaced(workshop: Path) -> None:
    trials = run("swaps", workshop)
    assert {trial["status"] for trial in trials.values()} == {"ok"}
    batch, none, group = (int(trial["parameters"]) for trial in trials.values())
    assert batch == group
    assert batch - none == 9600  # twice 64 + 4*64 + 5*128 + 5*256 + 5*512 = 4,800 channels


def test_list_shows_what_ones_own_network_takes(workshop: Path) -> None:
    done = bench("list", "my_nets:TinyNet", cwd=workshop)
    assert done.returncode == 0, done.stderr
    for word in ("A small network with three toggles.", "width", "[8]", "shortcut", "true or false", "replace"):
        assert word in done.stdout
    assert "num_classes" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("part", "noun", "setting"),
    [
        ("my_parts:stripes", "data set", "num_images"),
        ("my_parts:halved", "schedule", "factor"),
        ("torch.optim:Adagrad", "optimizer", "lr_decay"),
        ("my_nets:TinyNet", "model", "shortcut"),
        ("torchvision.models:resnet18", "model", "replace"),
    ],
)
def test_list_tells_what_ones_own_part_is(workshop: Path, part: str, noun: str, setting: str) -> None:
    first, *others = bench("list", part, cwd=workshop).stdout.splitlines()
    assert first == noun
    assert any(setting in line.split() for line in others)


def test_a_module_that_cannot_be_imported_is_one_message(workshop: Path) -> None:
    (workshop / "torn.py").write_text("class Net(\n")
    done = bench("run", "tiny.yaml", "--dry-run", "--set", 'model={name: "torn:Net"}', cwd=workshop)
    assert done.returncode == 2
    assert "cannot import torn: SyntaxError" in done.stderr
    assert "Traceback" not in done.stderr
