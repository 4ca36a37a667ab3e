"""``bench list``: parts that there are, and grids to start from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.cli import completion
from bench.cli.options import CommandError, program, terminal

if TYPE_CHECKING:
    from lab.settings import Section

SHIPPED = "grids"


def list_parts(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PART",
            help="Describe these only: parts, sections (data, model, ...), import paths, or grids for those that are "
            "shipped.",
            autocompletion=completion.parts,
        ),
    ] = None,
) -> None:
    """List models, data sets, optimizers and schedules, with their settings and defaults; and grids to start from."""
    console = terminal()
    if not parts:
        _overview(console)
    for part in parts or []:
        if part == SHIPPED:
            _list_grids(console)
        else:
            _describe(console, part)


def _overview(console: Console) -> None:
    """Prints each part in a line, and its settings with their defaults in another, each once."""
    from lab.settings import PARTS, SECTIONS, TrainSettings

    for section, known in PARTS.items():
        shared = SECTIONS[section].model_fields
        console.print(Text(section, style="bold"))
        _print_defaults(console, SECTIONS[section], "name", indent=2)
        for names, kind in _alike(known).items():
            head = Text.assemble("  ", (", ".join(names), "cyan"), f"  {_about(kind)}")
            console.print(head, overflow="ellipsis", no_wrap=True)
            _print_defaults(console, kind, *shared, indent=6)
    console.print(Text("train", style="bold"))
    _print_defaults(console, TrainSettings, indent=2)
    console.print(Text(f"list resnet18, or list model: settings described; list {SHIPPED}: grids to start from"))


def _alike(known: Mapping[str, type[Section]]) -> dict[tuple[str, ...], type[Section]]:
    """Groups the parts that one class of settings describes."""
    kinds = dict.fromkeys(known.values())
    return {tuple(name for name, one in known.items() if one is kind): kind for kind in kinds}


def _about(kind: type[Section]) -> str:
    """Returns the first line of what is said of a part, without marks of code."""
    return re.sub("`+", "", (kind.__doc__ or "").strip().partition("\n")[0])


def _print_defaults(console: Console, kind: type[Section], *skipped: str, indent: int) -> None:
    fields = {name: field for name, field in kind.model_fields.items() if name not in skipped}
    words = [f"{name}={'...' if one.is_required() else _yaml(one.default)}" for name, one in fields.items()]
    if words:
        for line in _lines(words, console.width - indent):
            console.print(Text(" " * indent + line))


def _lines(words: Iterable[str], width: int) -> list[str]:
    """Puts words on as few lines as they need, two spaces between them; none is broken."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 2 + len(word) <= width:
            lines[-1] += f"  {word}"
        else:
            lines.append(word)
    return lines


def _describe(console: Console, part: str) -> None:
    """Prints a part or a section with every setting described; raises :class:`CommandError` where there is none."""
    from lab.settings import NOUNS, PARTS, SECTIONS, suggest

    if part in SECTIONS:
        console.print(Text(part, style="bold"))
        _list_settings(console, "", SECTIONS[part])
        for alike, kind in _alike(PARTS.get(part, {})).items():
            _list_settings(console, ", ".join(alike), kind, skip=SECTIONS[part].model_fields)
        return
    found = [(section, known[part]) for section, known in PARTS.items() if part in known]
    if ":" in part:
        found = [_imported(part)]
    if not found:
        names = [*(name for known in PARTS.values() for name in known), *SECTIONS, SHIPPED]
        raise CommandError(f"{part!r}: no such part{suggest(part, names)}")
    for section, kind in found:
        console.print(Text(NOUNS[section], style="bold"))
        _list_settings(console, part, kind)


def _imported(part: str) -> tuple[str, type[Section]]:
    from lab.parts import section_of, settings_type
    from lab.visiting import asked, visiting

    try:
        with visiting():
            section = asked(section_of, part)
            return section, settings_type(section, part)
    except ValueError as error:
        raise CommandError(str(error)) from error


def _list_settings(console: Console, name: str, kind: type[Section], skip: Iterable[str] = ()) -> None:
    from lab.settings import describe_field

    if name:
        console.print(Text.assemble("  ", (name, "cyan"), f"  {_about(kind)}"))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for setting, field in kind.model_fields.items():
        if setting not in skip:
            default = "required" if field.is_required() else f"[{_yaml(field.default)}]"
            table.add_row("     ", setting, Text(default), Text(describe_field(field)), field.description or "")
    if table.row_count:
        console.print(table)


def _list_grids(console: Console) -> None:
    """Prints the shipped grids, each with its question."""
    from bench.grid.shipped import question, shipped

    console.print(Text("grids", style="bold"))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, path in shipped().items():
        table.add_row(Text(f"  {name}", style="cyan", no_wrap=True), Text(question(path)))
    console.print(table)
    told = f"{program()} new --from {next(iter(shipped()))} copies one, with the code it needs"
    console.print(Text(told), soft_wrap=True)


def _yaml(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
