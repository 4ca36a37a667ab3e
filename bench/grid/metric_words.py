"""The word ``metrics`` of a grid: a name, a list of names, or a mapping of names to what they mean.

    metrics: test_loss
    metrics: [test_accuracy, train_seconds]
    metrics:
      test_rmse: {better: lower, scale: log, unit: EUR, margin: 2 %, at: dev_rmse}
      dev_rmse: {better: lower, scale: log, split: dev, at: best}

The first is the primary one. Each key of the text is checked here by itself; what the names stand for is looked up once
the settings of the trials are known.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from bench.grid.factors import Errors
from bench.grid.metrics import Metric, Split, lab_metrics
from bench.grid.strict_yaml import Node, Position, plain, spell
from lab.scores import Better, Scale, Score, default_selection, named, range_problem
from lab.sections import part_name
from lab.selection import own_scores, selected_score, selection
from lab.settings import SECTIONS, Problem, Settings, SettingsError, TrainSettings, did_you_mean, spelled, suggest

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./@-]*")
POINTS = ("last", "best", "min", "max")
HARNESS = ("total_seconds",)  # what the harness measures of own code
FORM = "a metric's name, a list of names, or a mapping of names to {better: ..., scale: ..., unit: ..., ...}"


@dataclass(frozen=True)
class WrittenMetric:
    """A metric as the grid writes it: its name, the options given, and where both stand."""

    name: str
    at: Position
    options: dict[str, Any] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)


# --- the text -------------------------------------------------------------------------------------------------------


def read_metrics(node: Node | None, reserved: Mapping[str, str], errors: Errors) -> tuple[WrittenMetric, ...]:
    """Reads ``metrics``; ``reserved`` names are refused, each with what it is. What breaks a rule is left out."""
    if node is None:
        return ()
    if isinstance(node.content, str) and node.content:
        entries = [(node.content, node, Node({}))]
    elif node.items and all(isinstance(item.content, str) for item in node.items):
        entries = [(str(item.content), item, Node({})) for item in node.items]
    elif node.mapping:
        entries = [(name, value, value) for name, value in node.mapping.items()]
    else:
        got = "nothing" if node.content in (None, "") else spell(node)
        errors.append((node.at, f"metrics: must be {FORM}, got {got}"))
        return ()
    asked = [_asked(name, at.key_at or at.at, options, reserved, errors) for name, at, options in entries]
    for index, one in enumerate(asked):
        if one is not None and one.name in {other.name for other in asked[:index] if other is not None}:
            errors.append((one.at, f"metrics.{one.name}: is repeated; the first of the metrics is the primary one"))
    return tuple(one for one in asked if one is not None)


def selections(metrics: Sequence[WrittenMetric]) -> dict[str, str]:
    """Returns, by metric that has ``at``, the step whose value counts: that word, with the direction it goes by."""
    better = {one.name: one.options.get("better", "") for one in metrics}
    words = {one.name: str(one.options["at"]) for one in metrics if "at" in one.options}
    guided = {name: better.get(name if word == "best" else word, "") for name, word in words.items()}
    return {name: f"{word} {guided[name]}".strip() for name, word in words.items()}


def _asked(name: str, at: Position, node: Node, reserved: Mapping[str, str], errors: Errors) -> WrittenMetric | None:
    where = f"metrics.{name}"
    if name in reserved or name.partition(".")[0] in SECTIONS:
        errors.append((at, f"{where}: is the name of {reserved.get(name, 'a setting')}, no metric"))
        return None
    if not NAME.fullmatch(name):
        errors.append((at, f"{where}: a metric's name is one word of letters, digits and _ . / @ -, got {name!r}"))
        return None
    if not isinstance(node.content, dict):
        errors.append((node.at, f"{where}: must be a mapping such as {{better: lower}}, got {_got(node)}"))
        return None
    options, before = {}, len(errors)
    for key, value in node.mapping.items():
        if key not in OPTIONS:
            rule = f"no such option{suggest(key, OPTIONS)}"
            errors.append((value.key_at or value.at, f"{where}.{key}: {rule}"))
            continue
        rule, check = OPTIONS[key]
        try:
            options[key] = check(plain(value))
        except ValueError:
            errors.append((value.at, f"{where}.{key}: must be {rule}, got {_got(value)}"))
    positions = {key: value.at for key, value in node.mapping.items()}
    return WrittenMetric(name, at, options, positions) if len(errors) == before else None


def _got(node: Node) -> str:
    return "nothing" if node.content in (None, "") else spell(node)


def _one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError
        return str(value)

    return check


def _unit(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > 20:
        raise ValueError
    return value


def _range(value: Any) -> tuple[float | None, float | None]:
    if range_problem(value):
        raise ValueError
    return value[0], value[1]


def read_margin(value: Any) -> float | str:
    """Reads a number above 0, or the text ``N %``; raises ValueError."""
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)? ?%", value):
        return value if float(value.rstrip(" %")) > 0 else _refuse()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError
    return float(value)


def _refuse() -> str:
    raise ValueError


def _at(value: Any) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError
    return value


MARGIN_RULE = "a number > 0 in the metric's unit, or on a log scale a share such as 2 %"
OPTIONS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "better": ("higher, lower or neither", _one_of(*get_args(Better))),
    "scale": ("linear or log", _one_of(*get_args(Scale))),
    "unit": ("a short text", _unit),
    "range": ("two numbers, the lower one first, either of them null where there is no bound", _range),
    "margin": (MARGIN_RULE, read_margin),
    "split": ("test or dev", _one_of(*get_args(Split))),
    "at": (f"{', '.join(POINTS)}, or another metric's name: where that one was best", _at),
}


MARGIN_SCHEMA = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": "^[0-9.]+ ?%$"}]}


def metrics_schema() -> dict[str, Any]:
    """Returns the JSON Schema of the word ``metrics``."""
    end = {"type": ["number", "null"]}
    options: dict[str, Any] = {
        "better": {"enum": list(get_args(Better))},
        "scale": {"enum": list(get_args(Scale))},
        "unit": {"type": "string"},
        "range": {"type": "array", "items": end, "minItems": 2, "maxItems": 2},
        "margin": MARGIN_SCHEMA,
        "split": {"enum": list(get_args(Split))},
        "at": {"type": "string"},
    }
    described = {key: form | {"description": OPTIONS[key][0]} for key, form in options.items()}
    one = {"type": "object", "properties": described, "additionalProperties": False}
    listed = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    mapped = {"type": "object", "additionalProperties": one, "minProperties": 1}
    return {"anyOf": [{"type": "string"}, listed, mapped]}


# --- what the names stand for ---------------------------------------------------------------------------------------


def with_direction(settings: Settings, asked: Sequence[WrittenMetric]) -> Settings:
    """Returns the settings with the direction that the grid declares for a selecting metric whose class says none.

    Raises :class:`SettingsError` where nobody declared the direction of a metric, with the line to add.
    """
    train = settings.train
    if train.metric == "accuracy" and train.better is None:
        return settings  # all that is built in has a direction
    own, selected = own_scores(train), selected_score(train)
    for name, score in own.items():
        said = _said(name, asked) if score.better is None else {score.better}
        if len(said) != 1:
            raise SettingsError(
                [Problem("train.metric", _direction_missing(name, part_name(named(train.metric)[name]), said))]
            )
        if name == selected and score.better is None and (better := said.pop()) != "neither":
            train = train.model_copy(update={"better": better})
    selection(train)
    return settings.model_copy(update={"train": train})


def _said(name: str, asked: Sequence[WrittenMetric]) -> set[Better]:
    """Returns what the grid declares to be better of ``test_NAME`` and ``dev_NAME``."""
    mine = (one for one in asked if one.name in (f"test_{name}", f"dev_{name}"))
    return {one.options["better"] for one in mine if "better" in one.options}


def _direction_missing(name: str, path: str, said: set[Better]) -> str:
    if said:
        return f"{path}: `metrics` says {' and '.join(sorted(said))} of test_{name} and dev_{name}; it must be one"
    return (
        f'{path} does not say which direction is better; add the line `better = "lower"` (or "higher", "neither") '
        f"to it, or to the grid `metrics: {{test_{name}: {{better: lower}}}}`"
    )


@dataclass(frozen=True)
class ResolvedMetrics:
    """The metrics that a grid asks about, the primary one first, and every column of numbers of its trials by name."""

    metrics: tuple[Metric, ...]
    measures: dict[str, Metric]
    selecting: Metric


def resolve_metrics(
    asked: Sequence[WrittenMetric],
    margin: tuple[float | str, Position] | None,
    trials: Sequence[Settings],
    errors: Errors,
) -> ResolvedMetrics | None:
    """Looks up what is asked about among what the trials report; None, with every cause in ``errors``."""
    trains = list({repr((one.train.metric, one.train.select)): one.train for one in trials}.values())
    measures = _measures(trains, asked)
    first = trains[0]
    names = dict.fromkeys(f"test_{default_selection(train.metric).removeprefix('dev_')}" for train in trains)
    if not asked and len(names) > 1:
        at = margin[1] if margin else Position()
        rule = f"the trials have different ones, {', '.join(names)}; say which is compared: `metrics: test_accuracy`"
        errors.append((at, f"metrics: {rule}"))
        return None
    before = len(errors)
    wanted = asked or [WrittenMetric(next(iter(names)), Position())]
    metrics = [_resolved(one, measures, selected_score(first), errors) for one in wanted]
    found = [metric for metric in metrics if metric is not None]
    if margin is not None and found:
        found[0] = _with_margin(found[0], margin[0], margin[1], "margin", errors)
    if len(errors) > before:
        return None
    measures |= {metric.name: metric for metric in found}
    return ResolvedMetrics(tuple(found), measures, measures[f"dev_{selected_score(first)}"])


def own_metrics(
    asked: Sequence[WrittenMetric],
    margin: tuple[float | str, Position] | None,
    run: Position,
    tuned: bool,
    errors: Errors,
) -> ResolvedMetrics | None:
    """Resolves the metrics that own training code is to report, each declared whole; None, with causes in ``errors``.

    What selects is the first of ``split: dev``; without one, nothing is tuned, and the primary one stands there.
    """
    before = len(errors)
    if not asked:
        rule = "is required beside `run`: what it reports, the primary first: `metrics: {accuracy: {better: higher}}`"
        errors.append((run, f"metrics: {rule}"))
        return None
    names = [one.name for one in asked]
    metrics = [_own(one, names, errors) for one in asked]
    if margin is not None:
        metrics[0] = _with_margin(metrics[0], margin[0], margin[1], "margin", errors)
    selecting = next((metric for metric in metrics if metric.split == "dev"), None)
    if tuned and selecting is None:
        errors.append((asked[0].at, "metrics: `tune` needs one that may select: give a metric `split: dev`"))
    if tuned and selecting is not None and selecting.sign == 0:
        errors.append((asked[0].at, f"metrics.{selecting.name}: selects, and neither direction of it is better"))
    if len(errors) > before:
        return None
    known = {name: metric for name, metric in lab_metrics().items() if name in HARNESS}
    return ResolvedMetrics(tuple(metrics), {metric.name: metric for metric in metrics} | known, selecting or metrics[0])


def _own(one: WrittenMetric, names: Sequence[str], errors: Errors) -> Metric:
    where, options = f"metrics.{one.name}", {key: value for key, value in one.options.items() if key != "margin"}
    better = options.get("better")
    if better is None:
        rule = f"nobody declared which direction is better: `{one.name}: {{better: lower}}`, or higher, or neither"
        errors.append((one.at, f"{where}: {rule}"))
    if "." in one.name or one.name in HARNESS:
        what = "the harness measures it" if one.name in HARNESS else "a name with a dot is a setting's"
        errors.append((one.at, f"{where}: {what}; give the metric another name"))
    at = options.get("at")
    if at not in (None, *POINTS, *names):
        rule = f"must be {', '.join(POINTS)}, or a metric of the grid that says which point counts, got {at}"
        errors.append((one.positions["at"], f"{where}.at: {rule}{did_you_mean(at, names)}"))
    if at == "best" and better == "neither":
        errors.append((one.positions["at"], f"{where}.at: neither direction is better; min, max or last say which"))
    metric = Metric(one.name, **{"better": "neither", **options})
    if "margin" in one.options:
        metric = _with_margin(metric, one.options["margin"], one.positions["margin"], f"{where}.margin", errors)
    return metric


def _measures(trains: Sequence[TrainSettings], asked: Sequence[WrittenMetric]) -> dict[str, Metric]:
    own: dict[str, Score] = {}
    for train in trains:
        for name, score in own_scores(train).items():
            own[name] = replace(score, better=score.better or next(iter(_said(name, asked)), None))
    unit = "nats" if all(train.loss == "cross_entropy" for train in trains) else ""
    return lab_metrics(own, unit)


def _resolved(one: WrittenMetric, measures: Mapping[str, Metric], selected: str, errors: Errors) -> Metric | None:
    where = f"metrics.{one.name}"
    known = measures.get(one.name)
    if known is None:
        rule = f"the trials report no such number{suggest(one.name, measures)}"
        errors.append((one.at, f"{where}: {rule}"))
        return None
    better = one.options.get("better", known.better)
    if {better, known.better} == {"higher", "lower"}:
        rule = f"is {better} here, but {one.name} itself says {known.better}"
        errors.append((one.positions["better"], f"{where}.better: {rule}"))
    if one.options.get("split", known.split) != known.split:
        errors.append((one.positions["split"], f"{where}.split: {one.name} is of {known.split}"))
    if "at" in one.options and one.options["at"] != f"dev_{selected}":
        rule = f"trials are read at the epoch with the best dev_{selected}; another score selects by `train.select`"
        errors.append((one.positions["at"], f"{where}.at: {rule}"))
    options = {key: value for key, value in one.options.items() if key != "margin"}
    metric = replace(known, **options)
    if metric.scale != known.scale:
        metric = replace(metric, margin=None)
    if "margin" in one.options:
        metric = _with_margin(metric, one.options["margin"], one.positions["margin"], f"{where}.margin", errors)
    return metric


def _with_margin(metric: Metric, margin: float | str, at: Position, where: str, errors: Errors) -> Metric:
    if isinstance(margin, str) != (metric.scale == "log"):
        rule = (
            f"must be a share such as 2 %: {metric.name} is on a log scale"
            if metric.scale == "log"
            else f"must be a number in the metric's unit, N % is for a log scale: {metric.name} is on a linear one"
        )
        errors.append((at, f"{where}: {rule}, got {margin if isinstance(margin, str) else spelled(margin)}"))
        return metric
    if metric.range == (0, 1) and isinstance(margin, float) and margin >= 1:
        errors.append((at, f"{where}: must be under 1, {metric.name} lies between 0 and 1, got {margin:g}"))
    return replace(metric, margin=float(margin.rstrip(" %")) / 100 if isinstance(margin, str) else margin)
