"""Differences and values of a metric in words: in points, in its unit, or as ratios on a log scale.

A difference is always on the scale of :meth:`bench.grid.metrics.Metric.compared`: on a log scale it is a log ratio.
"""

from __future__ import annotations

import math

import numpy as np

from bench.grid.metrics import Metric


def shown(metric: Metric, compared: float) -> float:
    """Returns a mean on the scale of comparing as it is recorded: on a log scale the geometric mean."""
    return float(np.exp(compared)) if metric.scale == "log" else compared


def size(metric: Metric, difference: float, form: str = "3") -> str:
    """Says how large a difference is, its sign told elsewhere: ``1.2 points``, ``0.034 nats``; ``x 0.93`` if log."""
    if metric.scale == "log":
        return f"x {ratio(difference)}"
    return f"{number(abs(difference) * metric.factor, form)} {metric.difference_unit}".rstrip()


def signed(metric: Metric, difference: float, form: str = "3") -> str:
    """Returns the difference with its sign, or the ratio."""
    if metric.scale == "log":
        return size(metric, difference)
    return f"{number(difference * metric.factor, form, '+')} {metric.difference_unit}".rstrip()


def ends(metric: Metric, low: float, high: float, form: str = "3", sign: str = "") -> str:
    """Returns ``8.1 to 16.5``: an interval of a difference, without its unit."""
    if metric.scale == "log":
        return f"{ratio(low)} to {ratio(high)}"
    return " to ".join(number(end * metric.factor, form, sign) for end in (low, high))


def number(value: float, form: str, sign: str = "") -> str:
    """Returns a number with ``form`` decimals (``.1f``) or significant digits (``3``)."""
    return f"{value:{sign}{form}}" if form.endswith("f") else significant(value, int(form), sign)


def significant(value: float, digits: int, sign: str = "") -> str:
    """Returns a number with at least so many digits that matter, and no exponent: ``0.0125``, ``100``, ``61,706``."""
    if value == 0 or not math.isfinite(value):
        return f"{value:{sign}g}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:{sign},.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def ratio(log_ratio: float) -> str:
    """Returns a ratio with two digits or more of what tells it from 1: ``0.93``, ``1.004``, ``12.3``."""
    value = float(np.exp(log_ratio))
    distance = abs(value - 1)
    if not 0.01 <= value < 100:
        return significant(value, 3)
    digits = 2 if distance == 0 else min(5, max(1 if value >= 10 else 2, 1 - math.floor(math.log10(distance))))
    return f"{value:.{digits}f}"


def within(metric: Metric, margin: float) -> str:
    """Returns a margin on the scale of comparing: ``1 point``, ``0.02 nats``, ``2 %`` on a log scale."""
    if metric.scale == "log":
        return f"{significant(100 * math.expm1(margin), 3)} %"
    amount = significant(margin * metric.factor, 3)
    unit = metric.difference_unit
    return f"{amount} {unit.removesuffix('s') if unit == 'points' and amount == '1' else unit}".rstrip()


def perplexity(metric: Metric, difference: float) -> str:
    """Returns `` (perplexity x 0.93)`` after a difference in nats, the ratio that it is; empty for other metrics."""
    return f" (perplexity x {ratio(difference)})" if "perplexity_ratio" in ratio_columns(metric) else ""


def digits_of(metric: Metric) -> str:
    """Returns the form of numbers in sentences: a decimal of a per cent, else three digits."""
    return ".1f" if metric.is_share else "3"


def spoken(metric: Metric) -> str:
    """Returns the metric's name as a reader says it: ``test accuracy``."""
    return metric.name.replace("_", " ")


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def direction(metric: Metric) -> str:
    """Returns ``higher is better``; empty where neither is."""
    return "" if metric.better == "neither" else f"{metric.better} is better"


def with_unit(metric: Metric) -> str:
    """Returns ``test loss, nats``; a share is in per cent, a metric without unit is named alone."""
    return f"{spoken(metric)}, {metric.unit}" if metric.unit else spoken(metric)


def axis_label(metric: Metric) -> str:
    """Returns ``test loss, nats (lower is better)``; the ticks of a share say per cent."""
    name = spoken(metric) if metric.is_share else with_unit(metric)
    return f"{name} ({direction(metric)})" if direction(metric) else name


def ratio_columns(metric: Metric) -> list[str]:
    """The columns for the exponential of a difference and of its ends; none where it means nothing."""
    name = "ratio" if metric.scale == "log" else "perplexity_ratio" if metric.unit == "nats" and metric.sign < 0 else ""
    return [f"{name}{end}" for end in ("", "_low", "_high")] if name else []


def value(metric: Metric, recorded: float) -> str:
    """Returns a value as a reader sees it: ``82.8 %``, ``0.034 nats``."""
    return f"{number(recorded * metric.factor, digits_of(metric))} {metric.unit}".rstrip()
