"""The results of a grid by seed and cell, and the tables that sum them up: estimates with intervals, by level and cell.

Means and differences are over the trials that trained (:mod:`bench.analysis.trained`), and how often trials train
stands beside them: two questions. The replicates are the seeds; where a level spans several cells these weigh the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.summaries import timed, timed_alone
from bench.grid.factors import Factor
from bench.grid.hypotheses import Hypothesis
from bench.grid.metrics import TRAINED
from bench.grid.plan import Cell, Plan
from bench.record.status import NOT_ENDED, Status
from bench.stats import estimates
from bench.stats.families import Standing, standings
from bench.stats.joined import Joined, counting_untrained, share_contrast
from bench.stats.unpaired import unpaired
from lab.settings import num_classes

SPEEDS = {"train_images_per_second", "eval_images_per_second", "train_seconds", "total_seconds"}
EXACT = {"parameters", "forward_macs", "steps", "epochs"}  # what no seed changes
NOT_OF_TRAINED = SPEEDS | EXACT | {"peak_memory_bytes"}  # what a trial tells whether or not it trained


class Comparison:
    """The results of a grid by seed and cell, to be summed up over any of its cells.

    ``found`` is of :func:`bench.analysis.summaries.outcomes`. ``correct`` holds a bit per test image for each trial;
    where all trials of a comparison have theirs, its intervals count the test set beside the seeds. ``dev_correct`` is
    the same of dev, for hypotheses about it.
    """

    def __init__(
        self,
        plan: Plan,
        found: pd.DataFrame,
        correct: Mapping[str, np.ndarray] | None = None,
        timings: pd.DataFrame | None = None,
        dev_correct: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.plan = plan
        self._found = found
        self._ended = found[found["compared"] & (found["status"] == Status.OK)]
        self._labels = {frozenset(cell.levels.items()): cell.label for cell in plan.cells}
        self._trained = self._matrix(found[found["compared"]], "trained")
        self._test = self._matrix(self._ended[self._ended["trained"] == 1], "test_accuracy")
        self._first_epoch = self._matrix(self._ended, "first_epoch_dev_accuracy")
        self._rate = self._matrix(timed(self._ended), "train_images_per_second")
        self._alone = timed_alone(plan, timings) if timings is not None and len(timings) else None
        classes = {num_classes(trial.lab.data) for trial in plan.trials if plan.run is None}
        known = next(iter(classes)) if len(classes) == 1 else None
        self._chance = 1 / known if known else None
        counts_as = self._chance if plan.untrained == "chance" else plan.untrained
        self._worth = None if isinstance(counts_as, str) else counts_as
        self._bits = self._correct_images(correct or {})
        self._dev_bits = self._correct_images(dev_correct or {})
        self._tested = {
            cell: set(own) - {""} for cell, own in self._ended["test_digest"].dropna().groupby(self._ended["cell"])
        }

    def _matrix(self, ended: pd.DataFrame, measure: str) -> pd.DataFrame:
        """Cells (rows) by seeds (columns); NaN where there is no result."""
        matrix = ended.pivot(index="cell", columns="seed", values=measure)
        return matrix.reindex(
            index=[cell.label for cell in self.plan.cells], columns=sorted(self._found["seed"].unique())
        )

    def _correct_images(self, correct: Mapping[str, np.ndarray]) -> dict[str, np.ndarray | None]:
        """For each cell (seeds, images), false where nothing trained; None where a trial that did lacks its bits."""
        trained = self._ended[self._ended["trained"] == 1]
        trials = trained.pivot(index="cell", columns="seed", values="trial_id").reindex_like(self._test)
        return {
            str(cell): _bits(row.dropna().tolist(), row.notna().to_numpy(), correct) for cell, row in trials.iterrows()
        }

    def summary(self, cells: Sequence[Cell], against: Mapping[str, str]) -> dict[str, Any]:
        """Counts, means, intervals, and the difference to ``against`` (factor levels), paired by seed and cell."""
        labels = [cell.label for cell in cells]
        found = self._found[self._found["cell"].isin(labels) & self._found["compared"]]
        further = found["seed"].isin(self.plan.further_seeds)
        statuses = Counter(found["status"])
        ended = self._ended[self._ended["cell"].isin(labels)]
        return {
            "n": statuses[Status.OK],
            "planned": len(labels) * len(self.plan.seeds) + int(further.sum()),
            "diverged": statuses[Status.DIVERGED],
            "failed": sum(
                count for status, count in statuses.items() if status not in {Status.OK, Status.DIVERGED} | NOT_ENDED
            ),
            **self._share(labels),
            **columns("with_untrained", self._with_untrained(labels), 0.0, 1.0),
            **columns("test_accuracy", self._mean(labels)),
            **self._difference(cells, against),
            **columns("first_epoch_dev_accuracy", estimates.mean(self._first_epoch.loc[labels])),
            **self._speed(labels),
            "parameters_low": ended["parameters"].min(),
            "parameters_high": ended["parameters"].max(),
            "forward_macs_low": ended["forward_macs"].min(),
            "forward_macs_high": ended["forward_macs"].max(),
        }

    def _share(self, labels: Sequence[str]) -> dict[str, Any]:
        """How many trials trained, of those that had a result, and the share with its exact interval."""
        share = share_contrast([self._trained.loc[list(labels)]], [1])
        counted = share.parts[0].share if share.parts else None
        return {
            "trained": counted.count if counted else 0,
            "judged": counted.total if counted else 0,
            "trained_share": counted.rate if counted else np.nan,
            "trained_share_low": counted.low if counted else np.nan,
            "trained_share_high": counted.high if counted else np.nan,
        }

    def _mean(self, labels: Sequence[str]) -> estimates.Estimated:
        arms = [self._arm(labels)]
        if self._worth is None:
            return estimates.contrast(arms, [1])
        return self._counting(arms, [self._trained.loc[list(labels)].to_numpy()], [1])

    def _with_untrained(self, labels: Sequence[str]) -> Joined:
        """The mean with untrained trials at chance; nothing where chance is unknown."""
        if self._chance is None:
            return Joined((), 0)
        trained = self._trained.loc[list(labels)].to_numpy()
        return counting_untrained([self._arm(labels)], [trained], [1], worth=self._chance, best=1.0)

    def _speed(self, labels: Sequence[str]) -> dict[str, Any]:
        """From the timing protocol where it ran, else from the trials that had their machine to themselves."""
        if self._alone is None:
            return columns("train_images_per_second", estimates.mean(self._rate.loc[list(labels)]))
        return {
            **self._alone.loc[list(labels)].mean(),
            "train_images_per_second_basis": "rounds",
            "train_images_per_second_seeds": 0,
        }

    def effect(self, cells: Sequence[Cell], against: Mapping[str, str]) -> estimates.Effect | None:
        """Difference to the cells with the levels ``against``, paired by seed and cell; None where there are none."""
        pairs = self.partners(cells, against)
        if not pairs:
            return None
        ones, others = zip(*pairs, strict=True)
        return self._effect(ones, others)

    def trains(self, cells: Sequence[Cell], against: Mapping[str, str]) -> Joined | None:
        """How often these cells train less how often the cells with the levels ``against`` do."""
        pairs = self.partners(cells, against)
        if not pairs:
            return None
        return share_contrast([self._trained.loc[list(labels)] for labels in zip(*pairs, strict=True)], [1, -1])

    def partners(self, cells: Sequence[Cell], against: Mapping[str, str]) -> list[tuple[str, str]]:
        """The labels of each cell and of the one that differs in the levels ``against``, where the plan has both."""
        partners = {cell.label: self._labels.get(frozenset((cell.levels | dict(against)).items())) for cell in cells}
        return [(one, other) for one, other in partners.items() if other is not None and other != one]

    def plain_difference(self, one: str, other: str) -> float:
        """Mean over the seeds at which both trained; NaN without any."""
        differences = self._test.loc[one].to_numpy(float) - self._test.loc[other].to_numpy(float)
        known = differences[np.isfinite(differences)]
        return float(known.mean()) if known.size else np.nan

    def interaction(self, first: tuple[str, str], second: tuple[str, str]) -> estimates.Estimate:
        """The difference of two cells less that of two others, of the trials that trained."""
        labels = [*first, *second]
        return self._sum(self._alike([self._arm([label]) for label in labels], labels), [1, -1, -1, 1])

    def between(self, one: str, other: str) -> estimates.Effect:
        """Difference of two cells, by label, paired by seed."""
        return self._effect([one], [other])

    def _effect(self, ones: Sequence[str], others: Sequence[str]) -> estimates.Effect:
        """Of the trials that trained, unless the grid says what the others count as; paired, unless it says not to."""
        arms = self._alike([self._arm(ones), self._arm(others)], [*ones, *others])
        effect = estimates.effect(*arms)
        if self._worth is None and self.plan.pair == "seed":
            return effect
        trained = [self._trained.loc[list(labels)].to_numpy() for labels in (ones, others)]
        counted: estimates.Estimated = self._sum(arms, [1, -1])
        if self._worth is not None:
            counted = self._counting(arms, trained, [1, -1])
        return replace(
            effect,
            estimate=counted,
            p=counted.p_value(),
            effect_size=np.nan,
            probability_a_wins=np.nan,
            identical=False,
        )

    def _sum(self, arms: Sequence[estimates.Arm], weights: Sequence[float]) -> estimates.Estimate:
        return (unpaired if self.plan.pair == "none" else estimates.contrast)(arms, weights)

    def _counting(
        self, arms: Sequence[estimates.Arm], trained: Sequence[np.ndarray], weights: Sequence[float]
    ) -> Joined:
        """The weighted sum of the arms' means with untrained trials at what the grid says that they count as."""
        assert self._worth is not None
        end = self.plan.primary.range[1 if self.plan.primary.sign >= 0 else 0]
        spread = unpaired if self.plan.pair == "none" else estimates.unmatched
        best = np.nan if end is None else float(end)
        return counting_untrained(arms, trained, weights, worth=self._worth, best=best, spread=spread)

    def _difference(self, cells: Sequence[Cell], against: Mapping[str, str]) -> dict[str, Any]:
        effect = self.effect(cells, against)
        if effect is None:
            return {**columns("difference", estimates.mean([])), "pairs": 0, "pairs_planned": 0}
        return {
            **columns("difference", effect.estimate, -1.0, 1.0),
            "pairs": effect.pairs,
            "pairs_planned": effect.pairs_planned,
        }

    def trains_in(self, hypothesis: Hypothesis) -> Joined:
        """How often the cells of each term train, weighted as the hypothesis does."""
        strata = hypothesis.strata({cell.label: cell.levels for cell in self.plan.cells})
        if not strata:
            return Joined((), 0)
        terms = [[label for stratum in strata for label in stratum[index]] for index in range(len(hypothesis.terms))]
        weights = [term.weight for term in hypothesis.terms]
        return share_contrast([self._trained.loc[labels] for labels in terms], weights)

    def contrast(self, hypothesis: Hypothesis) -> estimates.Estimate | Joined:
        """The weighted sum of means that a hypothesis is about, in the strata that have all of its terms.

        Of the trials that trained, but for what any trial tells; speeds are those of :func:`timed` trials. Where strata
        differ in the cells of a term, these are averaged first.
        """
        if hypothesis.metric == TRAINED.name:
            return self.trains_in(hypothesis)
        trained = self._ended[self._ended["trained"] == 1]
        judged = self._ended if hypothesis.metric in NOT_OF_TRAINED else trained
        ended = timed(self._ended) if hypothesis.metric in SPEEDS else judged
        matrix = self._matrix(ended, hypothesis.metric).astype(float)
        groups, weights = self._groups(hypothesis)
        if not groups:
            return estimates.mean([])
        bits = [self._examples(hypothesis.metric, labels) for labels in groups]
        arms = [estimates.Arm(matrix.loc[labels].to_numpy(), own) for labels, own in zip(groups, bits, strict=True)]
        if hypothesis.metric in EXACT:
            return estimates.exact(sum(w * np.asarray(arm.values, float) for arm, w in zip(arms, weights, strict=True)))
        arms = self._alike(arms, [label for labels in groups for label in labels])
        if hypothesis.metric == self.plan.primary.name and self._worth is not None:
            return self._counting(arms, [self._trained.loc[labels].to_numpy() for labels in groups], weights)
        return self._sum(arms, weights)

    def _groups(self, hypothesis: Hypothesis) -> tuple[list[list[str]], list[float]]:
        """Cells by group, a context each, and the groups' weights; where strata differ in a term's cells, one each."""
        strata = hypothesis.strata({cell.label: cell.levels for cell in self.plan.cells})
        groups: list[list[str]] = []
        weights: list[float] = []
        even = all(len({len(stratum[index]) for stratum in strata}) == 1 for index in range(len(hypothesis.terms)))
        for index, term in enumerate(hypothesis.terms if strata else ()):
            own = [stratum[index] for stratum in strata]
            if even:
                groups += [list(labels) for labels in zip(*own, strict=True)]
                weights += [term.weight / len(own[0])] * len(own[0])
                continue
            groups += [[label] for labels in own for label in labels]
            weights += [term.weight / len(own) / len(labels) for labels in own for _ in labels]
        return groups, weights

    def typical(self, metric: str) -> float:
        """Mean size of a measure over the trials compared."""
        return float(self._ended[metric].abs().mean())

    def _arm(self, labels: Sequence[str]) -> estimates.Arm:
        """Test accuracies of these cells (cells, seeds), and which images they got right (cells, seeds, images)."""
        return estimates.Arm(self._test.loc[list(labels)].to_numpy(), self._examples("test_accuracy", labels))

    def _examples(self, metric: str, labels: Sequence[str]) -> np.ndarray | None:
        """Which images of its split these cells got right (cells, seeds, images), where that is known of them all."""
        bits = {"test_accuracy": self._bits, "dev_accuracy": self._dev_bits}.get(metric)
        if bits is None or not self._share_images(labels):
            return None
        return _stacked([bits[label] for label in labels])

    def _alike(self, arms: Sequence[estimates.Arm], labels: Sequence[str]) -> list[estimates.Arm]:
        """The arms of these cells, without their bits where these are not of the same images."""
        sizes = {np.shape(arm.examples)[-1] for arm in arms if arm.examples is not None}
        alike = len(sizes) < 2 and self._share_images(labels)
        return list(arms) if alike else [estimates.Arm(arm.values) for arm in arms]

    def _share_images(self, labels: Sequence[str]) -> bool:
        """Whether these cells were tested on the same images, as far as it is recorded which."""
        return len(set().union(*(self._tested.get(label, set()) for label in labels))) < 2


