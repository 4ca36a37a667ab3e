"""The findings in a grid's records: the answer, effects and hypotheses with their verdicts, and their tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bench.analysis import summaries, verdicts
from bench.analysis.amounts import ratio_columns
from bench.analysis.anova import VarianceAnalysis, analyse_variance
from bench.analysis.answer import answer
from bench.analysis.audit import audit_recorded
from bench.analysis.comparison import Comparison
from bench.analysis.hypotheses import hypothesis_table
from bench.analysis.interactions import SimpleEffects, explain_average, simple_effects, without_pairs
from bench.analysis.learning import default_target, learning_table
from bench.analysis.own import example_cautions, own_cautions
from bench.analysis.scope import left_out, with_recorded_seeds
from bench.analysis.tables import cell_standings, cell_table, comparable_cells, level_table
from bench.grid.metrics import Metric
from bench.grid.plan import Plan
from bench.record import pool
from bench.record.asked import last_plan
from bench.record.records import Records, earlier_counts, with_todays_counts
from bench.record.staleness import find_stale
from bench.stats.estimates import Effect
from bench.stats.families import selected_level
from bench.stats.joined import Joined

MOST_ROWS = 3  # of curves and bits that cannot be read; beyond, how many there are


@dataclass(frozen=True)
class Secondary:
    """A metric that the grid asks about beside the primary: the effects on it, and its means by cell."""

    metric: Metric
    effects: pd.DataFrame
    cells: pd.DataFrame


@dataclass(frozen=True)
class Findings:
    """All that a report shows, as numbers and sentences. ``levels`` has a table per factor.

    ``others`` are further folders with results of the same grid, which are pooled with those of ``folder``.
    """

    folder: Path
    others: tuple[Path, ...]
    plan: Plan
    answer: str
    coverage: str
    cautions: tuple[str, ...]
    speed_cautions: tuple[str, ...]  # those of them that are about speeds alone
    effects: pd.DataFrame
    hypotheses: pd.DataFrame
    winners: pd.DataFrame
    levels: tuple[pd.DataFrame, ...]
    cells: pd.DataFrame
    learning: pd.DataFrame
    speeds: pd.DataFrame  # as timed alone, a row per machine and cell
    timed_on: str  # the machine whose speeds the other tables show; empty where none was timed
    machines: pd.DataFrame  # how trials agree that several folders hold
    trials: pd.DataFrame
    found: pd.DataFrame
    curves: pd.DataFrame
    seeds: pd.DataFrame
    variance: VarianceAnalysis | None  # None where too little varies
    secondary: tuple[Secondary, ...] = ()

    @property
    def target(self) -> Path:
        """The folder of the report: beside the records, or beside all grids where several folders are pooled."""
        return self.folder.parent / "report" / self.plan.name if self.others else self.folder / "report"


def gather(folder: Path, plan: Plan | None = None, *, others: Sequence[Path] = (), sources: bool = True) -> Findings:
    """Reads and judges what ``folder`` and ``others`` record; the plan is by default that of their ``grid.yaml``.

    Without ``sources`` nobody asks whether the source code that is here is that of the results.

    Raises :class:`bench.record.pool.PoolError` where they are not of one grid.
    """
    folders = [folder, *others]
    plan = plan or pool.union([last_plan(one) for one in folders], folders)
    records = pool.read(folders)
    timings = records.timings
    trials = with_todays_counts(records.trials) if plan.run is None else records.trials
    plan = with_recorded_seeds(summaries.tuned_as_recorded(plan, trials), trials)
    found, curves = summaries.outcomes(plan, trials, records.curves), summaries.with_watched(plan, records.curves)
    torn: list[str] = []
    examples = _examples(plan, folders, records, torn)
    comparison = Comparison(plan, found, examples, timings)
    secondary = [Comparison(plan, found, examples, timings, metric) for metric in plan.metrics[1:]]
    (effects,) = effect_tables([comparison])
    hypotheses = hypothesis_table(comparison)
    winners = winner_table(plan, trials)
    cells = _cells(plan, found, comparison)
    speed_cautions = summaries.speed_cautions(found, timings)
    said = [*left_out(plan, trials, found), *summaries.cautions(plan, found, trials), *speed_cautions]
    said += [*edge_cautions(winners), *(caution for caution in effects["without_pairs"] if caution)]
    said += [*audit_recorded(plan, found), *own_cautions(plan, found), *example_cautions(plan, found, examples)]
    said += [f"{where}; the file is left out" for where in list(dict.fromkeys(torn))[:MOST_ROWS]]
    said += _stale_cautions(plan, folders, records, sources)
    return Findings(
        folder=folder,
        others=tuple(others),
        plan=plan,
        answer=answer(plan.primary, hypotheses, effects),
        coverage=summaries.coverage_line(found),
        cautions=tuple(said),
        speed_cautions=tuple(speed_cautions),
        effects=effects,
        hypotheses=hypotheses,
        winners=winners,
        levels=tuple(level_table(comparison, factor) for factor in plan.factors),
        cells=cells,
        learning=learning_table(plan, found, curves, cells, default_target(plan, found, curves)),
        speeds=summaries.speed_table(plan, timings),
        timed_on=summaries.machine_names(timings).mode()[0] if len(timings) else "",
        machines=records.machines,
        trials=trials,
        found=found,
        curves=summaries.curve_table(plan, found, curves),
        seeds=summaries.seed_table(plan, found),
        variance=variance(plan, found),
        secondary=_secondary(plan, secondary),
    )


def _cells(plan: Plan, found: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """Makes the table of cells: what they reached, their place in the design, median and worst, and how they stand."""
    cells = cell_table(comparison).merge(summaries.layout(plan), on="cell")
    cells = cells.merge(summaries.extremes(plan, found), on="cell")
    return cells.assign(standing=cell_standings(comparison, cells))


def _stale_cautions(plan: Plan, folders: Sequence[Path], records: pool.Pool, sources: bool) -> list[str]:
    """Results on other data, rows that cannot be read, and results of other source code."""
    said = []
    if count := records.num_other_data:
        stale_data = f"{count} results on other data than the last run found are left out"
        said.append(f"{stale_data}; `bench run GRID --rerun stale` trains them again")
    said += [f"{where}; the row is left out" for where in records.unreadable[:MOST_ROWS]]
    if (more := len(records.unreadable) - MOST_ROWS) > 0:
        said.append(f"{more} further rows of curves.csv and correct.csv cannot be read, and are left out")
    if plan.run is None and (count := int(earlier_counts(records.trials).sum())):
        counted = f"{count} results are of an earlier version, which left multiply-accumulates on padding alone out"
        said.append(f"{counted}: its counts are not shown beside those of today")
    if not sources:
        return said
    stale = find_stale(plan, *(Records(one, plan.selecting) for one in folders))
    said += [f"{where}; the row is left out, and the next run trains its trial again" for where in stale.unreadable]
    if stale.changed:
        said.append(f"{stale}; `run --rerun stale` trains them again")
    return said


def _secondary(plan: Plan, comparisons: Sequence[Comparison]) -> tuple[Secondary, ...]:
    """The tables of the secondary metrics, whose effects are one family."""
    layout = summaries.layout(plan)
    return tuple(
        Secondary(one.metric, table, cell_table(one).merge(layout, on="cell"))
        for one, table in zip(comparisons, effect_tables(comparisons), strict=True)
    )


def _examples(
    plan: Plan, folders: Sequence[Path], records: pool.Pool, unreadable: list[str]
) -> dict[str, Mapping[str, np.ndarray]]:
    """Reads the outcomes of single test examples, by metric and trial: of accuracies the bits, else as recorded.

    ``unreadable`` gets the files that cannot be read, and why.
    """
    asked = {metric.name for metric in plan.metrics} | {hypothesis.metric for hypothesis in plan.hypotheses}
    found: dict[str, Mapping[str, np.ndarray]] = {"test_accuracy": records.correct}
    if "dev_accuracy" in asked:
        found["dev_accuracy"] = pool.dev_correct(folders, records)
    for name in sorted(asked - found.keys()):
        found[name] = pool.examples(folders, records, name, unreadable)
    return {name: known for name, known in found.items() if known}


def variance(plan: Plan, found: pd.DataFrame) -> VarianceAnalysis | None:
    """Analyses the variance of the primary metric over a full plan; None for others and where nothing differs.

    On a log scale it is that of the logarithms, and the means of cells are geometric.
    """
    metric = plan.primary
    levels = {cell.label: cell.levels for cell in plan.cells if len(cell.levels) == len(plan.factors)}
    table = found[found["compared"] & found["cell"].isin(list(levels))].copy()
    table[metric.name] = metric.compared(table[metric.name].where(table["trained"] == 1).to_numpy(float))
    names = [factor.name for factor in plan.factors]
    for name in names:
        table[name] = [levels[cell][name] for cell in table["cell"]]
    known = table.dropna(subset=metric.name)
    varies = any(known[name].nunique() > 1 for name in names)
    if plan.kind != "full" or not varies or known[metric.name].nunique() < 2:
        return None
    analysis = analyse_variance(table, metric.name, names)
    if analysis.cell_means is None or metric.scale == "linear":
        return analysis
    return replace(analysis, cell_means=analysis.cell_means.map(math.exp))


# --- effects --------------------------------------------------------------------------------------------------------


def effect_tables(comparisons: Sequence[Comparison]) -> list[pd.DataFrame]:
    """Makes for each metric that is compared a table of its effects, with verdicts; all together are one family.

    How often trials train is asked once, beside the primary metric. ``detectable`` is the difference that would show
    with 80 % power; ``seeds_for_margin`` is NaN where decided or endless.
    """
    found = [_Effect(one, *effect) for one in comparisons for effect in _effects(one)]
    metrics = [one.comparison.metric for one in found]
    asked = [one.trains if one.comparison.metric == one.comparison.plan.primary else None for one in found]
    judged = verdicts.judge_effects([one.effect for one in found], metrics, trained=asked)
    picked = selected_level(max(1, sum(item.overall in verdicts.DECIDED for item in judged)), len(judged))
    rows = [one.name | _effect_row(item, picked) | one.simple_row() for one, item in zip(found, judged, strict=True)]
    tables = []
    for comparison in comparisons:
        own = [row for row, one in zip(rows, found, strict=True) if one.comparison is comparison]
        table = pd.DataFrame(own, columns=[*EFFECT_NAMES, *EFFECT_NUMBERS, *ratio_columns(comparison.metric)])
        tables.append(table.assign(sentence=table["sentence"] + table["average"]))
    return tables


@dataclass(frozen=True)
class _Effect:
    """A level that has partners at the baseline's level of its factor: its difference, and how often both train."""

    comparison: Comparison
    name: dict[str, str]
    effect: Effect
    trains: Joined | None
    simple: SimpleEffects

    def simple_row(self) -> dict[str, object]:
        return {
            "simple_low": self.simple.low,
            "simple_high": self.simple.high,
            "simple_differ": self.simple.differ,
            "contexts": self.simple.total,
            "contexts_known": self.simple.total - len(self.simple.without),
            "average": explain_average(self.simple, self.comparison.metric),
            "without_pairs": "; ".join(without_pairs(f"{self.name['factor']}={self.name['level']}", self.simple)),
        }


