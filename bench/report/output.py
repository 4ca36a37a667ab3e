"""The report of a results folder: the answer in the terminal, tables and figures in its ``report/``. Free of torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.analysis import amounts
from bench.analysis.findings import Findings, gather
from bench.grid.metrics import Metric
from bench.grid.plan import Plan
from bench.report.escapes import markdown
from bench.report.page import page
from bench.report.paper import latex, markdown_table, paper_markdown
from bench.report.wording import Shown, effects_text, first_number, method, show

RULINGS = {"supported": "green", "refuted": "red", "undecided": "yellow"}


def report(folder: Path, console: Console, plan: Plan | None = None) -> None:
    """Prints the answer of ``folder`` and writes it to ``folder/report``; the plan is by default its ``grid.yaml``."""
    findings = gather(folder, plan)
    print_report(console, findings)
    write_report(findings)
    console.print(Text(f"figures, Markdown and CSV: {findings.target}"), soft_wrap=True)


def write_report(findings: Findings) -> Path:
    """Writes tables and figures to the folder of the report, which it returns."""
    target = findings.target
    target.mkdir(parents=True, exist_ok=True)
    levels = pd.concat(findings.levels) if findings.levels else findings.cells
    numbers = {"levels": levels, "cells": findings.cells, "effects": findings.effects}
    numbers |= {"hypotheses": findings.hypotheses, "curves": findings.curves, "seeds": findings.seeds}
    numbers |= {"learning": findings.learning, "speeds": findings.speeds, "machines": findings.machines}
    numbers |= {f"secondary-{one.metric.name}": one.effects for one in findings.secondary}
    for name, table in numbers.items():
        if len(table) or name not in ("speeds", "machines"):
            table.to_csv(target / f"{name}.csv", index=False)
    drawn = draw(target, findings)
    write_markdown(target / "report.md", findings, drawn)
    (target / "table.md").write_text(paper_markdown(findings), encoding="utf-8")
    (target / "table.tex").write_text(latex(findings), encoding="utf-8")
    (target / "index.html").write_text(page(findings), encoding="utf-8")
    return target


# --- the terminal ---------------------------------------------------------------------------------------------------


def print_report(console: Console, findings: Findings) -> None:
    """Prints the question, the answer, verdicts, tables, how to read them; no line is wider than the console."""
    plan = findings.plan
    console.print(Text(plan.name, style="dim"))
    console.print(Text(plan.question, style="bold"))
    console.print(Text(f"\n{findings.answer}\n", style="bold green"))
    console.print(Text(findings.coverage))
    for caution in findings.cautions:
        console.print(Text(f"warning: {caution}", style="yellow"))
    _print_effects(console, findings.effects, plan.primary)
    _print_hypotheses(console, findings.hypotheses)
    for one in findings.secondary:
        _print_effects(console, one.effects, one.metric, "secondary: ")
    _print_winners(console, findings.winners)
    for heading, table in show(findings, width=console.width):
        console.print(Text(f"\n{heading}", style="bold"))
        console.print(_terminal_table(table, words=set(table.columns[: first_number(list(table.columns))])))
    console.print(Text("\n" + "\n".join(method(findings)), style="dim"))


def _print_effects(console: Console, effects: pd.DataFrame, metric: Metric, about: str = "") -> None:
    if len(effects):
        console.print(Text(f"\n{about}effects on {amounts.spoken(metric)}", style="bold"))
        console.print(_terminal_table(effects_text(effects, metric), words={"factor", "level", "verdict"}))


def _print_hypotheses(console: Console, hypotheses: pd.DataFrame) -> None:
    if not len(hypotheses):
        return
    console.print(Text("\nhypotheses", style="bold"))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for ruling, hypothesis, evidence in hypotheses[["ruling", "hypothesis", "evidence"]].to_numpy():
        table.add_row(Text(ruling, style=RULINGS[ruling]), Text.assemble(hypothesis, "\n", (evidence, "dim")))
    console.print(table)


def _print_winners(console: Console, winners: pd.DataFrame) -> None:
    if not len(winners):
        return
    console.print(Text("\ntuned on dev", style="bold"))
    for (setting, value), rows in winners.groupby(["setting", "winner"], sort=False):
        console.print(Text(f"{setting}={value}: {', '.join(rows['cell'])}"))


def _terminal_table(text: pd.DataFrame, *, words: Collection[str]) -> Table:
    """Makes a table whose columns of words fold where there is no room; numbers stay whole."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="", show_edge=False)
    for column in text.columns:
        word = column in words
        table.add_column(column, justify="left" if word else "right", overflow="fold", no_wrap=not word)
    for row in text.itertuples(index=False):
        table.add_row(*map(Text, row))
    return table


# --- files ----------------------------------------------------------------------------------------------------------


def draw(target: Path, findings: Findings, columns: int = 0) -> dict[str, str]:
    """Draws what there are numbers for; what each figure shows, by its file name without suffix.

    ``columns`` of text is the width of figures for a paper, which say so in their names.
    """
    if not findings.cells["n"].any():
        return {}
    from bench.report.lettering import lettered

    with lettered(findings.plan):
        return _draw(target, findings, columns)


def _draw(target: Path, findings: Findings, columns: int) -> dict[str, str]:
    from bench.report import canvas, figures

    drawn = figures.drawable(findings)
    for name, (_, figure) in drawn.items():
        canvas.save(figure(columns), target / (f"{name}-{columns}-column" if columns else name), columns)
    return {name: title for name, (title, _) in drawn.items()}


def letters_without_font(findings: Findings) -> list[str]:
    """Says what figures cannot show of the labels, if there are figures."""
    if not findings.cells["n"].any():
        return []
    from bench.report import lettering

    return lettering.notes(findings.plan)


def write_paper(findings: Findings) -> Path:
    """Writes the table in LaTeX and the figures, as wide as one and as two columns, to ``paper/`` in the report."""
    target = findings.target / "paper"
    target.mkdir(parents=True, exist_ok=True)
    (target / "table.tex").write_text(latex(findings), encoding="utf-8")
    for columns in (1, 2):
        draw(target, findings, columns)
    return target


def write_markdown(path: Path, findings: Findings, drawn: Mapping[str, str]) -> None:
    """Writes the whole report as one page of Markdown, figures beside it."""
    plan = findings.plan
    lines = [findings.coverage, *(f"warning: {caution}" for caution in findings.cautions)]
    parts = [f"# {markdown(plan.name)}", markdown(plan.question), f"**{markdown(findings.answer)}**"]
    parts.append("\n".join(f"- {markdown(line)}" for line in lines))
    asked = [("", plan.primary, findings.effects)]
    asked += [("secondary: ", one.metric, one.effects) for one in findings.secondary]
    shown: Shown = [
        (f"{about}effects on {amounts.spoken(metric)}", effects_text(effects, metric))
        for about, metric, effects in asked
        if len(effects)
    ]
    if len(findings.hypotheses):
        shown.append(("hypotheses", findings.hypotheses[["ruling", "hypothesis", "evidence"]]))
    shown += show(findings)
    parts += [f"## {markdown(heading)}\n\n{markdown_table(table)}" for heading, table in shown]
    parts += [f"![{title}]({name}.png)" for name, title in drawn.items()]
    parts += [f"- {markdown(note)}" for note in letters_without_font(findings)]
    parts.append("\n".join(map(markdown, method(findings))))
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
