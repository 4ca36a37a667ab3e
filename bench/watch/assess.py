"""What a plan asks for and what its record says: worked out in a process of its own, which imports no user code.

The server holds neither plans nor data frames, so that its memory does not grow with them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.grid.metrics import Metric

if TYPE_CHECKING:
    from bench.analysis.findings import Findings
    from bench.grid.plan import Plan

MOST_ROWS = 60  # of a table on the live page; the report has all


@dataclass(frozen=True)
class Outline:
    """What the live page has to know of a plan: the cell of each trial, by its id; ``compared`` answer the question."""

    question: str
    metric: Metric
    watched: Metric
    cells: tuple[str, ...]
    planned: int
    trials: dict[str, str] = field(hash=False)
    compared: frozenset[str]
    per_cell: dict[str, int] = field(hash=False)
    tunes: bool = False
    unit: str = "epochs"  # of a curve's positions


class AssessError(Exception):
    """A grid cannot be shown; the message says why."""


def be_humble() -> None:
    """Lets training go first, in the process that does this."""
    os.nice(10)


def outline(folder: Path) -> Outline:
    """Reads the plan of a results folder; raises :class:`AssessError` or GridError where it cannot be read."""
    from collections import Counter

    from bench.analysis.summaries import position, watched
    from bench.record.records import Records, ended

    plan = _plan(folder)
    scores = ended(Records(folder, plan.selecting).outcomes()) if plan.tune else {}
    known = plan.all_trials(scores)
    undecided = len(plan.cells) - len(plan.winners(scores)) if plan.tune else 0
    per_cell = Counter(trial.cell.label for trial in known if trial.stage == "final")
    return Outline(
        question=plan.question,
        metric=plan.primary,
        watched=watched(plan),
        cells=tuple(cell.label for cell in plan.cells),
        planned=len(known) + undecided * len(set(plan.seeds) - set(plan.tune_seeds)),
        trials={trial.trial_id: trial.cell.label for trial in known},
        compared=frozenset(trial.trial_id for trial in known if trial.stage == "final"),
        per_cell=dict(per_cell),
        tunes=bool(plan.tune),
        unit=f"{position(plan)}s",
    )


def _plan(folder: Path) -> Plan:
    """Reads ``plan.json``, or else ``grid.yaml`` where that names no code."""
    import yaml

    from bench.grid.load import load_plan
    from bench.record.plan_file import GRID, kept_plan
    from lab.imports import import_paths

    check_links(folder)
    if (plan := kept_plan(folder)) is not None:
        return plan
    grid = folder / GRID
    if not grid.is_file():
        raise AssessError(f"{folder.name} has no {GRID} yet")
    try:
        named = list(import_paths(yaml.safe_load(grid.read_text(encoding="utf-8"))))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AssessError(f"{GRID} must be YAML in UTF-8: {error}") from error
    if named:
        raise AssessError(f"plan.json is not of this {GRID}, which names code ({named[0]}): `bench report` writes it")
    return load_plan(grid)


def check_links(folder: Path) -> None:
    """Raises :class:`AssessError` where a file of the folder leads out of the folder of all results."""
    results = folder.parent.resolve()
    for path in (folder, *folder.glob("*"), *folder.glob("examples/*")):
        if path.is_symlink() and not path.resolve().is_relative_to(results):
            raise AssessError(f"{path.relative_to(folder.parent)} leads out of the results folder: it is not read")


def sections(folder: Path) -> dict[str, str]:
    """Makes the HTML of answer, verdicts and tables as the report has them, each table with its first rows."""
    from bench.analysis.findings import gather

    findings = gather(folder, _plan(folder), sources=False)
    return _rendered(findings)


def _rendered(findings: Findings) -> dict[str, str]:
    from bench.analysis import amounts
    from bench.report.page import templates
    from bench.report.wording import effects_text, show

    parts = templates().get_template("findings.html").module
    primary = findings.plan.primary
    secondary = [
        (amounts.spoken(one.metric), effects_text(one.effects, one.metric))
        for one in findings.secondary
        if len(one.effects)
    ]
    effects = effects_text(findings.effects, primary)
    return {
        "answer": str(parts.answer(findings)),  # type: ignore[attr-defined]  # a macro
        "verdicts": str(parts.verdicts(amounts.spoken(primary), effects, secondary, MOST_ROWS)),  # type: ignore[attr-defined]
        "tables": str(parts.others(findings, show(findings), MOST_ROWS)),  # type: ignore[attr-defined]
    }
