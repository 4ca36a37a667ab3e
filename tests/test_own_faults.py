"""Nothing of own code is lost where the disk has no room."""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bench as package

SCRIPT = """
import json, os, sys

def run(width, *, seed, report):
    for step in range(1, 60):
        report(step=step, rmse=width / step + seed)
    return {"rmse": width + seed}

if __name__ == "__main__":
    with open(os.environ["BENCH_METRICS"], "a") as file:
        def report(**values):
            print(json.dumps(values), file=file)
        report(**run(int(sys.argv[1]), seed=int(sys.argv[2]), report=report))
"""

GRID = """
question: Is anything lost?
run: {%s}
metrics: {rmse: {better: lower}}
factors: {width: [1, 2, 3]}
seeds: 2
"""

WAYS = {"function": "function: train:run", "command": 'command: "python train.py {width} {seed}"'}
ROOM = 12_000  # bytes per file: room for some curves, not for all


def bench(**options: Any) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "bench", "run", "own.yaml", "--device", "cpu", "--no-time"]
    environment = {**os.environ, "PYTHONPATH": str(Path(package.__path__[0]).parent)}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, **options)


def rows() -> list[dict[str, str]]:
    with Path("results/own/trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("way", WAYS)
def test_a_disk_without_room_is_one_message_and_what_was_recorded_is_whole(
    workshop: Callable[[str, str], None], way: str
) -> None:
    workshop("train", SCRIPT)
    Path("own.yaml").write_text(GRID % WAYS[way])
    done = bench(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM)))
    assert done.returncode == 1
    assert "some results could not be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    before = rows()
    assert 0 < len(before) < 6
    assert {row["status"] for row in before} == {"ok"}
    assert bench().returncode == 0
    found = {(row["settings.width"], row["seed"]): float(row["rmse"]) for row in rows()}
    assert found == {(str(width), str(seed)): width + seed for width in (1, 2, 3) for seed in (0, 1)}
    assert rows()[: len(before)] == before
