"""``plan.json``: a plan as plain data, all that a report needs without importing the modules that the grid names.

It stands beside ``grid.yaml`` and holds a digest of it: where somebody changed that file since, or where a folder is of
an earlier version, the plan is read from ``grid.yaml`` itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.grid.factors import Factor
from bench.grid.hypotheses import Hypothesis, Term
from bench.grid.load import load_plan
from bench.grid.metrics import Metric
from bench.grid.own import OwnSettings, Run
from bench.grid.plan import Asked, Cell, Excluded, Plan, Trial, TrialSettings
from lab.recorded import RecordedSettings, plain_settings

GRID, PLAN = "grid.yaml", "plan.json"
VERSION = 1


def plan_json(plan: Plan) -> str:
    """Returns the plan as text; :func:`read_plan` gives the same plan but for what only making trials needs."""
    whole = {
        "version": VERSION,
        "grid": _digest(plan.text),
        **{name: getattr(plan, name) for name in ("name", "question", "kind", "seeds", "tune_seeds", "warnings")},
        **{name: getattr(plan, name) for name in ("baseline", "tune", "selecting", "pair", "untrained")},
        "factors": [{"name": factor.name, "levels": factor.levels} for factor in plan.factors],
        "cells": [asdict(cell) for cell in plan.cells],
        "excluded": [asdict(excluded) for excluded in plan.excluded],
        "hypotheses": [asdict(hypothesis) for hypothesis in plan.hypotheses],
        "metrics": [metric.name for metric in plan.metrics],
        "measures": [asdict(metric) for metric in plan.measures.values()],
        "experiments": _experiments(plan),
        "run": plan.run and plan.run.plain(),
    }
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")) + "\n"


def read_plan(folder: Path) -> Plan:
    """Reads the plan of a results folder; raises GridError where it has to be read from ``grid.yaml`` and cannot."""
    return kept_plan(folder) or load_plan(folder / GRID)


def kept_plan(folder: Path) -> Plan | None:
    """Returns the plan that ``plan.json`` holds; None where that is not there, not readable, or of another grid."""
    grid = folder / GRID
    try:
        raw = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        text = grid.read_text(encoding="utf-8")
        if raw["version"] == VERSION and raw["grid"] == _digest(text):
            return replace(_restored(raw, text), asked=Asked(grid))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass  # it is made from grid.yaml, which says what is wrong with itself
    return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _experiments(plan: Plan) -> list[dict[str, Any]]:
    """Returns the trials that share all but their seed, as one."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for trial in plan.trials:
        key = trial.cell.label, repr(trial.tuned), trial.stage
        if key not in found:
            found[key] = {
                "cell": trial.cell.label,
                "tuned": trial.tuned,
                "stage": trial.stage,
                "settings": plain_settings(trial.lab) if plan.run is None else trial.settings.model_dump(),
                "trials": {},
            }
        found[key]["trials"][str(trial.seed)] = trial.trial_id
    return list(found.values())


def _restored(raw: Mapping[str, Any], text: str) -> Plan:
    cells = tuple(Cell(**cell) for cell in raw["cells"])
    measures = {one["name"]: _metric(one) for one in raw["measures"]}
    return Plan(
        name=raw["name"],
        question=raw["question"],
        factors=tuple(Factor(factor["name"], tuple(factor["levels"])) for factor in raw["factors"]),
        cells=cells,
        trials=_trials(raw, {cell.label: cell for cell in cells}),
        baseline=raw["baseline"],
        hypotheses=tuple(_hypothesis(one) for one in raw["hypotheses"]),
        excluded=tuple(Excluded(Cell(**one["cell"]), one["because"]) for one in raw["excluded"]),
        warnings=tuple(raw["warnings"]),
        kind=raw["kind"],
        seeds=tuple(raw["seeds"]),
        tune={name: tuple(candidates) for name, candidates in raw["tune"].items()},
        tune_seeds=tuple(raw["tune_seeds"]),
        metrics=tuple(measures[name] for name in raw["metrics"]),
        measures=measures,
        selecting=raw["selecting"],
        pair=raw["pair"],
        untrained=raw["untrained"],
        run=_run(raw),
        text=text,
    )


def _settings(raw: Mapping[str, Any], run: Run | None) -> TrialSettings:
    if run is None:
        return RecordedSettings.restored(raw, 0)
    return OwnSettings({name: members for name, members in raw.items() if name != "seed"}, run)


def _trials(raw: Mapping[str, Any], cells: Mapping[str, Cell]) -> tuple[Trial, ...]:
    found, run = [], _run(raw)
    for one in raw["experiments"]:
        settings = _settings(one["settings"], run)
        for seed, trial_id in one["trials"].items():
            seeded, cell = settings.with_seed(int(seed)), cells[one["cell"]]
            found.append(Trial(trial_id, raw["name"], cell, int(seed), seeded, one["tuned"], one["stage"]))
    return tuple(found)


def _run(raw: Mapping[str, Any]) -> Run | None:
    kept = raw.get("run")  # folders of earlier versions have none
    return Run.restored(kept) if kept else None


def _metric(raw: Mapping[str, Any]) -> Metric:
    return Metric(**{**raw, "range": tuple(raw["range"])})


def _hypothesis(raw: Mapping[str, Any]) -> Hypothesis:
    return Hypothesis(**{**raw, "terms": tuple(Term(**term) for term in raw["terms"])})
