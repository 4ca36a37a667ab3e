"""Keeps which grid a results folder holds, and how it was last asked for.

``grid.yaml`` is the grid as it was last asked for, options applied; ``asked.json`` holds the path of its file, relative
to the folder, and the options. Folders of earlier versions have no ``asked.json``: any grid of their name is taken for
theirs.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.grid.load import GridError, load_plan, name_and_text
from bench.grid.plan import Asked, Plan
from bench.record.plan_file import GRID, PLAN, plan_json, read_plan
from bench.record.records import Records
from bench.record.table import RecordError, lock_of, replace_file

ASKED = "asked.json"


def read_asked(folder: Path) -> Asked | None:
    """Reads how the folder's grid was last asked for, its path absolute; None where that is not kept."""
    path = folder / ASKED
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        grid = Path(os.path.normpath(folder.resolve() / kept["grid"]))
        return Asked(grid, tuple(kept["set"]), tuple(kept["only"]), kept["seeds"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecordError(f"{path}: must be as `run` writes it, it can be removed: {error!r}") from error


def plan_of(asked: Asked, results: Sequence[Path]) -> Plan:
    """Makes the plan of a grid; where a folder holds just that, without a look at the modules that it names."""
    name, text = name_and_text(asked)
    for folder in (one / name for one in results):
        if is_kept(text, folder):
            return replace(read_plan(folder), asked=asked)
    return load_plan(asked.grid, overrides=asked.overrides, only=asked.only, seeds=asked.seeds)


def is_kept(text: str, folder: Path) -> bool:
    """Tells whether this is the grid that the folder was last asked for."""
    grid = folder / GRID
    return grid.exists() and grid.read_text(encoding="utf-8", errors="replace") == text


def last_plan(folder: Path) -> Plan:
    """Returns the plan of ``grid.yaml``, ``asked`` as :func:`last_asked` says."""
    return replace(read_plan(folder), asked=last_asked(folder))


def last_asked(folder: Path) -> Asked:
    """Finds what gives the plan of ``grid.yaml``: the last run's grid and options, or itself where that has changed."""
    asked = read_asked(folder)
    own = Asked(folder / GRID, seeds=None if asked is None else asked.seeds)
    if asked is None:
        return own
    try:
        same = is_kept(name_and_text(asked)[1], folder)
    except GridError:
        same = False
    return replace(asked, grid=display_path(asked.grid)) if same else own


def check_folder(plan: Plan, folder: Path) -> None:
    """Raises :class:`RecordError` where the folder holds another grid: of another path, and with no trial in common."""
    asked = read_asked(folder)
    grid = plan.asked.grid.resolve()
    if asked is None or grid in (asked.grid.resolve(), (folder / GRID).resolve()) or _share(plan, folder):
        return
    raise RecordError(other_grid_message(folder, asked.grid, plan.asked.grid))


def check_folders(plans: Sequence[Plan], results: Path) -> None:
    """:func:`check_folder` for each plan, and among them."""
    known: dict[str, Plan] = {}
    for plan in plans:
        folder, other = results / plan.name, known.setdefault(plan.name, plan)
        check_folder(plan, folder)
        paths = {one.asked.grid.resolve() for one in (plan, other)}
        if len(paths) > 1 and not _experiments(plan) & _experiments(other):
            raise RecordError(other_grid_message(folder, other.asked.grid, plan.asked.grid))


def other_grid_message(folder: Path, holder: Path, grid: Path) -> str:
    """Says why a grid may not use a folder."""
    return (
        f"{folder} is the folder of {display_path(holder)}, which has no trial in common with {grid}: "
        f"give one of them a `name:` of its own, or other results (--results)"
    )


def keep(plan: Plan, folder: Path) -> None:
    """Writes how the plan is asked for, where it is not kept so; raises :class:`RecordError` or OSError."""
    texts = {folder / GRID: plan.text, folder / PLAN: plan_json(plan)}
    if (asked := _asked(plan, folder)) is not None:
        texts[folder / ASKED] = _json(asked, folder)
    if all(
        path.exists() and path.read_text(encoding="utf-8", errors="replace") == text for path, text in texts.items()
    ):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with lock_of(folder / GRID):
        check_folder(plan, folder)
        for path, text in texts.items():
            replace_file(path, text.encode())


def _asked(plan: Plan, folder: Path) -> Asked | None:
    """Returns how the plan is asked for; the folder's own copy stands for the grid that it was made from."""
    now = plan.asked
    if now.grid.resolve() != (folder / GRID).resolve():
        return now
    if (before := read_asked(folder)) is None:
        return None
    seeds = before.seeds if now.seeds is None else now.seeds
    return Asked(before.grid, before.overrides + now.overrides, before.only + now.only, seeds)


def _json(asked: Asked, folder: Path) -> str:
    grid = os.path.relpath(asked.grid.resolve(), folder.resolve())
    kept = {"grid": grid, "set": asked.overrides, "only": asked.only, "seeds": asked.seeds}
    return json.dumps(kept, indent=2, ensure_ascii=False) + "\n"


def _share(plan: Plan, folder: Path) -> bool:
    """Tells whether the folder records, or was asked for, a trial of the plan, whatever its seed."""
    if records_some(plan, folder):
        return True
    try:
        return bool(_experiments(plan) & _experiments(read_plan(folder)))
    except GridError:
        return False


def records_some(plan: Plan, folder: Path) -> bool:
    """Tells whether the folder records a trial of the plan, whatever its seed."""
    rows = Records(folder).trials.rows()
    recorded = {row["trial_id"] for row in rows}
    seeds = {int(row["seed"]) for row in rows if row.get("seed", "").isdecimal()}
    return any(trial.of_seed(seed).trial_id in recorded for trial in plan.experiments for seed in seeds)


def holders(plan: Plan, results: Path) -> list[Path]:
    """Finds the folders of other names that record trials of the plan, as where its file was renamed."""
    found = sorted(path.parent for path in results.glob("*/trials.csv") if path.parent.name != plan.name)
    return [folder for folder in found if records_some(plan, folder)]


def _experiments(plan: Plan) -> set[str]:
    return {trial.of_seed(0).trial_id for trial in plan.experiments}


def display_path(path: Path) -> Path:
    """Returns the path as one types it here: relative where it lies below the working folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def command(
    verb: str, asked: Asked, results: Sequence[Path] = (Path("results"),), program: str = "python -m bench"
) -> str:
    """Returns what to type for ``run`` or ``report`` of a grid with the options that it was asked for with."""
    words = [verb, str(asked.grid), *asked.options]
    if list(results) != [Path("results")]:
        words += [word for folder in results for word in ("--results", str(folder))]
    return f"{program} {shlex.join(words)}"
