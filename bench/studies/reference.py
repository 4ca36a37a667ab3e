"""The reference results: each shipped grid run where other source code made it, and what the README shows of them.

``python -m bench.studies.reference`` does both, with ``--no-run`` it writes the README's report and table alone.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console

from bench.analysis.findings import gather
from bench.record.records import Records
from bench.record.staleness import find_stale
from bench.report.terminal import print_report

GRIDS = ("residual_vs_plain", "batch_norm", "optimizers", "resnet_leave_one_out", "architectures")
RESULTS = Path("results/reference")
SHOWN = GRIDS[0]  # whose report the README has
WIDTH = 80
HEAD = "| claim | ruling | evidence | grid |\n| --- | --- | --- | --- |\n"
COUNTS = "| question | supported | refuted | undecided | grid |\n| --- | --- | --- | --- | --- |\n"


def claims(results: Path) -> Iterator[str]:
    """Yields a row of Markdown per hypothesis of the reference grids, as the report rules on it."""
    for name in GRIDS:
        hypotheses: pd.DataFrame = gather(results / name).hypotheses
        for row in hypotheses.to_dict("records"):
            claim = str(row["hypothesis"]).replace("|", "\\|")
            yield f"| `{claim}` | **{row['ruling']}** | {row['evidence']} | `{name}` |\n"


def counted_claims(results: Path) -> Iterator[str]:
    """Yields a row of Markdown per reference grid: its question, and how many of its hypotheses have each ruling."""
    for name in GRIDS:
        found = gather(results / name)
        counts = found.hypotheses["ruling"].value_counts()
        words = [str(counts.get(ruling, 0)) for ruling in ("supported", "refuted", "undecided")]
        yield f"| {found.plan.question} | {' | '.join(words)} | `{name}` |\n"


def shown_report(results: Path) -> str:
    """Returns what ``bench report`` prints of the first grid, stale rows untold: the reader's checkout decides them."""
    findings = gather(results / SHOWN)
    stale = str(find_stale(findings.plan, Records(findings.folder, findings.plan.selecting)))
    kept = tuple(one for one in findings.cautions if not one.startswith(stale))
    console = Console(file=io.StringIO(), width=WIDTH, highlight=False, markup=False, emoji=False)
    print_report(console, replace(findings, cautions=kept))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]  # a StringIO
    return "```text\n" + "\n".join(lines) + "\n```\n"


def with_block(readme: str, name: str, text: str) -> str:
    """Replaces what stands between two markers of the README; raises ValueError where they do not stand there."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(readme):
        raise ValueError(f"README.md must have the lines {begin.strip()} and {end.strip()} around what is made there")
    return pattern.sub(lambda _: f"{begin}{text}{end}", readme)


def with_results(readme: str, results: Path) -> str:
    """Brings the README's report and its table of claims up to date with the reference results."""
    readme = with_block(readme, "report", shown_report(results))
    return with_block(readme, "claims", COUNTS + "".join(counted_claims(results)))


def main(
    run: Annotated[bool, typer.Option(help="Train what is stale or missing first.")] = True,
    results: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the reference results.")] = RESULTS,
    readme: Annotated[Path, typer.Option(metavar="FILE", help="Where report and table stand.")] = Path("README.md"),
) -> None:
    """Make the reference results, and the README's report and table of claims from them."""
    grids = [f"grids/{name}.yaml" for name in GRIDS]
    if run:
        command = [sys.executable, "-m", "bench", "run", *grids, "--results", str(results)]
        command += ["--rerun", "stale", "--no-time"]
        subprocess.run(command, check=False)  # a diverged or failed trial is part of the results
    readme.write_text(with_results(readme.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
