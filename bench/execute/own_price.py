"""Prices own code by running it: the baseline twice at one seed and once at another, one after the other.

The first of the three is the real trial, recorded as every other; what the other two leave is thrown away.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.execute.events import Ended
from bench.execute.executor import Executor
from bench.execute.job import Job
from bench.execute.local import LocalExecutor
from bench.execute.options import Options
from bench.execute.progress import Progress
from bench.execute.run import run, warm_up
from bench.execute.trainables import devices as devices_of
from bench.execute.verify import scratch_job
from bench.grid.columns import is_measure
from bench.grid.plan import Plan, Trial
from bench.record.outcome import Outcome
from bench.record.records import Records
from bench.record.status import Status
from lab.limits import cores

SECONDS = "total_seconds"


@dataclass(frozen=True)
class OwnPrice:
    """What the three runs showed: the numbers of each by name, on so many workers; ``error`` where one failed."""

    trial: Trial
    other_seed: int
    first: Mapping[str, float]
    again: Mapping[str, float]
    other: Mapping[str, float]
    num_workers: int
    error: str = ""

    @property
    def seconds(self) -> float:
        """Mean time of a trial."""
        times = [one[SECONDS] for one in (self.first, self.again, self.other)]
        return sum(times) / len(times)

    def differing(self, names: Sequence[str]) -> list[str]:
        """Which of the metrics two runs of one seed disagree about."""
        return [name for name in names if self.first.get(name) != self.again.get(name)]

    @property
    def seed_acts(self) -> bool | None:
        """Whether a number that one seed repeats is another at another seed; None where no number is repeated."""
        repeated = [name for name in self.first if name != SECONDS and self.first[name] == self.again.get(name)]
        return any(self.first[name] != self.other.get(name) for name in repeated) if repeated else None


def price_own(plan: Plan, options: Options, progress: Progress) -> OwnPrice:
    """Runs the three trials; raises ValueError where a device is not there or a declared metric is not reported."""
    trial = baseline_trial(plan)
    other = _of_other_seed(plan, trial)
    warm_up([trial], options)
    devices = devices_of(plan.run, options.device)
    num_workers = options.jobs or (cores() if devices == ["cpu"] else len(devices))
    found = OwnPrice(trial, other.seed, {}, {}, {}, num_workers)

    def alone() -> LocalExecutor:
        return LocalExecutor(devices[:1], max(1, cores() // num_workers), options.timeout)

    only = replace(options, trial=trial.trial_id, budget=None)
    summary = run(plan, only, progress, make=lambda *_: alone())
    if summary.refused:
        raise ValueError(summary.refused)
    first, error = _recorded(plan, trial, options)
    if error:
        return replace(found, error=error)
    with tempfile.TemporaryDirectory() as scratch:
        jobs = [
            scratch_job(plan, one, Path(scratch) / str(one.seed), timeout=options.timeout) for one in (trial, other)
        ]
        outcomes = [_outcome(alone(), job) for job in jobs]
    for outcome in outcomes:
        if outcome.status is not Status.OK or outcome.result is None:
            return replace(found, first=first, error=f"{outcome.status} at the next run: {outcome.error}")
    again, other_seed = (outcome.result.measures for outcome in outcomes if outcome.result is not None)
    return replace(found, first=first, again=again, other=other_seed)


def baseline_trial(plan: Plan) -> Trial:
    """Returns the first trial of the baseline, or of the first cell that has its levels."""
    fits = (one for one in plan.trials if plan.baseline.items() <= one.cell.levels.items())
    return next(fits, plan.trials[0])


def _of_other_seed(plan: Plan, trial: Trial) -> Trial:
    seeds = [one.seed for one in plan.trials]
    return trial.of_seed(next((seed for seed in seeds if seed != trial.seed), max(seeds) + 1))


def _outcome(executor: Executor, job: Job) -> Outcome:
    return next(event.outcome for event in executor.run([job]) if isinstance(event, Ended))


def _recorded(plan: Plan, trial: Trial, options: Options) -> tuple[dict[str, float], str]:
    """Returns what is recorded of the trial, and how it failed; no error where it is ok."""
    rows = Records(options.results / plan.name, plan.selecting).trials.rows()
    row = next((one for one in reversed(rows) if one["trial_id"] == trial.trial_id), None)
    if row is None:
        return {}, "the trial was stopped"
    if row["status"] != Status.OK:
        return {}, f"{row['status']}: {row['error']}"
    cells = {name: cell for name, cell in row.items() if is_measure(name)}
    return {name: float(cell) for name, cell in cells.items() if cell not in ("", "nan")}, ""
