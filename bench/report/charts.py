"""The page's interactive charts: tables of numbers in, plotly's plain data out; the page gives them its colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.analysis.amounts import axis_label, direction, spoken
from bench.analysis.tables import pareto
from bench.grid.metrics import Metric
from bench.report.escapes import plotly

# Okabe and Ito (2008), without black: the page may be dark.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x"]
DASHES = ["solid", "dash", "dot", "dashdot"]
COSTS = {
    "train_images_per_second": ("images per second in training", False),
    "parameters_low": ("parameters", True),
    "forward_macs_low": ("multiply-accumulates of one image", True),
}
Chart = dict[str, Any]


def forest(effects: pd.DataFrame, metric: Metric) -> Chart:
    """Draws each effect with its interval, in points or as ratio, hollow if undecided; no effect is an upright line."""
    symbols = ["diamond-open" if verdict == "undecided" else "diamond" for verdict in effects["verdict"]]
    ratio, unit = metric.scale == "log", metric.difference_unit
    names = [plotly(f"{row.factor}: {row.level} {'/' if ratio else '−'} {row.against}") for row in effects.itertuples()]
    numbers = effects[["difference", "difference_low", "difference_high"]].astype(float)
    numbers = numbers.map(math.exp) if ratio else numbers * metric.factor
    value, low, high = (numbers[name] for name in numbers)
    hover = "x %{x:.3f}" if ratio else f"%{{x:+.{1 if metric.is_share else 3}{'f' if metric.is_share else 'g'}}} {unit}"
    trace = {
        **{
            "type": "scatter",
            "mode": "markers",
            "x": _numbers(value),
            "y": names,
            "text": list(map(plotly, effects["sentence"])),
        },
        "error_x": {"array": _numbers(high - value), "arrayminus": _numbers(value - low), "thickness": 2, "width": 5},
        "marker": {"size": 11, "color": COLORS[0], "symbol": symbols, "line": {"width": 2, "color": COLORS[0]}},
        "hovertemplate": f"%{{y}}<br>{hover.rstrip()}<br>%{{text}}<extra></extra>",
    }
    title = f"{'ratio' if ratio else 'difference'} in {spoken(metric)}{', ' if unit else ''}{unit}"
    better = f" ({direction(metric)})" if direction(metric) else ""
    axis: Chart = {"title": {"text": title + better}, "rangemode": "tozero", "zerolinewidth": 2}
    layout: Chart = {"xaxis": axis, "yaxis": {"autorange": "reversed", "automargin": True}}
    if ratio:
        line = {"type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper", "line": {"width": 2}}
        layout |= {"xaxis": {"title": axis["title"], "type": "log"}, "shapes": [line]}
    return {"data": [trace], "layout": {**layout, "height": 140 + 45 * len(names), "showlegend": False}}


def _axis(metric: Metric) -> Chart:
    """Makes an axis for the metric: its name, unit and direction; per cents for a share, log for a log scale."""
    axis: Chart = {"title": {"text": axis_label(metric)}}
    return axis | ({"tickformat": ".0%"} if metric.is_share else {"type": "log"} if metric.scale == "log" else {})


def _form(metric: Metric) -> str:
    return ".1%" if metric.is_share else ".4g"


def curves(points: pd.DataFrame, cells: pd.DataFrame, metric: Metric) -> Chart:
    """Draws the metric on dev over epochs, a line per cell with the band over its seeds; the legend toggles both."""
    traces: list[Chart] = []
    known = set(points["cell"])
    for index, cell in enumerate(label for label in cells["cell"] if label in known):
        line, color = points[points["cell"] == cell], COLORS[index % len(COLORS)]
        x = _numbers(line["epoch"])
        band = {"type": "scatter", "mode": "lines", "legendgroup": cell, "showlegend": False, "hoverinfo": "skip"}
        band |= {"x": [*x, *x[::-1]], "y": [*_numbers(line["highest"]), *_numbers(line["lowest"])[::-1]]}
        traces.append({**band, "fill": "toself", "fillcolor": f"{color}2b", "line": {"width": 0}})
        look = {"color": color, "dash": DASHES[index // len(COLORS) % len(DASHES)], "width": 2}
        marker = {"symbol": SYMBOLS[index % len(SYMBOLS)], "size": 7}
        trace = {"type": "scatter", "mode": "lines+markers", "name": plotly(cell), "legendgroup": cell, "line": look}
        trace |= {"x": x, "y": _numbers(line[metric.name]), "marker": marker}
        traces.append({**trace, "hovertemplate": f"epoch %{{x:.3g}}: %{{y:{_form(metric)}}}"})
    axes: Chart = {"xaxis": {"title": {"text": "epochs trained"}}}
    axes["yaxis"] = _axis(metric) | ({"range": [0, 1.02]} if metric.is_share and metric.sign > 0 else {})
    legend = {"legend": {"orientation": "h", "y": -0.2}, "hovermode": "closest"}
    return {"data": traces, "layout": {**axes, **legend, "height": 460 + 14 * len(traces) // 2}}


def trade_offs(cells: pd.DataFrame, metric: Metric) -> list[Chart]:
    """Draws the primary metric against each cost that is known and differs, with the Pareto front."""
    known = cells[cells[metric.name].notna()]
    costs = [cost for cost in COSTS if cost in known and cost.removesuffix("_low") != metric.name]
    return [_trade_off(known, metric, cost) for cost in costs if known[cost].nunique() > 1]


def _trade_off(cells: pd.DataFrame, metric: Metric, cost: str) -> Chart:
    title, low_is_good = COSTS[cost]
    front = pareto(cells, metric, cost, low_is_good=low_is_good)
    shown = cells.dropna(subset=cost)
    y = shown[metric.name]
    low, high = (shown[f"{metric.name}_{end}"].clip(*metric.range) for end in ("low", "high"))
    bars = {"array": _numbers(high - y), "arrayminus": _numbers(y - low)}
    points: Chart = {"type": "scatter", "mode": "markers", "name": "cells", "text": list(map(plotly, shown["cell"]))}
    points |= {"x": _numbers(shown[cost]), "y": _numbers(y), "error_y": {**bars, "thickness": 1}}
    points |= {"marker": {"size": 10, "color": COLORS[0]}}
    points |= {"hovertemplate": f"%{{text}}<br>%{{x:,.4g}}, %{{y:{_form(metric)}}}<extra></extra>"}
    line: Chart = {"type": "scatter", "mode": "lines", "name": "Pareto front", "hoverinfo": "skip"}
    line |= {"x": _numbers(front[cost]), "y": _numbers(front[metric.name])}
    line |= {"line": {"color": COLORS[1], "dash": "dot", "width": 2}}
    axes = {"xaxis": {"title": {"text": title}}, "yaxis": _axis(metric)}
    return {
        "data": [line, points] if metric.sign else [points],
        "layout": {**axes, "height": 380, "legend": {"orientation": "h", "y": -0.25}},
    }


def interaction(means: pd.DataFrame, metric: Metric) -> Chart:
    """Draws the mean of the primary metric by the levels of two factors: parallel lines would be no interaction."""
    traces = [
        {
            **{
                "type": "scatter",
                "mode": "lines+markers",
                "name": plotly(f"{means.index.name}={level}"),
            },
            **{"x": [plotly(column) for column in means], "y": _numbers(means.loc[level])},
            "line": {"color": COLORS[index % len(COLORS)], "dash": DASHES[index % len(DASHES)], "width": 2},
            "marker": {"symbol": SYMBOLS[index % len(SYMBOLS)], "size": 10},
        }
        for index, level in enumerate(means.index)
    ]
    axes = {"xaxis": {"title": {"text": plotly(means.columns.name)}, "type": "category"}}
    axes |= {"yaxis": _axis(metric)}
    return {"data": traces, "layout": {**axes, "height": 360, "legend": {"orientation": "h", "y": -0.25}}}


def _numbers(values: Sequence[float] | pd.Series) -> list[float | None]:
    """Returns plain numbers; None, which plotly leaves out, where there is none."""
    return [None if pd.isna(value) else float(value) for value in values]