def _effects(comparison: Comparison) -> Iterator[tuple[dict[str, str], Effect, Joined | None, SimpleEffects]]:
    plan = comparison.plan
    for factor in plan.factors:
        baseline = plan.baseline.get(factor.name, factor.levels[0])
        against = {factor.name: baseline}
        for level, cells in comparable_cells(plan, factor).items():
            effect = comparison.effect(cells, against) if level != baseline else None
            if effect is not None:
                name = {"factor": factor.name, "level": level, "against": baseline}
                yield name, effect, comparison.trains(cells, against), simple_effects(comparison, cells, against)


EFFECT_NAMES = ["factor", "level", "against"]
EFFECT_NUMBERS = [
    *("difference", "difference_low", "difference_high", "p", "p_holm", "verdict", "sentence", "detectable"),
    *("seeds_for_margin", "effect_size", "probability_wins", "seeds", "pairs", "pairs_planned", "basis"),
    *("trained_difference", "trained_p_holm", "trained_verdict", "trains", "trained_counts", "overall"),
    *("picked_level", "picked_low", "picked_high"),
    *("simple_low", "simple_high", "simple_differ", "contexts", "contexts_known"),
    *("average", "without_pairs"),
]


def _effect_row(item: verdicts.JudgedEffect, level: float) -> dict[str, object]:
    effect, estimate = item.effect, item.effect.estimate
    picked, ends = estimate.interval(level), (estimate.value, estimate.low, estimate.high)
    ratios = {name: float(np.exp(end)) for name, end in zip(ratio_columns(item.metric), ends, strict=False)}
    return ratios | {
        "difference": estimate.value,
        "difference_low": estimate.low,
        "difference_high": estimate.high,
        "p": effect.p,
        "p_holm": item.p_holm,
        "verdict": item.verdict,
        "sentence": verdicts.explain(item),
        "detectable": item.detectable,
        "seeds_for_margin": math.nan if item.seeds_for_margin is None else item.seeds_for_margin,
        "effect_size": effect.effect_size,
        "probability_wins": effect.probability_a_wins,
        "seeds": estimate.num_seeds,
        "pairs": effect.pairs,
        "pairs_planned": effect.pairs_planned,
        "basis": estimate.basis,
        "trained_difference": item.trained.value if item.trained else math.nan,
        "trained_p_holm": item.p_trained_holm,
        "trained_verdict": item.trained_verdict,
        "trains": verdicts.explain_training(item),
        "trained_counts": verdicts.trained_counts(item),
        "overall": item.overall,
        "picked_level": 100 * level,
        "picked_low": picked[0],
        "picked_high": picked[1],
    }


