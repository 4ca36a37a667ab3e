"""``bench list`` and ``bench show``: parts that there are, and one trial."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.cli.options import (
    CommandError,
    Results,
    python,
    terminal,
)
from bench.grid.load import GridError
from bench.record.plan_file import read_plan

if TYPE_CHECKING:
    from lab.settings import Section


def list_parts(
    parts: Annotated[list[str] | None, typer.Argument(metavar="PART", help="Only these, or import paths.")] = None,
) -> None:
    """Models, data sets, optimizers and schedules, with their settings and defaults."""
    from lab.parts import section_of, settings_type
    from lab.settings import NOUNS, PARTS, SECTIONS, TrainSettings, did_you_mean
    from lab.visiting import asked, visiting

    console = terminal()
    if not parts:
        for section, known in PARTS.items():
            console.print(Text(f"{section}", style="bold"))
            _list_settings(console, "(all)", SECTIONS[section], skip=set())
            for name, kind in known.items():
                _list_settings(console, name, kind, skip=set(SECTIONS[section].model_fields))
        console.print(Text("train", style="bold"))
        _list_settings(console, "(all)", TrainSettings, skip=set())
        return
    for part in parts:
        found = [(section, known[part]) for section, known in PARTS.items() if part in known]
        if ":" in part:
            try:
                with visiting():
                    section = asked(section_of, part)
                    found = [(section, settings_type(section, part))]
            except ValueError as error:
                raise CommandError(str(error)) from error
        if not found:
            names = [name for known in PARTS.values() for name in known]
            raise CommandError(f"{part!r}: no such part{did_you_mean(part, names)}; there are {', '.join(names)}")
        for section, kind in found:
            console.print(Text(NOUNS[section], style="bold"))
            _list_settings(console, part, kind, skip=set())


def _list_settings(console: Console, name: str, kind: type[Section], skip: set[str]) -> None:
    from lab.settings import describe_field

    doc = (kind.__doc__ or "").strip().splitlines()
    console.print(Text.assemble("  ", (name, "cyan"), f"  {doc[0]}" if doc and name != "(all)" else ""))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for setting, field in kind.model_fields.items():
        if setting not in skip:
            default = "required" if field.is_required() else f"[{_yaml(field.default)}]"
            table.add_row("     ", setting, Text(default), Text(describe_field(field)), field.description or "")
    if table.row_count:
        console.print(table)


def _yaml(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def show(
    trial_id: Annotated[str, typer.Argument(metavar="TRIAL_ID", help="The id, or how it begins.")],
    results: Results = Path("results"),
) -> None:
    """One trial: settings, curve, environment, error, and the command that repeats it."""
    from bench.record.records import Records
    from bench.record.status import Status

    found = [
        (folder.parent, row)
        for folder in sorted(results.glob("*/trials.csv"))
        for row in Records(folder.parent).trials.rows()
        if row["trial_id"].startswith(trial_id)
    ]
    ids = sorted({row["trial_id"] for _, row in found})
    if len(ids) != 1:
        what = f"is the beginning of {', '.join(ids)}" if ids else "no such trial"
        raise CommandError(f"{trial_id!r}: {what} in {results}")
    folder, row = found[-1]
    console = terminal()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in row.items():
        if value:
            table.add_row(Text(name, style="bold"), Text(value))
    console.print(table)
    _show_stale(console, folder, ids[0])
    _show_curve(console, [point for point in Records(folder).curves.rows() if point["trial_id"] == ids[0]])
    log = folder / "logs" / f"{ids[0]}.log"
    if Status(row["status"]).is_failed and log.exists():
        console.print(Text(f"\n{log}", style="bold"))
        console.print(Text(log.read_text(encoding="utf-8", errors="replace")))
    again = [python(), "-m", "bench", "run", str(folder / "grid.yaml"), "--results", str(results)]
    console.print(Text(f"\nagain: {shlex.join([*again, '--trial', ids[0], '--rerun', 'all'])}"), soft_wrap=True)


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


def _show_curve(console: Console, points: list[dict[str, str]]) -> None:
    known = [name for name in (points[0] if points else []) if name not in ("trial_id", "epoch", "step")]
    names = ["epoch", "step", *(name for name in known if all(point[name] for point in points))]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        table.add_column(name, justify="right")
    last = max((i for i, point in enumerate(points) if point["step"] == "0"), default=0)
    for point in points[last:]:
        table.add_row(*(f"{float(point[name]):.5g}" for name in names))
    if table.row_count:
        console.print(table)
