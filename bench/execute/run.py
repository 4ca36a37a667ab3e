"""Runs what a plan holds and the record lacks."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from bench.execute import executors
from bench.execute.budget import Budget
from bench.execute.executors import (
    Ended,
    Evaluated,
    Executor,
    InlineExecutor,
    LocalExecutor,
    Lost,
    Started,
    call_in_child,
    cores,
)
from bench.execute.price import price_plan
from bench.execute.progress import Progress
from bench.execute.ray.storage import Storage
from bench.execute.worker import Job
from bench.grid.plan import Plan, Trial
from bench.record.asked import keep
from bench.record.claims import Claims
from bench.record.recorder import Recorder, attempts_before
from bench.record.records import Recorded, Records, ended
from bench.record.staleness import is_stale
from bench.record.status import Status
from lab.fingerprint import source_fingerprint

EXECUTORS = ("local", "inline", "ray")


@dataclass(frozen=True)
class Options:
    """What cannot change a result: where, how many at once, how long, and what to do about failures."""

    results: Path = Path("results")
    data_dir: Path | None = None
    device: str = "auto"
    jobs: int | None = None
    executor: str = "local"
    timeout: float | None = None  # seconds a trial
    force: bool = False  # run finished trials anew
    retry: bool = True  # run failed trials again
    checkpoint: float = 10.0  # seconds between two checkpoints of a trial
    keep: str = "best"  # checkpoints of an ended trial: best, all or none
    fail_fast: bool = False
    trial: str | None = None  # only this one
    budget: float | None = None  # seconds in which whatever starts is expected to end
    stale: bool = False  # run anew what other source code finished
    attempts: int = 3  # a trial that failed so often is left alone
    address: str | None = None  # of a Ray cluster; it and what follows go with the executor ray
    storage: str | None = None  # folder or fsspec address of the checkpoints
    cpus_per_trial: float | None = None
    gpus_per_trial: float | None = None

    @property
    def driver_device(self) -> str:
        """Where this process looks at models itself: with a cluster, not on what trials run on."""
        return "cpu" if self.executor == "ray" else self.device


@dataclass
class Summary:
    """How a run ended: its trials by status, those that another process runs, and what kept it from recording."""

    statuses: Counter[Status] = field(default_factory=Counter)
    elsewhere: int = 0
    left: int = 0  # not started: they would not have ended in the budget
    interrupted: bool = False
    unwritten: OSError | None = None
    num_lost: int = 0
    given_up: list[int] = field(default_factory=list)  # for each trial that is left alone: how often it failed
    seconds: float = 0.0

    @property
    def has_failures(self) -> bool:
        return any(status.is_failed for status in self.statuses)

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return 130
        return 1 if self.unwritten or self.num_lost or self.given_up or self.has_failures else 0


def known_trials(plan: Plan, options: Options) -> tuple[Trial, ...]:
    """The plan's trials, and those that follow from what is recorded."""
    return plan.all_trials(ended(Records(options.results / plan.name).outcomes()))


def missing(plan: Plan, options: Options) -> list[Trial]:
    """The trials that can run now and should, in the plan's order."""
    recorded = Records(options.results / plan.name).outcomes()
    renewed = {
        trial.trial_id for trial in plan.trials if options.stale and is_stale(trial, recorded.get(trial.trial_id))
    }
    decided = {key: dev for key, dev in ended(recorded).items() if key not in renewed}
    trials = [trial for trial in plan.all_trials(decided) if options.trial in (None, trial.trial_id)]
    return [trial for trial in trials if not settled(trial, recorded.get(trial.trial_id), options)]


def settled(trial: Trial, recorded: Recorded | None, options: Options) -> bool:
    """Whether a trial is to be left as it is recorded."""
    if options.force or recorded is None:
        return False
    if recorded.status.is_failed:
        return not options.retry or is_given_up(trial, recorded, options)
    return recorded.status.is_finished and not (options.stale and is_stale(trial, recorded))


