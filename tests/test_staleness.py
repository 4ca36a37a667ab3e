"""Stale results: kept, marked with what changed, and run again only where that is asked for."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.grid.load import load_plan
from bench.grid.plan import Plan, Trial
from bench.record.records import Records
from bench.record.staleness import find_stale
from lab import fingerprint
from lab.fingerprint import source_fingerprint, sources
from lab.settings import Settings

GRID = """
    question: Is anything out of date?
    base:
      data: {name: digits, limit: 100}
      model: {name: mlp, hidden: [8]}
      optimizer: {name: sgd, lr: 0.1}
      train: {epochs: 1}
    factors:
      model.batch_norm: [true, false]
    seeds: 3
"""
NET = """
    from layers import head
    from torch import nn

    def net(size: int, num_classes: int, bias: bool = True) -> nn.Module:
        return nn.Sequential(nn.Flatten(), head(size * size, num_classes, bias))
"""
LAYERS = "from torch import nn\n\ndef head(*arguments):\n    return nn.Linear(*arguments)\n"


def plan_of(folder: Path, more: str = "") -> Plan:
    (folder / "grid.yaml").write_text(textwrap.dedent(GRID) + more)
    return load_plan(folder / "grid.yaml")


def record(folder: Path, trial: Trial, then: dict[str, str] | None = None, status: str = "ok", **more: object) -> None:
    """A row as if ``trial`` had ended, made by the sources ``then`` (default: those here now)."""
    made_by = sources(trial.settings) if then is None else then
    row = {"trial_id": trial.trial_id, "cell": trial.cell.label, "seed": trial.seed, "status": status}
    row |= {"dev_accuracy": 0.5, "source_fingerprint": fingerprint.fingerprint(made_by)}
    Records(folder).append(row | more, [], sources=made_by)


def test_what_the_sources_here_now_made_is_not_stale(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    for trial in plan.trials:
        record(tmp_path, trial)
    found = find_stale(plan, Records(tmp_path))
    assert found.changed == {}
    assert found.num_finished == 6


def test_a_stale_result_is_told_with_the_files_that_changed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    first, second, third, failed, other, _ = plan.trials
    now = sources(first.settings)
    record(tmp_path, first, now | {"lab/models.py": "other"})
    record(tmp_path, second, now | {"my_nets.py": "gone since"}, "diverged")
    record(tmp_path, third)
    record(tmp_path, failed, now | {"lab/data.py": "other"}, "error")
    Records(tmp_path).append({"trial_id": other.trial_id, "status": "ok", "dev_accuracy": 1, "attempts": 1}, [])
    found = find_stale(plan, Records(tmp_path))
    assert found.changed == {first.trial_id: ("lab/models.py",), second.trial_id: ("my_nets.py",)}
    said = "2 of 4 results were made by other source code than what is here now: lab/models.py, my_nets.py changed"
    assert str(found) == said


def test_trials_that_follow_from_tuning_are_judged_too(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "tune: {optimizer.lr: [0.1, 0.2]}\ntune_seeds: 1\n")
    for trial in plan.trials:
        record(tmp_path, trial)
    dev = {trial.trial_id: 0.5 for trial in plan.trials}
    finals = plan.final_trials(dev)
    assert len(finals) == 6
    for trial in finals:
        record(tmp_path, trial, {"lab/optim.py": "other"})
    assert set(find_stale(plan, Records(tmp_path)).changed) == {trial.trial_id for trial in finals}


def test_the_sources_are_those_that_the_users_modules_import_as_well(
    workshop: Callable[[str, str], None], tmp_path: Path, make_settings: Callable[..., Settings]
) -> None:
    (tmp_path / "parts").mkdir()
    for name, source in [("__init__", ""), ("nets", "from . import layers\n"), ("layers", "import far\n")]:
        (tmp_path / "parts" / f"{name}.py").write_text(source + "import json, lab.settings\n")
    workshop("far", "import parts.nets\n\ndef norm(): ...\n")
    workshop("unused", "")
    workshop("near", "from parts.nets import layers\n\ndef net(num_classes: int, norm: bool = True): ...\n")
    own = {"near.py", "far.py", "parts/__init__.py", "parts/nets.py", "parts/layers.py"}
    settings = make_settings({"model.name": "near:net"})
    assert {name for name in sources(settings) if not name.startswith("lab/")} == own
    before = source_fingerprint(settings)
    workshop("far", "")
    fingerprint._digests.cache_clear()
    assert source_fingerprint(settings) != before
    assert "far.py" in sources(make_settings({"model.replace": {"BatchNorm1d": "far:norm"}}))


def names_after(folder: Path, make_settings: Callable[..., Settings], model: str = "near:net") -> set[str]:
    fingerprint._digests.cache_clear()
    return {name for name in sources(make_settings({"model.name": model})) if not name.startswith("lab/")}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import parts", {"parts/__init__.py"}),
        ("import parts.deep.nets", {"parts/__init__.py", "parts/deep/__init__.py", "parts/deep/nets.py", "far.py"}),
        (
            "import parts.deep.nets as n",
            {"parts/__init__.py", "parts/deep/__init__.py", "parts/deep/nets.py", "far.py"},
        ),
        (
            "from parts.deep import nets",
            {"parts/__init__.py", "parts/deep/__init__.py", "parts/deep/nets.py", "far.py"},
        ),
        (
            "from parts.deep.nets import head",
            {"parts/__init__.py", "parts/deep/__init__.py", "parts/deep/nets.py", "far.py"},
        ),
        ("from parts.deep import *", {"parts/__init__.py", "parts/deep/__init__.py"}),
        ("import open_package.nets", {"open_package/nets.py"}),
        ("if False:\n    import far", {"far.py"}),
        ("try:\n    import far\nexcept ImportError:\n    import none_such", {"far.py"}),
        ("def later():\n    import far", {"far.py"}),
        ("import importlib\nfar = lambda: importlib.import_module('far')", {"far.py"}),
        ("far = lambda: __import__('far')", {"far.py"}),
        ("import broken", {"broken.py"}),
        ("import torch, json, sys, _struct", set()),
        ("from .. import above", set()),
    ],
)
def test_whatever_way_a_module_is_imported_it_counts(
    workshop: Callable[[str, str], None],
    tmp_path: Path,
    make_settings: Callable[..., Settings],
    statement: str,
    expected: set[str],
) -> None:
    for name, source in {
        "parts/__init__": "",
        "parts/deep/__init__": "",
        "parts/deep/nets": "from ..deep.nets import head\nfrom ... import above\nimport far\n",
        "open_package/nets": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.py").write_text(source)
    workshop("far", "")
    workshop("broken", "print 'Python 2'")
    workshop("near", "def net(num_classes: int): ...\n")
    assert names_after(tmp_path, make_settings) == {"near.py"}
    workshop("near", f"def net(num_classes: int): ...\n{statement}\n")
    assert names_after(tmp_path, make_settings) == {"near.py"} | expected


DEEP = """
import a0
class K:
    import a1
    async def f(self):
        from a2 import x
        async with y:
            import a3
        async for i in y:
            import a4
        else:
            import a5
