"""The gallery and the table of claims: the recorded reference results, drawn and judged when the site is built."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import bench
from bench.report.drawing import draw
from bench.report.telling import asked
from bench.studies.reference import GRIDS, HEAD
from bench.studies.reference import claims as rows_of

RESULTS = Path("results/reference")


def pages() -> Iterator[tuple[str, str | bytes]]:
    """Yields the page and its figures: each reference grid with its question, coverage, figures and text."""
    parts = [
        "# Gallery",
        "Every figure that a report draws, from the results in `results/reference/`, with the grid that asked for it. "
        "`python -m bench report --results results/reference` makes them all, with the tables.",
    ]
    for name in GRIDS:
        found = bench.findings(RESULTS / name)
        parts += [f"## {found.plan.question}", found.coverage + "."]
        with tempfile.TemporaryDirectory() as folder:
            figures = asked(found, Path(folder))
            draw(figures, lambda doing: None)
            for figure, title in figures.titles.items():
                target = f"figures/{name}-{figure}.png"
                yield target, (Path(folder) / f"{figure}.png").read_bytes()
                image = f"![{title}]({target}){{ loading=lazy }}"
                parts += [f'<div class="gallery" markdown>\n{image}\n</div>']
        text = (Path("grids") / f"{name}.yaml").read_text(encoding="utf-8")
        indented = "\n".join(f"    {line}".rstrip() for line in ["```yaml", *text.splitlines(), "```"])
        parts += [f'??? note "The grid: grids/{name}.yaml"\n{indented}']
    yield "gallery.md", "\n\n".join(parts) + "\n"


def claims() -> str:
    """All claims of the reference grids with their evidence."""
    intro = Path(__file__).with_name("claims.md").read_text(encoding="utf-8")
    return f"{intro}{HEAD}{''.join(rows_of(RESULTS))}"
