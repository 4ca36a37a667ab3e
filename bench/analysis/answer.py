"""The answer to a grid's question, in sentences from the tables of hypotheses and effects."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.analysis.verdicts import p_both

RULINGS = {
    "supported": "Supported",
    "refuted": "Refuted",
    "undecided": "Undecided",
    "below_margin": "True, but smaller than the margin",
}


def answer(hypotheses: pd.DataFrame, effects: pd.DataFrame) -> str:
    """The answer to the question: each hypothesis with its ruling; without any, the verdicts on the effects."""
    if len(hypotheses):
        rows = hypotheses[["ruling", "hypothesis", "evidence"]].itertuples(index=False)
        return " ".join(f"{RULINGS[str(ruling)]}: {text} ({evidence})." for ruling, text, evidence in rows)
    if not len(effects):
        return "Nothing is compared: no level has a partner at the baseline."
    if (effects["overall"] == "equivalent").all():
        return f"No level matters: all {len(effects)} are equivalent to the baseline within the grid's margin."
    decided = effects[effects["overall"].isin(["better", "worse"])]
    return _decided(decided, len(effects)) if len(decided) else _undecided(effects)


def _decided(effects: pd.DataFrame, total: int) -> str:
    """What was decided. Told because of their results, the intervals are wider: ``picked_level`` of them holds."""
    said = " ".join(f"{_decision(row)}." for _, row in effects.iterrows())
    return said if len(effects) == total else f"{said} Of {total} effects, {len(effects)} decided."


def _decision(row: pd.Series) -> str:
    """The difference where both trained, and how often they train where that differs."""
    if row["verdict"] not in ("better", "worse"):
        return f"{_what(row)} {row['trains']}"
    low, high = sorted(abs(100 * row[f"picked_{end}"]) for end in ("low", "high"))
    said = f"{_what(row)} is {row['verdict']} than {row['against']} by {100 * abs(row['difference']):.1f} points"
    said += f" of test accuracy{' where both trained' if row['trains'] else ''} ({row['picked_level']:.4g} % interval "
    said += f"{low:.1f} to {high:.1f}, {p_both(row['p'], row['p_holm'])})"
    said += f"; it {row['trains']}" if row["trains"] else ""
    return said + str(row["average"])


def _undecided(effects: pd.DataFrame) -> str:
    if effects["difference"].isna().all():
        trains = [f"{_what(row)} {row['trains']}" for _, row in effects.iterrows() if row["trains"]]
        seen = f" {'; '.join(trains)}." if trains else ""
        return f"Undecided: no seed has a result on both sides of any comparison yet.{seen}"
    row = effects.iloc[int(np.nanargmax(effects["difference"].abs().to_numpy(float)))]
    rest = str(row["sentence"]).removeprefix("undecided: ")
    return f"Undecided: the largest difference is {_what(row)}, {100 * row['difference']:+.1f} points; {rest}."


def _what(row: pd.Series) -> str:
    return f"{row['factor']}={row['level']}"
