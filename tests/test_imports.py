"""Arrows point one way: from the driver to the laboratory, from the particular to the general, and not to torch."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("lab", "bench")


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))}


def imported(nodes: Iterator[ast.AST], package: str) -> set[str]:
    """The modules of ours that import statements among the nodes name."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found |= {source, *(f"{source}.{alias.name}" for alias in node.names)}
    return found & MODULES.keys()


def on_import(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: all but the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from on_import(node)


def arrows(*, at_once: bool) -> dict[str, set[str]]:
    """From each module to those it imports: when it is imported, or ever."""
    found = {}
    for name, file in MODULES.items():
        tree = ast.parse(file.read_text())
        package = name if file.stem == "__init__" else name.rpartition(".")[0]
        found[name] = imported(on_import(tree) if at_once else ast.walk(tree), package) - {name, package}
    return found


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The ways that lead back to where they began."""
    found, done = [], set()

    def walk(name: str, way: list[str]) -> None:
        if name in way:
            found.append([*way[way.index(name) :], name])
        elif name not in done:
            for target in sorted(graph[name]):
                walk(target, [*way, name])
            done.add(name)

    for name in sorted(graph):
        walk(name, [])
    return found


def test_the_walk_sees_the_arrows_it_is_there_for() -> None:
    ever = arrows(at_once=False)
    assert "lab.settings" in ever["lab.trial"]
    assert "lab.models" in ever["lab.networks"]
    assert "lab.models" not in arrows(at_once=True)["lab.networks"]
    assert any(name.startswith("lab.") for module in ever if module.startswith("bench") for name in ever[module])
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == [["a", "b", "c", "a"]]


ROOMS = {  # a room may import those named, and whatever they may
    "bench.grid": {"lab"},
    "bench.stats": {"lab"},
    "bench.record": {"bench.grid"},
    "bench.execute": {"bench.record", "bench.grid", "bench.stats"},
    "bench.analysis": {"bench.record", "bench.grid", "bench.stats"},
    "bench.report": {"bench.analysis"},
    "bench.watch": {"bench.report"},
    "bench.studies": {"bench.report", "bench.execute"},
    "bench.cli": {"bench.studies", "bench.watch"},
    "lab": set(),
}


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2]) if module.startswith("bench.") else module.partition(".")[0]


def reachable(room: str) -> set[str]:
    return {room}.union(*(reachable(other) for other in ROOMS[room]))


def test_every_module_has_a_room() -> None:
    assert {room_of(name) for name in MODULES} - {"bench", "bench.__main__"} == ROOMS.keys()


def test_rooms_import_only_what_the_table_allows() -> None:
    for name, targets in arrows(at_once=False).items():
        if room_of(name) in ROOMS:
            foreign = {target for target in targets if room_of(target) not in reachable(room_of(name)) | {"bench"}}
            assert not foreign, f"{name} imports {', '.join(sorted(foreign))}"


def test_the_laboratory_knows_nothing_of_the_driver() -> None:
    for name, targets in arrows(at_once=False).items():
        if name.startswith("lab"):
            assert not {target for target in targets if target.startswith("bench")}, name


def test_no_module_imports_one_that_imports_it() -> None:
    assert cycles(arrows(at_once=False)) == []


# --- what never imports torch ---------------------------------------------------------------------------------------

RUN_ON_IMPORT = {"bench.__main__", "bench.execute.warm"}  # the one runs the command, the other is there to load torch
TORCH_FREE = sorted(name for name in MODULES.keys() - RUN_ON_IMPORT if name.startswith("bench"))
TORCH_FREE += ["lab", "lab.settings", "lab.result", "lab.parts", "lab.networks", "lab.optim", "lab.schedules"]


def loads_torch(code: str, *arguments: str) -> bool:
    """Whether torch is loaded after the code, run in a process of its own."""
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
    script += "print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1] == "True"


def test_the_question_can_be_answered_with_yes() -> None:
    assert loads_torch("import lab.trial")


def test_the_driver_and_the_settings_import_without_torch() -> None:
    assert not loads_torch(f"import {', '.join(TORCH_FREE)}")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["report", "--help"], ["list"]])
def test_the_command_line_answers_without_torch(arguments: list[str]) -> None:
    run = "import runpy; sys.argv[0] = 'bench'; runpy.run_module('bench', run_name='__main__')"
    assert not loads_torch(run, *arguments)


@pytest.mark.parametrize("typed", ["run grids/own/characters.yaml --only ", "report --format ", "show ", "new --from "])
def test_shells_are_answered_without_torch(typed: str) -> None:
    """And without the code that a grid names, which would bring it."""
    asked = {"_BENCH_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    asked["_TYPER_COMPLETE_ARGS"] = f"bench {typed}"
    run = f"import os, runpy; os.environ.update({asked!r}); sys.argv[:] = ['bench']"
    assert not loads_torch(f"{run}; runpy.run_module('bench', run_name='__main__')")


def test_built_in_settings_are_checked_without_torch() -> None:
    raw = {"data": {"name": "digits"}, "model": {"name": "lenet"}, "optimizer": {"name": "adam", "lr": 0.1}}
    raw |= {"train": {"epochs": 1}}
    assert not loads_torch(f"from lab import Settings; Settings.parse({raw!r})")


def test_a_run_trains_without_torch_in_the_driver(tmp_path: Path) -> None:
    """Its workers have it; what they send must not bring it along."""
    grid = tmp_path / "small.yaml"
    grid.write_text(
        "question: Does it run?\nbase:\n  data: {name: digits, limit: 100}\n  model: {name: mlp, hidden: [4]}\n"
        "  optimizer: {name: sgd}\n  train: {epochs: 1}\nfactors: {optimizer.lr: [0.1, 0.2]}\nseeds: 1\n"
        "baseline: {optimizer.lr: 0.1}\n"
    )
    run = "import runpy; sys.argv[0] = 'bench'; runpy.run_module('bench', run_name='__main__')"
    words = ("--results", str(tmp_path / "results"), "--device", "cpu", "--time")
    assert not loads_torch(run, "run", str(grid), *words)
    assert (tmp_path / "results" / "small" / "timings.csv").exists()
