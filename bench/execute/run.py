"""Runs what a plan holds and the record lacks."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from bench.execute import processes
from bench.execute.agenda import Agenda, read_agenda, reason_to_run
from bench.execute.budget import Budget
from bench.execute.data import check_data, identify
from bench.execute.events import Ended, Evaluated, Lost, Started
from bench.execute.executor import Executor
from bench.execute.executors import EXECUTORS
from bench.execute.job import Job
from bench.execute.local import LOCAL
from bench.execute.options import Options, Rerun
from bench.execute.parts import check_parts, to_try
from bench.execute.preload import modules_ahead
from bench.execute.price import price_plan, workers_by_memory
from bench.execute.progress import Progress
from bench.execute.trainables.lab import data_sections
from bench.grid.columns import DIGESTS
from bench.grid.plan import Plan, Trial, run_of
from bench.record.asked import keep
from bench.record.claims import Claims
from bench.record.datasets import Digests, key_of
from bench.record.live import Live
from bench.record.outcome import Outcome
from bench.record.recorder import Recorder
from bench.record.records import Records
from bench.record.status import Status


@dataclass
class Summary:
    """The end of a run: its trials by status, those that another process runs, and what kept it from recording."""

    statuses: Counter[Status] = field(default_factory=Counter)
    elsewhere: int = 0
    left: int = 0  # not started: they would not have ended in the budget
    interrupted: bool = False
    refused: str = ""  # why no trial of the plan can end well
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


def longest_first(trials: Sequence[Trial], macs: Mapping[str, int]) -> list[Trial]:
    """Orders cells, the longest first, so that no worker idles at the end; the trials of a cell stay together.

    ``macs`` are multiply-accumulates per image by cell; times the epochs they stand for time. Where they are not known,
    the epochs alone do.
    """
    places: dict[str, int] = {}
    for trial in trials:
        places.setdefault(trial.cell.label, len(places))

    def key(trial: Trial) -> tuple[float, int]:
        label = trial.cell.label
        return -max(1, macs.get(label, 0)) * _epochs(trial), places[label]

    return sorted(trials, key=key)


def as_measured(trials: Sequence[Trial], seconds: Mapping[str, float]) -> Iterator[Trial]:
    """Yields a trial of each cell, then those of the cells that took longest, asked one by one as each is to start.

    ``seconds`` by cell grow meanwhile: nobody knows beforehand how long own code takes.
    """
    left: dict[str, list[Trial]] = {}
    for trial in trials:
        left.setdefault(trial.cell.label, []).append(trial)
    yield from [own.pop(0) for own in left.values()]
    while left := {label: own for label, own in left.items() if own}:
        yield left[max(left, key=lambda label: seconds.get(label, 0.0))].pop(0)


def _epochs(trial: Trial) -> float:
    """Returns those that the trial asks for, if it has such a setting."""
    epochs = trial.settings.flat().get("train.epochs")
    return epochs if isinstance(epochs, int | float) else 1


def run(
    plan: Plan,
    options: Options,
    progress: Progress,
    look: Callable[[], Mapping[str, int]] = dict,
    make: Callable[[Options, Sequence[Trial]], Executor] | None = None,
) -> Summary:
    """Trains what is on the agenda and records each trial as it ends; raises ValueError without device or data.

    So it does where results rest on other data than are here now, before it adds to them.

    ``look`` is asked once the data and parts are sound: its multiply-accumulates per image by cell tell which cells
    take longest, and these start first.
    Where a grid tunes, the winners' trials on its seeds follow in a second batch, once the candidates have run.
    """
    start = time.monotonic()
    records = Records((options.results / plan.name).resolve(), plan.selecting)
    agenda, data = _checked_agenda(plan, records, options, progress)
    if not agenda.trials:
        keep(plan, options.results / plan.name)
        return Summary(given_up=list(agenda.given_up))
    macs = look()
    options, why = _within_memory(options, agenda.trials) if make is None else (options, "")
    executor = (make or EXECUTORS[options.executor].make)(options, agenda.trials)
    budget = _budget(plan, options, executor)
    recorder = Recorder(records, plan, executor.num_workers, progress.complain)
    keep(plan, options.results / plan.name)
    live = Live(records.folder, plan)
    session = _Session(plan, options, executor, recorder, progress, live, budget, data, why)
    summary = session.summary
    with stopping(executor, progress.complain) as asked, progress, live:
        seen: set[str] = set()
        while (batch := [trial for trial in agenda.trials if trial.trial_id not in seen]) and not (
            asked or summary.refused or (options.fail_fast and summary.has_failures)
        ):
            session.run(longest_first(batch, macs), agenda.num_recorded)
            seen |= {trial.trial_id for trial in batch}
            agenda = read_agenda(plan, records, options)
    summary.left = 0 if budget is None else budget.left
    summary.unwritten, summary.num_lost = recorder.finish(), recorder.num_lost
    if summary.unwritten is None:
        summary.given_up = list(read_agenda(plan, records, options).given_up)
    summary.interrupted, summary.seconds = bool(asked), time.monotonic() - start
    return summary


def _checked_agenda(
    plan: Plan, records: Records, options: Options, progress: Progress
) -> tuple[Agenda, dict[str, Digests]]:
    """Reads what is left to do once the data are known to be those of the record; returns it and the data's digests."""
    agenda = read_agenda(plan, records, options)
    for where in agenda.staleness.unreadable:
        progress.complain(f"{where}; the row counts as not recorded")
    if not agenda.trials and not options.rerun.includes(Rerun.STALE):
        return agenda, {}
    data: dict[str, Digests] = {}
    doubted: list[Trial] = []
    if plan.run is None:
        data, doubted, warnings = identify(agenda.known, records, options, to_try(agenda.trials))
        for warning in warnings:
            progress.complain(f"warning: {warning}")
    check_data(agenda.known, records, options)
    check_parts(plan, doubted, inspection_device(options), options.data_dir, options.timeout)
    return read_agenda(plan, records, options), data


