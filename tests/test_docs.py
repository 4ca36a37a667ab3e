"""The reference of the docs is made from the code: whatever the code has stands there."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from bench.grid.columns import COLUMNS
from bench.grid.form import GridForm
from lab.settings import PARTS, TrainSettings

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_reference", ROOT / "docs" / "pages" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def rows(page: str) -> list[list[str]]:
    """The rows of all tables of a page, a bar within a cell being no end of it."""
    return [re.split(r" (?<!\\)\| ", line[2:-2]) for line in page.splitlines() if line.startswith("| ")]


def test_every_table_is_whole(reference: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for make in (reference.commands, reference.grid, reference.settings, reference.files):
        for table in re.findall(r"(?:^\|.*\n)+", make(), flags=re.MULTILINE):
            found = rows(table)
            assert len(found) > 2, table
            assert len({len(row) for row in found}) == 1, table


def test_commands_have_their_arguments_and_options_and_what_is_hidden_stays_so(reference: ModuleType) -> None:
    page = reference.commands()
    for command in ("new", "run", "report", "time", "verify", "list", "show", "export", "schema"):
        assert f"\n## {command}\n" in page
    found = rows(page)
    assert ["`-j, --jobs N`", "", "Trials at once; default: one per GPU, or per core."] in found
    assert ["`--results DIR`", "`results`", "Folder of all results."] in found
    assert ["`GRID`", "required", "Grid files."] in found
    assert "--no-retry" not in page


def test_the_grid_language_has_every_word_of_the_form(reference: ModuleType) -> None:
    words = {row[0].strip("`"): row for row in rows(reference.grid()) if len(row) == 3}
    for name, field in GridForm.model_fields.items():
        assert words[name][2].replace("`", "") == (field.description or "").replace("|", "\\|").replace("`", "")
    assert words["exclude"][2] == "a list of `{when: ..., because: ...}`"
    assert words["question"][1] == "required"
    assert words["seeds"][1] == "`3`"
    assert "hypothesis := " in reference.grid()


def test_settings_have_every_part_with_its_defaults(reference: ModuleType) -> None:
    page = reference.settings()
    for section, known in PARTS.items():
        for name in known:
            assert f"\n### {section}: {name}\n" in page
    found = rows(page)
    assert ["`momentum`", "`0.9`", "number >= 0 and < 1", "share of the last step that is kept (rho)"] in found
    assert {f"`{name}`" for name in TrainSettings.model_fields} <= {row[0] for row in found}


def test_files_have_every_column(reference: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = {row[0] for row in rows(reference.files())}
    assert {f"`{column.name}`" for column in COLUMNS} <= found
    assert {"`matmul_share`", "`p_holm`", "`seeds_for_margin`", "`dev_correct`"} <= found


def test_the_schema_is_that_of_the_command(reference: ModuleType) -> None:
    assert set(json.loads(reference.schema())["properties"]) == set(GridForm.model_fields)
