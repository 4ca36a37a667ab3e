"""The user's own modules: an import path, ``package.module:attribute``, and how what it names is imported.

Importing runs the code of the module. The working folder is importable, after all else, so that no file there stands
in the way of ours, of the standard library or of a package. Its own files find each other first, as they would where
one of them is run: a ``lab.py``, ``utils.py`` or ``random.py`` there is theirs, under a name of its own.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from lab.sections import did_you_mean
from lab.visiting import PartError, last_words

OWN = "own:"  # how the name of a module begins whose plain name is another's
OURS = Path(__file__).parents[1] / "lab", Path(__file__).parents[1] / "bench"
MOST_LETTERS = 2000  # of an error's text that are shown
IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def import_paths(settings: object) -> Iterator[str]:
    """Yields the import paths anywhere in settings as plain data: what names user code."""
    match settings:
        case str() if IMPORT_PATH.fullmatch(settings):
            yield settings
        case Mapping():
            yield from (path for value in settings.values() for path in import_paths(value))
        case list() | tuple():
            yield from (path for value in settings for path in import_paths(value))


def load(path: str) -> Callable[..., Any]:
    """Loads the callable at ``package.module:attribute``; raises :class:`PartError` with the step that failed."""
    module_name, _, attribute = path.partition(":")
    if "/" in module_name or module_name.endswith(".py"):
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise PartError(f"{path!r}: a module is named as an import statement names it: {dotted}:{attribute}")
    with as_part_error(f"{path!r}: cannot import {module_name}"):
        make_importable(Path.cwd())
        found: Any = _import(own_name(module_name, Path.cwd()))
    for name in attribute.split("."):
        with as_part_error(f"{path!r}: cannot read {name!r}"):
            if not hasattr(found, name):
                public = [known for known in dir(found) if not known.startswith("_")]
                raise PartError(f"{path!r}: {module_name} has no {name!r}{did_you_mean(name, public)}")
            found = getattr(found, name)
    if not callable(found):
        raise PartError(f"{path!r}: must be callable, is {type(found).__name__}")
    return found


def _import(name: str) -> ModuleType:
    """Imports the module; where it imports torchvision and that fails beside this torch, torchvision comes first."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        near = did_you_mean(error.name, own_modules(Path.cwd()))
        raise ModuleNotFoundError(f"{error}{near}", name=error.name) from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        from lab.vision import import_torchvision

        import_torchvision()
        return importlib.import_module(name)


# --- names that others have, too ------------------------------------------------------------------------------------


def make_importable(folder: Path) -> None:
    """Puts a folder at the end of ``sys.path``, and lets its files find each other first.

    Where it stands there by another of its names (a link), it gets this one, by which files are known as its own.
    """
    if any(_is_same(entry, folder) for entry in sys.path):
        sys.path[:] = [str(folder) if _is_same(entry, folder) else entry for entry in sys.path]
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    now = builtins.__import__
    if shadowed_modules(folder) and getattr(now, "folder", None) != folder:
        builtins.__import__ = _importing(folder, getattr(now, "plain", now))
        named: Any = importlib.import_module
        vars(importlib)["import_module"] = _importing_named(folder, getattr(named, "plain", named))


@functools.cache
def _is_same(entry: object, folder: Path) -> bool:
    """Tells whether an entry of ``sys.path`` is another name of the folder."""
    if not isinstance(entry, str) or not Path(entry).is_absolute() or entry == str(folder):
        return False
    return Path(entry).resolve() == folder.resolve()


@functools.cache
def shadowed_modules(folder: Path) -> frozenset[str]:
    """Finds the folder's modules and packages whose names another module has, which could be imported instead."""
    elsewhere = [entry for entry in sys.path if entry and Path(entry).resolve() != folder.resolve()]
    return frozenset(name for name in own_modules(folder) if _is_taken(name, folder, elsewhere))


def own_modules(folder: Path) -> set[str]:
    """Lists the folder's modules and packages by name.

    A folder of modules without an ``__init__.py`` gives way to a package of its name elsewhere, but not to one of ours.
    """
    names = {file.stem for file in folder.glob("*.py")} | {file.parent.name for file in folder.glob("*/__init__.py")}
    return names | {ours.name for ours in OURS if any(folder.glob(f"{ours.name}/**/*.py"))}


def _is_taken(name: str, folder: Path, elsewhere: list[str]) -> bool:
    if BuiltinImporter.find_spec(name) or FrozenImporter.find_spec(name):
        return False  # Python itself has no other way
    spec = PathFinder.find_spec(name, elsewhere)
    origin: str | None = getattr(sys.modules.get(name), "__file__", None) or (spec.origin if spec else None)
    return origin is not None and not Path(origin).is_relative_to(folder)


def own_name(module: str, folder: Path) -> str:
    """Returns the name to import a module of user code by: another where the folder's own has one that is taken."""
    top = module.partition(".")[0]
    return OWN + module if top in shadowed_modules(folder) else module


