"""The same training by us and by others, in turn, in one run; prints Markdown tables of ratios. ``make speed`` runs it.

Needs the extra ``peers``. Part one: training loops on Fashion-MNIST (on the digits of scikit-learn where it cannot be
had), each in a process of its own, since memory and thread pools are settled by whoever comes first. Part two: a grid
of 40 trials, by this project's command line, by Hydra and by joblib.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from drivers import compare_drivers
from loops import CPU, LOOPS, Measurement, measure

from lab.data.published import DEBIAN_FASHION_MNIST
from lab.device import device_name
from lab.limits import cores
from lab.settings import Settings

# Without those whose only news is where the data lie: beside a step of ResNet18 that takes no time.
IN_SHORT = [name for name in LOOPS if name.startswith("bare") or not name.endswith(("memory", "workers"))]
PACKAGES = ("torch", "lightning", "skorch", "hydra-core", "joblib")


def settings(model: str, num_steps: int) -> Settings:
    """One epoch of so many steps of 64 images at 32 x 32, with Adam."""
    data: dict[str, Any] = {"name": "digits", "size": 32, "batch_size": 64}
    if DEBIAN_FASHION_MNIST.exists():
        data |= {"name": "fashion_mnist", "limit": round(num_steps * 64 / 0.9)}
    optimizer = {"name": "adam", "lr": 0.001}
    return Settings.parse({"data": data, "model": {"name": model}, "optimizer": optimizer, "train": {"epochs": 1}})


def compare_loops(
    settings: Settings, folder: Path, names: Sequence[str], rounds: int, threads: int
) -> dict[str, list[Measurement]]:
    """Every loop once a round, each time in a fresh process, each round beginning with another one."""
    found: dict[str, list[Measurement]] = {name: [] for name in names}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["loops"])
    for index in range(rounds):
        shift = index % len(names)
        for name in [*names[shift:], *names[:shift]]:
            with ProcessPoolExecutor(1, context) as process:
                found[name].append(process.submit(measure, name, settings, folder, index, threads).result())
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def ratios(each: Sequence[float]) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(each):.2f} ({min(each):.2f}–{max(each):.2f})"


def loop_table(found: dict[str, list[Measurement]]) -> str:
    lines = ["| loop | images/s | ours / it | its processor time / ours | accuracy, % |"]
    lines.append("| --- | --- | --- | --- | --- |")
    us = next(iter(found.values()))
    for name, them in found.items():
        accuracies = [100 * one.accuracy for one in them]
        cells = [
            name,
            f"{statistics.median(one.images_per_second for one in them):,.0f}",
            "1"
            if them is us
            else ratios([a.images_per_second / b.images_per_second for a, b in zip(us, them, strict=True)]),
            "1"
            if them is us
            else ratios([b.processor_seconds / a.processor_seconds for a, b in zip(us, them, strict=True)]),
            f"{statistics.mean(accuracies):.1f} ± {statistics.stdev(accuracies):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of LeNet; ResNet18 and the grids have two less")
    parser.add_argument("--threads", type=int, default=cores(), help="of the training loops [all cores]")
    parser.add_argument("--part", choices=("loops", "drivers"), help="only this one")
    options = parser.parse_args()
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    print(f"{device_name(CPU)}, {cores()} cores; Python {platform.python_version()}, {versions}")
    few = max(2, options.rounds - 2)
    with tempfile.TemporaryDirectory() as folder:
        if options.part != "drivers":
            for model, num_steps, rounds, names in (
                ("lenet", 200, options.rounds, list(LOOPS)),
                ("resnet18", 80, few, IN_SHORT),
            ):
                task = settings(model, num_steps)
                head = f"{model}, {task.data.name} at 32 x 32, batches of 64, Adam"
                where = f"{num_steps} steps, {options.threads} threads, {rounds} rounds"
                found = compare_loops(task, Path(folder) / model, names, rounds, options.threads)
                print(f"\n**{head}; {where}**\n\n{loop_table(found)}", flush=True)
        if options.part != "loops":
            print(f"\n{compare_drivers(Path(folder) / 'drivers', few)}")


if __name__ == "__main__":
    main()
