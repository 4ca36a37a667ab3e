"""The settings of a trial: typed, frozen, checked once, free of torch.

A trial is described by five sections and a seed (:mod:`lab.sections`). What a section takes beside its own settings
depends on its ``name``: a built-in part or an import path (``package.module:attribute``) takes its settings from the
signature of what it names (:mod:`lab.parts`).
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from json import dumps  # by name: user code may have put another in its place
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, SerializeAsAny, ValidationError
from pydantic.fields import FieldInfo

from lab.annotations import NOT_PLAIN, same_value
from lab.imports import IMPORT_PATH
from lab.networks import MODELS, ONLY_SIZE, SIZES
from lab.optim import OPTIMIZERS
from lab.parts import SignedSettings, parse_part, settings_type, shortest, signed
from lab.schedules import SCHEDULES
from lab.scores import BUILT_IN as SCORES
from lab.scores import METRICS, Named, default_selection, named
from lab.sections import (
    DATASETS,
    NOUNS,
    QUIET,
    SECTIONS,
    DataSettings,
    ModelSettings,
    OptimizerSettings,
    Part,
    PartSettings,
    Problem,
    ScheduleSettings,
    Section,
    SettingsError,
    TrainSettings,
    Value,
    describe_field,
    did_you_mean,
    is_part,
    num_classes,
    part_name,
    spelled,
    suggest,
)

__all__ = [
    "DATASETS",
    "NOUNS",
    "PARTS",
    "PART_PATHS",
    "SECTIONS",
    "DataSettings",
    "ModelSettings",
    "OptimizerSettings",
    "Problem",
    "ScheduleSettings",
    "Section",
    "Settings",
    "SettingsError",
    "TrainSettings",
    "Value",
    "describe_field",
    "did_you_mean",
    "num_classes",
    "parse_section",
    "part_type",
    "section_type",
    "spelled",
    "suggest",
    "timing_id",
]

BUILT_IN = {"loss": ("cross_entropy", "mse", "l1"), "metric": METRICS}
MEASURED_BY = {"mse": "rmse", "l1": "mae"}  # the metric of a regression by its loss, where none is named
PART_PATHS = {f"train.{what}": what for what in BUILT_IN}  # settings that have settings of their own


class _BuiltIn(Mapping[str, type[Section]]):
    """The settings of a section's built-in parts by name, read off their signatures when they are asked for."""

    def __init__(self, section: str, makers: Mapping[str, Callable[..., Any]]) -> None:
        self._section, self._makers = section, makers

    def __getitem__(self, name: str) -> type[Section]:
        maker = self._makers[name]
        alike = (one for one in self._makers.values() if _function(one) is _function(maker))
        return signed(self._section, _function(maker).__name__, next(alike))

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def _function(maker: Callable[..., Any]) -> Callable[..., Any]:
    return maker.func if isinstance(maker, functools.partial) else maker


PARTS: dict[str, Mapping[str, type[Section]]] = {
    "data": DATASETS,
    "model": _BuiltIn("model", MODELS),
    "optimizer": _BuiltIn("optimizer", OPTIMIZERS),
    "schedule": _BuiltIn("schedule", SCHEDULES),
}


