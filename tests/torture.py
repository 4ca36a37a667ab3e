"""Kills a run with SIGKILL at random instants, again and again, and compares what it leaves with an undisturbed run.

    python tests/torture.py --kills 200 --drivers 1     # minutes
    python tests/torture.py --kills 60 --drivers 2

Each instant, the driver or one of its workers is killed; the run is started again at once. A third of the instants are
those at which a driver is recording a trial. At the end every row of ``trials.csv``, ``curves.csv`` and ``correct.csv``
must be what the undisturbed run recorded, to the last digit, times and memory aside; no row lost, none doubled.
Prints the instants, the losses and the differences; exits 1 if there are any.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bench.record.table import Table

GRID = """
question: Does a run that is killed again and again record what an undisturbed one does?
base:
  data: {name: digits, size: 16, augment: shift}
  model: {name: mlp, hidden: [128, 128], dropout: 0.2}
  optimizer: {name: adam, lr: 0.002}
  schedule: {name: cosine}
  train: {epochs: 60}
factors:
  model.batch_norm: [true, false]
seeds: 6
"""
LONGEST = 5.0  # seconds between two kills, at most; a run starts in about three
NOT_COMPARED = {
    *("train_images_per_second", "eval_images_per_second", "train_seconds", "total_seconds", "peak_memory_bytes"),
    *("started_at", "attempts"),
}


@dataclass
class Tally:
    """What was done to the runs."""

    instants: list[float] = field(default_factory=list)
    victims: Counter[str] = field(default_factory=Counter)
    starts: int = 0


def start(folder: Path, results: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bench", "run", "torture.yaml", "--results", results]
    command += ["--checkpoint", "0", "--no-time", "-j", "2", "--attempts", "1000000"]
    with (folder / f"{results}.txt").open("ab") as output:
        return subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)


def workers(driver: int) -> list[int]:
    """The processes that the driver's server has forked: grandchildren of the driver."""
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, _, rest = status.read_text().partition(" (")
            parents.setdefault(int(rest.rpartition(") ")[2].split()[1]), []).append(int(pid))
    return [grandchild for child in parents.get(driver, []) for grandchild in parents.get(child, [])]


def torture(folder: Path, kills: int, drivers: int, seed: int) -> Tally:
    """Runs the grid to its end, killing ``kills`` times on the way."""
    choose, tally, began = random.Random(seed), Tally(), time.monotonic()
    running = [start(folder, "tortured") for _ in range(drivers)]
    tally.starts = drivers
    while True:
        for index, process in enumerate(running):
            if process.poll() is not None:
                if len(tally.instants) >= kills and process.returncode == 0:
                    [other.wait() for other in running]
                    return tally
                if process.returncode == 0:  # all done before the kills were: from the start again
                    wipe_some(folder, choose)
                running[index] = start(folder, "tortured")
                tally.starts += 1
        recording = choose.random() < 1 / 3 and wait_for_write(folder / "tortured" / "torture" / "curves.csv")
        time.sleep(choose.uniform(0.0, 0.02) if recording else choose.uniform(0.05, LONGEST))
        print(f"\r{len(tally.instants)} kills", end="", file=sys.stderr, flush=True)
        victim = choose.choice(running)
        if len(tally.instants) < kills and victim.poll() is None:
            pids = workers(victim.pid)
            kind = "driver" if recording or not pids else choose.choice(["driver", "worker"])
            try:
                os.kill(victim.pid if kind == "driver" else choose.choice(pids), signal.SIGKILL)
            except ProcessLookupError:
                continue
            tally.instants.append(time.monotonic() - began)
            tally.victims[f"{kind} while it recorded" if recording else kind] += 1


def wait_for_write(path: Path) -> bool:
    """Until something is appended to the file, the first of those that a trial is recorded in; false if nothing is."""
    size, deadline = path.stat().st_size if path.exists() else 0, time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        if path.exists() and path.stat().st_size > size:
            return True
        time.sleep(0.0005)
    return False


def wipe_some(folder: Path, choose: random.Random) -> None:
    """Forgets half of the finished trials, so that there is something to kill."""
    trials = Table(folder / "tortured" / "torture" / "trials.csv")
    trials.rewrite(lambda rows: choose.sample(rows, len(rows) // 2))


def recorded(folder: Path, results: str, table: str) -> list[dict[str, str]]:
    """The rows of a table without what differs from run to run, sorted."""
    with (folder / results / "torture" / table).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return sorted(({k: v for k, v in row.items() if k not in NOT_COMPARED} for row in rows), key=str)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--drivers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "torture.yaml").write_text(GRID)
        if start(folder, "undisturbed").wait() != 0:
            print((folder / "undisturbed.txt").read_text())
            return 1
        tally = torture(folder, arguments.kills, arguments.drivers, arguments.seed)
        lost = differences = doubled = 0
        for table in ("trials.csv", "curves.csv", "correct.csv"):
            expected, found = (recorded(folder, results, table) for results in ("undisturbed", "tortured"))
            doubled += len(found) - len({str(row) for row in found})
            lost += len({row["trial_id"] for row in expected} - {row["trial_id"] for row in found})
            counts = Counter(map(str, expected)), Counter(map(str, found))
            differences += (counts[0] - counts[1]).total() + (counts[1] - counts[0]).total()
        again = (folder / "tortured.txt").read_text()
        logs = sum(log.read_text().count("resumes at step") for log in folder.glob("tortured/torture/logs/*.log"))
    print("killed after (s):", " ".join(f"{instant:.1f}" for instant in tally.instants))
    print(f"kills: {len(tally.instants)} ({dict(tally.victims)}), starts: {tally.starts}, drivers: {arguments.drivers}")
    print(f"trials resumed from a checkpoint: {logs}; tracebacks printed: {again.count('Traceback')}")
    print(again, file=sys.stderr)
    print(f"rows lost: {lost}, doubled: {doubled}, different: {differences}")
    return 1 if lost or doubled or differences else 0


if __name__ == "__main__":
    sys.exit(main())
