"""Grids to start from: a short one, or a copy of a shipped one with what it needs."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.cli.options import CommandError
from bench.grid.load import load_plan
from bench.grid.shipped import find, shipped

ROOT = Path(__file__).parents[1]
NEEDED = {"own/lightning": "lightning", "own/trainer": "transformers"}  # by the function of a grid, and no dependency


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def new(*words: str) -> str:
    done = CliRunner().invoke(app, ["new", *words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


@pytest.mark.parametrize("name", list(shipped()))
def test_a_copy_of_each_shipped_grid_is_the_same_plan_in_an_empty_folder(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    new("mine", "--from", name)
    if (needed := NEEDED.get(name)) and find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    plan = load_plan(Path("mine.yaml"))
    monkeypatch.chdir(ROOT)
    original = load_plan(shipped()[name])
    assert plan.question == original.question
    assert [trial.cell.label for trial in plan.trials] == [trial.cell.label for trial in original.trials]
    if plan.run is None:
        assert [trial.trial_id for trial in plan.trials] == [trial.trial_id for trial in original.trials]


def test_code_that_a_grid_names_stands_beside_it_and_is_named_from_where_commands_are_typed() -> None:
    Path("sub").mkdir()
    new("here", "--from", "script")
    new("sub/chars", "--from", "own/characters")
    assert "command: python train_digits.py --seed" in Path("here.yaml").read_text()
    assert "function: sub.characters:run" in Path("sub/chars.yaml").read_text()
    for script in ("train_digits.py", "sub/characters.py"):
        assert Path(script).read_text() == (ROOT / "grids/own" / Path(script).name).read_text()


def test_without_a_name_a_copy_has_that_of_its_grid() -> None:
    assert new("--from", "full/batch_norm").startswith("batch_norm.yaml: written, with schema.json; ")
    assert Path("batch_norm.yaml").exists()


@pytest.mark.parametrize("words", [["short"], ["long", "--from", "optimizers"], ["own", "--from", "script"]])
def test_the_first_line_leads_an_editor_to_the_schema(words: list[str]) -> None:
    new(*words)
    first = Path(f"{words[0]}.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=schema.json"
    assert json.loads(Path("schema.json").read_text())["title"] == "grid"


def test_no_schema_of_something_else_is_replaced() -> None:
    Path("schema.json").write_text('{"title": "orders"}')
    new("mine")
    assert Path("mine.yaml").read_text().startswith("# yaml-language-server: $schema=grid.schema.json\n")
    assert Path("schema.json").read_text() == '{"title": "orders"}'


@pytest.mark.parametrize("grid", sorted((ROOT / "grids").rglob("*.yaml")), ids=lambda path: path.stem)
def test_each_shipped_grid_leads_to_its_schema(grid: Path) -> None:
    line = grid.read_text().splitlines()[0]
    assert (grid.parent / line.removeprefix("# yaml-language-server: $schema=")).resolve() == ROOT / "grids/schema.json"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name the grid: "),
        (["mine"], "mine.yaml: is there already; name another"),
        (["no/mine"], "no such folder: no"),
        (
            ["mine2", "--from", "optimizer"],
            "'optimizer': no such grid; did you mean optimizers? There are architectures",
        ),
        (["mine2", "--from", "script"], "train_digits.py: is there already; name another"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is(words: list[str], message: str) -> None:
    Path("mine.yaml").write_text("mine")
    Path("train_digits.py").write_text("mine")
    with pytest.raises(CommandError, match=re.escape(message)):
        new(*words)
    assert sorted(path.name for path in Path().iterdir()) == ["mine.yaml", "train_digits.py"]


def test_a_name_that_several_folders_have_is_the_one_above_them() -> None:
    assert find("batch_norm").parent.name == "grids"
    assert find("script").parent.name == "own"


def test_list_shows_each_shipped_grid_with_its_question() -> None:
    text = " ".join(CliRunner().invoke(app, ["list", "grids"], env={"COLUMNS": "80"}).output.split())
    assert "residual_vs_plain Do residual shortcuts make deep networks trainable" in text
    assert all(name in text for name in shipped())
