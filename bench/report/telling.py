"""Which figures there are numbers for, and which of many cells one shows: it has room for few, and says how many."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bench.analysis.amounts import capital, spoken
from bench.analysis.summaries import position, watched
from bench.grid.metrics import Metric

if TYPE_CHECKING:
    from bench.analysis.findings import Findings
    from bench.grid.plan import Plan

FIGURES = ("curves", "trade_off", "forest", "interaction")  # by file name, beside that of the primary metric
FEWEST = 5
MOST, MOST_IN_PANEL = 60, 12  # cells that a figure and a panel with labels in it have room for


def file_of(metric: Metric) -> str:
    """Names the file of the figure that shows a metric by cell: no folder, and no other figure's name."""
    name = "accuracy" if metric.name == "test_accuracy" else re.sub(r"[/@]", "_", metric.name)
    return f"{name}_by_cell" if name in FIGURES else name


RATE = "train_images_per_second"


def titles(findings: Findings) -> dict[str, str]:
    """Lists the figures that there are numbers for: by file name, what each shows."""
    metric, effects, name = findings.plan.primary, findings.effects, capital(spoken(findings.plan.primary))
    if not findings.cells["n"].any():
        return {}
    found = {"curves": curves_title(watched(findings.plan))} if has_curves(findings) else {}
    found[file_of(metric)] = f"{name} by cell"
    if metric.name != RATE and findings.cells[RATE].notna().any():
        found["trade_off"] = f"{name} against training speed"
    if len(effects) and effects["difference"].notna().any():
        found["forest"] = f"Effects on {spoken(metric)}"
    if findings.variance is not None and findings.variance.cell_means is not None:
        found["interaction"] = "The strongest interaction"
    return found


@dataclass(frozen=True)
class Asked:
    """Figures to draw to a folder, by :func:`titles`, and what they are drawn from.

    ``columns`` of text is the width of those for a paper, which say so in their names.
    """

    titles: Mapping[str, str]
    target: Path
    columns: int
    metric: Metric
    watched: Metric  # the one of the curves
    position: str  # of a point of a curve: epoch or step
    letters: str
    cells: pd.DataFrame
    seeds: pd.DataFrame
    curves: pd.DataFrame
    effects: pd.DataFrame
    means: pd.DataFrame | None  # by the levels of two factors


def asked(findings: Findings, target: Path, columns: int = 0) -> Asked:
    """Asks for all figures that there are numbers for."""
    plan, variance = findings.plan, findings.variance
    return Asked(
        titles=titles(findings),
        target=target,
        columns=columns,
        metric=plan.primary,
        watched=watched(plan),
        position=position(plan),
        letters=letters(plan),
        cells=findings.cells,
        seeds=findings.seeds,
        curves=findings.curves,
        effects=findings.effects,
        means=None if variance is None else variance.cell_means,
    )


def letters(plan: Plan) -> str:
    """Returns all letters of the plan's labels, each once."""
    return "".join(sorted({letter for cell in plan.cells for letter in cell.label if not letter.isspace()}))


def has_curves(findings: Findings) -> bool:
    """Tells whether some cell has a curve: more than the one point that code may report at its end."""
    return bool(findings.curves["cell"].duplicated().any())


def curves_title(metric: Metric) -> str:
    return f"{capital(spoken(metric))} while training"


def telling(table: pd.DataFrame, by: pd.Series, most: int) -> pd.DataFrame:
    """Picks the ``most`` telling rows, in their order: the highest and the lowest ``by`` a number, and the baseline."""
    if len(table) <= most:
        return table
    own = table.get("is_baseline", pd.Series(False, table.index)).astype(bool)
    by = by.astype(float)
    order = by[~own].sort_values(kind="stable", na_position="first").index
    room = most - int(own.sum())
    kept = {*table.index[own], *order[len(order) - (room - room // 2) :], *order[by[order].isna().sum() :][: room // 2]}
    return table[[index in kept for index in table.index]]


def shown(cells: pd.DataFrame, by: pd.Series, *, labelled: bool = False) -> tuple[pd.DataFrame, str]:
    """Picks the cells that a figure has room for, with a sentence on others; in panels fewer if each is labelled.

    Those picked from very many share one panel: most panels would hold one of them, or none.
    """
    if len(cells) > MOST:
        cells = _in_one_panel(cells)
        lines = 1 + int(cells["variant"].str.count(", ").max())  # of a label beside its curve or point
        few = telling(cells, by, max(FEWEST, MOST_IN_PANEL // lines) if labelled else MOST)
    elif labelled:
        panels = [telling(here, by[here.index], MOST_IN_PANEL) for _, here in cells.groupby(["row", "column"])]
        few = cells[cells.index.isin(pd.concat(panels).index)]
    else:
        few = cells
    if len(few) == len(cells):
        return cells, ""
    return few, f" Shown: {len(few)} of {len(cells)} cells, the highest, the lowest, the baseline; all: cells.csv."


def _in_one_panel(cells: pd.DataFrame) -> pd.DataFrame:
    """Labels each cell with all of its levels."""
    places = cells[["column", "row", "variant"]].itertuples(index=False)
    return cells.assign(column="", row="", variant=[", ".join(filter(None, place)) for place in places], ordered=False)


def last_points(points: pd.DataFrame, cells: pd.DataFrame, name: str) -> pd.Series:
    """Where the curve of each cell ends, NaN without one."""
    return cells["cell"].map(points.groupby("cell")[name].last())
