"""Tabulates what a report shows of its trials: a plan and its records in, data frames out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from bench.analysis.trained import trained
from bench.grid.factors import Factor, short_names
from bench.grid.metrics import Metric
from bench.grid.plan import Cell, Plan, Trial
from bench.record.records import ENVIRONMENT, MEASURES
from bench.record.status import NOT_ENDED, Status
from lab.settings import num_classes, timing_id

MACHINE = ["device", "device_name", "threads", "concurrent_trials", "precision", "torch_version"]
RATES = [f"train_images_per_second{end}" for end in ("", "_low", "_high")]
MAX_VARIANTS = 6  # lines in one panel of a figure, before another factor is given panels of its own


# --- trials ---------------------------------------------------------------------------------------------------------


def outcomes(plan: Plan, trials: pd.DataFrame, curves: pd.DataFrame | None = None) -> pd.DataFrame:
    """Makes a row for each trial of the plan, with status ``missing`` where ``trials`` has none, and its measures.

    ``compared`` is true for the trials that answer the question: all, or the winning candidate's where a grid tunes, on
    the grid's own seeds.
    ``trained`` is 1, 0, or NaN without a result; ``curves`` tell how often dev was read.
    """
    trials = with_own_scores(plan, trials)
    scores = selecting_scores(plan, trials)
    winners = plan.winners(scores)

    def compared(trial: Trial) -> bool:
        winner = winners.get(trial.cell.label)
        chose = trial.seed in plan.seeds and winner is not None and trial.tuned == winner.tuned
        return trial.stage == "final" or chose

    planned = pd.DataFrame(
        [(t.trial_id, t.cell.label, t.seed, compared(t)) for t in plan.all_trials(scores)],
        columns=["trial_id", "cell", "seed", "compared"],
    )
    measures = dict.fromkeys((*MEASURES, *plan.measures))
    recorded = trials.reindex(columns=["trial_id", "status", "error", *measures, *ENVIRONMENT])
    joined = planned.merge(recorded, on="trial_id", how="left")
    found = joined.assign(status=joined["status"].fillna(Status.MISSING))
    never_asked = found["seed"].isin(plan.further_seeds) & (found["status"] == Status.MISSING)
    found = found[~never_asked].reset_index(drop=True)
    return found.assign(trained=trained(plan, found, curves))


def tuned_as_recorded(plan: Plan, trials: pd.DataFrame) -> Plan:
    """Returns the plan, or that of folders whose candidates were tried on the grid's own seeds, as they once were."""
    recorded = set(trials["trial_id"])
    if not plan.tune or any(trial.trial_id in recorded for trial in plan.trials):
        return plan
    count = plan.document.get("tune_seeds", len(plan.seeds))
    before = plan.tuned_on(plan.seeds[:count])
    return before if any(trial.trial_id in recorded for trial in before.trials) else plan


