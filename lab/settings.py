"""The settings of a trial: typed, frozen, checked once, free of torch.

A trial is described by five sections and a seed. What a section takes depends on its ``name``: the built-in names and
their settings stand here; an import path (``package.module:attribute``) takes its settings from the signature of what
it names (see :mod:`lab.parts`).
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, create_model
from pydantic.fields import FieldInfo

from lab.scores import BUILT_IN, default_selection, named

Value = bool | int | float | str | None | list[Any] | dict[str, Any]

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Problem:
    """One broken rule: the dotted path of the setting, and the rule in words."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class SettingsError(ValueError):
    """The settings break rules; ``problems`` holds every one of them."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Section(BaseModel):
    """Settings that belong together; unknown names and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


# --- data -----------------------------------------------------------------------------------------------------------


class DataSettings(Section):
    name: str = Field(description="built-in data set or import path")
    size: PositiveInt | None = Field(None, description="side of the square images in pixels; default: the model's own")
    batch_size: PositiveInt = Field(64, description="images a training step")
    dev_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="share of the training images set aside for selection, stratified by class"
    )
    split_seed: int = Field(0, ge=0, description="seed of the train/dev split")
    limit: PositiveInt | None = Field(None, description="use only so many training images, stratified; default: all")
    channels: PositiveInt | None = Field(
        None, description="repeat grey images to so many channels; default: as they are"
    )
    augment: Literal["none", "shift", "flip_shift"] = Field(
        "none", description="random change of each training image: a shift by up to 1/8 of its side, a mirror image"
    )

    native_size: ClassVar[int | None] = None


class Digits(DataSettings):
    """1,797 real handwritten digits, 8 x 8, that come with scikit-learn: no download."""

    native_size: ClassVar[int | None] = 8


class Images28(DataSettings):
    """28 x 28 grey images: 60,000 to train, 10,000 to test."""

    native_size: ClassVar[int | None] = 28


class Emnist(DataSettings):
    """28 x 28 handwritten letters and digits."""

    native_size: ClassVar[int | None] = 28
    split: Literal["balanced", "byclass", "bymerge", "digits", "letters", "mnist"] = Field(
        "balanced", description="which of EMNIST's six sets"
    )


class Images32(DataSettings):
    """32 x 32 colour images."""

    native_size: ClassVar[int | None] = 32


class Npz(DataSettings):
    """A file of numpy arrays: train_images, train_labels, test_images, test_labels."""

    path: str = Field(description="the .npz file")


class ImageFolder(DataSettings):
    """Image files of one size in train/<class>/ and test/<class>/."""

    path: str = Field(description="the folder that holds train and test")


DATASETS: dict[str, type[DataSettings]] = {
    "digits": Digits,
    "mnist": Images28,
    "fashion_mnist": Images28,
    "kmnist": Images28,
    "emnist": Emnist,
    "cifar10": Images32,
    "cifar100": Images32,
    "svhn": Images32,
    "npz": Npz,
    "image_folder": ImageFolder,
}

NUM_CLASSES = {"digits": 10, "mnist": 10, "fashion_mnist": 10, "kmnist": 10, "cifar10": 10, "cifar100": 100, "svhn": 10}
EMNIST_CLASSES = {"balanced": 47, "byclass": 62, "bymerge": 47, "digits": 10, "letters": 26, "mnist": 10}


def num_classes(data: DataSettings) -> int | None:
    """How many classes a built-in data set has; None for files and import paths, which tell only when they are read."""
    return EMNIST_CLASSES[data.split] if isinstance(data, Emnist) else NUM_CLASSES.get(data.name)


# --- model ----------------------------------------------------------------------------------------------------------


class ModelSettings(Section):
    name: str = Field(description="built-in network or import path")
    replace: dict[str, str] = Field(
        {}, description="class of modules: class of torch.nn, with arguments if need be, or import path to put there"
    )
    remove: list[str] = Field([], description="paths of modules to take out, such as layer3.*.downsample")

    default_size: ClassVar[int | None] = None
    only_size: ClassVar[int | None] = None


class Mlp(ModelSettings):
    """Fully connected network on the flattened image."""

    hidden: list[PositiveInt] = Field([256, 128], description="widths of the hidden layers")
    residual: bool = Field(False, description="shortcut around each hidden layer as wide as the one before it")
    batch_norm: bool = Field(False, description="BatchNorm after each hidden linear layer")
    dropout: Fraction = Field(0.0, description="share of hidden activations dropped in training")


