"""Declares what the scores of a trial mean: direction, scale, unit, range. Plain data, free of torch.

A trial reports each score on dev and on test, as ``dev_NAME`` and ``test_NAME``. The built-in ones are declared here
and computed in :mod:`lab.metrics`; a user's class declares itself by attributes of these names, and torchmetrics'
``higher_is_better`` counts as a direction.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lab.sections import Part, is_part, part_name

Better = Literal["higher", "lower", "neither"]
Scale = Literal["linear", "log"]
Range = tuple[float | None, float | None]

# What ``train.metric`` may hold: one metric, a list of them, or names of their own for them.
Named = Part | list[Part] | dict[str, Part]


@dataclass(frozen=True)
class Score:
    """The meaning of a score; ``better`` is None where nobody has said it."""

    better: Better | None
    range: Range = (None, None)
    unit: str = ""
    scale: Scale = "linear"


class ScoreError(ValueError):
    """A metric's class declares itself wrongly; the message names the attribute."""


SHARE: Range = (0.0, 1.0)
CLASSIFICATION = {
    "accuracy": Score("higher", SHARE, "%"),
    "loss": Score("lower"),
    "macro_f1": Score("higher", SHARE, "%"),
    "calibration_error": Score("lower", SHARE, "%"),
}
REGRESSION = {
    "loss": Score("lower"),
    "rmse": Score("lower", (0.0, None), scale="log"),
    "mae": Score("lower", (0.0, None), scale="log"),
}
BUILT_IN = CLASSIFICATION | REGRESSION
METRICS = tuple(name for name in BUILT_IN if name != "loss")  # what ``train.metric`` may name

# What a trial reports once, beside its scores on dev and on test.
POSITIVE: Range = (0.0, None)
MEASURES = {
    "selected_epoch": Score("neither"),
    "num_dev_images": Score("neither"),
    "dev_majority": Score("neither"),  # the share of dev's most frequent class: what a constant guess gets right
    "final_train_loss": Score("lower"),
    "epochs": Score("neither"),
    "steps": Score("neither"),
    "parameters": Score("lower", POSITIVE, scale="log"),
    "forward_macs": Score("lower", POSITIVE, scale="log"),
    "computed_macs": Score("lower", POSITIVE, scale="log"),
    "train_images_per_second": Score("higher", POSITIVE, "images/s", "log"),
    "eval_images_per_second": Score("higher", POSITIVE, "images/s", "log"),
    "train_seconds": Score("lower", POSITIVE, "s", "log"),
    "total_seconds": Score("lower", POSITIVE, "s", "log"),
    "peak_memory_bytes": Score("lower", POSITIVE, "bytes", "log"),
}


def named(metric: Named) -> dict[str, Part]:
    """Returns the metrics of ``train.metric`` by name, ``accuracy`` among them; the first one selects by default."""
    if isinstance(metric, Mapping) and not is_part(metric):
        return dict(metric)
    parts: list[Part] = metric if isinstance(metric, list) else [metric]
    return {snake_case(part_name(part).rpartition(":")[2].rpartition(".")[2]): part for part in parts}


def default_selection(metric: Named) -> str:
    """Returns the score on dev that selects the epoch where ``train.select`` does not say: that of the first metric."""
    return f"dev_{next(iter(named(metric)), 'accuracy')}"


def snake_case(name: str) -> str:
    """Returns ``MulticlassF1Score`` as ``multiclass_f1_score``, ``AUROC`` as ``auroc``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def declared(metric: Any) -> Score:
    """Reads ``better``, ``range``, ``unit`` and ``scale`` off a metric's class; raises :class:`ScoreError`."""
    return Score(_better(metric), _range(metric), _unit(metric), _scale(metric))


def _better(metric: Any) -> Better | None:
    better: Any = getattr(metric, "better", None)
    if better is None:
        higher = getattr(metric, "higher_is_better", None)
        return None if not isinstance(higher, bool) else "higher" if higher else "lower"
    if better not in get_args(Better):
        raise ScoreError(f"better must be one of {', '.join(get_args(Better))}, is {better!r}")
    return _plain(better, Better)


def _range(metric: Any) -> Range:
    found = getattr(metric, "range", (None, None))
    if problem := range_problem(found):
        raise ScoreError(f"range must be {problem}, is {found!r}")
    low, high = (end if end is None else float(end) for end in found)
    return low, high


def range_problem(found: object) -> str | None:
    """Returns the rule that ``found`` breaks as a range; None where it breaks none."""
    rule = "two numbers, the lower one first, either of them None (null in YAML) where there is no bound"
    if isinstance(found, str) or not isinstance(found, Sequence) or len(found) != 2:
        return rule
    numbers = [end for end in found if end is not None]
    if any(isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end) for end in numbers):
        return rule
    return rule if len(numbers) == 2 and numbers[0] >= numbers[1] else None


def _unit(metric: Any) -> str:
    unit = getattr(metric, "unit", "")
    if not isinstance(unit, str):
        raise ScoreError(f"unit must be text, is {unit!r}")
    return "".join(unit)  # a class of text of its own is none of ours


def _scale(metric: Any) -> Scale:
    scale: Any = getattr(metric, "scale", "linear")
    if scale not in get_args(Scale):
        raise ScoreError(f"scale must be one of {', '.join(get_args(Scale))}, is {scale!r}")
    return _plain(scale, Scale)


def _plain(word: Any, words: Any) -> Any:
    """Returns the word itself: the class may say it by the member of an enumeration."""
    return next(one for one in get_args(words) if one == word)
