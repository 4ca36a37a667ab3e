"""Decides what is left to do of a plan, and why: asked once per batch, from the plan and the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from bench.execute.options import Options, Rerun
from bench.grid.plan import Plan, Trial
from bench.record.recorder import attempts_before
from bench.record.records import Recorded, Records, ended
from bench.record.sources import source_fingerprint
from bench.record.staleness import Staleness, find_stale, is_stale
from bench.record.status import Status


class Reason(StrEnum):
    """A reason to run a trial."""

    MISSING = "not run yet"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    STALE = "stale"
    FORCED = "asked for"


@dataclass(frozen=True)
class Agenda:
    """``entries``: the trials that can run now and should, in the plan's order, and why."""

    known: tuple[Trial, ...]  # the plan's trials, and those that follow from what is recorded
    entries: tuple[tuple[Trial, Reason], ...]
    num_recorded: int  # trials that are recorded and stay as they are
    given_up: tuple[int, ...]  # per trial that is left alone because it failed too often: how often it did
    waiting: tuple[str, ...]  # labels of the cells whose tuning has not ended
    staleness: Staleness

    @property
    def trials(self) -> list[Trial]:
        return [trial for trial, _ in self.entries]


def read_agenda(plan: Plan, records: Records, options: Options) -> Agenda:
    """Asks the record once what is left to do of the plan; a tuned value is not decided by trials that run again."""
    recorded = records.outcomes()
    last = {trial.trial_id: recorded.get(trial.trial_id) for trial in plan.trials}
    again = options.rerun.includes(Rerun.STALE)
    renewed = {trial.trial_id for trial in plan.trials if again and is_stale(trial, last[trial.trial_id])}
    decided = {key: dev for key, dev in ended(recorded).items() if key not in renewed}
    known = plan.all_trials(decided)
    asked = [trial for trial in known if options.trial in (None, trial.trial_id)]
    reasons = [reason_to_run(trial, recorded.get(trial.trial_id), options) for trial in asked]
    given_up = [recorded[trial.trial_id].attempts for trial in asked if is_given_up(trial, recorded, options)]
    winners = plan.winners(decided)
    return Agenda(
        known=known,
        entries=tuple((trial, why) for trial, why in zip(asked, reasons, strict=True) if why is not None),
        num_recorded=sum(one.trial_id in recorded for one in known)
        - sum(why is not Reason.MISSING for why in reasons if why),
        given_up=tuple(given_up),
        waiting=tuple(cell.label for cell in plan.cells if plan.tune and cell.label not in winners),
        staleness=find_stale(plan, records),
    )


def reason_to_run(trial: Trial, recorded: Recorded | None, options: Options) -> Reason | None:
    """Says why a trial is to run, or None where it is to be left as it is recorded."""
    if recorded is None:
        return Reason.MISSING
    if options.rerun is Rerun.ALL:
        return Reason.FORCED
    if recorded.status.is_failed:
        again = options.rerun.includes(Rerun.FAILED) and not _is_exhausted(trial, recorded, options)
        return Reason.FAILED if again else None
    if recorded.status is Status.INTERRUPTED:
        return Reason.INTERRUPTED
    return Reason.STALE if options.rerun.includes(Rerun.STALE) and is_stale(trial, recorded) else None


def is_given_up(trial: Trial, recorded: Mapping[str, Recorded], options: Options) -> bool:
    """Tells whether the next run would leave the trial alone because it failed too often."""
    last = recorded.get(trial.trial_id)
    if last is None or options.rerun in (Rerun.MISSING, Rerun.ALL):
        return False
    return last.status.is_failed and _is_exhausted(trial, last, options)


def _is_exhausted(trial: Trial, recorded: Recorded, options: Options) -> bool:
    """Tells whether the source code that is here now has failed at the trial as often as it may."""
    return attempts_before(source_fingerprint(trial.settings), recorded) >= options.attempts