class LeNet(ModelSettings):
    """LeNet-5 (LeCun et al. 1998) with ReLU, for images of 32 x 32."""

    default_size: ClassVar[int | None] = 32
    only_size: ClassVar[int | None] = 32
    batch_norm: bool = Field(False, description="BatchNorm after each convolution; off as published")


class ResNet(ModelSettings):
    """Residual network of basic blocks (He et al. 2016)."""

    default_size: ClassVar[int | None] = 224
    width: PositiveInt = Field(
        64, description="channels of the first stage; the later ones have 2, 4 and 8 times as many"
    )
    residual: bool = Field(True, description="shortcuts; without them it is He et al.'s plain network")
    batch_norm: bool = Field(True, description="BatchNorm after each convolution; without it they have a bias instead")
    stem: Literal["imagenet", "cifar"] = Field(
        "imagenet", description="7x7 stride-2 convolution and pool, or 3x3 stride-1 convolution without pool"
    )


MODELS: dict[str, type[ModelSettings]] = {
    "mlp": Mlp,
    "lenet": LeNet,
    "resnet10": ResNet,
    "resnet18": ResNet,
    "resnet34": ResNet,
}

# --- optimizer ------------------------------------------------------------------------------------------------------


class OptimizerSettings(Section):
    name: str = Field(description="built-in optimizer or import path")
    lr: PositiveFloat = Field(description="learning rate; with a schedule, its peak")


class Sgd(OptimizerSettings):
    """Gradient descent on mini-batches, without momentum."""

    weight_decay: NonNegativeFloat = Field(0.0, description="L2 penalty added to the gradient")


class Momentum(Sgd):
    """SGD with heavy-ball momentum (Polyak 1964)."""

    momentum: Fraction = Field(0.9, description="share of the last step that is kept (rho)")


class Nesterov(Momentum):
    """SGD with Nesterov's momentum (Sutskever et al. 2013)."""

    momentum: Annotated[float, Field(gt=0, lt=1)] = Field(0.9, description="share of the last step that is kept (rho)")


class RMSprop(Sgd):
    """RMSprop (Tieleman and Hinton 2012)."""

    alpha: Fraction = Field(0.99, description="decay of the running mean of squared gradients (beta)")
    eps: PositiveFloat = Field(1e-8, description="added to the denominator")
    momentum: Fraction = Field(0.0, description="share of the last step that is kept")


class Adam(Sgd):
    """Adam (Kingma and Ba 2015)."""

    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = Field(
        [0.9, 0.999], description="decay of the running means of gradients and of squared gradients"
    )
    eps: PositiveFloat = Field(1e-8, description="added to the denominator")


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    weight_decay: NonNegativeFloat = Field(0.01, description="decay of the weights, apart from the gradient")


OPTIMIZERS: dict[str, type[OptimizerSettings]] = {
    "sgd": Sgd,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
}

# --- schedule -------------------------------------------------------------------------------------------------------


class ScheduleSettings(Section):
    name: str = Field("constant", description="built-in schedule or import path")


class Constant(ScheduleSettings):
    """The learning rate as it is, all along."""


class Step(ScheduleSettings):
    """Multiplied by ``gamma`` after each of ``milestones``."""

    milestones: list[Fraction] = Field([0.5, 0.75], description="shares of the whole training")
    gamma: PositiveFloat = Field(0.1, description="factor at each milestone")


class Cosine(ScheduleSettings):
    """Half a cosine from the peak to ``final`` (Loshchilov and Hutter 2017, without restarts)."""

    warmup: Fraction = Field(0.0, description="share of the training spent rising linearly to the peak")
    final: Fraction = Field(0.0, description="last learning rate as a share of the peak")


class OneCycle(ScheduleSettings):
    """Linear rise to the peak, linear fall to ``final`` (Smith 2018)."""

    warmup: Fraction = Field(0.3, description="share of the training spent rising")
    initial: Fraction = Field(0.04, description="first learning rate as a share of the peak")
    final: Fraction = Field(0.0, description="last learning rate as a share of the peak")


class Warmup(ScheduleSettings):
    """Linear rise to the peak, then constant (Goyal et al. 2017)."""

    warmup: Fraction = Field(0.1, description="share of the training spent rising")


SCHEDULES: dict[str, type[ScheduleSettings]] = {
    "constant": Constant,
    "step": Step,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "warmup": Warmup,
}

# --- train ----------------------------------------------------------------------------------------------------------


