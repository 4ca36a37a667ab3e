"""The reference results: each shipped grid run where other source code made it, and the README's table of claims.

``python -m bench.studies.reference`` does both, with ``--no-run`` it writes the table alone.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from bench.analysis.findings import gather

GRIDS = ("residual_vs_plain", "batch_norm", "optimizers", "resnet_leave_one_out", "architectures")
RESULTS = Path("results/reference")
BEGIN, END = "<!-- claims -->\n", "<!-- /claims -->\n"
HEAD = "| claim | ruling | evidence | grid |\n| --- | --- | --- | --- |\n"


def claims(results: Path) -> Iterator[str]:
    """Yields a row of Markdown per hypothesis of the reference grids, as the report rules on it."""
    for name in GRIDS:
        hypotheses: pd.DataFrame = gather(results / name).hypotheses
        for row in hypotheses.to_dict("records"):
            claim = str(row["hypothesis"]).replace("|", "\\|")
            yield f"| `{claim}` | **{row['ruling']}** | {row['evidence']} | `{name}` |\n"


def with_claims(readme: str, rows: list[str]) -> str:
    """Replaces the table between the README's two markers; raises ValueError where they do not stand there."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(readme):
        raise ValueError(f"README.md must have the lines {BEGIN.strip()} and {END.strip()} around its table of claims")
    return pattern.sub(lambda _: f"{BEGIN}{HEAD}{''.join(rows)}{END}", readme)


def main(
    run: Annotated[bool, typer.Option(help="Train what is stale or missing first.")] = True,
    results: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the reference results.")] = RESULTS,
    readme: Annotated[Path, typer.Option(metavar="FILE", help="Where the table of claims stands.")] = Path("README.md"),
) -> None:
    """Make the reference results, and the README's table of claims from them."""
    grids = [f"grids/{name}.yaml" for name in GRIDS]
    if run:
        command = [sys.executable, "-m", "bench", "run", *grids, "--results", str(results)]
        command += ["--rerun", "stale", "--no-time"]
        subprocess.run(command, check=False)  # a diverged or failed trial is part of the results
    readme.write_text(with_claims(readme.read_text(encoding="utf-8"), list(claims(results))), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
