"""The parts that all figures share: style and size, panels, colours and names of variants, and how they are saved.

Colours are Okabe and Ito's (2008), which colour-blind readers tell apart, or a scale from dark to light where variants
are numbers; marker shapes, dashes and direct labels say the same again, so that a print in grey loses nothing.
"""

from __future__ import annotations

import itertools
import math
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter

from bench.analysis.amounts import axis_label
from bench.grid.metrics import Metric

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
WHITE_GRID: dict[str, Any] = {  # seaborn's style of that name, whose import takes as long as half of a report's figures
    **dict.fromkeys(("axes.grid", "axes.axisbelow", "patch.force_edgecolor"), True),
    **dict.fromkeys(("axes.spines.left", "axes.spines.bottom", "axes.spines.right", "axes.spines.top"), True),
    **dict.fromkeys(("xtick.top", "xtick.bottom", "ytick.left", "ytick.right"), False),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor"), "white"),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), ".8"),
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), ".15"),
    **dict.fromkeys(("xtick.direction", "ytick.direction"), "out"),
    "font.family": ["sans-serif"],
    "font.sans-serif": ["Arial", "DejaVu Sans", "Liberation Sans", "Bitstream Vera Sans", "sans-serif"],
    "grid.linestyle": "-",
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "w",
}
STYLE: dict[str, Any] = WHITE_GRID | {
    "axes.titley": 1.0,  # else Matplotlib measures all ticks to see whether some are in the title's way
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
    "text.parse_math": False,  # a dollar in a label is a dollar
}
LABEL = 10.5  # points on the screen, of direct labels
LINES = {0: 28, 1: 18, 2: 28}  # letters of a line beside an axis, by columns
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
    family = {"font.family": mpl.rcParams["font.family"]}  # of :func:`bench.report.lettering.lettering`
    look: Any = STYLE | family | {name: size * scale for name, size in SIZES.items()}
    with mpl.rc_context(look), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # said by ``lettering.notes``
        yield


def scaled(size: float) -> float:
    """Converts a size in points on the screen to the figure that is drawn now."""
    return size * float(mpl.rcParams["font.size"]) / SIZES["font.size"]


def save(figure: Figure, path: Path, columns: int = 0) -> None:
    """Writes the figure to ``path`` with .png and .svg added; for a paper with .pdf, too, which takes longest."""
    with style(columns):
        settle(figure)
        figure.set_layout_engine("none")
        figure.savefig(path.with_name(f"{path.name}.png"))
        figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None})
        if columns:
            figure.savefig(path.with_name(f"{path.name}.pdf"), metadata={"CreationDate": None})


def settle(figure: Figure) -> None:
    """Finds the places of all axes, once what they hold is drawn: what a draw would do first, and no more."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)


# --- panels ---------------------------------------------------------------------------------------------------------


def empty_figure(width: float, height: float, title: str, about: str, columns: int) -> Figure:
    """Makes an empty figure of so many inches on the screen, below its title and the line that says what marks mean."""
    if columns:
        figure = Figure(figsize=(PAPER_WIDTHS[columns], height * PAPER_SCALE), dpi=PAPER_DPI)
        FigureCanvasAgg(figure)
        figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02)
        return figure
    lines = textwrap.wrap(about, int(width * 13))
    head = 0.5 + 0.19 * len(lines)
    figure = Figure(figsize=(width, height + head), dpi=DPI)
    FigureCanvasAgg(figure)
    left, total = 0.12 / width, height + head
    figure.set_layout_engine("constrained", rect=(left, 0.1 / total, 1 - 2 * left, (height - 0.1) / total), wspace=0.04)
    figure.text(left, 1 - 0.12 / total, title, fontsize=15, weight="bold", va="top")
    figure.text(left, 1 - 0.42 / total, "\n".join(lines), fontsize=LABEL, color=MUTED, va="top")
    return figure


def panelled(cells: pd.DataFrame, title: str, about: str, columns: int) -> tuple[Figure, Panels]:
    """Returns a figure with a panel for each combination of facets, and the cells of each panel."""
    levels, facets = cells["row"].unique(), cells["column"].unique()
    most = columns or (len(facets) if len(levels) > 1 else MAX_COLUMNS)
    num_columns = min(most, len(facets))
    num_rows = -(-len(levels) * len(facets) // num_columns)
    width = 5.2 * num_columns if num_columns > 1 else 7.5
    figure = empty_figure(width, 3.7 * num_rows, title, about, columns)
    grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
    panels = []
    places = [*itertools.product(levels, facets), *[(None, None)] * grid.size]
    for axes, (row, column) in zip(grid.flat, places, strict=False):
        here = cells[(cells["row"] == row) & (cells["column"] == column)]
        if here.empty:
            axes.remove()
        else:
            axes.set_title(heading(here, 40))
            axes.tick_params(labelbottom=True)
            panels.append((axes, here))
    return figure, panels


def rows(table: pd.DataFrame) -> list[Any]:
    """Returns the rows with their columns as attributes, by any name: a metric may be called ``loss/test``."""
    return [SimpleNamespace(**{str(name): value for name, value in row.items()}) for row in table.to_dict("records")]


def heading(panel: pd.DataFrame, letters: int) -> str:
    """Names a panel by its facets, in lines of so many letters as stand above it."""
    facets = ", ".join(facet for facet in (panel["column"].iloc[0], panel["row"].iloc[0]) if facet)
    return textwrap.fill(facets, letters, break_on_hyphens=False)


def name_axes(panels: Panels, metric: Metric, x: str) -> None:
    """Names the axes once for all panels; the upright one shows the metric."""
    figure = panels[0][0].figure
    for axes, _ in panels:
        measure_axis(axes, "y", metric)
    figure.supylabel(axis_label(metric), fontsize=scaled(12))
    figure.supxlabel(x, fontsize=scaled(12))


def measure_axis(axes: Axes, which: Literal["x", "y"], metric: Metric, most: int = 6) -> None:
    """Ticks for values of the metric, ``most`` in number: per cents for a share, a log axis for a log scale."""
    if metric.scale == "log":
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        plain_ticks(axes, which, most)
        return
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10]))
    if metric.is_share:
        axis.set_major_formatter(PERCENT)


def plain_ticks(axes: Axes, which: Literal["x", "y"], most: int = 5) -> None:
    """Numbers as they are written, not powers of ten; even steps where a log axis spans under a decade."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axes.get_xlim() if which == "x" else axes.get_ylim())
    few = high < 10 * low
    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10]) if few else LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axis.set_minor_formatter(NullFormatter())


