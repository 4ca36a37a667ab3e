"""Figures of a report: each takes tables of numbers from :mod:`bench.analysis.summaries` and draws them.

Every figure takes ``cells``: ``comparison.cell_table`` joined with ``summaries.layout``. With ``columns`` 1 or 2 it is
for a paper: as wide as so many columns of text, in letters of 8 points, without a title, which the caption gives. With
0 it is for the screen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from bench.analysis.amounts import axis_label, capital, direction, spoken
from bench.analysis.tables import sampled
from bench.grid.metrics import Metric
from bench.report.canvas import (
    GOLDEN,
    INK,
    LABEL,
    MUTED,
    OKABE_ITO,
    empty_figure,
    folded,
    heading,
    interval_of,
    look_of,
    losses,
    measure_axis,
    name_absent,
    name_axes,
    panelled,
    plain_ticks,
    rate_ticks,
    row_height,
    rows,
    scaled,
    seeds_text,
    settle,
    style,
    variant_looks,
    wrapped,
)
from bench.report.escapes import versus
from bench.report.labels import label_ends, label_points
from bench.report.telling import MOST, MOST_IN_PANEL, RATE, Asked, curves_title, last_points, shown, telling

ROOM = 60  # letters that an axis has room for in one line


def figure_of(asked: Asked, name: str) -> Figure:
    """Draws one of the figures that are asked for, by its file name."""
    cells, metric, columns = asked.cells, asked.metric, asked.columns
    if name == "curves":
        return curves(asked.curves, cells, asked.watched, columns, f"{asked.position}s trained")
    if name == "trade_off":
        return trade_off(cells, metric, columns)
    if name == "forest":
        return forest(asked.effects, metric, columns)
    if name == "interaction" and asked.means is not None:
        return interaction(asked.means, metric, columns)
    return metric_by_cell(asked.seeds, cells, metric, columns)


def curves(
    points: pd.DataFrame, cells: pd.DataFrame, metric: Metric, columns: int = 0, x_label: str = "epochs trained"
) -> Figure:
    """Draws the metric on dev over epochs by cell (``points``: ``summaries.curve_table``), each labelled at its end."""
    cells, others = shown(cells, last_points(points, cells, metric.name), labelled=True)
    mean = "geometric mean" if metric.scale == "log" else "mean"
    about = f"Line: {mean} of {seeds_text(cells)}. Band: from the lowest to the highest seed.{others}"
    looks = variant_looks(cells)
    with style(columns):
        figure, panels = panelled(cells, curves_title(metric), about, columns)
        ends: list[list[tuple[float, float, str, str]]] = []
        for axes, here in panels:
            ends.append([])
            for cell in rows(here[here["cell"].isin(points["cell"])]):
                line, (color, marker, dash) = points[points["cell"] == cell.cell], looks[cell.variant]
                x, y = line["epoch"].to_numpy(), line[metric.name].to_numpy()
                axes.fill_between(x, line["lowest"], line["highest"], color=color, alpha=0.15, linewidth=0)
                every = max(1, len(x) // 8)
                axes.plot(x, y, color=color, marker=marker, linestyle=dash, markevery=every, clip_on=False)
                label = cell.variant if cell.n == cell.planned else f"{cell.variant} ({cell.n} of {cell.planned})"
                ends[-1].append((x[-1], y[-1], label, color))
            name_absent(axes, here[~here["cell"].isin(points["cell"])])
            axes.set_xlim(0, points["epoch"].max())
            if metric.is_share and metric.sign > 0:
                axes.set_ylim(0, 1)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=bool(points["epoch"].max() >= 2)))
        name_axes(panels, metric, x_label)
        settle(figure)
        for (axes, _), lines in zip(panels, ends, strict=True):
            label_ends(axes, lines)
    return figure


def metric_by_cell(dots: pd.DataFrame, cells: pd.DataFrame, metric: Metric, columns: int = 0) -> Figure:
    """Draws the primary metric of each cell: every seed (``dots``: ``seed_table``), mean and interval, and failures."""
    cells, others = shown(cells, cells[metric.name])
    average = "geometric mean" if metric.scale == "log" else "mean"
    about = f"Coloured: one seed each. Black: {average} and 95 % interval over {sampled(metric, cells)}.{others}"
    looks = variant_looks(cells)
    with style(columns):
        groups = list(cells.groupby(["row", "column"], sort=False))
        counts = [len(here) for _, here in groups]
        fold = wrapped if columns == 1 else folded
        names = {name: fold(name, columns) for name in cells["variant"]}
        height = 0.9 + 0.45 * len(groups) + row_height(map(folded, cells["variant"]), 0.42) * len(cells)
        figure = empty_figure(9.0, height, f"{capital(spoken(metric))} by cell", about, columns)
        stack = figure.subplots(len(groups), 1, sharex=True, squeeze=False, height_ratios=counts)[:, 0]
        for axes, (_, here) in zip(stack, groups, strict=True):
            axes.set_title(heading(here, 36 if columns == 1 else 72))
            for y, cell in enumerate(rows(here)):
                (color, marker, _), own = looks[cell.variant], dots[dots["cell"] == cell.cell]
                heights = y - 0.12 + 0.28 * ((np.arange(len(own)) * GOLDEN) % 1 - 0.5)
                look: dict[str, Any] = {"color": color, "marker": marker, "s": scaled(6.5) ** 2, "alpha": 0.75}
                axes.scatter(own[metric.name], heights, **look, linewidth=0)
                value, bar = interval_of(cell, metric)
                axes.plot(bar, [y + 0.22] * 2, color=INK)
                mean: dict[str, Any] = {"marker": "d", "color": INK, "markeredgecolor": "white"}
                axes.plot(value, y + 0.22, **mean, markersize=scaled(9))
                place = {"xycoords": axes.get_yaxis_transform(), "va": "center", "fontsize": scaled(LABEL)}
                said = filter(None, [f"n = {cell.n}", losses(cell)])
                axes.annotate((",\n" if columns == 1 else ", ").join(said), (1.02, y), **place)
            axes.set(ylim=(len(here) - 0.5, -0.5), yticks=range(len(here)))
            axes.set_yticklabels([names[variant] for variant in here["variant"]])
            axes.grid(axis="y", visible=False)
        ends = cells[[f"{metric.name}_low", f"{metric.name}_high"]].clip(*metric.range)
        _fit(stack[-1], metric, np.concatenate([dots[metric.name], ends.to_numpy(float).ravel()]))
        stack[-1].set_xlabel(axis_label(metric))
        for axes in stack:
            measure_axis(axes, "x", metric, most=3 if columns == 1 else 6)
    return figure


def _fit(axes: Axes, metric: Metric, values: np.ndarray) -> None:
    """Limits around the values of a linear metric, from 0 where shares are near it; a share ends at 100 %."""
    known = values[np.isfinite(values)]
    if metric.scale == "log" or not known.size or not known.min() < known.max():
        return
    low, high = known.min(), known.max()
    edge = 0.06 * (high - low)
    if metric.is_share:
        edge += 0.002
        axes.set_xlim(low - edge if low > 0.15 else 0, min(1.005, high + edge))
    else:
        axes.set_xlim(low - edge, high + edge)


def trade_off(cells: pd.DataFrame, metric: Metric, columns: int = 0) -> Figure:
    """Draws the primary metric against training throughput: a point per cell, with both intervals."""
    cells, others = shown(cells, cells[metric.name], labelled=True)
    rounds = "rounds" in set(cells.get("train_images_per_second_basis", ()))
    bars = "Upright: 95 % interval. Level: slowest to fastest round" if rounds else "Bars: 95 % intervals"
    about = f"Point: mean of {seeds_text(cells)}. {bars}.{BETTER[metric.better]}{others}"
    looks, rates = variant_looks(cells), cells[RATE]
    known = cells["cell"][rates.notna()]
    with style(columns):
        figure, panels = panelled(cells, f"{capital(spoken(metric))} against training speed", about, columns)
        for axes, here in panels:
            for cell in rows(here[here["cell"].isin(known)]):
                (color, marker, _), x, (y, bar) = (
                    looks[cell.variant],
                    cell.train_images_per_second,
                    interval_of(cell, metric),
                )
                axes.plot([cell.train_images_per_second_low, cell.train_images_per_second_high], [y, y], color=color)
                axes.plot([x, x], bar, color=color)
                axes.plot(x, y, color=color, marker=marker, markersize=scaled(9), markeredgecolor="white")
            name_absent(axes, here[~here["cell"].isin(known)])
            axes.margins(0.2, 0.18)
        if rates.max() > 5 * rates.min():
            axes.set_xscale("log")
        for axes, _ in panels:
            axes.xaxis.set(major_locator=rate_ticks(axes), major_formatter="{x:,.0f}", minor_formatter=NullFormatter())
        name_axes(panels, metric, "images per second in training")
        for axes, _ in panels if metric.is_share else []:
            axes.set_yticks([tick for tick in axes.get_yticks() if -1e-9 <= tick <= 1 + 1e-9])
        settle(figure)
        for axes, here in panels:
            label_points(axes, here[here["cell"].isin(known)], metric)
    return figure


BETTER = {"higher": " Up and to the right is better.", "lower": " Down and to the right is better.", "neither": ""}


def forest(effects: pd.DataFrame, metric: Metric, columns: int = 0) -> Figure:
    """Draws each level's difference to the baseline's, with intervals (``effects``: ``findings.effect_tables``)."""
    ratio, better = metric.scale == "log", f" {capital(direction(metric))}." if direction(metric) else ""
    what = "Ratio" if ratio else "Difference"
    unit = f", {metric.difference_unit}" if metric.difference_unit else ""
    about = f"{what} to the baseline in {spoken(metric)}{unit}, with its 95 % interval. Hollow: undecided.{better}"
    few = telling(effects, effects["difference"], MOST)
    about += f" Shown: {len(few)} of {len(effects)}, the highest and the lowest." if len(few) < len(effects) else ""
    effects = few
    numbers = effects[["difference", "difference_low", "difference_high"]].to_numpy(float)
    numbers = np.exp(numbers) if ratio else numbers * metric.factor
    levels = [folded(versus(row.level, row.against, is_ratio=ratio), columns) for row in rows(effects)]
    names = [f"{folded(row.factor, columns)}:\n{level}" for row, level in zip(rows(effects), levels, strict=True)]
    with style(columns):
        figure = empty_figure(
            7.5, 0.9 + row_height(names, 0.45) * len(effects), f"Effects on {spoken(metric)}", about, columns
        )
        axes = figure.subplots()
        axes.axvline(1 if ratio else 0, color=MUTED, linewidth=scaled(1.5))
        for y, (row, (value, low, high)) in enumerate(zip(rows(effects), numbers, strict=True)):
            face = "white" if row.verdict == "undecided" else OKABE_ITO[0]
            axes.plot([low, high], [y, y], color=OKABE_ITO[0])
            look: dict[str, Any] = {
                "marker": "D",
                "markersize": scaled(8),
                "markerfacecolor": face,
                "markeredgecolor": OKABE_ITO[0],
            }
            axes.plot(value, y, **look)
            place: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "va": "center", "fontsize": scaled(LABEL)}
            axes.annotate(row.verdict, (1.02, y), **place)
        axes.set(ylim=(len(effects) - 0.5, -0.5), yticks=range(len(effects)), yticklabels=names)
        axes.set_xlabel(f"{what.lower()} in {spoken(metric)}{unit}" if not metric.is_share else metric.difference_unit)
        if ratio:
            axes.set_xscale("log")
            plain_ticks(axes, "x")
        axes.grid(axis="y", visible=False)
    return figure


def interaction(means: pd.DataFrame, metric: Metric, columns: int = 0) -> Figure:
    """Draws the mean of the primary metric by the levels of two factors: a line per row of ``means``."""
    mean = "Geometric mean" if metric.scale == "log" else "Mean"
    about = f"{mean} over seeds and the levels of other factors. Parallel lines: no interaction."
    few = telling(means, means.mean(axis=1), MOST_IN_PANEL)
    about += f" Shown: {len(few)} of {len(means)} levels, the highest and the lowest." if len(few) < len(means) else ""
    means = few
    upright = sum(len(str(level)) + 2 for level in means) > ROOM
    size = min(12.0, 12 * 30 / means.shape[1]) if upright else 12.0
    long = max((len(str(level)) for level in means), default=0) * 0.6 * size / 72 if upright else 0.0
    title = f"Interaction of {means.index.name} and {means.columns.name}"
    with style(columns):
        figure = empty_figure(7.5, 3.7 + max(0.0, long - 1.2), title, about, columns)
        axes = figure.subplots()
        lines = []
        for index, level in enumerate(means.index):
            color, marker, dash = look_of(index)
            heights = means.loc[level].to_numpy(float)
            axes.plot(range(means.shape[1]), heights, color=color, marker=marker, linestyle=dash)
            known = np.flatnonzero(np.isfinite(heights))
            if known.size:
                lines.append((float(known[-1]), float(heights[known[-1]]), str(level), color))
        axes.set(xticks=range(means.shape[1]), xticklabels=[str(level) for level in means], xlabel=means.columns.name)
        if upright:
            axes.tick_params(axis="x", labelrotation=90, labelsize=scaled(size))
        axes.set_ylabel(axis_label(metric))
        measure_axis(axes, "y", metric)
        settle(figure)
        label_ends(axes, lines)
    return figure
