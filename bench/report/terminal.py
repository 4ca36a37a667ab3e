"""The report in a terminal: brief, so that it fits a screen, or with all tables. No line is wider than the console."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import chain

import pandas as pd
from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench.analysis import amounts
from bench.analysis.findings import Findings
from bench.grid.metrics import Metric
from bench.report import brief
from bench.report.wording import effects_text, first_number, method, show

SCREEN = 50  # lines that the brief report takes at most where the console has 80 columns
MOST_WARNINGS = 5
BELOW = 3  # of them, for what the command prints below it
LONGEST = 12  # columns for two spaces and a verdict
JOINTS = re.compile(r"[^\s._/=:,+-]*[._/=:,+-]+|[^\s._/=:,+-]+\s*")  # parts of a long word, with what joins them
FEWEST = 12  # columns that a column of words is given, however narrow the console
STYLES = {"supported": "green", "refuted": "red", "better": "green", "worse": "red"}
STYLES |= dict.fromkeys(("undecided", "higher", "lower", "below_margin"), "yellow")


def print_report(console: Console, findings: Findings, *, full: bool = False) -> None:
    """Prints question, answer, coverage, effects and how to read them; with ``full`` all tables, too."""
    (_print_full if full else _print_brief)(console, findings)


# --- brief ----------------------------------------------------------------------------------------------------------


def _print_brief(console: Console, findings: Findings) -> None:
    plan, secondary = findings.plan, findings.secondary
    asked = [("", plan.primary, findings.effects), *(("secondary: ", one.metric, one.effects) for one in secondary)]
    before = [_question(findings), *_answer(console, findings), Text("")]
    after = [Text(""), Text(brief.notes(findings), style="dim")]
    room = SCREEN - BELOW - sum(_height(console, part) for part in (*before, *after))
    wanted = sum(_height(console, _some_effects(console, *one, 2 * SCREEN)) for one in asked)
    coverage = _brief_coverage(console, findings, room - wanted)
    room -= sum(_height(console, part) for part in coverage)
    for part in (*before, *coverage):
        console.print(part)
    for one in asked:
        shown = _some_effects(console, *one, room)
        room -= _height(console, shown)
        console.print(shown)
    for part in after:
        console.print(part)


def _answer(console: Console, findings: Findings) -> list[RenderableType]:
    """Rules on each hypothesis in two lines or so; without hypotheses says what the effects decide."""
    if not len(findings.hypotheses):
        whole = Text(findings.answer, style="bold green")
        few = Text(brief.headline(findings.effects), style="bold green")
        return [Text(""), whole if _height(console, whole) <= SCREEN // 5 else few]
    heading = Text(f"\n{brief.rulings(findings.hypotheses)}", style="bold green")
    ruled = _hypotheses(findings.hypotheses, "short")
    return [heading, ruled if _height(console, ruled) <= SCREEN // 2 else _hypotheses(findings.hypotheses, "")]


def _brief_coverage(console: Console, findings: Findings, room: int) -> list[RenderableType]:
    """Says what is covered, and warns: in whole sentences where there is room, else in a line per warning."""
    first, *warnings = _coverage(findings, brief.cautions(findings))
    if sum(_height(console, part) for part in (first, *warnings)) <= room:
        return [first, *warnings]
    for warning in warnings:
        warning.no_wrap, warning.overflow = True, "ellipsis"
    left = len(warnings) - MOST_WARNINGS
    more = [Text(f"warnings: {left} more, with --full", style="yellow")] if left > 0 else []
    return [first, *map(Group, warnings[:MOST_WARNINGS]), *more]  # in a group each is printed on its own terms


def _some_effects(console: Console, about: str, metric: Metric, effects: pd.DataFrame, room: int) -> Group:
    """Shows as many effects as there is room for, the decided and the largest first kept, and counts the others."""
    shown, ranks = Group(), brief.telling_first(effects)
    for count in range(min(len(effects), room), 0, -1):  # each takes a line at least
        kept = effects[[index in ranks[:count] for index in effects.index]]
        left = effects[~effects.index.isin(kept.index)]
        more = [Text(brief.others(left), style="dim")] if len(left) else []
        details = [brief.detail(row, metric) for _, row in kept.iterrows()]
        shown = Group(_effects(kept, metric, about, details, console.width), *more)
        if _height(console, shown) <= room:
            break
    return shown


def _height(console: Console, part: RenderableType) -> int:
    return len(console.render_lines(part, pad=False))


# --- full -----------------------------------------------------------------------------------------------------------


def _print_full(console: Console, findings: Findings) -> None:
    plan = findings.plan
    console.print(_question(findings))
    answer = brief.rulings(findings.hypotheses) if len(findings.hypotheses) else findings.answer
    console.print(Text(f"\n{answer}\n", style="bold green"))
    for part in _coverage(findings, findings.cautions):
        console.print(part)
    _print_effects(console, findings.effects, plan.primary)
    if len(findings.hypotheses):
        console.print(Group(Text("\nhypotheses", style="bold"), _hypotheses(findings.hypotheses, "evidence")))
    for one in findings.secondary:
        _print_effects(console, one.effects, one.metric, "secondary: ")
    _print_winners(console, findings.winners)
    for heading, table in show(findings, width=console.width):
        console.print(Text(f"\n{heading}", style="bold"))
        words = set(table.columns[: first_number(list(table.columns))])
        console.print(_table(table, words=words, width=console.width))
    console.print(Text("\n" + "\n".join(method(findings)), style="dim"))


def _print_effects(console: Console, effects: pd.DataFrame, metric: Metric, about: str = "") -> None:
    if len(effects):
        said = effects["sentence"].where(effects["sentence"].str.contains("[:;]"), "")
        console.print(_effects(effects, metric, about, list(said), console.width, both=True))


def _print_winners(console: Console, winners: pd.DataFrame) -> None:
    if not len(winners):
        return
    console.print(Text("\ntuned on dev", style="bold"))
    for (setting, value), rows in winners.groupby(["setting", "winner"], sort=False):
        console.print(Text(f"{setting}={value}: {', '.join(rows['cell'])}"))


# --- parts of both --------------------------------------------------------------------------------------------------


def _question(findings: Findings) -> RenderableType:
    return Group(Text(findings.plan.name, style="dim"), Text(findings.plan.question, style="bold"))


def _coverage(findings: Findings, cautions: Sequence[str]) -> list[Text]:
    return [Text(findings.coverage), *(Text(f"warning: {caution}", style="yellow") for caution in cautions)]


def _hypotheses(hypotheses: pd.DataFrame, evidence: str) -> Table:
    """Lays out ruling and hypothesis, and below it the column ``evidence``, if one is named."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for row in hypotheses.to_dict("records"):
        ruling = str(row["ruling"])
        below = ("\n", (row[evidence], "dim")) if evidence else ()
        table.add_row(Text(ruling.replace("_", " "), style=STYLES[ruling]), Text.assemble(row["hypothesis"], *below))
    return table


