"""Turns what own code reported into the outcome of its trial: which value of a curve counts, and what its status is."""

from __future__ import annotations

import functools
import math
import platform
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.execute.job import Job
from bench.grid.columns import DIGESTS, KNOWN, MEASURE_NAMES
from bench.grid.metrics import Metric, MetricError
from bench.record.outcome import Outcome
from bench.record.status import Status
from lab.fingerprint import fingerprint
from lab.result import Environment, Evaluation, Result

NO_LETTER = re.compile(r"[^A-Za-z0-9_/@-]")  # of a metric's name
NO_METRICS = (
    {"step", "epoch"} | (KNOWN - MEASURE_NAMES) | {"total_seconds"}
)  # names that mean something else in a record
SIGN_SECONDS = 0.05  # signs of life come no faster


def numbers(values: Mapping[str, Any], above: str = "") -> dict[str, float]:
    """Collects the numbers reported by name, those of inner mappings as ``outer/inner``; infinite ones, too."""
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{above}{key}/")
        elif (number := number_of(value)) is not None:
            found[called(f"{above}{key}")] = number
    return found


def called(name: str) -> str:
    """Returns what a metric is called whatever its code calls it: ``Val Acc`` is ``Val_Acc``, ``a.b`` ``a/b``."""
    plain = NO_LETTER.sub("_", name.strip().replace(".", "/"))
    return plain if plain[:1].isalpha() or plain[:1] == "_" else f"_{plain}"


def number_of(value: Any) -> float | None:
    """Returns a number of Python, numpy or torch as a float; None of anything else, truth values and text included."""
    if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # an array of several
        return None


@dataclass
class Reported:
    """The reports of a trial so far: ``final`` values, and by step those on the way."""

    final: dict[str, float] = field(default_factory=dict)
    points: dict[int, dict[str, float]] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)  # when each point came, since the start
    start: float = field(default_factory=time.perf_counter)
    texts: dict[str, str] = field(default_factory=dict)  # the last of what was no number, by name
    repeated: set[str] = field(default_factory=set)  # final values that replaced others
    silent: list[str] = field(default_factory=list)  # where nothing was found, in words

    def add(self, values: Mapping[str, float], step: int | None = None) -> Evaluation | None:
        """Takes values as they come; returns the point of that step so far, None of final ones."""
        if step is None:
            self.repeated |= {name for name, value in values.items() if self.final.get(name, value) != value}
            self.final |= values
            return None
        self.points.setdefault(step, {}).update(values)
        self.seconds[step] = time.perf_counter() - self.start
        return self._point(step, [*self.points[step]])

    def note(self, row: Mapping[str, Any]) -> None:
        """Keeps what is no number: if a metric is declared that was reported so, the user is told."""
        for name, value in row.items():
            if not isinstance(value, Mapping) and number_of(value) is None:
                self.texts[called(str(name))] = str(value)[:40]

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys([*self.final, *(name for values in self.points.values() for name in values)]))

    def curve(self) -> list[Evaluation]:
        """Returns every point with every name, from step 0 on: where nothing was reported there, before training."""
        names = list(dict.fromkeys(name for values in self.points.values() for name in values))
        steps = sorted(self.points)
        begin = [Evaluation(0, 0.0, math.nan, 0.0, dict.fromkeys(_scores(names), math.nan))]
        return begin * (bool(steps) and steps[0] > 0) + [self._point(step, names) for step in steps]

    def _point(self, step: int, names: Sequence[str]) -> Evaluation:
        values = self.points[step]
        finite = {name: value if math.isfinite(value) else math.nan for name, value in values.items()}
        scores = {name: finite.get(name, math.nan) for name in _scores(names)}
        loss = finite.get("train_loss", math.nan)
        return Evaluation(step, values.get("epoch", float(step)), loss, self.seconds[step], scores)

    def value(self, metric: Metric, metrics: Sequence[Metric]) -> float | None:
        """Returns the value of a metric that counts, which need not be finite; None where it was not reported."""
        curve = {step: values[metric.name] for step, values in sorted(self.points.items()) if metric.name in values}
        if not curve or (metric.at is None and metric.name in self.final):
            return self.final.get(metric.name)
        if metric.at in (None, "last"):
            return [*curve.values()][-1]
        by = next((one for one in metrics if one.name == metric.at), metric)
        sign = {"min": -1, "max": 1}.get(str(metric.at), by.sign)
        guide = {step: values[by.name] for step, values in sorted(self.points.items()) if by.name in values}
        finite = {step: sign * value for step, value in guide.items() if math.isfinite(value)}
        if not finite:
            return [*curve.values()][-1]
        return curve.get(max(finite, key=lambda step: finite[step]))


def _scores(names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in ("epoch", "train_loss", "train_seconds", "step")]


class Stream:
    """Passes points on as signs of life, the last of those that come fast one after the other left out."""

    def __init__(self, on_evaluation: Callable[[Evaluation], None]) -> None:
        self._tell, self._last = on_evaluation, -math.inf

    def __call__(self, point: Evaluation | None) -> None:
        now = time.monotonic()
        if point is not None and now - self._last >= SIGN_SECONDS:
            self._last = now
            self._tell(point)


