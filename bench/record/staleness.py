"""Results that were made by other source code, or on other data, than what is here now. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.grid.plan import Plan, Trial
from bench.record.records import Recorded, Records, ended
from bench.record.sources import source_fingerprint, sources


@dataclass(frozen=True)
class Staleness:
    """``changed``: by trial_id the source files that differ, none where the record does not tell.

    ``other_data``: the trials, by trial_id, that rest on other data than the last run found.
    """

    changed: dict[str, tuple[str, ...]]
    num_finished: int
    other_data: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()  # rows that count as not recorded: where, and why

    def __str__(self) -> str:
        """Says ``6 of 40 results were made by other source code than what is here now: lab/models.py changed``."""
        files = sorted({file for files in self.changed.values() for file in files})
        made = (
            f"{len(self.changed)} of {self.num_finished} results were made by other source code than what is here now"
        )
        return f"{made}: {', '.join(files)} changed" if files else made


def is_stale(trial: Trial, recorded: Recorded | None) -> bool:
    """Tells whether the trial is recorded as finished by other source code or on other data; no, if that is unknown."""
    if recorded is None or not recorded.status.is_finished:
        return False
    return recorded.has_other_data or _is_other_code(trial, recorded)


def _is_other_code(trial: Trial, recorded: Recorded) -> bool:
    return recorded.source_fingerprint not in ("", source_fingerprint(trial.settings))


def find_stale(plan: Plan, *folders: Records) -> Staleness:
    """Judges the finished trials of the plan, those that follow from tuning included, each as it counts in a report."""
    recorded: dict[str, Recorded] = {}
    digests: dict[str, dict[str, str]] = {}
    for records in folders:
        digests |= records.digests()
        for key, outcome in records.outcomes().items():
            if key not in recorded or outcome.status.rank < recorded[key].status.rank:
                recorded[key] = outcome
    finished = [
        trial
        for trial in plan.all_trials(ended(recorded))
        if trial.trial_id in recorded and recorded[trial.trial_id].status.is_finished
    ]
    changed = {
        trial.trial_id: _changed(digests.get(recorded[trial.trial_id].source_fingerprint, {}), sources(trial.settings))
        for trial in finished
        if _is_other_code(trial, recorded[trial.trial_id])
    }
    other = tuple(trial.trial_id for trial in finished if recorded[trial.trial_id].has_other_data)
    return Staleness(changed, len(finished), other, tuple(where for records in folders for where in records.unreadable))


def _changed(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the files that changed, came or went; none where ``then`` is not known."""
    return tuple(sorted({file for file, _ in then.items() ^ now.items()})) if then else ()
