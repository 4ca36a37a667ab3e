"""Tables of a grid's results: a row for each level or cell, where it stands to the best, and the Pareto front."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.analysis.comparison import Comparison
from bench.grid.factors import Factor
from bench.grid.metrics import Metric
from bench.grid.plan import Cell, Plan
from bench.stats import estimates
from bench.stats.families import Standing, standings


def sampled(metric: Metric, *shown: pd.DataFrame) -> str:
    """Says what the intervals of a metric in these tables count."""
    bases = {basis for table in shown for basis in table[f"{metric.name}_basis"]}
    examples = examples_word(metric)
    if "seeds and test set" in bases:
        return f"seeds and test {examples}"
    return f"test {examples} alone" if "test set" in bases else "seeds"


def examples_word(metric: Metric) -> str:
    """Names what a metric is taken over: the laboratory's accuracies are of images."""
    return "images" if metric.is_share else "examples"


def level_table(comparison: Comparison, factor: Factor) -> pd.DataFrame:
    """Makes a row for each level of the factor: :meth:`Comparison.summary` against its baseline level, all else equal.

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
    """Finds the cells of each level that has any, where the plan has them all under the same levels of other factors.

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
    """Makes a row per cell: :meth:`Comparison.summary` against the cell with the baseline's levels, all else equal."""
    plan = comparison.plan
    rows = []
    for cell in plan.cells:
        row = {"cell": cell.label, "is_baseline": plan.baseline.items() <= cell.levels.items()}
        rows.append(row | comparison.summary([cell], plan.baseline))
    return pd.DataFrame(rows)


def cell_standings(comparison: Comparison, cells: pd.DataFrame) -> list[Standing]:
    """Says where each row of ``cells`` stands to the best of them; :func:`bench.stats.families.standings` says how.

    All are unknown where neither direction is better.
    """
    labels, metric = cells["cell"].tolist(), comparison.metric
    if metric.sign == 0:
        return ["unknown"] * len(labels)

    def minus(one: int, other: int) -> estimates.Estimated:
        pair = (labels[one], labels[other]) if metric.sign > 0 else (labels[other], labels[one])
        return comparison.between(*pair).estimate

    return standings((metric.sign * cells[metric.name]).tolist(), minus, metric.tolerance)


def pareto(cells: pd.DataFrame, metric: Metric, cost: str, *, low_is_good: bool) -> pd.DataFrame:
    """Finds the cells that no other beats in both metric and ``cost``, from cheap to dear; none without a direction."""
    if metric.sign == 0:
        return cells.iloc[:0]
    known = cells.dropna(subset=[metric.name, cost]).sort_values(metric.name, ascending=metric.sign < 0)
    known = known.sort_values(cost, ascending=low_is_good, kind="stable")
    merit = metric.sign * known[metric.name]
    return known[merit > merit.cummax().shift(fill_value=-np.inf)]
