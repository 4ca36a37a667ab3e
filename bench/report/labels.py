"""Labels beside what they name, none over another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.optimize import isotonic_regression

from bench.grid.metrics import Metric
from bench.report.canvas import LABEL, MUTED, interval_of, rows, scaled, wrapped


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Finds the places nearest to ``wanted`` (least squares), in its order, ``gap`` apart, within ``low`` to ``high``.

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


def label_ends(axes: Axes, lines: Sequence[tuple[float, float, str, str]]) -> None:
    """Writes each line's label right of its end ``(x, y, label, colour)``, none over another."""
    texts = [wrapped(label) for _, _, label, _ in lines]
    height = axes.get_window_extent().height / axes.figure.dpi * 72  # points
    gap = scaled(LABEL) * 1.3 * max((text.count("\n") + 1 for text in texts), default=1) / height
    to_axes = axes.transData + axes.transAxes.inverted()
    places = spread([float(to_axes.transform((x, y))[1]) for x, y, _, _ in lines], gap, 0.0, 1.0)
    for (x, y, _, color), text, place in zip(lines, texts, places, strict=True):
        leader = {"arrowstyle": "-", "color": color, "linewidth": scaled(1.2)}
        leader |= {"shrinkA": scaled(2), "shrinkB": scaled(4)}
        leader |= {"relpos": (0, 0.5), "patchA": None}  # up to the middle of the text's left side
        at: dict[str, Any] = {"xytext": (1.06, place), "textcoords": "axes fraction", "va": "center"}
        axes.annotate(text, (x, y), fontsize=scaled(LABEL), arrowprops=leader, annotation_clip=False, **at)


def label_points(axes: Axes, cells: pd.DataFrame, metric: Metric) -> None:
    """Writes each cell's variant beside its point, where it covers the least of other points, bars and labels."""
    unit = axes.figure.dpi / 72
    taken = [mark for cell in rows(cells) for mark in _marks(axes, cell, metric)]
    for cell in rows(cells.sort_values(metric.name)):
        at = (cell.train_images_per_second, interval_of(cell, metric)[0])
        label = axes.annotate(
            wrapped(cell.variant), at, xytext=(0, 0), textcoords="offset points", fontsize=scaled(LABEL)
        )
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


def _marks(axes: Axes, cell: Any, metric: Metric) -> list[Mark]:
    """Returns a cell's point and its two bars."""
    rate, (value, (low, high)) = cell.train_images_per_second, interval_of(cell, metric)
    bars = [(cell.train_images_per_second_low, value), (cell.train_images_per_second_high, value)]
    bars += [(rate, low), (rate, high)]
    places = axes.transData.transform([(rate, value), *bars])
    point, left, right, bottom, top = np.where(np.isnan(places), places[0], places)
    return [(*(point - 9), *(point + 9), 20.0), (*(left - 2), *(right + 2), 2.0), (*(bottom - 2), *(top + 2), 2.0)]


def _beside(point: np.ndarray, offset: np.ndarray, width: float, height: float) -> np.ndarray:
    """Places the box (left, bottom, right, top) of a text that begins ``offset`` from the point, on that side."""
    low = point + offset + np.array([width, height]) * (np.sign(offset) - 1) / 2
    return np.concatenate([low, low + np.array([width, height])])


def _cost(box: np.ndarray, taken: Sequence[Mark], axes: Axes) -> float:
    """Rates how bad a place is: pixels over what is drawn already, weighted, and pixels outside the axes."""
    marks = np.array(taken)
    sides = np.minimum(box[2:], marks[:, 2:4]) - np.maximum(box[:2], marks[:, :2])
    frame = axes.get_window_extent()
    inside = np.minimum(box[2:], frame.max) - np.maximum(box[:2], frame.min)
    outside = np.prod(box[2:] - box[:2]) - np.prod(inside.clip(0))
    return float(sides.clip(0).prod(1) @ marks[:, 4] + 5 * outside)
