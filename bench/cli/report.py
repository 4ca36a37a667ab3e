"""``bench report`` and ``bench export``: what is recorded, for people and for other tools."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from bench.cli.options import (
    RecordedGrids,
    Refused,
    Results,
    Unrecorded,
)
from bench.grid.load import load_plan

if TYPE_CHECKING:
    pass


def report(
    grids: RecordedGrids = None,
    results: Annotated[
        list[Path],
        typer.Option(
            metavar="DIR", help="Folder of all results; given again, a grid's results in each of them are pooled."
        ),
    ] = [Path("results")],  # noqa: B006
    form: Annotated[
        str, typer.Option("--format", metavar="NAME", help="table, or csv, json, markdown, latex on standard output.")
    ] = "table",
    paper: Annotated[
        bool, typer.Option("--paper", help="Figures as wide as one and two columns of a paper too, in report/paper/.")
    ] = False,
    show_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Show the answer: tables here; page, figures, LaTeX, Markdown and CSV in results/<grid>/report/.

    Of several grids there is an overview too, in results/report/. Results of one grid in several folders, as from two
    machines, are pooled where settings agree, in results/report/<grid>/ of the first folder; speeds stay apart.
    """
    from bench.analysis.findings import gather
    from bench.grid.metrics import MetricError
    from bench.record.pool import PoolError
    from bench.report.output import print_report, write_paper, write_report
    from bench.report.overview import overview, print_overview, write_overview
    from bench.report.paper import FORMATS

    if form not in ("table", *FORMATS):
        raise Refused(f"--format must be one of table, {', '.join(FORMATS)}, got {form!r}")
    try:
        all_findings = [gather(first, others=others) for first, *others in recorded_folders(grids or [], results)]
    except (PoolError, MetricError) as error:
        raise Refused(str(error)) from error
    if form != "table":
        sys.stdout.write(FORMATS[form](all_findings))
    for findings in all_findings if paper else []:
        write_paper(findings)
    if form != "table" and not show_page:
        return
    console = Console(highlight=False)
    for findings in all_findings:
        if form == "table":
            print_report(console, findings)
        try:
            page = write_report(findings) / "index.html"
        except OSError as error:
            raise Unrecorded(f"{findings.target}: cannot be written: {error}") from error
        if form == "table":
            where = f"page, figures, LaTeX, Markdown and CSV: {findings.target}\n"
            console.print(Text(where), soft_wrap=True)
    if len(all_findings) > 1:
        rows = overview(all_findings, results[0] / "report")
        page = write_overview(rows, results[0] / "report")
        if form == "table":
            print_overview(console, rows)
            console.print(Text(f"\noverview: {page}"), soft_wrap=True)
    if show_page:
        typer.launch(str(page))


def recorded_folders(grids: list[Path], results: list[Path]) -> list[list[Path]]:
    """The folders that hold results of each grid; all grids that have any where none is named."""
    names = [load_plan(grid).name for grid in grids]
    names = names or sorted({path.parent.name for folder in results for path in folder.glob("*/grid.yaml")})
    where = ", ".join(map(str, results))
    if not names:
        raise Refused(f"{where}: no results here; python -m bench run GRID makes some")
    found = [[folder / name for folder in results if (folder / name / "trials.csv").exists()] for name in names]
    for name, folders in zip(names, found, strict=True):
        if not folders:
            missing = ", ".join(str(folder / name) for folder in results)
            raise Refused(f"{missing}: no trials.csv here; python -m bench run GRID makes it")
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
    """Write the recorded trials and curves where TensorBoard or MLflow shows them, a run each."""
    from bench.record import export as exporting

    tool, target = to
    if tool not in exporting.TOOLS:
        raise Refused(f"--to must be {' or '.join(exporting.TOOLS)}, and a folder, got {tool!r}")
    try:
        count = exporting.export([folder for (folder,) in recorded_folders(grids or [], [results])], tool, target)
    except exporting.ExportError as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Unrecorded(f"{target}: cannot be written: {error}") from error
    print(f"{count} runs in {target}: {exporting.LOOK[tool].format(target)}")
