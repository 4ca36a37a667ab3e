"""The grids that come with the harness, to start from: in a checkout ``grids/``, installed ``bench/shipped/``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.grid.schema import grid_schema
from bench.grid.strict_yaml import read
from lab.settings import suggest

PACKAGE = Path(__file__).parents[1]
SCRIPT = re.compile(r"grids([./])own[./](\w+)")  # as the shipped grids name the code beside them
SCHEMA = re.compile(r"\A(?:# yaml-language-server: .*\n)?")


@dataclass(frozen=True)
class Copy:
    """A grid as it stands in another folder, and the scripts that it needs there, by their path from the grid."""

    text: str
    scripts: dict[str, str]


def shipped() -> dict[str, Path]:
    """Returns the grids by name: ``residual_vs_plain``, ``full/batch_norm``, ``own/script``."""
    installed = PACKAGE / "shipped"
    folder = installed if installed.is_dir() else PACKAGE.parent / "grids"
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}
    return dict(sorted(found.items(), key=lambda item: (item[0].count("/"), item[0])))


def find(name: str) -> Path:
    """Returns the grid of that name, which may lack its folder where no other has it; raises ValueError."""
    known = shipped()
    if name in known:
        return known[name]
    alike = [one for one in known if one.rpartition("/")[2] == name]
    if len(alike) == 1:
        return known[alike[0]]
    raise ValueError(f"{name!r}: no such grid{suggest(name, alike or known)}")


def question(grid: Path) -> str:
    """Returns what a grid asks."""
    return str(read(grid).mapping["question"].content).strip()


def copied(grid: Path, folder: Path, schema: str) -> Copy:
    """Returns the grid for a folder (relative to where commands are typed), its scripts beside it."""
    text = SCHEMA.sub(f"# yaml-language-server: $schema={schema}\n", grid.read_text(encoding="utf-8"))
    places = [] if folder.is_absolute() or ".." in folder.parts else list(folder.parts)
    names = {name for _, name in SCRIPT.findall(text)}
    text = SCRIPT.sub(lambda found: found[1].join([*places, found[2]]), text)
    return Copy(text, {f"{name}.py": (grid.parent / f"{name}.py").read_text(encoding="utf-8") for name in names})


def schema_for(folder: Path, others: Iterable[str] = ("schema.json", "grid.schema.json")) -> tuple[str, str]:
    """Returns name and text of the schema that an editor finds from a grid in the folder; no other file is replaced."""
    text = json.dumps(grid_schema(), indent=2) + "\n"
    for name in others:
        path = folder / name
        if not path.exists() or _is_schema_of_grids(path):
            return name, text
    raise ValueError(f"{folder}: schema.json and grid.schema.json there are no schemas of grids: move one of them")


def _is_schema_of_grids(path: Path) -> bool:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("title") == "grid" and "factors" in found.get("properties", {})
