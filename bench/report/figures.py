"""Figures of a report: each takes tables of numbers from :mod:`bench.analysis.summaries` and draws them.

Every figure takes ``cells``: ``comparison.cell_table`` joined with ``summaries.layout``. Colours are Okabe and Ito's
(2008), which colour-blind readers tell apart, or one scale from dark to light where arms are numbers; marker shapes,
dashes and direct labels say the same again, so that a print in grey loses nothing.

With ``columns`` 1 or 2 a figure is for a paper: as wide as so many columns of text, in letters of 8 points, without
a title, which the caption gives. With 0 it is for the screen.
"""

from __future__ import annotations

import itertools
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
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter
from scipy.optimize import isotonic_regression

from bench.analysis.comparison import sampled

OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
DASHES = ["-", "--", "-.", ":"]
INK, MUTED = "#222222", "#595959"
SIZES = {  # points, on the screen
    "font.size": 12,
    "axes.titlesize": 12.5,
    "axes.labelsize": 12,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "axes.labelpad": 4,
    "axes.titlepad": 6,
    "xtick.major.pad": 3.5,
    "ytick.major.pad": 3.5,
    "lines.linewidth": 2,
    "lines.markersize": 6,
    "axes.linewidth": 1,
    "grid.linewidth": 1,
}
STYLE = {
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
    "pdf.fonttype": 42,  # letters stay letters, as publishers ask
    "svg.hashsalt": "bench",  # the same numbers give the same file
}
LABEL = 10.5  # points on the screen, of direct labels
DPI, PAPER_DPI = 200, 400
PAPER_WIDTHS = {1: 3.3, 2: 6.9}  # inches, by columns
PAPER_SCALE = 8 / 12
GOLDEN = 0.618034  # its multiples, modulo one, keep apart however many there are
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.3g} %")
MAX_COLUMNS = 3  # of panels, before they wrap

Panels = list[tuple[Axes, pd.DataFrame]]


@contextmanager
def style(columns: int = 0) -> Iterator[None]:
    """The look of every figure, while it is drawn and while it is saved."""
    scale = PAPER_SCALE if columns else 1.0
    with mpl.rc_context(sns.axes_style("whitegrid") | STYLE | {name: size * scale for name, size in SIZES.items()}):
        yield


def scaled(size: float) -> float:
    """What a size in points on the screen is in the figure that is drawn now."""
    return size * float(mpl.rcParams["font.size"]) / SIZES["font.size"]


def save(figure: Figure, path: Path, columns: int = 0) -> None:
    """Writes the figure to ``path`` with .png, .svg and .pdf added."""
    with style(columns):
        figure.savefig(path.with_name(f"{path.name}.png"), dpi=PAPER_DPI if columns else DPI)
        figure.set_layout_engine("none")
        figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None})
        figure.savefig(path.with_name(f"{path.name}.pdf"), metadata={"CreationDate": None})


# --- the figures ----------------------------------------------------------------------------------------------------


def curves(points: pd.DataFrame, cells: pd.DataFrame, columns: int = 0) -> Figure:
    """Dev accuracy over epochs by cell (``points``: ``summaries.curve_table``), each line labelled at its end."""
    about = f"Line: mean of {_seeds(cells)}. Band: from the lowest to the highest seed."
    looks = _looks(cells)
    with style(columns):
        figure, panels = _panels(cells, "Dev accuracy while training", about, columns)
        ends: list[list[tuple[float, float, str, str]]] = []
        for axes, here in panels:
            ends.append([])
            for cell in _rows(here[here["cell"].isin(points["cell"])]):
                line, (color, marker, dash) = points[points["cell"] == cell.cell], looks[cell.arm]
                x, y = line["epoch"].to_numpy(), line["dev_accuracy"].to_numpy()
                axes.fill_between(x, line["lowest"], line["highest"], color=color, alpha=0.15, linewidth=0)
                every = max(1, len(x) // 8)
                axes.plot(x, y, color=color, marker=marker, linestyle=dash, markevery=every, clip_on=False)
                label = cell.arm if cell.n == cell.planned else f"{cell.arm} ({cell.n} of {cell.planned})"
                ends[-1].append((x[-1], y[-1], label, color))
            _name_absent(axes, here[~here["cell"].isin(points["cell"])])
            axes.set(xlim=(0, points["epoch"].max()), ylim=(0, 1))
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=bool(points["epoch"].max() >= 2)))
        _percent(panels, "dev accuracy", "epochs trained")
        figure.draw_without_rendering()
        for (axes, _), lines in zip(panels, ends, strict=True):
            _label_ends(axes, lines)
    return figure


