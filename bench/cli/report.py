"""``bench report`` and ``bench export``: what is recorded, for people and for other tools."""

from __future__ import annotations

import gc
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from rich.console import Console
from rich.text import Text

from bench.cli import completion
from bench.cli.options import (
    CommandError,
    Only,
    Overrides,
    RecordedGrids,
    Results,
    WriteError,
    check_choice,
    doing,
    program,
    terminal,
)
from bench.cli.spelling import write
from bench.grid.load import GridError
from bench.grid.plan import Asked, Plan
from bench.record.asked import check_folder, command, holders, last_asked, plan_of, read_asked
from bench.record.plan_file import GRID
from bench.record.table import RecordError

if TYPE_CHECKING:
    from bench.analysis.findings import Findings
    from bench.report.drawing import Drawer

RecordedSeeds = Annotated[
    int | None, typer.Option("--seeds", metavar="N", min=1, help="Seeds 0 to N-1; default: all that are recorded.")
]
Pooled = Annotated[
    list[Path],
    typer.Option(metavar="DIR", help="Folder of all results; if repeated, a grid's results in all of them are pooled."),
]
Form = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="NAME",
        help="table, or csv, json, markdown, latex on standard output.",
        autocompletion=completion.formats,
    ),
]
Paper = Annotated[
    bool,
    typer.Option("--paper", help="Also draw figures one and two columns wide, PDF included, in report/paper/."),
]


