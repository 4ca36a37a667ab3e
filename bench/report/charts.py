"""The page's interactive charts: tables of numbers in, plotly's plain data out.

A chart has ``panels``, each with ``data`` and ``layout`` of plotly and a ``title``; the names of its ``axes``; and the
``legend`` of what its colours, dashes and symbols mean, which the page writes as text beside boxes that show and hide.
Colours that begin with ``--`` are those of the page's style sheet, which knows whether it is dark.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.amounts import axis_label, capital, direction, significant, spoken
from bench.analysis.tables import pareto
from bench.analysis.verdicts import DECIDED
from bench.grid.metrics import Metric
from bench.report.escapes import plotly, versus

# Okabe and Ito (2008), without black: the page may be dark.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x"]
DASHES = ["solid", "dash", "dot", "dashdot"]
COSTS = {
    "train_images_per_second": ("images per second in training", False),
    "parameters_low": ("parameters", True),
    "forward_macs_low": ("multiply-accumulates of one image", True),
}
VERDICT_COLORS = {"better": "--good", "worse": "--bad"}
LETTERS = 44  # of a line in a chart on a narrow screen
FEW_POINTS = 12  # whose cells a legend names
Chart = dict[str, Any]


def _look(index: int) -> dict[str, str]:
    """Returns colour, dashes and symbol: no two of the first 84 are alike in all three."""
    color, symbol = COLORS[index % len(COLORS)], SYMBOLS[index % len(SYMBOLS)]
    return {"color": color, "dash": DASHES[index // len(COLORS) % len(DASHES)], "symbol": symbol}


def _chart(panels: list[Chart], x: str, y: str, legend: Sequence[Chart] = ()) -> Chart:
    return {"panels": panels, "axes": {"x": x, "y": y}, "legend": list(legend)}


# --- effects --------------------------------------------------------------------------------------------------------


def forest(effects: pd.DataFrame, metric: Metric) -> Chart:
    """Draws each effect with its interval, in points or as ratio, below its name and verdict.

    Better and worse differ in colour and side, and each side says which it is; what is undecided or equivalent is
    hollow and grey. The band is the grid's margin.
    """
    ratio, unit = metric.scale == "log", metric.difference_unit
    numbers = effects[["difference", "difference_low", "difference_high"]].astype(float)
    numbers = numbers.map(math.exp) if ratio else numbers * metric.factor
    colors = [VERDICT_COLORS.get(verdict, "--muted") for verdict in effects["verdict"]]
    labels = _labels(effects, ratio)
    ends = _ends(numbers, 1.0 if ratio else 0.0)
    layout: Chart = {"xaxis": _log_axis(*ends) if ratio else {"range": ends, "zerolinewidth": 2}}
    layout["yaxis"] = {"range": [len(effects) - 0.6, -0.95], "visible": False}
    layout["shapes"] = [*_margin(metric, ratio), *_bars(numbers, colors)]
    layout["annotations"] = [*labels, *_sides(metric)]
    layout["height"] = round(70 + 34 * sum(1.6 + 0.9 * label["text"].count("<br>") for label in labels))
    better = f" ({direction(metric)})" if direction(metric) else ""
    title = f"{'ratio' if ratio else 'difference'} in {spoken(metric)}{', ' if unit else ''}{unit}{better}"
    data = [_middles(effects, numbers.iloc[:, 0], colors, metric)]
    return _chart([{"title": "", "data": data, "layout": layout}], title, "")


def _middles(effects: pd.DataFrame, values: pd.Series, colors: Sequence[str], metric: Metric) -> Chart:
    """Draws the effects themselves, without their intervals."""
    symbols = ["diamond" if verdict in DECIDED else "diamond-open" for verdict in effects["verdict"]]
    form = "+.1f" if metric.is_share else "+.3g"
    hover = "x %{x:.3f}" if metric.scale == "log" else f"%{{x:{form}}} {metric.difference_unit}".rstrip()
    return {
        **{"type": "scatter", "mode": "markers", "x": _numbers(values), "y": list(range(len(effects)))},
        "text": [_wrapped(sentence) for sentence in effects["sentence"]],
        "hovertemplate": f"{hover}<br>%{{text}}<extra></extra>",
        "marker": {"size": 12, "color": colors, "symbol": symbols, "line": {"width": 2, "color": colors}},
    }


def _bars(numbers: pd.DataFrame, colors: Sequence[str]) -> list[Chart]:
    """Draws each interval that is known as a line of its own colour, which plotly's error bars cannot have."""
    return [
        {"type": "line", "x0": low, "x1": high, "y0": place, "y1": place, "line": {"color": color, "width": 3}}
        for place, ((_, low, high), color) in enumerate(zip(numbers.to_numpy().tolist(), colors, strict=True))
        if not math.isnan(low)
    ]


