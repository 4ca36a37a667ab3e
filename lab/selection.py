"""Settles which score on dev selects the epoch of a trial, and in which direction. Free of torch."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from lab.imports import PartError, as_part_error, load
from lab.scores import (
    BUILT_IN,
    CLASSIFICATION,
    REGRESSION,
    Better,
    Score,
    ScoreError,
    declared,
    default_selection,
    named,
)
from lab.sections import Problem, SettingsError, TrainSettings, part_name
from lab.visiting import asked


@dataclass(frozen=True)
class Selection:
    """The best epoch has the highest (or lowest) value of this score."""

    name: str  # of the score on dev, such as dev_accuracy
    better: Better

    @property
    def sign(self) -> int:
        """The factor that makes the largest value the best."""
        return -1 if self.better == "lower" else 1


def own_scores(train: TrainSettings) -> dict[str, Score]:
    """Returns what the user's metrics declare of themselves, by name; raises :class:`SettingsError`."""
    parts = {name: part for name, part in named(train.metric).items() if part_name(part) not in CLASSIFICATION}
    found = {name: _declared(part_name(part)) for name, part in parts.items() if part_name(part) not in REGRESSION}
    if len(found) < len(parts):
        found |= {name: score for name, score in REGRESSION.items() if name != "loss"}
    selected = selected_score(train)
    if train.better is not None:
        said = found.get(selected, BUILT_IN.get(selected, Score(None))).better
        if said is not None:
            rule = f"is for a metric that does not say it itself; of {selected} it is known: {said}"
            raise SettingsError([Problem("train.better", rule)])
        found[selected] = replace(found[selected], better=train.better)
    return found


def selected_score(train: TrainSettings) -> str:
    """Returns the selecting score without ``dev_``."""
    return (train.select or default_selection(train.metric)).removeprefix("dev_")


def selection(train: TrainSettings) -> Selection:
    """Returns the selecting score with its direction; raises :class:`SettingsError` where nobody declared one."""
    name = selected_score(train)
    score = own_scores(train).get(name) or BUILT_IN[name]
    if score.better is None:
        path = part_name(named(train.metric)[name])
        rule = f'{path} does not say which direction is better; add `better = "lower"` or `better = "higher"` to it'
        raise SettingsError([Problem("train.metric", rule)])
    if score.better == "neither":
        rule = f"dev_{name} cannot select an epoch: neither direction of it is better; select by another score"
        raise SettingsError([Problem("train.select", f"{rule}, such as `select: dev_loss`")])
    return Selection(f"dev_{name}", score.better)


def _declared(path: str) -> Score:
    try:
        return asked(declaration, path)
    except (ScoreError, PartError) as error:
        said = f"{path}: {error}" if isinstance(error, ScoreError) else str(error)
        raise SettingsError([Problem("train.metric", said)]) from None


@functools.cache
def declaration(path: str) -> Score:
    """Reads what the metric at ``path`` declares of itself; raises :class:`ScoreError` and :class:`PartError`."""
    metric = load(path)
    with as_part_error(f"{path!r}: cannot read what it declares", passing=ScoreError):
        return declared(metric)
