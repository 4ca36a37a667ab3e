"""The ablation table as a paper prints it: LaTeX and Markdown; and the findings as CSV and JSON for scripts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis import amounts
from bench.analysis.findings import Findings
from bench.analysis.tables import sampled
from bench.grid.metrics import Metric
from bench.record.status import Status
from bench.report.escapes import OFF, ON, markdown, tex, unset
from bench.report.wording import (
    cell_names,
    difference_heading,
    differences,
    first_number,
    some_untrained,
    span,
    trained_text,
    values,
)

UNDECIDED = "°"  # beside a cell that is not told apart from the best
Escape = Callable[[str], str]


# --- the table ------------------------------------------------------------------------------------------------------


def ablation(findings: Findings) -> pd.DataFrame:
    """Makes a row per cell, as text: a column per factor, checks for toggles; n; metric; difference; parameters."""
    cells, metric = findings.cells, findings.plan.primary
    text = cell_names(findings.plan)
    for column in text.columns:
        if set(text[column]) <= {"true", "false"}:
            text[column] = text[column].map({"true": ON, "false": OFF})
    text["n"] = [
        f"{n}/{planned}" if n < planned else str(n)
        for n, planned in zip(cells["trained"], cells["planned"], strict=True)
    ]
    if some_untrained(cells):
        text["trained, %"] = trained_text(cells)
    column = amounts.with_unit(metric)
    text[column] = values(cells, metric) + np.where(cells["standing"] == "not told apart", UNDECIDED, "")
    difference = differences(cells, metric).str.replace("-", "−")
    text[difference_heading(metric)] = difference.mask(cells["is_baseline"], "baseline")
    if metric.name != "parameters":
        text["parameters"] = [span(low, high) for low, high in cells[["parameters_low", "parameters_high"]].to_numpy()]
    return text


def caption(findings: Findings) -> str:
    """Says what the table shows, over how many seeds, on which hardware, from which commit, and what is missing."""
    plan, ended = findings.plan, findings.found[findings.found["status"] == Status.OK]
    seeds = len(plan.seeds) + len(plan.further_seeds)
    parts = [
        f"{plan.question} {_shown(plan.primary)} over {sampled(plan.primary, findings.cells)}, "
        f"{seeds} seed{'s' * (seeds != 1)} per cell.{_best(plan.primary)} "
        f"{amounts.capital(difference_heading(plan.primary))}s are to the baseline, paired by seed.",
        f"{findings.coverage}.",
    ]
    for what, column in (("Hardware", "device_name"), ("Commit", "git_commit")):
        names = [str(name) for name in ended[column].dropna().unique() if name]
        if names:
            parts.append(f"{what}: {', '.join(name[:12] if what == 'Commit' else name for name in names)}.")
    return " ".join(parts)


def _shown(metric: Metric) -> str:
    """Says what the numbers of the metric's column are."""
    unit = " in percent" if metric.unit == "%" else f" in {metric.unit}" if metric.unit else ""
    better = f" ({amounts.direction(metric)})" if metric.sign else ""
    kind = "geometric mean and" if metric.scale == "log" else "mean ± half of the"
    return f"{amounts.capital(amounts.spoken(metric))}{unit}{better}: {kind} 95 % interval"


def _best(metric: Metric) -> str:
    """Says how cells that may be the best are marked; none where neither direction is better."""
    if metric.sign == 0:
        return ""
    within = "" if metric.tolerance is None else amounts.within(metric, metric.tolerance)
    alike = f", and those equivalent to it within {within}" if within else ""
    return f" Bold: the best cell{alike}; {UNDECIDED}: not told apart from it at 5 % over all pairs of cells."


def paper_markdown(findings: Findings) -> str:
    """Returns the ablation table in GitHub's Markdown, and its caption."""
    text = ablation(findings)
    bold = _bold(findings, text, markdown, "**{}**")
    return f"{_markdown(text.columns.tolist(), bold)}\n\n{markdown(caption(findings))}\n"


