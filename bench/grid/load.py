"""The grid language: a YAML file in, a checked plan out. Free of torch.

:mod:`bench.grid.form` lists the keys of a grid, :mod:`bench.grid.factors` says what a factor may be and which cells a
``plan`` takes, :mod:`bench.grid.hypotheses` holds the grammar of hypotheses, :mod:`bench.grid.overrides` the options of
the command line. Beyond:

- A cell's settings are ``base``, then the levels of its factors (whole sections before single settings), then the
  candidate of each tuned setting.
- Without ``baseline``, the first level of each factor is the baseline; a plan other than ``full`` must name one.
- ``false`` or ``null`` as a factor's level is dropped in cells whose part has no such setting, provided other cells
  have it: a LeNet is its own network without shortcuts.
- ``include`` adds cells over ``base`` alone: the factors that an entry does not name have no level there.
- A grid's name is its ``name``, or else its path below the nearest folder ``grids``, joined by ``-``
  (``grids/full/batch_norm.yaml`` is ``full-batch_norm``), or else the file's stem.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from bench.grid.declarations import Sheet, read_sheet
from bench.grid.factors import Errors, Factor, num_combinations
from bench.grid.form import check_form
from bench.grid.hypotheses import Hypothesis, HypothesisError, directed
from bench.grid.metric_words import ResolvedMetrics, own_metrics, resolve_metrics
from bench.grid.metrics import TRAINED, Metric
from bench.grid.overrides import apply_overrides, without_items
from bench.grid.own_command import hands_seed
from bench.grid.plan import Asked, Cell, Excluded, Plan, Trial
from bench.grid.resolution import Resolved, Resolver, check_untouched, expand
from bench.grid.strict_yaml import Position, YamlError, dump, plain_mapping, read
from lab.settings import Problem, Settings, Value, suggest
from lab.visiting import visiting

__all__ = ["Cell", "Excluded", "Factor", "GridError", "Hypothesis", "Plan", "Trial", "load_plan"]

MAX_TRIALS = 100_000
MAKE_CELLS = {
    "run",
    "base",
    "factors",
    "plan",
    "baseline",
    "exclude",
    "include",
    "tune",
}  # the keys that cells come from


class GridError(ValueError):
    """The grid, or an option that changes it, breaks rules; ``messages`` holds every one, each with its position."""

    def __init__(self, messages: Sequence[str]) -> None:
        self.messages = list(messages)
        super().__init__("\n".join(messages))


@visiting()
def load_plan(path: Path, *, overrides: Sequence[str] = (), only: Sequence[str] = (), seeds: int | None = None) -> Plan:
    """Reads and checks the grid at ``path`` with ``--set``, ``--only`` and ``--seeds``; raises :class:`GridError`."""
    asked = Asked(path, tuple(overrides), tuple(only), seeds)
    errors: Errors = []
    warnings: list[str] = []
    plan = _plan(_sheet(asked, errors, warnings), errors, warnings, lenient=bool(overrides))
    if plan is None or errors:
        raise _grid_error(path, errors)
    return replace(plan, asked=asked)


def name_and_text(asked: Asked) -> tuple[str, str]:
    """Reads name and text of a grid's plan without a look at the parts that it names; raises :class:`GridError`."""
    errors: Errors = []
    sheet = _sheet(asked, errors, [])
    if errors:
        raise _grid_error(asked.grid, errors)
    _, _, idle = expand(sheet)
    return sheet.name, dump(without_items(sheet.root, "exclude", idle))


@visiting()
def place(asked: Asked, trial: Trial, problem: Problem) -> str:
    """Tells a problem with a trial's settings at the line of its grid that caused it."""
    sheet = _sheet(asked, [], [])
    drafts, _, _ = expand(sheet)
    draft = next(one for one in drafts if one.cell.label == trial.cell.label)
    candidates = [{change.path: change.value for change in one} for one in sheet.candidates]
    tuned = sheet.candidates[candidates.index(trial.tuned)] if trial.tuned in candidates else ()
    return _message(asked.grid, *Resolver(sheet, drafts, [], []).cause(problem, draft, tuned))


def _sheet(asked: Asked, errors: Errors, warnings: list[str]) -> Sheet:
    """Reads what the grid declares, the options applied; raises :class:`GridError` where it is no YAML."""
    path = asked.grid
    try:
        root = read(path)
    except OSError as error:
        raise GridError([f"{path}: {_unreadable(path, error)}"]) from None
    except YamlError as error:
        raise GridError([_message(path, error.at, error.message)]) from None
    if not check_form(root)[0]:
        root = apply_overrides(root, asked.overrides, asked.only, asked.seeds, errors, warnings)
    return read_sheet(root, _default_name(path), errors)


