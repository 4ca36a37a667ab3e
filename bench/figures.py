"""Figures of a report: each takes tables of numbers from :mod:`bench.tables` and draws them.

Every figure takes ``cells``: ``tables.cell_table`` joined with ``tables.layout``. Colours are Okabe and Ito's (2008),
which colour-blind readers tell apart, or one scale from dark to light where arms are numbers; marker shapes and direct
labels say the same again, so that a print in grey loses nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from scipy.optimize import isotonic_regression

OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
INK, MUTED = "#222222", "#595959"
STYLE = {
    "font.size": 12,
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#888888",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#E4E4E4",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "bench",  # the same numbers give the same file
}
LABEL = 10.5  # points, of direct labels
DPI = 200
MAX_COLUMNS = 3  # of panels, before they wrap


@contextmanager
def style() -> Iterator[None]:
    """The look of every figure, while it is drawn and saved."""
    with mpl.rc_context({**sns.axes_style("whitegrid"), **STYLE}):
        yield


def save(figure: Figure, path: Path) -> None:
    """Writes the figure to ``path`` with .png and with .svg added."""
    with style():
        figure.savefig(path.with_name(f"{path.name}.png"), dpi=DPI)
        figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None})


# --- the figures ----------------------------------------------------------------------------------------------------


def curves(points: pd.DataFrame, cells: pd.DataFrame) -> Figure:
    """Dev accuracy over epochs by cell (``points``: ``tables.curve_table``), each line labelled at its end."""
    about = "Line: mean of the seeds. Band: from the lowest to the highest seed."
    with style():
        figure, panels = _panels(cells, "Dev accuracy while training", about)
        looks = _looks(cells)
        ends: list[list[tuple[float, float, str, str]]] = []
        for axes, here in panels:
            ends.append([])
            for cell in here[here["cell"].isin(points["cell"])].itertuples():
                line, (color, marker) = points[points["cell"] == cell.cell], looks[cell.arm]
                x, y = line["epoch"].to_numpy(), line["dev_accuracy"].to_numpy()
                axes.fill_between(x, line["lowest"], line["highest"], color=color, alpha=0.15, linewidth=0)
                axes.plot(x, y, color=color, marker=marker, markevery=max(1, len(x) // 8), linewidth=2, clip_on=False)
                label = cell.arm if cell.n == cell.planned else f"{cell.arm} ({cell.n} of {cell.planned})"
                ends[-1].append((x[-1], y[-1], label, color))
            _name_absent(axes, here[~here["cell"].isin(points["cell"])])
            axes.set(xlim=(0, points["epoch"].max()), ylim=(0, 1))
            axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
        figure.supxlabel("epochs trained", fontsize=12)
        figure.supylabel("dev accuracy", fontsize=12)
        figure.draw_without_rendering()
        for (axes, _), lines in zip(panels, ends, strict=True):
            _label_ends(axes, lines)
    return figure


def seeds(dots: pd.DataFrame, cells: pd.DataFrame) -> Figure:
    """Test accuracy of each cell: every seed (``dots``: ``tables.seed_table``), mean and interval, and what failed."""
    about = "Dot: one seed. Diamond and bar: mean and 95 % t-interval over the seeds."
    with style():
        groups = list(cells.groupby(["column", "row"], sort=False))
        counts = [len(here) for _, here in groups]
        figure = _figure(9.0, 1.5 + 0.5 * len(groups) + 0.42 * sum(counts), "Test accuracy by cell", about)
        stack = figure.subplots(len(groups), 1, sharex=True, squeeze=False, height_ratios=counts)[:, 0]
        looks = _looks(cells)
        for axes, (facets, here) in zip(stack, groups, strict=True):
            axes.set_title(", ".join(filter(None, facets)))
            for y, cell in enumerate(here.itertuples()):
                values = np.sort(dots[dots["cell"] == cell.cell]["test_accuracy"].to_numpy())
                color, marker = looks[cell.arm]
                offsets = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(len(values))
                axes.scatter(values, y + offsets, s=34, color=color, marker=marker, alpha=0.65, linewidth=0, zorder=3)
                axes.plot([cell.test_accuracy_low, cell.test_accuracy_high], [y, y], color=INK, linewidth=2, zorder=4)
                axes.plot(cell.test_accuracy, y, marker="D", color=INK, markeredgecolor="white", markersize=7, zorder=5)
                axes.annotate(_tally(cell), (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=LABEL)
            axes.set(ylim=(len(here) - 0.5, -0.5), yticks=range(len(here)), yticklabels=here["arm"])
            axes.grid(axis="y", visible=False)
        low = np.nanmin([dots["test_accuracy"].min(), cells["test_accuracy_low"].min()])
        stack[-1].set(xlim=(max(0.0, low - 0.02), 1.005), xlabel="test accuracy")
        stack[-1].xaxis.set_major_formatter(PercentFormatter(1, 0))
    return figure


def trade_off(cells: pd.DataFrame) -> Figure:
    """Test accuracy against training throughput: a point a cell, with both intervals."""
    about = "Point: mean of the seeds. Bars: 95 % t-intervals over the seeds. Up and to the right is better."
    shown = cells.dropna(subset=["test_accuracy", "train_images_per_second"])
    with style():
        figure, panels = _panels(cells, "Test accuracy against training speed", about, margin=0.0)
        looks = _looks(cells)
        speeds = shown["train_images_per_second"]
        for axes, here in panels:
            if speeds.max() > 5 * speeds.min():
                axes.set_xscale("log")
            for cell in here[here["cell"].isin(shown["cell"])].itertuples():
                (color, marker), x, y = looks[cell.arm], cell.train_images_per_second, cell.test_accuracy
                axes.plot([cell.train_images_per_second_low, cell.train_images_per_second_high], [y, y], color=color)
                axes.plot([x, x], [cell.test_accuracy_low, cell.test_accuracy_high], color=color)
                axes.plot(x, y, color=color, marker=marker, markersize=9, markeredgecolor="white")
            _name_absent(axes, here[~here["cell"].isin(shown["cell"])])
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
            axes.margins(0.18, 0.12)
        figure.supxlabel("training throughput (images per second)", fontsize=12)
        figure.supylabel("test accuracy", fontsize=12)
        figure.draw_without_rendering()
        for axes, here in panels:
            _label_points(axes, here[here["cell"].isin(shown["cell"])])
    return figure


# --- panels ---------------------------------------------------------------------------------------------------------


def _figure(width: float, height: float, title: str, about: str) -> Figure:
    """An empty figure of so many inches, headed by its title and by what its marks mean."""
    lines = textwrap.wrap(about, int(width * 13.5))
    top = 0.45 + 0.2 * len(lines)
    figure = Figure(figsize=(width, height + top))
    FigureCanvasAgg(figure)
    pad = 0.12 / width
    figure.set_layout_engine("constrained", rect=(pad, 0.02, 1 - 2 * pad, 1 - top / (height + top) - 0.02))
    figure.text(pad, 1 - 0.12 / (height + top), title, fontsize=15, weight="bold", va="top")
    figure.text(pad, 1 - 0.43 / (height + top), "\n".join(lines), fontsize=LABEL, color=MUTED, va="top")
    return figure


def _panels(cells: pd.DataFrame, title: str, about: str) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """A figure with a panel for each combination of facets, and the cells of each panel."""
    groups = list(cells.groupby(["column", "row"], sort=False))
    num_columns = cells["column"].nunique() if cells["row"].nunique() > 1 else min(MAX_COLUMNS, len(groups))
    num_rows = -(-len(groups) // num_columns)
    figure = _figure(4.9 * num_columns + (2.4 if num_columns == 1 else 0.4), 3.7 * num_rows, title, about)
    grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
    if cells["row"].nunique() > 1:
        places = itertools.product(cells["row"].unique(), cells["column"].unique())
    else:
        places = itertools.product(cells["row"].unique(), cells["column"].unique())
    return figure, panels


def _looks(cells: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Colour and marker of each arm."""
    arms = list(dict.fromkeys(cells["arm"]))
    scale = cells["ordered"].all() and len(arms) > 2
    colors = sns.color_palette("viridis", len(arms)).as_hex() if scale else OKABE_ITO
    return {arm: (colors[i % len(colors)], MARKERS[i % len(MARKERS)]) for i, arm in enumerate(arms)}


