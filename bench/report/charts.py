"""The page's interactive charts: tables of numbers in, plotly's plain data out; the page gives them its colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.analysis.comparison import pareto
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


def forest(effects: pd.DataFrame) -> Chart:
    """Each effect with its interval, in points, hollow where undecided; no effect is the line at 0."""
    symbols = ["diamond-open" if verdict == "undecided" else "diamond" for verdict in effects["verdict"]]
    names = [plotly(f"{row.factor}: {row.level} − {row.against}") for row in effects.itertuples()]
    value, low, high = (effects[name] * 100 for name in ("difference", "difference_low", "difference_high"))
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
        "hovertemplate": "%{y}<br>%{x:+.1f} points<br>%{text}<extra></extra>",
    }
    axes = {
        "xaxis": {"title": {"text": "difference in test accuracy, points"}, "rangemode": "tozero", "zerolinewidth": 2}
    }
    axes |= {"yaxis": {"autorange": "reversed", "automargin": True}}
    return {"data": [trace], "layout": {**axes, "height": 140 + 45 * len(names), "showlegend": False}}


def curves(points: pd.DataFrame, cells: pd.DataFrame) -> Chart:
    """Dev accuracy over epochs, a line a cell with the band over its seeds; the legend toggles both."""
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
        trace |= {"x": x, "y": _numbers(line["dev_accuracy"]), "marker": marker}
        traces.append({**trace, "hovertemplate": "epoch %{x:.3g}: %{y:.1%}"})
    axes: Chart = {"xaxis": {"title": {"text": "epochs trained"}}}
    axes["yaxis"] = {"title": {"text": "dev accuracy"}, "tickformat": ".0%", "range": [0, 1.02]}
    legend = {"legend": {"orientation": "h", "y": -0.2}, "hovermode": "closest"}
    return {"data": traces, "layout": {**axes, **legend, "height": 460 + 14 * len(traces) // 2}}


def trade_offs(cells: pd.DataFrame) -> list[Chart]:
    """Test accuracy against each cost that is known and differs, with the Pareto front."""
    known = cells[cells["test_accuracy"].notna()]
    return [_trade_off(known, cost) for cost in COSTS if known[cost].nunique() > 1]


def _trade_off(cells: pd.DataFrame, cost: str) -> Chart:
    title, low_is_good = COSTS[cost]
    front = pareto(cells, cost, low_is_good=low_is_good)
    shown = cells.dropna(subset=cost)
    y = shown["test_accuracy"]
    low, high = shown["test_accuracy_low"].clip(lower=0), shown["test_accuracy_high"].clip(upper=1)
    bars = {"array": _numbers(high - y), "arrayminus": _numbers(y - low)}
    points: Chart = {"type": "scatter", "mode": "markers", "name": "cells", "text": list(map(plotly, shown["cell"]))}
    points |= {"x": _numbers(shown[cost]), "y": _numbers(y), "error_y": {**bars, "thickness": 1}}
    points |= {"marker": {"size": 10, "color": COLORS[0]}}
    points |= {"hovertemplate": "%{text}<br>%{x:,.4g}, %{y:.1%}<extra></extra>"}
    line: Chart = {"type": "scatter", "mode": "lines", "name": "Pareto front", "hoverinfo": "skip"}
    line |= {"x": _numbers(front[cost]), "y": _numbers(front["test_accuracy"])}
    line |= {"line": {"color": COLORS[1], "dash": "dot", "width": 2}}
    axes = {"xaxis": {"title": {"text": title}}, "yaxis": {"title": {"text": "test accuracy"}, "tickformat": ".0%"}}
    return {"data": [line, points], "layout": {**axes, "height": 380, "legend": {"orientation": "h", "y": -0.25}}}


def interaction(means: pd.DataFrame) -> Chart:
    """Mean test accuracy by the levels of two factors: parallel lines would be no interaction."""
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
    axes |= {"yaxis": {"title": {"text": "test accuracy"}, "tickformat": ".0%"}}
    return {"data": traces, "layout": {**axes, "height": 360, "legend": {"orientation": "h", "y": -0.25}}}


def _numbers(values: Sequence[float] | pd.Series) -> list[float | None]:
    """Plain numbers; None, which plotly leaves out, where there is none."""
    return [None if pd.isna(value) else float(value) for value in values]
