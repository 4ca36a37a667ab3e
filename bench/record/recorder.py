"""Turns outcomes into rows of the record, and keeps what the disk would not take until it does."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from bench.grid.plan import Plan, Trial, TrialSettings
from bench.record.asked import keep
from bench.record.outcome import Outcome
from bench.record.plan_file import GRID
from bench.record.records import ATTEMPTS, COMPILE_ERROR, Recorded, Records
from bench.record.sources import source_fingerprint
from bench.record.status import Status


class Recorder:
    """Records outcomes of a plan's trials as they end.

    Where the record cannot be written (disk full, folder gone), ``complain`` is told once; the outcome is kept in
    memory, and tried again with the next one and by :meth:`flush`.
    """

    def __init__(self, records: Records, plan: Plan, num_workers: int, complain: Callable[[str], None]) -> None:
        self.records, self.plan, self._complain = records, plan, complain
        self._columns = setting_columns([trial.settings for trial in plan.trials])
        self._always = {"grid": plan.name, "concurrent_trials": num_workers, "hostname": socket.gethostname(), **git()}
        self._unwritten: list[tuple[dict[str, Any], Outcome]] = []
        self._written: set[str] = set()  # trials of this run whose rows are in the folder
        self.num_lost = 0  # rows of this run that somebody removed with the folder

    def ended(self, trial: Trial, outcome: Outcome, started_at: datetime, before: Recorded | None = None) -> None:
        """Records the outcome of a trial; ``before`` is what was recorded of it until now."""
        row: dict[str, Any] = self._always | {
            "trial_id": trial.trial_id,
            "cell": trial.cell.label,
            "status": outcome.status,
            "error": outcome.error,
            "seed": trial.seed,
            "source_fingerprint": source_fingerprint(trial.settings),
            "started_at": started_at.astimezone(UTC).isoformat(timespec="seconds"),
            **trial.settings.flat(),
        }
        if self.plan.run is None:
            row["precision"] = trial.lab.train.precision
        if (result := outcome.result) is not None:
            row |= result.measures | asdict(result.environment) | result.digests
            row |= {"source_fingerprint": result.source_fingerprint, COMPILE_ERROR: result.compile_error}
        row[ATTEMPTS] = attempts_before(row["source_fingerprint"], before) + (outcome.status is not Status.INTERRUPTED)
        row |= outcome.node_columns
        complained = bool(self._unwritten)
        self._unwritten.append((row, outcome))
        error = self.flush()
        if error is not None and not complained:
            self._complain(f"{self.records.folder}: cannot be written ({error}); results are kept in memory meanwhile")

    def flush(self) -> OSError | None:
        """Writes what is still to be written; returns what prevents it, None where nothing does."""
        try:
            self.prepare()
            while self._unwritten:
                row, outcome = self._unwritten[0]
                result = outcome.result
                if result is None:
                    self.records.append(row, self._columns)
                else:
                    dev = None if result.dev_correct is None else (result.dev_correct, result.num_dev_images)
                    images = result.correct, result.num_test_images
                    more: Any = {"dev_correct": dev, "examples": result.examples}
                    self.records.append(row, self._columns, result.curve, *images, result.sources, **more)
                del self._unwritten[0]
                self._written.add(row["trial_id"])
        except OSError as error:
            return error
        return None

    def finish(self) -> OSError | None:
        """Like :meth:`flush`; then looks whether all is there, and removes rows of earlier attempts if it can."""
        error = self.flush()
        if error is None:
            try:
                self._lose(self._written.difference(row["trial_id"] for row in self.records.trials.rows()))
                self.records.compact()
            except OSError as compacting:
                self._complain(
                    f"{self.records.folder}: rows of earlier attempts stay, which no report counts: {compacting}"
                )
        return error

    def prepare(self) -> None:
        """Makes the folder, with the grid as it is run; also where somebody removed it meanwhile. Raises OSError."""
        grid = self.records.folder / GRID
        if not self.records.trials.path.exists():
            self._lose(set(self._written))
        if not grid.exists():
            keep(self.plan, self.records.folder)

    def _lose(self, trial_ids: set[str]) -> None:
        """Counts results of this run that somebody removed with the folder, and says so."""
        if trial_ids:
            self._complain(f"{self.records.folder}: was removed meanwhile, with {len(trial_ids)} results of this run")
            self.num_lost += len(trial_ids)
            self._written -= trial_ids


def attempts_before(fingerprint: str, before: Recorded | None) -> int:
    """Counts how often the code with this fingerprint has failed at a trial; a finished trial, rerun, starts at 0."""
    if before is None or before.status.is_finished or before.source_fingerprint not in ("", fingerprint):
        return 0
    return before.attempts


def setting_columns(settings: Sequence[TrialSettings]) -> list[str]:
    """Returns every setting that some trial has, by section, in the order of the trials."""
    found: dict[str, None] = {}
    for one in settings:
        found |= dict.fromkeys(one.flat())
    sections = list(dict.fromkeys(path.split(".")[0] for path in found))
    return sorted(found, key=lambda path: sections.index(path.split(".")[0]))


def git() -> dict[str, Any]:
    """Returns the commit of the working folder, and whether it has uncommitted changes; empty outside a repository."""
    try:
        commit, changes = (
            subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": None, "git_dirty": None}
    return {"git_commit": commit, "git_dirty": bool(changes)}
