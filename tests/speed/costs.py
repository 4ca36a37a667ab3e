"""What the harness itself costs: time beside training, memory, and how full the processor is. ``make speed`` runs it.

Prints a Markdown table with the target of each figure. Every time is the median of several whole processes, taken in
turn; memory is read from Linux's ``/proc``. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
import yaml
from drivers import FACTORS, SEEDS, TRIAL
from rich.console import Console
from test_report import record

from bench.execute.options import Options
from bench.execute.progress import Progress
from bench.execute.run import run
from bench.grid.load import load_plan
from bench.record.outcome import Outcome
from lab.data import load_data
from lab.data.published import DEBIAN_FASHION_MNIST
from lab.device import device_name
from lab.limits import cores
from lab.measure import count_macs
from lab.settings import Settings
from lab.trial import batches, make_runner

HERE = Path(__file__).parent
CPU = torch.device("cpu")
DATA = {"name": "fashion_mnist" if DEBIAN_FASHION_MNIST.exists() else "digits", "batch_size": 64}
SIDE = 1024  # of the matrix product


@dataclass(frozen=True)
class Cost:
    """A figure, as text, beside what it should be."""

    what: str
    found: str
    target: str


def bench(*words: str | Path, cwd: Path) -> None:
    command = [sys.executable, "-m", "bench", *map(str, words)]
    subprocess.run(command, cwd=cwd, stdout=subprocess.DEVNULL, check=True)


def seconds(command: Callable[[], object]) -> float:
    start = time.perf_counter()
    command()
    return time.perf_counter() - start


def in_turn(rounds: int, **commands: Callable[[], float]) -> dict[str, float]:
    """The median of what each gives; every one once a round."""
    found = [{name: command() for name, command in commands.items()} for _ in range(rounds)]
    return {name: statistics.median(each[name] for each in found) for name in commands}


def python(code: str) -> float:
    return seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True))


def write_grid(path: Path, trial: dict[str, Any], factors: dict[str, list[Any]], seeds: int) -> Path:
    grid = {"question": "What does it cost?", "base": trial, "factors": factors, "seeds": seeds}
    path.write_text(yaml.safe_dump(grid | {"baseline": {name: levels[0] for name, levels in factors.items()}}))
    return path


# --- time beside training -------------------------------------------------------------------------------------------


def first_step(folder: Path, rounds: int) -> Iterator[Cost]:
    """A whole ``bench run`` of one training step, its record included, beside ``import torch`` alone."""
    trial = {"data": {"name": "digits", "limit": 20}, "model": {"name": "mlp"}, "optimizer": {"name": "sgd"}}
    grid = write_grid(folder / "first.yaml", trial | {"train": {"epochs": 1}}, {"optimizer.lr": [0.1]}, 1)
    step = "import torch; p = torch.ones(1); p.grad = torch.ones(1); torch.optim.SGD([p], 0.1).step()"
    found = in_turn(
        rounds,
        ours=lambda: seconds(lambda: bench("run", grid, "--rerun", "all", "--no-time", cwd=folder)),
        torch=lambda: python("import torch"),
        optimizer=lambda: python(step),
    )
    beyond, own = found["ours"] - found["torch"], found["optimizer"] - found["torch"]
    text = (
        f"{beyond:.2f} s, {own:.2f} s of it torch's own at the first optimizer (`import torch`: {found['torch']:.2f} s)"
    )
    yield Cost("a whole `run` of one training step, beyond `import torch`", text, "<= 1.5 s")


def commands(folder: Path, rounds: int) -> Iterator[Cost]:
    """Whole processes of commands that do without torch."""
    for num_trials in (40, 1000, 10_000):
        made_up = folder / "results" / f"made_up_{num_trials}"
        made_up.mkdir(parents=True)
        record(made_up, num_trials)
        grid = (made_up / "grid.yaml").read_text().replace("name: made_up", f"name: made_up_{num_trials}")
        (folder / f"made_up_{num_trials}.yaml").write_text(grid)
    found = in_turn(
        rounds,
        help=lambda: seconds(lambda: bench("--help", cwd=folder)),
        csv=lambda: seconds(lambda: bench("report", "made_up_40.yaml", "--format", "csv", cwd=folder)),
    )
    yield Cost("`--help`", f"{found['help']:.2f} s", "<= 0.5 s")
    yield Cost("`report --format csv` of 40 trials", f"{found['csv']:.2f} s", "<= 2.5 s")
    reports = {n: seconds(lambda: bench("report", f"made_up_{n}.yaml", cwd=folder)) for n in (40, 1000, 10_000)}  # noqa: B023  # called at once
    text = ", ".join(f"{n:,} trials {took:.1f} s" for n, took in reports.items())
    yield Cost("`report` with figures", text, "<= 20 s, linear")


class Watch(Progress):
    """Keeps when each trial's record was written, and how long the trial says it took."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()), [])
        self.marks: list[tuple[float, float]] = []

    def ended(self, worker: int, outcome: Outcome) -> None:
        super().ended(worker, outcome)
        assert outcome.result is not None, outcome.error
        self.marks.append((time.perf_counter(), outcome.result.measures["total_seconds"]))


