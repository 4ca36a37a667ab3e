"""Runs a notebook of the docs and shows it with its outputs; a cell that raises fails the build."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def page(source: Path) -> str:
    """Returns the notebook as Markdown, run in an empty folder."""
    book = nbformat.read(source, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), before)))
        NotebookClient(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return "\n\n".join(part for cell in book.cells for part in _cell(cell)) + "\n"


def _cell(cell: Any) -> list[str]:
    if cell.cell_type == "markdown":
        return [cell.source]
    parts, said = [f"```python\n{cell.source}\n```"], ""
    for one in cell.outputs:
        if one.output_type == "stream":
            said += one.text
        else:
            parts += [*_text(said), _shown(one.data)]
            said = ""
    return [*parts, *_text(said)]


def _text(said: str) -> list[str]:
    return [f"```text\n{COLOURS.sub('', said).rstrip()}\n```"] if said.strip() else []


def _shown(data: Any) -> str:
    if "text/html" in data:
        lines = [line for line in data["text/html"].splitlines() if line.strip()]  # an empty line would end the block
        return '<div class="cell-output">\n' + "\n".join(lines) + "\n</div>"
    return f"```text\n{data['text/plain']}\n```"
