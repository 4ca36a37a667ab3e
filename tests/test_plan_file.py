"""plan.json: what a report needs of a plan, without the modules that its grid names."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bench.grid.load import load_plan
from bench.grid.plan import Plan
from bench.record.asked import is_kept
from bench.record.plan_file import plan_json, read_plan

BASE = """question: Why?
base:
  data: {name: digits, limit: 200}
  model: {name: MODEL}
  optimizer: {name: sgd, lr: 0.1}
  train: {epochs: 1}
seeds: 3
"""
TUNED = BASE.replace("MODEL", "mlp") + "factors: {model.batch_norm: [true, false]}\ntune: {optimizer.lr: [0.1, 1e-2]}\n"
NETS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, in_channels, num_classes, size, width=4, drop=None, extra=()):
        super().__init__()
        first, last = nn.Linear(in_channels * size**2, width), nn.Linear(width, num_classes)
        self.layers = nn.Sequential(nn.Flatten(), first, last)

    def forward(self, X):
        return self.layers(X)

class Nll:
    better = "lower"
"""
FLAT: dict[str, list[dict[str, Any]]] = {}
Keep = Callable[[str], tuple[Plan, Plan]]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keep:
    """The plan of a grid, and what is read back where the user's module is gone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def keep(text: str) -> tuple[Plan, Plan]:
        module = tmp_path / "kept_nets.py"
        module.write_text(NETS)
        sys.modules.pop("kept_nets", None)
        (tmp_path / "mine.yaml").write_text(text)
        plan = load_plan(tmp_path / "mine.yaml")
        FLAT[plan.text] = [trial.settings.flat() for trial in plan.trials]  # while the module is there
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        (folder / "grid.yaml").write_text(plan.text)
        (folder / "plan.json").write_text(plan_json(plan))
        module.unlink()
        sys.modules.pop("kept_nets", None)
        return plan, read_plan(folder)

    return keep


GRIDS = {
    "a full plan": BASE.replace("MODEL", "mlp") + "factors: {model.hidden: [[8], [16, 8]], model.batch_norm: [true]}\n",
    "tuning": TUNED + "tune_seeds: 1\n",
    "a user's network": BASE.replace("MODEL", '"kept_nets:Net"')
    + "factors: {model.width: [2, 4], model.drop: [null, 1]}\n",
    "a user's metric": BASE.replace("MODEL", "mlp").replace("epochs: 1", 'epochs: 1, metric: "kept_nets:Nll"')
    + "factors: {model.batch_norm: [true, false]}\n"
    + "metrics: {test_nll: {margin: 0.1, unit: nats}, test_accuracy: {}}\n"
    + "hypotheses: [model.batch_norm=true beats model.batch_norm=false on test_nll]\n",
    "cells left out and beside": TUNED
    + "exclude: [{when: {model.batch_norm: true}, because: no time}]\ninclude: [{model.name: lenet, data.size: 32}]\n",
}  # fmt: skip


@pytest.mark.parametrize("text", GRIDS.values(), ids=GRIDS)
def test_what_a_report_needs_comes_back_without_the_users_modules(kept: Keep, text: str) -> None:
    plan, restored = kept(text)
    same = {field.name for field in fields(Plan)} - {"factors", "trials", "document", "asked"}
    assert {name: getattr(restored, name) for name in same} == {name: getattr(plan, name) for name in same}
    assert [(f.name, f.levels) for f in restored.factors] == [(f.name, f.levels) for f in plan.factors]
    names = ("trial_id", "cell", "seed", "tuned", "stage")
    seen = [[[getattr(trial, name) for name in names] for trial in one.trials] for one in (restored, plan)]
    assert seen[0] == seen[1]
    assert [trial.settings.flat() for trial in restored.trials] == FLAT[plan.text]


@pytest.mark.parametrize("text", GRIDS.values(), ids=GRIDS)
def test_trials_that_follow_later_keep_their_names(kept: Keep, text: str) -> None:
    plan, restored = kept(text)
    later = [
        [trial.settings.with_seed(seed).trial_id for trial in one.trials for seed in (0, 7)] for one in (plan, restored)
    ]
    assert later[0] == later[1]
    scores: dict[str, float | None] = {trial.trial_id: 0.5 for trial in plan.trials}
    finals = [[trial.trial_id for trial in one.final_trials(scores)] for one in (plan, restored)]
    assert finals[0] == finals[1]


def test_a_folder_of_an_earlier_version_and_an_edited_grid_are_read_from_the_grid(kept: Keep, tmp_path: Path) -> None:
    kept(TUNED)
    folder = tmp_path / "mine"
    (folder / "grid.yaml").write_text(TUNED.replace("Why?", "Why not?"))
    assert read_plan(folder).question == "Why not?"
    (folder / "plan.json").unlink()
    assert read_plan(folder).question == "Why not?"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": 99}'])
def test_a_file_that_is_not_ours_is_made_do_without(kept: Keep, tmp_path: Path, text: str) -> None:
    kept(TUNED)
    (tmp_path / "mine" / "plan.json").write_text(text)
    assert read_plan(tmp_path / "mine").question == "Why?"


def test_the_file_holds_cells_ids_settings_and_metrics(kept: Keep, tmp_path: Path) -> None:
    plan, _ = kept(TUNED)
    found = json.loads((tmp_path / "mine" / "plan.json").read_text())
    assert [cell["label"] for cell in found["cells"]] == [cell.label for cell in plan.cells]
    assert found["metrics"] == ["test_accuracy"]
    assert found["experiments"][0]["settings"]["optimizer"] == {"name": "sgd", "lr": 0.1, "weight_decay": 0.0}
    ids = [trial_id for one in found["experiments"] for trial_id in one["trials"].values()]
    assert ids == [trial.trial_id for trial in plan.trials]


def test_reading_it_imports_neither_torch_nor_the_users_code(kept: Keep, tmp_path: Path) -> None:
    kept(GRIDS["a user's network"])
    code = (
        "from pathlib import Path; from bench.record.plan_file import read_plan; read_plan(Path('mine')); import sys; "
    )
    code += "assert not {'torch', 'kept_nets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe{", b"null"])
def test_a_plan_file_that_was_spoilt_is_made_again_from_the_grid(kept: Keep, content: bytes) -> None:
    plan, _ = kept(TUNED)
    Path("mine/plan.json").write_bytes(content)
    assert read_plan(Path("mine")).trials == plan.trials


def test_a_kept_grid_in_another_encoding_is_not_the_one_that_is_asked_for(kept: Keep) -> None:
    kept(TUNED)
    grid = Path("mine/grid.yaml")
    grid.write_bytes(grid.read_bytes().replace(b"Why", b"Wh\xff"))
    assert not is_kept(TUNED, grid.parent)