def _grid_error(path: Path, errors: Errors) -> GridError:
    return GridError(list(dict.fromkeys(_message(path, *error) for error in sorted(errors))))


def _message(path: Path, at: Position, rule: str) -> str:
    if at.source:
        setting = at.source.partition(" ")[2].partition("=")[0]
        return f"{at.source}: {rule.removeprefix(f'{setting}: ')}"
    return f"{path}:{at.line}:{at.column}: {rule}"


def _unreadable(path: Path, error: OSError) -> str:
    if not isinstance(error, FileNotFoundError | IsADirectoryError):
        return f"can't be read: {error.strerror}"
    folders = [path] if path.is_dir() else [path.parent, Path("grids")]
    known = next((found for folder in folders if (found := sorted(map(str, folder.glob("*.yaml"))))), [])
    if path.is_dir():
        return f"is a folder, a grid is a YAML file; in it there are {', '.join(known) or 'none'}"
    return f"no such file{suggest(path, known) if known else ''}"


def _default_name(path: Path) -> str:
    parts = path.absolute().with_suffix("").parts
    below = [index for index, part in enumerate(parts[:-1]) if part == "grids"]
    return "-".join(parts[below[-1] + 1 :]) if below else parts[-1]


def _plan(sheet: Sheet, errors: Errors, warnings: list[str], *, lenient: bool) -> Plan | None:
    """Makes the plan; None, with every cause in ``errors``, where something is wrong."""
    if sheet.broken & MAKE_CELLS:
        check_untouched(sheet, errors)
        return None
    if not _check_size(sheet, errors):
        return None
    drafts, excluded, idle = expand(sheet)
    _check_exclusions(sheet, bool(drafts), [] if lenient else idle, errors)
    resolved = Resolver(sheet, drafts, errors, warnings).resolve()
    root = without_items(sheet.root, "exclude", idle)
    measured = None if errors else _resolved_metrics(sheet, resolved, errors)
    if measured is None:
        return None
    measures = measured.measures | {TRAINED.name: TRAINED}
    hypotheses = _directed(sheet, measures, errors)
    kept = _merge(sheet, resolved, warnings)
    trials = [trial for one in kept for trial in _trials(sheet, one)]
    _check_apart(sheet, kept, trials, errors)
    if errors:
        return None
    cells = tuple(one.cell for one in kept)
    warnings += _doubts(sheet, cells)
    return Plan(
        name=sheet.name,
        question=sheet.question,
        factors=sheet.factors,
        cells=cells,
        trials=tuple(trials),
        baseline=sheet.baseline,
        hypotheses=hypotheses,
        excluded=tuple(excluded),
        warnings=tuple(dict.fromkeys(warnings)),
        kind=sheet.kind,
        run=sheet.run,
        seeds=sheet.seeds,
        tune={path: tuple(change.value for change in changes) for path, changes in sheet.tune.items()},
        tune_seeds=sheet.tune_seeds,
        pair=sheet.pair,
        untrained=sheet.untrained,
        metrics=measured.metrics,
        measures=measures,
        selecting=measured.selecting.name,
        document=plain_mapping(root),
        text=dump(root),
    )


def _check_exclusions(sheet: Sheet, leaves_cells: bool, idle: Sequence[int], errors: Errors) -> None:
    """Checks that exclusions leave something, and that each of them leaves something out."""
    if not leaves_cells:
        errors.append((sheet.exclude[-1].at, "every cell is excluded: nothing is left to run"))
    errors += [(sheet.exclude[index].at, f"exclude.{index}: matches no cell of the plan") for index in idle]


def _resolved_metrics(sheet: Sheet, resolved: Sequence[Resolved], errors: Errors) -> ResolvedMetrics | None:
    """Returns the metrics as the laboratory or own code declares them; None where they cannot be told."""
    if sheet.run is not None:
        measured = own_metrics(sheet.metrics, sheet.margin, sheet.at("run"), bool(sheet.tune), errors)
    else:
        settings = [one for cell in resolved for _, one in cell.experiments if isinstance(one, Settings)]
        measured = resolve_metrics(sheet.metrics, sheet.margin, settings, errors)
    primary = measured and measured.metrics[0].name
    if sheet.untrained == "chance" and primary not in (None, "test_accuracy"):
        rule = f"chance is known of test_accuracy alone; give the number that an untrained trial counts as in {primary}"
        errors.append((sheet.at("untrained"), f"untrained: {rule}"))
    return measured


def _directed(sheet: Sheet, measures: Mapping[str, Metric], errors: Errors) -> tuple[Hypothesis, ...]:
    """Looks up the metrics of hypotheses; what is none, or has no direction that ``beats`` needs, is wrong."""
    found = []
    nodes = sheet.root.mapping["hypotheses"].items if sheet.hypotheses else []
    for index, (hypothesis, node) in enumerate(zip(sheet.hypotheses, nodes, strict=True)):
        try:
            found.append(directed(hypothesis, measures))
        except HypothesisError as error:
            errors.append((node.at, f"hypotheses.{index}: {error}"))
    return tuple(found)