def seeds(dots: pd.DataFrame, cells: pd.DataFrame, columns: int = 0) -> Figure:
    """Test accuracy of each cell: every seed (``dots``: ``seed_table``), mean and interval, and what failed."""
    about = f"Coloured: one seed each. Black: mean and 95 % interval over {sampled(cells)}."
    looks = _looks(cells)
    with style(columns):
        groups = list(cells.groupby(["row", "column"], sort=False))
        counts = [len(here) for _, here in groups]
        height = 0.9 + 0.45 * len(groups) + 0.42 * len(cells)
        figure = _figure(9.0, height, "Test accuracy by cell", about, columns)
        stack = figure.subplots(len(groups), 1, sharex=True, squeeze=False, height_ratios=counts)[:, 0]
        for axes, (_, here) in zip(stack, groups, strict=True):
            axes.set_title(_heading(here))
            for y, cell in enumerate(_rows(here)):
                (color, marker, _), own = looks[cell.arm], dots[dots["cell"] == cell.cell]
                heights = y - 0.12 + 0.28 * ((np.arange(len(own)) * GOLDEN) % 1 - 0.5)
                look: dict[str, Any] = {"color": color, "marker": marker, "s": scaled(6.5) ** 2, "alpha": 0.75}
                axes.scatter(own["test_accuracy"], heights, **look, linewidth=0)
                bar = np.clip([cell.test_accuracy_low, cell.test_accuracy_high], 0, 1)
                axes.plot(bar, [y + 0.22] * 2, color=INK)
                mean: dict[str, Any] = {"marker": "d", "color": INK, "markeredgecolor": "white"}
                axes.plot(cell.test_accuracy, y + 0.22, **mean, markersize=scaled(9))
                place = {"xycoords": axes.get_yaxis_transform(), "va": "center", "fontsize": scaled(LABEL)}
                said = filter(None, [f"n = {cell.n}", _losses(cell)])
                axes.annotate((",\n" if columns == 1 else ", ").join(said), (1.02, y), **place)
            names = [_wrapped(arm) for arm in here["arm"]] if columns == 1 else here["arm"]
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
    rounds = "rounds" in set(cells.get("train_images_per_second_basis", ()))
    bars = "Upright: 95 % interval. Level: slowest to fastest round" if rounds else "Bars: 95 % intervals"
    about = f"Point: mean of {_seeds(cells)}. {bars}. Up and to the right is better."
    looks, rates = _looks(cells), cells["train_images_per_second"]
    known = cells["cell"][rates.notna()]
    with style(columns):
        figure, panels = _panels(cells, "Test accuracy against training speed", about, columns)
        for axes, here in panels:
            for cell in _rows(here[here["cell"].isin(known)]):
                (color, marker, _), x, y = looks[cell.arm], cell.train_images_per_second, cell.test_accuracy
                axes.plot([cell.train_images_per_second_low, cell.train_images_per_second_high], [y, y], color=color)
                axes.plot([x, x], np.clip([cell.test_accuracy_low, cell.test_accuracy_high], 0, 1), color=color)
                axes.plot(x, y, color=color, marker=marker, markersize=scaled(9), markeredgecolor="white")
            _name_absent(axes, here[~here["cell"].isin(known)])
            axes.margins(0.2, 0.18)
        if rates.max() > 5 * rates.min():
            axes.set_xscale("log")
        for axes, _ in panels:
            axes.xaxis.set(major_locator=_rate_ticks(axes), major_formatter="{x:,.0f}", minor_formatter=NullFormatter())
            axes.set_yticks([tick for tick in axes.get_yticks() if -1e-9 <= tick <= 1 + 1e-9])
        _percent(panels, "test accuracy", "images per second in training")
        figure.draw_without_rendering()
        for axes, here in panels:
            _label_points(axes, here[here["cell"].isin(known)])
    return figure


