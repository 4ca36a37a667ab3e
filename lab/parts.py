"""Parts by import path, ``package.module:attribute``: as good as built-in ones, their settings read off signatures.

A signature is plain data: whoever only checks settings has it read in a process of its own (:mod:`lab.visiting`), and
imports nothing of the user's.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from json import dumps, loads  # by name: user code may have put others in their place
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, create_model, model_serializer
from pydantic_core import PydanticCustomError

from lab.annotations import Kind, Unfit, annotation_like, same_value
from lab.imports import PartError, as_part_error, load
from lab.sections import BASES, NOUNS, QUIET, Part, Problem, Section, SettingsError, part_name
from lab.visiting import asked, is_asked

# What the harness passes where a signature asks for it: no setting.
GIVEN = {
    "data": {"root"},
    "model": {"in_channels", "num_classes", "size"},
    "optimizer": {"params"},
    "schedule": {"num_steps", "optimizer"},
    "loss": {"num_classes"},
    "metric": {"num_classes"},
    "function": {"seed", "device", "folder", "report", "should_stop"},
}
STEPPED = {"CyclicLR", "OneCycleLR"}  # torch's schedulers that count steps, not epochs


def section_of(path: str) -> str:
    """Finds the section of the part at ``path`` by what it asks for; a data set need not ask for anything.

    Raises :class:`PartError`.
    """
    part = load(path)
    with as_part_error(f"{path!r}: cannot read its signature"):
        return _section_of(part)


def _section_of(part: Callable[..., Any]) -> str:
    parameters = _parameters(part).values()
    for section in ("optimizer", "schedule"):
        if GIVEN[section] & {parameter.name for parameter in parameters}:
            return section
    if hasattr(part, "update") and (hasattr(part, "compute") or hasattr(part, "accumulate")):
        return "metric"
    if hasattr(part, "forward") and _num_required(part.forward) == 3:  # itself, logits, labels
        return "loss"
    if GIVEN["model"] & {parameter.name for parameter in parameters} or hasattr(part, "forward"):
        return "model"
    return "model" if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters) else "data"


def _num_required(function: Callable[..., Any]) -> int:
    return sum(one.default is one.empty for one in inspect.signature(function).parameters.values())


# --- settings from a signature --------------------------------------------------------------------------------------


class _Left:
    """Stands for a default that YAML cannot write: it is left to the part."""

    def __repr__(self) -> str:
        return "its own"

    def __reduce__(self) -> str:
        return "LEFT"  # there is one of it, in every process


LEFT = _Left()


@dataclass(frozen=True)
class Setting:
    """A parameter as a grid sees it: the JSON schema of its values, and its default (LEFT: what YAML cannot write)."""

    schema: Mapping[str, Any]
    is_required: bool
    default: Any = None
    is_quiet: bool = False


@dataclass(frozen=True)
class Signature:
    """The signature of a part as plain data."""

    doc: str | None
    settings: Mapping[str, Setting]
    per: str | None  # what a scheduler of torch's counts
    takes_any: bool  # keyword, as a setting
    names: tuple[str, ...]  # of all parameters
    by_position: tuple[str, ...]  # of those that cannot be given by name


class Described:
    """The values of a parameter whose part is not imported here: another process settles them."""

    def __init__(self, *parameter: str) -> None:
        self._parameter = parameter  # path, section, name

    def settle(self, plain: Any) -> Any:
        """Settles it as :meth:`lab.annotations.Kind.settle` does."""
        try:
            text = dumps(plain)
        except (TypeError, ValueError, RecursionError):
            raise Unfit(f"must be plain values, got {plain!r}") from None
        return asked(settle, *self._parameter, text)

    def read(self, plain: Any) -> Any:
        """Reads the value itself, which takes the part."""
        path, section, name = self._parameter
        return signed(section, path, load(path)).kinds[name].read(plain)


class SignedSettings(Section):
    """Settings read off a signature: plain values, each in the one form of its kind."""

    signature: ClassVar[Signature]
    kinds: ClassVar[Mapping[str, Kind | Described]] = {}

    def __iter__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]  # pydantic's own is of tuples, too
        return ((name, value) for name, value in super().__iter__() if value is not LEFT)

    @model_serializer
    def _without_left(self) -> dict[str, Any]:
        return dict(self)

    def arguments(self) -> dict[str, Any]:
        """Returns what the part is given, as its signature has it; what is at its default is left to the part."""
        given = dict(self.model_extra or {})
        for name, kind in self.kinds.items():
            value, field = getattr(self, name), type(self).model_fields[name]
            if value is not LEFT and (field.is_required() or not same_value(value, field.default)):
                given[name] = kind.read(value)
        return given


def arguments(settings: Section) -> dict[str, Any]:
    """Returns what a part's own settings give it; nothing where they were not read off its signature."""
    return settings.arguments() if isinstance(settings, SignedSettings) else {}


