"""Findings as text: the numbers of a table with their intervals, verdicts, and how to read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench import tables
from bench.factors import short_names
from bench.findings import Findings, p_text
from bench.plan import Plan

Shown = list[tuple[str, pd.DataFrame]]  # headings and tables of text


def method(findings: Findings) -> list[str]:
    """How to read the tables: what is averaged, what the intervals count, where the speeds come from."""
    found, shown = findings.found, [*findings.levels, findings.cells]
    notes = [
        f"±: half of the 95 % interval over {tables.sampled(*shown)}; of first epoch, over seeds.",
        "difference: in percentage points, paired by seed and by the levels of the other factors.",
    ]
    if len(findings.effects):
        family = plural(len(findings.effects), "effect")
        notes.append(
            f"p: two-sided, after Holm's correction over {family}; decided under 0.05; "
            f"equivalent: within {100 * findings.plan.margin:.3g} points. What would show does so with 80 % power."
        )
    if any((table["pairs"] < table["pairs_planned"]).any() for table in shown):
        notes.append("*: only some pairs have both results, so that it need not be the difference of two means here.")
    if (found["status"] == tables.DIVERGED).any():
        notes.append("Accuracies are those of the trials that converged; n counts them.")
    text = [cell for table in show_all(findings) for cell in table.to_numpy().ravel()]
    if any(str(cell).endswith("± ?") for cell in text):
        notes.append("± ?: no interval, for want of a second seed.")
    if any(str(cell).endswith(" alike") for cell in text):
        notes.append("alike: all seeds gave this very value, which tells nothing of the size of chance.")
    return [*notes, *_speed_note(findings)]


def show_all(findings: Findings) -> list[pd.DataFrame]:
    return [table for _, table in show(findings.plan, findings.levels, findings.cells, width=None)]


def _speed_note(findings: Findings) -> list[str]:
    cells = findings.cells
    if not cells["train_images_per_second"].notna().any():
        return []
    if "rounds" in set(cells["train_images_per_second_basis"]):
        return ["images/s: in training, timed alone; ±: half of the range from the slowest to the fastest round."]
    name, threads = tables.timed(findings.found)[["device_name", "threads"]].iloc[0]
    return [f"images/s: in training, of trials that ran alone on {name}, {plural(threads, 'thread')}; ±: over seeds."]


def plural(count: float, noun: str) -> str:
    return f"{count:.0f} {noun}{'' if count == 1 else 's'}"


# --- verdicts -------------------------------------------------------------------------------------------------------


def effects_text(effects: pd.DataFrame) -> pd.DataFrame:
    """What changes, the difference with its interval, the corrected p, and the verdict in words."""
    text = pd.DataFrame(
        {"factor": effects["factor"], "level": effects["level"] + " − " + effects["against"]}, dtype=str
    )
    numbers = effects.assign(difference_seeds=effects["seeds"])
    text["difference"] = percent(numbers, "difference", sign="+") if len(effects) else ""
    text["p"] = [p_text(p).removeprefix("= ") for p in effects["p_holm"]]
    decided = effects["verdict"].isin(["better", "worse"])
    text["verdict"] = effects["sentence"].where(~decided, effects["verdict"])
    return text


# --- tables ---------------------------------------------------------------------------------------------------------


def show(plan: Plan, levels: Sequence[pd.DataFrame], cells: pd.DataFrame, *, width: int | None) -> Shown:
    """A table a factor, and one of all cells where that says more, in ``width`` characters where it is given."""
    narrow = width is not None
    shown = [(table["factor"].iloc[0], _text(table, table[["level"]], narrow=narrow)) for table in levels]
    if len(plan.factors) == 1 and len(cells) == len(levels[0]):
        return shown
    wide = _text(cells, cell_names(plan), narrow=narrow)
    costs, learning = ["images/s", "parameters"], ["first\nepoch, %"]
    choices = [
        wide,
        wide.drop(columns=costs, errors="ignore"),
        wide.drop(columns=costs + learning, errors="ignore"),
        _text(cells, _cell_words(cells), narrow=narrow).drop(columns=costs, errors="ignore"),
    ]
    return [
        *shown,
        ("cells", next((text for text in choices if width is None or width_of(text) <= width), choices[-1])),
    ]


def cell_names(plan: Plan) -> pd.DataFrame:
    """A column a factor; the label alone where a cell beside the plan has no level of some."""
    short = short_names([factor.name for factor in plan.factors])
    if not short or any(len(cell.levels) < len(short) for cell in plan.cells):
        return pd.DataFrame({"cell": [cell.label for cell in plan.cells]}, dtype=str)
    return pd.DataFrame({word: [cell.levels[name] for cell in plan.cells] for name, word in short.items()}, dtype=str)


def _cell_words(cells: pd.DataFrame) -> pd.DataFrame:
    places = cells[["column", "row", "arm"]].itertuples(index=False)
    return pd.DataFrame({"cell": [", ".join(filter(None, place)) for place in places]}, dtype=str)


def width_of(text: pd.DataFrame) -> int:
    """Characters of a line of the table, two spaces between columns."""
    cells = [[*str(column).split("\n"), *text[column]] for column in text.columns]
    return sum(2 + max(map(len, column)) for column in cells) - 2


def _text(table: pd.DataFrame, names: pd.DataFrame, *, narrow: bool) -> pd.DataFrame:
    """What a reader compares, as text. Parameters stand there where they differ, pairs where some are incomplete."""
    text = names.copy()
    whole = (table["n"] == table["planned"]).all()
    counts = zip(table["n"], table["planned"], strict=True)
    text["n"] = [str(n) if whole else f"{n}/{planned}" for n, planned in counts]
    text["test\naccuracy, %"] = percent(table, "test_accuracy")
    partial = (table["pairs"] < table["pairs_planned"]) & table["difference"].notna()
    difference = percent(table, "difference", sign="+")
    if narrow and partial.any():
        difference += partial.map({True: "*", False: " "})
    text["difference"] = difference.mask(table["is_baseline"], "baseline")
    if partial.any() and not narrow:
        pairs = zip(table["pairs"], table["pairs_planned"], strict=True)
        text["pairs"] = [f"{count}/{planned}" if planned else "" for count, planned in pairs]
    text["first\nepoch, %"] = percent(table, "first_epoch_dev_accuracy")
    text["images/s"] = _with_half_width(table, "train_images_per_second", 1, 0)
    bounds = table[["parameters_low", "parameters_high"]]
    if len(bounds.dropna().drop_duplicates()) > 1:
        text["parameters"] = [span(low, high) for low, high in bounds.itertuples(index=False)]
    return text


def percent(table: pd.DataFrame, name: str, sign: str = "") -> pd.Series:
    return _with_half_width(table, name, 100, 1, sign)


def _with_half_width(table: pd.DataFrame, name: str, scale: float, fewest: int, sign: str = "") -> pd.Series:
    """``94.1 ± 1.2``, a dash where nothing is known, ``± ?`` or ``alike`` where no interval can be said.

    At least ``fewest`` decimals, up to two more where the column's narrowest interval needs them.
    """
    value = table[name] * scale
    half = (table[f"{name}_high"] - table[f"{name}_low"]) / 2 * scale
    least = half[half > 0].min()
    digits = fewest if np.isnan(least) else int(np.clip(np.ceil(-np.log10(least)), fewest, fewest + 2))
    text = [
        "–" if np.isnan(v) else f"{v:{sign},.{digits}f}" + (f" ± {h:,.{digits}f}" if h >= 0 else _no_interval(seeds))
        for v, h, seeds in zip(value, half, table[f"{name}_seeds"], strict=True)
    ]
    return pd.Series(text, table.index, dtype=str)


def _no_interval(seeds: int) -> str:
    return " alike" if seeds > 1 else " ± ?"


def span(low: float, high: float) -> str:
    return "–" if np.isnan(low) else _count(low) if low == high else f"{_count(low)}–{_count(high)}"


def _count(number: float) -> str:
    """A count with three digits that matter: ``850``, ``61.7k``, ``11.2M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"
