"""Where people run it: containers and jobs with little memory, few cores, and folders that are not as on a laptop."""

from __future__ import annotations

import csv
import sys
import textwrap
from pathlib import Path
from subprocess import CompletedProcess

import control_groups
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="control groups and namespaces are Linux's")
Ran = CompletedProcess[str]

NETS = """
    import os, time
    from pathlib import Path
    import torch
    from torch import nn

    class Holds(nn.Module):
        '''Waits until two trials are under way, then holds memory for a moment.'''
        def __init__(self, num_classes: int, size: int, mebibytes: int):
            super().__init__()
            self.fc = nn.Linear(size * size, num_classes)
            self.mebibytes = mebibytes
        def forward(self, X):
            if self.training:
                Path(f"here-{os.getpid()}").touch()
                until = time.monotonic() + 20
                while len(list(Path().glob("here-*"))) < 2 and time.monotonic() < until:
                    time.sleep(0.01)
                held = torch.ones(self.mebibytes * 2**18)
                time.sleep(0.3)
            return self.fc(X.flatten(1))
"""
GRID = """
    question: Does the rate matter?
    base:
      data: {name: digits, limit: 100, batch_size: 100}
      model: {name: "nets:Holds", mebibytes: %d}
      optimizer: {name: sgd}
      train: {epochs: 1}
    factors: {optimizer.lr: [0.1, 0.2]}
    baseline: {optimizer.lr: 0.1}
    seeds: 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(textwrap.dedent(NETS))
    return tmp_path


def run_limited(folder: Path, held: int, limit: int) -> tuple[Ran, list[dict[str, str]]]:
    """Two workers that each hold so many MiB, in a control group of so many; with the rows that they leave."""
    (folder / "grid.yaml").write_text(textwrap.dedent(GRID % held))
    words = ["-m", "bench", "run", "grid.yaml", "-j", "2", "--no-time"]
    try:
        with control_groups.group("memory", control_groups.memory_limits(limit * 2**20)) as group:
            ran = control_groups.run_in([group], words, cwd=folder, timeout=100)
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    with (folder / "results/grid/trials.csv").open(newline="") as file:
        return ran, list(csv.DictReader(file))


def test_trials_that_do_not_fit_beside_each_other_run_one_after_the_other(folder: Path) -> None:
    ran, rows = run_limited(folder, held=500, limit=1000)
    assert (ran.returncode, ran.stderr, [row["status"] for row in rows]) == (0, "", ["ok", "ok"])
    assert "is tried again alone, after the others: out of memory: the system ended the process" in ran.stdout


def test_a_trial_that_does_not_fit_alone_is_out_of_memory_with_need_and_limit(folder: Path) -> None:
    ran, rows = run_limited(folder, held=1500, limit=1000)
    assert (ran.returncode, [row["status"] for row in rows]) == (1, ["out_of_memory"] * 2)
    for row in rows:
        assert row["error"].startswith("out of memory: the system ended the process when it held ")
        assert row["error"].endswith(" MiB; a control group of this process has 1,000 MiB")
