"""The user's own modules: an import path, ``package.module:attribute``, and how what it names is imported.

Importing runs the code of the module. The working folder is importable.
"""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from lab.sections import did_you_mean

IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class PartError(ValueError):
    """An import path leads nowhere, or to something that cannot be called."""


def import_paths(settings: object) -> Iterator[str]:
    """The import paths anywhere in settings as plain data: what names user code."""
    match settings:
        case str() if IMPORT_PATH.fullmatch(settings):
            yield settings
        case Mapping():
            yield from (path for value in settings.values() for path in import_paths(value))
        case list() | tuple():
            yield from (path for value in settings for path in import_paths(value))


def load(path: str) -> Callable[..., Any]:
    """The callable at ``package.module:attribute``; raises :class:`PartError` with the step that failed."""
    module_name, _, attribute = path.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    with told(f"{path!r}: cannot import {module_name}"):
        found: Any = _import(module_name)
    for name in attribute.split("."):
        with told(f"{path!r}: cannot read {name!r}"):
            if not hasattr(found, name):
                public = [known for known in dir(found) if not known.startswith("_")]
                raise PartError(f"{path!r}: {module_name} has no {name!r}{did_you_mean(name, public)}")
            found = getattr(found, name)
    if not callable(found):
        raise PartError(f"{path!r}: must be callable, is {type(found).__name__}")
    return found


def _import(name: str) -> ModuleType:
    """The module; where it imports torchvision and that fails beside this torch, torchvision is imported first."""
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        from lab.vision import import_torchvision

        import_torchvision()
        return importlib.import_module(name)


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