def _labels(effects: pd.DataFrame, ratio: bool) -> list[Chart]:
    """Writes above each interval what it is of, and its verdict."""
    place = {"xref": "paper", "x": 0, "xanchor": "left", "yanchor": "bottom", "yshift": 9, "showarrow": False}
    return [
        {**place, "align": "left", "y": at, "text": _wrapped(f"{row.factor}: {levels}: {row.verdict}")}
        for at, row in enumerate(effects.itertuples())
        for levels in [versus(str(row.level), str(row.against), is_ratio=ratio)]
    ]


def _sides(metric: Metric) -> list[Chart]:
    """Says on either side of no effect whether it is the better one."""
    if metric.sign == 0:
        return []
    below, above = ("worse", "better") if metric.sign > 0 else ("better", "worse")
    place = {"xref": "x", "x": 0, "yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False}
    return [
        {**place, "xanchor": "right", "xshift": -8, "text": f"← {below}", "font": {"color": VERDICT_COLORS[below]}},
        {**place, "xanchor": "left", "xshift": 8, "text": f"{above} →", "font": {"color": VERDICT_COLORS[above]}},
    ]


def _margin(metric: Metric, ratio: bool) -> list[Chart]:
    """Draws the line of no effect, and around it the differences that do not matter."""
    line: Chart = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "line": {"color": "--muted", "width": 2}}
    none = 1.0 if ratio else 0.0
    line |= {"x0": none, "x1": none}
    if metric.tolerance is None:
        return [line]
    ends = [math.exp(sign * metric.tolerance) if ratio else sign * metric.tolerance * metric.factor for sign in (-1, 1)]
    band: Chart = {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "x0": ends[0], "x1": ends[1], "layer": "below"}
    return [{**band, "fillcolor": "--line", "opacity": 0.6, "line": {"width": 0}}, line]


def _ends(numbers: pd.DataFrame, none: float) -> list[float]:
    """Returns where an axis for the numbers ends: no effect is on it, with room for a word on either side."""
    known = [float(one) for one in numbers.to_numpy().ravel() if math.isfinite(one)]
    low, high = min([none, *known]), max([none, *known])
    if none > 0:
        low, high = min(low, 0.97), max(high, 1.03)
        room = (high / low) ** 0.25
        return [low / room, high * room]
    room = 0.25 * ((high - low) or 1.0)
    return [low - room, high + room]


def _wrapped(text: str) -> str:
    """Returns the text in lines that a narrow screen has room for."""
    return "<br>".join(plotly(line) for line in textwrap.wrap(text, LETTERS) or [""])


# --- curves ---------------------------------------------------------------------------------------------------------


