"""The answer to a grid's question, in sentences from the tables of hypotheses and effects."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.analysis import amounts
from bench.analysis.verdicts import DECIDED, p_both
from bench.grid.metrics import Metric

RULINGS = {
    "supported": "Supported",
    "refuted": "Refuted",
    "undecided": "Undecided",
    "below_margin": "True, but smaller than the margin",
}


def answer(metric: Metric, hypotheses: pd.DataFrame, effects: pd.DataFrame) -> str:
    """Answers the question: each hypothesis with its verdict; without any, the verdicts on the effects."""
    if len(hypotheses):
        rows = hypotheses[["ruling", "hypothesis", "evidence"]].itertuples(index=False)
        return " ".join(f"{RULINGS[str(ruling)]}: {text} ({evidence})." for ruling, text, evidence in rows)
    if not len(effects):
        return "Nothing is compared: no level has a partner at the baseline."
    if (effects["overall"] == "equivalent").all():
        who = "the other one is" if len(effects) == 1 else f"all {len(effects)} are"
        return f"No level matters: {who} equivalent to the baseline within the grid's margin."
    decided = effects[effects["overall"].isin(DECIDED)]
    return _decided(metric, decided, len(effects)) if len(decided) else _undecided(metric, effects)


def _decided(metric: Metric, effects: pd.DataFrame, total: int) -> str:
    """Says what was decided. Told because of their results, the intervals are wider: ``picked_level`` of them holds."""
    said = " ".join(f"{_decision(metric, row)}." for _, row in effects.iterrows())
    return said if len(effects) == total else f"{said} Of {total} effects, {len(effects)} decided."


def _decision(metric: Metric, row: pd.Series) -> str:
    """Returns the difference where both trained, and how often they train where that differs."""
    if row["verdict"] not in DECIDED:
        return f"{_what(row)} {row['trains']}"
    said = f"{_what(row)} is {row['verdict']} than {row['against']} {_by(metric, row)}"
    said += f"{' where both trained' if row['trains'] else ''} ({row['picked_level']:.4g} % interval "
    said += f"{_interval(metric, row)}, {p_both(row['p'], row['p_holm'])})"
    said += f"; it {row['trains']}" if row["trains"] else ""
    return said + str(row["average"])


def _by(metric: Metric, row: pd.Series) -> str:
    """Returns ``by 1.2 points of test accuracy``; on a log scale ``in test rmse, x 0.93``."""
    amount = amounts.size(metric, row["difference"], amounts.digits_of(metric))
    if metric.scale == "log":
        return f"in {amounts.spoken(metric)}, {amount}"
    return f"by {amount} of {amounts.spoken(metric)}{amounts.perplexity(metric, row['difference'])}"


def _interval(metric: Metric, row: pd.Series) -> str:
    """Returns the interval of the size, whatever the direction; on a log scale of the ratio."""
    low, high = float(row["picked_low"]), float(row["picked_high"])
    if metric.scale == "linear" and row["difference"] < 0:
        low, high = -high, -low
    return amounts.ends(metric, low, high, amounts.digits_of(metric))


def _undecided(metric: Metric, effects: pd.DataFrame) -> str:
    if effects["difference"].isna().all():
        trains = [f"{_what(row)} {row['trains']}" for _, row in effects.iterrows() if row["trains"]]
        seen = f" {'; '.join(trains)}." if trains else ""
        return f"Undecided: no seed has a result on both sides of any comparison yet.{seen}"
    row = effects.iloc[int(np.nanargmax(effects["difference"].abs().to_numpy(float)))]
    rest = str(row["sentence"]).removeprefix("undecided: ")
    most = amounts.signed(metric, row["difference"], amounts.digits_of(metric))
    return f"Undecided: the largest difference is {_what(row)}, {most}; {rest}."


def _what(row: pd.Series) -> str:
    return f"{row['factor']}={row['level']}"
