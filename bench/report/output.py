"""The report of a results folder: the answer in the terminal, tables and figures in its ``report/``. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text

from bench.analysis import amounts
from bench.analysis.findings import Findings, gather
from bench.grid.plan import Plan
from bench.report.drawing import Drawer, Say, drawer
from bench.report.escapes import markdown
from bench.report.page import page
from bench.report.paper import latex, markdown_table, paper_markdown
from bench.report.telling import FIGURES, asked, file_of, letters
from bench.report.terminal import print_report
from bench.report.wording import Shown, effects_text, method, show


def report(folder: Path, console: Console, plan: Plan | None = None, *, full: bool = False) -> None:
    """Prints the answer of ``folder`` and writes it to ``folder/report``; the plan is by default its ``grid.yaml``."""
    with drawer() as beside:
        findings = gather(folder, plan)
        print_report(console, findings, full=full)
        write_report(findings, beside=beside)
    console.print(Text(f"figures, Markdown and CSV: {findings.target}"), soft_wrap=True)


def write_report(findings: Findings, say: Say = lambda doing: None, beside: Drawer | None = None) -> Path:
    """Writes tables and page, then figures, to the folder of the report, which it returns.

    ``say`` is told what is done, ``beside`` draws meanwhile. Figures of an earlier report are removed first: none
    stands beside newer tables.
    """
    if beside is None:
        with drawer() as beside:
            return write_report(findings, say, beside)
    target = findings.target
    target.mkdir(parents=True, exist_ok=True)
    say("writing tables and page")
    _remove_figures(target, findings)
    figures = asked(findings, target)
    beside.begin(figures)
    _write_tables(target, findings)
    write_markdown(target / "report.md", findings, figures.titles)
    (target / "table.md").write_text(paper_markdown(findings), encoding="utf-8")
    (target / "table.tex").write_text(latex(findings), encoding="utf-8")
    (target / "index.html").write_text(page(findings), encoding="utf-8", errors="replace")  # of a folder's odd name
    beside.finish(figures, say)
    return target


def _write_tables(target: Path, findings: Findings) -> None:
    levels = pd.concat(findings.levels) if findings.levels else findings.cells
    numbers = {"levels": levels, "cells": findings.cells, "effects": findings.effects}
    numbers |= {"hypotheses": findings.hypotheses, "curves": findings.curves, "seeds": findings.seeds}
    numbers |= {"learning": findings.learning, "speeds": findings.speeds, "machines": findings.machines}
    numbers |= {f"secondary-{one.metric.name}": one.effects for one in findings.secondary}
    for name, table in numbers.items():
        if len(table) or name not in ("speeds", "machines"):
            table.to_csv(target / f"{name}.csv", index=False)


def _remove_figures(target: Path, findings: Findings) -> None:
    names = {*FIGURES, file_of(findings.plan.primary)}
    for path in (target / f"{name}.{end}" for name in names for end in ("png", "svg", "pdf")):
        path.unlink(missing_ok=True)


def letters_without_font(findings: Findings) -> list[str]:
    """Says what figures cannot show of the labels, if there are figures."""
    if not findings.cells["n"].any() or letters(findings.plan).isascii():  # which Matplotlib's own font has
        return []
    from bench.report import lettering

    return lettering.notes(findings.plan)


def write_paper(findings: Findings, beside: Drawer, say: Say = lambda doing: None) -> Path:
    """Writes the table in LaTeX and the figures, as wide as one and as two columns, to ``paper/`` in the report."""
    target = findings.target / "paper"
    target.mkdir(parents=True, exist_ok=True)
    (target / "table.tex").write_text(latex(findings), encoding="utf-8")
    for columns in (1, 2):
        figures = asked(findings, target, columns)
        beside.begin(figures)
        beside.finish(figures, say)
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
    tables = show(findings)
    shown += tables
    parts += [f"## {markdown(heading)}\n\n{markdown_table(table)}" for heading, table in shown]
    parts += [f"![{title}]({name}.png)" for name, title in drawn.items()]
    parts += [f"- {markdown(note)}" for note in letters_without_font(findings)]
    parts.append("\n".join(map(markdown, method(findings, tables))))
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