class Settings(BaseModel):
    """Everything that can change the result of one training run."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    data: SerializeAsAny[DataSettings]
    model: SerializeAsAny[ModelSettings]
    optimizer: SerializeAsAny[OptimizerSettings]
    schedule: SerializeAsAny[ScheduleSettings]
    train: TrainSettings
    seed: int = 0

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Checks nested plain data, fills in defaults, resolves ``data.size``; raises :class:`SettingsError`."""
        problems = [
            Problem(name, "no such section" + did_you_mean(name, SECTIONS, f"there are {', '.join(SECTIONS)} and seed"))
            for name in raw
            if name not in SECTIONS and name != "seed"
        ]
        sections: dict[str, Section] = {}
        for name in SECTIONS:
            try:
                sections[name] = parse_section(name, raw.get(name, {}))
            except SettingsError as error:
                problems += error.problems
        if isinstance(train := sections.get("train"), TrainSettings):
            try:
                sections["train"] = _with_parts(train)
            except SettingsError as error:
                problems += error.problems
        seed = raw.get("seed", 0)
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            problems.append(Problem("seed", f"must be an integer >= 0, got {spelled(seed)}"))
        if problems:
            raise SettingsError(problems)
        data, model = sections["data"], sections["model"]
        assert isinstance(data, DataSettings)
        assert isinstance(model, ModelSettings)
        if data.size is not None and ONLY_SIZE.get(model.name, data.size) != data.size:
            rule = f"must be {ONLY_SIZE[model.name]} with {model.name}, got {data.size}"
            raise SettingsError([Problem("data.size", rule)])
        size = data.size or SIZES.get(model.name) or data.native_size
        sections["data"] = data.model_copy(update={"size": size})
        return cls.model_construct(None, seed=seed, **sections)

    def with_seed(self, seed: int) -> Self:
        """Returns the same experiment, another replicate."""
        return self.model_copy(update={"seed": seed})

    def flat(self) -> dict[str, Value]:
        """Returns every setting but the seed by its dotted path, in the order of the sections."""
        found: dict[str, Value] = {}
        for section in SECTIONS:
            for key, value in getattr(self, section):
                found |= _flat(f"{section}.{key}", value)
        return found

    @property
    def trial_id(self) -> str:
        """12 hex digits of sha256 over the resolved settings, seed included: the identity of a trial.

        A setting that is off by default (null, or empty) is left out at that default, so that one that a later version
        adds renames no trial; so is one that is marked as :class:`lab.sections.Quiet`.
        """
        return digest({name: identifying(getattr(self, name)) for name in SECTIONS}, self.seed)


def _flat(path: str, value: Any) -> dict[str, Value]:
    """Returns the setting; a loss or metric as its import path, and each of its own settings beside it."""
    what = PART_PATHS.get(path)
    if what is None or not is_part(value) or ":" not in part_name(value):
        return {path: value}
    own = dict(parse_part(what, value))
    return {path: own.pop("name")} | {f"{path}.{name}": inner for name, inner in own.items()}


