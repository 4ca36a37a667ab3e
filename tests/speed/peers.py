"""The same training by us and by others, in turn, in one run; prints Markdown tables of ratios. ``make speed`` runs it.

Needs the extra ``peers``. Part one: training loops on Fashion-MNIST (on the digits of scikit-learn where it cannot be
had). Part two: a grid of 40 trials, by this project's command line, by Hydra and by joblib.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from drivers import compare_drivers
from loops import CPU, LOOPS, Stopwatch, Task

from bench.executors import cores
from lab.data import DEBIAN_FASHION_MNIST
from lab.device import device_name
from lab.settings import Settings

# Without those whose only news is where the data lie: beside a step of ResNet18 that takes no time.
IN_SHORT = [name for name in LOOPS if name.startswith("bare") or not name.endswith(("memory", "workers"))]
PACKAGES = ("torch", "lightning", "skorch", "hydra-core", "joblib")


@dataclass
class Measured:
    """Of one loop: a number for each round."""

    images_per_second: list[float] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)


def settings(model: str, num_steps: int) -> Settings:
    """One epoch of so many steps of 64 images at 32 x 32, with Adam."""
    data: dict[str, Any] = {"name": "digits", "size": 32, "batch_size": 64}
    if DEBIAN_FASHION_MNIST.exists():
        data |= {"name": "fashion_mnist", "limit": round(num_steps * 64 / 0.9)}
    optimizer = {"name": "adam", "lr": 0.001}
    return Settings.parse({"data": data, "model": {"name": model}, "optimizer": optimizer, "train": {"epochs": 1}})


def compare_loops(task: Task, names: Sequence[str], rounds: int) -> dict[str, Measured]:
    """Every loop once a round, each round beginning with another one; before the first, every loop once untimed."""
    found = {name: Measured() for name in names}
    for index in range(-1, rounds):
        shift = index % len(names)
        for name in [*names[shift:], *names[:shift]]:
            clock = Stopwatch()
            network = LOOPS[name](task, max(index, 0), clock)
            if index >= 0:
                found[name].images_per_second.append(len(task.splits.train) / clock.wall)
                found[name].processor_seconds.append(clock.processor)
                found[name].accuracy.append(task.accuracy(network))
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def ratios(first: Sequence[float], second: Sequence[float]) -> str:
    """Median of the rounds' ratios, and the smallest and the largest."""
    each = [a / b for a, b in zip(first, second, strict=True)]
    return f"{statistics.median(each):.2f} ({min(each):.2f}–{max(each):.2f})"


def loop_table(found: dict[str, Measured]) -> str:
    lines = ["| loop | images/s | ours / it | its processor time / ours | accuracy, % |"]
    lines.append("| --- | --- | --- | --- | --- |")
    us = next(iter(found.values()))
    for name, one in found.items():
        accuracy = 100 * statistics.mean(one.accuracy)
        deviation = 100 * statistics.stdev(one.accuracy)
        cells = [
            name,
            f"{statistics.median(one.images_per_second):,.0f}",
            "1" if one is us else ratios(us.images_per_second, one.images_per_second),
            "1" if one is us else ratios(one.processor_seconds, us.processor_seconds),
            f"{accuracy:.1f} ± {deviation:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of LeNet; ResNet18 and the grids have two less")
    parser.add_argument("--threads", type=int, default=cores(), help="of the training loops [all cores]")
    parser.add_argument("--part", choices=("loops", "drivers"), help="only this one")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    print(f"{device_name(CPU)}, {cores()} cores; Python {platform.python_version()}, {versions}")
    few = max(2, options.rounds - 2)
    with tempfile.TemporaryDirectory() as folder:
        if options.part != "drivers":
            for model, num_steps, rounds, names in (
                ("lenet", 100, options.rounds, list(LOOPS)),
                ("resnet18", 20, few, IN_SHORT),
            ):
                task = Task(settings(model, num_steps), Path(folder) / model)
                head = f"{model}, {task.settings.data.name} at 32 x 32, batches of 64, Adam"
                where = f"{len(task.splits.train):,} images, {options.threads} threads, {rounds} rounds"
                print(f"\n**{head}; {where}**\n\n{loop_table(compare_loops(task, names, rounds))}", flush=True)
        if options.part != "loops":
            print(f"\n{compare_drivers(Path(folder) / 'drivers', few)}")


if __name__ == "__main__":
    main()