def _within_memory(options: Options, trials: Sequence[Trial]) -> tuple[Options, str]:
    """Returns the options with as many workers as memory allows where nobody said how many, and why they are fewer."""
    if options.jobs is not None or options.executor != LOCAL.name:
        return options, ""
    allowed = workers_by_memory(trials, options.device, options.data_dir)
    return replace(options, jobs=allowed), "memory allows no more; -j overrides" if allowed else ""


def _budget(plan: Plan, options: Options, executor: Executor) -> Budget | None:
    if options.budget is None:
        return None
    budget = Budget(options.budget)  # pricing counts
    if plan.run is not None:
        return budget  # own code is priced by its trials alone
    prices = price_plan(plan, inspection_device(options), executor.num_workers, options.data_dir)
    budget.price = lambda trial: prices.of(trial.lab).trial_seconds
    return budget


@dataclass
class _Session:
    """One run: hands trials to the executor, and what it tells of them to record, progress, live page and budget."""

    plan: Plan
    options: Options
    executor: Executor
    recorder: Recorder
    progress: Progress
    live: Live
    budget: Budget | None
    data: Mapping[str, Digests]
    why: str = ""  # there are no more workers
    summary: Summary = field(default_factory=Summary)
    seconds: dict[str, float] = field(default_factory=dict)  # that the last trial of a cell took

    def run(self, batch: Sequence[Trial], num_recorded: int) -> None:
        """Runs the trials of one batch that no other process has claimed."""
        options, folder = self.options, self.recorder.records.folder
        claims: Claims[Trial] = Claims(
            self.recorder.records, lambda trial, recorded: reason_to_run(trial, recorded, options) is None
        )
        trials = {trial.trial_id: trial for trial in batch}
        started: dict[str, datetime] = {}
        rows = self.recorder.records.trials.rows
        self.progress.begin(self.plan, batch, self.executor.num_workers, self.why, num_recorded, rows)
        self.live.begin(len(batch), self.executor.num_workers)
        order = batch if self.plan.run is None else as_measured(batch, self.seconds)
        wanted = order if self.budget is None else self.budget.affordable(order)
        for event in self.executor.run(self._job(trial, folder) for trial in claims.take(wanted)):
            match event:
                case Started(trial_id, worker, node):
                    started[trial_id] = datetime.now(UTC)
                    self.progress.started(worker, trial_id, node)
                    self.live.started(worker, trials[trial_id], node)
                case Evaluated(_, worker, point):
                    self.progress.evaluated(worker, point)
                    self.live.evaluated(worker, point)
                case Lost(worker, why):
                    self.progress.lost(worker, why)
                    self.live.lost(worker, why)
                case Ended(worker, outcome):
                    self._ended(trials[outcome.trial_id], outcome, started.pop(outcome.trial_id), claims)
                    self.progress.ended(worker, outcome)
                    self.live.ended(worker, outcome.trial_id, outcome.status)
        for trial_id, since in started.items():  # lost, and the run was asked to stop before they could start again
            given_back = Outcome(trial_id, Status.INTERRUPTED, "its worker was lost, and the run asked to stop")
            self._ended(trials[trial_id], given_back, since, claims)
        self.summary.elsewhere += claims.elsewhere

    def _job(self, trial: Trial, folder: Path) -> Job:
        options, digests = self.options, self.data.get(key_of(trial.settings), ())
        return Job(
            trial.trial_id,
            trial.settings.model_dump(),
            folder,
            options.data_dir and options.data_dir.resolve(),
            options.checkpoint,
            options.keep,
            Path.cwd(),
            is_fresh=options.rerun is Rerun.ALL,
            digests=dict(zip(DIGESTS, digests, strict=False)),
            run=self.plan.run,
            timeout=options.timeout,
            metrics=self.plan.metrics if self.plan.run is not None else (),
        )

    def _ended(self, trial: Trial, outcome: Outcome, started: datetime, claims: Claims[Trial]) -> None:
        status = outcome.status
        self.recorder.ended(trial, outcome, started, claims.recorded(trial.trial_id))
        claims.drop(trial.trial_id, finished=status.is_finished)
        self.summary.statuses[status] += 1
        if status.is_finished:
            took = self.seconds[trial.cell.label] = (datetime.now(UTC) - started).total_seconds()
            if self.budget is not None:
                self.budget.ended(trial, took)
        if outcome.stops_run:
            self.summary.refused = self.summary.refused or f"{trial.cell.label} seed={trial.seed}: {outcome.error}"
        if outcome.stops_run or (self.options.fail_fast and status.is_failed):
            self.executor.stop()


def warm_up(trials: Sequence[Trial], options: Options) -> None:
    """Begins to import modules and to read data in the process that workers are forked from."""
    runs = {id(run): run for run in (run_of([trial]) for trial in trials)}.values()
    sections = data_sections([trial for trial in trials if run_of([trial]) is None])
    processes.warm_up(modules_ahead(runs), sections, options.data_dir)


def inspection_device(options: Options) -> str:
    """Names the device on which this process looks at models: with a cluster, not what trials run on."""
    return options.device if EXECUTORS[options.executor].is_here else "cpu"


@contextmanager
def stopping(executor: Executor, say: Callable[[str], None]) -> Iterator[list[int]]:
    """SIGINT or SIGTERM stops the executor gently; the second one ends the run at once, files whole.

    In a thread, where Python lets nobody handle signals, they are the main thread's.
    """
    asked: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        say("stopping: trials under way are checkpointed and recorded as interrupted (again: at once)")
        executor.stop()

    handled = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    old = {number: signal.signal(number, on_signal) for number in handled}
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