def _check_size(sheet: Sheet, errors: Errors) -> bool:
    num_cells = num_combinations(sheet.kind, sheet.factors) + len(sheet.include)
    num_candidates = math.prod(len(changes) for changes in sheet.tune.values())
    tuning = num_candidates * len(sheet.tune_seeds) if sheet.tune else 0
    total = num_cells * (tuning + max(1, len(sheet.seeds)))
    if total > MAX_TRIALS:
        tried = f"{num_candidates:,} candidates x "
        if sheet.tune:
            tried = f"({tried}{len(sheet.tune_seeds):,} tuning seeds + {len(sheet.seeds):,} seeds)"
        else:
            tried = f"{tried}{len(sheet.seeds):,} seeds"
        product = f"{num_cells:,} cells x {tried}"
        errors.append((sheet.at("factors"), f"{product} are {total:,} trials; a grid has at most {MAX_TRIALS:,}"))
    return total <= MAX_TRIALS


def _merge(sheet: Sheet, resolved: Sequence[Resolved], warnings: list[str]) -> list[Resolved]:
    """Keeps one cell of those that are the same experiment: the baseline, or else the first."""
    same: dict[tuple[str, ...], list[Resolved]] = {}
    for one in resolved:
        same.setdefault(tuple(settings.trial_id for _, settings in one.experiments), []).append(one)
    merged = []
    for group in same.values():
        kept = next((one for one in group if sheet.baseline.items() <= one.cell.levels.items()), group[0])
        merged.append(kept)
        if others := [f"`{one.cell.label}`" for one in group if one is not kept]:
            verb = "is" if len(others) == 1 else "are"
            warnings.append(
                f"{', '.join(others)} {verb} the same experiment as `{kept.cell.label}`: run once, shown as the latter"
            )
    return merged


def _trials(sheet: Sheet, one: Resolved) -> list[Trial]:
    """Makes the trials of a cell known before any result: all seeds, or those that choose among candidates."""
    seeds = sheet.tune_seeds if sheet.tune else sheet.seeds
    stage: Literal["tune", "final"] = "tune" if sheet.tune else "final"
    trials = []
    for tuned, settings in one.experiments:
        for seed in seeds:
            seeded = settings.with_seed(seed)
            trials.append(Trial(seeded.trial_id, sheet.name, one.cell, seed, seeded, tuned, stage))
    return trials


def _check_apart(sheet: Sheet, cells: Sequence[Resolved], trials: Sequence[Trial], errors: Errors) -> None:
    """Refuses two cells of one label, and a trial of two cells or candidates: tuning leaves apart what factors do."""
    for label, count in Counter(one.cell.label for one in cells).items():
        if count > 1:
            rule = f"`{label}` would be two cells with other settings; make it a level of a factor with its own label"
            errors.append((sheet.at("include"), f"include: {rule}"))
    owners: dict[str, Trial] = {}
    for trial in trials:
        owner = owners.setdefault(trial.trial_id, trial)
        if owner is not trial:
            one, other = (f"`{shared.cell.label}` with {_words(shared.tuned)}" for shared in (trial, owner))
            errors.append((sheet.at("tune"), f"tune: {one} is the same experiment as {other}"))
            return


def _words(tuned: Mapping[str, Value]) -> str:
    return " and ".join(f"{path}={json.dumps(value)}" for path, value in tuned.items())


def _doubts(sheet: Sheet, cells: Sequence[Cell]) -> list[str]:
    """Warns of what is allowed but may not be meant."""
    doubts = []
    paths = {path: factor.name for factor in sheet.factors for path in factor.paths if "." in path}
    for factor in sheet.factors:
        for change in (change for changes in factor.changes for change in changes):
            given = [path for path in paths if path.removeprefix(f"{change.path}.") in change.node.mapping]
            doubts += [f"{path} in the levels of {factor.name} gives way to the factor {paths[path]}" for path in given]
    if not any(sheet.baseline.items() <= cell.levels.items() for cell in cells):
        doubts.append("no cell has all the levels of the baseline")
    if sheet.run is not None and sheet.run.command and len(sheet.seeds) > 1 and not hands_seed(sheet.run):
        copies = f"the {len(sheet.seeds)} seeds of a cell are copies of one run"
        doubts.append(f"run.command has no place for {{seed}}: {copies}, unless the script reads BENCH_SEED")
    for hypothesis in sheet.hypotheses:
        if not hypothesis.strata({cell.label: cell.levels for cell in cells}):
            doubts.append(f"`{hypothesis.text}` can't be judged: no cells of the plan differ in just that")
    return doubts
