"""Identifies the source code behind a result: what a trial imports, read without importing it. Free of torch."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from lab.imports import OWN, find_own, make_importable, own_name
from lab.scores import named
from lab.sections import part_name
from lab.settings import Settings

LAB = Path(__file__).parent
# What these settle stands in a trial's row, or is the name of a column there: they change no number of a trial that has
# the same id. Every other module that a trial imports counts.
APART = {"lab.fingerprint", "lab.result", "lab.sections", "lab.settings"}


_started: list[Path] = []  # the working folders of trials under way


@contextmanager
def started_in(folder: Path) -> Iterator[None]:
    """Names files from this folder meanwhile, and looks for modules there, wherever user code goes (``os.chdir``)."""
    _started.append(folder)
    try:
        yield
    finally:
        _started.pop()


def _folder() -> Path:
    return _started[-1] if _started else Path.cwd()


def source_fingerprint(settings: Settings) -> str:
    """Returns 12 hex digits over :func:`sources`."""
    return fingerprint(sources(settings))


def fingerprint(digests: Mapping[str, str]) -> str:
    text = "".join(f"{name}={digest};" for name, digest in digests.items())
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sources(settings: Settings) -> dict[str, str]:
    """Returns a digest of each source file that a trial uses: the laboratory's, and those of the parts that it names.

    With each module come those of the laboratory and of the working folder that its import statements name, wherever
    they stand, and so on; of other packages only the modules that the settings name.
    """
    paths = [settings.data.name, settings.model.name, settings.optimizer.name, settings.schedule.name]
    paths += [part_name(part) for part in (settings.train.loss, *named(settings.train.metric).values())]
    paths += settings.model.replace.values()
    return _digests(tuple(sorted({path.partition(":")[0] for path in paths if ":" in path})), _folder())


def sources_of(modules: Iterable[str], working_dir: Path) -> dict[str, str]:
    """The same of training code that does without the laboratory: of these modules, and of what they import."""
    return _digests(tuple(sorted(modules)), working_dir, ())


def forget_sources() -> None:
    """Has the next fingerprint read the files again, in a process that outlives a change of them."""
    _digests.cache_clear()


def imported_by(modules: Iterable[str], working_dir: Path) -> list[str]:
    """Lists what import statements of these modules and of those of the working folder that they import name.

    Names of attributes are among them: what follows ``import`` may be a module.
    """
    make_importable(working_dir)
    importlib.invalidate_caches()
    _spec.cache_clear()
    files = _used([own_name(module, working_dir) for module in modules], working_dir, ())
    return list(dict.fromkeys(name for module, file in files.items() for name in _imported(module, file)))


@functools.cache
def _digests(modules: tuple[str, ...], working_dir: Path, ours: tuple[str, ...] = ("lab.trial",)) -> dict[str, str]:
    make_importable(working_dir)
    modules = tuple(own_name(module, working_dir) for module in modules)
    importlib.invalidate_caches()
    _spec.cache_clear()
    files = {module: file for module, file in _used(modules, working_dir, ours).items() if module not in APART}
    named = {_name(module, file, working_dir): file for module, file in files.items()}
    return {name: hashlib.sha256(named[name].read_bytes()).hexdigest()[:12] for name in sorted(named)}


def _used(modules: Iterable[str], working_dir: Path, ours: Iterable[str]) -> dict[str, Path]:
    """Returns the file of each module that a trial imports, directly or not, as far as it is ours or the user's."""
    files: dict[str, Path] = {}
    waiting = [part for module in (*ours, *modules) for part in _with_packages(module)]
    while waiting:
        module = waiting.pop()
        if module in files or (file := _file(module)) is None:
            continue
        if module in modules or _is_own(file, working_dir):
            files[module] = file
        if _is_own(file, working_dir):
            imported = _imported(module, file)
            waiting += imported if file.is_relative_to(LAB) else (own_name(name, working_dir) for name in imported)
    return files


def _with_packages(module: str) -> list[str]:
    """Returns ``a.b.c`` with the packages that its import imports: ``a``, ``a.b``."""
    parts = module.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


@functools.cache
def _is_own(file: Path, working_dir: Path) -> bool:
    """Tells whether a file is the laboratory's or the user's, not one of a package that is installed."""
    installed = {"site-packages", "dist-packages"} & set(file.parts)
    return file.is_relative_to(LAB) or (file.is_relative_to(working_dir) and not installed)


def _name(module: str, file: Path, working_dir: Path) -> str:
    """Names a source file as the record does: by its path in the working folder, else by its module's."""
    if _is_own(file, working_dir):
        path = file.relative_to(LAB.parent if file.is_relative_to(LAB) else working_dir).as_posix()
        return f"./{path}" if path.startswith("lab/") and not file.is_relative_to(LAB) else path
    return "/".join(file.parts[-(module.count(".") + (2 if file.stem == "__init__" else 1)) :])


def _file(module: str) -> Path | None:
    """Returns the source file of a module, found without importing it; None where there is none."""
    spec = _spec(module)
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@functools.cache
def _spec(module: str) -> ModuleSpec | None:
    package, _, _ = module.rpartition(".")
    if package:
        within = _spec(package)
        where = within.submodule_search_locations if within else None
        last = module.rpartition(".")[2]  # by itself: a package without __init__.py would need its parent imported
        return PathFinder.find_spec(last, list(where)) if where is not None else None
    if module.startswith(OWN):
        return find_own(module, Path.cwd())
    try:
        return importlib.util.find_spec(module)
    except ValueError:  # a module that was not loaded from a file, __main__
        return None


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yields all statements, those within others too, in no order: a tenth of all nodes."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, name, ())


def _imported(module: str, file: Path) -> Iterator[str]:
    """Modules that a file's import statements name, wherever they stand, and calls of ``import_module``, with text."""
    package = module if file.stem == "__init__" else module.rpartition(".")[0]
    text = file.read_bytes()
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # whoever imports it fails
        return
    calls = b"import_module" in text or b"__import__" in text
    for node in ast.walk(tree) if calls else _statements(tree):
        match node:
            case ast.Import(names):
                found = [alias.name for alias in names]
            case ast.ImportFrom(name, names, level):
                source = "." * level + (name or "")
                found = [source, *(f"{source}.{alias.name}" if name else f"{source}{alias.name}" for alias in names)]
            case ast.Call(
                ast.Name("import_module" | "__import__") | ast.Attribute(attr="import_module"),
                [ast.Constant(str(name)), *_],
            ):
                found = [name]
            case _:
                continue
        for one in found:
            with suppress(ImportError):  # beyond the top package: the import fails
                yield from _with_packages(importlib.util.resolve_name(one, package or None))
