"""A grid of 40 short trials: by this project's command line, by Hydra's multirun, and by joblib.

Every trial is the same call of ``lab.trial.run_trial`` on one thread, so what differs is who starts, feeds and records
it. Commands are timed whole, from start to end, the import of torch included.
"""

from __future__ import annotations

import csv
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TRIAL: dict[str, Any] = {
    "data": {"name": "digits", "size": 32, "batch_size": 64},
    "model": {"name": "lenet"},
    "optimizer": {"name": "momentum", "lr": 0.05},
    "train": {"epochs": 5},
}
FACTORS: dict[str, list[Any]] = {
    "optimizer.lr": [0.1, 0.05, 0.02, 0.01],
    "model.batch_norm": [True, False],
}
SEEDS = 5


def trials() -> list[dict[str, Any]]:
    """The settings of each trial, as plain data."""
    found = []
    for *levels, seed in itertools.product(*FACTORS.values(), range(SEEDS)):
        trial: dict[str, Any] = {name: dict(section) for name, section in TRIAL.items()} | {"seed": seed}
        for path, level in zip(FACTORS, levels, strict=True):
            section, key = path.split(".")
            trial[section][key] = level
        found.append(trial)
    return found


def train(trial: dict[str, Any], record: Path) -> None:
    """Runs one trial on one thread and adds a line with its accuracy to the record."""
    import torch

    from lab.settings import Settings
    from lab.trial import run_trial

    torch.set_num_threads(1)
    result = run_trial(Settings.parse(trial), device="cpu")
    with record.open("a") as file:
        file.write(f"{result.trial_id},{result.measures.get('test_accuracy')!r}\n")


# --- the commands; each returns the test accuracy of every trial ----------------------------------------------------


def run_ours(folder: Path, jobs: int) -> dict[str, str]:
    import yaml

    grid = {"name": "peers", "question": "Who is fastest?", "base": TRIAL, "factors": FACTORS, "seeds": SEEDS}
    file = folder / "grid.yaml"
    file.write_text(yaml.safe_dump(grid | {"baseline": {path: levels[0] for path, levels in FACTORS.items()}}))
    command = ["-m", "bench", "run", str(file), "--results", str(folder), "-j", str(jobs), "--device", "cpu"]
    _python([*command, "--no-time"], jobs)
    with (folder / "peers" / "trials.csv").open(newline="") as records:
        return {row["trial_id"]: row["test_accuracy"] for row in csv.DictReader(records)}


def run_hydra(folder: Path, jobs: int) -> dict[str, str]:
    sweep = [f"++trial.{path}={','.join(map(str, levels))}" for path, levels in FACTORS.items()]
    launcher = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}"] if jobs > 1 else []
    where = [f"hydra.sweep.dir={folder}", f"record={folder / 'record.csv'}"]
    seeds = f"trial.seed={','.join(map(str, range(SEEDS)))}"
    _python([str(HERE / "hydra_trial.py"), "--multirun", *sweep, seeds, *launcher, *where], jobs)
    return _read(folder / "record.csv")


def run_joblib(folder: Path, jobs: int) -> dict[str, str]:
    _python([str(HERE / "joblib_trials.py"), str(folder / "record.csv"), str(jobs)], jobs)
    return _read(folder / "record.csv")


def _python(arguments: list[str], num_cores: int) -> None:
    """Runs a Python command on so many cores, one thread per trial; raises CalledProcessError where it fails."""
    available = sorted(os.sched_getaffinity(0))[:num_cores]
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, available),
    )


def _read(record: Path) -> dict[str, str]:
    return dict(line.split(",") for line in record.read_text().splitlines())


COMMANDS: dict[str, tuple[Callable[[Path, int], dict[str, str]], int]] = {
    "bench run -j 2 (this project)": (run_ours, 2),
    "bench run -j 1": (run_ours, 1),
    "Hydra multirun, joblib launcher": (run_hydra, 2),
    "Hydra multirun, basic launcher": (run_hydra, 1),
    "joblib, 2 processes": (run_joblib, 2),
}


def compare_drivers(folder: Path, rounds: int) -> str:
    """A Markdown table of seconds and ratios; every command once a round, each round beginning with another one."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    accuracies: dict[str, dict[str, str]] = {}
    for index in range(rounds):
        shift = index % len(COMMANDS)
        for name in [*list(COMMANDS)[shift:], *list(COMMANDS)[:shift]]:
            function, jobs = COMMANDS[name]
            place = folder / f"{index}-{function.__name__}-{jobs}"
            place.mkdir(parents=True)
            start = time.perf_counter()
            accuracies[name] = function(place, jobs)
            seconds[name].append(time.perf_counter() - start)
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return _table(seconds, accuracies, rounds)


def _table(seconds: dict[str, list[float]], accuracies: dict[str, dict[str, str]], rounds: int) -> str:
    us = next(iter(seconds))
    lines = [
        f"**{len(accuracies[us])} trials: LeNet on digits, 5 epochs, one thread each; {rounds} rounds**\n",
        "| command | cores | seconds | it / ours | mean accuracy, % | the same 40 accuracies |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, times in seconds.items():
        each = [a / b for a, b in zip(times, seconds[us], strict=True)]
        ratio = f"{statistics.median(each):.2f} ({min(each):.2f}–{max(each):.2f})"
        mean = 100 * statistics.mean(float(accuracy) for accuracy in accuracies[name].values())
        same = "yes" if accuracies[name] == accuracies[us] else "no"
        cores = COMMANDS[name][1]
        lines.append(f"| {name} | {cores} | {statistics.median(times):.1f} | {ratio} | {mean:.2f} | {same} |")
    return "\n".join(lines)
