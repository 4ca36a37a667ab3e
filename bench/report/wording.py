"""Findings as text: the numbers of a table with their intervals, verdicts, and how to read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.analysis import amounts, summaries
from bench.analysis.findings import Findings, Secondary
from bench.analysis.learning import TARGET_SHARE
from bench.analysis.summaries import RATES, first_epoch, watched
from bench.analysis.tables import sampled
from bench.analysis.verdicts import DECIDED, p_text
from bench.grid.factors import short_names
from bench.grid.metrics import Metric
from bench.grid.plan import Plan
from bench.report.escapes import versus
from bench.report.numbers import difference_heading, differences, first_heading, heading, span, values, with_half_width

Shown = list[tuple[str, pd.DataFrame]]  # headings and tables of text


def method(findings: Findings, tables: Shown | None = None) -> list[str]:
    """Explains the ``tables`` (of :func:`show`): what is averaged, what intervals count, where speeds come from."""
    shown, metric = [*findings.levels, findings.cells], findings.plan.primary
    notes = [_metric_note(metric), *_interval_notes(metric, sampled(metric, *shown))]
    if len(findings.effects):
        family = plural(len(findings.effects), "effect")
        notes.append(
            f"p: two-sided; corrected by Holm over {family}; decided where that is under 0.05; "
            f"{equivalent(metric)}. Would show: with 80 % power."
        )
    if findings.secondary:
        names = ", ".join(amounts.spoken(one.metric) for one in findings.secondary)
        notes.append(f"secondary: {names}; their effects are a family of their own, corrected apart.")
    if any((table["pairs"] < table["pairs_planned"]).any() for table in shown):
        notes.append("*: only some pairs have both results, so that it need not be the difference of two means here.")
    if any((table[f"{metric.name}_seeds"] > 1).any() for table in shown):
        notes.append(
            "Intervals take seeds to be roughly normal: where those of one cell are strongly skewed, one of 95 % may "
            "hold the truth in 84 %. Every seed is in the figure and in seeds.csv, median and worst are in cells.csv."
        )
    notes += _learning_notes(findings)
    text = [cell for _, table in tables or show(findings) for cell in table.to_numpy().ravel()]
    if any(str(cell).endswith("± ?") for cell in text):
        notes.append("± ?: no interval, for want of a second seed.")
    if any(str(cell).endswith(" alike") for cell in text):
        notes.append("alike: all seeds gave this very value, which tells nothing of the size of chance.")
    if len(findings.machines):
        notes.append(
            "the same trials: those that two results folders hold; accuracies take the first folder's. Largest "
            "difference: of test accuracy, in points; images that differ: most test images that only one gets right."
        )
    return [*notes, *_speed_note(findings)]


def _metric_note(metric: Metric) -> str:
    said = amounts.direction(metric) or "neither higher nor lower is better"
    scale = "; on a log scale: means are geometric and compared by their ratio" if metric.scale == "log" else ""
    return f"{amounts.with_unit(metric)}: {said}{scale}."


def _interval_notes(metric: Metric, over: str) -> list[str]:
    """Explains what intervals count, and what a difference is of."""
    paired = "paired by seed and by the levels of the other factors"
    if metric.scale == "log":
        return [f"in parentheses: the 95 % interval over {over}.", f"ratio: to the baseline, {paired}."]
    unit = "percentage points" if metric.unit == "%" else metric.unit
    return [
        f"±: half the 95 % interval over {over}; of first epoch and area, over seeds.",
        f"difference: in {unit}, {paired}." if unit else f"difference: {paired}.",
    ]


def equivalent(metric: Metric) -> str:
    if metric.tolerance is None:
        return "no margin is declared, so nothing is called equivalent"
    return f"equivalent: within {amounts.within(metric, metric.tolerance)}"


def _learning_notes(findings: Findings) -> list[str]:
    learning, notes = findings.learning, []
    if some_untrained(findings.cells):
        notes.append(
            "trained: ended above chance on dev (exact binomial test, 5 % over the evaluations), of the trials that "
            "had a result; with the exact interval of Clopper and Pearson. "
            f"{amounts.capital(amounts.spoken(findings.plan.primary))} is of those that trained."
        )
        if findings.cells["with_untrained"].notna().any():
            notes.append("with untrained: those that did not train count at chance, 1 / number of classes.")
    if learning["target"].notna().any():
        notes.append(
            f"learning: {_target_note(findings)}. steps: until the first evaluation there, the median over trials "
            "(Kaplan-Meier) and its 95 % interval; –: under half of the trials come there."
        )
        if learning["seconds_to_target"].notna().any():
            notes.append(f"seconds: those steps at the speed of training timed alone on {findings.timed_on}.")
        name = amounts.spoken(watched(findings.plan))
        notes.append(f"area: {name} averaged over the epochs, of the trials that trained.")
    return notes


def _target(metric: Metric, learning: pd.DataFrame) -> str:
    target = learning["target"].iloc[0]
    return f"{100 * target:.0f} %" if metric.is_share else f"{target:.3g}"


def _target_note(findings: Findings) -> str:
    metric, share = watched(findings.plan), f"{100 * TARGET_SHARE:.0f} %"
    target = f"{_target(metric, findings.learning)} of {amounts.spoken(metric)}"
    if metric.is_share and metric.sign > 0:
        return f"{target} is {share} of what the baseline ends with, rounded down"
    return f"{target} is {share} of the way that the baseline comes from before training"


def _speed_note(findings: Findings) -> list[str]:
    cells = findings.cells
    if not cells["train_images_per_second"].notna().any():
        return []
    if "rounds" in set(cells["train_images_per_second_basis"]):
        on = f"timed alone on {findings.timed_on}; ±: half of the range from the slowest to the fastest round."
        return [f"images/s: in training, {on}"]
    name, threads = summaries.timed(findings.found)[["device_name", "threads"]].iloc[0]
    return [f"images/s: in training, of trials that ran alone on {name}, {plural(threads, 'thread')}; ±: over seeds."]


def plural(count: float, noun: str) -> str:
    return f"{count:.0f} {noun}{'' if count == 1 else 's'}"


# --- verdicts -------------------------------------------------------------------------------------------------------


def effects_text(effects: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """Tabulates what changes, the difference with its interval, the corrected p, and the verdict in words."""
    pairs = zip(effects["level"], effects["against"], strict=True)
    levels = [versus(level, against, is_ratio=metric.scale == "log") for level, against in pairs]
    text = pd.DataFrame({"factor": effects["factor"], "level": levels}, dtype=str)
    numbers = effects.assign(difference_seeds=effects["seeds"])
    text[difference_heading(metric)] = differences(numbers, metric) if len(effects) else ""
    text["p"] = [p_text(p).removeprefix("= ") for p in effects["p"]]
    if len(effects) > 1:
        text["p,\nHolm"] = [p_text(p).removeprefix("= ") for p in effects["p_holm"]]
    decided = effects["verdict"].isin(DECIDED)
    said = decided & (effects["trains"] == "") & (effects["average"] == "")
    text["verdict"] = effects["sentence"].where(~said, effects["verdict"])
    return text


# --- tables ---------------------------------------------------------------------------------------------------------


def show(findings: Findings, *, width: int | None = None) -> Shown:
    """Makes a table per factor, one of all cells where that says more, and of how they learn, ``width`` wide."""
    plan, levels, cells, narrow = findings.plan, findings.levels, findings.cells, width is not None
    shown = [(table["factor"].iloc[0], _level_text(plan, table, width)) for table in levels]
    names, words = cell_names(plan), cell_words(cells)
    if len(plan.factors) != 1 or len(cells) != len(levels[0]):
        wide = _text(plan, cells, names, narrow=narrow)
        costs, first = ["images/s", "parameters"], first_heading(plan)
        choices = [wide, *(wide.drop(columns=drop, errors="ignore") for drop in (costs, costs + first))]
        choices.append(_text(plan, cells, words, narrow=narrow).drop(columns=costs, errors="ignore"))
        shown.append(("cells", _fitting(choices, width)))
    if some_untrained(cells):
        shown.append(("training", _fitting([_training(findings, text) for text in (names, words)], width)))
    if findings.learning["area_under_curve"].notna().any():
        wide, other = (_learning(plan, findings.learning, text) for text in (names, words))
        drops = [["seconds"], ["seconds", *first_heading(plan)]]
        choices = [wide, *(wide.drop(columns=drop, errors="ignore") for drop in drops)]
        shown.append(("learning", _fitting([*choices, other.drop(columns=drops[-1], errors="ignore")], width)))
    for one in findings.secondary:
        shown.append((f"secondary: {amounts.spoken(one.metric)}", _secondary(one, names, words, width)))
    if findings.speeds["machine"].nunique() > 1:
        shown.append(("images/s by machine", _speeds(findings.speeds, cells)))
    if len(findings.machines):
        shown.append(("the same trials on several machines", _machines(findings.machines)))
    return shown


def _secondary(one: Secondary, names: pd.DataFrame, words: pd.DataFrame, width: int | None) -> pd.DataFrame:
    """Tabulates its mean and difference by cell."""
    choices = [text.assign(n=one.cells["trained"].astype(str)) for text in (names, words)]
    for text in choices:
        text[heading(one.metric)] = values(one.cells, one.metric)
        difference = differences(one.cells, one.metric)
        text[difference_heading(one.metric)] = difference.mask(one.cells["is_baseline"], "baseline")
    return _fitting(choices, width)


def _level_text(plan: Plan, table: pd.DataFrame, width: int | None) -> pd.DataFrame:
    wide = _text(plan, table, table[["level"]], narrow=width is not None)
    columns = [first_heading(plan), [*first_heading(plan), "parameters"]]
    return _fitting([wide, *(wide.drop(columns=drop, errors="ignore") for drop in columns)], width)


def _fitting(choices: Sequence[pd.DataFrame], width: int | None) -> pd.DataFrame:
    return next((text for text in choices if width is None or width_of(text) <= width), choices[-1])


def _training(findings: Findings, names: pd.DataFrame) -> pd.DataFrame:
    """Tells how many trials trained, and what these reach beside what all with a result do, where known."""
    text, metric = names.copy(), findings.plan.primary
    text["n"] = [f"{n}/{judged}" for n, judged in findings.cells[["trained", "judged"]].to_numpy()]
    text["trained, %"] = trained_text(findings.cells)
    text[heading(metric)] = values(findings.cells, metric)
    if findings.cells["with_untrained"].isna().all():
        return text
    ends = 100 * findings.cells[["with_untrained", "with_untrained_low", "with_untrained_high"]]
    text["with\nuntrained, %"] = [
        "–" if np.isnan(low) else f"{mean:.1f} ({low:.0f} to {high:.0f})" for mean, low, high in ends.to_numpy()
    ]
    return text


def _learning(plan: Plan, learning: pd.DataFrame, names: pd.DataFrame) -> pd.DataFrame:
    text, metric, first = names.copy(), watched(plan), first_epoch(plan, plan.primary)
    text["n"] = learning["trained"].astype(str)
    if first is not None:
        text[first_heading(plan)[0]] = values(learning, first)
    if learning["target"].notna().any():
        reached = learning[["reached", "ended"]].to_numpy()
        text[f"reach\n{_target(metric, learning)}"] = [f"{count}/{ended}" for count, ended in reached]
        text["steps"] = _times(learning, "steps_to_target", 0)
        if learning["seconds_to_target"].notna().any():
            text["seconds"] = _times(learning, "seconds_to_target", 1)
    text[", ".join(filter(None, ["area", metric.unit]))] = values(learning, metric, "area_under_curve")
    return text


def _times(learning: pd.DataFrame, name: str, digits: int) -> list[str]:
    """Returns ``42 (21 to 63)``: a median and its interval, whose upper end may be open."""
    ends = learning[[name, f"{name}_low", f"{name}_high"]].to_numpy(float)
    return [
        "–" if not np.isfinite(median) else f"{median:,.{digits}f}{_range(low, high, digits)}"
        for median, low, high in ends
    ]


def _range(low: float, high: float, digits: int) -> str:
    if np.isnan(low) or np.isnan(high):
        return ""
    return f" ({low:,.{digits}f} or more)" if np.isinf(high) else f" ({low:,.{digits}f} to {high:,.{digits}f})"


def _speeds(speeds: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Lists every machine's own, one below the other: speeds of unlike machines do not compare."""
    words = dict(zip(cells["cell"], cell_words(cells)["cell"], strict=True))
    text = pd.DataFrame({"machine": speeds["machine"].mask(speeds["machine"].duplicated(), "")}, dtype=str)
    text["cell"] = speeds["cell"].map(words)
    text["images/s"] = with_half_width(speeds.assign(train_images_per_second_seeds=0), RATES[0], 1, 0)
    return text