def is_given_up(trial: Trial, recorded: Recorded, options: Options) -> bool:
    """Whether the source code that is here now has failed at the trial as often as it may."""
    failed = recorded.status.is_failed
    return failed and attempts_before(source_fingerprint(trial.settings), recorded) >= options.attempts


def given_up(plan: Plan, options: Options) -> list[int]:
    """For each trial that the next run would leave alone because it failed too often: how often it did."""
    if options.force or not options.retry:
        return []
    recorded = Records(options.results / plan.name).outcomes()
    trials = [trial for trial in known_trials(plan, options) if options.trial in (None, trial.trial_id)]
    last = [(trial, recorded[trial.trial_id]) for trial in trials if trial.trial_id in recorded]
    return [before.attempts for trial, before in last if is_given_up(trial, before, options)]


def longest_first(trials: Sequence[Trial], macs: Mapping[str, int]) -> list[Trial]:
    """The cells that take longest first, so that no worker idles at the end; the trials of a cell stay together.

    ``macs`` are multiply-accumulates an image by cell; times the epochs they stand for time. Where they are not known,
    the epochs alone do.
    """
    places: dict[str, int] = {}
    for trial in trials:
        places.setdefault(trial.cell.label, len(places))

    def key(trial: Trial) -> tuple[float, int]:
        label = trial.cell.label
        return -max(1, macs.get(label, 0)) * trial.settings.train.epochs, places[label]

    return sorted(trials, key=key)


def run(
    plan: Plan,
    options: Options,
    progress: Progress,
    macs: Mapping[str, int] | None = None,
    make: Callable[[Options, Sequence[Trial]], Executor] | None = None,
) -> Summary:
    """Trains the missing trials and records each as it ends; raises ValueError where device or data are missing.

    ``macs`` tell which cells take longest: these start first.
    With ``tune_seeds`` the winners' other seeds follow in a second batch, once their candidates have run.
    """
    start, summary = time.monotonic(), Summary()
    batch = missing(plan, options)
    if not batch:
        keep(plan, options.results / plan.name)
        summary.given_up = given_up(plan, options)
        return summary
    budget = None if options.budget is None else Budget(options.budget)
    executor = (make or make_executor)(options, batch)
    if budget is not None:
        prices = price_plan(plan, options.driver_device, executor.num_workers, options.data_dir)
        budget.price = lambda trial: prices.of(trial.settings).trial_seconds
    keep(plan, options.results / plan.name)
    records = Records((options.results / plan.name).resolve())
    recorder = Recorder(records, plan, executor.num_workers, progress.complain)
    seen: set[str] = set()
    with stopping(executor, progress.complain) as asked, progress:
        while batch and not asked and not (options.fail_fast and summary.has_failures):
            _run_batch(plan, longest_first(batch, macs or {}), options, executor, recorder, progress, summary, budget)
            seen |= {trial.trial_id for trial in batch}
            batch = [trial for trial in missing(plan, options) if trial.trial_id not in seen]
    summary.left = 0 if budget is None else budget.left
    summary.unwritten, summary.num_lost = recorder.finish(), recorder.num_lost
    if summary.unwritten is None:
        summary.given_up = given_up(plan, options)
    summary.interrupted, summary.seconds = bool(asked), time.monotonic() - start
    return summary


