"""Selects what a report counts: every recorded seed of its plan's cells; what is left out is counted by cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from bench.grid.plan import Plan
from bench.record.table import decode_text, encode

MOST_CAUSES = 4  # that are told apart; what else differs is counted together
MOST_VALUES = 3  # of a setting that are listed
MOST_SETTINGS = 3


def with_recorded_seeds(plan: Plan, trials: pd.DataFrame) -> Plan:
    """Adds the recorded seeds of the plan's cells to those that it asks for; with ``--seeds`` returns the plan itself.

    With ``tune`` the seeds that the grid names choose the candidate, and further ones are the winner's.
    """
    if plan.asked.seeds is not None:
        return plan
    recorded = set(trials["trial_id"])
    others = sorted(_seeds(trials) - {*plan.seeds, *plan.tune_seeds})
    found = {
        seed: [trial for trial in (one.of_seed(seed) for one in plan.experiments) if trial.trial_id in recorded]
        for seed in others
    }
    further = tuple(seed for seed, own in found.items() if own)
    if plan.tune:
        return replace(plan, further_seeds=further)
    more = tuple(trial for seed in further for trial in found[seed])
    return replace(plan, further_seeds=further, trials=plan.trials + more)


def left_out(plan: Plan, trials: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """Says which recorded trials are not the plan's, by what sets each apart from those that are."""
    rows = trials[~trials["trial_id"].isin(found["trial_id"])]
    if not len(rows):
        return []
    causes = Counter(_causes(plan, rows))
    named = causes.most_common(MOST_CAUSES)
    parts = [f"{count} {cause}" for cause, count in named]
    if rest := causes.total() - sum(count for _, count in named):
        parts.append(f"{rest} with other settings")
    verb = "trial is not this grid's and is" if len(rows) == 1 else "trials are not this grid's and are"
    return [f"{len(rows)} recorded {verb} left out: {'; '.join(parts)}"]


def _seeds(rows: pd.DataFrame) -> set[int]:
    return {int(seed) for seed in rows["seed"].dropna()} if "seed" in rows else set()


def _causes(plan: Plan, rows: pd.DataFrame) -> list[str]:
    """Says why each row is left out."""
    own = [trial.settings.flat() for trial in plan.experiments]
    names = [name for name in dict.fromkeys(name for one in own for name in one) if name in rows.columns]
    if not names:
        return [_without_difference(plan, _seeds(rows))] * len(rows)
    theirs = rows[names].fillna("").to_numpy(str)
    ours = np.array([[decode_text(encode(one.get(name))) for name in names] for one in own], dtype=str)
    distinct, index = np.unique(theirs, axis=0, return_inverse=True)
    differing = [_nearest(one, ours, names) for one in distinct]
    values = _values(differing, distinct, names)
    found = [differing[at] for at in index.ravel()]
    plain = _without_difference(plan, _seeds(rows[[not paths for paths in found]]))
    return [values[paths] if paths else plain for paths in found]


def _nearest(row: np.ndarray, ours: np.ndarray, names: Sequence[str]) -> tuple[str, ...]:
    """Returns the settings in which a row differs from the experiment of the plan that differs in fewest."""
    different = ours != row
    fewest = different[different.sum(axis=1).argmin()]
    return tuple(name for name, differs in zip(names, fewest, strict=True) if differs)


def _values(
    differing: Sequence[tuple[str, ...]], distinct: np.ndarray, names: Sequence[str]
) -> dict[tuple[str, ...], str]:
    """Describes each set of differing settings: ``with train.epochs=1 or 3``."""
    said = {}
    for paths in set(differing):
        rows = [row for row, own in zip(distinct, differing, strict=True) if own == paths]
        words = [_setting(path, {str(row[names.index(path)]) for row in rows}) for path in paths[:MOST_SETTINGS]]
        more = len(paths) - MOST_SETTINGS
        said[paths] = f"with {', '.join(words)}" + (f" and {more} more settings" if more > 0 else "")
    return said


def _setting(path: str, values: set[str]) -> str:
    if len(values) > MOST_VALUES:
        return f"other {path}"
    return f"{path}={' or '.join(sorted(value or 'null' for value in values))}"


def _without_difference(plan: Plan, seeds: Iterable[int]) -> str:
    """Says why rows are left out whose settings are the plan's own."""
    known = {*plan.seeds, *plan.further_seeds}
    others = [str(seed) for seed in sorted(seeds) if seed not in known]
    if others:
        return f"of seed{'s' * (len(others) > 1)} {', '.join(others)}"
    return "of candidates that did not win" if plan.tune else "of settings that their rows do not tell"
