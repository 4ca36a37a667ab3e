"""``bench new`` and ``bench schema``: to write a grid of one's own."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import (
    CommandError,
)

if TYPE_CHECKING:
    pass


def schema() -> None:
    """JSON Schema of a grid file, for completion and checking in an editor."""
    from bench.grid.schema import grid_schema

    print(json.dumps(grid_schema(), indent=2))


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The grid's name: the file is NAME.yaml.")],
) -> None:
    """Write a short commented grid that runs, to start from."""
    from bench.grid.schema import starter_grid

    path = Path(name).with_suffix(".yaml")
    if path.exists():
        raise CommandError(f"{path}: is there already; name another")
    if not path.parent.is_dir():
        raise CommandError(f"{path}: no such folder: {path.parent}")
    path.write_text(starter_grid(path.stem), encoding="utf-8")
    print(f"{path}: written; python -m bench run {shlex.quote(str(path))} --dry-run shows its plan")
