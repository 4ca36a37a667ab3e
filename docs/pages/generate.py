"""Makes the pages that are read off the code and the recorded results: a hook of MkDocs, run when the site is built."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import gallery  # noqa: E402  # beside this file
import notebook  # noqa: E402
import reference  # noqa: E402


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages and figures."""
    for name, content in _pages():
        files.append(File.generated(config, name, content=content))
    return files


def _pages() -> Iterator[tuple[str, str | bytes]]:
    yield "reference/commands.md", reference.commands()
    yield "reference/grid.md", reference.grid()
    yield "reference/settings.md", reference.settings()
    yield "reference/files.md", reference.files()
    yield "schema.json", reference.schema()
    yield "claims.md", gallery.claims()
    yield from gallery.pages()
    yield "notebook.md", notebook.page(ROOT / "docs" / "notebook.ipynb")
    yield "changelog.md", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
