"""``bench clean``: what no report needs, listed with its size, and freed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from bench.cli import completion
from bench.cli.options import RecordedGrids, Results, WriteError, check_choice, terminal
from bench.cli.report import folders_asked
from bench.record.leftovers import KINDS, Leftover, find, free

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def clean(
    grids: RecordedGrids = None,
    kinds: Annotated[
        list[str],
        typer.Option("--kind", metavar="KIND", help=f"Only {', '.join(KINDS)}.", autocompletion=completion.leftovers),
    ] = [],  # noqa: B006  # typer copies it
    results: Results = Path("results"),
    yes: Annotated[bool, typer.Option("--yes", help="Delete it; without this it is only listed.")] = False,
) -> None:
    """List what no report needs, with sizes; --yes deletes it. Rows of tables, and what a trial resumes from, stay.

    It is safe beside a run: files of a trial are deleted only while no process holds that trial.
    """
    for kind in kinds:
        check_choice("--kind", kind, KINDS)
    found = {folder: find(folder, kinds or KINDS) for folder in folders_asked(grids or [], results)}
    console = terminal()
    if not any(found.values()):
        console.print("nothing to free")
        return
    console.print(_table(found))
    total = sum(one.size for ones in found.values() for one in ones)
    if not yes:
        console.print(f"{size(total)} in all; nothing is freed without --yes")
        return
    stayed: list[Leftover] = []
    for folder, ones in found.items():
        try:
            stayed += free(folder, ones)
        except OSError as error:
            raise WriteError(f"{error.filename or folder}: cannot be removed: {error.strerror}") from error
    console.print(f"freed: {size(total - sum(one.size for one in stayed))}")
    if stayed:
        held = len({one.trial_id for one in stayed})
        console.print(f"{size(sum(one.size for one in stayed))} of {held} trials stay: a process at work holds them")


def _table(found: dict[Path, list[Leftover]]) -> Table:
    """Tabulates how many there are of each kind, by grid, and how large."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("grid", overflow="fold")
    for name in ("what", "number", "size"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for folder, ones in found.items():
        counts, sizes = Counter(one.kind for one in ones), Counter[str]()
        for one in ones:
            sizes[one.kind] += one.size
        for kind in (kind for kind in KINDS if counts[kind]):
            words = (Text(f"{kind}: {KINDS[kind]}"), str(counts[kind]), size(sizes[kind]))
            table.add_row(Text(folder.name), *words)
    return table


def size(num_bytes: float) -> str:
    """Writes ``12 B`` or ``3.4 MiB``."""
    for unit in UNITS[:-1]:
        if num_bytes < 1024:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} {UNITS[-1]}"