class TrainSettings(Section):
    epochs: PositiveInt = Field(description="passes over the training split")
    loss: str = Field("cross_entropy", description="cross_entropy, or import path of a loss of (logits, labels)")
    metric: str | list[str] | dict[str, str] = Field(
        "accuracy",
        description="accuracy, or import path of a metric with reset, update, compute; a list, or a mapping of names",
    )
    select: str | None = Field(
        None, description="score on dev that selects the epoch, such as dev_loss; default: that of the first metric"
    )
    better: Literal["higher", "lower"] | None = Field(
        None, description="direction of the selecting score, where its class does not say it"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16: autocast; weights stay in float32"
    )
    compile: bool = Field(False, description="compile the network with torch.compile")
    eval_every: PositiveInt | None = Field(None, description="steps between two evaluations on dev; default: one epoch")
    label_smoothing: Fraction = Field(0.0, description="share of the target spread over all classes")
    clip_norm: PositiveFloat | None = Field(None, description="largest norm of the gradient; default: no limit")


SECTIONS: dict[str, type[Section]] = {
    "data": DataSettings,
    "model": ModelSettings,
    "optimizer": OptimizerSettings,
    "schedule": ScheduleSettings,
    "train": TrainSettings,
}
PARTS: dict[str, Mapping[str, type[Section]]] = {
    "data": DATASETS,
    "model": MODELS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
NOUNS = {"data": "data set", "model": "model", "optimizer": "optimizer", "schedule": "schedule"}


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
            problems += _loss_and_metric_problems(train)
            sections["train"] = _without_default_selection(train)
        seed = raw.get("seed", 0)
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            problems.append(Problem("seed", f"must be an integer >= 0, got {spelled(seed)}"))
        if problems:
            raise SettingsError(problems)
        data, model = sections["data"], sections["model"]
        assert isinstance(data, DataSettings)
        assert isinstance(model, ModelSettings)
        if data.size is not None and model.only_size not in (None, data.size):
            rule = f"must be {model.only_size} with {model.name}, got {data.size}"
            raise SettingsError([Problem("data.size", rule)])
        size = data.size or model.default_size or data.native_size
        sections["data"] = data.model_copy(update={"size": size})
        return cls.model_construct(None, seed=seed, **sections)

    def with_seed(self, seed: int) -> Self:
        """The same experiment, another replicate."""
        return self.model_copy(update={"seed": seed})

    def flat(self) -> dict[str, Value]:
        """Every setting but the seed by its dotted path, in the order of the sections."""
        return {f"{section}.{key}": value for section in SECTIONS for key, value in getattr(self, section)}

    @property
    def trial_id(self) -> str:
        """12 hex digits of sha256 over the resolved settings, seed included: the identity of a trial.

        A setting that is off (null, or empty) is left out, so that a setting that a later version adds, off by default,
        renames no trial.
        """
        on = _without_off(self.model_dump(mode="json"))
        canonical = json.dumps(on, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _without_off(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_off(inner) for key, inner in value.items() if inner is not None and inner not in ([], {})}
    return value


def timing_id(settings: Settings) -> str:
    """12 hex digits over what can change the speed of a step: trials that share it share their timing."""
    data, train = settings.data, settings.train
    speed = {
        "data": {"name": data.name, "size": data.size, "batch_size": data.batch_size, "channels": data.channels},
        "model": settings.model.model_dump(mode="json"),
        "optimizer": settings.optimizer.name,
        "train": [train.precision, train.compile, train.loss, train.clip_norm is not None],
    }
    return hashlib.sha256(json.dumps(speed, sort_keys=True).encode()).hexdigest()[:12]


def parse_section(section: str, raw: object) -> Section:
    """Checks one section by what its ``name`` takes; raises :class:`SettingsError` with paths from the top."""
    if not isinstance(raw, Mapping):
        raise SettingsError([Problem(section, f"must be a mapping of settings, got {spelled(raw)}")])
    kind = section_type(section, raw)
    try:
        return kind.model_validate(dict(raw))
    except ValidationError as error:
        owner = str(raw.get("name", section))
        raise SettingsError(_problem(section, owner, kind, e) for e in error.errors()) from None


def section_type(section: str, raw: Mapping[str, Any]) -> type[Section]:
    """The class that checks ``raw``: the section's own, or that of the part it names."""
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
        from lab.parts import settings_type

        return settings_type(section, name)
    problem = f"no such {NOUNS[section]} {name!r}{did_you_mean(name, known, choices)}"
    raise SettingsError([Problem(f"{section}.name", problem)])


def _loss_and_metric_problems(train: TrainSettings) -> list[Problem]:
    problems = [*_part_problems("loss", train.loss, "cross_entropy"), *_metric_problems(train)]
    if train.loss != "cross_entropy" and train.label_smoothing:
        rule = f"must be 0 with a loss other than cross_entropy, got {train.label_smoothing}"
        problems.append(Problem("train.label_smoothing", rule))
    return problems


def _part_problems(what: str, name: str, known: str) -> Iterator[Problem]:
    """What is wrong with an import path, or the one ``known`` name, in ``train.loss`` or ``train.metric``."""
    if name == known:
        return
    from lab.parts import PartError, load

    choices = f"there is {known}, or an import path package.module:attribute"
    if ":" not in name:
        yield Problem(f"train.{what}", f"no such {what} {name!r}{did_you_mean(name, [known], choices)}")
        return
    try:
        load(name)
    except PartError as error:
        yield Problem(f"train.{what}", f"no such {what} {error}; {choices}")


def _metric_problems(train: TrainSettings) -> Iterator[Problem]:
    metrics = named(train.metric)
    if not metrics or (isinstance(train.metric, list) and len(metrics) < len(train.metric)):
        rule = "must name one metric or several, each of another name; `{name: path}` gives them names"
        yield Problem("train.metric", f"{rule}, got {spelled(train.metric)}")
        return
    for name, path in metrics.items():
        if not re.fullmatch(r"[a-z0-9_]+", name):
            yield Problem("train.metric", f"a name has lower-case letters, digits and _, got {name!r}")
        elif name in BUILT_IN and (name, path) != ("accuracy", "accuracy"):
            rule = f"{name} is built in; give {path} a name of its own: `{{my_{name}: '{path}'}}`"
            yield Problem("train.metric", rule)
        else:
            yield from _part_problems("metric", path, "accuracy")
    known = [f"dev_{name}" for name in [*metrics, *BUILT_IN]]
    if train.select is not None and train.select not in known:
        rule = f"no such score on dev {train.select!r}{did_you_mean(train.select, known)}"
        yield Problem("train.select", f"{rule}; there are {', '.join(dict.fromkeys(known))}")


def _without_default_selection(train: TrainSettings) -> TrainSettings:
    """The default selection is left out, so that spelling it out is the same trial; so is a list of one metric."""
    metrics = named(train.metric)
    if list(metrics) and train.select == default_selection(train.metric):
        train = train.model_copy(update={"select": None})
    if isinstance(train.metric, list) and len(metrics) == 1:
        train = train.model_copy(update={"metric": train.metric[0]})
    return train


def did_you_mean(name: object, known: Iterable[str], rest: str = "") -> str:
    """``; did you mean X?`` where a known name is near, else nothing; then ``rest``, as a sentence or a clause."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    if not near:
        return f"; {rest}" if rest else ""
    return f"; did you mean {near[0]}?" + (f" {rest[0].upper()}{rest[1:]}" if rest else "")


def spelled(value: object) -> str:
    """A value as YAML spells it, text in quotes: ``null``, ``true``, ``'8'``, ``[1, null]``."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list():
            return f"[{', '.join(map(spelled, value))}]"
        case dict():
            return "{" + ", ".join(f"{key}: {spelled(item)}" for key, item in value.items()) + "}"
        case _:
            return repr(value)


@functools.cache
def describe_field(field: FieldInfo) -> str:
    """The values that a setting allows, in words: ``integer > 0``, ``imagenet or cifar``, ``list of integer > 0``."""
    kind: Any = field.annotation
    schema = create_model("Described", value=(kind, field)).model_json_schema()
    return _describe(schema["properties"]["value"])


def _describe(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_describe(option) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " or ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    bounds = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    limits = " and ".join(f"{sign} {schema[key]:g}" for key, sign in bounds.items() if key in schema)
    words = {"integer": "integer", "boolean": "true or false", "null": "null", "array": "list", "object": "mapping"}
    kind = words.get(schema.get("type", "any value"), schema.get("type", "any value"))
    if kind == "list":
        length = schema.get("minItems", "")
        length = f"{length} " if length and length == schema.get("maxItems") else ""
        return f"list of {length}{_describe(schema.get('items', {}))}"
    return f"{kind} {limits}".strip()


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
            return Problem(path, f"is required: {describe_field(kind.model_fields[name])}")
        case _:
            allowed = describe_field(kind.model_fields[name])
            return Problem(f"{section}.{name}", f"must be {allowed}, got {spelled(error['input'])}")
