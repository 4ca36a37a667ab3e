"""Digests the data of a run, once before it: nothing is added beside results on other data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from bench.execute.options import Options, Rerun
from bench.execute.processes import CallError, call_in_child
from bench.execute.trainables.lab import LAB
from bench.grid.columns import DIGESTS
from bench.grid.plan import Trial
from bench.record.datasets import Digests, described, key_of, note_data
from bench.record.records import Records
from lab.result import Identity


def identify(
    trials: Sequence[Trial], records: Records, options: Options, tried: Sequence[Trial] = ()
) -> tuple[dict[str, Digests], list[Trial], list[str]]:
    """Reads the data of the trials, and notes what they are; by their settings (:func:`key_of`).

    Beside the data it tries the parts of ``tried``; the second are those of which one fails on numbers that are made
    up, the third sentences on data whose splits share examples. Raises ValueError where data cannot be had or are not
    what loss and metric are of, OSError where it cannot be noted.
    """
    cells = {_cell(trial): (trial.lab.data.model_dump(), trial.lab.train.model_dump()) for trial in trials}
    known, doubted = _looked_at(list(cells.values()), [trial.settings.model_dump() for trial in tried], options)
    found = dict(zip(cells, known, strict=True))
    digests = {key_of(trial.settings): found[_cell(trial)].digests for trial in trials}
    data = {key: tuple(one.get(name, "") for name in DIGESTS) for key, one in digests.items()}
    note_data(records.folder, data)
    shared = {f"data {cells[key][0]['name']}: {one.repeated}" for key, one in found.items() if one.repeated}
    rule = "stand among those to learn from, too: scores on them say nothing of new ones"
    return data, [tried[index] for index in doubted], [f"{which} {rule}" for which in sorted(shared)]


def _looked_at(
    cells: Sequence[tuple[dict[str, Any], dict[str, Any]]], tried: Sequence[dict[str, Any]], options: Options
) -> tuple[list[Identity], list[int]]:
    """Returns what data are, by cell, and the indices of doubtful parts; of none where one ends the process."""
    if tried:
        with suppress(CallError):  # that of data shows again below
            return call_in_child(LAB.identify, cells, options.data_dir, tried, timeout=options.timeout)
    try:
        return call_in_child(LAB.identify, cells, options.data_dir)
    except CallError as error:
        names = ", ".join(dict.fromkeys(section["name"] for section, _ in cells))
        raise ValueError(f"data {names}: cannot be read: {error}") from error


def _cell(trial: Trial) -> str:
    """Returns what decides which data are read, and whether what is learnt goes with their labels."""
    return json.dumps([trial.lab.data.model_dump(), trial.lab.train.loss, trial.lab.train.metric])


def check_data(trials: Sequence[Trial], records: Records, options: Options) -> None:
    """Raises ValueError where trials are recorded on other data than a run found last, unless these run again."""
    outcomes = records.outcomes()
    finished = [trial for trial in trials if trial.trial_id in outcomes and outcomes[trial.trial_id].status.is_finished]
    other = [trial for trial in finished if outcomes[trial.trial_id].has_other_data]
    if other and not options.rerun.includes(Rerun.STALE):
        what = described({key_of(trial.settings) for trial in other})
        rule = f"{len(other)} of {len(finished)} results rest on other data than {what} holds now"
        ways = "--rerun stale trains them again; or a setting, such as another data.path, tells the two apart"
        raise ValueError(f"{records.folder}: {rule}: nothing is added beside them; {ways}")