OWN_NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, in_channels, num_classes, size, batch_norm=False):
        norm = nn.BatchNorm1d(120) if batch_norm else nn.Identity()
        features = in_channels * size * size
        super().__init__(nn.Flatten(), nn.Linear(features, 120), norm, nn.ReLU(), nn.Linear(120, num_classes))
"""


def time_beside(grid: Path) -> None:
    """Prints, for each trial of one worker, the milliseconds between two records that no trial's clock counts."""
    plan, watch = load_plan(grid), Watch()
    run(plan, Options(results=grid.parent / "harness", device="cpu", jobs=1), watch)
    pairs = zip(watch.marks, watch.marks[1:], strict=False)
    print(json.dumps([1e3 * (now - before - total) for (before, _), (now, total) in pairs]))


def harness_time(folder: Path) -> Iterator[Cost]:
    """In a process whose workers do not import this module; a trial that names user code has one of its own."""
    (folder / "own_net.py").write_text(OWN_NET)
    write_grid(folder / "built_in.yaml", TRIAL, FACTORS, SEEDS)
    write_grid(folder / "own.yaml", {**TRIAL, "model": {"name": "own_net:Net"}}, FACTORS, SEEDS)
    for name, whose, target in (("built_in", "", "<= 10 ms"), ("own", " of user code", "<= 30 ms")):
        code = f"import sys; sys.path[:0] = [{str(HERE)!r}, {str(Path.cwd())!r}]\n"
        code += f"import costs; from pathlib import Path; costs.time_beside(Path({str(folder / name)!r} + '.yaml'))"
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True)
        beside = json.loads(done.stdout)
        text = f"{statistics.median(beside):.0f} ms ({min(beside):.0f} to {max(beside):.0f})"
        yield Cost(f"a trial{whose} beyond setup, training and evaluation, of {len(beside)}", text, target)


# --- memory ---------------------------------------------------------------------------------------------------------


def resident_at_224(limit: int | None) -> int:
    """Bytes that this process holds when it trains on so many images at 224 x 224."""
    trial = {"data": {**DATA, "size": 224, "limit": limit}, "model": {"name": "resnet10", "width": 4}}
    settings = Settings.parse(trial | {"optimizer": {"name": "sgd", "lr": 0.1}, "train": {"epochs": 1}})
    splits = load_data(settings.data, CPU)
    runner = make_runner(settings, splits, CPU)
    for step, (X, y) in enumerate(batches(settings, splits, "train")):
        runner.step(X, y)
        if step == 1:
            break
    return proportional_bytes(os.getpid())


