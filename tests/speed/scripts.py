"""40 runs of a script, whole commands in turn: by this project, by xargs and by Hydra with joblib; prints a table.

    python tests/speed/scripts.py --rounds 2

The script only sleeps, so what else the machine does hardly counts. Eight cells of five seeds: all of 2 seconds, or
from half a second to four, in the order of the grid. A speed-up is the other's time over this project's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

LENGTHS = {"equal": [2.0] * 8, "uneven": [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]}
SEEDS = 5
WORKERS = 2

SCRIPT = """
import argparse, json, os, time
parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=float)
parser.add_argument("--cell", type=int)
parser.add_argument("--seed", type=int)
args = parser.parse_args()
time.sleep(args.seconds)
if "BENCH_METRICS" in os.environ:
    print(json.dumps({"score": args.cell + args.seed / 10}), file=open(os.environ["BENCH_METRICS"], "a"))
"""

HYDRA = """
import time, hydra
from hydra.core.config_store import ConfigStore
ConfigStore.instance().store("sleeping", {"cell": 0, "seed": 0, "lengths": []})

@hydra.main(version_base=None, config_name="sleeping")
def main(config):
    time.sleep(config.lengths[config.cell])

main()
"""

GRID = """
question: How long do 40 runs take?
run: {{command: "python script.py --seed {{seed}} {{flags}}"}}
metrics: {{score: {{better: higher}}}}
factors:
  cell: [{levels}]
seeds: {seeds}
"""


def ours(lengths: list[float], folder: Path) -> list[str]:
    levels = ", ".join(f"{index}: {{cell: {index}, seconds: {length}}}" for index, length in enumerate(lengths))
    text = GRID.format(levels="", seeds=SEEDS).replace("cell: []", f"cell: {{{levels}}}")
    (folder / "grid.yaml").write_text(text)
    run = [sys.executable, "-m", "bench", "run", "grid.yaml", "-j", str(WORKERS), "--device", "cpu", "--no-time"]
    return [*run, "--results", tempfile.mkdtemp(dir=folder)]


def xargs(lengths: list[float], folder: Path) -> list[str]:
    lines = [f"--seconds {s} --cell {i} --seed {seed}" for i, s in enumerate(lengths) for seed in range(SEEDS)]
    (folder / "lines").write_text("\n".join(lines))
    return ["xargs", "-a", "lines", "-P", str(WORKERS), "-L", "1", sys.executable, "script.py"]


def hydra(lengths: list[float], folder: Path) -> list[str]:
    cells, seeds = (",".join(map(str, range(count))) for count in (len(lengths), SEEDS))
    launcher = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={WORKERS}", f"hydra.sweep.dir={folder}/multirun"]
    return [sys.executable, "app.py", "-m", f"cell={cells}", f"seed={seeds}", f"lengths={lengths}", *launcher]


DRIVERS: dict[str, Callable[[list[float], Path], list[str]]] = {
    "bench run -j 2": ours,
    "xargs -P 2": xargs,
    "Hydra, joblib launcher": hydra,
}


def seconds(words: list[str], folder: Path) -> float:
    """Runs a whole command; raises CalledProcessError where it fails."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    start = time.perf_counter()
    subprocess.run(words, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def compare(lengths: list[float], rounds: int, folder: Path) -> dict[str, list[float]]:
    """Returns the times of each driver; each round begins with another one."""
    found: dict[str, list[float]] = {name: [] for name in DRIVERS}
    for index in range(rounds):
        shift = index % len(DRIVERS)
        for name in [*DRIVERS][shift:] + [*DRIVERS][:shift]:
            found[name].append(seconds(DRIVERS[name](lengths, folder), folder))
            print(f"{name}: {found[name][-1]:.1f} s", file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print("| runs | command | seconds | speed-up |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "script.py").write_text(SCRIPT)
        (folder / "app.py").write_text(HYDRA)
        for kind, lengths in LENGTHS.items():
            found = compare(lengths, rounds, folder)
            own = found["bench run -j 2"]
            for name, times in found.items():
                ratios = [other / mine for other, mine in zip(times, own, strict=True)]
                spread = (
                    "1" if times is own else f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
                )
                print(f"| {kind} | {name} | {statistics.median(times):.1f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
