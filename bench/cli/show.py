"""``bench show``: one trial, without what its curve and its defaults say again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.cli import completion
from bench.cli.options import CommandError, Results, program, terminal
from bench.grid.load import GridError
from bench.record.plan_file import read_plan
from bench.record.printable import printable

MOST_POINTS = 12  # of a curve
MOST_LINES = 40  # of a log, its last ones
IN_CURVE = ("first_epoch_", "final_")


def show(
    trial_id: Annotated[
        str,
        typer.Argument(metavar="TRIAL_ID", help="The id, or its first characters.", autocompletion=completion.trials),
    ],
    results: Results = Path("results"),
    full: Annotated[
        bool, typer.Option("--full", help="Show every recorded column, point of the curve and line of the log.")
    ] = False,
) -> None:
    """Show one trial: settings, curve, environment, error, and the command that repeats it."""
    from bench.record.records import Records
    from bench.record.status import FAILED

    folder, row = _found(trial_id, results)
    trial_id, records = row["trial_id"], Records(folder)
    console = terminal()
    hidden = set() if full else {name for name in _said_elsewhere(folder, row) if row.get(name)}
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in row.items():
        if value and name not in hidden:
            table.add_row(Text(name, style="bold"), Text(value))
    console.print(table)
    if trial_id not in records.outcomes():
        for where in records.unreadable:
            console.print(Text(f"{where}; the row counts as not recorded", style="yellow"), soft_wrap=True)
    _show_stale(console, folder, trial_id)
    points = [point for point in records.curves.rows() if point["trial_id"] == trial_id and _is_sound(point)]
    cut = _show_curve(console, points, full)
    log = folder / "logs" / f"{trial_id}.log"
    if row["status"] in FAILED and log.exists():
        cut = _show_log(console, log, full) or cut
    if hidden or cut:
        console.print(Text("\nwith --full: settings at their defaults, and all of curve and log"), soft_wrap=True)
    again = [*shlex.split(program()), "run", str(folder / "grid.yaml"), "--results", str(results)]
    console.print(Text(f"\nagain: {shlex.join([*again, '--trial', trial_id, '--rerun', 'all'])}"), soft_wrap=True)


def _found(trial_id: str, results: Path) -> tuple[Path, dict[str, str]]:
    """Returns the folder and the last row of the one trial whose id begins so; raises :class:`CommandError`."""
    from bench.record.records import Records

    found = [
        (folder.parent, row)
        for folder in sorted(results.glob("*/trials.csv"))
        for row in Records(folder.parent).trials.rows()
        if row["trial_id"].startswith(trial_id)
    ]
    ids = sorted({row["trial_id"] for _, row in found})
    if len(ids) != 1:
        what = f"is the beginning of {_several(ids)}" if ids else "no such trial"
        raise CommandError(f"{trial_id!r}: {what} in {results}")
    return found[-1]


def _several(ids: Sequence[str], most: int = 10) -> str:
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return ", ".join(ids[:most]) + more


def _said_elsewhere(folder: Path, row: dict[str, str]) -> set[str]:
    """Returns the columns that the curve says again, and built-in settings at their defaults that are no factors."""
    again = {name for name in row if name.startswith(IN_CURVE)}
    try:
        plan = read_plan(folder)
        alike = next((one for one in plan.trials if one.cell.label == row["cell"]), None)
    except GridError:
        return again
    if plan.run is not None or alike is None:
        return again
    asked = {path for factor in plan.factors for path in factor.paths} | set(plan.tune)
    sections = {section: getattr(alike.lab, section) for section in ("data", "model", "optimizer", "schedule", "train")}
    at_default = {
        f"{section}.{name}"
        for section, part in sections.items()
        for name, field in type(part).model_fields.items()
        if not field.is_required() and getattr(part, name) == field.default
    }
    return again | {path for path in at_default if path not in asked and path.partition(".")[0] not in asked}


def _show_stale(console: Console, folder: Path, trial_id: str) -> None:
    """Says whether the trial was made by other source code; nothing where its grid cannot be read here."""
    from bench.record.records import Records
    from bench.record.staleness import find_stale

    try:
        plan = read_plan(folder)
        changed = find_stale(plan, Records(folder, plan.selecting)).changed
    except GridError:
        return
    if trial_id in changed:
        what = ", ".join(changed[trial_id]) or "what changed since is not recorded"
        console.print(Text(f"stale: made by other source code than what is here now: {what}", style="yellow"))


def _show_curve(console: Console, points: list[dict[str, str]], full: bool) -> bool:
    """Prints the last attempt's points; returns whether some are left out, each so many and all columns that fit."""
    last = max((i for i, point in enumerate(points) if point["step"] == "0"), default=0)
    points = points[last:]
    known = [name for name in (points[0] if points else []) if name not in ("trial_id", "epoch", "step")]
    names = ["epoch", "step", *(name for name in known if all(point[name] for point in points))]
    kept = points if full else _thinned(points)
    cells = {name: [f"{float(point[name]):.5g}" for point in kept] for name in names}
    shown, width = [], 0
    for name in names:
        width += 2 + max(map(len, (name, *cells[name])), default=0)
        if full or width <= console.width:
            shown.append(name)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for index in range(len(kept)):
        table.add_row(*(cells[name][index] for name in shown))
    if table.row_count:
        console.print(table)
    if len(kept) < len(points):
        console.print(f"{len(kept)} of {len(points)} points")
    return len(kept) < len(points) or len(shown) < len(names)


def _is_sound(point: dict[str, str]) -> bool:
    """Tells whether a row of a curve holds numbers, as all do that nobody edited."""
    try:
        numbers = [float(cell) for name, cell in point.items() if cell and name != "trial_id"]
    except ValueError:
        return False
    return bool(numbers and point["step"] and point["epoch"])


def _thinned(points: list[dict[str, str]]) -> list[dict[str, str]]:
    """Returns at most so many points at even distances, the first and the last among them."""
    if len(points) <= MOST_POINTS:
        return points
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return [points[round(index * step)] for index in range(MOST_POINTS)]


def _show_log(console: Console, log: Path, full: bool) -> bool:
    lines = printable(log.read_bytes().decode("utf-8", "replace")).splitlines()
    kept = lines if full else lines[-MOST_LINES:]
    left_out = "" if len(kept) == len(lines) else f", the last {len(kept)} of {len(lines):,} lines"
    console.print(Text(f"\n{log}{left_out}", style="bold"), soft_wrap=True)
    console.print(Text("\n".join(kept)))
    return bool(left_out)