def forest(effects: pd.DataFrame, columns: int = 0) -> Figure:
    """The difference of each level to the baseline's with its interval (``effects``: ``findings.effect_table``)."""
    about = "Difference to the baseline in test accuracy, points, with its 95 % interval. Hollow: undecided."
    with style(columns):
        figure = _figure(7.5, 0.9 + 0.45 * len(effects), "Effects on test accuracy", about, columns)
        axes = figure.subplots()
        axes.axvline(0, color=MUTED, linewidth=scaled(1.5))
        for y, row in enumerate(_rows(effects)):
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
        names = [f"{row.factor}:\n{row.level} − {row.against}" for row in _rows(effects)]
        axes.set(ylim=(len(effects) - 0.5, -0.5), yticks=range(len(effects)), yticklabels=names, xlabel="points")
        axes.grid(axis="y", visible=False)
    return figure


def interaction(means: pd.DataFrame, columns: int = 0) -> Figure:
    """Mean test accuracy by the levels of two factors: a line a row of ``means``, its columns along the axis."""
    about = "Mean over seeds and the levels of other factors. Parallel lines: no interaction."
    title = f"Interaction of {means.index.name} and {means.columns.name}"
    with style(columns):
        figure = _figure(7.5, 3.7, title, about, columns)
        axes = figure.subplots()
        lines = []
        for index, level in enumerate(means.index):
            color, marker, dash = _look(index)
            heights = means.loc[level].to_numpy(float)
            axes.plot(range(means.shape[1]), heights, color=color, marker=marker, linestyle=dash)
            known = np.flatnonzero(np.isfinite(heights))
            if known.size:
                lines.append((float(known[-1]), float(heights[known[-1]]), str(level), color))
        axes.set(xticks=range(means.shape[1]), xticklabels=[str(level) for level in means], xlabel=means.columns.name)
        axes.set_ylabel("test accuracy")
        axes.yaxis.set_major_formatter(PERCENT)
        figure.draw_without_rendering()
        _label_ends(axes, lines)
    return figure


# --- panels ---------------------------------------------------------------------------------------------------------


def _figure(width: float, height: float, title: str, about: str, columns: int) -> Figure:
    """An empty figure of so many inches on the screen, there below its title and the line that says what marks mean."""
    if columns:
        figure = Figure(figsize=(PAPER_WIDTHS[columns], height * PAPER_SCALE))
        FigureCanvasAgg(figure)
        figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02)
        return figure
    lines = textwrap.wrap(about, int(width * 13))
    head = 0.5 + 0.19 * len(lines)
    figure = Figure(figsize=(width, height + head))
    FigureCanvasAgg(figure)
    left, total = 0.12 / width, height + head
    figure.set_layout_engine("constrained", rect=(left, 0.1 / total, 1 - 2 * left, (height - 0.1) / total), wspace=0.04)
    figure.text(left, 1 - 0.12 / total, title, fontsize=15, weight="bold", va="top")
    figure.text(left, 1 - 0.42 / total, "\n".join(lines), fontsize=LABEL, color=MUTED, va="top")
    return figure


