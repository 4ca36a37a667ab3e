"""Runs what a plan holds and the record lacks."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from bench.executors import Ended, Evaluated, Executor, InlineExecutor, LocalExecutor, Started, call_in_child, cores
from bench.plan import Plan, Trial
from bench.progress import Progress
from bench.records import Records
from bench.worker import Job, Outcome
from lab.settings import Settings

EXECUTORS = ("local", "inline")
FINISHED = {"ok", "diverged"}  # running it again would give the same
FAILED = {"error", "out_of_memory", "timed_out"}


@dataclass(frozen=True)
class Options:
    """What cannot change a result: where, how many at once, how long, and what to do about failures."""

    results: Path = Path("results")
    data_dir: Path | None = None
    device: str = "auto"
    jobs: int | None = None
    executor: str = "local"
    timeout: float | None = None  # seconds a trial
    force: bool = False
    fail_fast: bool = False
    trial: str | None = None  # only this one


@dataclass(frozen=True)
class Summary:
    """How a run ended: trials by status, and whether it was interrupted."""

    statuses: dict[str, int]
    interrupted: bool
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return 130
        return 1 if FAILED & self.statuses.keys() else 0


def missing(plan: Plan, options: Options) -> list[Trial]:
    """The trials that can run now and are not recorded, in the plan's order."""
    records = Records(options.results / plan.name)
    recorded = records.outcomes()
    trials = [*plan.trials, *plan.final_trials({key: dev for key, (_, dev) in recorded.items()})]
    trials = [trial for trial in trials if options.trial in (None, trial.trial_id)]
    if options.force:
        return trials
    return [trial for trial in trials if recorded.get(trial.trial_id, ("", None))[0] not in FINISHED]


def run(plan: Plan, options: Options, progress: Progress) -> Summary:
    """Trains the missing trials and records each as it ends; raises ValueError where device or data are missing.

    With ``tune_seeds`` the winners' other seeds are known once their candidates have run: they follow as a second batch.
    """
    start = time.monotonic()
    batch = missing(plan, options)
    if not batch:
        return Summary({}, interrupted=False)
    folder = options.results / plan.name
    executor = make_executor(options, batch)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "grid.yaml").write_text(plan.text, encoding="utf-8")
    statuses: Counter[str] = Counter()
    done: set[str] = set()
    with stopping(executor) as asked, progress:
        while batch and not asked:
            statuses += _run_batch(plan, batch, options, executor, progress)
            done |= {trial.trial_id for trial in batch}
            batch = [trial for trial in missing(plan, options) if trial.trial_id not in done]
            if options.fail_fast and FAILED & statuses.keys():
                break
    Records(folder).compact()
    return Summary(dict(statuses), bool(asked), time.monotonic() - start)


def _run_batch(
    plan: Plan, batch: Sequence[Trial], options: Options, executor: Executor, progress: Progress
) -> Counter[str]:
    folder = (options.results / plan.name).resolve()
    recorder = _Recorder(Records(folder), plan, batch, executor.num_workers)
    data_dir = options.data_dir and options.data_dir.resolve()
    jobs = [Job(trial.trial_id, trial.settings.model_dump(), folder, data_dir, Path.cwd()) for trial in batch]
    statuses: Counter[str] = Counter()
    progress.begin(plan, batch, executor.num_workers)
    for event in executor.run(jobs):
        match event:
            case Started(trial_id, worker):
                recorder.started(trial_id)
                progress.started(worker, trial_id)
            case Evaluated(_, worker, point):
                progress.evaluated(worker, point)
            case Ended(worker, outcome):
                recorder.ended(outcome)
                progress.ended(worker, outcome)
                statuses[outcome.status] += 1
                if options.fail_fast and outcome.status in FAILED:
                    executor.stop()
    return statuses


def make_executor(options: Options, trials: Sequence[Trial]) -> Executor:
    """The executor that the options ask for, once devices and data sets are known to be there."""
    data = {json.dumps(dumped): dumped for dumped in (trial.settings.data.model_dump() for trial in trials)}
    needs = (options.device, list(data.values()), options.data_dir)
    if options.executor == "inline":
        from lab.trial import prepare

        return InlineExecutor(prepare(*needs)[0], threads=cores())
    slots: list[str] = call_in_child("lab.trial", "prepare", *needs)
    num_workers = options.jobs or (cores() if slots == ["cpu"] else len(slots))
    devices = [slots[index % len(slots)] for index in range(num_workers)]
    return LocalExecutor(devices, threads=max(1, cores() // num_workers), timeout=options.timeout)


class _Recorder:
    """Turns outcomes into rows of the record."""

    def __init__(self, records: Records, plan: Plan, batch: Sequence[Trial], num_workers: int) -> None:
        self.records = records
        self._trials = {trial.trial_id: trial for trial in batch}
        self._columns = setting_columns([trial.settings for trial in plan.trials])
        self._always = {"grid": plan.name, "concurrent_trials": num_workers, "hostname": socket.gethostname(), **git()}
        self._started_at: dict[str, str] = {}

    def started(self, trial_id: str) -> None:
        self._started_at[trial_id] = datetime.now(UTC).isoformat(timespec="seconds")

    def ended(self, outcome: Outcome) -> None:
        trial, result = self._trials[outcome.trial_id], outcome.result
        row: dict[str, Any] = self._always | {
            "trial_id": trial.trial_id,
            "cell": trial.cell.label,
            "status": outcome.status,
            "error": outcome.error,
            "seed": trial.seed,
            "precision": trial.settings.train.precision,
            "started_at": self._started_at[outcome.trial_id],
            **trial.settings.flat(),
        }
        if result is None:
            self.records.append(row, self._columns)
            return
        measured = {name: value for name, value in vars(result).items() if name not in NOT_IN_ROW}
        row |= measured | asdict(result.environment)
        self.records.append(row, self._columns, result.curve, result.correct, result.num_test_images)


NOT_IN_ROW = {"environment", "curve", "correct", "num_test_images"}


def setting_columns(settings: Sequence[Settings]) -> list[str]:
    """Every setting that some trial has, by section, in the order of declaration."""
    found: dict[str, None] = {}
    for one in settings:
        found |= dict.fromkeys(one.flat())
    sections = list(Settings.model_fields)
    return sorted(found, key=lambda path: sections.index(path.split(".")[0]))


def git() -> dict[str, Any]:
    """Commit of the working folder and whether it has uncommitted changes; empty outside a repository."""
    try:
        commit, changes = (
            subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": None, "git_dirty": None}
    return {"git_commit": commit, "git_dirty": bool(changes)}


@contextmanager
def stopping(executor: Executor) -> Iterator[list[int]]:
    """SIGINT or SIGTERM stops the executor gently; the second ends this process at once, files whole."""
    asked: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        executor.stop()

    old = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
