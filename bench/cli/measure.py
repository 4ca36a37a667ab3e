"""``bench time`` and ``bench verify``: measures models alone, and runs recorded trials again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.cli.options import (
    CommandError,
    DataDir,
    Device,
    Grids,
    Only,
    Overrides,
    Results,
    doing,
    program,
    terminal,
)
from bench.execute.progress import duration
from bench.grid.load import Plan, load_plan
from bench.record.asked import check_folders, command


def time(
    grids: Grids,
    overrides: Overrides = [],  # noqa: B006  # typer copies it
    only: Only = [],  # noqa: B006  # typer copies it
    device: Device = "auto",
    results: Results = Path("results"),
    data_dir: DataDir = None,
    force: Annotated[bool, typer.Option("--force", help="Time again what has been timed.")] = False,
) -> None:
    """Time each distinct model, batch size and precision alone on the device; write timings.csv."""
    plans = [load_plan(grid, overrides=overrides, only=only) for grid in grids]
    check_folders(plans, results)
    console = terminal()
    for plan in plans:
        time_plan(plan, results / plan.name, device, data_dir, force, console)
        console.print(f"{plan.name}: timed; recorded in {results / plan.name / 'timings.csv'}", soft_wrap=True)


def verify(
    grid: Annotated[Path, typer.Argument(metavar="GRID", help="Grid file.", show_default=False)],
    sample: Annotated[int, typer.Option(metavar="N", min=1, help="How many trials to run again.")] = 5,
    seed: Annotated[int, typer.Option(metavar="N", help="Which ones: the seed of the random choice.")] = 0,
    device: Device = "auto",
    results: Results = Path("results"),
    data_dir: DataDir = None,
) -> None:
    """Rerun a sample of recorded trials and compare: bit for bit here, within the spread of the seeds elsewhere."""
    from bench.execute import verify as verification

    plan = load_plan(grid)
    check_folders([plan], results)
    try:
        folder = results / plan.name
        checks = verification.verify(plan, folder, sample=sample, seed=seed, device=device, data_dir=data_dir)
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from error
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("trial", "cell", "seed", "recorded", "again", "rule", ""):
        table.add_column(name)
    for check in checks:
        again = "failed" if check.again is None else f"{check.again:.4f}"
        told = Text("agrees", style="green") if check.agrees else Text("differs", style="red")
        trial = check.trial
        words = (trial.trial_id, trial.cell.label, str(trial.seed), f"{check.recorded:.4f}", again, check.rule)
        table.add_row(*words, told)
    terminal().print(table)
    raise typer.Exit(0 if all(check.agrees for check in checks) else 1)


def time_plan(
    plan: Plan,
    folder: Path,
    device: str,
    data_dir: Path | None,
    force: bool,
    console: Console,
    seconds: float | None = None,
    *,
    quiet: bool = False,
) -> None:
    """Times what is not timed, in at most so many ``seconds``, and says what it does, unless it is to be ``quiet``."""
    from bench.execute.timing import time_models, untimed

    wanted = untimed(plan, folder, force=force)
    if not wanted:
        return
    most = "" if seconds is None else f", for at most {duration(seconds)}, as long as training took"
    what = f"timing {_models(len(wanted))}, each alone on the device{most}"
    if not quiet and not console.is_terminal:
        console.print(f"{plan.name}: {what}")
    try:
        with doing(console, plan.name) as say:
            say(what)
            rows = time_models(wanted, folder, device=device, data_dir=data_dir, seconds=seconds)
    except (ValueError, OSError) as error:
        raise CommandError(f"{plan.name}: cannot be timed: {error}") from error
    if len(rows) < len(wanted) and not quiet:
        how = command("time", replace(plan.asked, seeds=None), [folder.parent], program())
        left = f"{plan.name}: {_models(len(wanted) - len(rows))} not timed in that time; to time all: {how}"
        console.print(Text(left), soft_wrap=True)
    unreliable = sum(not row["reliable"] for row in rows)
    if unreliable:
        drifted = f"warning: {unreliable} of them not reliable: the machine's speed drifted meanwhile"
        console.print(Text(drifted, style="yellow"))


def _models(count: int) -> str:
    return "1 model" if count == 1 else f"{count} models"
