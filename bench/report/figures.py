"""Figures of a report: each takes tables of numbers from :mod:`bench.analysis.summaries` and draws them.

Every figure takes ``cells``: ``comparison.cell_table`` joined with ``summaries.layout``. With ``columns`` 1 or 2 it is
for a paper: as wide as so many columns of text, in letters of 8 points, without a title, which the caption gives. With
0 it is for the screen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from bench.analysis.comparison import sampled
from bench.report.canvas import (
    GOLDEN,
    INK,
    LABEL,
    MUTED,
    OKABE_ITO,
    PERCENT,
    arm_looks,
    empty_figure,
    heading,
    look_of,
    losses,
    name_absent,
    panelled,
    percent_axes,
    rate_ticks,
    rows,
    scaled,
    seeds_text,
    style,
    wrapped,
)
from bench.report.labels import label_ends, label_points
from bench.report.telling import MOST, MOST_IN_PANEL, shown, telling

ROOM = 60  # letters that an axis has room for in one line


def curves(points: pd.DataFrame, cells: pd.DataFrame, columns: int = 0) -> Figure:
    """Dev accuracy over epochs by cell (``points``: ``summaries.curve_table``), each line labelled at its end."""
    cells, others = shown(cells, labelled=True)
    about = f"Line: mean of {seeds_text(cells)}. Band: from the lowest to the highest seed.{others}"
    looks = arm_looks(cells)
    with style(columns):
        figure, panels = panelled(cells, "Dev accuracy while training", about, columns)
        ends: list[list[tuple[float, float, str, str]]] = []
        for axes, here in panels:
            ends.append([])
            for cell in rows(here[here["cell"].isin(points["cell"])]):
                line, (color, marker, dash) = points[points["cell"] == cell.cell], looks[cell.arm]
                x, y = line["epoch"].to_numpy(), line["dev_accuracy"].to_numpy()
                axes.fill_between(x, line["lowest"], line["highest"], color=color, alpha=0.15, linewidth=0)
                every = max(1, len(x) // 8)
                axes.plot(x, y, color=color, marker=marker, linestyle=dash, markevery=every, clip_on=False)
                label = cell.arm if cell.n == cell.planned else f"{cell.arm} ({cell.n} of {cell.planned})"
                ends[-1].append((x[-1], y[-1], label, color))
            name_absent(axes, here[~here["cell"].isin(points["cell"])])
            axes.set(xlim=(0, points["epoch"].max()), ylim=(0, 1))
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=bool(points["epoch"].max() >= 2)))
        percent_axes(panels, "dev accuracy", "epochs trained")
        figure.draw_without_rendering()
        for (axes, _), lines in zip(panels, ends, strict=True):
            label_ends(axes, lines)
    return figure


def seeds(dots: pd.DataFrame, cells: pd.DataFrame, columns: int = 0) -> Figure:
    """Test accuracy of each cell: every seed (``dots``: ``seed_table``), mean and interval, and what failed."""
    cells, others = shown(cells)
    about = f"Coloured: one seed each. Black: mean and 95 % interval over {sampled(cells)}.{others}"
    looks = arm_looks(cells)
    with style(columns):
        groups = list(cells.groupby(["row", "column"], sort=False))
        counts = [len(here) for _, here in groups]
        height = 0.9 + 0.45 * len(groups) + 0.42 * len(cells)
        figure = empty_figure(9.0, height, "Test accuracy by cell", about, columns)
        stack = figure.subplots(len(groups), 1, sharex=True, squeeze=False, height_ratios=counts)[:, 0]
        for axes, (_, here) in zip(stack, groups, strict=True):
            axes.set_title(heading(here))
            for y, cell in enumerate(rows(here)):
                (color, marker, _), own = looks[cell.arm], dots[dots["cell"] == cell.cell]
                heights = y - 0.12 + 0.28 * ((np.arange(len(own)) * GOLDEN) % 1 - 0.5)
                look: dict[str, Any] = {"color": color, "marker": marker, "s": scaled(6.5) ** 2, "alpha": 0.75}
                axes.scatter(own["test_accuracy"], heights, **look, linewidth=0)
                bar = np.clip([cell.test_accuracy_low, cell.test_accuracy_high], 0, 1)
                axes.plot(bar, [y + 0.22] * 2, color=INK)
                mean: dict[str, Any] = {"marker": "d", "color": INK, "markeredgecolor": "white"}
                axes.plot(cell.test_accuracy, y + 0.22, **mean, markersize=scaled(9))
                place = {"xycoords": axes.get_yaxis_transform(), "va": "center", "fontsize": scaled(LABEL)}
                said = filter(None, [f"n = {cell.n}", losses(cell)])
                axes.annotate((",\n" if columns == 1 else ", ").join(said), (1.02, y), **place)
            names = [wrapped(arm) for arm in here["arm"]] if columns == 1 else here["arm"]
            axes.set(ylim=(len(here) - 0.5, -0.5), yticks=range(len(here)), yticklabels=names)
            axes.grid(axis="y", visible=False)
        ends = pd.concat([dots["test_accuracy"], cells["test_accuracy_low"], cells["test_accuracy_high"]])
        low, high = ends.min(), ends.max()
        edge = 0.06 * (high - low) + 0.002
        stack[-1].set(xlim=(low - edge if low > 0.15 else 0, min(1.005, high + edge)), xlabel="test accuracy")
        stack[-1].xaxis.set_major_locator(MaxNLocator(3 if columns == 1 else 6, steps=[1, 2, 5, 10]))
        stack[-1].xaxis.set_major_formatter(PERCENT)
    return figure


def trade_off(cells: pd.DataFrame, columns: int = 0) -> Figure:
    """Test accuracy against training throughput: a point a cell, with both intervals."""
    cells, others = shown(cells, labelled=True)
    rounds = "rounds" in set(cells.get("train_images_per_second_basis", ()))
    bars = "Upright: 95 % interval. Level: slowest to fastest round" if rounds else "Bars: 95 % intervals"
    about = f"Point: mean of {seeds_text(cells)}. {bars}. Up and to the right is better.{others}"
    looks, rates = arm_looks(cells), cells["train_images_per_second"]
    known = cells["cell"][rates.notna()]
    with style(columns):
        figure, panels = panelled(cells, "Test accuracy against training speed", about, columns)
        for axes, here in panels:
            for cell in rows(here[here["cell"].isin(known)]):
                (color, marker, _), x, y = looks[cell.arm], cell.train_images_per_second, cell.test_accuracy
                axes.plot([cell.train_images_per_second_low, cell.train_images_per_second_high], [y, y], color=color)
                axes.plot([x, x], np.clip([cell.test_accuracy_low, cell.test_accuracy_high], 0, 1), color=color)
                axes.plot(x, y, color=color, marker=marker, markersize=scaled(9), markeredgecolor="white")
            name_absent(axes, here[~here["cell"].isin(known)])
            axes.margins(0.2, 0.18)
        if rates.max() > 5 * rates.min():
            axes.set_xscale("log")
        for axes, _ in panels:
            axes.xaxis.set(major_locator=rate_ticks(axes), major_formatter="{x:,.0f}", minor_formatter=NullFormatter())
            axes.set_yticks([tick for tick in axes.get_yticks() if -1e-9 <= tick <= 1 + 1e-9])
        percent_axes(panels, "test accuracy", "images per second in training")
        figure.draw_without_rendering()
        for axes, here in panels:
            label_points(axes, here[here["cell"].isin(known)])
    return figure


def forest(effects: pd.DataFrame, columns: int = 0) -> Figure:
    """The difference of each level to the baseline's with its interval (``effects``: ``findings.effect_table``)."""
    about = "Difference to the baseline in test accuracy, points, with its 95 % interval. Hollow: undecided."
    few = telling(effects, effects["difference"], MOST)
    about += f" Shown: {len(few)} of {len(effects)}, the highest and the lowest." if len(few) < len(effects) else ""
    effects = few
    with style(columns):
        figure = empty_figure(7.5, 0.9 + 0.45 * len(effects), "Effects on test accuracy", about, columns)
        axes = figure.subplots()
        axes.axvline(0, color=MUTED, linewidth=scaled(1.5))
        for y, row in enumerate(rows(effects)):
            face = "white" if row.verdict == "undecided" else OKABE_ITO[0]
            axes.plot([100 * row.difference_low, 100 * row.difference_high], [y, y], color=OKABE_ITO[0])
            look: dict[str, Any] = {
                "marker": "D",
                "markersize": scaled(8),
                "markerfacecolor": face,
                "markeredgecolor": OKABE_ITO[0],
            }
            axes.plot(100 * row.difference, y, **look)
            place: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "va": "center", "fontsize": scaled(LABEL)}
            axes.annotate(row.verdict, (1.02, y), **place)
        names = [f"{row.factor}:\n{row.level} − {row.against}" for row in rows(effects)]
        axes.set(ylim=(len(effects) - 0.5, -0.5), yticks=range(len(effects)), yticklabels=names, xlabel="points")
        axes.grid(axis="y", visible=False)
    return figure


def interaction(means: pd.DataFrame, columns: int = 0) -> Figure:
    """Mean test accuracy by the levels of two factors: a line a row of ``means``, its columns along the axis."""
    about = "Mean over seeds and the levels of other factors. Parallel lines: no interaction."
    few = telling(means, means.mean(axis=1), MOST_IN_PANEL)
    about += f" Shown: {len(few)} of {len(means)} levels, the highest and the lowest." if len(few) < len(means) else ""
    means = few
    title = f"Interaction of {means.index.name} and {means.columns.name}"
    with style(columns):
        figure = empty_figure(7.5, 3.7, title, about, columns)
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
        if sum(len(str(level)) + 2 for level in means) > ROOM:
            axes.tick_params(axis="x", labelrotation=90, labelsize=scaled(min(12, 12 * 30 / means.shape[1])))
        axes.set_ylabel("test accuracy")
        axes.yaxis.set_major_formatter(PERCENT)
        figure.draw_without_rendering()
        label_ends(axes, lines)
    return figure