def _run_batch(
    plan: Plan,
    batch: Sequence[Trial],
    options: Options,
    executor: Executor,
    recorder: Recorder,
    progress: Progress,
    summary: Summary,
    budget: Budget | None,
) -> None:
    folder = recorder.records.folder
    claims = Claims(recorder.records, lambda trial, recorded: settled(trial, recorded, options))
    trials = {trial.trial_id: trial for trial in batch}
    started: dict[str, datetime] = {}
    progress.begin(plan, batch, executor.num_workers)
    wanted = batch if budget is None else budget.affordable(batch)
    for event in executor.run(_job(trial, folder, options) for trial in claims.take(wanted)):
        match event:
            case Started(trial_id, worker, node):
                started[trial_id] = datetime.now(UTC)
                progress.started(worker, trial_id, node)
            case Evaluated(_, worker, point):
                progress.evaluated(worker, point)
            case Lost(worker, why):
                progress.lost(worker, why)
            case Ended(worker, outcome):
                trial_id = outcome.trial_id
                recorder.ended(trials[trial_id], outcome, started[trial_id], claims.recorded(trial_id))
                claims.drop(trial_id, finished=outcome.status.is_finished)
                progress.ended(worker, outcome)
                summary.statuses[outcome.status] += 1
                if budget is not None and outcome.status.is_finished:
                    budget.ended(trials[trial_id], (datetime.now(UTC) - started[trial_id]).total_seconds())
                if options.fail_fast and outcome.status.is_failed:
                    executor.stop()
    summary.elsewhere += claims.elsewhere


def _job(trial: Trial, folder: Path, options: Options) -> Job:
    if options.force:
        shutil.rmtree(folder / "checkpoints" / trial.trial_id, ignore_errors=True)
        if options.storage:
            Storage(options.storage).forget(f"{folder.name}/{trial.trial_id}")
    data_dir = options.data_dir and options.data_dir.resolve()
    return Job(
        trial.trial_id, trial.settings.model_dump(), folder, data_dir, options.checkpoint, options.keep, Path.cwd()
    )


def data_sections(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """The distinct data settings of the trials, as plain data."""
    return list({json.dumps(dumped): dumped for dumped in (one.settings.data.model_dump() for one in trials)}.values())


def warm_up(trials: Iterable[Trial], options: Options) -> None:
    """Begins to import torch and to read the data in the process that workers are forked from."""
    executors.warm_up(data_sections(trials), options.data_dir)


def make_executor(options: Options, trials: Sequence[Trial]) -> Executor:
    """The executor that the options ask for, once devices and data sets are known to be there."""
    data = data_sections(trials)
    needs = (options.driver_device, data, options.data_dir)
    if options.executor == "inline":
        from lab.trial import prepare

        return InlineExecutor(prepare(*needs)[0], threads=cores())
    slots: list[str] = call_in_child("lab.trial", "prepare", *needs)
    if options.executor == "ray":
        return _cluster_executor(options, trials, data)
    num_workers = options.jobs or (cores() if slots == ["cpu"] else len(slots))
    devices = [slots[index % len(slots)] for index in range(num_workers)]
    return LocalExecutor(devices, threads=max(1, cores() // num_workers), timeout=options.timeout)


def _cluster_executor(options: Options, trials: Sequence[Trial], data: Sequence[Mapping[str, Any]]) -> Executor:
    from bench.execute.ray.cluster import cluster_executor

    assert options.address is not None
    here, results = Path.cwd(), options.results.resolve()
    return cluster_executor(
        options.address,
        len(trials),
        device=options.device,
        cpus=options.cpus_per_trial or 1.0,
        gpus=options.gpus_per_trial,
        num_slots=options.jobs,
        timeout=options.timeout,
        data=data,
        data_dir=options.data_dir and options.data_dir.resolve(),
        storage=options.storage,
        working_dir=here if any(_reads_here(trial) for trial in trials) else None,
        excludes=[f"/{results.relative_to(here)}"] if here in results.parents else [],
    )


def _reads_here(trial: Trial) -> bool:
    """Whether the trial uses a module or a file that may lie in the working folder."""
    return any(":" in str(value) for value in trial.settings.flat().values()) or "data.path" in trial.settings.flat()


@contextmanager
def stopping(executor: Executor, say: Callable[[str], None]) -> Iterator[list[int]]:
    """SIGINT or SIGTERM stops the executor gently; the second one ends the run at once, files whole."""
    asked: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        say("stopping: trials under way are checkpointed and recorded as interrupted (again: at once)")
        executor.stop()

    old = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
