"""The report of a results folder: tables in the terminal, and tables and figures as files in ``report/``. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import tables
from bench.grid import load_plan
from bench.plan import Plan
from bench.records import read_correct, read_curves, read_trials

FIGURES = {
    "curves": "Dev accuracy while training",
    "accuracy": "Test accuracy by cell",
    "trade_off": "Test accuracy against training speed",
}
Shown = list[tuple[str, pd.DataFrame]]  # headings and tables of text


def report(folder: Path, console: Console, plan: Plan | None = None) -> None:
    """Prints the answer of ``folder`` on ``console`` and writes it to ``folder/report``; ``plan``: else its grid.yaml."""
    plan = plan or load_plan(folder / "grid.yaml")
    trials = read_trials(folder)
    found = tables.outcomes(plan, trials)
    comparison = tables.Comparison(plan, found, read_correct(folder))
    levels = [tables.level_table(comparison, factor) for factor in plan.factors]
    cells = tables.cell_table(comparison).merge(tables.layout(plan), on="cell")
    lines = [tables.coverage_line(found), *(f"warning: {caution}" for caution in tables.cautions(plan, found, trials))]
    notes = method(found, [*levels, cells])
    print_report(console, plan, lines, show(plan, levels, cells, narrow=True), notes)
    target = folder / "report"
    target.mkdir(exist_ok=True)
    numbers = {"levels": pd.concat(levels) if levels else cells, "cells": cells}
    if cells["n"].any():
        numbers |= {"curves": tables.curve_table(found, read_curves(folder)), "seeds": tables.seed_table(found)}
    for name, table in numbers.items():
        table.to_csv(target / f"{name}.csv", index=False)
    drawn = draw(target, numbers)
    write_markdown(target / "report.md", plan, lines, show(plan, levels, cells, narrow=False), notes, drawn)
    console.print(Text(f"figures, Markdown and CSV: {target}"), soft_wrap=True)


def method(found: pd.DataFrame, shown: Iterable[pd.DataFrame]) -> list[str]:
    """How to read the tables: what is averaged, what the intervals count, where the speeds come from."""
    bases = {basis for table in shown for basis in table["test_accuracy_basis"]}
    over = "seeds and test images" if bases & {"seeds and test set", "test set"} else "seeds (Student's t)"
    notes = [
        f"± is half of the 95 % interval over {over}; of first epoch and images/s, over seeds.",
        "Differences are paired by seed and by the levels of the other factors, in percentage points.",
    ]
    if (found["status"] == tables.DIVERGED).any():
        notes.append("Accuracies are those of the trials that converged; n counts them.")
    machines = tables.timed(found)[["device_name", "threads", "concurrent_trials"]].dropna()
    if len(machines):
        name, threads, concurrent = machines.iloc[0]
        notes.append(f"images/s: in training, on {name}, {threads:.0f} thread(s), {concurrent:.0f} trial(s) at once.")
    return notes


# --- numbers as text ------------------------------------------------------------------------------------------------


def show(plan: Plan, levels: Sequence[pd.DataFrame], cells: pd.DataFrame, *, narrow: bool) -> Shown:
    """A table a factor, and one of all cells where that says more; ``narrow`` leaves the cells' costs to the files."""
    shown = [(table["factor"].iloc[0], _text(table, table[["level"]])) for table in levels]
    if len(plan.factors) != 1 or len(cells) != len(levels[0]):
        text = _text(cells, _cell_names(plan, narrow=narrow))
        shown.append(("cells", text.drop(columns=["images/s", "parameters"], errors="ignore") if narrow else text))
    return shown


def _cell_names(plan: Plan, *, narrow: bool) -> pd.DataFrame:
    """A column a factor, or one of words where that is too wide or a cell lies beside the factors."""
    short = tables.short_names([factor.name for factor in plan.factors])
    columns = {word: [cell.levels.get(name, "") for cell in plan.cells] for name, word in short.items()}
    width = sum(2 + max(map(len, [word, *column])) for word, column in columns.items())
    beside = any(len(cell.levels) < len(plan.factors) for cell in plan.cells)
    if beside or not columns or (narrow and width > 34):
        placed = tables.layout(plan)[["column", "row", "arm"]].itertuples(index=False)
        columns = {"cell": [", ".join(filter(None, place)) for place in placed]}
    return pd.DataFrame(columns, dtype=str)