def _tally(cell: Any) -> str:
    """``n = 3, 2 diverged``: how many trials stand behind a cell's mean, and what became of the others."""
    missing = cell.planned - cell.n - cell.diverged - cell.failed
    others = [(cell.diverged, "diverged"), (cell.failed, "failed"), (missing, "missing")]
    return ", ".join([f"n = {cell.n}", *(f"{count} {word}" for count, word in others if count)])


def _name_absent(axes: Axes, absent: pd.DataFrame) -> None:
    """Says beside a panel's title which of its cells have nothing to show."""
    if len(absent):
        arms = ", ".join(absent["arm"]) if len(absent) <= 2 else f"{len(absent)} arms"
        axes.set_title(f"no result: {arms}", loc="right", fontsize=9.5, weight="normal", color=MUTED)


# --- labels ---------------------------------------------------------------------------------------------------------


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """The places nearest to ``wanted`` (least squares), in its order, ``gap`` apart and within ``low`` to ``high``.

    With the gaps taken out this is isotonic regression. Where there is no room for all, the gap shrinks.
    """
    order = np.argsort(wanted, kind="stable")
    if len(order) == 0:
        return np.empty(0)
    gap = min(gap, (high - low) / max(1, len(order) - 1))
    steps = gap * np.arange(len(order))
    near = isotonic_regression(np.asarray(wanted, float)[order] - steps).x
    places = np.empty(len(order))
    places[order] = np.clip(near, low, high - steps[-1]) + steps
    return places


def _label_ends(axes: Axes, lines: Sequence[tuple[float, float, str, str]]) -> None:
    """Writes each line's label right of its end ``(x, y, label, colour)``, none over another."""
    texts = [textwrap.fill(label, 26) for _, _, label, _ in lines]
    height = axes.get_window_extent().height / axes.figure.dpi * 72  # points
    gap = LABEL * 1.25 * max((text.count("\n") + 1 for text in texts), default=1) / height
    ends = [axes.transAxes.inverted().transform(axes.transData.transform(line[:2]))[1] for line in lines]
    for (x, y, _, color), text, place in zip(lines, texts, spread(ends, gap, 0.0, 1.0), strict=True):
        axes.annotate(
            text, (x, y), (1.06, place), textcoords="axes fraction", va="center", fontsize=LABEL, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 1.2, "shrinkA": 1, "shrinkB": 4},
        )


def _label_points(axes: Axes, cells: pd.DataFrame) -> None:
    """Writes each cell's arm beside its point, where it covers least of points, bars and other labels."""
    points = axes.transData.transform(cells[["train_images_per_second", "test_accuracy"]].to_numpy())
    taken = [Bbox.from_bounds(*(point - 9), 18, 18) for point in points]
    for cell, point in sorted(zip(cells.itertuples(), points, strict=True), key=lambda pair: -pair[1][1]):
        spot, box = min(_spots(axes, cell.arm, point), key=lambda s: _cost(s, taken))
        taken.append(box)
