"""Numbers of a table as text: means, differences and ratios with intervals, counts, and how columns are headed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.analysis import amounts
from bench.analysis.summaries import first_epoch
from bench.grid.metrics import Metric
from bench.grid.plan import Plan


def heading(metric: Metric) -> str:
    """Name the column of a metric, its first word on a line of its own: ``test`` above ``accuracy, %``."""
    return amounts.with_unit(metric).replace(" ", "\n", 1)


def first_heading(plan: Plan) -> list[str]:
    """Returns the heading of the column for the first epoch; empty where there is none."""
    metric = first_epoch(plan, plan.primary)
    return [] if metric is None else ["first\nepoch" + (f", {metric.unit}" if metric.unit else "")]


def difference_heading(metric: Metric) -> str:
    return "ratio" if metric.scale == "log" else "difference"


def values(table: pd.DataFrame, metric: Metric, name: str = "") -> pd.Series:
    """Means of the metric (of the column ``name``), as a reader sees them, with their intervals."""
    name = name or metric.name
    if metric.scale == "log":
        return _with_interval(table, name, table[f"{name}_seeds"])
    return with_half_width(table, name, metric.factor, _fewest(table[name], metric))


def differences(table: pd.DataFrame, metric: Metric) -> pd.Series:
    """Differences to the baseline with their signs, or ratios, with their intervals."""
    if metric.scale == "log":
        text = _with_interval(table, "ratio", table["difference_seeds"])
        return text.where(text == "–", "x " + text)
    return with_half_width(table, "difference", metric.factor, _fewest(table["difference"], metric), "+")


def _fewest(numbers: pd.Series, metric: Metric) -> int:
    """Decimals that show three digits of the largest number; one for a share, which is in per cent."""
    largest = numbers.abs().max()
    if metric.is_share or not largest > 0:
        return 1
    return int(np.clip(2 - np.floor(np.log10(largest)), 0, 8))


def _with_interval(table: pd.DataFrame, name: str, seeds: pd.Series) -> pd.Series:
    """Returns ``0.93 (0.90 to 0.96)``: intervals that are not as wide on either side, three digits of each number.

    Of a ratio two decimals, up to two more where the column's narrowest interval needs them.
    """
    ends = table[[name, f"{name}_low", f"{name}_high"]].astype(float)
    half = (ends[f"{name}_high"] - ends[f"{name}_low"]) / 2
    digits = _needed(half, 2) if name == "ratio" else _fewest(ends[name], Metric(name, "neither"))
    text = [
        "–" if np.isnan(value) else f"{value:,.{digits}f}{_between(low, high, digits) or _no_interval(count)}"
        for (value, low, high), count in zip(ends.to_numpy(), seeds, strict=True)
    ]
    return pd.Series(text, table.index, dtype=str)


def _between(low: float, high: float, digits: int) -> str:
    return "" if np.isnan(low) else f" ({low:,.{digits}f} to {high:,.{digits}f})"


def with_half_width(table: pd.DataFrame, name: str, scale: float, fewest: int, sign: str = "") -> pd.Series:
    """Returns ``94.1 ± 1.2``, a dash where nothing is known, ``± ?`` or ``alike`` where no interval can be said.

    At least ``fewest`` decimals, up to two more where the column's narrowest interval needs them.
    """
    value = table[name] * scale
    half = (table[f"{name}_high"] - table[f"{name}_low"]) / 2 * scale
    digits = _needed(half, fewest)
    text = [
        "–" if np.isnan(v) else f"{v:{sign},.{digits}f}" + (f" ± {h:,.{digits}f}" if h >= 0 else _no_interval(seeds))
        for v, h, seeds in zip(value, half, table[f"{name}_seeds"], strict=True)
    ]
    return pd.Series(text, table.index, dtype=str)


def _needed(half: pd.Series, fewest: int) -> int:
    """Decimals that show the narrowest interval of a column by its half width, at most two more than the fewest."""
    least = half[half > 0].min()
    return fewest if np.isnan(least) else int(np.clip(np.ceil(-np.log10(least)), fewest, fewest + 2))


def _no_interval(seeds: int) -> str:
    return " alike" if seeds > 1 else " ± ?"


def span(low: float, high: float) -> str:
    return "–" if np.isnan(low) else _count(low) if low == high else f"{_count(low)}–{_count(high)}"


def _count(number: float) -> str:
    """Returns a count with three digits that matter: ``850``, ``61.7k``, ``11.2M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"