@dataclass(frozen=True)
class Extras:
    """The extras that own code may return: real outcomes per example as float32, and what its data are."""

    examples: dict[str, bytes] = field(default_factory=dict)
    data: str = ""


@dataclass(frozen=True)
class Origin:
    """Where a trial's numbers come from: the machine, the digests of its source files, and how long it took."""

    environment: Environment
    sources: Mapping[str, str]
    seconds: float


def origin(job: Job, device: str, threads: int, reported: Reported) -> Origin:
    """Returns the origin of a trial that has just ended here."""
    files = {} if job.run is None else job.run.sources(job.working_dir.resolve())  # the code may have left it
    return Origin(environment(device, threads), files, time.perf_counter() - reported.start)


def outcome(job: Job, reported: Reported, made: Origin, extras: Extras = Extras()) -> Outcome:
    """Returns the outcome of a trial that came to its end."""
    status, error, stops_run = _judged(job.metrics, reported)
    sources = {**made.sources, **(job.run.selection() if job.run else {})}
    result = Result(
        trial_id=job.trial_id,
        status=status,
        error=error,
        measures=_measures(job.metrics, reported) | {"total_seconds": made.seconds},
        environment=made.environment,
        source_fingerprint=fingerprint(sources),
        digests=dict.fromkeys(DIGESTS, extras.data) if extras.data else {},
        sources=sources,
        curve=reported.curve(),
        examples=extras.examples,
    )
    return Outcome(job.trial_id, status, error, result, stops_run=stops_run)


def _judged(metrics: Sequence[Metric], reported: Reported) -> tuple[Status, str | None, bool]:
    """Returns status, error, and whether the run is to stop: a metric that one trial lacks is in no trial."""
    values = {metric.name: reported.value(metric, metrics) for metric in metrics}
    missing = [metric for metric in metrics if values[metric.name] is None]
    if missing:
        return Status.ERROR, _missing(missing[0], reported), True
    if unplaced := [metric for metric in metrics if _is_unplaced(metric, reported)]:
        return Status.ERROR, _unplaced(unplaced[0]), True
    selecting = next((metric for metric in metrics if metric.split == "dev"), metrics[0])
    for metric in (metrics[0], selecting):
        if not math.isfinite(values[metric.name] or 0.0):
            return Status.DIVERGED, f"{metric.name} is {values[metric.name]}", False
    problems = [problem for metric in metrics if (problem := _problem(metric, values[metric.name] or 0.0))]
    return (Status.ERROR, problems[0], False) if problems else (Status.OK, None, False)


def _missing(metric: Metric, reported: Reported) -> str:
    saw = f"reported were {', '.join(reported.names)}" if reported.names else "nothing was reported"
    where = f" at the step where {metric.at} was best" if metric.name in reported.names else ""
    text = reported.texts.get(metric.name)
    said = [] if text is None else [f"its value was {text!r}, no number"]
    return "; ".join([f"the declared metric {metric.name} was not reported{where}", *said, saw, *reported.silent])


def _is_unplaced(metric: Metric, reported: Reported) -> bool:
    """Tells whether several values of the metric came, and which was at which step nobody knows."""
    on_curve = any(metric.name in values for values in reported.points.values())
    return metric.at not in (None, "last") and metric.name in reported.repeated and not on_curve


def _unplaced(metric: Metric) -> str:
    rule = f"`at: {metric.at}` chooses among points of a curve, which have a step"
    return f"{metric.name} was reported several times without a step: {rule}; `read` names it by `step: NAME`"


def _problem(metric: Metric, value: float) -> str | None:
    if not math.isfinite(value):
        return None  # a secondary one: its cell stays empty
    try:
        metric.compared(value)  # type: ignore[arg-type]  # numpy takes one number, too
    except MetricError as error:
        return str(error)
    return metric.problem(value)


def _measures(metrics: Sequence[Metric], reported: Reported) -> dict[str, float]:
    """Collects finite numbers by name: of declared metrics what counts, of others the final or else the last value."""
    declared = {metric.name: metric for metric in metrics}
    found = {}
    for name in [*declared, *(name for name in reported.names if name not in declared and name not in NO_METRICS)]:
        value = reported.value(declared.get(name, Metric(name, "neither")), metrics)
        if value is not None and math.isfinite(value):
            found[name] = value
    return found


def environment(device: str, threads: int) -> Environment:
    """Tells what a trial of own code was computed on, without torch."""
    name, here = device_name(device), socket.gethostname()
    return Environment(device, name, threads, _torch_version(), platform.python_version(), here)


@functools.cache
def _torch_version() -> str:
    """Returns the version that is installed; empty where there is none."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""


@functools.cache
def device_name(device: str) -> str:
    cpu = Path("/proc/cpuinfo")
    if device == "cpu" and cpu.exists():
        found = re.search(r"model name\s*: (.+)", cpu.read_text())
        return found[1] if found else platform.processor()
    return platform.processor() if device == "cpu" else device