def curves(points: pd.DataFrame, cells: pd.DataFrame, metric: Metric, position: str = "epoch") -> Chart:
    """Draws the metric on dev over epochs, a panel per combination of facets, a line and a band per variant.

    ``position`` is what stands there for an epoch. ``cells`` are those with a curve; colours, dashes and
    symbols belong to the variant in all panels.
    """
    looks = {variant: _look(index) for index, variant in enumerate(cells["variant"].unique())}
    upright, until = _axis(metric, points[["lowest", "highest"]]), float(points["epoch"].max())
    panels = []
    for facets, here in cells.groupby(["column", "row"], sort=False):
        data = [
            trace
            for cell in here.itertuples()
            for trace in _curve(points, cell, looks[str(cell.variant)], metric, position)
        ]
        axes = {"xaxis": {"range": [0, until]}, "yaxis": upright}
        layout = {**axes, "hovermode": "closest", "height": 260 if len(cells) > len(looks) else 420}
        panels.append({"title": ", ".join(str(facet) for facet in facets if facet), "data": data, "layout": layout})
    legend = [{"name": variant, **look} for variant, look in looks.items()]
    return _chart(panels, f"{position}s trained", capital(axis_label(metric)), legend)


def _curve(points: pd.DataFrame, cell: Any, look: dict[str, str], metric: Metric, position: str) -> list[Chart]:
    """Draws the band over a cell's seeds and the line of its means."""
    line = points[points["cell"] == cell.cell]
    x, group = _numbers(line["epoch"]), {"legendgroup": cell.variant, "showlegend": False}
    band: Chart = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": {"width": 0}, **group}
    band |= {"x": [*x, *x[::-1]], "y": [*_numbers(line["highest"]), *_numbers(line["lowest"])[::-1]]}
    mean: Chart = {"type": "scatter", "mode": "lines+markers", "name": plotly(cell.cell), **group}
    mean |= {"x": x, "y": _numbers(line[metric.name]), "marker": {"symbol": look["symbol"], "size": 7}}
    mean |= {"line": {"color": look["color"], "dash": look["dash"], "width": 2}}
    said = f"{_wrapped(cell.cell)}<br>{position} %{{x:.3g}}: %{{y:{_form(metric)}}}<extra></extra>"
    return [{**band, "fill": "toself", "fillcolor": f"{look['color']}2b"}, {**mean, "hovertemplate": said}]


def _axis(metric: Metric, values: pd.DataFrame) -> Chart:
    """Makes an upright axis that holds the values: per cents for a share, from 0 where it is to be high."""
    numbers = values.to_numpy(float)
    known = numbers[np.isfinite(numbers) & ((numbers > 0) | (metric.scale != "log"))]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if metric.scale == "log":
        room = max(1.02, (high / low) ** 0.05) if low > 0 else 2.0
        return _log_axis((low or 0.1) / room, high * room)
    room = 0.05 * ((high - low) or abs(high) or 1.0)
    ends = [low - room, min(1.02, high + room) if metric.is_share else high + room]
    return {"range": ends, "tickformat": ".3~p"} if metric.is_share else {"range": ends}


