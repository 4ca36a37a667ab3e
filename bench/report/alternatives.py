"""What each chart of the page shows, in sentences with direction and size, for who cannot see it or wants numbers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from bench.analysis.amounts import capital, digits_of, direction, significant, size, spoken, value
from bench.grid.metrics import Metric
from bench.report.charts import COSTS, front_of

MOST = 8  # lines that are each told; of more, the two ends and the baseline


def told(effects: pd.DataFrame, metric: Metric) -> str:
    """Tells each effect, and how the chart shows verdicts and the margin."""
    marks = "Filled: decided; hollow: undecided or equivalent."
    band = "" if metric.tolerance is None else " Band: within the margin."
    said = "; ".join(f"{row.factor}={row.level}: {row.sentence}" for row in effects.itertuples())
    return f"{said}. {marks}{band}"


def curves(points: pd.DataFrame, cells: pd.DataFrame, dev: Metric, primary: Metric) -> str:
    """Tells where each cell's curve begins and ends, and how far the ends are from the results of the tables."""
    lines = points.dropna(subset=dev.name).groupby("cell")[dev.name].agg(["first", "last"])
    table = cells[["cell", "words", "is_baseline"]].merge(lines, left_on="cell", right_index=True)
    if not len(table):
        return f"No trial that ended well recorded {spoken(dev)}."
    kept, others = _few(table, "last", dev)
    said = "; ".join(
        f"{words}: {value(dev, first)} to {value(dev, last)}"
        for words, first, last in kept[["words", "first", "last"]].itertuples(index=False)
    )
    mean = "geometric mean" if dev.scale == "log" else "mean"
    first = (
        f"{capital(spoken(dev))}{_direction(dev)}, {mean} over seeds, from the first evaluation to the last: {said}."
    )
    return f"{first}{others}{_gap(table, cells, dev, primary)} Band: from the lowest to the highest seed."


def _few(table: pd.DataFrame, by: str, metric: Metric) -> tuple[pd.DataFrame, str]:
    """Keeps few rows: all, or the best, the worst and the baseline, with a sentence on the others."""
    if len(table) <= MOST:
        return table, ""
    order = table.sort_values(by, ascending=metric.sign < 0, kind="stable")
    ends = {*order.index[:2], *order.index[-2:], *table.index[table["is_baseline"]]}
    return order[order.index.isin(ends)], f" These are the ends and the baseline of {len(table)}."


def _gap(table: pd.DataFrame, cells: pd.DataFrame, dev: Metric, primary: Metric) -> str:
    """Says how far the last values on dev are from the means on test, where they are of one score."""
    if dev.name.removeprefix("dev_") != primary.name.removeprefix("test_") or primary.split != "test":
        return ""
    both = table.merge(cells[["cell", primary.name]], on="cell").dropna(subset=primary.name)
    if not len(both):
        return ""
    last, test = (primary.compared(both[name].to_numpy(float)) for name in ("last", primary.name))
    gaps = np.abs(last - test)
    widest = both.iloc[int(gaps.argmax())]
    pair = f"{value(dev, widest['last'])} here, {value(primary, widest[primary.name])} on test"
    most = size(primary, float(gaps.max()), digits_of(primary))
    return f" The tables are on test: the last values differ from theirs by up to {most} ({widest['words']}: {pair})."


def interaction(means: pd.DataFrame, metric: Metric) -> str:
    """Tells the means along each line, from which the slopes can be compared."""
    lines = [
        f"{means.index.name}={level}: " + ", ".join(_at(metric, column, mean) for column, mean in row.items())
        for level, row in list(means.iterrows())[:MOST]
    ]
    rest = f" These are the first {MOST} of {len(means)} lines." if len(means) > MOST else ""
    by = f"by {means.columns.name}"
    return f"Mean {spoken(metric)}{_direction(metric)} {by}; {'; '.join(lines)}. Parallel: no interaction.{rest}"


def _at(metric: Metric, level: object, mean: float) -> str:
    return f"{'unknown' if pd.isna(mean) else value(metric, mean)} at {level}"


def trade_off(cells: pd.DataFrame, metric: Metric, cost: str) -> str:
    """Tells the ends in cost and in the metric, and which cells no other beats in both."""
    known = cells.dropna(subset=[metric.name, cost])
    low, high = (known.loc[known[cost] == known[cost].agg(end)].iloc[0] for end in ("min", "max"))
    said = f"From {_point(low, metric, cost)} to {_point(high, metric, cost)}, in {COSTS[cost][0]}."
    if metric.sign == 0:
        return said
    front = front_of(cells, metric, cost)
    if len(front) > MOST:
        return f"{said} {len(front)} of {len(known)} cells are on the dotted front: no other is better in both."
    return f"{said} The dotted front, which no other beats in both: {_listed(front['words'])}{_direction(metric)}."


def _point(cell: pd.Series, metric: Metric, cost: str) -> str:
    return f"{cell['words']} at {significant(float(cell[cost]), 3)} with {value(metric, float(cell[metric.name]))}"


def _listed(names: Iterable[object]) -> str:
    return "; ".join(map(str, names))


def _direction(metric: Metric) -> str:
    return f" ({direction(metric)})" if direction(metric) else ""
