"""The source files of own code: a function's module and what it imports, a command's script and what that imports."""

from __future__ import annotations

import ast
import functools
import hashlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from lab.fingerprint import sources_of


@functools.cache
def sources_of_run(function: str, command: str, code: tuple[str, ...], working_dir: Path) -> dict[str, str]:
    """A digest of each file, by its path in the working folder: those of ``code``, or else what is run."""
    if function:
        return sources_of([function.partition(":")[0]], working_dir)
    if code:
        files = {file for pattern in code for file in working_dir.glob(pattern) if file.is_file()}
    else:
        words = shlex.split(command)
        if "-m" in words[:-1] and not any(word.endswith(".py") for word in words):
            return sources_of([words[words.index("-m") + 1]], working_dir)
        files = set(_with_imports([working_dir / word for word in words if (working_dir / word).is_file()]))
    return {_name(file, working_dir): hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file in sorted(files)}


def _name(file: Path, working_dir: Path) -> str:
    return file.relative_to(working_dir).as_posix() if file.is_relative_to(working_dir) else str(file)


def _with_imports(files: list[Path]) -> Iterator[Path]:
    """The files, and those beside a script that its import statements name, and so on."""
    seen: set[Path] = set()
    root = files[0].parent if files else Path()
    while files:
        file = files.pop()
        if file in seen:
            continue
        seen.add(file)
        yield file
        if file.suffix == ".py":
            files += [found for name in _imported(file) for found in _files_of(name, (root, file.parent))]


def _imported(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # whoever runs it fails
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from filter(
                None, [node.module, *(f"{node.module or ''}.{one.name}".strip(".") for one in node.names)]
            )


def _files_of(module: str, folders: tuple[Path, ...]) -> Iterator[Path]:
    """The file of a module below one of the folders, with those of the packages that it is in."""
    parts = module.split(".")
    for folder in folders:
        for end in range(1, len(parts) + 1):
            place = folder.joinpath(*parts[:end])
            yield from (file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file())
