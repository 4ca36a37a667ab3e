"""A user's own parts: an import path, ``package.module:attribute``, is as good as a built-in name.

Importing a part runs the code of its module. The working folder is importable.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import re
import sys
import traceback
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, create_model

from lab.settings import NOUNS, SECTIONS, Problem, Section, SettingsError, Value, did_you_mean

# What the harness passes where a signature asks for it: no setting.
GIVEN = {
    "data": {"root"},
    "model": {"in_channels", "num_classes", "size"},
    "optimizer": {"params"},
    "schedule": {"num_steps"},
}
PLAIN = (bool, int, float, str, type(None), list, tuple, dict)


IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class PartError(ValueError):
    """An import path leads nowhere, or to something that cannot be called."""


def named(settings: object) -> Iterator[str]:
    """The import paths anywhere in settings as plain data: what names user code."""
    match settings:
        case str() if IMPORT_PATH.fullmatch(settings):
            yield settings
        case Mapping():
            yield from (path for value in settings.values() for path in named(value))
        case list() | tuple():
            yield from (path for value in settings for path in named(value))


def load(path: str) -> Callable[..., Any]:
    """The callable at ``package.module:attribute``; raises :class:`PartError` with the step that failed."""
    module_name, _, attribute = path.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    with told(f"{path!r}: cannot import {module_name}"):
        if module_name.split(".")[0] == "torchvision":
            from lab.vision import import_torchvision

            import_torchvision()
        found: Any = importlib.import_module(module_name)
    for name in attribute.split("."):
        with told(f"{path!r}: cannot read {name!r}"):
            if not hasattr(found, name):
                public = [known for known in dir(found) if not known.startswith("_")]
                raise PartError(f"{path!r}: {module_name} has no {name!r}{did_you_mean(name, public)}")
            found = getattr(found, name)
    if not callable(found):
        raise PartError(f"{path!r}: must be callable, is {type(found).__name__}")
    return found


@contextmanager
def told(what: str) -> Iterator[None]:
    """Whatever a user's code raises meanwhile becomes a :class:`PartError`: ``what`` failed, the reason, the line."""
    try:
        yield
    except PartError:
        raise
    except (Exception, SystemExit) as error:  # a user's code may raise anything, and it is the user's to mend
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        raise PartError(f"{what}: {kind}{' '.join(str(error).split())}{_line(error)}") from error


def _line(error: BaseException) -> str:
    """`` (nets.py, line 3)``: the last line of the working folder's own files that the error passed, if any."""
    here, ours = Path.cwd(), Path(__file__).parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_relative_to(here) and not file.is_relative_to(ours) and "site-packages" not in file.parts:
            return f" ({file.relative_to(here)}, line {frame.lineno})"
    return ""


def accepts(part: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``given`` that the signature of ``part`` names; ``num_classes`` also where it takes any keyword."""
    parameters = inspect.signature(part).parameters.values()
    named = {parameter.name for parameter in parameters}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        named.add("num_classes")
    return {name: value for name, value in given.items() if name in named}


def section_of(path: str) -> str:
    """Which section takes the part at ``path``, told by what it asks for; a data set need not ask for anything.

    Raises :class:`PartError`.
    """
    part = load(path)
    with told(f"{path!r}: cannot read its signature"):
        parameters = inspect.signature(part).parameters.values()
    for section in ("optimizer", "schedule", "model"):
        if GIVEN[section] & {parameter.name for parameter in parameters}:
            return section
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return "model" if is_open or hasattr(part, "forward") else "data"


@functools.cache
def settings_type(section: str, path: str) -> type[Section]:
    """Settings read off the signature of the part at ``path``; raises :class:`SettingsError` at ``section.name``."""
    try:
        part = load(path)
        with told(f"{path!r}: cannot read its signature"):
            return _settings_of(section, path, part)
    except PartError as error:
        raise SettingsError([Problem(f"{section}.name", f"no such {NOUNS[section]}: {error}")]) from error


def _settings_of(section: str, path: str, part: Callable[..., Any]) -> type[Section]:
    signature = inspect.signature(part)
    base = SECTIONS[section]
    hints = _hints(part)
    fields: dict[str, Any] = {}
    open_ended = False
    for name, parameter in signature.parameters.items():
        open_ended |= parameter.kind is parameter.VAR_KEYWORD
        variadic = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if variadic or name in GIVEN[section] or name in base.model_fields or name == "self":
            continue
        required = parameter.default is parameter.empty
        if required or (_is_plain(parameter.default) and not name.startswith("_")):
            annotation = _plain_annotation(hints.get(name, Any))
            if parameter.default is None:
                annotation = typing.Optional[annotation]  # noqa: UP045  # computed, not written
            fields[name] = (annotation, Field(... if required else _default(annotation, parameter.default)))
    made = create_model(path, __base__=base, __doc__=inspect.getdoc(part), **fields)
    if open_ended:
        made.model_config = ConfigDict(**{**base.model_config, "extra": "allow"})
        made.model_rebuild(force=True)
    return made


def _hints(part: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a signature that can be resolved; one that only a type checker can is left out."""
    target = inspect.unwrap(part.__init__ if inspect.isclass(part) else part)
    hints: dict[str, Any] = {}
    for name, annotation in getattr(target, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        with suppress(NameError, TypeError):
            hints |= typing.get_type_hints(alone, getattr(target, "__globals__", {}), include_extras=True)
    return hints


def _is_plain(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _default(annotation: Any, value: Any) -> Value:
    """The default as it would be read if it were given, so that leaving it out and spelling it out are one trial."""
    value = list(value) if isinstance(value, tuple) else value
    try:
        return TypeAdapter(annotation, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError:  # a default need not be what the annotation says
        return value


def _plain_annotation(annotation: Any) -> Any:
    """The annotation where YAML can hold such a value (a tuple as a list), else ``Any``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple:
        kinds = [a for a in arguments if a is not ...]
        return list[_plain_annotation(kinds[0])] if len(set(kinds)) == 1 else list[Any]  # type: ignore[misc]  # computed
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(_plain_annotation(a) for a in arguments)]  # noqa: UP007  # computed, not written
    if origin in (typing.Literal, typing.Annotated, list, dict):
        return annotation
    return annotation if annotation in PLAIN else Any