def proportional_bytes(process: int) -> int:
    """A process's memory, where what several share counts to each by its part."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    return 1024 * int(re.search(r"^Pss:\s+(\d+)", rollup, re.M)[1])  # type: ignore[index]  # Linux always says it


def tree(root: int) -> list[int]:
    """A process and all that it began."""
    found = [root]
    for process in found:
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def most_memory(folder: Path, jobs: int) -> int:
    """The most that a run holds in all of its processes."""
    command = ["-m", "bench", "run", "memory.yaml", "--results", f"memory{jobs}", "-j", str(jobs), "--no-time"]
    process = subprocess.Popen([sys.executable, *command], cwd=folder, stdout=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        try:
            most = max(most, sum(map(proportional_bytes, tree(process.pid))))
        except (OSError, TypeError):  # one of them ended meanwhile
            continue
        time.sleep(0.05)
    assert process.returncode == 0
    return most


def memory(folder: Path) -> Iterator[Cost]:
    with fresh() as process:
        few = process.submit(resident_at_224, 128).result()
    with fresh() as process:
        all_images = process.submit(resident_at_224, None).result()
    text = f"{(all_images - few) / 2**20:.0f} MB"
    yield Cost("60,000 images at 224 x 224 beyond model and one batch", text, "<= 100 MB")
    trial = {
        "data": {**DATA, "size": 32, "limit": 20_000},
        "model": {"name": "resnet18"},
        "optimizer": {"name": "adam"},
    }
    write_grid(folder / "memory.yaml", trial | {"train": {"epochs": 1}}, {"optimizer.lr": [0.001, 0.002]}, 1)
    one, two = (most_memory(folder, jobs) for jobs in (1, 2))
    yield Cost(
        "each further worker (ResNet18)",
        f"{(two - one) / 2**20:.0f} MB (the first run: {one / 2**20:.0f})",
        "<= 700 MB",
    )


@contextmanager
def fresh(num_processes: int = 1, **options: Any) -> Iterator[ProcessPoolExecutor]:
    """New processes, of this module and nothing else."""
    with ProcessPoolExecutor(num_processes, multiprocessing.get_context("spawn"), **options) as pool:
        yield pool


# --- a full processor -----------------------------------------------------------------------------------------------

_barrier: Barrier


def meet_at(barrier: Barrier) -> None:
    global _barrier  # a process of the pool has no other place for it
    _barrier = barrier


def rates(precision: str, rounds: int) -> tuple[list[float], list[float]]:
    """FLOP/s of a matrix product and of training, in each round; all processes do the same at the same time."""
    torch.set_num_threads(1)
    trial = {"data": {**DATA, "size": 32, "limit": 2000}, "model": {"name": "resnet18"}, "optimizer": {"name": "adam"}}
    trial["optimizer"]["lr"] = 0.001
    settings = Settings.parse(trial | {"train": {"epochs": 1, "precision": precision}})
    splits = load_data(settings.data, CPU)
    runner = make_runner(settings, splits, CPU)
    macs = count_macs(runner.model, splits.in_channels, 32).computed
    a = torch.ones(SIDE, SIDE, dtype=getattr(torch, precision))
    out, epoch = torch.empty_like(a), list(batches(settings, splits, "train"))
    runner.model.train()

    def product() -> float:
        for _ in range(20):
            torch.mm(a, a, out=out)
        return 20 * 2 * SIDE**3

    def training() -> float:
        for X, y in epoch[:10]:
            runner.step(X, y)
        return 10 * 6 * macs * len(epoch[0][1])

    found: tuple[list[float], list[float]] = [], []
    for index in range(rounds + 1):
        for work, rate in zip((product, training), found, strict=True):
            _barrier.wait()
            start = time.perf_counter()
            flops = work()
            if index:  # the first round warms up
                rate.append(flops / (time.perf_counter() - start))
    return found


def full_processor(rounds: int) -> Iterator[Cost]:
    barrier = multiprocessing.get_context("spawn").Barrier(cores())
    for precision, target in (("float32", ">= 0.85"), ("bfloat16", "")):
        with fresh(cores(), initializer=meet_at, initargs=(barrier,)) as pool:
            each = [future.result() for future in [pool.submit(rates, precision, rounds) for _ in range(cores())]]
        product, training = ([sum(of) for of in zip(*(one[kind] for one in each), strict=True)] for kind in (0, 1))
        share = [t / p for t, p in zip(training, product, strict=True)]
        spread = f"{min(share):.2f}–{max(share):.2f}"
        text = f"{statistics.median(share):.2f} ({spread}) of {statistics.median(product) / 1e9:.0f} GFLOP/s"
        what = f"ResNet18 at 32 x 32 in {precision}, {cores()} workers: achieved / matrix product"
        yield Cost(what, text, target)


PARTS: dict[str, Callable[[Path, int], Iterator[Cost]]] = {
    "commands": commands,
    "start": first_step,
    "trial": lambda folder, rounds: harness_time(folder),
    "memory": lambda folder, rounds: memory(folder),
    "processor": lambda folder, rounds: full_processor(rounds),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} [all]")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{device_name(CPU)}, {cores()} cores; torch {torch.__version__}; medians of {options.rounds}\n")
    print("| what | found | target |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.parts or PARTS:
            for cost in PARTS[name](Path(folder), options.rounds):
                print(f"| {cost.what} | {cost.found} | {cost.target} |", flush=True)


if __name__ == "__main__":
    main()
