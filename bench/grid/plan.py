"""A plan: the cells and trials that a grid asks for. Plain data, and what follows from it alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Literal

from bench.grid.factors import Factor, Levels
from bench.grid.hypotheses import Hypothesis
from lab.settings import Settings, Value


@dataclass(frozen=True)
class Cell:
    """One combination of factor levels; a cell beside the plan (``include``) has only the levels it names."""

    label: str
    levels: Levels = field(hash=False)


@dataclass(frozen=True)
class Trial:
    """One training run. ``tuned`` holds the candidate it tries.

    Trials of the stage ``tune`` choose among candidates; with ``tune_seeds``, the winner's other seeds are ``final``.
    """

    trial_id: str
    grid: str
    cell: Cell
    seed: int
    settings: Settings
    tuned: dict[str, Value] = field(default_factory=dict, hash=False)
    stage: Literal["tune", "final"] = "final"


@dataclass(frozen=True)
class Excluded:
    """A cell that is left out, and why."""

    cell: Cell
    because: str


@dataclass(frozen=True)
class Plan:
    """What a grid asks for, checked. ``trials`` are those known before any result; see :meth:`final_trials`."""

    name: str
    question: str
    factors: tuple[Factor, ...]
    cells: tuple[Cell, ...]
    trials: tuple[Trial, ...]
    baseline: Levels  # in a full plan it may omit factors
    hypotheses: tuple[Hypothesis, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    warnings: tuple[str, ...] = ()
    kind: str = "full"  # full, one_at_a_time, leave_one_out or add_one
    seeds: tuple[int, ...] = ()
    tune: dict[str, tuple[Value, ...]] = field(default_factory=dict)  # candidates in the grid's order
    tune_seeds: tuple[int, ...] = ()
    margin: float = 0.01  # accuracies that differ by less count as equivalent
    document: dict[str, Any] = field(default_factory=dict)  # the grid as it is run, overrides applied
    text: str = ""  # the same as YAML, numbers as they were written; load_plan on it gives the same plan

    def winners(self, dev_accuracy: Mapping[str, float | None]) -> dict[str, Trial]:
        """For each cell (by label) whose tuning has ended, its first trial with the best candidate.

        ``dev_accuracy`` has an entry for each trial that ended, None where it failed: that counts as 0, so that no
        candidate wins by the seeds it survived. The best mean over the tuning seeds wins, the earlier one where means
        are equal; a cell whose candidates all failed has no winner.
        """
        runs: dict[str, dict[str, list[Trial]]] = {}
        for trial in self.trials:
            if trial.stage == "tune":
                runs.setdefault(trial.cell.label, {}).setdefault(repr(trial.tuned), []).append(trial)
        winners = {}
        for label, candidates in runs.items():
            trials = [trial for candidate in candidates.values() for trial in candidate]
            if all(trial.trial_id in dev_accuracy for trial in trials):
                scores = [_mean(dev_accuracy[trial.trial_id] or 0.0 for trial in c) for c in candidates.values()]
                if max(scores) > 0:
                    winners[label] = list(candidates.values())[scores.index(max(scores))][0]
        return winners

    def final_trials(self, dev_accuracy: Mapping[str, float | None]) -> tuple[Trial, ...]:
        """The winners' trials on the seeds that tuning left out, for each cell whose tuning has ended."""
        left = [seed for seed in self.seeds if seed not in self.tune_seeds]
        return tuple(
            replace(winner, trial_id=settings.trial_id, seed=seed, settings=settings, stage="final")
            for winner in self.winners(dev_accuracy).values()
            for seed in left
            for settings in [winner.settings.with_seed(seed)]
        )

    def all_trials(self, dev_accuracy: Mapping[str, float | None]) -> tuple[Trial, ...]:
        """``trials`` and :meth:`final_trials`: all that are known by now."""
        return (*self.trials, *self.final_trials(dev_accuracy))


def _mean(scores: Iterable[float]) -> float:
    """The mean, summed exactly: equal scores tie in whatever order the seeds come."""
    found = list(scores)
    return math.fsum(found) / len(found)


def neighbours(cells: Sequence[Cell]) -> Iterator[tuple[str, Cell, Cell]]:
    """Pairs of cells that differ in the level of one factor alone, with its name."""
    names = dict.fromkeys(name for cell in cells for name in cell.levels)
    for name in names:
        groups: dict[tuple[tuple[str, str], ...], list[Cell]] = {}
        for cell in cells:
            if name in cell.levels:
                rest = tuple(sorted((other, level) for other, level in cell.levels.items() if other != name))
                groups.setdefault(rest, []).append(cell)
        for group in groups.values():
            yield from ((name, one, other) for one, other in combinations(group, 2))