def _machines(machines: pd.DataFrame) -> pd.DataFrame:
    text = machines[["one", "other"]].astype(str)
    text["trials"] = machines["shared"].astype(str)
    text["the same\nto the bit"] = machines["identical"].astype(str)
    text["another\nstatus"] = machines["statuses_differ"].astype(str)
    text["largest\ndifference"] = _or_dash(machines["largest_difference"] * 100, ".2f")
    text["images\nthat differ"] = _or_dash(machines["largest_images_differ"], ".0f")
    return text


def _or_dash(numbers: pd.Series, form: str) -> list[str]:
    return ["–" if np.isnan(number) else f"{number:{form}}" for number in numbers.astype(float)]


def first_number(columns: Sequence[str]) -> int:
    """Finds where a table's words end and its numbers begin."""
    return next((index for index, name in enumerate(columns) if name in ("n", "images/s", "trials")), len(columns))


def cell_names(plan: Plan) -> pd.DataFrame:
    """Makes a column per factor; the label alone where a cell beside the plan has no level of some."""
    short = short_names([factor.name for factor in plan.factors])
    if not short or any(len(cell.levels) < len(short) for cell in plan.cells):
        return pd.DataFrame({"cell": [cell.label for cell in plan.cells]}, dtype=str)
    return pd.DataFrame({word: [cell.levels[name] for cell in plan.cells] for name, word in short.items()}, dtype=str)


