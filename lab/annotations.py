"""Between YAML and a signature: what an annotation takes of plain values, and how YAML would write what it took.

The rules are JSON's: a list becomes a tuple, a whole number a float, text a path or the member of an enumeration, a
mapping a dataclass. Text is never read as a number, nor a number as text. Free of torch.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from json import dumps, loads  # by name: user code may have put others in their place
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Union

from pydantic import ConfigDict, PlainSerializer, PlainValidator, TypeAdapter, ValidationError, WithJsonSchema
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic_core import PydanticSerializationError, SchemaError

from lab.sections import describe_schema, did_you_mean, spelled

NOT_PLAIN = "x-not-plain"  # marks a JSON schema of what YAML cannot write
UNREADABLE = (PydanticUserError, SchemaError, NameError, TypeError)  # annotations for a type checker alone
ENDLESS = (collections.abc.Iterable, collections.abc.Collection)


class Unfit(ValueError):  # noqa: N818  # what the value is
    """A value that an annotation cannot take: ``path`` inside the value, and the rule in words."""

    def __init__(self, rule: str, path: tuple[str, ...] = ()) -> None:
        self.rule, self.path = rule, path
        super().__init__(rule)


class Kind:
    """The values that one parameter takes."""

    def __init__(self, annotation: Any) -> None:
        self.is_any, self._spelled = annotation is Any, inspect.formatannotation(annotation)
        try:
            self._adapter = _adapter(_readable(annotation))
        except UNREADABLE:
            self.is_any, self._adapter = True, _adapter(Any)

    @cached_property
    def schema(self) -> dict[str, Any]:
        try:
            return self._adapter.json_schema()
        except PydanticInvalidForJsonSchema:  # it holds what YAML cannot write, such as a callable
            return {"type": self._spelled, NOT_PLAIN: True}

    @property
    def is_plain(self) -> bool:
        """Whether YAML can write some value of this kind."""
        return _is_plain(self.schema)

    def read(self, plain: Any) -> Any:
        """Reads the value that the part receives for what a grid says; raises :class:`Unfit`."""
        try:
            return self._adapter.validate_json(dumps(plain), strict=True)
        except ValidationError as error:
            first, *others = error.errors(include_url=False)
            inner = first.get("ctx", {}).get("error")
            if isinstance(inner, Unfit):
                raise inner from None
            got = plain if others else first["input"]
        except (TypeError, ValueError, RecursionError):  # no plain value
            got = plain
        raise Unfit(f"must be {describe_schema(self.schema)}, got {spelled(got)}")

    def write(self, value: Any) -> Any:
        """Writes the value as in a grid, in one form for equal values; raises :class:`Unfit` where it cannot."""
        try:
            return loads(dumps(self._adapter.dump_python(value, mode="json", warnings=False)))
        except (PydanticSerializationError, AttributeError, TypeError, ValueError) as error:
            raise Unfit(f"cannot be written as plain values: {value!r}") from error

    def settle(self, plain: Any) -> Any:
        """Rewrites what a grid says in the one form that all spellings of a value share; raises :class:`Unfit`."""
        return self.write(self.read(plain))


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=ConfigDict(ser_json_inf_nan="constants"))  # infinity is not null
    except PydanticUserError:  # a class that has a configuration of its own
        return TypeAdapter(annotation)


def same_value(one: Any, other: Any) -> bool:
    """Tells whether two plain values are the same to a part: 1 is neither 1.0 nor true."""
    return dumps(one, sort_keys=True) == dumps(other, sort_keys=True)


def annotation_like(default: Any) -> Any:
    """Returns the annotation that a default stands for where there is none."""
    if type(default) is tuple:
        deep = any(isinstance(item, tuple) for item in default)
        return Annotated[Any, PlainValidator(partial(_tuples, deep))]
    if isinstance(default, PurePath):
        return Path
    if isinstance(default, enum.Enum | tuple) or (dataclasses.is_dataclass(default) and not isinstance(default, type)):
        return type(default)
    return Any


def _tuples(deep: bool, value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return tuple(_tuples(deep, item) for item in value) if deep else tuple(value)


def _is_plain(schema: Mapping[str, Any]) -> bool:
    return any(map(_is_plain, schema["anyOf"])) if "anyOf" in schema else NOT_PLAIN not in schema


# --- annotations as pydantic reads them -----------------------------------------------------------------------------


def _readable(annotation: Any) -> Any:
    """Returns the annotation with members by name, dataclasses by their fields, and what YAML cannot write refused."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal or annotation in (Any, None, types.NoneType):
        return annotation
    if origin is Annotated:
        return Annotated[_readable(arguments[0]), *arguments[1:]]
    if origin in (Union, types.UnionType):
        return Union[tuple(map(_readable, arguments))]  # noqa: UP007  # computed, not written
    if annotation in (Callable, typing.Callable) or origin is collections.abc.Callable:
        return _instance(collections.abc.Callable, "callable")
    if origin is type or annotation is type:
        return _instance(type, "class")
    if annotation in ENDLESS or origin in ENDLESS:
        return list[_readable(arguments[0])] if arguments else list[Any]  # type: ignore[misc]  # computed
    if origin is not None:
        inner = tuple(item if item is ... else _readable(item) for item in arguments)
        return _ordered(origin[inner]) if origin in (set, frozenset) else origin[inner]
    return _class(annotation) if isinstance(annotation, type) else annotation