def _text(table: pd.DataFrame, names: pd.DataFrame) -> pd.DataFrame:
    """The columns that a reader compares, as text; one that is the same in all rows is left out unless it is a result."""
    text = names.copy()
    whole = (table["n"] == table["planned"]).all()
    text["n"] = [str(row.n) if whole else f"{row.n}/{row.planned}" for row in table.itertuples()]
    text["test accuracy, %"] = _percent(table, "test_accuracy")
    difference = _percent(table, "difference", sign="+")
    text["difference, points"] = difference.mask(table["is_baseline"], "baseline")
    if (table["pairs"] < table["pairs_planned"]).any():
        text["pairs"] = [f"{row.pairs}/{row.pairs_planned}" if row.pairs_planned else "" for row in table.itertuples()]
    text["first epoch, %"] = _percent(table, "first_epoch_dev_accuracy")
    text["images/s"] = _with_half_width(table, "train_images_per_second", 1, 0)
    bounds = table[["parameters_low", "parameters_high"]]
    if len(bounds.drop_duplicates()) > 1:
        text["parameters"] = [_range(low, high) for low, high in bounds.itertuples(index=False)]
    return text


def _percent(table: pd.DataFrame, name: str, sign: str = "") -> pd.Series:
    return _with_half_width(table, name, 100, 1, sign)


def _with_half_width(table: pd.DataFrame, name: str, scale: float, fewest: int, sign: str = "") -> pd.Series:
    """``94.1 ± 1.2``, a dash where nothing is known, ``± ?`` where no interval can be said.

    At least ``fewest`` decimals, up to two more where the column's narrowest interval needs them.
    """
    value = table[name] * scale
    half = (table[f"{name}_high"] - table[f"{name}_low"]) / 2 * scale
    least = half[half > 0].min()
    digits = fewest if np.isnan(least) else int(np.clip(np.ceil(-np.log10(least)), fewest, fewest + 2))
    text = [
        "–" if np.isnan(v) else f"{v:{sign},.{digits}f} ± " + ("?" if np.isnan(h) else f"{h:,.{digits}f}")
        for v, h in zip(value, half, strict=True)
    ]
    return pd.Series(text, table.index, dtype=str)


def _range(low: float, high: float) -> str:
    return "–" if np.isnan(low) else _count(low) if low == high else f"{_count(low)}–{_count(high)}"


def _count(number: float) -> str:
    """A count with three digits that matter: ``850``, ``61.7k``, ``11.2M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


# --- the terminal ---------------------------------------------------------------------------------------------------


def print_report(console: Console, plan: Plan, lines: Sequence[str], shown: Shown, notes: Sequence[str]) -> None:
    """The question, what is covered, the tables, how to read them; no line is wider than the console."""
    console.print(Text(plan.name, style="dim"))
    console.print(Text(plan.question, style="bold"))
    for line in lines:
        console.print(Text(line, style="yellow" if line.startswith("warning") else ""))
    for heading, table in shown:
        console.print(Text(f"\n{heading}", style="bold"))
        console.print(_terminal_table(table))
    console.print(Text("\n" + "\n".join(notes), style="dim"))


def _terminal_table(text: pd.DataFrame) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="", show_edge=False)
    num_names = list(text.columns).index("n")
    for index, column in enumerate(text.columns):
        table.add_column(column, justify="left" if index < num_names else "right", overflow="fold")
    for row in text.itertuples(index=False):
        table.add_row(*map(Text, row))
    return table


# --- files ----------------------------------------------------------------------------------------------------------


def draw(target: Path, numbers: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Draws what there are numbers for; what each figure shows, by its file name without suffix."""
    if "curves" not in numbers:
        return {}
    from bench import figures

    cells = numbers["cells"]
    drawn = {"curves": figures.curves(numbers["curves"], cells), "accuracy": figures.seeds(numbers["seeds"], cells)}
    if cells["train_images_per_second"].notna().any():
        drawn["trade_off"] = figures.trade_off(cells)
    for name, figure in drawn.items():
        figures.save(figure, target / name)
    return {name: FIGURES[name] for name in drawn}


def write_markdown(
    path: Path, plan: Plan, lines: Sequence[str], shown: Shown, notes: Sequence[str], drawn: Mapping[str, str]
) -> None:
    """The whole report as one page of Markdown, figures beside it."""
    parts = [f"# {plan.name}", plan.question, "\n".join(f"- {line}" for line in lines)]
    parts += [f"## {heading}\n\n{_markdown_table(table)}" for heading, table in shown]
    parts += [f"![{title}]({name}.png)" for name, title in drawn.items()]
    path.write_text("\n\n".join([*parts, "\n".join(notes)]) + "\n", encoding="utf-8")


def _markdown_table(text: pd.DataFrame) -> str:
    num_names = list(text.columns).index("n")
    rule = ["---"] * num_names + ["---:"] * (text.shape[1] - num_names)
    rows = [list(text.columns), rule, *text.itertuples(index=False)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
