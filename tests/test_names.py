"""Modules of the user's folder may have any name; what they do on import stays theirs."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lab.fingerprint import sources_of

NET = """
from torch import nn
{imports}

class Net(nn.Module):
    def __init__(self, in_channels: int, num_classes: int, size: int, width: int = 8):
        super().__init__()
        self.first = nn.Linear(in_channels * size * size, width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, X):
        return self.head(self.first(X.flatten(1)).relu()) * {factor}
"""
GRID = """
question: Does width matter?
base:
  data: {{name: digits, limit: 100}}
  model: {{name: "{module}:Net"}}
  optimizer: {{name: momentum, lr: 0.05}}
  train: {{epochs: 1}}
factors: {{model.width: [4, 8]}}
seeds: 1
"""
HOSTILE = "raise RuntimeError('imported by another than the user')\n"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))


def bench(folder: Path, *words: str, script: bool = False) -> subprocess.CompletedProcess[str]:
    """``python -m bench``, or the command ``bench`` as an installation writes it."""
    command = [sys.executable, "-m", "bench"]
    if script:
        write(folder / "bin", {"bench": "from bench.cli import main\nmain()\n"})
        command = [sys.executable, str(folder / "bin" / "bench")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    return subprocess.run([*command, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def trials(folder: Path) -> list[dict[str, str]]:
    with (folder / "results" / "g" / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def run(folder: Path, script: bool = False) -> None:
    done = bench(folder, "run", "g.yaml", "-j", "1", "--no-time", script=script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["status"] for row in trials(folder)] == ["ok", "ok"]


def test_a_module_called_as_ours_is_the_users_for_the_user_and_ours_for_us(tmp_path: Path) -> None:
    own = {"lab.py": NET.format(imports="from utils import ONE\nimport random", factor="ONE * random.mine()")}
    own |= {"utils.py": "import logging\nONE = 1.0\n", "random.py": "def mine():\n    return 1.0\n"}
    names = ["pathlib", "tempfile", "queue", "yaml", "rich", "pandas", "socket"]
    hostile = {f"{name}.py": HOSTILE for name in names}
    write(tmp_path, own | hostile | {"g.yaml": GRID.format(module="lab")})
    run(tmp_path)
    with (tmp_path / "results" / "g" / "sources.csv").open(newline="") as file:
        files = {row["file"] for row in csv.DictReader(file)}
    assert {"lab.py", "utils.py", "random.py", "lab/__init__.py", "lab/runner.py"} <= files
    assert not files & hostile.keys()


def test_a_package_called_as_ours_finds_its_own_modules(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "lab/__init__.py": "",
            "lab/nets.py": NET.format(
                imports="import lab.parts\nfrom lab import parts as p\nfrom . import parts", factor="p.ONE"
            ),
            "lab/parts.py": "ONE = 1.0\n",
            "g.yaml": GRID.format(module="lab.nets"),
        },
    )
    run(tmp_path)


def test_folders_called_as_ours_need_no_init_file_and_names_as_text_do(tmp_path: Path) -> None:
    load = "import importlib; parts = importlib.import_module('queue')"
    write(
        tmp_path,
        {
            "lab/nets.py": NET.format(imports=f"from bench.parts import ONE\n{load}", factor="ONE * parts.ONE"),
            "bench/parts.py": "ONE = 1.0\n",
            "queue.py": "ONE = 1.0\n",
            "g.yaml": GRID.format(module="lab.nets"),
        },
    )
    run(tmp_path)
    with (tmp_path / "results" / "g" / "sources.csv").open(newline="") as file:
        assert {"./lab/nets.py", "bench/parts.py", "queue.py"} <= {row["file"] for row in csv.DictReader(file)}


def test_a_link_to_the_folder_on_the_path_hides_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    write(folder, {"linked_nets.py": "import linked_parts\n", "linked_parts.py": ""})
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "link"), *sys.path])
    assert list(sources_of(["linked_nets"], folder)) == ["linked_nets.py", "linked_parts.py"]


def test_with_a_bench_or_types_module_the_command_works(tmp_path: Path) -> None:
    hostile = {"bench.py": HOSTILE, "typer.py": HOSTILE, "enum.py": HOSTILE}
    own = {"types.py": "ONE = 1.0\n", "nets.py": NET.format(imports="from types import ONE", factor="ONE")}
    write(tmp_path, hostile | own | {"g.yaml": GRID.format(module="nets")})
    run(tmp_path, script=True)


def test_a_module_that_wraps_its_namesake_gets_it(tmp_path: Path) -> None:
    own = {"logging.py": "import logging\nname = logging.getLogger('x').name\n"}
    own |= {"nets.py": NET.format(imports="import logging", factor="len(logging.name)")}
    write(tmp_path, own | {"g.yaml": GRID.format(module="nets")})
    run(tmp_path)


ON_IMPORT = """
import argparse, multiprocessing as m, os, signal, subprocess, sys, time, warnings
argparse.ArgumentParser().parse_args()
print("hello from the user")
print("and here", file=sys.stderr)
os.system("echo hello from a child")
os.environ["OMP_NUM_THREADS"] = "x"
os.chdir("/")
child = subprocess.Popen(["sleep", "7654"])
pool = m.get_context("fork").Pool(2)
m.get_context("fork").Process(target=time.sleep, args=(7654,)).start()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
warnings.simplefilter("error")
"""


def test_what_a_module_does_on_import_disturbs_nobody(tmp_path: Path) -> None:
    write(tmp_path, {"nets.py": ON_IMPORT + NET.format(imports="", factor="1"), "g.yaml": GRID.format(module="nets")})
    run(tmp_path)
    done = bench(tmp_path, "report", "g.yaml", "--format", "csv")
    assert done.returncode == 0, done.stderr
    assert "," in done.stdout.splitlines()[0]
    assert "hello" not in done.stdout + done.stderr
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 7654" not in left


@pytest.mark.parametrize(
    ("command", "line", "reason"),
    [
        ("run", "import sys; sys.exit('no GPU here')", "cannot import nets: SystemExit: no GPU here (nets.py, line 1)"),
        ("run", "import os; os._exit(3)", "cannot import nets: it ended the process with exit code 3"),
        ("list", "import os; os.kill(os.getpid(), 9)", "cannot import nets: it ended the process by SIGKILL"),
        (
            "time",
            "import argparse; p = argparse.ArgumentParser(); p.add_argument('--data', required=True); p.parse_args()",
            "the following arguments are required: --data",
        ),
        ("verify", "import nowhere", "cannot import nets: No module named 'nowhere' (nets.py, line 1)"),
        ("report", "x = {}['key']", "cannot import nets: KeyError: 'key' (nets.py, line 1)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_message(tmp_path: Path, command: str, line: str, reason: str) -> None:
    write(tmp_path, {"nets.py": line + "\n" + NET.format(imports="", factor="1"), "g.yaml": GRID.format(module="nets")})
    done = bench(tmp_path, command, "nets:Net" if command == "list" else "g.yaml")
    assert done.returncode == 2
    assert done.stderr.count(reason) == 1, done.stderr
    assert "Traceback" not in done.stderr