def accepts(part: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of ``given`` that the signature of ``part`` names."""
    return {name: given[name] for name in _parameters(part) if name in given}


def is_open(part: Callable[..., Any]) -> bool:
    """Tells whether the part takes any keyword."""
    return any(one.kind is one.VAR_KEYWORD for one in _parameters(part).values())


def _parameters(part: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Returns those of its signature; none of a function in C that has none, which takes no keywords either."""
    try:
        return inspect.signature(part).parameters
    except ValueError:
        if inspect.isbuiltin(part):
            return {}
        raise


def settings_type(section: str, path: str) -> type[SignedSettings]:
    """Reads settings off the signature of the part at ``path``; raises :class:`SettingsError` at ``section.name``."""
    try:
        return signed_settings(section, path)
    except PartError as error:
        at = {"loss": "train.loss", "metric": "train.metric"}.get(section, f"{section}.name")
        raise SettingsError([Problem(at, f"no such {NOUNS[section]}: {error}")]) from error


def signed_settings(section: str, path: str) -> type[SignedSettings]:
    """Reads settings off the signature of the part at ``path``, imported here or elsewhere; raises PartError."""
    if not is_asked(describe, path, section):
        return _loaded(section, path)
    signature = asked(describe, path, section)
    return _settings(section, path, signature, {name: Described(path, section, name) for name in signature.settings})


def _loaded(section: str, path: str) -> type[SignedSettings]:
    part = load(path)
    with as_part_error(f"{path!r}: cannot read its signature"):
        return signed(section, path, part)


def describe(path: str, section: str) -> Signature:
    """Reads the signature of the part at ``path``; raises :class:`PartError`."""
    return _loaded(section, path).signature


def settle(path: str, section: str, name: str, text: str) -> Any:
    """Settles a value, given as JSON, of a parameter of the part at ``path``; raises :class:`Unfit`."""
    kind = _loaded(section, path).kinds[name]
    with as_part_error(f"{path!r}: cannot read {name}", passing=Unfit):
        return kind.settle(loads(text))


@functools.lru_cache  # of the part itself: a module may be imported again
def signed(section: str, name: str, part: Callable[..., Any]) -> type[SignedSettings]:
    """Returns the settings of a part of a section, from its signature: all but what the harness gives it."""
    kinds: dict[str, Kind] = {}
    settings: dict[str, Setting] = {}
    for parameter in _own_parameters(section, part):
        if parameter.name in BASES[section].model_fields:
            continue
        if (found := _setting(parameter)) is not None:
            kinds[parameter.name], settings[parameter.name] = found
    every = _parameters(part).values()
    signature = Signature(
        _doc(part),
        settings,
        _per(part) if section == "schedule" else None,
        is_open(part) and _is_made(section, part),
        tuple(one.name for one in every),
        tuple(one.name for one in every if one.kind is one.POSITIONAL_ONLY),
    )
    return _settings(section, name, signature, kinds)


def _settings(
    section: str, name: str, signature: Signature, kinds: Mapping[str, Kind | Described]
) -> type[SignedSettings]:
    """Makes the class of settings that the signature asks for; each value is settled by its kind."""
    base = BASES[section]
    fields: dict[str, Any] = {name: _field(one, kinds[name]) for name, one in signature.settings.items()}
    if signature.per:
        fields["per"] = (Literal["epoch", "step"], Field(signature.per, description="what the scheduler counts"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a setting may be called as a method of pydantic's is
        made: Any = create_model(name, __base__=(SignedSettings, base), __doc__=signature.doc, **fields)
    made.kinds, made.signature = kinds, signature
    if signature.takes_any:
        made.model_config = ConfigDict(**{**base.model_config, "extra": "allow"})
        made.model_rebuild(force=True)
    return made


def _is_made(section: str, part: Callable[..., Any]) -> bool:
    """Tells whether the part is called with its settings; a loss that is no class is the loss itself."""
    return section != "loss" or inspect.isclass(part)


def _own_parameters(section: str, part: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    """Yields the parameters that are settings, annotations resolved; a loss's own come after logits and labels."""
    skipped = 0 if _is_made(section, part) else 2
    function = _function(part)
    for parameter in [*_parameters(part).values()][skipped:]:
        variadic = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if not variadic and parameter.name not in GIVEN[section] and parameter.name != "self":
            yield parameter.replace(annotation=_resolved(parameter, getattr(function, "__globals__", {})))


def _function(part: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function whose signature the part has: of a class, its constructor."""
    while isinstance(part, functools.partial):
        part = part.func
    if inspect.isclass(part):
        made = [getattr(part, name) for name in ("__new__", "__init__")]
        part = made[0] if made[0] is not object.__new__ else made[1]
    return inspect.unwrap(part)


def _resolved(parameter: inspect.Parameter, names: dict[str, Any]) -> Any:
    """Returns the annotation; empty where there is none, or only a type checker can read it."""
    alone = types.SimpleNamespace(__annotations__={"it": parameter.annotation})
    with suppress(NameError, TypeError, AttributeError):
        return typing.get_type_hints(alone, names, include_extras=True)["it"]
    return parameter.empty


def _setting(parameter: inspect.Parameter) -> tuple[Kind, Setting] | None:
    """Returns the kind of a parameter's values, and its setting; None where YAML cannot write what it takes."""
    required = parameter.default is parameter.empty
    annotation = parameter.annotation
    if annotation is parameter.empty:
        annotation = Any if required else annotation_like(parameter.default)
    if parameter.default is None:
        annotation = typing.Optional[annotation]  # noqa: UP045  # computed, not written
    kind = Kind(annotation)
    default = None if required else _said(kind, parameter.default)
    if default is LEFT and (not kind.is_plain or kind.is_any):
        return None
    if not required and parameter.name.startswith("_"):
        return None
    quiet = not (required or default is LEFT or _is_json(parameter.default))
    schema = loads(dumps(kind.schema, default=str))
    return kind, Setting(schema, required, default, quiet)


def _field(setting: Setting, kind: Kind | Described) -> tuple[Any, Any]:
    """Returns the annotation and the field of a setting, as pydantic takes them."""
    quiet = [QUIET] if setting.is_quiet else []
    plain = Annotated[Any, AfterValidator(functools.partial(_settle, kind)), WithJsonSchema(setting.schema), *quiet]
    default = ... if setting.is_required else setting.default
    return plain, Field(default, description=setting.schema.get("description"))


def _said(kind: Kind, default: Any) -> Any:
    """Returns the default as a grid would say it, so that to leave it out is to spell it out; LEFT where it cannot."""
    try:
        written = kind.write(default)
    except Unfit:
        return LEFT
    with suppress(Unfit):  # a default need not be what the annotation says
        return kind.settle(written)
    return written


def _settle(kind: Kind | Described, value: Any) -> Any:
    try:
        return kind.settle(value)
    except Unfit as error:
        raise PydanticCustomError("unfit", "{rule}", {"rule": error.rule, "path": error.path}) from None
    except PartError as error:  # the code of a user's type raised
        raise PydanticCustomError("unfit", "{rule}", {"rule": str(error), "path": ()}) from None


def _is_json(value: object) -> bool:
    try:
        dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _doc(part: Callable[..., Any]) -> str | None:
    while isinstance(part, functools.partial):
        part = part.func
    return inspect.cleandoc(part.__doc__) if part.__doc__ else None  # its own, not that of torch.nn.Module


def _per(part: Callable[..., Any]) -> str | None:
    """Tells what a scheduler of torch's counts unless the grid says; None for others, and for one that watches dev."""
    if "optimizer" not in _parameters(part) or watches_dev(part):
        return None
    return "step" if STEPPED & {kind.__name__ for kind in getattr(part, "__mro__", ())} else "epoch"


def watches_dev(scheduler: Any) -> bool:
    """Tells whether a scheduler, or a class of schedulers, steps by what an evaluation gave."""
    step = getattr(scheduler, "step", None)
    return step is not None and "metrics" in inspect.signature(step).parameters


# --- losses and metrics ---------------------------------------------------------------------------------------------


def parse_part(what: str, raw: Part) -> SignedSettings:
    """Parses the settings of a loss or metric: an import path, or a mapping of its ``name`` and what else it takes."""
    given = {"name": raw} if isinstance(raw, str) else dict(raw)
    return settings_type(what, part_name(raw)).model_validate(given)


def shortest(settings: Section) -> Part:
    """Returns the import path, or a mapping of it and of what is not at its default."""
    fields = type(settings).model_fields
    own = {
        name: value
        for name, value in settings
        if name not in fields or fields[name].is_required() or not same_value(value, fields[name].default)
    }
    return own if own.keys() - {"name"} else own["name"]


def make_part(what: str, raw: Part, given: Mapping[str, Any]) -> Any:
    """Makes the loss or metric; a class or factory is called, a loss that is a function keeps its settings."""
    settings = parse_part(what, raw)
    part = load(settings.name)  # type: ignore[attr-defined]  # of its base
    keywords = accepts(part, given) | settings.arguments()
    if _is_made(what, part):
        return part(**keywords)
    return functools.partial(part, **keywords) if keywords else part