def _log_axis(low: float, high: float) -> Chart:
    """Makes a log axis whose ticks are numbers as they are written."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(one / 10 for one in range(10, 100))):
        ticks = [digit * 10.0**decade for decade in decades for digit in digits if low <= digit * 10.0**decade <= high]
        if len(ticks) > 3:
            break
    ticks = ticks[:: -(-len(ticks) // 8)]
    text = [significant(tick, 3) for tick in ticks]
    return {"type": "log", "range": [math.log10(low), math.log10(high)], "tickvals": ticks, "ticktext": text}


def _form(metric: Metric) -> str:
    return ".1%" if metric.is_share else ".4g"


# --- costs and interactions -----------------------------------------------------------------------------------------


def trade_offs(cells: pd.DataFrame, metric: Metric) -> dict[str, Chart]:
    """Draws the primary metric against each cost that is known and differs, with the Pareto front; by that column.

    ``cells`` have their names in the column ``words``.
    """
    known = cells[cells[metric.name].notna()]
    costs = [cost for cost in COSTS if cost in known and cost.removesuffix("_low") != metric.name]
    return {cost: _trade_off(known, metric, cost) for cost in costs if known[cost].nunique() > 1}


def front_of(cells: pd.DataFrame, metric: Metric, cost: str) -> pd.DataFrame:
    """Returns the cells that no other beats in both metric and ``cost``, a column of :data:`COSTS`."""
    return pareto(cells, metric, cost, low_is_good=COSTS[cost][1])


def _trade_off(cells: pd.DataFrame, metric: Metric, cost: str) -> Chart:
    front, shown = front_of(cells, metric, cost), cells.dropna(subset=cost)
    line: Chart = {"type": "scatter", "mode": "lines", "legendgroup": "front", "hoverinfo": "skip"}
    line |= {"x": _numbers(front[cost]), "y": _numbers(front[metric.name])}
    line |= {"line": {"color": "--muted", "dash": "dot", "width": 2}}
    legend = [{"name": "no other is better in both", "key": "front", "color": "--muted", "dash": "dot", "symbol": ""}]
    named = len(shown) <= FEW_POINTS
    groups = [(str(words), own) for words, own in shown.groupby("words", sort=False)] if named else [("cells", shown)]
    looks = {name: {**_look(index), "dash": ""} for index, (name, _) in enumerate(groups)}
    points = [_points(own, looks[name], name, metric, cost) for name, own in groups]
    low, high = float(shown[cost].min()), float(shown[cost].max())
    level: Chart = _log_axis(low / 1.3, high * 1.3) if 0 < 10 * low < high else {}
    ends = shown[[f"{metric.name}{end}" for end in ("", "_low", "_high")]].clip(*metric.range)
    layout = {"xaxis": level, "yaxis": _axis(metric, ends), "height": 380, "hovermode": "closest"}
    legend = (legend if metric.sign else []) + [{"name": name, **look} for name, look in looks.items()]
    panel = {"title": "", "data": [*([line] if metric.sign else []), *points], "layout": layout}
    return _chart([panel], COSTS[cost][0], capital(axis_label(metric)), legend)


def _points(cells: pd.DataFrame, look: dict[str, str], name: str, metric: Metric, cost: str) -> Chart:
    y = cells[metric.name]
    low, high = (cells[f"{metric.name}_{end}"].clip(*metric.range) for end in ("low", "high"))
    found: Chart = {"type": "scatter", "mode": "markers", "legendgroup": name}
    found |= {"x": _numbers(cells[cost]), "y": _numbers(y), "text": [_wrapped(cell) for cell in cells["cell"]]}
    found["error_y"] = {"array": _numbers(high - y), "arrayminus": _numbers(y - low), "thickness": 1.5}
    found["marker"] = {"size": 11, "color": look["color"], "symbol": look["symbol"]}
    return found | {"hovertemplate": f"%{{text}}<br>%{{x:,.4g}}, %{{y:{_form(metric)}}}<extra></extra>"}


def interaction(means: pd.DataFrame, metric: Metric) -> Chart:
    """Draws the mean of the primary metric by the levels of two factors: parallel lines would be no interaction."""
    looks = {f"{means.index.name}={level}": _look(index) for index, level in enumerate(means.index)}
    levels = [plotly(level) for level in means]
    data = [
        {
            **{"type": "scatter", "mode": "lines+markers", "legendgroup": name},
            **{"x": levels, "y": _numbers(means.iloc[index])},
            "line": {"color": look["color"], "dash": look["dash"], "width": 2},
            "marker": {"symbol": look["symbol"], "size": 10},
            "hovertemplate": f"{_wrapped(name)}<br>%{{x}}: %{{y:{_form(metric)}}}<extra></extra>",
        }
        for index, (name, look) in enumerate(looks.items())
    ]
    layout = {"xaxis": {"type": "category"}, "yaxis": _axis(metric, means), "height": 360, "hovermode": "closest"}
    legend = [{"name": name, **look} for name, look in looks.items()]
    panel = {"title": "", "data": data, "layout": layout}
    return _chart([panel], str(means.columns.name), capital(axis_label(metric)), legend)


def _numbers(values: Sequence[float] | pd.Series) -> list[float | None]:
    """Returns plain numbers; None, which plotly leaves out, where there is none."""
    return [None if pd.isna(value) else float(value) for value in values]