def _panels(cells: pd.DataFrame, title: str, about: str, columns: int) -> tuple[Figure, Panels]:
    """A figure with a panel for each combination of facets, and the cells of each panel."""
    rows, facets = cells["row"].unique(), cells["column"].unique()
    most = columns or (len(facets) if len(rows) > 1 else MAX_COLUMNS)
    num_columns = min(most, len(facets))
    num_rows = -(-len(rows) * len(facets) // num_columns)
    width = 5.2 * num_columns if num_columns > 1 else 7.5
    figure = _figure(width, 3.7 * num_rows, title, about, columns)
    grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
    panels = []
    places = [*itertools.product(rows, facets), *[(None, None)] * grid.size]
    for axes, (row, column) in zip(grid.flat, places, strict=False):
        here = cells[(cells["row"] == row) & (cells["column"] == column)]
        if here.empty:
            axes.remove()
        else:
            axes.set_title(_heading(here))
            axes.tick_params(labelbottom=True)
            panels.append((axes, here))
    return figure, panels


def _rows(table: pd.DataFrame) -> list[Any]:
    return list(table.itertuples())


def _heading(panel: pd.DataFrame) -> str:
    return ", ".join(facet for facet in (panel["column"].iloc[0], panel["row"].iloc[0]) if facet)


def _percent(panels: Panels, y: str, x: str) -> None:
    """Names the axes once for all panels; the upright one is in percent."""
    figure = panels[0][0].figure
    figure.supxlabel(x, fontsize=scaled(12))
    figure.supylabel(y, fontsize=scaled(12))
    for axes, _ in panels:
        axes.yaxis.set_major_formatter(PERCENT)


def _looks(cells: pd.DataFrame) -> dict[str, tuple[str, str, str]]:
    """Colour, marker and dashes of each arm."""
    arms = list(cells["arm"].unique())
    scale = cells["ordered"].all() and len(arms) > 2
    colors = sns.color_palette("viridis", len(arms)).as_hex() if scale else OKABE_ITO
    return {arm: _look(index, colors) for index, arm in enumerate(arms)}


def _look(index: int, colors: Sequence[str] = OKABE_ITO) -> tuple[str, str, str]:
    return colors[index % len(colors)], MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)]


def _rate_ticks(axes: Axes) -> Locator:
    return LogLocator(subs=(1, 2, 5)) if axes.get_xscale() == "log" else MaxNLocator(5, steps=[1, 2, 5, 10])


def _seeds(cells: pd.DataFrame) -> str:
    planned = cells["planned"].max()
    return f"{planned} seeds" if planned > 1 else "one seed"


def _losses(cell: Any) -> str:
    """``2 diverged``: what became of the trials of a cell that have no result."""
    missing = cell.planned - cell.n - cell.diverged - cell.failed
    counts = [(cell.diverged, "diverged"), (cell.failed, "failed"), (missing, "missing")]
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def _name_absent(axes: Axes, absent: pd.DataFrame) -> None:
    """Says below a panel which of its cells have nothing to show, and why."""
    if len(absent):
        text = "not shown: " + ", ".join(f"{cell.arm} ({_losses(cell)})" for cell in _rows(absent))
        axes.set_xlabel(textwrap.fill(text, 50), loc="left", fontsize=scaled(9.5), color=MUTED)


# --- labels ---------------------------------------------------------------------------------------------------------


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """The places nearest to ``wanted`` (least squares), in its order, ``gap`` apart and within ``low`` to ``high``.

    With the gaps taken out this is isotonic regression. Where there is no room for all, the gap shrinks.
    """
    order = np.argsort(wanted, kind="stable")
    if len(order) == 0:
        return np.empty(0)
    steps = min(gap, (high - low) / max(1, len(order) - 1)) * np.arange(len(order))
    near = isotonic_regression(np.asarray(wanted, float)[order] - steps).x
    places = np.empty(len(order))
    places[order] = np.clip(near, low, high - steps[-1]) + steps
    return places


def _wrapped(label: str) -> str:
    """The label in short lines, broken between levels only."""
    return textwrap.fill(
        ", ".join(level.replace(" ", "\xa0") for level in label.split(", ")), 18, break_long_words=False
    )