if y:
    import a6
elif z:
    import a7
else:
    while z:
        import a8
    else:
        import a9
try:
    import b0
except* ValueError:
    import b1
else:
    import b2
finally:
    import b3
match y:
    case {"k": 1}:
        import b4
    case _:
        with z: import b5
for i in y: import b6
"""


def test_import_statements_count_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "deep.py").write_text(DEEP)
    found = set(fingerprint._imported("deep", tmp_path / "deep.py"))
    assert {f"a{i}" for i in range(10)} | {f"b{i}" for i in range(7)} == {name for name in found if "." not in name}


def test_a_package_that_is_installed_in_the_working_folder_is_not_the_users_own(
    workshop: Callable[[str, str], None],
    tmp_path: Path,
    make_settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed = tmp_path / ".venv" / "lib" / "site-packages"
    for name in ("theirs", "other"):
        (installed / name).mkdir(parents=True)
        (installed / name / "__init__.py").write_text("import other\ndef net(num_classes: int): ...\n")
    monkeypatch.syspath_prepend(str(installed))
    workshop("near", "import theirs\ndef net(num_classes: int): ...\n")
    assert names_after(tmp_path, make_settings) == {"near.py"}
    assert names_after(tmp_path, make_settings, "theirs:net") == {"theirs/__init__.py"}


def test_every_module_of_lab_that_a_trial_imports_counts_but_those_that_settle_no_number(
    make_settings: Callable[..., Settings],
) -> None:
    code = "import sys, lab.trial; print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'lab'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    files = {Path(file).relative_to(fingerprint.LAB.parent).as_posix() for file in done.stdout.split()}
    apart = {f"{module.replace('.', '/')}.py" for module in fingerprint.APART}
    counted = set(sources(make_settings()))
    assert apart <= files
    assert files - apart <= counted
    assert not apart & counted
    assert "lab/timing.py" not in counted, "no trial imports it"


def test_what_settles_no_number_imports_nothing_that_computes_one() -> None:
    for module in fingerprint.APART:
        imported = set(fingerprint._imported(module, fingerprint.LAB.parent / f"{module.replace('.', '/')}.py"))
        assert imported.isdisjoint({"torch", "numpy", "random"}), module


# --- the command line -----------------------------------------------------------------------------------------------


def bench(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *words]
    environment = os.environ | {"COLUMNS": "200"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "results" / "own" / "trials.csv").open(newline="") as file:
        return {row["trial_id"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where a grid was run before a file that its network imports was changed."""
    folder = tmp_path_factory.mktemp("changed")
    (folder / "nets.py").write_text(textwrap.dedent(NET))
    (folder / "layers.py").write_text(LAYERS)
    grid = GRID.replace("name: mlp, hidden: [8]", "name: 'nets:net'").replace("batch_norm", "bias")
    (folder / "own.yaml").write_text(textwrap.dedent(grid.replace("seeds: 3", "seeds: 1")))
    done = bench("run", "own.yaml", "--no-time", "--executor", "inline", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "source code" not in done.stdout
    (folder / "layers.py").write_text(LAYERS + "# changed\n")
    return folder


def test_a_stale_result_is_kept_and_said_wherever_it_is_shown(changed: Path) -> None:
    before = rows(changed)
    said = "2 of 2 results were made by other source code than what is here now: layers.py changed"
    done = bench("run", "own.yaml", "--no-time", cwd=changed)
    assert done.returncode == 0
    assert f"{said}; `run --rerun stale` trains them again" in done.stdout
    assert rows(changed) == before
    dry = bench("run", "own.yaml", "--dry-run", cwd=changed).stdout
    assert re.search(r"recorded +stale\s*\n.* 1 +1 +1 +1\s*\n", dry)
    assert "0 to run" in dry
    assert said in dry
    assert "0 recorded, 2 to run" in bench("run", "own.yaml", "--dry-run", "--rerun", "stale", cwd=changed).stdout
    shown = bench("show", next(iter(before)), cwd=changed)
    assert "stale: made by other source code than what is here now: layers.py" in shown.stdout


def test_run_stale_reruns_stale_results_and_leaves_the_others(changed: Path) -> None:
    before = rows(changed)
    words = ("run", "own.yaml", "--no-time", "--rerun", "stale", "--executor", "inline")
    assert "1 ok" in bench(*words, "--only", "model.bias=true", cwd=changed).stdout
    partly = rows(changed)
    assert "1 ok" in bench(*words, cwd=changed).stdout
    after = rows(changed)
    assert before.keys() == after.keys()
    assert {row["source_fingerprint"] for row in after.values()}.isdisjoint(
        r["source_fingerprint"] for r in before.values()
    )
    assert [row["attempts"] for row in after.values()] == ["1", "1"]
    renewed = [key for key in before if partly[key] != before[key]]
    assert len(renewed) == 1
    assert after[renewed[0]] == partly[renewed[0]]
    again = bench(*words, cwd=changed)
    assert "nothing to train" in again.stdout
    assert "source code" not in again.stdout
