"""The findings in few words, for a report that fits a screen: what is left out is in the other forms of the report."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench.analysis import amounts
from bench.analysis.findings import Findings
from bench.analysis.tables import sampled
from bench.analysis.verdicts import DECIDED, p_text
from bench.grid.metrics import Metric
from bench.report.wording import equivalent, plural

RULINGS = {ruling: ruling for ruling in ("supported", "refuted", "undecided")}
TRAINS = {"better": "trains more often:", "worse": "trains less often:", "undecided": "trains"}
RULINGS["below_margin"] = "true, but smaller than the margin"


def rulings(hypotheses: pd.DataFrame) -> str:
    """Returns ``4 of 6 hypotheses supported, 2 undecided``."""
    counts = [(ruling, int((hypotheses["ruling"] == ruling).sum())) for ruling in RULINGS]
    (first, count), *rest = [(RULINGS[ruling], count) for ruling, count in counts if count]
    total = "1 hypothesis" if len(hypotheses) == 1 else f"{len(hypotheses)} hypotheses"
    return ", ".join([f"{count} of {total} {first}", *(f"{count} {ruling}" for ruling, count in rest)])


def headline(effects: pd.DataFrame) -> str:
    """Says how many effects are decided, for where they are too many to be told one by one."""
    decided = effects[effects["overall"].isin(DECIDED)]
    counts = ", ".join(f"{count} {verdict}" for verdict, count in decided["overall"].value_counts().items())
    return f"{len(decided)} of {plural(len(effects), 'effect')} decided: {counts}." if len(decided) else "Undecided."


def telling_first(effects: pd.DataFrame) -> list[Any]:
    """Orders the effects, by their index: those decided come first, of these the largest."""
    decided = effects["overall"].isin(DECIDED)
    order = pd.DataFrame({"decided": ~decided, "size": -effects["difference"].abs().astype(float)})
    return list(order.sort_values(["decided", "size"], kind="stable").index)


def others(left: pd.DataFrame) -> str:
    """Counts the effects that are not shown, by verdict."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in left["verdict"].value_counts().items())
    return f"and {len(left)} more: {counts}"


def detail(effect: pd.Series, metric: Metric) -> str:
    """Says what goes beside a difference: what would decide it, how often trials train, where it is an average."""
    said = []
    if effect["verdict"] == "undecided":
        alone = str(effect["sentence"]).removesuffix(str(effect["average"])).removesuffix(f"; {effect['trains']}")
        said.append(alone.partition(": ")[2])
    if effect["trains"]:
        counts = f"{effect['trained_counts'].replace(' of ', '/').replace('against', 'vs')}"
        said.append(f"{TRAINS[effect['trained_verdict']]} {counts}, p {p_text(effect['trained_p_holm'])}")
    if effect["simple_differ"]:
        times = "x " if metric.scale == "log" else ""
        ends = f"{times}{amounts.ends(metric, effect['simple_low'], effect['simple_high'], sign='+')}"
        said.append(f"an average of effects that differ with the other factors, {ends}")
    if 0 < effect["contexts_known"] < effect["contexts"]:
        of = "of their combinations" if effect["simple_differ"] else "combinations of the other factors"
        said.append(f"known in {effect['contexts_known']} of {effect['contexts']} {of}")
    return "; ".join(filter(None, said))


def cautions(findings: Findings) -> list[str]:
    """Returns the warnings that bear on what the brief report shows: not those of speeds, nor what a detail says."""
    elsewhere = {*findings.speed_cautions, *findings.effects["without_pairs"]}
    return [caution for caution in findings.cautions if caution not in elsewhere]


def notes(findings: Findings) -> str:
    """Explains the numbers that the brief report shows, and no others."""
    metric, effects, hypotheses = findings.plan.primary, findings.effects, findings.hypotheses
    found, families = [], []
    if len(effects):
        families.append(plural(len(effects), "effect"))
        over = sampled(metric, *findings.levels, findings.cells)
        both = ", where both trained" if (effects["trains"] != "").any() else ""
        half = "in parentheses: the 95 % interval" if metric.scale == "log" else "±: half the 95 % interval"
        found.append(f"{_difference(metric)}, paired{both}; {half} over {over}.")
    if len(hypotheses):
        families.append("1 hypothesis" if len(hypotheses) == 1 else f"{len(hypotheses)} hypotheses")
        found.append("In parentheses below a hypothesis: the 95 % interval.")
    if families:
        found.append(f"p: two-sided, by Holm over {' and over '.join(families)}; decided under 0.05.")
    if (effects["verdict"] == "equivalent").any():
        found.append(f"{amounts.capital(equivalent(metric))}.")
    if any("trains" in str(text) for text in (*effects["trains"], *hypotheses["short"])):
        found.append("trains: how many of all trials ended above chance on dev.")
    return " ".join(found)


def _difference(metric: Metric) -> str:
    if metric.scale == "log":
        return "ratio: to the baseline"
    unit = "points" if metric.unit == "%" else metric.unit
    return "difference: to the baseline" + (f", in {unit}" if unit else "")
