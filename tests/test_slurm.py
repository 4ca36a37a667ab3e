"""docs/slurm.sh in a real Slurm: pre-empted, queued again, resumed, to the rows of a local run: make check-all."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import slurm
from torture import NOT_COMPARED

pytestmark = pytest.mark.places
ROOT = Path(__file__).parents[1]
GRID = """
question: Is anything lost under Slurm?
base:
  data: {name: digits, augment: shift}
  model: {name: lenet}
  optimizer: {name: adam, lr: 0.002}
  train: {epochs: 20}
factors:
  model.batch_norm: [true, false]
baseline: {model.batch_norm: true}
seeds: 2
"""
WORDS = ["grid.yaml", "--checkpoint", "0", "--no-time"]
TOLD = {
    "the nodes": "",  # Slurm's default: SIGTERM goes to the steps of a job, not to its script
    "the script": "SlurmctldParameters=preempt_send_user_signal\n",
}


@pytest.fixture(params=TOLD)
def configuration(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    pytest.importorskip("ray", reason="needs the extra ray")
    if reason := slurm.lacking():
        pytest.skip(reason)
    with slurm.cluster(tmp_path / "slurm", TOLD[request.param]) as made:
        yield made


def environment() -> dict[str, str]:
    """That of an active environment of Python, in which this package's programs are found."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": programs, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}


def rows(folder: Path, table: str) -> list[dict[str, str]]:
    """Without what differs from run to run, or with where a trial ran."""
    apart = {*NOT_COMPARED, "node", "concurrent_trials"}
    with (folder / "grid" / table).open(newline="") as file:
        found = [{name: text for name, text in row.items() if name not in apart} for row in csv.DictReader(file)]
    return sorted(found, key=str)


@contextmanager
def paused_workers(job: str) -> Iterator[None]:
    """Holds up the job's worker processes: its trials do not end before what is to happen to them does."""
    processes = [folder for folder in Path("/proc").glob("[0-9]*") if is_worker(folder, f"SLURM_JOB_ID={job}")]
    assert processes
    signal_all(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        signal_all(processes, signal.SIGCONT)


def is_worker(folder: Path, variable: str) -> bool:
    try:
        environment = (folder / "environ").read_bytes().split(b"\0")
        return variable.encode() in environment and b"multiprocessing.forkserver" in (folder / "cmdline").read_bytes()
    except OSError:  # it is gone
        return False


def signal_all(processes: list[Path], number: signal.Signals) -> None:
    for folder in processes:
        with suppress(ProcessLookupError):
            os.kill(int(folder.name), number)


def test_a_job_that_is_pre_empted_is_queued_again_and_resumes_to_the_rows_of_a_local_run(
    configuration: Path, tmp_path: Path
) -> None:
    (tmp_path / "grid.yaml").write_text(GRID)
    local = [sys.executable, "-m", "bench", "run", *WORDS, "--results", "local", "-j", "2"]
    subprocess.run(local, cwd=tmp_path, env=environment(), check=True, capture_output=True)
    script = ["--cpus-per-task=1", str(ROOT / "docs" / "slurm.sh"), *WORDS, "--results", "slurm"]
    job = slurm.submit(configuration, tmp_path, "--partition=low", "--output=said", *script, **environment())

    def state() -> str:
        return slurm.ask(configuration, "squeue", "-h", "-j", job, "-o", "%T")

    def is_pre_empted() -> bool:
        return state() != "RUNNING" or "PreemptTime=None" not in slurm.ask(
            configuration, "scontrol", "show", "job", job
        )

    slurm.wait_for(lambda: [*(tmp_path / "checkpoints" / "grid").glob("*/last.pt")] or not state())
    with paused_workers(job):
        slurm.submit(configuration, tmp_path, "--partition=high", "--nodes=2", "--wrap", "sleep 1")
        slurm.wait_for(is_pre_empted)
    slurm.wait_for(lambda: state() in ("PENDING", ""))
    said = (tmp_path / "said").read_text()
    assert state() == "PENDING", said
    assert "stopping: trials under way are checkpointed" in said
    assert "interrupted" in {row["status"] for row in rows(tmp_path / "slurm", "trials.csv")}

    slurm.ask(configuration, "scontrol", "update", f"JobId={job}", "StartTime=now")  # Slurm would wait two minutes
    slurm.wait_for(lambda: state() == "RUNNING")
    slurm.wait_for(lambda: state() == "")
    said = (tmp_path / "said").read_text()
    assert "grid: 4 ok in " in said
    for table in ("trials.csv", "curves.csv", "correct.csv"):
        assert rows(tmp_path / "slurm", table) == rows(tmp_path / "local", table)
