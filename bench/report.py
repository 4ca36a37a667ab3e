"""The report of a results folder: tables in the terminal, tables and figures in its ``report/``. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """Prints the answer of ``folder`` and writes it to ``folder/report``; the plan is by default its ``grid.yaml``."""
    plan = plan or load_plan(folder / "grid.yaml")
    trials = read_trials(folder)
    found = tables.outcomes(plan, trials)
    comparison = tables.Comparison(plan, found, read_correct(folder))
    levels = [tables.level_table(comparison, factor) for factor in plan.factors]
    cells = tables.cell_table(comparison).merge(tables.layout(plan), on="cell")
    lines = [tables.coverage_line(found), *(f"warning: {caution}" for caution in tables.cautions(plan, found, trials))]
    notes = method(found, [*levels, cells])
    print_report(console, plan, lines, show(plan, levels, cells, width=console.width), notes)
    target = folder / "report"
    target.mkdir(exist_ok=True)
    numbers = {"levels": pd.concat(levels) if levels else cells, "cells": cells}
    if cells["n"].any():
        numbers |= {"curves": tables.curve_table(found, read_curves(folder)), "seeds": tables.seed_table(found)}
    for name, table in numbers.items():
        table.to_csv(target / f"{name}.csv", index=False)
    drawn = draw(target, numbers)
    write_markdown(target / "report.md", plan, lines, show(plan, levels, cells, width=None), notes, drawn)
    console.print(Text(f"figures, Markdown and CSV: {target}"), soft_wrap=True)


def method(found: pd.DataFrame, shown: Sequence[pd.DataFrame]) -> list[str]:
    """How to read the tables: what is averaged, what the intervals count, where the speeds come from."""
    notes = [
        f"±: half of the 95 % interval over {tables.sampled(*shown)}; of first epoch and images/s, over seeds.",
        "difference: in percentage points, paired by seed and by the levels of the other factors.",
    ]
    if any((table["pairs"] < table["pairs_planned"]).any() for table in shown):
        notes.append("*: only some pairs have both results, so that it need not be the difference of two means here.")
    if (found["status"] == tables.DIVERGED).any():
        notes.append("Accuracies are those of the trials that converged; n counts them.")
    if any(((table["n"] > 0) & table["first_epoch_dev_accuracy_low"].isna()).any() for table in shown):
        notes.append("± ?: no interval, for want of a second seed or of any difference between seeds.")
    machines = tables.timed(found)[["device_name", "threads", "concurrent_trials"]].dropna()
    if len(machines):
        name, threads, trials = machines.iloc[0]
        notes.append(
            f"images/s: in training, on {name}; {_plural(threads, 'thread')}, {_plural(trials, 'trial')} at once."
        )
    return notes


def _plural(count: float, noun: str) -> str:
    return f"{count:.0f} {noun}{'' if count == 1 else 's'}"


# --- numbers as text ------------------------------------------------------------------------------------------------


def show(plan: Plan, levels: Sequence[pd.DataFrame], cells: pd.DataFrame, *, width: int | None) -> Shown:
    """A table a factor, and one of all cells where that says more, in ``width`` characters where it is given."""
    narrow = width is not None
    shown = [(table["factor"].iloc[0], _text(table, table[["level"]], narrow=narrow)) for table in levels]
    if len(plan.factors) == 1 and len(cells) == len(levels[0]):
        return shown
    wide = _text(cells, _cell_names(plan), narrow=narrow)
    costs, learning = ["images/s", "parameters"], ["first\nepoch, %"]
    choices = [
        wide,
        wide.drop(columns=costs, errors="ignore"),
        wide.drop(columns=costs + learning, errors="ignore"),
        _text(cells, _cell_words(cells), narrow=narrow).drop(columns=costs, errors="ignore"),
    ]
    return [*shown, ("cells", next((text for text in choices if width is None or _width(text) <= width), choices[-1]))]


def _cell_names(plan: Plan) -> pd.DataFrame:
    """A column a factor; the label alone where a cell beside the plan has no level of some."""
    short = tables.short_names([factor.name for factor in plan.factors])
    if not short or any(len(cell.levels) < len(short) for cell in plan.cells):
        return pd.DataFrame({"cell": [cell.label for cell in plan.cells]}, dtype=str)
    return pd.DataFrame({word: [cell.levels[name] for cell in plan.cells] for name, word in short.items()}, dtype=str)


def _cell_words(cells: pd.DataFrame) -> pd.DataFrame:
    places = cells[["column", "row", "arm"]].itertuples(index=False)
    return pd.DataFrame({"cell": [", ".join(filter(None, place)) for place in places]}, dtype=str)


def _width(text: pd.DataFrame) -> int:
    """Characters of a line of the table, two spaces between columns."""
    cells = [[*str(column).split("\n"), *text[column]] for column in text.columns]
    return sum(2 + max(map(len, column)) for column in cells) - 2


def _text(table: pd.DataFrame, names: pd.DataFrame, *, narrow: bool) -> pd.DataFrame:
    """What a reader compares, as text. Parameters stand there where they differ, pairs where some are incomplete."""
    text = names.copy()
    whole = (table["n"] == table["planned"]).all()
    counts = zip(table["n"], table["planned"], strict=True)
    text["n"] = [str(n) if whole else f"{n}/{planned}" for n, planned in counts]
    text["test\naccuracy, %"] = _percent(table, "test_accuracy")
    partial = (table["pairs"] < table["pairs_planned"]) & table["difference"].notna()
    difference = _percent(table, "difference", sign="+")
    if narrow and partial.any():
        difference += partial.map({True: "*", False: " "})
    text["difference"] = difference.mask(table["is_baseline"], "baseline")
    if partial.any() and not narrow:
        pairs = zip(table["pairs"], table["pairs_planned"], strict=True)
        text["pairs"] = [f"{count}/{planned}" if planned else "" for count, planned in pairs]
    text["first\nepoch, %"] = _percent(table, "first_epoch_dev_accuracy")
    text["images/s"] = _with_half_width(table, "train_images_per_second", 1, 0)
    bounds = table[["parameters_low", "parameters_high"]]
    if len(bounds.dropna().drop_duplicates()) > 1:
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
    """The names of rows fold where there is no room; numbers stay whole."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="", show_edge=False)
    num_names = list(text.columns).index("n")
    for index, column in enumerate(text.columns):
        name = index < num_names
        table.add_column(column, justify="left" if name else "right", overflow="fold", no_wrap=not name)
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
    rows = [[column.replace("\n", " ") for column in text.columns], rule, *text.itertuples(index=False)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
