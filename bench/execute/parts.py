"""Has the parts of trials tried before any is trained: what their settings break is refused at its line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.execute.processes import call_in_child
from bench.execute.trainables.lab import LAB
from bench.grid.load import place
from bench.grid.plan import Plan, Trial
from lab.imports import import_paths

MOST_TRIED = 64  # distinct sets of parts; of more, the trials tell


def to_try(trials: Iterable[Trial]) -> list[Trial]:
    """Returns a trial of each distinct set of optimizer, schedule, loss and metrics with one of another's code."""
    distinct: dict[str, Trial] = {}
    for trial in trials:
        lab = trial.lab
        parts = [lab.optimizer.model_dump(), lab.schedule.model_dump(), lab.train.model_dump()]
        if any(import_paths(parts)):
            distinct.setdefault(json.dumps([lab.data.model_dump(), parts]), trial)
    return list(distinct.values())[:MOST_TRIED]


def check_parts(
    plan: Plan, doubted: Sequence[Trial], device: str, data_dir: Path | None, timeout: float | None
) -> None:
    """Raises ValueError, at the line of the grid, where parts fail with the network and the data of the trial, too."""
    messages = []
    for trial in doubted:
        try:
            problem = call_in_child(LAB.fault, trial.settings.model_dump(), device, data_dir, timeout=timeout)
        except ValueError:  # the network or its process: the trial tells
            continue
        if problem is not None:
            messages.append(place(plan.asked, trial, problem))
    if messages:
        raise ValueError("\n".join(dict.fromkeys(messages)))
