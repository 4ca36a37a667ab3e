"""The results of a grid by seed and cell, and the tables that sum them up: estimates with intervals, by level and cell.

Means and differences are over the trials that trained (:mod:`bench.analysis.trained`), and how often trials train
stands beside them: two questions. The replicates are the seeds; where a level spans several cells these weigh the same.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis import amounts, summaries
from bench.analysis.estimate_columns import columns, value_columns
from bench.analysis.own import own_outcomes
from bench.analysis.summaries import timed, timed_alone
from bench.grid.hypotheses import Hypothesis
from bench.grid.metrics import TRAINED, Metric, MetricError
from bench.grid.plan import Cell, Plan
from bench.record.status import NOT_ENDED, Status
from bench.stats import estimates
from bench.stats.joined import Joined, counting_untrained, share_contrast
from bench.stats.unpaired import unpaired
from lab.settings import num_classes

SPEEDS = {"train_images_per_second", "eval_images_per_second", "train_seconds", "total_seconds"}
EXACT = {"parameters", "forward_macs", "steps", "epochs"}  # what no seed changes
NOT_OF_TRAINED = SPEEDS | EXACT | {"peak_memory_bytes"}  # what a trial tells whether or not it trained


class Comparison:
    """The results of a grid in one metric by seed and cell, to be summed up over any of its cells.

    ``found`` is of :func:`bench.analysis.summaries.outcomes`. ``examples`` holds by metric, for each trial, the outcome
    of every example: right or wrong for accuracies, else numbers whose mean is the trial's; where all trials of a
    comparison have theirs, its intervals count the test set beside the seeds. ``metric`` is by default the primary.
    Raises MetricError, which names the trial, where a value on a log scale is not positive.
    """

    def __init__(
        self,
        plan: Plan,
        found: pd.DataFrame,
        examples: Mapping[str, Mapping[str, np.ndarray]] | None = None,
        timings: pd.DataFrame | None = None,
        metric: Metric | None = None,
    ) -> None:
        self.plan, self.metric = plan, metric or plan.primary
        self._found = found
        self._ended = found[found["compared"] & (found["status"] == Status.OK)]
        self._labels = {frozenset(cell.levels.items()): cell.label for cell in plan.cells}
        self._trained = self._matrix(found[found["compared"]], "trained")
        self._values = self._results(self.metric)
        self._first_epoch = summaries.first_epoch(plan, self.metric)
        self._rate = self._matrix(timed(self._ended), "train_images_per_second")
        self._alone = timed_alone(plan, timings) if timings is not None and len(timings) else None
        classes = {num_classes(trial.lab.data) for trial in plan.trials if plan.run is None}
        known = next(iter(classes)) if len(classes) == 1 else None
        self._chance = 1 / known if known else None
        counts_as = self._chance if plan.untrained == "chance" else plan.untrained
        self._worth = None if isinstance(counts_as, str) or counts_as is None else self._compared(counts_as)
        self._examples_of = {name: self._by_cell(name, found) for name, found in (examples or {}).items()}
        self._tested = {
            cell: set(own) - {""} for cell, own in self._ended["test_digest"].dropna().groupby(self._ended["cell"])
        }

    def _matrix(self, ended: pd.DataFrame, measure: str) -> pd.DataFrame:
        """Returns a table of cells (rows) by seeds (columns); NaN where there is no result."""
        matrix = ended.pivot(index="cell", columns="seed", values=measure)
        return matrix.reindex(
            index=[cell.label for cell in self.plan.cells], columns=sorted(self._found["seed"].unique())
        )

    def _results(self, metric: Metric) -> pd.DataFrame:
        """Lays a metric out by cell and seed on the scale of comparing; of trials that trained, but for what any tells.

        Speeds are those of :func:`timed` trials.
        """
        ended = timed(self._ended) if metric.name in SPEEDS else self._ended
        if metric.name not in NOT_OF_TRAINED:
            ended = ended[ended["trained"] == 1]
        values = ended[metric.name].astype(float)
        if metric.scale == "log" and (values <= 0).any():
            row = ended.loc[values <= 0].iloc[0]
            rule = f"{metric.name}: a value on a log scale must be > 0, got {row[metric.name]:g}"
            raise MetricError(f"trial {row['trial_id']} ({row['cell']}, seed {row['seed']}): {rule}")
        return self._matrix(ended.assign(**{metric.name: metric.compared(values.to_numpy())}), metric.name)

    def _compared(self, value: float) -> float:
        return float(self.metric.compared(np.array([value]))[0])

    def _by_cell(self, name: str, outcomes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray | None]:
        """Stacks outcomes per cell (seeds, examples), 0 where nothing trained; None if a trained trial lacks its own.

        They are those of :func:`bench.stats.ratios.outcomes_of`.
        """
        trained = self._ended[self._ended["trained"] == 1]
        known = own_outcomes(self.plan.measures[name], trained, outcomes)
        trials = trained.pivot(index="cell", columns="seed", values="trial_id").reindex_like(self._trained)
        return {
            str(cell): _outcomes(row.dropna().tolist(), row.notna().to_numpy(), known)
            for cell, row in trials.iterrows()
        }

    def summary(self, cells: Sequence[Cell], against: Mapping[str, str]) -> dict[str, Any]:
        """Gives counts, means, intervals, and difference to ``against`` (factor levels), paired by seed and cell."""
        labels = [cell.label for cell in cells]
        statuses = sum((self._statuses.get(label, Counter()) for label in labels), Counter[str]())
        further = sum(self._further.get(label, 0) for label in labels)
        return {
            "n": statuses[Status.OK],
            "planned": len(labels) * len(self.plan.seeds) + further,
            "diverged": statuses[Status.DIVERGED],
            "failed": sum(
                count for status, count in statuses.items() if status not in {Status.OK, Status.DIVERGED} | NOT_ENDED
            ),
            **self._share(labels),
            **columns("with_untrained", self._with_untrained(labels), 0.0, 1.0),
            **value_columns(self.metric, self._mean(labels)),
            **self._difference(cells, against),
            **self._first(labels),
            **({} if self.metric.name == "train_images_per_second" else self._speed(labels)),
            **self._sizes(labels),
        }

    def _sizes(self, labels: Sequence[str]) -> dict[str, Any]:
        """Returns the least and the most parameters and multiply-accumulates of the cells."""
        ends: dict[str, Any] = {}
        for name in ("parameters", "forward_macs"):
            if name != self.metric.name:
                known = [self._size_ends[name, label] for label in labels if (name, label) in self._size_ends]
                least, most = ([one[end] for one in known] for end in (0, 1))
                ends |= {f"{name}_low": min(least, default=np.nan), f"{name}_high": max(most, default=np.nan)}
        return ends

    def _first(self, labels: Sequence[str]) -> dict[str, Any]:
        """Summarises dev after one epoch, of all trials that ended well."""
        if self._first_epoch is None:
            return {}
        return value_columns(self._first_epoch, estimates.mean(self._first_values.loc[list(labels)]))

    @functools.cached_property
    def _first_values(self) -> pd.DataFrame:
        """Lays dev after one epoch out by cell and seed, on the scale of comparing."""
        assert self._first_epoch is not None
        numbers = summaries.positive(self._first_epoch, self._ended[self._first_epoch.name])
        return self._matrix(self._ended.assign(compared_=numbers), "compared_")

    @functools.cached_property
    def _statuses(self) -> dict[str, Counter[str]]:
        """Counts the trials of each cell that are compared, by status."""
        found = self._found[self._found["compared"]]
        return {str(cell): Counter(own) for cell, own in found["status"].groupby(found["cell"])}

    @functools.cached_property
    def _further(self) -> dict[str, int]:
        """Counts those of them on seeds that were not asked for."""
        found = self._found[self._found["compared"] & self._found["seed"].isin(self.plan.further_seeds)]
        return {str(cell): int(count) for cell, count in found["cell"].value_counts().items()}

    @functools.cached_property
    def _size_ends(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Finds the least and the most parameters and multiply-accumulates of each cell in which they are known."""
        known: dict[tuple[str, str], tuple[float, float]] = {}
        for name in ("parameters", "forward_macs"):
            own = self._ended[name].dropna().astype(float).groupby(self._ended["cell"]).agg(["min", "max"])
            known |= {(name, str(cell)): (float(least), float(most)) for cell, least, most in own.itertuples()}
        return known

    def _share(self, labels: Sequence[str]) -> dict[str, Any]:
        """Counts the trials that trained, of those that had a result; gives the share with its exact interval."""
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
        variants = [self._variant(labels)]
        if self.metric.name in EXACT:
            return estimates.exact(variants[0].values)
        if self._worth is None:
            return estimates.contrast(variants, [1])
        return self._counting(variants, [self._trained.loc[list(labels)].to_numpy()], [1])

    def _with_untrained(self, labels: Sequence[str]) -> Joined:
        """Returns the mean with untrained trials at chance; nothing where chance is unknown."""
        if self._chance is None or self.metric.name != "test_accuracy":
            return Joined((), 0)
        trained = self._trained.loc[list(labels)].to_numpy()
        return counting_untrained([self._variant(labels)], [trained], [1], worth=self._chance, best=1.0)

    def _speed(self, labels: Sequence[str]) -> dict[str, Any]:
        """Takes speeds from the timing protocol where it ran, else from trials that had their machine to themselves."""
        if self._alone is None:
            return columns("train_images_per_second", estimates.mean(self._rate.loc[list(labels)]))
        return {
            **self._alone.loc[list(labels)].mean(),
            "train_images_per_second_basis": "rounds",
            "train_images_per_second_seeds": 0,
        }

    def effect(self, cells: Sequence[Cell], against: Mapping[str, str]) -> estimates.Effect | None:
        """Estimates the difference to cells with the levels ``against``, paired by seed and cell; None without any."""
        pairs = self.partners(cells, against)
        if not pairs:
            return None
        ones, others = zip(*pairs, strict=True)
        return self._effect(ones, others)

    def trains(self, cells: Sequence[Cell], against: Mapping[str, str]) -> Joined | None:
        """Estimates how often these cells train less how often the cells with the levels ``against`` do."""
        pairs = self.partners(cells, against)
        if not pairs:
            return None
        return share_contrast([self._trained.loc[list(labels)] for labels in zip(*pairs, strict=True)], [1, -1])

    def partners(self, cells: Sequence[Cell], against: Mapping[str, str]) -> list[tuple[str, str]]:
        """Pairs the labels of each cell and of the one that differs in the levels ``against``, if the plan has both."""
        partners = {cell.label: self._labels.get(frozenset((cell.levels | dict(against)).items())) for cell in cells}
        return [(one, other) for one, other in partners.items() if other is not None and other != one]

    def plain_difference(self, one: str, other: str) -> float:
        """Returns the mean over the seeds at which both trained; NaN without any."""
        differences = self._values.loc[one].to_numpy(float) - self._values.loc[other].to_numpy(float)
        known = differences[np.isfinite(differences)]
        return float(known.mean()) if known.size else np.nan

    def interaction(self, first: tuple[str, str], second: tuple[str, str]) -> estimates.Estimate:
        """Returns the difference of two cells less that of two others, of the trials that trained."""
        labels = [*first, *second]
        return self._sum(self._alike([self._variant([label]) for label in labels], labels), [1, -1, -1, 1])

    def between(self, one: str, other: str) -> estimates.Effect:
        """Returns the difference of two cells, by label, paired by seed."""
        return self._effect([one], [other])

    def _effect(self, ones: Sequence[str], others: Sequence[str]) -> estimates.Effect:
        """Compares trials that trained, unless the grid says what others count as; paired, unless it says not to."""
        variants = self._alike([self._variant(ones), self._variant(others)], [*ones, *others])
        effect = estimates.effect(*variants)
        if self.metric.name in EXACT:
            difference = estimates.exact(np.asarray(variants[0].values, float) - np.asarray(variants[1].values, float))
            return replace(effect, estimate=difference, p=difference.p_value())
        if self._worth is None and self.plan.pair == "seed":
            return effect
        trained = [self._trained.loc[list(labels)].to_numpy() for labels in (ones, others)]
        counted: estimates.Estimated = self._sum(variants, [1, -1])
        if self._worth is not None:
            counted = self._counting(variants, trained, [1, -1])
        return replace(
            effect,
            estimate=counted,
            p=counted.p_value(),
            effect_size=np.nan,
            probability_a_wins=np.nan,
            identical=False,
        )

    def _sum(self, variants: Sequence[estimates.Variant], weights: Sequence[float]) -> estimates.Estimate:
        return (unpaired if self.plan.pair == "none" else estimates.contrast)(variants, weights)

    def _counting(
        self, variants: Sequence[estimates.Variant], trained: Sequence[np.ndarray], weights: Sequence[float]
    ) -> Joined:
        """Estimates a weighted sum of means with untrained trials at what the grid says that they count as."""
        assert self._worth is not None
        end = self.metric.range[1 if self.metric.sign >= 0 else 0]
        spread = unpaired if self.plan.pair == "none" else estimates.unmatched
        best = np.nan if end is None or (self.metric.scale == "log" and end <= 0) else self._compared(end)
        return counting_untrained(variants, trained, weights, worth=self._worth, best=best, spread=spread)

    def _difference(self, cells: Sequence[Cell], against: Mapping[str, str]) -> dict[str, Any]:
        effect = self.effect(cells, against)
        if effect is None:
            return {**self.difference_columns(estimates.mean([])), "pairs": 0, "pairs_planned": 0}
        pairs = {"pairs": effect.pairs, "pairs_planned": effect.pairs_planned}
        return self.difference_columns(effect.estimate) | pairs

    def difference_columns(self, difference: estimates.Estimated) -> dict[str, Any]:
        """Makes a row's columns of a difference; on a log scale it is the log ratio, and the ratio stands beside it."""
        low, high = self.metric.range
        bounded = low is not None and high is not None and self.metric.scale == "linear"
        widest = high - low if bounded and low is not None and high is not None else np.inf
        row = columns("difference", difference, -widest, widest)
        ends = [row[f"difference{end}"] for end in ("", "_low", "_high")]
        return row | dict(zip(amounts.ratio_columns(self.metric), map(float, np.exp(ends)), strict=False))

    def trains_in(self, hypothesis: Hypothesis) -> Joined:
        """Estimates how often the cells of each term train, weighted as the hypothesis does."""
        strata = hypothesis.strata({cell.label: cell.levels for cell in self.plan.cells})
        if not strata:
            return Joined((), 0)
        terms = [[label for stratum in strata for label in stratum[index]] for index in range(len(hypothesis.terms))]
        weights = [term.weight for term in hypothesis.terms]
        return share_contrast([self._trained.loc[labels] for labels in terms], weights)

    def contrast(self, hypothesis: Hypothesis) -> estimates.Estimate | Joined:
        """Returns the weighted sum of means that a hypothesis is about, in the strata that have all of its terms.

        Of the trials that trained, but for what any trial tells; speeds are those of :func:`timed` trials. Where strata
        differ in the cells of a term, these are averaged first.
        """
        if hypothesis.metric == TRAINED.name:
            return self.trains_in(hypothesis)
        matrix = self._results(self.scaled(hypothesis))
        groups, weights = self._groups(hypothesis)
        if not groups:
            return estimates.mean([])
        alike = self.scaled(hypothesis) == self.plan.measures[hypothesis.metric]
        known = [self._examples(hypothesis.metric, labels) if alike else None for labels in groups]
        variants = [
            estimates.Variant(matrix.loc[labels].to_numpy(), own) for labels, own in zip(groups, known, strict=True)
        ]
        if hypothesis.metric in EXACT:
            return estimates.exact(
                sum(w * np.asarray(variant.values, float) for variant, w in zip(variants, weights, strict=True))
            )
        variants = self._alike(variants, [label for labels in groups for label in labels])
        if hypothesis.metric == self.plan.primary.name and self._worth is not None:
            return self._counting(variants, [self._trained.loc[labels].to_numpy() for labels in groups], weights)
        return self._sum(variants, weights)

    def scaled(self, hypothesis: Hypothesis) -> Metric:
        """Finds the metric of a hypothesis; linear if differences are compared with a number, and for exact counts."""
        metric = self.plan.measures[hypothesis.metric]
        in_units = len(hypothesis.terms) > 1 and hypothesis.bound != 0
        return replace(metric, scale="linear", margin=None) if in_units or metric.name in EXACT else metric

    def _groups(self, hypothesis: Hypothesis) -> tuple[list[list[str]], list[float]]:
        """Groups cells, a context each, and weighs the groups; where strata differ in a term's cells, one each."""
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
        """Returns the mean size of a measure over the trials compared."""
        return float(self._ended[metric].abs().mean())

    def _variant(self, labels: Sequence[str]) -> estimates.Variant:
        """Results of these cells (cells, seeds), and the outcome of each example (cells, seeds, examples)."""
        return estimates.Variant(self._values.loc[list(labels)].to_numpy(), self._examples(self.metric.name, labels))

    def _examples(self, metric: str, labels: Sequence[str]) -> np.ndarray | None:
        """Finds the outcomes of single examples (cells, seeds, examples), where all of these cells have them."""
        known = self._examples_of.get(metric)
        if known is None or not self._share_images(labels):
            return None
        return _stacked([known[label] for label in labels])

    def _alike(self, variants: Sequence[estimates.Variant], labels: Sequence[str]) -> list[estimates.Variant]:
        """Returns the variants of these cells, without their bits where these are not of the same images."""
        sizes = {np.shape(variant.examples)[-1] for variant in variants if variant.examples is not None}
        alike = len(sizes) < 2 and self._share_images(labels)
        return list(variants) if alike else [estimates.Variant(variant.values) for variant in variants]

    def _share_images(self, labels: Sequence[str]) -> bool:
        """Tells whether these cells were tested on the same images, as far as it is recorded which."""
        return len(set().union(*(self._tested.get(label, set()) for label in labels))) < 2


def _outcomes(keys: Sequence[str], there: np.ndarray, known: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Outcomes (seeds, examples) of the trials ``keys``, the seeds that are ``there``; without any, of no example."""
    sizes = {len(known[key]) if key in known else 0 for key in keys}
    if len(sizes) > 1 or 0 in sizes:
        return None
    binary = not keys or known[keys[0]].dtype == np.dtype(bool)
    table = np.zeros((len(there), max(sizes, default=0)), bool if binary else float)
    if keys:
        table[there] = [known[key] for key in keys]
    return table


def _stacked(tables: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Outcomes of several cells (cells, seeds, examples); None where a trial lacks them or has another number."""
    known = [table for table in tables if table is not None]
    sizes = {table.shape[1] for table in known} - {0}
    if len(known) < len(tables) or len(sizes) != 1:
        return None
    size, kind = sizes.pop(), np.result_type(*(table for table in known if table.shape[1]))
    return np.stack([table if table.shape[1] else np.zeros((len(table), size), kind) for table in known])