def _effects(
    effects: pd.DataFrame, metric: Metric, about: str, details: Sequence[str], width: int, *, both: bool = False
) -> Group:
    """Lays out a line per effect and below it its detail; ``both`` shows p before its correction, too.

    Where a line has no room for all, the level stands on a line of its own.
    """
    text = effects_text(effects, metric).rename(columns={"p,\nHolm": "Holm"})
    if "Holm" in text and not both:
        text = text.drop(columns="p").rename(columns={"Holm": "p"})
    numbers = _aligned({name: list(text[name]) for name in text.columns[2:-1]}, ">")
    what = _aligned({name: list(text[name]) for name in ("factor", "level")}, "<")
    verdicts = [Text(str(word), style=STYLES.get(str(word), "")) for word in effects["verdict"]]
    stacked = cell_len(what[0]) + cell_len(numbers[0]) + LONGEST > width
    between = "\n  " if stacked else "  "
    rule = min(width, max(map(cell_len, (what[0] + between + numbers[0]).split("\n"))) + LONGEST)
    lines: list[RenderableType] = [Text(f"\n{about}effects on {amounts.spoken(metric)}", style="bold")]
    lines += [Text(f"{what[0]}{between}{numbers[0]}  verdict"), Text("─" * rule)]
    for one, number, verdict, detail in zip(what[1:], numbers[1:], verdicts, details, strict=True):
        lines.append(Text.assemble(f"{one.rstrip() if stacked else one}{between}{number}  ", verdict))
        lines += [Padding(Text(detail, style="dim"), (0, 0, 0, 2))] if detail else []
    return Group(*lines)


def _aligned(columns: dict[str, list[str]], side: str) -> list[str]:
    """Returns the lines of a table, its heading first, cells as wide as the widest of their column."""
    cells = [[name, *map(str, column)] for name, column in columns.items()]
    widths = [max(map(cell_len, column)) for column in cells]
    padded = [[_padded(cell, width, side) for cell in column] for column, width in zip(cells, widths, strict=True)]
    return ["  ".join(line) for line in zip(*padded, strict=True)]


def _padded(cell: str, width: int, side: str) -> str:
    room = " " * (width - cell_len(cell))
    return room + cell if side == ">" else cell + room


def _table(text: pd.DataFrame, *, words: Collection[str], width: int) -> Table:
    """Makes a table: numbers stay whole, words break between words, or at their joints where there is no room."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="", show_edge=False)
    columns = {name: [*str(name).split("\n"), *map(str, text[name])] for name in text.columns}
    natural = {name: max(map(cell_len, cells)) for name, cells in columns.items()}
    room = width - sum(natural[name] for name in columns if name not in words) - 2 * (len(columns) - 1)
    widths = natural | _shared({name: columns[name] for name in columns if name in words}, room)
    for name in columns:
        table.add_column(name, justify="left" if name in words else "right", no_wrap=True)
    for row in text.itertuples(index=False):
        cells = zip(columns, row, strict=True)
        table.add_row(*(Text(_folded(str(cell), widths[name]) if name in words else str(cell)) for name, cell in cells))
    return table


def _shared(words: dict[str, list[str]], room: int) -> dict[str, int]:
    """Shares the room among columns of words: each gets its longest word, and of the rest as it has text."""
    natural = {name: max(map(cell_len, cells)) for name, cells in words.items()}
    for split in (str.split, JOINTS.findall):
        least = {name: max(map(cell_len, chain(*map(split, cells)))) for name, cells in words.items()}
        spare, wanted = room - sum(least.values()), sum(natural.values()) - sum(least.values())
        if spare >= 0:
            share = min(1.0, spare / wanted) if wanted else 1.0
            return {name: least[name] + int(share * (natural[name] - least[name])) for name in words}
    return {name: max(FEWEST, room // len(words)) for name in words}


def _folded(text: str, width: int) -> str:
    """Breaks text into lines: between words, else at joints within one, else anywhere."""
    lines = [""]
    for word in re.findall(r"\S+\s*", text):
        parts = [word] if cell_len(word.rstrip()) <= width else JOINTS.findall(word)
        for part in parts:
            if cell_len((lines[-1] + part).rstrip()) > width and lines[-1]:
                lines.append("")
            pieces = chop_cells(part, width) if cell_len(part.rstrip()) > width else [part]
            lines[-1] += pieces[0]
            lines += pieces[1:]
    return "\n".join(line.rstrip() for line in lines)
