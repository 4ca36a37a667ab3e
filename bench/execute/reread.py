"""Reads the metrics of commands again from what they left, as the grid declares them now; runs nothing."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from bench.execute.agenda import read_agenda
from bench.execute.options import Options
from bench.execute.progress import Progress
from bench.execute.run import Summary
from bench.execute.trainables.kept import Kept, kept_outputs
from bench.execute.verify import scratch_job
from bench.grid.own import OwnSettings
from bench.grid.plan import Plan, Trial
from bench.record.asked import keep
from bench.record.claims import Claims
from bench.record.recorder import Recorder
from bench.record.records import Records


def reread(plan: Plan, options: Options, progress: Progress) -> Summary:
    """Records every trial of the plan whose output is kept, read anew; ``left`` counts those without.

    Raises ValueError where the grid runs no command. Where a declared metric is in none, nothing is recorded.
    """
    if plan.run is None or plan.run.name != "command":
        raise ValueError("--reread reads the kept output of commands; this grid runs none: --rerun all trains again")
    start, folder = time.monotonic(), (options.results / plan.name).resolve()
    records, outputs = Records(folder, plan.selecting), kept_outputs(folder)
    recorder, summary = Recorder(records, plan, 1, progress.complain), Summary()
    keep(plan, folder)
    seen: set[str] = set()
    while batch := [one for one in read_agenda(plan, records, options).known if one.trial_id not in seen]:
        seen |= {trial.trial_id for trial in batch}
        found = {trial: outputs[key] for trial in batch if (key := _output_id(trial)) in outputs}
        summary.left += len(batch) - len(found)
        progress.begin(plan, list(found), 1)
        _reread(found, recorder, progress, summary)
    summary.unwritten, summary.seconds = recorder.finish(), time.monotonic() - start
    return summary


def _reread(found: dict[Trial, Kept], recorder: Recorder, progress: Progress, summary: Summary) -> None:
    """Reads, for each trial that no run has under way, the output that it left; until one lacks a metric."""
    claims: Claims[Trial] = Claims(recorder.records, lambda trial, recorded: False)
    for trial in claims.take(found):
        kept = found[trial]
        outcome = kept.read(scratch_job(recorder.plan, trial, recorder.records.folder))
        if outcome.stops_run:
            summary.refused = f"{trial.cell.label} seed={trial.seed}: {outcome.error}"
            claims.drop(trial.trial_id, finished=False)
            return
        progress.started(0, trial.trial_id)
        started = datetime.fromtimestamp((kept.folder / "settings.json").stat().st_mtime, UTC)
        recorder.ended(trial, outcome, started, claims.recorded(trial.trial_id))
        claims.drop(trial.trial_id, finished=outcome.status.is_finished)
        progress.ended(0, outcome)
        summary.statuses[outcome.status] += 1
    summary.elsewhere += claims.elsewhere


def _output_id(trial: Trial) -> str:
    assert isinstance(trial.settings, OwnSettings)
    return trial.settings.output_id