def cell_words(cells: pd.DataFrame) -> pd.DataFrame:
    places = cells[["column", "row", "variant"]].itertuples(index=False)
    return pd.DataFrame({"cell": [", ".join(filter(None, place)) for place in places]}, dtype=str)


def width_of(text: pd.DataFrame) -> int:
    """Characters of a line of the table, two spaces between columns."""
    cells = [[*str(column).split("\n"), *text[column]] for column in text.columns]
    return sum(2 + max(map(len, column)) for column in cells) - 2


def _text(plan: Plan, table: pd.DataFrame, names: pd.DataFrame, *, narrow: bool) -> pd.DataFrame:
    """Writes what a reader compares. Parameters stand there where they differ, pairs where some are incomplete."""
    text = names.copy()
    whole = (table["trained"] == table["planned"]).all()
    counts = zip(table["trained"], table["planned"], strict=True)
    text["n"] = [str(n) if whole else f"{n}/{planned}" for n, planned in counts]
    if some_untrained(table):
        text["trained, %"] = trained_text(table)
    metric, first = plan.primary, first_epoch(plan, plan.primary)
    text[heading(metric)] = values(table, metric)
    partial = (table["pairs"] < table["pairs_planned"]) & table["difference"].notna()
    difference = differences(table, metric)
    if narrow and partial.any():
        difference += partial.map({True: "*", False: " "})
    text[difference_heading(metric)] = difference.mask(table["is_baseline"], "baseline")
    if partial.any() and not narrow:
        pairs = zip(table["pairs"], table["pairs_planned"], strict=True)
        text["pairs"] = [f"{count}/{planned}" if planned else "" for count, planned in pairs]
    if first is not None:
        text[first_heading(plan)[0]] = values(table, first)
    if metric.name != "train_images_per_second" and table["train_images_per_second"].notna().any():
        text["images/s"] = with_half_width(table, "train_images_per_second", 1, 0)
    bounds = table[["parameters_low", "parameters_high"]]
    if metric.name != "parameters" and len(bounds.dropna().drop_duplicates()) > 1:
        text["parameters"] = [span(low, high) for low, high in bounds.itertuples(index=False)]
    return text


def some_untrained(table: pd.DataFrame) -> bool:
    """Tells whether a trial of the table's rows had a result and did not train."""
    return bool((table["trained"] < table["judged"]).any())


def trained_text(table: pd.DataFrame) -> list[str]:
    """Returns ``60 (15 to 95)``: how often trials trained, in per cent, with the exact interval."""
    shares = 100 * table[["trained_share", "trained_share_low", "trained_share_high"]]
    return [
        "–" if np.isnan(share) else f"{share:.0f} ({low:.0f} to {high:.0f})" for share, low, high in shares.to_numpy()
    ]
