"""The commands as functions of Python: ``import bench`` gives them, for notebooks and scripts.

They do what ``python -m bench run`` and ``report`` do, say the same, and refuse the same in the same words.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console

from bench.analysis.findings import gather
from bench.cli.options import CommandError, WriteError
from bench.cli.report import folders_of
from bench.cli.run import check_executor, rerun_of, run_one, warm_up_for
from bench.execute.executors import EXECUTORS
from bench.execute.options import Options
from bench.execute.run import Summary
from bench.grid import load
from bench.grid.metrics import MetricError
from bench.grid.own_sources import sources_of_run
from bench.grid.plan import Asked, Plan
from bench.record.asked import check_folders, plan_of
from bench.record.pool import PoolError
from bench.record.table import RecordError
from bench.report.notebook import Findings
from lab.fingerprint import forget_sources
from lab.imports import is_users

__all__ = ["Findings", "Plan", "Refusal", "Summary", "findings", "load_plan", "run"]


class Refusal(Exception):  # noqa: N818  # what happened, as the messages say it
    """What was asked for cannot be done: the message says where, the rule, what stood there and what is allowed."""

    def _render_traceback_(self) -> list[str]:
        """Shows the message alone in a notebook: the lines of code that led to it are none of the reader's."""
        return [f"bench.Refusal: {self}"]


def load_plan(
    grid: str | Path, *, overrides: Sequence[str] = (), only: Sequence[str] = (), seeds: int | None = None
) -> Plan:
    """Reads and checks a grid; returns its plan: cells and trials with all their settings.

    Args:
        grid: The grid's file.
        overrides: Settings to replace, as `--set` takes them: `["train.epochs=2", "model.width=4,8"]`.
        only: Levels to keep, as `--only` takes them: `["model.norm=true"]`.
        seeds: Seeds 0 to `seeds - 1` instead of those of the grid.

    Raises:
        Refusal: The grid breaks rules; the message has a line for each, with its place in the file.

    """
    with _refusals(), _fresh_modules():
        return load.load_plan(_file(grid), overrides=overrides, only=only, seeds=seeds)


def run(
    grid: str | Path | Plan,
    *,
    results: str | Path = "results",
    data_dir: str | Path | None = None,
    device: str = "auto",
    jobs: int | None = None,
    executor: str = "local",
    timeout: float | None = None,
    budget: float | None = None,
    attempts: int = 3,
    rerun: str = "failed",
    fail_fast: bool = False,
    timed: bool | None = None,
    quiet: bool = False,
    **executor_options: Any,
) -> Summary:
    """Trains what the plan holds and the record lacks; returns what happened.

    Each trial is on disk before the next one starts. Ctrl-C, or a notebook's stop button, checkpoints and records what
    is under way; the next call resumes it. Workers import the modules that a grid names from their files, never what a
    notebook's cells define, and need no `if __name__ == "__main__":`.

    Args:
        grid: The grid's file, or its plan as `load_plan` gives it.
        results: Folder of all results.
        data_dir: Folder of the data sets, a torchvision root.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        jobs: Trials at once; by default one per GPU, or per core.
        executor: `local`, `inline` (in this process, for debugging) or `ray`.
        timeout: Longest time of a trial, in seconds.
        budget: Seconds within which whatever starts is expected to end.
        attempts: A trial that has failed so often is left alone.
        rerun: What is trained: `missing`, `failed`, `stale` (by other code, or on other data) or `all`; each includes
            those before it.
        fail_fast: Stop at the first trial that fails.
        timed: Time each model alone afterwards, or not; by default for as long as training took.
        quiet: Print nothing.
        **executor_options: The executor's own: with `ray`, `address`, `storage`, `cpus_per_trial`, `gpus_per_trial`.

    Returns:
        How many trials of this run ended with each status (`statuses`), how many are left to others or to a later run,
            and the command's `exit_code`: 0, or 1 where a trial failed.

    Raises:
        Refusal: Grid, options, device or data cannot be had as asked for, or a result could not be written.
        KeyboardInterrupt: The run was stopped; what was under way is recorded.

    """
    out = _console(quiet)
    with _refusals(), _fresh_modules(), _without_main():
        options = Options(
            results=Path(results),
            data_dir=None if data_dir is None else Path(data_dir),
            device=device,
            jobs=jobs,
            executor=executor,
            executor_options=_of_executor(executor, executor_options),
            timeout=timeout,
            budget=budget,
            attempts=attempts,
            rerun=rerun_of(rerun),
            fail_fast=fail_fast,
        )
        if jobs is not None and jobs < 1:
            raise CommandError(f"jobs must be at least 1, got {jobs}")
        plan = grid if isinstance(grid, Plan) else load.load_plan(_file(grid))
        check_folders([plan], options.results)
        warm_up_for([plan], options)
        summary = run_one(plan, options, timed, out)
    if summary.interrupted:
        raise KeyboardInterrupt("what was under way is recorded; the next run resumes it")
    return summary