def latex(findings: Findings) -> str:
    """Writes the ablation table in LaTeX, one ``table`` environment; needs the packages booktabs and amssymb."""
    text = ablation(findings)
    rows = _bold(findings, text, tex, r"\textbf{{{}}}")
    align = "l" * (list(text.columns).index("n")) + "r" * (text.shape[1] - list(text.columns).index("n"))
    lines = [
        "% needs \\usepackage{booktabs,amssymb}; in two columns write table*",
        *_unset(caption(findings), *text.columns, *text.to_numpy().ravel()),
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{tex(caption(findings))}}}",
        rf"  \label{{tab:{''.join(c if c.isalnum() and c.isascii() else '-' for c in findings.plan.name)}}}",
        rf"  \begin{{tabular}}{{{align}}}",
        r"    \toprule",
        f"    {' & '.join(tex(column) for column in text.columns)} \\\\",
        r"    \midrule",
        *(f"    {' & '.join(row)} \\\\" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _unset(*texts: str) -> list[str]:
    """Returns a comment on the letters that are question marks in LaTeX."""
    letters = [
        f"{letter if letter.isprintable() else ''} ({' '.join(f'U+{ord(part):04X}' for part in letter)})"
        for letter in unset(" ".join(texts))
    ]
    return [f"% pdflatex cannot set these, which are question marks: {', '.join(letters)}"] if letters else []


def _bold(findings: Findings, text: pd.DataFrame, escape: Escape, form: str) -> list[list[str]]:
    """Returns the escaped cells, the metric of the best and of what is equivalent to it in bold."""
    column = amounts.with_unit(findings.plan.primary)
    bold = findings.cells["standing"].isin(["best", "equivalent"])
    return [
        [form.format(escape(cell)) if mark and name == column else escape(cell) for name, cell in row.items()]
        for mark, row in zip(bold, text.to_dict("records"), strict=True)
    ]


def markdown_table(text: pd.DataFrame) -> str:
    """Returns the table in GitHub's Markdown, its text escaped; numbers are set right."""
    return _markdown(text.columns.tolist(), [[markdown(cell) for cell in row] for row in text.itertuples(index=False)])


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first = first_number(columns)
    rule = ["---"] * first + ["---:"] * (len(columns) - first)
    lines = [[markdown(name.replace("\n", " ")) for name in columns], rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# --- for scripts ----------------------------------------------------------------------------------------------------


def as_csv(findings: Sequence[Findings]) -> str:
    """Makes a row per cell of all grids, as numbers."""
    cells = [item.cells.assign(grid=item.plan.name) for item in findings]
    table = pd.concat(cells)
    return table[["grid", *table.columns.drop("grid")]].to_csv(index=False, lineterminator="\n")


def as_json(findings: Sequence[Findings]) -> str:
    """Makes an object per grid, with the answer, verdicts and tables; null where a number is unknown."""
    return json.dumps([_plain(item) for item in findings], indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(item: Findings) -> dict[str, Any]:
    named = {"effects": item.effects, "hypotheses": item.hypotheses, "winners": item.winners, "cells": item.cells}
    named |= {"learning": item.learning, "speeds": item.speeds, "machines": item.machines}
    if item.levels:
        named["levels"] = pd.concat(item.levels)
    named |= {f"secondary_{one.metric.name}": one.effects for one in item.secondary}
    said: dict[str, Any] = {"grid": item.plan.name, "question": item.plan.question, "metric": asdict(item.plan.primary)}
    said |= {"answer": item.answer, "coverage": item.coverage}
    return {**said, "cautions": list(item.cautions), **{name: _records(table) for name, table in named.items()}}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _json_value(value) for name, value in row.items()} for row in table.to_dict("records")]


def _json_value(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


FORMATS: dict[str, Callable[[Sequence[Findings]], str]] = {
    "csv": as_csv,
    "json": as_json,
    "markdown": lambda findings: "\n".join(map(paper_markdown, findings)),
    "latex": lambda findings: "\n".join(map(latex, findings)),
}