# --- tuned settings -------------------------------------------------------------------------------------------------


def winner_table(plan: Plan, trials: pd.DataFrame) -> pd.DataFrame:
    """Makes a row per cell and tuned setting: the candidate that won on dev, and whether it ends the list."""
    if not plan.tune:
        return pd.DataFrame(columns=["cell", "setting", "winner", "at_edge"])
    rows = [
        {"cell": label, "setting": name, "winner": value, "at_edge": _at_edge(value, plan.tune[name])}
        for label, trial in plan.winners(summaries.selecting_scores(plan, trials)).items()
        for name, value in trial.tuned.items()
        if name in plan.tune
    ]
    return pd.DataFrame(rows, columns=["cell", "setting", "winner", "at_edge"])


def _at_edge(value: object, candidates: Sequence[object]) -> bool:
    numbers = [float(str(c)) for c in candidates if summaries.is_number(str(c))]
    ordered = len(numbers) == len(candidates) > 1
    return ordered and float(str(value)) in (min(numbers), max(numbers))


def edge_cautions(winners: pd.DataFrame) -> list[str]:
    """Warns that a better value may lie beyond the candidates where the winner is the first or last of them."""
    edge = winners[winners["at_edge"].astype(bool)]
    return [
        f"{setting}: the winner is at the edge of the candidates in {len(rows)} of "
        f"{(winners['setting'] == setting).sum()} cells ({', '.join(rows['cell'].head(3))}"
        f"{', ...' if len(rows) > 3 else ''}); a wider list may do better"
        for setting, rows in edge.groupby("setting", sort=False)
    ]
