"""A plan: the cells and trials that a grid asks for. Plain data, and what follows from it alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from bench.grid.factors import Factor, Levels
from bench.grid.hypotheses import Hypothesis
from bench.grid.metrics import Metric, lab_metrics
from bench.grid.own import OwnSettings, Run
from lab.settings import Settings, Value


@dataclass(frozen=True)
class Cell:
    """One combination of factor levels; a cell beside the plan (``include``) has only the levels it names."""

    label: str
    levels: Levels = field(hash=False)


class TrialSettings(Protocol):
    """What the settings of a trial are to plan and record, whoever trains it."""

    @property
    def seed(self) -> int: ...

    @property
    def trial_id(self) -> str: ...

    def with_seed(self, seed: int) -> Self: ...

    def flat(self) -> dict[str, Value]: ...

    def model_dump(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Trial:
    """One training run. ``tuned`` holds the candidate it tries.

    Trials of the stage ``tune`` choose among candidates on seeds of their own; the winner's are ``final``.
    """

    trial_id: str
    grid: str
    cell: Cell
    seed: int
    settings: TrialSettings
    tuned: dict[str, Value] = field(default_factory=dict, hash=False)
    stage: Literal["tune", "final"] = "final"

    @property
    def lab(self) -> Settings:
        """The settings of a trial that the laboratory trains."""
        assert isinstance(self.settings, Settings)
        return self.settings

    def of_seed(self, seed: int) -> Trial:
        """Returns the same cell and candidate with another seed."""
        settings = self.settings.with_seed(seed)
        return replace(self, trial_id=settings.trial_id, seed=seed, settings=settings)


def run_of(trials: Sequence[Trial]) -> Run | None:
    """Returns the one training code of a plan's trials; None for the laboratory, or without trials."""
    return next((one.settings.run for one in trials if isinstance(one.settings, OwnSettings)), None)


@dataclass(frozen=True)
class Excluded:
    """A cell that is left out, and why."""

    cell: Cell
    because: str


@dataclass(frozen=True)
class Asked:
    """The request that a plan answers: the path of its grid, and the options that changed it."""

    grid: Path = Path()
    overrides: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    seeds: int | None = None

    @property
    def options(self) -> list[str]:
        """The options as the words of a command."""
        words = [word for override in self.overrides for word in ("--set", override)]
        words += [word for level in self.only for word in ("--only", level)]
        return words + (["--seeds", str(self.seeds)] if self.seeds is not None else [])


@dataclass(frozen=True)
class Plan:
    """A grid's cells and trials, checked. ``trials`` are those known before any result; see :meth:`final_trials`."""

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
    run: Run | None = None  # training code of the user's own; None: the laboratory
    seeds: tuple[int, ...] = ()
    tune: dict[str, tuple[Value, ...]] = field(default_factory=dict)  # candidates in the grid's order
    tune_seeds: tuple[int, ...] = ()
    metrics: tuple[Metric, ...] = (lab_metrics()["test_accuracy"],)  # what the grid asks about, the primary one first
    measures: dict[str, Metric] = field(default_factory=lab_metrics)  # every column of numbers of its trials
    pair: str = "seed"  # or none: seeds of unlike cells have nothing to do with each other
    untrained: str | float = "apart"  # or what an untrained trial counts as in the primary metric: chance, or a number
    selecting: str = "dev_accuracy"  # the measure that chooses epochs and candidates
    document: dict[str, Any] = field(default_factory=dict)  # the grid as it is run, overrides applied
    text: str = ""  # the same as YAML, numbers as they were written; load_plan on it gives the same plan
    asked: Asked = field(default=Asked(), compare=False)  # how, not what
    further_seeds: tuple[int, ...] = ()  # recorded beside those that are asked for

    @property
    def primary(self) -> Metric:
        """The metric that verdicts, tables and figures are about."""
        return self.metrics[0]

    @property
    def margin(self) -> float:
        """Differences in the primary metric under it count as equivalent; 0 where none do."""
        return self.primary.margin or 0.0

    @property
    def experiments(self) -> list[Trial]:
        """The first trial of each cell and candidate."""
        first: dict[tuple[str, str], Trial] = {}
        for trial in self.trials:
            first.setdefault((trial.cell.label, repr(trial.tuned)), trial)
        return list(first.values())

    def winners(self, scores: Mapping[str, float | None]) -> dict[str, Trial]:
        """Finds for each cell (by label) whose tuning has ended its first trial with the best candidate.

        ``scores`` has the selecting metric of each trial that ended, None where it failed. A cell whose candidates all
        failed has no winner.
        """
        runs: dict[str, dict[str, list[Trial]]] = {}
        for trial in self.trials:
            if trial.stage == "tune":
                runs.setdefault(trial.cell.label, {}).setdefault(repr(trial.tuned), []).append(trial)
        sign = self.measures[self.selecting].sign
        winners = {}
        for label, candidates in runs.items():
            trials = list(candidates.values())
            if all(trial.trial_id in scores for candidate in trials for trial in candidate):
                best = best_candidate([[scores[trial.trial_id] for trial in candidate] for candidate in trials], sign)
                if best is not None:
                    winners[label] = trials[best][0]
        return winners

    def tuned_on(self, seeds: Sequence[int]) -> Plan:
        """Returns the same plan with candidates that are tried on these seeds."""
        trials = tuple(trial.of_seed(seed) for trial in self.experiments for seed in seeds)
        return replace(self, trials=trials, tune_seeds=tuple(seeds))

    def final_trials(self, scores: Mapping[str, float | None]) -> tuple[Trial, ...]:
        """Returns the winners' trials on the grid's seeds, for each cell whose tuning has ended: none that chose it."""
        left = [seed for seed in (*self.seeds, *self.further_seeds) if seed not in self.tune_seeds]
        winners = self.winners(scores).values()
        return tuple(replace(winner.of_seed(seed), stage="final") for winner in winners for seed in left)

    def all_trials(self, scores: Mapping[str, float | None]) -> tuple[Trial, ...]:
        """Returns ``trials`` and :meth:`final_trials`: all that are known by now."""
        return (*self.trials, *self.final_trials(scores))


def best_candidate(scores: Sequence[Sequence[float | None]], sign: int) -> int | None:
    """Returns the index of the best of several candidates by their scores over the tuning seeds; None where all failed.

    The fewest failed trials (None) win, then the best mean of the others, summed exactly: the highest with ``sign`` 1,
    the lowest with -1. Of equals the earlier one wins.
    """
    ranks = []
    for index, own in enumerate(scores):
        known = [score for score in own if score is not None]
        if known:
            ranks.append((len(own) - len(known), -sign * math.fsum(known) / len(known), index))
    return min(ranks)[2] if ranks else None


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
