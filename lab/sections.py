"""The sections of a trial's settings, and the words in which a broken rule is told. Free of torch.

Each section is a class of pydantic's: its own settings stand here. What else a section takes depends on the part that
it names, and is read off the signature of that part (see :mod:`lab.parts`).
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.fields import FieldInfo

Value = bool | int | float | str | None | list[Any] | dict[str, Any]

Part = str | dict[str, Any]  # a loss or metric: its name, or a mapping of that and its settings

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


class Quiet:
    """Marks a setting that the identity of a trial leaves out at its default, whatever that is.

    Settings that are off by default (null, or empty) are left out anyway. One that is added to a part when trials of it
    are on record, and is on by default, is marked, so that it renames none of them.
    """


QUIET = Quiet()


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


class BreastCancer(DataSettings):
    """569 tumours by 30 features, benign or malignant; comes with scikit-learn: no download."""


class Wine(DataSettings):
    """178 wines by 13 features, of three growers; comes with scikit-learn: no download."""


class Diabetes(DataSettings):
    """442 patients by 10 features, a regression of how far the disease came in a year; comes with scikit-learn."""


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
    """A file of numpy arrays: train_images (or signals, or features), train_labels, test_images, test_labels."""

    path: str = Field(description="the .npz file")


class ImageFolder(DataSettings):
    """Image files in train/<class>/ and test/<class>/."""

    path: str = Field(description="the folder that holds train and test")
    resize: PositiveInt | None = Field(
        None, description="side to which images are stretched when they are read; default: they must be of one size"
    )


DATASETS: dict[str, type[DataSettings]] = {
    "digits": Digits,
    "breast_cancer": BreastCancer,
    "wine": Wine,
    "diabetes": Diabetes,
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

NUM_CLASSES = {
    **dict.fromkeys(("digits", "mnist", "fashion_mnist", "kmnist", "cifar10", "svhn"), 10),
    **{"cifar100": 100, "breast_cancer": 2, "wine": 3},
}
EMNIST_CLASSES = {"balanced": 47, "byclass": 62, "bymerge": 47, "digits": 10, "letters": 26, "mnist": 10}


def num_classes(data: DataSettings) -> int | None:
    """Counts the classes of a built-in data set; None for files and import paths, which tell only when read."""
    return EMNIST_CLASSES[data.split] if isinstance(data, Emnist) else NUM_CLASSES.get(data.name)


# --- the other sections ----------------------------------------------------------------------------------------------


class ModelSettings(Section):
    name: str = Field(description="built-in network or import path")
    replace: dict[str, str] = Field(
        {}, description="class of modules: class of torch.nn, with arguments if need be, or import path to put there"
    )
    remove: list[str] = Field([], description="paths of modules to take out, such as layer3.*.downsample")


class OptimizerSettings(Section):
    name: str = Field(description="built-in optimizer or import path")
    lr: PositiveFloat = Field(description="learning rate; with a schedule, its peak")


class ScheduleSettings(Section):
    name: str = Field("constant", description="built-in schedule or import path")


class TrainSettings(Section):
    epochs: PositiveInt = Field(description="passes over the training split")
    loss: Part = Field(
        "cross_entropy",
        description="cross_entropy; of float targets mse or l1; or import path of a loss of (logits, labels); with "
        "settings: {name: path, ...}",
    )
    metric: Part | list[Part] | dict[str, Part] = Field(
        "accuracy",
        description="accuracy, macro_f1, calibration_error; of float targets rmse or mae; or import path of a metric "
        "with reset, update, compute, or with settings {name: path, ...}; a list, or a mapping of names",
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


class PartSettings(Section):
    """A loss or a metric of ``train``."""

    name: str = Field(description="import path")


SECTIONS: dict[str, type[Section]] = {
    "data": DataSettings,
    "model": ModelSettings,
    "optimizer": OptimizerSettings,
    "schedule": ScheduleSettings,
    "train": TrainSettings,
}
BASES = SECTIONS | {
    "loss": PartSettings,
    "metric": PartSettings,
    "function": Section,
}  # what every part of a kind takes
NOUNS = {
    "data": "data set",
    "model": "model",
    "optimizer": "optimizer",
    "schedule": "schedule",
    "loss": "loss",
    "metric": "metric",
    "function": "function",
}


def is_part(raw: object) -> bool:
    """Tells whether it is one loss or metric, not a list of them or a mapping of names to them."""
    return isinstance(raw, str) or (isinstance(raw, dict) and isinstance(raw.get("name"), str))


def part_name(raw: Part) -> str:
    """Returns the name or import path of a loss or metric."""
    return raw if isinstance(raw, str) else str(raw.get("name"))


# --- words -----------------------------------------------------------------------------------------------------------


def did_you_mean(name: object, known: Iterable[str], rest: str = "") -> str:
    """Suggests ``; did you mean X?`` where a known name is near; then adds ``rest``, as a sentence or a clause."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    if not near:
        return f"; {rest}" if rest else ""
    return f"; did you mean {near[0]}?" + (f" {rest[0].upper()}{rest[1:]}" if rest else "")


def suggest(name: object, known: Iterable[str]) -> str:
    """Suggests the nearest known name, if one is near, then lists all: ``; did you mean X? There are X, Y``."""
    names = list(known)
    return did_you_mean(name, names, f"there are {', '.join(names) or 'none'}")


def spelled(value: object) -> str:
    """Returns a value as YAML spells it, text in quotes: ``null``, ``true``, ``'8'``, ``[1, null]``."""
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


def describe_schema(schema: Mapping[str, Any]) -> str:
    """Returns the values that a JSON schema allows, in words: ``integer > 0``, ``a or b``, ``list of integer > 0``."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(describe_schema, schema["anyOf"])))
    if "enum" in schema or "const" in schema:
        return " or ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    bounds = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    limits = " and ".join(f"{sign} {schema[key]:g}" for key, sign in bounds.items() if key in schema)
    words = {"integer": "integer", "boolean": "true or false", "null": "null", "array": "list", "object": "mapping"}
    kind = words.get(schema.get("type", "any value"), schema.get("type", "any value"))
    if kind == "list":
        length = schema.get("minItems", "")
        length = f"{length} " if length and length == schema.get("maxItems") else ""
        items = schema.get("prefixItems") or [schema.get("items", {})]
        return f"list of {length}{' and '.join(dict.fromkeys(map(describe_schema, items)))}"
    return f"{kind} {limits}".strip()


@functools.cache
def describe_field(field: FieldInfo) -> str:
    """Returns the values that a setting allows, in words."""
    annotation: Any = field.annotation
    return describe_schema(
        TypeAdapter(Annotated[annotation, *field.metadata] if field.metadata else annotation).json_schema()
    )