def findings(
    grid: str | Path | Plan,
    *,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    seeds: int | None = None,
    results: str | Path | Sequence[str | Path] = "results",
) -> Findings:
    """Judges what is recorded of a grid; a notebook shows the answer, and the tables are data frames.

    Args:
        grid: The grid's file, its plan, or a folder that holds results of a grid as it was last run.
        overrides: As `load_plan` takes them.
        only: As `load_plan` takes them.
        seeds: Seeds 0 to `seeds - 1`; by default every seed that is recorded.
        results: Folder of all results; of several, a grid's results in each of them are pooled.

    Raises:
        Refusal: The grid breaks rules, nothing is recorded of it, or the record is of another grid.

    """
    folders = [Path(one) for one in ([results] if isinstance(results, str | Path) else results)]
    with _refusals(), _fresh_modules():
        if not isinstance(grid, Plan) and _file(grid).is_dir():
            return Findings(**vars(gather(_file(grid))))
        asked = grid.asked if isinstance(grid, Plan) else Asked(_file(grid), tuple(overrides), tuple(only), seeds)
        plan = grid if isinstance(grid, Plan) else plan_of(asked, folders)
        first, *others = folders_of(plan, folders)
        return Findings(**vars(gather(first, plan, others=others)))


def _file(grid: Any) -> Path:
    if isinstance(grid, str | Path):
        return Path(grid)
    rule = "a grid is the path of its file, or a plan that load_plan returned"
    raise CommandError(f"{rule}, got {type(grid).__name__}; a mapping is written to a file: yaml.safe_dump(grid)")


def _console(quiet: bool) -> Console:
    is_terminal = None if sys.stdout is sys.__stdout__ else False  # a notebook's output says that it is one
    return Console(
        file=sys.stdout,
        quiet=quiet,
        force_terminal=is_terminal,
        force_jupyter=False,
        highlight=False,
        markup=False,
        emoji=False,
    )


def _of_executor(executor: str, given: dict[str, Any]) -> Any:
    check_executor(executor)
    kind = EXECUTORS[executor].options
    known = [] if kind is None else [one.name for one in fields(kind)]
    for name in given.keys() - set(known):
        allowed = f"one of {', '.join(known)}" if known else "none"
        raise CommandError(f"{name}: no such option of the executor {executor}; allowed: {allowed}")
    try:
        return kind and kind(**given)
    except ValueError as error:
        raise CommandError(str(error)) from error


@contextmanager
def _refusals() -> Iterator[None]:
    """Turns what the commands say on standard error into an exception with the same message."""
    try:
        yield
    except (CommandError, WriteError, load.GridError, RecordError, PoolError, MetricError) as error:
        raise Refusal(str(error)) from None
    except OSError as error:
        if error.filename is None:
            raise
        raise Refusal(f"{error.filename}: cannot be written or read: {error.strerror}") from None


@contextmanager
def _fresh_modules() -> Iterator[None]:
    """Has the working folder's modules read as they stand now, whatever this process imported before; puts those back.

    A notebook lives long, and its reader edits files meanwhile.
    """
    folder = Path.cwd()
    before = _modules_of(folder)
    for name in before:
        del sys.modules[name]
    forget_sources()
    sources_of_run.cache_clear()
    try:
        yield
    finally:
        for name in _modules_of(folder):
            del sys.modules[name]
        sys.modules.update(before)


def _modules_of(folder: Path) -> dict[str, ModuleType]:
    own = {name: module for name, module in sys.modules.items() if is_users(getattr(module, "__dict__", None), folder)}
    return {name: module for name, module in own.items() if name != "__main__"}


@contextmanager
def _without_main() -> Iterator[None]:
    """Hides the script that calls: multiprocessing would run it again in each worker, which needs nothing of it."""
    main = vars(sys.modules["__main__"])
    kept: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(kept)
