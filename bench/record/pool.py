"""The results of one grid from several folders, such as those of two machines, as one.

Accuracies of a cell pool where its settings agree. A trial that several folders hold counts once, as the first of them
has it, and :func:`agreement` compares them bit for bit. Speeds never pool: timings keep the name of their machine.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.grid.plan import Plan, Trial
from bench.record.datasets import other_data
from bench.record.records import MEASURES, read_correct, read_curves, read_examples, read_trials
from bench.record.status import NOT_ENDED, Status
from bench.record.timings import read_timings

# What the same trial gives to the last bit on the same machine.
NUMBERS = ("test_", "dev_", "first_epoch_", "final_", "selected_epoch", "steps")
EXACTLY = [name for name in MEASURES if name.startswith(NUMBERS)]
AGREEMENT = ["one", "other", "shared", "identical", "statuses_differ", "largest_difference", "largest_images_differ"]


class PoolError(ValueError):
    """The folders hold no one grid; the message says which cell differs, and in what."""


@dataclass(frozen=True)
class Pool:
    """Records as :mod:`bench.record.records` reads them from one folder; ``machines`` is :func:`agreement`.

    Trials on other data than the first folder's last run found are left out, and counted by ``num_other_data``.
    """

    trials: pd.DataFrame
    curves: pd.DataFrame
    correct: dict[str, np.ndarray]
    timings: pd.DataFrame
    machines: pd.DataFrame
    num_other_data: int = 0
    unreadable: tuple[str, ...] = ()  # rows of curves, bits and timings: where, and why
    source: dict[str, int] = field(default_factory=dict)  # which of the folders each trial is taken from


def union(plans: Sequence[Plan], folders: Sequence[Path]) -> Plan:
    """Returns the first plan with the seeds of all; raises :class:`PoolError` where cells or their settings differ."""
    first = plans[0]
    if len(plans) == 1:
        return first
    own = _experiments(first)
    for plan, folder in zip(plans[1:], folders[1:], strict=True):
        other = _experiments(plan)
        for key in [*own, *other]:
            if key not in own or key not in other:
                one, two = (folder, folders[0]) if key in other else (folders[0], folder)
                raise PoolError(f"{one} and {two} are not one grid: only the former has the cell `{' '.join(key)}`")
            if differing := _differing(own[key], other[key]):
                where = f"in the cell `{' '.join(key)}` they differ in {', '.join(differing)}"
                raise PoolError(f"{folders[0]} and {folder} are not one grid: {where}")
    trials = {trial.trial_id: trial for plan in plans for trial in plan.trials}
    order = {key: index for index, key in enumerate(own)}
    return replace(
        first,
        trials=tuple(sorted(trials.values(), key=lambda trial: (order[_experiment(trial)], trial.seed))),
        seeds=_merged([plan.seeds for plan in plans]),
        tune_seeds=_merged([plan.tune_seeds for plan in plans]),
        text="\n---\n".join(dict.fromkeys(plan.text for plan in plans)),
        asked=replace(first.asked, seeds=None),
    )


def _experiment(trial: Trial) -> tuple[str, ...]:
    """Returns a cell and its tuned values, as text."""
    return (trial.cell.label, *(f"{name}={value}" for name, value in trial.tuned.items()))


def _experiments(plan: Plan) -> dict[tuple[str, ...], Trial]:
    return {_experiment(trial): trial for trial in plan.trials}


def _differing(one: Trial, other: Trial) -> list[str]:
    left, right = (trial.settings.with_seed(0).flat() for trial in (one, other))
    return sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))


def _merged(seeds: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sorted(set(itertools.chain.from_iterable(seeds))))


def read(folders: Sequence[Path]) -> Pool:
    """Reads the folders; of a trial that several hold, the first that ended well, else the first that ended."""
    frames = [read_trials(folder).assign(folder=index) for index, folder in enumerate(folders)]
    unreadable: list[str] = []
    corrects = [read_correct(folder, unreadable=unreadable) for folder in folders]
    both = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    rank = both["status"].map(lambda status: Status(status).rank)
    kept = both.loc[rank.sort_values(kind="stable").index].drop_duplicates("trial_id").sort_index()
    identity: Any = kept.filter(regex=r"^(trial_id|data\..*|\w+_digest)$").to_dict("records")
    other = other_data(folders[0], identity)
    kept = kept[~kept["trial_id"].isin(other)]
    source = dict(zip(kept["trial_id"], kept["folder"], strict=True))
    curves = [read_curves(folder, unreadable) for folder in folders]
    timings = [pd.DataFrame(read_timings(folder, unreadable), dtype=str) for folder in folders]
    mine = [points[points["trial_id"].map(source) == index] for index, points in enumerate(curves)]
    return Pool(
        trials=kept.drop(columns="folder").reset_index(drop=True),
        curves=pd.concat(mine, ignore_index=True) if len(mine) > 1 else curves[0],
        correct=_of_source(corrects, source),
        timings=pd.concat(timings, ignore_index=True),
        machines=agreement(folders, frames, corrects),
        num_other_data=len(other),
        unreadable=tuple(unreadable),
        source=source,
    )


def examples(
    folders: Sequence[Path], pool: Pool, metric: str, unreadable: list[str] | None = None
) -> dict[str, np.ndarray]:
    """Reads what the metric was on each test example of the trials, where that is recorded and can be read."""
    return _of_source([read_examples(folder, metric, unreadable) for folder in folders], pool.source)


def dev_correct(folders: Sequence[Path], pool: Pool) -> dict[str, np.ndarray]:
    """Tells which dev images each trial got right at its selected epoch, where that is recorded."""
    return _of_source([read_correct(folder, "dev") for folder in folders], pool.source)


def _of_source(found: Sequence[dict[str, np.ndarray]], source: dict[str, int]) -> dict[str, np.ndarray]:
    """Of what each folder holds by trial that of the folder which the trial is taken from."""
    return {key: values for index, own in enumerate(found) for key, values in own.items() if source.get(key) == index}


def agreement(
    folders: Sequence[Path], frames: Sequence[pd.DataFrame], corrects: Sequence[dict[str, np.ndarray]]
) -> pd.DataFrame:
    """Compares pairs of folders that share trials: how many are identical to the last bit, how far others differ.

    ``largest_difference`` is of test accuracy, ``largest_images_differ`` of test images that only one gets right.
    """
    rows = []
    names = [_name(folder, frame) for folder, frame in zip(folders, frames, strict=True)]
    for i, j in itertools.combinations(range(len(folders)), 2):
        both = frames[i].merge(frames[j], on="trial_id", suffixes=("", "_other"))
        both = both[~both["status"].isin(NOT_ENDED) & ~both["status_other"].isin(NOT_ENDED)]
        if not len(both):
            continue
        same = both["status"] == both["status_other"]
        for name in both.columns.intersection(EXACTLY):
            left, right = both[name], both[f"{name}_other"]
            same &= (left == right) | (left.isna() & right.isna())
        images = np.array([_images(corrects[i].get(key), corrects[j].get(key)) for key in both["trial_id"]])
        numbers = {"shared": len(both), "identical": int((same & ~(images > 0)).sum())}
        numbers["statuses_differ"] = int((both["status"] != both["status_other"]).sum())
        distance = (both["test_accuracy"] - both["test_accuracy_other"]).abs().max()
        most = float(np.nanmax(images)) if np.isfinite(images).any() else np.nan
        rows.append(
            {
                "one": names[i],
                "other": names[j],
                **numbers,
                "largest_difference": distance,
                "largest_images_differ": most,
            }
        )
    return pd.DataFrame(rows, columns=AGREEMENT)


def _images(one: np.ndarray | None, other: np.ndarray | None) -> float:
    """Counts the test images that only one of two trials gets right; NaN where that is not recorded of both."""
    if one is None or other is None or len(one) != len(other):
        return np.nan
    return float(np.sum(one != other))


def _name(folder: Path, trials: pd.DataFrame) -> str:
    devices = [str(name) for name in trials["device_name"].dropna().unique() if name]
    return f"{folder.parent} ({', '.join(devices)})" if devices else str(folder.parent)
