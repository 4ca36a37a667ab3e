"""``bench run``: trains what is missing, or shows the plan."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from filelock import Timeout
from rich.console import Console
from rich.text import Text

from bench.cli import completion
from bench.cli.measure import time_plan
from bench.cli.options import (
    CommandError,
    DataDir,
    Device,
    Grids,
    Only,
    Overrides,
    Results,
    Seeds,
    WriteError,
    check_choice,
    doing,
    grouped,
    program,
    seconds,
    terminal,
)
from bench.execute.agenda import Agenda, read_agenda
from bench.execute.executors import EXECUTORS
from bench.execute.options import Options, Rerun
from bench.execute.progress import Progress, duration
from bench.execute.run import Summary
from bench.grid.load import Plan, load_plan
from bench.record.asked import check_folders, command
from bench.record.records import Records
from bench.record.table import LOCK_SECONDS

ABOUT_EXECUTORS = "; ".join(f"{name}: {kind.about}" for name, kind in EXECUTORS.items())
KEPT = ("best", "all", "none")


@dataclass(frozen=True)
class TrialOptions:
    """Which trials"""

    overrides: Overrides = field(default_factory=list)
    only: Only = field(default_factory=list)
    seeds: Seeds = None
    trial: Annotated[
        str | None, typer.Option(metavar="ID", help="Run this trial only.", autocompletion=completion.trials)
    ] = None
    rerun: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="What to train: missing, failed (the default), stale (made by other code or on other data) or all; "
            "each includes those before it.",
            autocompletion=completion.reruns,
        ),
    ] = None
    attempts: Annotated[
        int, typer.Option("--attempts", metavar="N", min=1, help="Leave a trial alone once it has failed this often.")
    ] = 3
    reread: Annotated[
        bool, typer.Option("--reread", help="Run nothing; read metrics again from the kept output of commands.")
    ] = False
    force: Annotated[bool, typer.Option("--force", hidden=True)] = False
    retry: Annotated[bool, typer.Option("--retry/--no-retry", hidden=True)] = True
    stale: Annotated[bool, typer.Option("--stale", hidden=True)] = False


@dataclass(frozen=True)
class RunOptions:
    """How they run"""

    jobs: Annotated[
        int | None,
        typer.Option("-j", "--jobs", metavar="N", min=1, help="Trials at once; default: one per GPU, or per core."),
    ] = None
    device: Device = "auto"
    executor: Annotated[
        str, typer.Option(metavar="NAME", help=ABOUT_EXECUTORS, autocompletion=completion.executors)
    ] = "local"
    timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Longest time of a trial: 90s, 10m, 2h.")] = None
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Start no trial that is not expected to end within it: 30m, 2h.")
    ] = None
    checkpoint: Annotated[str, typer.Option(metavar="TIME", help="Time between two checkpoints of a trial.")] = "10s"
    keep: Annotated[str, typer.Option(metavar="WHAT", help="Checkpoints of ended trials: best, all or none.")] = "best"
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first trial that fails.")] = False
    timed: Annotated[
        bool | None,
        typer.Option(
            "--time/--no-time",
            help="Time each model alone afterwards, or not; default: for as long as training took.",
            show_default=False,
        ),
    ] = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only failures and the summary.")] = False
    results: Results = Path("results")
    data_dir: DataDir = None


@dataclass(frozen=True)
class PlanOptions:
    """Before anything is trained"""

    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and train nothing.")] = False
    price: Annotated[
        bool,
        typer.Option(
            "--price",
            help="With --dry-run: time and errors, by a step per cell or three runs of own code.",
        ),
    ] = False


def _of_executors() -> type[Any]:
    """Returns the options of the executors themselves, as each kind describes them."""
    kinds = [kind.options for kind in EXECUTORS.values() if kind.options is not None]
    made = [
        (one.name, Annotated[get_type_hints(kind)[one.name], typer.Option(**one.metadata)], field(default=one.default))
        for kind in kinds
        for one in fields(kind)
    ]
    return make_dataclass("OfExecutors", made, namespace={"__doc__": "For one executor only"})


@grouped(own=_of_executors())
def run(grids: Grids, which: TrialOptions, how: RunOptions, planning: PlanOptions, own: Any) -> None:
    """Train every trial of the grids that is not recorded yet."""
    options = _as_options(which, how, own)
    if planning.price and not planning.dry_run:
        raise CommandError("--price goes with --dry-run, which shows the plan and its price")
    if which.reread and planning.dry_run:
        raise CommandError("--reread runs nothing as it is; it does not go with --dry-run")
    plans = [load_plan(grid, overrides=which.overrides, only=which.only, seeds=which.seeds) for grid in grids]
    check_folders(plans, options.results)
    _check_trial(plans, grids, options)
    console = terminal()
    if which.reread:
        codes = [_reread(plan, options, console) for plan in plans]
    elif planning.dry_run:
        codes = [_show_plan(plan, options, planning.price, console) for plan in plans]
    else:
        warm_up_for(plans, options)
        codes = [run_one(plan, options, how.timed, console, quiet=how.quiet).exit_code for plan in plans]
    raise typer.Exit(130 if 130 in codes else max(codes))


def check_executor(name: str) -> None:
    """Raises :class:`CommandError` where there is no such executor."""
    check_choice("--executor", name, EXECUTORS)


def rerun_of(word: str) -> Rerun:
    """Returns what a run trains; raises :class:`CommandError` where the word says nothing."""
    check_choice("--rerun", word, list(Rerun))
    return Rerun(word)


def _as_options(which: TrialOptions, how: RunOptions, own: Any) -> Options:
    check_executor(how.executor)
    check_choice("--keep", how.keep, KEPT)
    return Options(
        results=how.results,
        data_dir=how.data_dir,
        device=how.device,
        jobs=how.jobs,
        executor=how.executor,
        executor_options=_executor_options(how.executor, own),
        timeout=None if how.timeout is None else seconds("--timeout", how.timeout),
        budget=None if how.budget is None else seconds("--budget", how.budget),
        checkpoint=seconds("--checkpoint", how.checkpoint),
        keep=how.keep,
        fail_fast=how.fail_fast,
        trial=which.trial,
        rerun=_rerun(which),
        attempts=which.attempts,
    )


def _rerun(which: TrialOptions) -> Rerun:
    """Reads ``--rerun``, or the options that it replaces; of those, one at a time."""
    old = {"--force": which.force, "--stale": which.stale, "--no-retry": not which.retry}
    given = [name for name, is_given in old.items() if is_given]
    if which.rerun is not None and given:
        raise CommandError(f"--rerun replaces {given[0]}: give it alone, got --rerun {which.rerun} and {given[0]}")
    if which.rerun is not None:
        return rerun_of(which.rerun)
    if which.stale and not (which.retry or which.force):
        raise CommandError(
            "--stale includes what failed, so --no-retry does not go with it; --rerun says it in one word"
        )
    return Rerun.ALL if which.force else Rerun.STALE if which.stale else Rerun.FAILED if which.retry else Rerun.MISSING


def _executor_options(executor: str, own: Any) -> Any:
    """Returns what was given for the executor; an option of another is refused."""
    for name, kind in EXECUTORS.items():
        given = [one.name for one in fields(kind.options) if getattr(own, one.name) is not None] if kind.options else []
        if given and name != executor:
            option = f"--{given[0].replace('_', '-')}"
            raise CommandError(f"{option} goes with --executor {name}, got --executor {executor}")
    options = EXECUTORS[executor].options
    try:
        return options and options(**{one.name: getattr(own, one.name) for one in fields(options)})
    except ValueError as error:
        raise CommandError(str(error)) from error


def _check_trial(plans: list[Plan], grids: list[Path], options: Options) -> None:
    if options.trial is None:
        return
    known = {trial.trial_id for plan in plans for trial in _agenda(plan, options).known}
    if options.trial not in known:
        raise CommandError(f"--trial: no trial {options.trial!r} in {', '.join(map(str, grids))}")


def warm_up_for(plans: list[Plan], options: Options) -> None:
    from bench.execute.run import warm_up

    if to_run := [trial for plan in plans for trial in _agenda(plan, options).trials]:
        warm_up(to_run, options)


def _agenda(plan: Plan, options: Options) -> Agenda:
    return read_agenda(plan, Records(options.results / plan.name, plan.selecting), options)


def run_one(plan: Plan, options: Options, timed: bool | None, console: Console, *, quiet: bool = False) -> Summary:
    """Trains what is missing of a plan, times its models, and says how that went; ``quiet``, of trials those that fail.

    ``timed``: None, for as long as training took.
    Raises :class:`CommandError` or :class:`WriteError` where it cannot.
    """
    from bench.execute.run import run as train

    folder = options.results / plan.name
    _warn((*plan.warnings, *EXECUTORS[options.executor].cautions(options, plan.run)), console)
    torn = _torn(folder)
    with _told_apart(folder):
        progress = Progress(console, _again(plan, options), quiet=quiet)
        summary = train(plan, options, progress, lambda: _look(plan, options, console))
    for name, _ in sorted(_torn(folder).items() - torn.items()):
        console.print(f"{folder}: a line that was half written is set aside in {name}", soft_wrap=True)
    _check_written(summary, plan, options)
    for sentence in _told(summary, plan, folder):
        console.print(f"{plan.name}: {sentence}", soft_wrap=True)
    if not options.rerun.includes(Rerun.STALE) and (staleness := _agenda(plan, options).staleness).changed:
        console.print(Text(f"{plan.name}: {staleness}; `run --rerun stale` trains them again"), soft_wrap=True)
    whole = not (summary.left or summary.interrupted or summary.exit_code)
    if timed is not False and whole and options.trial is None and EXECUTORS[options.executor].is_here:
        most = None if timed else summary.seconds
        time_plan(plan, folder, options.device, options.data_dir, False, console, most, quiet=quiet)
    if not summary.interrupted:
        _print_answer(plan, options, console)
    return summary


def _reread(plan: Plan, options: Options, console: Console) -> int:
    """Reads metrics again; returns the exit code."""
    from bench.execute.reread import reread

    folder = options.results / plan.name
    with _told_apart(folder):
        summary = reread(plan, options, Progress(console, _again(plan, options)))
    _check_written(summary, plan, options)
    counts = ", ".join(f"{count} {status}" for status, count in sorted(summary.statuses.items())) or "none"
    console.print(f"{plan.name}: read again: {counts}; recorded in {folder / 'trials.csv'}", soft_wrap=True)
    if summary.left:
        console.print(f"{plan.name}: {summary.left} trials left no output to read; without --reread they are run")
    _print_answer(plan, options, console)
    return summary.exit_code


@contextmanager
def _told_apart(folder: Path) -> Iterator[None]:
    """Tells a command that cannot be done from a record that cannot be written."""
    try:
        yield
    except ValueError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise WriteError(f"{folder}: cannot be written: {error}{_lock_hint(error)}") from error


def _lock_hint(error: OSError) -> str:
    """Says what to do where a lock is not to be had: there are none, or one outlived whoever held it."""
    if isinstance(error, Timeout):
        return f" It was held for {LOCK_SECONDS:g} seconds; where no process uses this folder any more, remove it"
    lockless = error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
    return "; its file system has no locks: name a folder on another with --results" if lockless else ""


def _check_written(summary: Summary, plan: Plan, options: Options) -> None:
    """Raises CommandError where no trial could end well, WriteError where the disk did not take some."""
    if summary.refused:
        raise CommandError(f"{plan.name}: stopped: {summary.refused}{_hint(plan, options)}")
    if summary.unwritten is not None:
        why = f"{summary.unwritten}{_lock_hint(summary.unwritten)}"
        raise WriteError(
            f"{options.results / plan.name}: some results could not be written: {why}; run it again to get them"
        )


def _hint(plan: Plan, options: Options) -> str:
    """Says what to do once `read` or `metrics` is corrected, where outputs are kept."""
    if plan.run is None or plan.run.name != "command" or not EXECUTORS[options.executor].is_here:
        return ""
    return "; outputs are kept: once `read` or `metrics` is corrected, `run --reread` reads them again"


def _print_answer(plan: Plan, options: Options, console: Console) -> None:
    console.print(Text(f"The answer: {command('report', plan.asked, [options.results], program())}"), soft_wrap=True)


def _look(plan: Plan, options: Options, console: Console) -> dict[str, int]:
    """Warns of what a look at the models finds before they are trained; returns their cost by cell."""
    from bench.execute.price import check_models
    from bench.execute.run import inspection_device

    checks = check_models(plan, inspection_device(options), options.data_dir, options.timeout)
    _warn(checks.warnings, console)
    return checks.macs


def _warn(warnings: Iterable[str], console: Console) -> None:
    for warning in warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)


def _told(summary: Summary, plan: Plan, folder: Path) -> Iterator[str]:
    """Says how the run ended, in sentences."""
    if summary.elsewhere:
        where = f"if none is, remove {folder / 'claims'}"
        yield f"{summary.elsewhere} trials are left to another process, which is running them ({where})"
    if summary.left:
        yield f"{summary.left} trials not started: they would not have ended in the budget"
    if not (summary.elsewhere or summary.left or summary.statuses or summary.interrupted):
        yield f"nothing to train, all {len(plan.trials)} trials are recorded in {folder}"
    if summary.statuses:
        counts = ", ".join(f"{count} {status}" for status, count in sorted(summary.statuses.items()))
        yield f"{counts} in {duration(summary.seconds)}; recorded in {folder / 'trials.csv'}"
    if summary.given_up:
        times, left = max(summary.given_up), len(summary.given_up)
        yield (
            f"{left} trial{'s' * (left > 1)} failed {times} times and {'are' if left > 1 else 'is'} left; "
            f"--attempts {times + 1} or --rerun all tries again"
        )


def _torn(folder: Path) -> dict[str, int]:
    """Returns the files of lines that were set aside, with their sizes."""
    return {path.name: path.stat().st_size for path in folder.glob("*.csv.torn")}


def _again(plan: Plan, options: Options) -> list[str]:
    """Returns the command that repeats this run, but for which trial."""
    words = [*shlex.split(program()), "run", str(plan.asked.grid), *plan.asked.options]
    given = {"--results": options.results, "--data-dir": options.data_dir, "--device": options.device}
    usual = {"--results": Path("results"), "--data-dir": None, "--device": "auto"}
    words += [word for name, value in given.items() if value != usual[name] for word in (name, str(value))]
    return words + ([] if options.timeout is None else ["--timeout", f"{options.timeout:g}"])


def _show_plan(plan: Plan, options: Options, price: bool, console: Console) -> int:
    from bench.cli.planning import show_own_price, show_plan
    from bench.execute.own_price import price_own
    from bench.execute.price import price_plan

    own = prices = None
    try:
        if price and plan.run is not None:
            own = price_own(plan, options, Progress(console, _again(plan, options)))
        elif price:
            with doing(console, plan.name) as say:
                say("a step of each model, for its price")
                prices = price_plan(plan, options.device, options.jobs, options.data_dir)
    except (ValueError, OSError) as error:
        raise CommandError(f"{plan.name}: cannot be priced: {error}") from error
    agenda = _agenda(plan, options)
    code = show_plan(plan, agenda.trials, console, prices, agenda.staleness)
    return code if own is None else show_own_price(plan, agenda.trials, own, console)
