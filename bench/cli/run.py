"""``bench run``: trains what is missing, or shows the plan."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from bench.cli.measure import time_plan
from bench.cli.options import (
    DataDir,
    Device,
    Grids,
    Only,
    Overrides,
    Refused,
    Results,
    Seeds,
    Unrecorded,
    python,
    seconds,
)
from bench.grid.load import Plan, load_plan
from bench.record.asked import check_folders, command

if TYPE_CHECKING:
    pass


def run(
    grids: Grids,
    overrides: Overrides = [],  # noqa: B006  # typer copies it
    only: Only = [],  # noqa: B006
    seeds: Seeds = None,
    jobs: Annotated[
        int | None,
        typer.Option("-j", "--jobs", metavar="N", min=1, help="Trials at once; default: one a GPU, or one a CPU core."),
    ] = None,
    device: Device = "auto",
    executor: Annotated[str, typer.Option(metavar="NAME", help="local (worker processes), inline or ray.")] = "local",
    results: Results = Path("results"),
    data_dir: DataDir = None,
    timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Longest time of a trial: 90s, 10m, 2h.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run recorded trials anew.")] = False,
    retry: Annotated[bool, typer.Option(help="Run again what is recorded as failed.")] = True,
    attempts: Annotated[
        int, typer.Option("--attempts", metavar="N", min=1, help="Leave alone what has failed so often.")
    ] = 3,
    stale: Annotated[bool, typer.Option("--stale", help="Run anew what other source code finished.")] = False,
    checkpoint: Annotated[str, typer.Option(metavar="TIME", help="Time between two checkpoints of a trial.")] = "10s",
    keep: Annotated[str, typer.Option(metavar="WHAT", help="Checkpoints of ended trials: best, all or none.")] = "best",
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first trial that fails.")] = False,
    trial: Annotated[str | None, typer.Option(metavar="ID", help="Run this trial only.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and train nothing.")] = False,
    price: Annotated[
        bool, typer.Option("--price", help="With --dry-run: one real step of each cell, for time, memory and errors.")
    ] = False,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Start no trial that is not expected to end in it: 30m, 2h.")
    ] = None,
    no_time: Annotated[bool, typer.Option("--no-time", help="Skip the timing of each model afterwards.")] = False,
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Ray cluster: auto on one of its nodes, or HOST:PORT.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="PLACE", help="With ray: checkpoints, in a shared folder or s3://, gs://, ...")
    ] = None,
    cpus_per_trial: Annotated[
        float | None, typer.Option(metavar="N", min=0.01, help="With ray: cores a trial, and its threads; default: 1.")
    ] = None,
    gpus_per_trial: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="With ray: 0.25 puts four trials on a GPU; default: 1.")
    ] = None,
) -> None:
    """Train every trial of the grids that is not recorded yet."""
    from bench.execute import run as runs

    if executor not in runs.EXECUTORS:
        raise Refused(f"--executor must be one of {', '.join(runs.EXECUTORS)}, got {executor!r}")
    cluster = {
        "--address": address,
        "--storage": storage,
        "--cpus-per-trial": cpus_per_trial,
        "--gpus-per-trial": gpus_per_trial,
    }
    if executor != "ray" and (given := [name for name, value in cluster.items() if value is not None]):
        raise Refused(f"{given[0]} goes with --executor ray, got --executor {executor}")
    if executor == "ray" and address is None:
        raise Refused(
            "--executor ray needs --address: auto on a node of a cluster, or HOST:PORT; `ray start --head` starts one"
        )
    if storage is not None and "://" not in storage:
        storage = str(Path(storage).resolve())
    if keep not in ("best", "all", "none"):
        raise Refused(f"--keep must be best, all or none, got {keep!r}")
    limit = None if timeout is None else seconds("--timeout", timeout)
    every = seconds("--checkpoint", checkpoint)
    options = runs.Options(
        results,
        data_dir,
        device,
        jobs,
        executor,
        limit,
        force,
        retry,
        every,
        keep,
        fail_fast,
        trial,
        budget=None if budget is None else seconds("--budget", budget),
        stale=stale,
        attempts=attempts,
        address=address,
        storage=storage,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
    )
    if price and not dry_run:
        raise Refused("--price goes with --dry-run, which shows the plan and its price")
    plans = [load_plan(grid, overrides=overrides, only=only, seeds=seeds) for grid in grids]
    check_folders(plans, results)
    known = {known.trial_id for plan in plans for known in runs.known_trials(plan, options)}
    if trial is not None and trial not in known:
        raise Refused(f"--trial: no trial {trial!r} in {', '.join(str(grid) for grid in grids)}")
    if not dry_run and (to_run := [trial for plan in plans for trial in runs.missing(plan, options)]):
        runs.warm_up(to_run, options)
    console = Console(highlight=False)
    codes = [
        _show_plan(plan, options, price, console) if dry_run else _run_one(plan, grid, options, not no_time, console)
        for plan, grid in zip(plans, grids, strict=True)
    ]
    raise typer.Exit(130 if 130 in codes else max(codes))


def _run_one(plan: Plan, grid: Path, options: Any, timed: bool, console: Console) -> int:
    from bench.execute import run as runs
    from bench.execute.price import Look, look_at_models
    from bench.execute.progress import Progress, duration
    from bench.record.records import Records
    from bench.record.staleness import find_stale

    look = Look([])
    if runs.missing(plan, options):
        try:
            look = look_at_models(plan, options.driver_device, options.data_dir, options.timeout)
        except ValueError as error:
            raise Refused(str(error)) from error
    warnings = [*plan.warnings, *look.warnings]
    if options.executor == "ray" and options.storage is None:
        warnings.append("without --storage a trial that is cut off starts anew, and no weights are kept")
    for warning in warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)
    again = [python(), "-m", "bench", "run", str(grid), *_given_again()]
    folder = options.results / plan.name
    torn = _torn(folder)
    try:
        summary = runs.run(plan, options, Progress(console, again), look.macs)
    except ValueError as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Unrecorded(f"{options.results / plan.name}: cannot be written: {error}") from error
    for name, _ in sorted(_torn(folder).items() - torn.items()):
        console.print(f"{folder}: a line that was half written is set aside in {name}", soft_wrap=True)
    if summary.unwritten is not None:
        raise Unrecorded(f"{folder}: some results could not be written: {summary.unwritten}; run it again to get them")
    if summary.elsewhere:
        console.print(f"{plan.name}: {summary.elsewhere} trials are left to another process, which is running them")
    if summary.left:
        console.print(f"{plan.name}: {summary.left} trials not started: they would not have ended in the budget")
    if not (summary.elsewhere or summary.left or summary.statuses or summary.interrupted):
        console.print(
            f"{plan.name}: nothing to train, all {len(plan.trials)} trials are recorded in {folder}", soft_wrap=True
        )
    if summary.statuses:
        counts = ", ".join(f"{count} {status}" for status, count in sorted(summary.statuses.items()))
        where = folder / "trials.csv"
        console.print(f"{plan.name}: {counts} in {duration(summary.seconds)}; recorded in {where}", soft_wrap=True)
    if summary.given_up:
        times, left = max(summary.given_up), len(summary.given_up)
        console.print(
            f"{plan.name}: {left} trial{'s' * (left > 1)} failed {times} times and {'are' if left > 1 else 'is'} left; "
            f"--attempts {times + 1} or --force tries again",
            soft_wrap=True,
        )
    if not (options.stale or options.force) and (stale := find_stale(plan, Records(folder))).changed:
        console.print(Text(f"{plan.name}: {stale}; run again with --stale"), soft_wrap=True)
    timed = timed and options.executor != "ray"  # the driver's machine is not what the trials ran on
    if timed and options.trial is None and not summary.left and not summary.interrupted and not summary.exit_code:
        time_plan(plan, folder, options.device, options.data_dir, False, console)
    if not summary.interrupted:
        console.print(Text(f"The answer: {command('report', plan.asked, [options.results])}"), soft_wrap=True)
    return summary.exit_code


def _torn(folder: Path) -> dict[str, int]:
    """The files of lines that were set aside, with their sizes."""
    return {path.name: path.stat().st_size for path in folder.glob("*.csv.torn")}


def _given_again() -> list[str]:
    """The options of this call that shape the trials, for a command that repeats one."""
    words, kept = sys.argv[1:], []
    for index, word in enumerate(words):
        name = word.split("=", 1)[0]
        if name in ("--set", "--only", "--seeds", "--results", "--data-dir", "--device", "--timeout"):
            kept += words[index : index + 2] if word == name else [word]
    return kept


def _show_plan(plan: Plan, options: Any, price: bool, console: Console) -> int:
    from bench.cli.planning import show_plan
    from bench.execute import run as runs
    from bench.execute.price import price_plan
    from bench.record.records import Records
    from bench.record.staleness import find_stale

    try:
        prices = price_plan(plan, options.device, options.jobs, options.data_dir) if price else None
    except (ValueError, OSError) as error:
        raise Refused(f"{plan.name}: cannot be priced: {error}") from error
    stale = find_stale(plan, Records(options.results / plan.name))
    return show_plan(plan, runs.missing(plan, options), console, prices, stale)
