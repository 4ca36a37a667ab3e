"""The overview of several grids: what each asks and answers, and where its report is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from rich.console import Console
from rich.text import Text

from bench.analysis.findings import Findings
from bench.report.escapes import markdown
from bench.report.page import templates
from bench.report.wording import plural


def overview(findings: Sequence[Findings], target: Path) -> pd.DataFrame:
    """Makes a row per grid: question, answer, counts of verdicts, coverage, and its page as seen from ``target``."""
    return pd.DataFrame(
        [
            {
                "grid": item.plan.name,
                "question": item.plan.question,
                "answer": item.answer,
                "verdicts": verdicts(item),
                "coverage": item.coverage,
                "page": quote(Path(os.path.relpath(item.target, target)).as_posix()) + "/index.html",
            }
            for item in findings
        ]
    )


def verdicts(findings: Findings) -> str:
    """Returns ``3 effects: 2 worse, 1 undecided; 1 hypothesis: 1 supported``."""
    effects, rulings = findings.effects["verdict"], findings.hypotheses["ruling"]
    parts = [plural(len(effects), "effect") + _counts(effects)]
    if len(rulings):
        parts.append(("1 hypothesis" if len(rulings) == 1 else f"{len(rulings)} hypotheses") + _counts(rulings))
    return "; ".join(parts)


def _counts(words: pd.Series) -> str:
    counts = words.value_counts(sort=False)
    return ": " + ", ".join(f"{count} {word}" for word, count in counts.items()) if len(counts) else ""


def print_overview(console: Console, rows: pd.DataFrame) -> None:
    """Prints each grid's name, answer, verdicts and coverage."""
    console.print(Text(f"\n{len(rows)} grids", style="bold"))
    for row in rows.itertuples():
        console.print(Text(f"\n{row.grid}: {row.question}", style="bold"))
        console.print(Text(str(row.answer), style="green"))
        console.print(Text(f"{row.verdicts}\n{row.coverage}", style="dim"))


def overview_page(rows: pd.DataFrame) -> str:
    """Makes the HTML of the overview, its style within."""
    return templates().get_template("overview.html").render(rows=rows.to_dict("records"))


def write_overview(rows: pd.DataFrame, target: Path) -> Path:
    """Writes ``index.html`` and ``report.md`` to ``target``; returns the former."""
    target.mkdir(parents=True, exist_ok=True)
    page = target / "index.html"
    page.write_text(overview_page(rows), encoding="utf-8")
    lines = ["| grid | question | answer | verdicts | coverage |", "| --- | --- | --- | --- | --- |"]
    for row in rows.itertuples():
        link = str(row.page).removesuffix("index.html") + "report.md"
        words = (row.question, row.answer, row.verdicts, row.coverage)
        lines.append(f"| [{markdown(str(row.grid))}]({link}) | {' | '.join(markdown(str(word)) for word in words)} |")
    (target / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return page
