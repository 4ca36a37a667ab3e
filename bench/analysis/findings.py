"""What a grid's records say: the answer, effects and hypotheses with their verdicts, beside the tables they rest on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.analysis import summaries, verdicts
from bench.analysis.anova import VarianceAnalysis, analyse_variance
from bench.analysis.answer import answer
from bench.analysis.audit import audit_recorded
from bench.analysis.comparison import (
    NOT_OF_TRAINED,
    SPEEDS,
    Comparison,
    cell_standings,
    cell_table,
    comparable_cells,
    level_table,
)
from bench.analysis.interactions import SimpleEffects, explain_average, simple_effects, without_pairs
from bench.analysis.learning import default_target, learning_table
from bench.analysis.scope import left_out, with_recorded_seeds
from bench.analysis.verdicts import p_both, significant
from bench.grid.hypotheses import Hypothesis
from bench.grid.metrics import TRAINED
from bench.grid.plan import Plan
from bench.record import pool
from bench.record.asked import last_plan
from bench.record.records import Records
from bench.record.staleness import find_stale
from bench.stats.families import selected_level
from bench.stats.joined import Joined


@dataclass(frozen=True)
class Findings:
    """All that a report shows, as numbers and sentences. ``levels`` has a table a factor.

    ``others`` are further folders with results of the same grid, which are pooled with those of ``folder``.
    """

    folder: Path
    others: tuple[Path, ...]
    plan: Plan
    answer: str
    coverage: str
    cautions: tuple[str, ...]
    effects: pd.DataFrame
    hypotheses: pd.DataFrame
    winners: pd.DataFrame
    levels: tuple[pd.DataFrame, ...]
    cells: pd.DataFrame
    learning: pd.DataFrame
    speeds: pd.DataFrame  # as timed alone, a row a machine and cell
    timed_on: str  # the machine whose speeds the other tables show; empty where none was timed
    machines: pd.DataFrame  # how trials agree that several folders hold
    trials: pd.DataFrame
    found: pd.DataFrame
    curves: pd.DataFrame
    seeds: pd.DataFrame
    variance: VarianceAnalysis | None  # None where too little varies

    @property
    def target(self) -> Path:
        """Where the report is written: beside the records, or beside all grids where several folders are pooled."""
        return self.folder.parent / "report" / self.plan.name if self.others else self.folder / "report"


def gather(folder: Path, plan: Plan | None = None, *, others: Sequence[Path] = ()) -> Findings:
    """Reads and judges what ``folder`` and ``others`` record; the plan is by default that of their ``grid.yaml``.

    Raises :class:`bench.record.pool.PoolError` where they are not of one grid.
    """
    folders = [folder, *others]
    plan = plan or pool.union([last_plan(one) for one in folders], folders)
    records = pool.read(folders)
    trials, timings = records.trials, records.timings
    plan = with_recorded_seeds(summaries.tuned_as_recorded(plan, trials), trials)
    found = summaries.outcomes(plan, trials, records.curves)
    on_dev = any(hypothesis.metric == "dev_accuracy" for hypothesis in plan.hypotheses)
    dev_correct = pool.dev_correct(folders, records) if on_dev else {}
    comparison = Comparison(plan, found, records.correct, timings, dev_correct)
    effects, hypotheses = effect_table(comparison), hypothesis_table(comparison)
    winners = winner_table(plan, trials)
    cells = cell_table(comparison).merge(summaries.layout(plan), on="cell")
    standing = cell_standings(comparison, cells)
    said = [*left_out(plan, trials, found), *summaries.cautions(plan, found, trials, timings), *edge_cautions(winners)]
    said += [caution for caution in effects["without_pairs"] if caution]
    said += audit_recorded(plan, found)
    if count := records.num_other_data:
        stale_data = f"{count} results on other data than the last run found are left out"
        said.append(f"{stale_data}; python -m bench run GRID --stale reruns them")
    stale = find_stale(plan, *(Records(one, plan.selecting) for one in folders))
    said += [f"{where}; the row is left out, and the next run trains its trial again" for where in stale.unreadable]
    if stale.changed:
        said.append(f"{stale}; run again with --stale")
    return Findings(
        folder=folder,
        others=tuple(others),
        plan=plan,
        answer=answer(hypotheses, effects),
        coverage=summaries.coverage_line(found),
        cautions=tuple(said),
        effects=effects,
        hypotheses=hypotheses,
        winners=winners,
        levels=tuple(level_table(comparison, factor) for factor in plan.factors),
        cells=cells.assign(standing=standing),
        learning=learning_table(plan, found, records.curves, cells, default_target(plan, found)),
        speeds=summaries.speed_table(plan, timings),
        timed_on=summaries.machine_names(timings).mode()[0] if len(timings) else "",
        machines=records.machines,
        trials=trials,
        found=found,
        curves=summaries.curve_table(found, records.curves),
        seeds=summaries.seed_table(found),
        variance=variance(plan, found),
    )


def variance(plan: Plan, found: pd.DataFrame) -> VarianceAnalysis | None:
    """The analysis of variance of test accuracy over a full plan; None for other plans and where nothing differs."""
    levels = {cell.label: cell.levels for cell in plan.cells if len(cell.levels) == len(plan.factors)}
    table = found[found["compared"] & found["cell"].isin(list(levels))].copy()
    table["test_accuracy"] = table["test_accuracy"].where(table["trained"] == 1)
    names = [factor.name for factor in plan.factors]
    for name in names:
        table[name] = [levels[cell][name] for cell in table["cell"]]
    known = table.dropna(subset="test_accuracy")
    varies = any(known[name].nunique() > 1 for name in names)
    if plan.kind != "full" or not varies or known["test_accuracy"].nunique() < 2:
        return None
    return analyse_variance(table, "test_accuracy", names)


# --- effects --------------------------------------------------------------------------------------------------------


def effect_table(comparison: Comparison) -> pd.DataFrame:
    """A row for each level that is compared: its difference to the baseline's level, and the verdict of the family.

    ``detectable`` is the difference that would show with 80 % power; ``seeds_for_margin`` is NaN where
    decided or endless.
    """
    plan = comparison.plan
    names, effects, trains, simple = [], [], [], []
    for factor in plan.factors:
        baseline = plan.baseline.get(factor.name, factor.levels[0])
        for level, cells in comparable_cells(plan, factor).items():
            effect = comparison.effect(cells, {factor.name: baseline}) if level != baseline else None
            if effect is not None:
                names.append({"factor": factor.name, "level": level, "against": baseline})
                effects.append(effect)
                trains.append(comparison.trains(cells, {factor.name: baseline}))
                simple.append(simple_effects(comparison, cells, {factor.name: baseline}))
    judged = verdicts.compare(effects, trained=trains, margin=plan.margin)
    num_decided = sum(item.overall in ("better", "worse") for item in judged)
    picked = selected_level(max(1, num_decided), len(judged))
    rows = [
        name | _effect_row(item, picked) | _simple_row(f"{name['factor']}={name['level']}", one)
        for name, item, one in zip(names, judged, simple, strict=True)
    ]
    table = pd.DataFrame(rows, columns=[*EFFECT_NAMES, *EFFECT_NUMBERS])
    return table.assign(sentence=table["sentence"] + table["average"])


def _simple_row(name: str, simple: SimpleEffects) -> dict[str, object]:
    return {
        "simple_low": simple.low,
        "simple_high": simple.high,
        "simple_differ": simple.differ,
        "average": explain_average(simple),
        "without_pairs": "; ".join(without_pairs(name, simple)),
    }


EFFECT_NAMES = ["factor", "level", "against"]
EFFECT_NUMBERS = [
    *("difference", "difference_low", "difference_high", "p", "p_holm", "verdict", "sentence", "detectable"),
    *("seeds_for_margin", "effect_size", "probability_wins", "seeds", "pairs", "pairs_planned", "basis"),
    *("trained_difference", "trained_p_holm", "trained_verdict", "trains", "overall"),
    *("picked_level", "picked_low", "picked_high"),
    *("simple_low", "simple_high", "simple_differ", "average", "without_pairs"),
]


def _effect_row(item: verdicts.Comparison, level: float) -> dict[str, object]:
    effect, estimate = item.effect, item.effect.estimate
    picked = estimate.interval(level)
    return {
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
        "overall": item.overall,
        "picked_level": 100 * level,
        "picked_low": picked[0],
        "picked_high": picked[1],
    }


# --- hypotheses -----------------------------------------------------------------------------------------------------


def hypothesis_table(comparison: Comparison) -> pd.DataFrame:
    """A row a hypothesis: ``ruling`` (supported, refuted, undecided), the estimate it rests on, and that in words."""
    plan = comparison.plan
    claims = []
    for hypothesis in plan.hypotheses:
        estimate, margin = comparison.contrast(hypothesis), _margin(comparison, hypothesis)
        claims.append(verdicts.Claim(estimate, hypothesis.relation, hypothesis.bound, margin))
    rows = [
        {
            "hypothesis": hypothesis.text,
            "ruling": item.ruling,
            "evidence": evidence(hypothesis.metric, item, is_difference=len(hypothesis.terms) > 1)
            + _training(comparison, hypothesis),
            "metric": hypothesis.metric,
            "estimate": item.claim.estimate.value,
            "low": item.claim.estimate.low,
            "high": item.claim.estimate.high,
            "p": item.p,
            "p_holm": item.p_holm,
        }
        for hypothesis, item in zip(plan.hypotheses, verdicts.judge(claims), strict=True)
    ]
    return pd.DataFrame(
        rows, columns=["hypothesis", "ruling", "evidence", "metric", "estimate", "low", "high", "p", "p_holm"]
    )


def _margin(comparison: Comparison, hypothesis: Hypothesis) -> float | None:
    """Within which sides are equal; None against a number, where being above it by little is being above it."""
    if hypothesis.relation != "~" and (len(hypothesis.terms) == 1 or hypothesis.bound != 0):
        return None
    alike = hypothesis.metric.endswith("accuracy") or hypothesis.metric == TRAINED.name
    margin = comparison.plan.margin * (1.0 if alike else comparison.typical(hypothesis.metric))
    return 0.0 if math.isnan(margin) else margin


def _training(comparison: Comparison, hypothesis: Hypothesis) -> str:
    """How often the sides of a hypothesis about how good they are train, where some of their trials did not."""
    if hypothesis.metric == TRAINED.name or hypothesis.metric in NOT_OF_TRAINED:
        return ""
    trains = counts_of(comparison.trains_in(hypothesis))
    return f"; of those that trained: {trains}" if trains else ""


def counts_of(trained: Joined, *, always: bool = False) -> str:
    """``18 of 30 against 30 of 30``; empty where all trained, unless it is to be said always."""
    shares = [part.share for part in trained.parts]
    if not always and all(share.count == share.total for share in shares):
        return ""
    return (" against " if len(shares) == 2 else ", ").join(f"{share.count} of {share.total}" for share in shares)


def evidence(metric: str, item: verdicts.Judgement, *, is_difference: bool) -> str:
    """``difference +12.3 points (95 %: 8.1 to 16.5), p < 0.001, 5 seeds``."""
    estimate = item.claim.estimate
    if estimate.num_seeds == 0:
        reason = "timed alone" if metric in SPEEDS else "with a result on every side"
        return f"no trials {reason}"
    accuracy = metric.endswith("accuracy") or metric == TRAINED.name
    scale, unit = (100, " points" if is_difference else " %") if accuracy else (1, "")
    what = "difference" if is_difference else "mean"
    if metric == TRAINED.name and isinstance(estimate, Joined):
        what = f"trains in {counts_of(estimate, always=True)}: {what if is_difference else 'share'}"
    sign = "+" if is_difference else ""

    def shown(number: float, sign: str = "") -> str:
        return f"{number * scale:{sign}.1f}" if accuracy else significant(number, 4, sign)

    text = f"{what} {shown(estimate.value, sign)}{unit}"
    if estimate.basis == "exact":
        return f"{text}, exact"
    seeds = f"{estimate.num_seeds} seed{'s' * (estimate.num_seeds > 1)}"
    if math.isnan(estimate.low):
        return f"{text}, no interval, {seeds}"
    if "dev_" in metric and estimate.basis == "seeds" and metric != TRAINED.name:
        seeds += ", on this dev set"
    interval = f"95 %: {shown(estimate.low)} to {shown(estimate.high)}"
    return f"{text} ({interval}), {p_both(item.p, item.p_holm)}, {seeds}"


# --- tuned settings -------------------------------------------------------------------------------------------------


def winner_table(plan: Plan, trials: pd.DataFrame) -> pd.DataFrame:
    """A row for each cell and tuned setting: the candidate that won on dev, and whether it is at an end of the list."""
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
    """A better value may lie beyond the candidates where the winner is the first or last of them."""
    edge = winners[winners["at_edge"].astype(bool)]
    return [
        f"{setting}: the winner is at the edge of the candidates in {len(rows)} of "
        f"{(winners['setting'] == setting).sum()} cells ({', '.join(rows['cell'].head(3))}"
        f"{', ...' if len(rows) > 3 else ''}); a wider list may do better"
        for setting, rows in edge.groupby("setting", sort=False)
    ]