def _bits(keys: Sequence[str], there: np.ndarray, correct: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Bits (seeds, images) of the trials ``keys``, the seeds that are ``there``; without any, of no image."""
    sizes = {len(correct[key]) if key in correct else 0 for key in keys}
    if len(sizes) > 1 or 0 in sizes:
        return None
    table = np.zeros((len(there), max(sizes, default=0)), bool)
    if keys:
        table[there] = [correct[key] for key in keys]
    return table


def _stacked(tables: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Bits of several cells (cells, seeds, images); None where a trial lacks them or has another number of them."""
    known = [table for table in tables if table is not None]
    sizes = {table.shape[1] for table in known} - {0}
    if len(known) < len(tables) or len(sizes) != 1:
        return None
    size = sizes.pop()
    return np.stack([table if table.shape[1] else np.zeros((len(table), size), bool) for table in known])


def columns(name: str, value: estimates.Estimated, least: float = -np.inf, greatest: float = np.inf) -> dict[str, Any]:
    """A row's columns of an estimate; its interval ends where values do, at ``least`` and ``greatest``."""
    low, high = value.interval()
    return {
        name: value.value,
        f"{name}_low": float(np.maximum(low, least)),
        f"{name}_high": float(np.minimum(high, greatest)),
        f"{name}_basis": value.basis,
        f"{name}_seeds": value.num_seeds,
    }


def sampled(*shown: pd.DataFrame) -> str:
    """What the intervals of test accuracy in these tables count, in words."""
    bases = {basis for table in shown for basis in table["test_accuracy_basis"]}
    if "seeds and test set" in bases:
        return "seeds and test images"
    return "test images alone" if "test set" in bases else "seeds"


def level_table(comparison: Comparison, factor: Factor) -> pd.DataFrame:
    """A row for each level of the factor: :meth:`Comparison.summary` against its baseline level, all else equal.

    A level whose cells are all those of another one, being the same experiments, has no row of its own.
    A factor that the baseline omits is compared with its first level. ``is_baseline`` marks the row of that level.
    """
    plan = comparison.plan
    baseline = plan.baseline.get(factor.name, factor.levels[0])
    rows = []
    for level, cells in comparable_cells(plan, factor).items():
        row = {"factor": factor.name, "level": level, "is_baseline": level == baseline}
        rows.append(row | comparison.summary(cells, {factor.name: baseline}))
    return pd.DataFrame(rows)


def comparable_cells(plan: Plan, factor: Factor) -> dict[str, list[Cell]]:
    """The cells of each level that has any, where the plan has all of these under the same levels of other factors.

    Where it nowhere has, each level has all of its cells.
    """
    by_others: dict[frozenset[tuple[str, str]], dict[str, Cell]] = {}
    for cell in plan.cells:
        if cell.levels.get(factor.name) in factor.levels:
            others = frozenset((name, level) for name, level in cell.levels.items() if name != factor.name)
            by_others.setdefault(others, {})[cell.levels[factor.name]] = cell
    levels = [level for level in factor.levels if any(level in cells for cells in by_others.values())]
    matched = [cells for cells in by_others.values() if len(cells) == len(levels)]
    return {level: [cells[level] for cells in matched or by_others.values() if level in cells] for level in levels}


def cell_table(comparison: Comparison) -> pd.DataFrame:
    """A row for each cell: :meth:`Comparison.summary` against the cell with the baseline's levels, all else equal."""
    plan = comparison.plan
    rows = []
    for cell in plan.cells:
        row = {"cell": cell.label, "is_baseline": plan.baseline.items() <= cell.levels.items()}
        rows.append(row | comparison.summary([cell], plan.baseline))
    return pd.DataFrame(rows)


def cell_standings(comparison: Comparison, cells: pd.DataFrame) -> list[Standing]:
    """Where each row of ``cells`` stands to the best of them; :func:`bench.stats.families.standings` says how."""
    labels = cells["cell"].tolist()

    def minus(one: int, other: int) -> estimates.Estimated:
        return comparison.between(labels[one], labels[other]).estimate

    return standings(cells["test_accuracy"].tolist(), minus, comparison.plan.margin)


def pareto(cells: pd.DataFrame, cost: str, *, low_is_good: bool) -> pd.DataFrame:
    """The cells that no other beats both in test accuracy and in ``cost``, from cheap to dear."""
    known = cells.dropna(subset=["test_accuracy", cost]).sort_values("test_accuracy", ascending=False)
    known = known.sort_values(cost, ascending=low_is_good, kind="stable")
    best_before = known["test_accuracy"].cummax().shift(fill_value=-np.inf)
    return known[known["test_accuracy"] > best_before]