def find_own(name: str, folder: Path) -> ModuleSpec | None:
    """Finds the loader of a top-level module under a name of its own."""
    found = PathFinder.find_spec(name.removeprefix(OWN), [str(folder)])
    if found is None:
        return None
    places = found.submodule_search_locations
    if found.origin is None:  # a folder without __init__.py
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = list(places or ())
        return spec
    return importlib.util.spec_from_file_location(name, found.origin, submodule_search_locations=places)


class _OwnFinder:
    """Finds the modules under names of their own in the working folder."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return find_own(name, Path.cwd()) if name.startswith(OWN) and path is None else None


sys.meta_path.append(_OwnFinder)


def _importing(folder: Path, plain: Callable[..., ModuleType]) -> Callable[..., ModuleType]:
    """Makes an ``__import__`` by which import statements in the folder's files find the folder's own modules first."""

    def find(
        name: str,
        globals: Mapping[str, Any] | None = None,  # the name that Python gives it
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        return plain(_name_for(globals, name, folder) if level == 0 else name, globals, locals, fromlist, level)

    vars(find).update(folder=folder, plain=plain)  # so that it is not put around itself
    return find


def _importing_named(folder: Path, plain: Callable[..., ModuleType]) -> Callable[..., ModuleType]:
    """Makes an ``importlib.import_module`` that does the same for those who call it in the folder's files."""

    @functools.wraps(plain)
    def find(name: str, package: str | None = None) -> ModuleType:
        return plain(_name_for(sys._getframe(1).f_globals, name, folder), package)  # whose call it is

    vars(find).update(plain=plain)
    return find


def _name_for(module: Mapping[str, Any] | None, name: str, folder: Path) -> str:
    """Returns the name by which a module (its globals) imports another: that of the folder's own where it is one."""
    top = name.partition(".")[0]
    if module is None or top not in shadowed_modules(folder) or not is_users(module, folder):
        return name
    return OWN + name if module["__name__"] != OWN + top else name


def is_users(module: Mapping[str, Any] | None, folder: Path) -> bool:
    """Tells whether a module (its globals) lies in the folder, and is neither ours nor installed."""
    file = (module or {}).get("__file__")
    if not isinstance(file, str) or not Path(file).is_relative_to(folder) or "site-packages" in file:
        return False
    return not any(Path(file).is_relative_to(ours) for ours in OURS)


def forget(settings: object, folder: Path) -> None:
    """Lets the folder's own modules that settings name be imported again: what they hold is of an earlier trial."""
    named = {own_name(path.partition(":")[0], folder).partition(".")[0] for path in import_paths(settings)}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in named and is_users(vars(module), folder):
            del sys.modules[name]


# --- errors in words ------------------------------------------------------------------------------------------------


@contextmanager
def as_part_error(what: str, passing: type[Exception] | tuple[type[Exception], ...] = PartError) -> Iterator[None]:
    """Turns what a user's code raises meanwhile into a :class:`PartError`: ``what`` failed, the reason, the line."""
    try:
        yield
    except passing:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a user's code may raise anything, and it is the user's to mend
        words = _words(error)
        if isinstance(error, SystemExit) and last_words() not in words:
            words += f": {last_words()}"  # as those who read a command line do
        kind = "" if isinstance(error, ImportError) else type(error).__name__
        raise PartError(f"{what}: {': '.join(filter(None, (kind, words)))}{_line(error, bool(words))}") from error


def _words(error: BaseException) -> str:
    """Returns the text of an error on one line."""
    return " ".join(_text(error).split())


def _text(error: BaseException) -> str:
    """Returns the text of an error, cut where it is too long to be read; it may fail itself."""
    text = str(traceback.TracebackException(type(error), error, None))
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}... ({len(text):,} letters)"


def _line(error: BaseException, is_told: bool) -> str:
    """Returns `` (nets.py, line 3)``: the last of the user's own lines that the error passed, if any.

    Of an error that has no words the line itself stands there, too.
    """
    frame = _own_frame(error)
    code = "" if is_told or frame is None or not frame.line else f": {frame.line}"
    return f" ({_place(frame)}{code})" if frame else ""


def told(error: BaseException) -> str:
    """Tells an error with the last of the user's own lines that it passed; the line itself where the text is a word."""
    words = _text(error)
    text = f"{type(error).__name__}: {words}" if words else type(error).__name__
    frame = _own_frame(error)
    if frame is None:
        return text
    code = f": {frame.line}" if frame.line and " " not in words else ""
    return f"{text} ({_place(frame)}, in {frame.name}{code})"


def _own_frame(error: BaseException) -> traceback.FrameSummary | None:
    here = Path.cwd()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        ours = any(file.is_relative_to(folder) for folder in OURS)
        if file.is_relative_to(here) and not ours and "site-packages" not in file.parts:
            return frame
    return None


def _place(frame: traceback.FrameSummary) -> str:
    return f"{Path(frame.filename).relative_to(Path.cwd())}, line {frame.lineno}"