def digest(sections: Mapping[str, Any], seed: int) -> str:
    """Returns 12 hex digits over settings that tell a trial from others, and its seed."""
    canonical = dumps({**sections, "seed": seed}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def identifying(section: Section) -> dict[str, Any]:
    """Returns the settings that tell a section from another: all but those that are quiet at their default."""
    fields = type(section).model_fields
    return {name: value for name, value in section if name not in fields or not _is_silent(fields[name], value)}


def _is_silent(field: FieldInfo, value: Any) -> bool:
    default = field.default
    if field.is_required():
        return False
    if default is None:
        return value is None
    if default == [] or default == {}:
        return not value and isinstance(value, dict if isinstance(default, dict) else list | tuple)
    return QUIET in field.metadata and same_value(value, default)


def timing_id(settings: Settings) -> str:
    """Returns 12 hex digits over what can change the speed of a step: trials that share it share their timing."""
    data, train = settings.data, settings.train
    speed = {
        "data": {"name": data.name, "size": data.size, "batch_size": data.batch_size, "channels": data.channels},
        "model": settings.model.model_dump(mode="json"),
        "optimizer": settings.optimizer.name,
        "train": [train.precision, train.compile, train.loss, train.clip_norm is not None],
    }
    return hashlib.sha256(dumps(speed, sort_keys=True).encode()).hexdigest()[:12]


def parse_section(section: str, raw: object) -> Section:
    """Checks one section by what its ``name`` takes; raises :class:`SettingsError` with paths from the top."""
    if not isinstance(raw, Mapping):
        raise SettingsError([Problem(section, f"must be a mapping of settings, got {spelled(raw)}")])
    kind = section_type(section, raw)
    try:
        settings = kind.model_validate(dict(raw))
    except ValidationError as error:
        owner = str(raw.get("name", section))
        raise SettingsError(_problem(section, owner, kind, e) for e in error.errors()) from None
    _check_text(section, settings)
    return settings


def section_type(section: str, raw: Mapping[str, Any]) -> type[Section]:
    """Returns the class that checks ``raw``: the section's own, or that of the part it names."""
    if section not in PARTS:
        return SECTIONS[section]
    known = PARTS[section]
    name = raw.get("name", SECTIONS[section].model_fields["name"].default)
    choices = f"there are {', '.join(known)}, or an import path package.module:attribute"
    if not isinstance(name, str):
        got = f", got {spelled(name)}" if "name" in raw else ""
        raise SettingsError([Problem(f"{section}.name", f"is required and must be a string{got}; {choices}")])
    if name in known:
        return known[name]
    if ":" in name:
        return settings_type(section, name)
    problem = f"no such {NOUNS[section]} {name!r}{did_you_mean(name, known, choices)}"
    raise SettingsError([Problem(f"{section}.name", problem)])


def _with_parts(train: TrainSettings) -> TrainSettings:
    """Returns the section with loss and metrics in their shortest form; raises :class:`SettingsError`."""
    problems: list[Problem] = []
    changes: dict[str, Any] = {}
    loss = part_name(train.loss) if is_part(train.loss) else ""
    if loss in MEASURED_BY and train.metric == "accuracy":
        train = train.model_copy(update={"metric": MEASURED_BY[loss]})
    for what, check in (("loss", functools.partial(check_part, "loss")), ("metric", _check_metrics)):
        try:
            changes[what] = check(getattr(train, what))
        except SettingsError as error:
            problems += error.problems
    if train.loss != "cross_entropy" and train.label_smoothing:
        rule = f"must be 0 with a loss other than cross_entropy, got {train.label_smoothing}"
        problems.append(Problem("train.label_smoothing", rule))
    metrics = named(train.metric)
    targets = [name for name in MEASURED_BY.values() if name in metrics.values()]
    if targets and loss == "cross_entropy":
        rule = f"{targets[0]} is of float targets, with the loss mse, l1 or your own; cross_entropy learns classes"
        problems.append(Problem("train.metric", rule))
    known = [f"dev_{name}" for name in [*metrics, *SCORES]]
    if train.select is not None and train.select not in known:
        rule = f"no such score on dev {train.select!r}{did_you_mean(train.select, known)}"
        problems.append(Problem("train.select", f"{rule}; there are {', '.join(dict.fromkeys(known))}"))
    if problems:
        raise SettingsError(problems)
    if train.select == default_selection(train.metric):  # spelled out, it is the same trial
        changes["select"] = None
    return train.model_copy(update=changes)


def _check_metrics(metric: Named) -> Named:
    """Returns the metrics in their shortest form, a list of one as the one; raises :class:`SettingsError`."""
    metrics = named(metric)
    if not metrics or (isinstance(metric, list) and len(metrics) < len(metric)):
        rule = "must name one metric or several, each of another name; `{name: path}` gives them names"
        raise SettingsError([Problem("train.metric", f"{rule}, got {spelled(metric)}")])
    for name, part in metrics.items():
        if not re.fullmatch(r"[a-z0-9_]+", name):
            rule = f"a name has lower-case letters, digits and _, got {name!r}"
            raise SettingsError([Problem("train.metric", rule)])
        if name == "digest":
            raise SettingsError([Problem("train.metric", "test_digest is what the test data are; name it otherwise")])
        if part in METRICS and name != part:
            raise SettingsError([Problem("train.metric", f"{part} is built in, and is called {part}; got {name!r}")])
        if name in SCORES and name != part:
            rule = f"{name} is built in; give {part_name(part)} a name of its own: `{{my_{name}: '{part_name(part)}'}}`"
            raise SettingsError([Problem("train.metric", rule)])
    short = {name: check_part("metric", part) for name, part in metrics.items()}
    if is_part(metric) or (isinstance(metric, list) and len(metric) == 1):
        return next(iter(short.values()))
    return list(short.values()) if isinstance(metric, list) else short


def part_type(what: str, raw: object) -> type[Section]:
    """Returns the class that checks a loss or metric; raises :class:`SettingsError` where its name leads to none."""
    path, known = f"train.{what}", BUILT_IN[what]
    choices = f"there are {', '.join(known)}, or an import path package.module:attribute"
    if not is_part(raw):
        raise SettingsError([Problem(f"{path}.name", f"is required and must be a string; {choices}")])
    name = part_name(raw)  # type: ignore[arg-type]  # just asked
    if name in known:
        return PartSettings
    if ":" not in name:
        raise SettingsError([Problem(path, f"no such {what} {name!r}{did_you_mean(name, known, choices)}")])
    return settings_type(what, name)


def check_part(what: str, raw: Part) -> Part:
    """Checks a loss or metric; returns its shortest form: a name, or a mapping of it and what is not at its default."""
    kind = part_type(what, raw)
    try:
        return shortest(kind.model_validate({"name": raw} if isinstance(raw, str) else raw))
    except ValidationError as error:
        problems = [_problem(f"train.{what}", part_name(raw), kind, one) for one in error.errors()]
        raise SettingsError(problems) from None


def _problem(section: str, owner: str, kind: type[Section], error: Any) -> Problem:
    path = ".".join([section, *map(str, error["loc"])])
    name = str(error["loc"][0])
    takes = ", ".join(
        sorted(kind.model_fields, key=lambda field: field in ("replace", "remove"))
    )  # the model's own first
    match error["type"]:
        case "extra_forbidden" | "invalid_key":
            hint = did_you_mean(name, kind.model_fields, f"it takes: {takes}")
            return Problem(path, f"no such setting of {owner}{hint}")
        case "missing":
            return Problem(
                path, f"is required: {describe_field(kind.model_fields[name])}{_by_code(section, kind, name)}"
            )
        case "unfit":
            rule = f"{error['ctx']['rule']}{_by_code(section, kind, name)}"
            return Problem(".".join([path, *error["ctx"]["path"]]), rule)
        case _:
            allowed = describe_field(kind.model_fields[name])
            return Problem(f"{section}.{name}", f"must be {allowed}, got {spelled(error['input'])}")


def _by_code(section: str, kind: type[Section], name: str) -> str:
    """Says how a value comes to a part that YAML cannot write; nothing where it can."""
    own = kind.signature.settings.get(name) if issubclass(kind, SignedSettings) else None
    if own is None or (own.schema and NOT_PLAIN not in dumps(own.schema)):
        return ""
    return _in_code(section)


def _in_code(section: str) -> str:
    if section == "train.metric":
        return "; a metric is a class with reset(), update(logits, labels) and compute(), or a function giving one"
    own = f"{NOUNS[section.removeprefix('train.')]} of your own, `module:function`"
    article = "an" if own[0] in "aeiou" else "a"
    return f"; what YAML cannot write, such as a function, comes from code: name {article} {own}"


def _check_text(section: str, settings: Section) -> None:
    """Raises :class:`SettingsError` where a part of torch's would be given an import path: it would get the text."""
    for name, value in settings:
        if name != "name" and isinstance(value, str) and IMPORT_PATH.fullmatch(value):
            owner = getattr(settings, "name", "")
            if owner.startswith("torch."):
                rule = f"{owner} would be given {spelled(value)} as text{_in_code(section)}"
                raise SettingsError([Problem(f"{section}.{name}", rule)])