def _class(kind: type) -> Any:
    if issubclass(kind, enum.Enum):
        names = WithJsonSchema({"enum": list(kind.__members__)})
        return Annotated[Any, PlainValidator(partial(_member, kind)), PlainSerializer(lambda one: one.name), names]
    if dataclasses.is_dataclass(kind):
        fields = WithJsonSchema({"type": f"mapping of {', '.join(_fields(kind))}"})
        read, write = PlainValidator(partial(_read_fields, kind)), PlainSerializer(partial(_write_fields, kind))
        return Annotated[Any, read, write, fields]
    try:
        TypeAdapter(kind)
    except UNREADABLE:
        return _instance(kind, kind.__name__)
    return _ordered(kind) if kind in (set, frozenset) else kind


def _ordered(kind: Any) -> Any:
    return Annotated[kind, PlainSerializer(lambda items: sorted(items, key=repr))]


def _instance(kind: Any, word: str) -> Any:
    """Refuses every plain value, but for those of the class anyway (a number where any number is meant)."""

    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            raise ValueError(word)
        return value

    return Annotated[Any, PlainValidator(check), WithJsonSchema({"type": word, NOT_PLAIN: True})]


def _member(kind: type[enum.Enum], value: Any) -> enum.Enum:
    """Returns the member of that name or of that value; ValueError where there is none, or more than one."""
    named = [kind.__members__[value]] if isinstance(value, str) and value in kind.__members__ else []
    valued = [one for one in kind if type(one.value) is type(value) and one.value == value]
    found = list(dict.fromkeys(named + valued))
    if len(found) != 1:
        raise ValueError(value)
    return found[0]


@dataclasses.dataclass(frozen=True)
class _Field:
    kind: Kind
    default: Any  # as a grid would say it; MISSING where there is none, or it cannot be said


def _fields(kind: type) -> dict[str, _Field]:
    hints = typing.get_type_hints(kind, include_extras=True)
    found = {}
    for field in dataclasses.fields(kind):
        if field.init:
            one = Kind(hints[field.name])
            made = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            try:
                found[field.name] = _Field(one, made if made is dataclasses.MISSING else one.write(made))
            except Unfit:
                found[field.name] = _Field(one, dataclasses.MISSING)
    return found


def _read_fields(kind: type, value: Any) -> Any:
    """Makes the dataclass of a mapping; what it does not name is left to the dataclass."""
    if not isinstance(value, dict):
        raise ValueError(value)
    fields, given = _fields(kind), {}
    for name, plain in value.items():
        if name not in fields:
            raise Unfit(f"no such field of {kind.__name__}{did_you_mean(name, fields)}", (name,))
        try:
            given[name] = fields[name].kind.read(plain)
        except Unfit as error:
            raise Unfit(error.rule, (name, *error.path)) from None
    try:
        return kind(**given)
    except (TypeError, ValueError) as error:
        raise Unfit(f"{kind.__name__}: {error}") from error


def _write_fields(kind: type, value: Any) -> dict[str, Any]:
    """Returns the fields that are not at their defaults."""
    written = {}
    for name, field in _fields(kind).items():
        try:
            plain = field.kind.write(getattr(value, name))
        except Unfit:  # only a default can be such a value
            continue
        if field.default is dataclasses.MISSING or not same_value(plain, field.default):
            written[name] = plain
    return written