def report(
    grids: RecordedGrids = None,
    overrides: Overrides = [],  # noqa: B006  # typer copies it
    only: Only = [],  # noqa: B006  # typer copies it
    seeds: RecordedSeeds = None,
    results: Pooled = [Path("results")],  # noqa: B006  # typer copies it
    form: Form = "table",
    full: Annotated[bool, typer.Option("--full", help="Show all tables, and how to read each.")] = False,
    paper: Paper = False,
    show_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Print the answer, and write page, figures, LaTeX, Markdown and CSV to results/<grid>/report/.

    Question, factors, baseline, levels and hypotheses come from the grid that is named, with --set and --only as `run`
    takes them; without a name, from each grid as it was last run. Nothing is trained.

    Several grids also get an overview, in results/report/. Results of one grid in several folders, as from two
    machines, are pooled where settings agree, in results/report/<grid>/ of the first folder; speeds stay separate.
    """
    _prepare()
    from bench.report.drawing import drawer
    from bench.report.paper import FORMATS

    check_choice("--format", form, ("table", *FORMATS))
    if not grids and (overrides or only or seeds is not None):
        raise CommandError("--set, --only and --seeds go with a GRID: name it")
    asked = [Asked(grid, tuple(overrides), tuple(only), seeds) for grid in grids or []]
    shown = Shown(form == "table", full, paper, show_page)
    with drawer(shown.here or shown.page or shown.paper) as beside:
        all_findings, refused = _gather_all(asked, results)
        if not all_findings:
            raise CommandError("\n".join(refused))
        _say_last_runs(all_findings, grids is None, sys.stdout if shown.here else sys.stderr)
        if not shown.here:
            write(FORMATS[form](all_findings), form)
        _write(all_findings, results[0] / "report", shown, beside)
    if refused:
        print("\n".join(refused), file=sys.stderr)
        raise typer.Exit(2)


def _prepare() -> None:
    """Sets what a short command of much Python and little algebra is faster with, before numpy is imported."""
    gc.set_threshold(100_000, 20, 20)  # of some hundred thousand objects hardly any is garbage
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads would cost more than they save, and forbid to fork


def _gather_all(asked: Sequence[Asked], results: Sequence[Path]) -> tuple[list[Findings], list[str]]:
    """Gathers the findings of the grids named, or of all that have results; and why there are none of the others."""
    from bench.analysis.findings import gather
    from bench.grid.metrics import MetricError
    from bench.record.pool import PoolError

    found, refused = [], []
    for one in asked or recorded_names(results):
        try:
            if isinstance(one, str):
                plan, (first, *others) = None, recorded_folders(one, results)
            else:
                plan = plan_of(one, results)
                first, *others = folders_of(plan, results)
            found.append(gather(first, plan, others=others))
        except GridError as error:
            refused += error.messages
        except (CommandError, RecordError, PoolError, MetricError) as error:
            refused.append(str(error))
    return found, refused


def _say_last_runs(all_findings: Sequence[Findings], unnamed: bool, file: TextIO) -> None:
    """Says how to ask for the last run's options, where it had some and a report of that grid has not the same ones."""
    for findings in all_findings:
        for folder in (findings.folder, *findings.others):
            last = read_asked(folder)
            if last and last.options and (unnamed or last.options != findings.plan.asked.options):
                said = f"the last run had {shlex.join(last.options)}; its report:"
                print(said, command("report", last_asked(folder), [folder.parent], program()), file=file)


@dataclass(frozen=True)
class Shown:
    """What a report shows beside the files that it writes."""

    here: bool  # in the terminal
    full: bool
    paper: bool
    page: bool


def _write(all_findings: Sequence[Findings], above: Path, shown: Shown, beside: Drawer) -> None:
    """Shows the findings and writes their pages, where asked for; ``above`` is the folder of the overview."""
    from bench.report.output import write_paper
    from bench.report.overview import overview, print_overview, write_overview

    console = terminal()
    if shown.here or shown.page:
        pages = [_write_one(findings, shown, beside, console) for findings in all_findings]
    for findings in all_findings if shown.paper else []:
        with doing(console, findings.plan.name) as say:
            write_paper(findings, beside, say)
    if not (shown.here or shown.page):
        return
    if len(all_findings) > 1:
        rows = overview(all_findings, above)
        pages.append(write_overview(rows, above))
        if shown.here:
            print_overview(console, rows)
            console.print(Text(f"\noverview: {pages[-1]}"), soft_wrap=True)
    if shown.page:
        typer.launch(str(pages[-1]))


def _write_one(findings: Findings, shown: Shown, beside: Drawer, console: Console) -> Path:
    """Shows one grid's findings, where asked for, and writes its report; returns its page."""
    from bench.report.output import letters_without_font, write_report
    from bench.report.terminal import print_report

    if shown.here:
        print_report(console, findings, full=shown.full)
    try:
        with doing(console, findings.plan.name) as say:
            target = write_report(findings, say, beside)
    except OSError as error:
        raise WriteError(f"{findings.target}: cannot be written: {error}") from error
    if shown.here:
        rest = "" if shown.full else "all tables: --full; "
        console.print(Text(f"{rest}page, figures, LaTeX, Markdown and CSV: {target}"), soft_wrap=True)
        for note in letters_without_font(findings):
            console.print(Text(f"warning: {note}", style="yellow"), soft_wrap=True)
    return target / "index.html"


def recorded_names(results: Sequence[Path]) -> list[str]:
    """Returns the folders that hold a grid, by name; raises :class:`CommandError` where there are none."""
    names = sorted({path.parent.name for folder in results for path in folder.glob(f"*/{GRID}")})
    if not names:
        raise CommandError(f"{', '.join(map(str, results))}: no results here; {program()} run GRID makes some")
    return names


def recorded_folders(name: str, results: Sequence[Path]) -> list[Path]:
    """Returns the folders with results of that name; raises :class:`CommandError` where there are none."""
    found = [folder / name for folder in results if (folder / name / "trials.csv").exists()]
    if not found:
        missing = ", ".join(str(folder / name) for folder in results)
        raise CommandError(f"{missing}: no trials.csv here; {program()} run GRID makes it")
    return found


def folders_of(plan: Plan, results: Sequence[Path]) -> list[Path]:
    """Finds the folders with results of a plan; raises :class:`CommandError` if there are none, or another grid's."""
    try:
        found = recorded_folders(plan.name, results)
    except CommandError as error:
        others = [other for folder in results for other in holders(plan, folder)]
        if not others:
            raise
        renamed = f"{others[0]} has trials of this grid: with `name: {others[0].name}` in it, it is theirs again"
        raise CommandError(f"{error}; {renamed}") from None
    for folder in found:
        check_folder(plan, folder)
    return found


def export(
    to: Annotated[
        tuple[str, Path],
        typer.Option(
            metavar="TOOL FOLDER", help="tensorboard or mlflow, and the folder for the runs.", show_default=False
        ),
    ],
    grids: RecordedGrids = None,
    results: Results = Path("results"),
) -> None:
    """Export recorded trials and curves to TensorBoard or MLflow, a run per trial."""
    from bench.record import export as exporting

    tool, target = to
    if tool not in exporting.TOOLS:
        raise CommandError(f"--to must be {' or '.join(exporting.TOOLS)}, and a folder, got {tool!r}")
    try:
        count = exporting.export(folders_asked(grids or [], results), tool, target)
    except exporting.ExportError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise WriteError(f"{target}: cannot be written: {error}") from error
    print(f"{count} runs in {target}: {exporting.look(tool, target)}")


def folders_asked(grids: Sequence[Path], results: Path) -> list[Path]:
    """Returns the folders of the grids that are named, or of all."""
    if not grids:
        return [folder for name in recorded_names([results]) for folder in recorded_folders(name, [results])]
    return [folder for grid in grids for folder in folders_of(plan_of(Asked(grid), [results]), [results])]