def _label_ends(axes: Axes, lines: Sequence[tuple[float, float, str, str]]) -> None:
    """Writes each line's label right of its end ``(x, y, label, colour)``, none over another."""
    texts = [_wrapped(label) for _, _, label, _ in lines]
    height = axes.get_window_extent().height / axes.figure.dpi * 72  # points
    gap = scaled(LABEL) * 1.3 * max((text.count("\n") + 1 for text in texts), default=1) / height
    low, high = axes.get_ylim()
    places = spread([(y - low) / (high - low) for _, y, _, _ in lines], gap, 0.0, 1.0)
    for (x, y, _, color), text, place in zip(lines, texts, places, strict=True):
        leader = {"arrowstyle": "-", "color": color, "linewidth": scaled(1.2)}
        leader |= {"shrinkA": scaled(2), "shrinkB": scaled(4)}
        leader |= {"relpos": (0, 0.5), "patchA": None}  # up to the middle of the text's left side
        at: dict[str, Any] = {"xytext": (1.06, place), "textcoords": "axes fraction", "va": "center"}
        axes.annotate(text, (x, y), fontsize=scaled(LABEL), arrowprops=leader, annotation_clip=False, **at)


def _label_points(axes: Axes, cells: pd.DataFrame) -> None:
    """Writes each cell's arm beside its point, where it covers the least of other points, bars and labels."""
    unit = axes.figure.dpi / 72
    taken = [mark for cell in _rows(cells) for mark in _marks(axes, cell)]
    for cell in _rows(cells.sort_values("test_accuracy")):
        at = (cell.train_images_per_second, cell.test_accuracy)
        label = axes.annotate(_wrapped(cell.arm), at, xytext=(0, 0), textcoords="offset points", fontsize=scaled(LABEL))
        extent, point = label.get_window_extent(), axes.transData.transform(at)
        spots = [np.multiply(way, reach) for reach in map(scaled, (9, 13, 18, 28, 42)) for way in WAYS]
        boxes = [_beside(point, unit * spot, extent.width, extent.height) for spot in spots]
        costs = [_cost(box, taken, axes) + 8 * np.hypot(*spot) for box, spot in zip(boxes, spots, strict=True)]
        spot, box = spots[int(np.argmin(costs))], boxes[int(np.argmin(costs))]
        taken.append((*box, 20.0))
        label.xyann = tuple((box[:2] - point) / unit)
        if np.hypot(*spot) > scaled(20):
            leader = {"arrowstyle": "-", "color": MUTED, "linewidth": scaled(0.8), "shrinkA": 0, "shrinkB": scaled(5)}
            axes.annotate("", at, xytext=(spot[0], spot[1]), textcoords="offset points", arrowprops=leader)


WAYS = [(1, 0), (-1, 0), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7), (0, 1), (0, -1)]
Mark = tuple[float, float, float, float, float]  # a box in pixels, and how bad it is to cover a pixel of it


def _marks(axes: Axes, cell: Any) -> list[Mark]:
    """A cell's point and its two bars."""
    rate, accuracy = cell.train_images_per_second, cell.test_accuracy
    bars = [(cell.train_images_per_second_low, accuracy), (cell.train_images_per_second_high, accuracy)]
    bars += [(rate, cell.test_accuracy_low), (rate, cell.test_accuracy_high)]
    places = axes.transData.transform([(rate, accuracy), *bars])
    point, left, right, bottom, top = np.where(np.isnan(places), places[0], places)
    return [(*(point - 9), *(point + 9), 20.0), (*(left - 2), *(right + 2), 2.0), (*(bottom - 2), *(top + 2), 2.0)]


def _beside(point: np.ndarray, offset: np.ndarray, width: float, height: float) -> np.ndarray:
    """The box (left, bottom, right, top) of a text that begins ``offset`` from the point, on that side of it."""
    low = point + offset + np.array([width, height]) * (np.sign(offset) - 1) / 2
    return np.concatenate([low, low + np.array([width, height])])


def _cost(box: np.ndarray, taken: Sequence[Mark], axes: Axes) -> float:
    """How bad a place is: pixels over what is drawn already, weighted, and pixels outside the axes."""
    marks = np.array(taken)
    sides = np.minimum(box[2:], marks[:, 2:4]) - np.maximum(box[:2], marks[:, :2])
    frame = axes.get_window_extent()
    inside = np.minimum(box[2:], frame.max) - np.maximum(box[:2], frame.min)
    outside = np.prod(box[2:] - box[:2]) - np.prod(inside.clip(0))
    return float(sides.clip(0).prod(1) @ marks[:, 4] + 5 * outside)
