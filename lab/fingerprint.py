"""Which source code a result was made by. Free of torch."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from lab.settings import Settings

# The modules of the laboratory that a trial's numbers can depend on; those of lab.data all do.
TRAINING = (
    "compilation",
    "device",
    "hidden_state",
    "metrics",
    "models",
    "networks",
    "optim",
    "outputs",
    "parts",
    "process",
    "runner",
    "streams",
    "surgery",
    "trial",
)


def source_fingerprint(settings: Settings) -> str:
    """12 hex digits over :func:`sources`."""
    return fingerprint(sources(settings))


def fingerprint(digests: Mapping[str, str]) -> str:
    text = "".join(f"{name}={digest};" for name, digest in digests.items())
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sources(settings: Settings) -> dict[str, str]:
    """A digest of each source file that a trial uses: the laboratory's, and those of the parts that it names.

    With a module of the user's come those of the working folder that it imports.
    """
    named = [settings.data.name, settings.model.name, settings.optimizer.name, settings.schedule.name]
    named += [settings.train.loss, settings.train.metric, *settings.model.replace.values()]
    return _digests(tuple(sorted({path.partition(":")[0] for path in named if ":" in path})), Path.cwd())


@functools.cache
def _digests(modules: tuple[str, ...], working_dir: Path) -> dict[str, str]:
    if str(working_dir) not in sys.path:
        sys.path.insert(0, str(working_dir))
    lab = Path(__file__).parent
    own = [*(lab / f"{name}.py" for name in TRAINING), *sorted((lab / "data").glob("*.py"))]
    files = {file.relative_to(lab.parent).as_posix(): file for file in own}
    for module in modules:
        files |= _files(module, working_dir)
    return {name: hashlib.sha256(file.read_bytes()).hexdigest()[:12] for name, file in files.items()}


def _files(module: str, working_dir: Path) -> dict[str, Path]:
    """The module's file, and where it is the user's, those in the working folder that it imports, and they."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.has_location or spec.origin is None:  # a module in C has no source
        return {}
    file = Path(spec.origin)
    depth = module.count(".") + (2 if file.name == "__init__.py" else 1)
    found = {"/".join(file.parts[-depth:]): file}
    waiting = [(module, file)] if file.is_relative_to(working_dir) else []
    while waiting:
        for name, own in _imported(*waiting.pop(), working_dir):
            if own not in found.values() and not name.startswith("lab."):
                found[own.relative_to(working_dir).as_posix()] = own
                waiting.append((name, own))
    return dict(sorted(found.items()))


def _imported(module: str, file: Path, working_dir: Path) -> Iterator[tuple[str, Path]]:
    """Modules of the working folder that a file's import statements name, wherever they stand."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package or None)
            names = [source, *(f"{source}.{name}" for name in names)]
        for name in names:
            path = working_dir.joinpath(*name.split("."))
            for own in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
                if own.is_file():
                    yield name, own