def interval_of(cell: Any, metric: Metric) -> tuple[float, tuple[float, float]]:
    """Returns a cell's mean in the metric, and its interval as far as the metric's range goes."""
    value, *ends = (float(getattr(cell, f"{metric.name}{end}")) for end in ("", "_low", "_high"))
    least, most = (math.nan if end is None else end for end in metric.range)
    low, high = (float(np.fmin(np.fmax(end, least), most)) if end == end else end for end in ends)
    return value, (low, high)


def variant_looks(cells: pd.DataFrame) -> dict[str, tuple[str, str, str]]:
    """Chooses colour, marker and dashes of each variant."""
    variants = list(cells["variant"].unique())
    scale = cells["ordered"].all() and len(variants) > 2
    colors = _scale(len(variants)) if scale else OKABE_ITO
    return {variant: look_of(index, colors) for index, variant in enumerate(variants)}


def _scale(count: int) -> list[str]:
    """Returns so many colours from dark to light, as far apart as they can be and still be seen on white."""
    import seaborn as sns  # here: few figures need it, and it imports scipy.stats

    return list(sns.color_palette("viridis", count).as_hex())


def look_of(index: int, colors: Sequence[str] = OKABE_ITO) -> tuple[str, str, str]:
    return colors[index % len(colors)], MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)]


def rate_ticks(axes: Axes) -> Locator:
    return LogLocator(subs=(1, 2, 5)) if axes.get_xscale() == "log" else MaxNLocator(5, steps=[1, 2, 5, 10])


def seeds_text(cells: pd.DataFrame) -> str:
    planned = cells["planned"].max()
    return f"{planned} seeds" if planned > 1 else "one seed"


def losses(cell: Any) -> str:
    """Returns ``2 diverged``: what became of the trials of a cell that have no result."""
    missing = cell.planned - cell.n - cell.diverged - cell.failed
    counts = [(cell.diverged, "diverged"), (cell.failed, "failed"), (missing, "missing")]
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def name_absent(axes: Axes, absent: pd.DataFrame) -> None:
    """Says below a panel which of its cells have nothing to show, and why."""
    if len(absent):
        text = "not shown: " + ", ".join(f"{cell.variant} ({losses(cell)})" for cell in rows(absent))
        axes.set_xlabel(textwrap.fill(text, 50), loc="left", fontsize=scaled(9.5), color=MUTED)


def wrapped(label: str, columns: int = 0) -> str:
    """Returns the label in short lines: broken between levels, and within a level that would take half of a figure."""
    between = ", ".join(level.replace(" ", "\xa0") for level in label.split(", "))
    lines = textwrap.wrap(between, 18, break_long_words=False)
    return "\n".join(folded(line.replace("\xa0", " "), columns) for line in lines)


def folded(label: str, columns: int = 0) -> str:
    """Returns a label that an axis has room for beside what it shows: as it is, or in lines."""
    letters = LINES[columns]
    return label if len(label) <= letters else "\n".join(textwrap.wrap(label, letters))


def row_height(names: Iterable[str], least: float) -> float:
    """Returns the inches that each row of a figure needs for its name."""
    return max(least, 0.06 + 0.2 * max((name.count("\n") + 1 for name in names), default=1))
