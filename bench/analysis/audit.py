"""Is the comparison fair? Sentences about variants that were not given the same, for the plan and for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from bench.grid.plan import Plan, neighbours

if TYPE_CHECKING:
    import pandas as pd

MOST_UNEQUAL = 0.05  # share by which parameters or multiply-accumulates of two variants may differ unsaid
ASSUMED_ACCURACY = 0.9  # before any result
Counts = Mapping[str, tuple[int, int]]  # cell label: parameters, multiply-accumulates


def audit(plan: Plan, counts: Counts | None = None, num_dev_images: int | None = None) -> list[str]:
    """Tells what is unequal between variants beside what is asked about; ``counts`` by cell label, 0 if unknown."""
    sentences = [*_tuning(plan), *_confounded(plan)]
    if counts is not None:
        sentences += _unequal_size(plan, counts)
    if num_dev_images:
        sentences += _small_dev(plan, num_dev_images)
    return sentences


def _tuning(plan: Plan) -> Iterator[str]:
    candidates: dict[str, set[str]] = {}
    for trial in plan.trials:
        candidates.setdefault(trial.cell.label, set()).add(repr(trial.tuned))
    budgets = {label: len(found) for label, found in candidates.items()}
    if len(set(budgets.values())) > 1:
        least, most = (choose(budgets, key=lambda label: budgets[label]) for choose in (min, max))
        yield (
            f"unequal tuning: `{most}` chooses among {budgets[most]} candidates, `{least}` among {budgets[least]}; "
            "more tries find a better one by chance alone"
        )
    optimizers = {trial.lab.optimizer.name for trial in plan.trials if plan.run is None}
    if len(optimizers) > 1 and "optimizer.lr" not in plan.tune:
        yield "optimizers are compared at one learning rate each: none is at its own best; tune optimizer.lr"


def _confounded(plan: Plan) -> Iterator[str]:
    """Factors whose levels always change together: each level of either goes with one of the other."""
    names = [factor.name for factor in plan.factors]
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            pairs = {(c.levels[name], c.levels[other]) for c in plan.cells if {name, other} <= c.levels.keys()}
            if 1 < len(pairs) == len({one for one, _ in pairs}) == len({two for _, two in pairs}):
                yield f"{name} and {other} always change together: their effects can't be told apart"


def _unequal_size(plan: Plan, counts: Counts) -> Iterator[str]:
    more: dict[tuple[str, str, str], list[str]] = {}  # of a factor, the larger level than the smaller
    for index, what in enumerate(("parameters", "multiply-accumulates")):
        most: dict[str, tuple[float, str, str]] = {}
        for name, one, other in neighbours(plan.cells):
            small, large = sorted((one, other), key=lambda cell: counts.get(cell.label, (0, 0))[index])
            few, many = (counts.get(cell.label, (0, 0))[index] for cell in (small, large))
            if few and many > few * (1 + MOST_UNEQUAL):
                most[name] = max(
                    most.get(name, (0.0, "", "")), (many / few - 1, large.levels[name], small.levels[name])
                )
        for name, (share, *levels) in most.items():
            more.setdefault((name, levels[0], levels[1]), []).append(f"{share:.0%} more {what}")
    for (name, large_level, small_level), amounts in more.items():
        said = " and ".join(amounts)
        yield f"{name}={large_level} has up to {said} than {small_level}: the comparison is also one of size"


def _small_dev(plan: Plan, num_dev_images: int) -> Iterator[str]:
    from bench.stats.power import planned_difference

    num_seeds = len(plan.tune_seeds if plan.tune and plan.tune_seeds else plan.seeds)
    smallest = planned_difference(max(1, num_seeds), num_dev_images, ASSUMED_ACCURACY)
    if "dev_accuracy" not in plan.measures:
        return
    margin = plan.margin if plan.primary.name.endswith("accuracy") else plan.measures["dev_accuracy"].margin or 0.0
    if smallest > margin and plan.selecting == "dev_accuracy":
        seeds = f"{num_seeds} seed{'s' * (num_seeds != 1)}"
        yield (
            f"{num_dev_images} dev images and {seeds} tell differences in dev accuracy from {smallest:.3f} up "
            f"(80 % power, at an accuracy around {ASSUMED_ACCURACY:g}); the margin is {margin:g}"
        )


def audit_recorded(plan: Plan, found: pd.DataFrame) -> list[str]:
    """Returns the same for a report, with the counts of ``summaries.outcomes``; its intervals say what dev can tell."""
    counts = found.groupby("cell")[["parameters", "forward_macs"]].max().fillna(0)  # either may be unknown alone
    return audit(plan, {str(cell): (int(parameters), int(macs)) for cell, parameters, macs in counts.itertuples()})
