"""What a report shows, as tables of numbers: a plan and its records in, data frames out. Accuracies are fractions.

``n`` counts the trials that ended well, and means are over those: accuracy given convergence. The replicates are the
seeds; where a level spans several cells these weigh the same: its interval tells of other seeds, not of other cells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.grid.factors import Factor, short_names
from bench.grid.hypotheses import Hypothesis
from bench.grid.plan import Cell, Plan, Trial
from bench.record.records import ENVIRONMENT, MEASURES
from bench.record.status import NOT_ENDED, Status
from bench.stats import estimates
from bench.stats.families import holm
from lab.settings import timing_id

MACHINE = ["device", "device_name", "threads", "concurrent_trials", "precision", "torch_version"]
SPEEDS = {"train_images_per_second", "eval_images_per_second", "train_seconds", "total_seconds"}
RATES = [f"train_images_per_second{end}" for end in ("", "_low", "_high")]
EXACT = {"parameters", "forward_macs", "steps", "epochs"}  # what no seed changes
MAX_ARMS = 6  # lines in one panel of a figure, before another factor is given panels of its own


# --- trials ---------------------------------------------------------------------------------------------------------


def outcomes(plan: Plan, trials: pd.DataFrame) -> pd.DataFrame:
    """A row for each trial that the plan asks for, with status ``missing`` where ``trials`` has none, and its measures.

    ``compared`` is true for the trials that answer the question: all, or the winning candidate's where a grid tunes.
    """
    dev = dev_accuracies(trials)
    winners = plan.winners(dev)

    def compared(trial: Trial) -> bool:
        winner = winners.get(trial.cell.label)
        return trial.stage == "final" or (winner is not None and trial.tuned == winner.tuned)

    planned = pd.DataFrame(
        [(t.trial_id, t.cell.label, t.seed, compared(t)) for t in plan.all_trials(dev)],
        columns=["trial_id", "cell", "seed", "compared"],
    )
    recorded = trials.reindex(columns=["trial_id", "status", "error", *MEASURES, *ENVIRONMENT])
    joined = planned.merge(recorded, on="trial_id", how="left")
    joined = joined.assign(status=joined["status"].fillna(Status.MISSING))
    never_asked = joined["seed"].isin(plan.further_seeds) & (joined["status"] == Status.MISSING)
    return joined[~never_asked].reset_index(drop=True)


def dev_accuracies(trials: pd.DataFrame) -> dict[str, float | None]:
    """Dev accuracy of each trial that ended, by its id; None where it failed."""
    ended = trials[~trials["status"].isin(NOT_ENDED)]
    accuracy = ended["dev_accuracy"].where(ended["status"] == Status.OK).astype(object)
    return dict(zip(ended["trial_id"], accuracy.where(accuracy.notna(), None), strict=True))


def coverage(found: pd.DataFrame) -> pd.DataFrame:
    """How many trials of each cell (rows, in the plan's order) ended with each status (columns)."""
    return pd.crosstab(found["cell"], found["status"]).reindex(found["cell"].unique()).rename_axis(columns=None)


def coverage_line(found: pd.DataFrame) -> str:
    """``38 of 40 trials; 2 diverged: residual=false (seeds 1, 3)``: every trial without a result is counted."""
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


def cautions(plan: Plan, found: pd.DataFrame, trials: pd.DataFrame, timings: pd.DataFrame | None = None) -> list[str]:
    """What a reader must know before comparing: rows left out, stale or of unlike machines, speeds, too few seeds."""
    result = list(plan.warnings)
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
    return result + _uncompiled(trials[trials["trial_id"].isin(found["trial_id"])]) + _speed_cautions(ended, timings)


def _uncompiled(trials: pd.DataFrame) -> list[str]:
    """Where ``train.compile`` was asked for in vain, and the reason that most of them give."""
    reasons = [reason for reason in trials.get("compile_error", []) if isinstance(reason, str) and reason]
    if not reasons:
        return []
    usual = max(sorted(set(reasons)), key=reasons.count)
    return [f"{len(reasons)} trials were to be compiled and ran as they are: {usual}"]


def _speed_cautions(ended: pd.DataFrame, timings: pd.DataFrame | None) -> list[str]:
    if timings is not None and len(timings):
        drifted = int((timings["reliable"] != "true").sum())
        return [f"{drifted} of {len(timings)} timings are not reliable: the machine's speed drifted"] if drifted else []
    alone = timed(ended)
    if not len(ended) or len(alone) == len(ended):
        return []
    if not len(alone):
        return ["no speeds are shown: the trials shared their machine; python -m bench time GRID measures them alone"]
    return [f"speeds are those of {len(alone)} of {len(ended)} trials: the others shared a machine or ran on another"]


def timed(found: pd.DataFrame) -> pd.DataFrame:
    """The trials that ended well, alone, on the most frequent machine at one precision: only their speeds compare."""
    ended = found[(found["status"] == Status.OK) & (found["concurrent_trials"] == 1)]
    machines = ended.groupby(MACHINE, dropna=False, sort=False)
    return ended[machines.ngroup() == machines.size().argmax()] if len(ended) else ended


def timed_alone(plan: Plan, timings: pd.DataFrame) -> pd.DataFrame:
    """Images a second in training by cell, of the machine with most timings: median, slowest and fastest round."""
    machines = machine_names(timings)
    return _rates(plan, timings[machines == machines.mode()[0]])


def speed_table(plan: Plan, timings: pd.DataFrame) -> pd.DataFrame:
    """The same for every machine that timed the grid's models: a row a machine and cell."""
    if not len(timings):
        return pd.DataFrame(columns=["machine", "cell", *RATES])
    machines = machine_names(timings)
    parts = [_rates(plan, timings[machines == name]).assign(machine=name) for name in machines.unique()]
    table = pd.concat(parts).rename_axis("cell").reset_index()
    return table[["machine", *table.columns.drop("machine")]]


def machine_names(timings: pd.DataFrame) -> pd.Series:
    """What has to agree for two speeds to compare, as text: device, its name, threads and torch's version."""
    names = [name for name in MACHINE if name in timings and name not in ("concurrent_trials", "precision")]
    plain = timings[names].astype(str)
    if "threads" in names:
        plain["threads"] = [f"{count} thread{'s' * (count != '1')}" for count in plain["threads"]]
    return plain.agg(", ".join, axis=1)


def _rates(plan: Plan, timings: pd.DataFrame) -> pd.DataFrame:
    rates = timings.drop_duplicates("timing_id", keep="last").set_index("timing_id")[RATES].astype(float)
    keys = {trial.cell.label: timing_id(trial.settings) for trial in plan.trials}
    return rates.reindex([keys[cell.label] for cell in plan.cells]).set_axis([cell.label for cell in plan.cells])


# --- estimates ------------------------------------------------------------------------------------------------------


class Comparison:
    """The results of a grid by seed and cell, to be summed up over any of its cells.

    ``correct`` holds a bit a test image for each trial; where all trials have theirs, the intervals of test accuracy
    and of its differences count the test set beside the seeds.
    """

    def __init__(
        self,
        plan: Plan,
        found: pd.DataFrame,
        correct: Mapping[str, np.ndarray] | None = None,
        timings: pd.DataFrame | None = None,
    ) -> None:
        self.plan = plan
        self._found = found
        self._ended = found[found["compared"] & (found["status"] == Status.OK)]
        self._labels = {frozenset(cell.levels.items()): cell.label for cell in plan.cells}
        self._test = self._matrix(self._ended, "test_accuracy")
        self._first_epoch = self._matrix(self._ended, "first_epoch_dev_accuracy")
        self._rate = self._matrix(timed(self._ended), "train_images_per_second")
        self._alone = timed_alone(plan, timings) if timings is not None and len(timings) else None
        self._bits = self._correct_images(correct or {})

    def _matrix(self, ended: pd.DataFrame, measure: str) -> pd.DataFrame:
        """Cells (rows) by seeds (columns); NaN where there is no result."""
        matrix = ended.pivot(index="cell", columns="seed", values=measure)
        return matrix.reindex(
            index=[cell.label for cell in self.plan.cells], columns=sorted(self._found["seed"].unique())
        )

    def _correct_images(self, correct: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        """For each cell (seeds, images), false where there is no result; None unless every trial has as many bits."""
        sizes = {len(correct[key]) if key in correct else 0 for key in self._ended["trial_id"]}
        if len(sizes) != 1 or 0 in sizes:
            return None
        nothing = np.zeros(sizes.pop(), bool)
        trials = self._ended.pivot(index="cell", columns="seed", values="trial_id").reindex_like(self._test)
        return {str(cell): np.stack([correct.get(key, nothing) for key in row]) for cell, row in trials.iterrows()}

    def summary(self, cells: Sequence[Cell], against: Mapping[str, str]) -> dict[str, Any]:
        """Counts, means, intervals, and the difference to ``against`` (factor levels), paired by seed and cell."""
        labels = [cell.label for cell in cells]
        found = self._found[self._found["cell"].isin(labels) & self._found["compared"]]
        statuses = Counter(found["status"])
        ended = self._ended[self._ended["cell"].isin(labels)]
        return {
            "n": statuses[Status.OK],
            "planned": len(labels) * len(self.plan.seeds) + int(found["seed"].isin(self.plan.further_seeds).sum()),
            "diverged": statuses[Status.DIVERGED],
            "failed": sum(
                count for status, count in statuses.items() if status not in {Status.OK, Status.DIVERGED} | NOT_ENDED
            ),
            **columns("test_accuracy", estimates.contrast([self._arm(labels)], [1])),
            **self._difference(cells, against),
            **columns("first_epoch_dev_accuracy", estimates.mean(self._first_epoch.loc[labels])),
            **self._speed(labels),
            "parameters_low": ended["parameters"].min(),
            "parameters_high": ended["parameters"].max(),
            "forward_macs_low": ended["forward_macs"].min(),
            "forward_macs_high": ended["forward_macs"].max(),
        }

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
        partners = {cell.label: self._labels.get(frozenset((cell.levels | dict(against)).items())) for cell in cells}
        pairs = [(one, other) for one, other in partners.items() if other is not None and other != one]
        if not pairs:
            return None
        return estimates.effect(self._arm([one for one, _ in pairs]), self._arm([other for _, other in pairs]))

    def between(self, one: str, other: str) -> estimates.Effect:
        """Difference of two cells, by label, paired by seed."""
        return estimates.effect(self._arm([one]), self._arm([other]))

    def _difference(self, cells: Sequence[Cell], against: Mapping[str, str]) -> dict[str, Any]:
        effect = self.effect(cells, against)
        if effect is None:
            return {**columns("difference", estimates.mean([])), "pairs": 0, "pairs_planned": 0}
        return {
            **columns("difference", effect.estimate),
            "pairs": effect.pairs,
            "pairs_planned": effect.pairs_planned,
        }

    def contrast(self, hypothesis: Hypothesis) -> estimates.Estimate:
        """The weighted sum of means that a hypothesis is about, in the strata that have all of its terms.

        Speeds are those of :func:`timed` trials. Where strata differ in the cells of a term, these are averaged first.
        """
        strata = hypothesis.strata({cell.label: cell.levels for cell in self.plan.cells})
        ended = timed(self._ended) if hypothesis.metric in SPEEDS else self._ended
        matrix = self._matrix(ended, hypothesis.metric).astype(float)
        arms: list[estimates.Arm] = []
        weights: list[float] = []
        for index, term in enumerate(hypothesis.terms):
            own = [stratum[index] for stratum in strata]
            if len(set(map(len, own))) > 1:
                arms.append(estimates.Arm(np.array([matrix.loc[list(labels)].mean(skipna=False) for labels in own])))
                weights.append(term.weight)
                continue
            for labels in zip(*own, strict=True):
                bits = self._arm(labels).examples if hypothesis.metric == "test_accuracy" else None
                arms.append(estimates.Arm(matrix.loc[list(labels)].to_numpy(), bits))
                weights.append(term.weight / len(own[0]))
        if hypothesis.metric in EXACT and arms:
            total = sum(weight * np.asarray(arm.values, float) for arm, weight in zip(arms, weights, strict=True))
            return estimates.exact(total)
        return estimates.contrast(arms, weights) if arms else estimates.mean([])

    def typical(self, metric: str) -> float:
        """Mean size of a measure over the trials compared."""
        return float(self._ended[metric].abs().mean())

    def _arm(self, labels: Sequence[str]) -> estimates.Arm:
        """Test accuracies of these cells (cells, seeds), and which images they got right (cells, seeds, images)."""
        bits = None if self._bits is None else np.stack([self._bits[label] for label in labels])
        return estimates.Arm(self._test.loc[list(labels)].to_numpy(), bits)


def columns(name: str, value: estimates.Estimate) -> dict[str, Any]:
    return {
        name: value.value,
        f"{name}_low": value.low,
        f"{name}_high": value.high,
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


def best_cells(comparison: Comparison, cells: pd.DataFrame) -> list[bool]:
    """For each row of ``cells`` whether it is the best, or does not differ from it (p at 0.05 or above, after Holm)."""
    known = cells[cells["test_accuracy"].notna()]
    if not len(known):
        return [False] * len(cells)
    best = known.sort_values("test_accuracy", ascending=False, kind="stable")["cell"].iloc[0]
    others = [cell for cell in known["cell"] if cell != best]
    effects = [comparison.between(cell, best) for cell in others]
    p_values = dict(zip(others, holm([effect.p for effect in effects]), strict=True))
    equal = {cell for cell, effect in zip(others, effects, strict=True) if effect.estimate.value == 0}
    return [cell == best or cell in equal or p_values.get(cell, np.nan) >= estimates.ALPHA for cell in cells["cell"]]


def pareto(cells: pd.DataFrame, cost: str, *, low_is_good: bool) -> pd.DataFrame:
    """The cells that no other beats both in test accuracy and in ``cost``, from cheap to dear."""
    known = cells.dropna(subset=["test_accuracy", cost]).sort_values("test_accuracy", ascending=False)
    known = known.sort_values(cost, ascending=low_is_good, kind="stable")
    best_before = known["test_accuracy"].cummax().shift(fill_value=-np.inf)
    return known[known["test_accuracy"] > best_before]


def curve_table(found: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Dev accuracy of each cell at each evaluation: mean, lowest and highest seed, over the trials that ended well."""
    ended = found[found["compared"] & (found["status"] == Status.OK)]
    points = ended[["trial_id", "cell"]].merge(curves, on="trial_id")
    by_step = points.groupby(["cell", "step"], sort=False)
    table = by_step["dev_accuracy"].agg(n="count", dev_accuracy="mean", lowest="min", highest="max")
    table.insert(0, "epoch", by_step["epoch"].first())
    return table.reset_index().sort_values(["cell", "step"], key=_order(found["cell"]), ignore_index=True)


def seed_table(found: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy of each trial that is compared and ended well, by cell and seed."""
    ended = found[found["compared"] & (found["status"] == Status.OK)]
    return ended[["cell", "seed", "test_accuracy"]].reset_index(drop=True)


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
    """Where figures show each cell: ``column`` and ``row`` of its panel, and ``arm``, its label there.

    ``ordered`` says that arms are numbers.

    The first factors get panels of their own until few enough arms share one. In a plan around a baseline all cells
    share one panel, and an arm is what it changes.
    """
    if plan.kind != "full":
        return pd.DataFrame([_around_baseline(plan, cell) for cell in plan.cells]).assign(ordered=False)
    num_facets = 0
    while num_facets < len(plan.factors) - 1 and _arms(plan, num_facets) > MAX_ARMS:
        num_facets += 1
    others = plan.factors[num_facets:]
    ordered = len(others) == 1 and all(is_number(level) for level in others[0].levels)
    return pd.DataFrame([_in_panel(plan, cell, num_facets) for cell in plan.cells]).assign(ordered=ordered)


def _arms(plan: Plan, num_facets: int) -> int:
    return int(np.prod([len(factor.levels) for factor in plan.factors[num_facets:]]))


def _in_panel(plan: Plan, cell: Cell, num_facets: int) -> dict[str, str]:
    whole = len(cell.levels) == len(plan.factors)  # a cell beside the plan has a label of its own
    names = [factor.name for factor in plan.factors[:num_facets]]
    column, row, arm = (
        words(plan, {name: level for name, level in cell.levels.items() if name in own})
        for own in (names[:1], names[1:], [factor.name for factor in plan.factors[num_facets:]])
    )
    return {"cell": cell.label, "column": column, "row": row, "arm": arm if whole and arm else cell.label}


def _around_baseline(plan: Plan, cell: Cell) -> dict[str, str]:
    changed = {name: level for name, level in cell.levels.items() if plan.baseline.get(name) != level}
    arm = (words(plan, changed) or "baseline") if len(cell.levels) == len(plan.factors) else cell.label
    return {"cell": cell.label, "column": "", "row": "", "arm": arm}