def with_own_scores(plan: Plan, trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the trials with the columns of a user's metric, which earlier versions kept in those of accuracy."""
    if plan.selecting in trials:
        return trials
    starts, name = ("test", "dev", "first_epoch_dev", "final_dev"), plan.selecting.removeprefix("dev_")
    return trials.rename(columns={f"{start}_accuracy": f"{start}_{name}" for start in starts})


def selecting_scores(plan: Plan, trials: pd.DataFrame) -> dict[str, float | None]:
    """Returns the selecting score of each trial that ended, by its id; None where it failed."""
    trials = with_own_scores(plan, trials)
    ended = trials[~trials["status"].isin(NOT_ENDED)]
    score = ended.reindex(columns=[plan.selecting])[plan.selecting]  # a column that no trial may have left
    score = score.where(ended["status"] == Status.OK).astype(object)
    return dict(zip(ended["trial_id"], score.where(score.notna(), None), strict=True))


def coverage(found: pd.DataFrame) -> pd.DataFrame:
    """Counts the trials of each cell (rows, in the plan's order) that ended with each status (columns)."""
    return pd.crosstab(found["cell"], found["status"]).reindex(found["cell"].unique()).rename_axis(columns=None)


def coverage_line(found: pd.DataFrame) -> str:
    """Returns ``38 of 40 trials; 2 diverged: residual=false (seeds 1, 3)``: every trial without a result is counted."""
    parts = [f"{(found['status'] == Status.OK).sum()} of {len(found)} trials"]
    lost = found[found["status"] != Status.OK]
    for status in sorted(lost["status"].unique(), key=lambda status: (status == Status.MISSING, status)):
        rows = lost[lost["status"] == status]
        seeds = rows.groupby("cell", sort=False)["seed"].agg(list)
        where = [
            f"{cell} (seed{'s' * (len(s) > 1)} {', '.join(map(str, sorted(set(s))))})" for cell, s in seeds.items()
        ]
        detail = "; ".join(where) if len(where) <= 3 else f"in {len(where)} cells"
        parts.append(f"{len(rows)} {status.replace('_', ' ')}: {detail}")
    return "; ".join(parts)


def cautions(plan: Plan, found: pd.DataFrame, trials: pd.DataFrame) -> list[str]:
    """Warns of what bears on comparing: rows left out, stale or of unlike machines, too few seeds."""
    result = list(plan.warnings)
    classes = {num_classes(trial.lab.data) for trial in plan.trials if plan.run is None}
    if plan.untrained == "chance" and (len(classes) != 1 or None in classes):
        result.append("untrained: chance is not known of these data: untrained trials stay apart; give the number")
    if plan.tune and set(plan.tune_seeds) & set(plan.seeds):
        result.append("the seeds that chose the candidates are reported too: accuracies are flattered by having chosen")
    ended = found[found["status"] == Status.OK]
    unlike = [name for name in MACHINE if name != "concurrent_trials" and ended[name].nunique() > 1]
    if unlike:
        result.append(f"the trials ran on unlike machines: they differ in {', '.join(unlike)}")
    if ended["source_fingerprint"].nunique() > 1:
        result.append("the trials ran with different versions of the source code")
    if (ended[ended["compared"]].groupby("cell").size() == 1).any():
        result.append(
            "some cells have one seed: what another seed would change is unknown there, and no interval counts it"
        )
    return result + _uncompiled(trials[trials["trial_id"].isin(found["trial_id"])])


def _uncompiled(trials: pd.DataFrame) -> list[str]:
    """Says where ``train.compile`` was asked for in vain, and the reason that most of them give."""
    reasons = [reason for reason in trials.get("compile_error", []) if isinstance(reason, str) and reason]
    if not reasons:
        return []
    usual = max(sorted(set(reasons)), key=reasons.count)
    return [f"{len(reasons)} trials were to be compiled and ran as they are: {usual}"]


def speed_cautions(found: pd.DataFrame, timings: pd.DataFrame | None = None) -> list[str]:
    """Warns of speeds that are not reliable, not shown, or of some trials only."""
    if timings is not None and len(timings):
        drifted = int((timings["reliable"] != "true").sum())
        return [f"{drifted} of {len(timings)} timings are not reliable: the machine's speed drifted"] if drifted else []
    ended, alone = found[found["status"] == Status.OK], timed(found)
    if not len(ended) or len(alone) == len(ended):
        return []
    if not len(alone):
        return ["no speeds are shown: the trials shared their machine; `bench time GRID` measures them alone"]
    return [f"speeds are those of {len(alone)} of {len(ended)} trials: the others shared a machine or ran on another"]


def timed(found: pd.DataFrame) -> pd.DataFrame:
    """Selects trials that ended well, alone, on the commonest machine at one precision: only their speeds compare."""
    ended = found[(found["status"] == Status.OK) & (found["concurrent_trials"] == 1)]
    machines = ended.groupby(MACHINE, dropna=False, sort=False)
    return ended[machines.ngroup() == machines.size().argmax()] if len(ended) else ended


def timed_alone(plan: Plan, timings: pd.DataFrame) -> pd.DataFrame:
    """Tabulates images per second in training by cell, on the machine timed most: median, slowest, fastest round."""
    machines = machine_names(timings)
    return _rates(plan, timings[machines == machines.mode()[0]])


def speed_table(plan: Plan, timings: pd.DataFrame) -> pd.DataFrame:
    """Does the same for every machine that timed the grid's models: a row per machine and cell."""
    if not len(timings):
        return pd.DataFrame(columns=["machine", "cell", *RATES])
    machines = machine_names(timings)
    parts = [_rates(plan, timings[machines == name]).assign(machine=name) for name in machines.unique()]
    table = pd.concat(parts).rename_axis("cell").reset_index()
    return table[["machine", *table.columns.drop("machine")]]


def machine_names(timings: pd.DataFrame) -> pd.Series:
    """Joins what has to agree for two speeds to compare: device, its name, threads and torch's version."""
    names = [name for name in MACHINE if name in timings and name not in ("concurrent_trials", "precision")]
    plain = timings[names].astype(str)
    if "threads" in names:
        plain["threads"] = [f"{count} thread{'s' * (count != '1')}" for count in plain["threads"]]
    return plain.agg(", ".join, axis=1)


def _rates(plan: Plan, timings: pd.DataFrame) -> pd.DataFrame:
    rates = timings.drop_duplicates("timing_id", keep="last").set_index("timing_id")[RATES].astype(float)
    keys = {trial.cell.label: timing_id(trial.lab) for trial in plan.trials if plan.run is None}
    return rates.reindex([keys[cell.label] for cell in plan.cells]).set_axis([cell.label for cell in plan.cells])


# --- curves and seeds ----------------------------------------------------------------------------------------------


def watched(plan: Plan) -> Metric:
    """Returns the metric on dev that curves show, on the scale of the primary: its own one, else that which selects."""
    own = plan.measures.get(f"dev_{_score(plan.primary)}")
    return replace(own, scale=plan.primary.scale, margin=None) if own else plan.measures[plan.selecting]


def position(plan: Plan) -> str:
    """Returns what a curve's positions count: ``epoch`` in the laboratory, ``step`` of one's own code."""
    return "epoch" if plan.run is None else "step"


def with_watched(plan: Plan, curves: pd.DataFrame) -> pd.DataFrame:
    """Returns the curves with the column of :func:`watched`, empty where they were recorded without it."""
    known, name = with_own_scores(plan, curves), watched(plan).name
    return known if name in known else known.assign(**{name: np.nan})


def first_epoch(plan: Plan, metric: Metric) -> Metric | None:
    """Returns the metric on dev after one epoch, on the same scale; None where it is of no score."""
    found = plan.measures.get(f"first_epoch_dev_{_score(metric)}")
    return replace(found, scale=metric.scale, margin=None) if found else None


def _score(metric: Metric) -> str:
    return metric.name.removeprefix("test_").removeprefix("dev_")


def curve_table(plan: Plan, found: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Returns the metric on dev (:func:`watched`) of each cell at each evaluation, over the trials that ended well.

    Its mean (geometric on a log scale), the lowest and the highest seed; without evaluations that do not tell it.
    """
    metric = watched(plan)
    ended = found[found["compared"] & (found["status"] == Status.OK)]
    points = ended[["trial_id", "cell"]].merge(curves, on="trial_id")
    points = points.assign(shown=points[metric.name], compared=positive(metric, points[metric.name]))
    by_step = points.groupby(["cell", "step"], sort=False)
    ends = {"lowest": ("shown", "min"), "highest": ("shown", "max")}
    table = by_step.agg(n=("shown", "count"), mean=("compared", "mean"), **ends)
    table["mean"] = np.exp(table["mean"]) if metric.scale == "log" else table["mean"]
    table = table.rename(columns={"mean": metric.name})
    table.insert(0, "epoch", by_step["epoch"].first())
    table = table.dropna(subset=metric.name)
    return table.reset_index().sort_values(["cell", "step"], key=_order(found["cell"]), ignore_index=True)


def positive(metric: Metric, values: pd.Series | np.ndarray) -> np.ndarray:
    """Values on the way of training as they are averaged: on a log scale, those that have a logarithm."""
    numbers = np.asarray(values, float)
    return metric.compared(np.where(numbers > 0, numbers, np.nan) if metric.scale == "log" else numbers)


def extremes(plan: Plan, found: pd.DataFrame) -> pd.DataFrame:
    """A row per cell: the median and the worst of its seeds that trained, in the primary metric."""
    name, labels = plan.primary.name, [cell.label for cell in plan.cells]
    by_cell = found[found["compared"] & (found["trained"] == 1)].groupby("cell")[name]
    worst = by_cell.min() if plan.primary.sign >= 0 else by_cell.max()
    columns = {f"{name}_median": by_cell.median(), f"{name}_worst": worst}
    return pd.DataFrame({"cell": labels} | {key: values.reindex(labels).to_numpy() for key, values in columns.items()})


def seed_table(plan: Plan, found: pd.DataFrame) -> pd.DataFrame:
    """Returns the primary metric of each trial that is compared and ended well, by cell and seed."""
    ended = found[found["compared"] & (found["status"] == Status.OK)]
    return ended[["cell", "seed", plan.primary.name]].reset_index(drop=True)


def _order(cells: pd.Series) -> Callable[[pd.Series], pd.Series]:
    ranks = {cell: rank for rank, cell in enumerate(cells.unique())}
    return lambda column: column.map(ranks) if column.name == "cell" else column


# --- labels ---------------------------------------------------------------------------------------------------------


def words(plan: Plan, levels: Mapping[str, str]) -> str:
    """Levels as a reader says them: ``resnet34, no residual, lr 0.1``."""
    short = short_names([factor.name for factor in plan.factors])
    occurrences = Counter(level for factor in plan.factors for level in factor.levels)

    def word(factor: Factor) -> str:
        level = levels[factor.name]
        if set(factor.levels) <= {"true", "false"}:
            return short[factor.name] if level == "true" else f"no {short[factor.name]}"
        plain = occurrences[level] == 1 and not (is_number(level) or level in ("true", "false", "null", "none"))
        return level if plain else f"{short[factor.name]} {level}"

    return ", ".join(word(factor) for factor in plan.factors if factor.name in levels)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def layout(plan: Plan) -> pd.DataFrame:
    """Places each cell in figures: ``column`` and ``row`` of its panel, and its label there (the column ``variant``).

    ``ordered`` says that variants are numbers.

    The first factors get panels of their own until few enough variants share one. In a plan around a baseline all cells
    share one panel, and a variant is what it changes.
    """
    if plan.kind != "full":
        return pd.DataFrame([_around_baseline(plan, cell) for cell in plan.cells]).assign(ordered=False)
    num_facets = 0
    while num_facets < len(plan.factors) - 1 and _num_variants(plan, num_facets) > MAX_VARIANTS:
        num_facets += 1
    others = plan.factors[num_facets:]
    ordered = len(others) == 1 and all(is_number(level) for level in others[0].levels)
    return pd.DataFrame([_in_panel(plan, cell, num_facets) for cell in plan.cells]).assign(ordered=ordered)


def _num_variants(plan: Plan, num_facets: int) -> int:
    return int(np.prod([len(factor.levels) for factor in plan.factors[num_facets:]]))


def _in_panel(plan: Plan, cell: Cell, num_facets: int) -> dict[str, str]:
    whole = len(cell.levels) == len(plan.factors)  # a cell beside the plan has a label of its own
    names = [factor.name for factor in plan.factors[:num_facets]]
    column, row, variant = (
        words(plan, {name: level for name, level in cell.levels.items() if name in own})
        for own in (names[:1], names[1:], [factor.name for factor in plan.factors[num_facets:]])
    )
    return {"cell": cell.label, "column": column, "row": row, "variant": variant if whole and variant else cell.label}


def _around_baseline(plan: Plan, cell: Cell) -> dict[str, str]:
    changed = {name: level for name, level in cell.levels.items() if plan.baseline.get(name) != level}
    variant = (words(plan, changed) or "baseline") if len(cell.levels) == len(plan.factors) else cell.label
    return {"cell": cell.label, "column": "", "row": "", "variant": variant}
