"""README and docs keep their word: their grids load, their commands and options exist, their files are there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.grid.load import load_plan

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md"))}
EXAMPLES = ROOT / "docs" / "examples"
GRIDS = [
    text
    for page in (README, *PAGES.values())
    for text in re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    if "question:" in text and "\nrun:" not in text
]


@pytest.mark.parametrize("text", GRIDS, ids=lambda text: text.splitlines()[0])
def test_each_grid_loads(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_nets.py").write_text((EXAMPLES / "my_nets.py").read_text())
    (tmp_path / "mine.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert len(load_plan(tmp_path / "mine.yaml").trials) >= 12


def test_there_are_grids_to_load() -> None:
    assert len(GRIDS) == 4


def test_the_example_is_one_and_the_notebook_of_the_docs_runs_it() -> None:
    book = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in book["cells"]]
    for name in ("my_nets.py", "mine.yaml"):
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        for page in (README, PAGES["tutorial.md"]):
            assert f"`{name}`" in page
            assert f"\n{text}```" in page
        assert f"%%writefile {name}\n{text}".rstrip() in cells
    assert all(not cell.get("outputs") for cell in book["cells"]), "outputs are those of the build"


@pytest.mark.parametrize("name", ["run", "test"])
def test_the_two_commands_stand_where_ci_reads_them(name: str) -> None:
    assert re.search(rf"<!-- {name} -->\n```bash\npython3 -m venv \.venv && .*\n```", README)


def help_of(*command: str) -> str:
    words = [sys.executable, "-m", "bench", *command, "--help"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_each_command_that_they_name_exists() -> None:
    known = help_of()
    for name, text in {"README.md": README, **PAGES}.items():
        for command in set(re.findall(r"python -m bench ([a-z]+)", text)):
            assert re.search(rf"\b{command}\b", known), (name, command)


@pytest.mark.parametrize("command", ["run", "report"])
def test_each_option_that_they_name_exists(command: str) -> None:
    known = help_of(command)
    for name, text in {"README.md": README, **PAGES}.items():
        for line in re.findall(rf"python -m bench {command} ([^`\n#]*)", text):
            for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", line.split("&&")[0]):
                assert option in known, (name, option)


def test_each_file_that_the_readme_links_is_in_the_repository() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) > 20
    for link in links:
        assert (ROOT / link).exists(), link


def test_every_page_is_found_in_the_site() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for name in PAGES:
        found = re.findall(rf"(?<=[ \[]){re.escape(name)}\b", site)
        assert len(found) == 1, f"{name}: stands {len(found)} times in nav of mkdocs.yml, not once"
