"""``bench new`` and ``bench schema``: to write a grid of one's own."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import completion
from bench.cli.options import CommandError, program


def schema() -> None:
    """Print the JSON Schema of a grid file, by which editors complete and check it."""
    from bench.grid.schema import grid_schema

    print(json.dumps(grid_schema(), indent=2))


def new(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Writes NAME.yaml; default: the name given to --from.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="GRID",
            help="Copy a shipped grid, with the code it needs; bench list grids names them.",
            autocompletion=completion.shipped,
        ),
    ] = None,
) -> None:
    """Write a grid that runs, to start from: a short commented one, or a copy of one that is shipped.

    Beside it go the schema, by which editors complete and check it, and the code that it names.
    """
    if name is None and source is None:
        raise CommandError(f"name the grid: {program()} new NAME, or copy one: {program()} new --from GRID")
    path = Path(name or str(source).rpartition("/")[2])
    if path.suffix not in (".yaml", ".yml"):
        path = path.with_name(f"{path.name}.yaml")
    if not path.parent.is_dir():
        raise CommandError(f"{path}: no such folder: {path.parent}")
    try:
        files = _files(path, source)
    except ValueError as error:
        raise CommandError(str(error)) from error
    for place, text in files.items():
        if (
            place.suffix != ".json"
            and place.exists()
            and (place == path or place.read_text(encoding="utf-8", errors="replace") != text)
        ):
            raise CommandError(f"{place}: is there already; name another")
    for place, text in files.items():
        place.write_text(text, encoding="utf-8")
    beside = ", ".join(str(place) for place in files if place != path)
    print(f"{path}: written, with {beside}; {program()} run {shlex.quote(str(path))} --dry-run shows its plan")


def _files(path: Path, source: str | None) -> dict[Path, str]:
    """Returns the texts of what is written; raises ValueError where there is no such grid."""
    from bench.grid import shipped
    from bench.grid.schema import starter_grid

    schema_name, schema_text = shipped.schema_for(path.parent)
    if source is None:
        files = {path: starter_grid(path.stem, schema_name)}
    else:
        copy = shipped.copied(shipped.find(source), path.parent, schema_name)
        files = {path: copy.text} | {path.parent / script: text for script, text in copy.scripts.items()}
    return files | {path.parent / schema_name: schema_text}
