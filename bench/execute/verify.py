"""Runs a sample of recorded trials again and compares: bit for bit on one machine, else within the seeds' spread."""

from __future__ import annotations

import random
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.execute.events import Ended
from bench.execute.job import Job
from bench.execute.local import LocalExecutor
from bench.execute.trainables import devices as devices_of
from bench.grid.plan import Plan, Trial
from bench.record.records import Records, number
from bench.record.status import Status
from lab.limits import cores
from lab.result import Result

EXACT = ("test_accuracy", "dev_accuracy", "final_train_loss", "selected_epoch", "steps")
MACHINE = ("hostname", "device", "device_name", "threads", "torch_version")


@dataclass(frozen=True)
class Check:
    """One trial run again; ``agrees`` says whether it gave what is recorded, by the ``rule`` that applies."""

    trial: Trial
    rule: str
    recorded: float
    again: float | None
    agrees: bool


def verify(plan: Plan, folder: Path, *, sample: int, seed: int, device: str, data_dir: Path | None) -> list[Check]:
    """Checks ``sample`` trials of status ok, drawn at random; raises ValueError where none is recorded."""
    rows = _recorded(plan, Records(folder, plan.selecting))
    recorded = [trial for trial in plan.trials if trial.trial_id in rows]
    if not recorded:
        raise ValueError(f"{folder}: no trial of the grid is recorded as ok")
    chosen = random.Random(seed).sample(recorded, min(sample, len(recorded)))
    threads = {trial.trial_id: int(float(rows[trial.trial_id]["threads"])) for trial in chosen}
    devices = devices_of(plan.run, device)
    results: dict[str, Result | None] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for count in sorted(set(threads.values())):
            jobs = [
                scratch_job(plan, trial, Path(scratch), data_dir)
                for trial in chosen
                if threads[trial.trial_id] == count
            ]
            num_workers = max(1, cores() // count) if devices == ["cpu"] else len(devices)
            executor = LocalExecutor([devices[i % len(devices)] for i in range(num_workers)], threads=count)
            for event in executor.run(jobs):
                if isinstance(event, Ended):
                    results[event.outcome.trial_id] = event.outcome.result
    spread = _spread(plan, rows)
    return [_check(plan, trial, rows[trial.trial_id], results[trial.trial_id], spread) for trial in chosen]


def _recorded(plan: Plan, records: Records) -> dict[str, dict[str, str]]:
    """Returns the last row of each trial that ended well, by its id, as far as it can be read."""
    known = {trial_id for trial_id, last in records.outcomes().items() if last.status is Status.OK}
    rows = {row["trial_id"]: row for row in records.trials.rows()}
    needed = (plan.primary.name, "threads")
    return {key: row for key, row in rows.items() if key in known and all(row.get(name) for name in needed)}


def scratch_job(
    plan: Plan, trial: Trial, folder: Path, data_dir: Path | None = None, timeout: float | None = None
) -> Job:
    """Makes a job that leaves what it leaves in a folder that is thrown away."""
    return Job(
        trial.trial_id,
        trial.settings.model_dump(),
        folder,
        data_dir,
        working_dir=Path.cwd(),
        run=plan.run,
        timeout=timeout,
        metrics=plan.metrics if plan.run is not None else (),
    )


def _spread(plan: Plan, rows: dict[str, dict[str, str]]) -> dict[str, float]:
    """Returns the range of the primary metric over the seeds of each cell."""
    cells: dict[str, list[float]] = {}
    for row in rows.values():
        cells.setdefault(row["cell"], []).append(float(row[plan.primary.name]))
    return {cell: max(accuracies) - min(accuracies) for cell, accuracies in cells.items()}


def _check(plan: Plan, trial: Trial, row: dict[str, str], result: Result | None, spread: dict[str, float]) -> Check:
    before = float(row[plan.primary.name])
    after = result.measures.get(plan.primary.name) if result is not None else None
    if result is None or after is None:
        return Check(trial, "runs", before, None, agrees=False)
    here = {**vars(result.environment), "hostname": socket.gethostname()}
    if plan.run is None and all(row[name] == str(here[name]) for name in MACHINE):
        agrees = all(number(name, row[name]) == result.measures.get(name) for name in EXACT)
        return Check(trial, "bit for bit", before, after, agrees)
    limit = spread[row["cell"]]
    return Check(trial, f"within {limit:.4f}", before, after, abs(before - after) <= limit)
