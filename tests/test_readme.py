"""The README keeps its word: its grids load, its commands exist, its figures are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.grid.load import load_plan

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PARTS = (ROOT / "docs" / "your_parts.md").read_text(encoding="utf-8")
GRIDS = [text for text in re.findall(r"```yaml\n(.*?)```", README + PARTS, flags=re.DOTALL) if "question:" in text]
NET = """
from torch import nn

class TinyNet(nn.Module):
    def __init__(self, in_channels, num_classes, size, width=8, norm=True, shortcut=True, pool=True):
        super().__init__()
"""


@pytest.mark.parametrize("text", GRIDS, ids=lambda text: text.splitlines()[0])
def test_each_grid_loads(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_nets.py").write_text(NET)
    (tmp_path / "mine.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert len(load_plan(tmp_path / "mine.yaml").trials) >= 12


def test_there_are_grids_to_load() -> None:
    assert len(GRIDS) == 3


@pytest.mark.parametrize("name", ["run", "test"])
def test_the_two_commands_stand_where_ci_reads_them(name: str) -> None:
    assert re.search(rf"<!-- {name} -->\n```bash\npython3 -m venv \.venv && .*\n```", README)


def test_each_command_that_it_names_exists() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "--help"], capture_output=True, text=True, check=True)
    for command in set(re.findall(r"python -m bench (\w+)", README)):
        assert re.search(rf"\b{command}\b", done.stdout), command


def test_each_file_that_it_shows_is_in_the_repository() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link
