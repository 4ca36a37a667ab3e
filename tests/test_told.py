"""A trial that fails says in its row which function it was, what that gave, and what to do; none is silently ok."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch.nn.functional as F
import yaml
from typer.testing import CliRunner

from bench.cli import app
from bench.cli.options import CommandError

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, width: int = 4):
        super().__init__()
        self.first, self.last = nn.Linear(64, width), nn.Linear(width, num_classes)
    def forward(self, x):
        return self.last(self.first(x.flatten(1)).relu())
"""
HEAD = (
    "class Score:\n    better = 'higher'\n    def __init__(self): self.reset()\n    def reset(self): self.found = {}\n"
)
names = map("told_{}".format, itertools.count())


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(code: str, **sections: dict[str, Any]) -> tuple[int, str, list[dict[str, str]]]:
    """Writes a module of the code and runs a grid that names its parts as ``own:Part``: exit code, output, rows."""
    name = next(names)
    Path(f"{name}.py").write_text(code)
    base: dict[str, Any] = {
        "data": {"name": "digits", "limit": 40},
        "model": {"name": "mlp", "hidden": [4]},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "train": {"epochs": 1},
    }
    for section, given in sections.items():
        base[section] = given if section == "model" else {**base[section], **given}
    grid = {"question": "Does it?", "base": base, "factors": {"optimizer.lr": [0.1]}, "seeds": 1}
    Path("grid.yaml").write_text(yaml.safe_dump(grid).replace("own:", f"{name}:"))
    options = ["--results", name, "--executor", "inline", "--no-time", "--device", "cpu"]
    done = CliRunner().invoke(app, ["run", "grid.yaml", *options], catch_exceptions=False)
    record = Path(name, "grid", "trials.csv")
    rows = list(csv.DictReader(record.read_text().splitlines())) if record.exists() else []
    return (
        done.exit_code,
        done.output.replace(name, "own"),
        [{key: value.replace(name, "own") for key, value in row.items()} for row in rows],
    )


def error_of(code: str, **sections: dict[str, Any]) -> str:
    exit_code, output, rows = run(code, **sections)
    assert (exit_code, len(rows)) == (1, 1), output
    assert [row["status"] for row in rows] == ["error"]
    return rows[0]["error"]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (
            HEAD + "    def update(self, x, y): pass\n    def compute(self): return self.found['f1']\n",
            "KeyError: 'f1' (own.py, line 6, in compute: def compute(self): return self.found['f1'])",
        ),
        (
            HEAD + "    def update(self, x, y):\n        assert len(x) > 999\n    def compute(self): return 1.0\n",
            "AssertionError (own.py, line 6, in update: assert len(x) > 999)",
        ),
        (
            HEAD + "    def update(self, x, y): x @ x\n    def compute(self): return 1.0\n",
            "(own.py, line 5, in update)",
        ),
        (
            HEAD + "    def update(self, x, y): pass\n    def compute(self): raise StopIteration\n",
            "StopIteration (own.py, line 6, in compute: def compute(self): raise StopIteration)",
        ),
    ],
)
def test_what_a_metric_raises_is_told_with_its_line(code: str, told: str) -> None:
    assert told in error_of(code, train={"metric": "own:Score"})


def test_what_a_loss_or_a_network_raises_is_told_with_its_line() -> None:
    loss = "def loss(logits, labels):\n    return {}[0]\n"
    assert error_of(loss, train={"loss": "own:loss"}) == "KeyError: 0 (own.py, line 2, in loss: return {}[0])"
    broken = NET.replace("x.flatten(1)", "x")
    assert "(own.py, line 10, in forward)" in error_of(broken, model={"name": "own:Net"})


def test_a_function_of_torch_that_a_module_replaced_is_not_the_built_in_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = NET + "torch.nn.functional.cross_entropy = lambda *given, **named: given[0].mean()\n"
    monkeypatch.setattr(F, "cross_entropy", F.cross_entropy)  # put back by undo
    exit_code, output, replaced = run(code, model={"name": "own:Net"})
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert (exit_code, replaced[0]["status"]) == (0, "ok"), output
    _, _, plain = run(NET, model={"name": "own:Net"})
    assert replaced[0]["test_loss"] == plain[0]["test_loss"]


EMBEDDING = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.table = nn.Embedding(17, num_classes, sparse=True)
    def forward(self, x):
        return self.table((x.flatten(1) * 0 + 3).long()).mean(1)
"""


@pytest.mark.parametrize(
    ("sections", "setting"),
    [({"train": {"clip_norm": 1.0}}, "train.clip_norm"), ({"optimizer": {"name": "adam"}}, "optimizer.name")],
)
def test_sparse_gradients_name_the_setting_and_the_parameter(sections: dict[str, Any], setting: str) -> None:
    told = error_of(EMBEDDING, model={"name": "own:Net"}, **sections)
    assert (
        f"{setting} does not go with the sparse gradient of table.weight: make that module without `sparse=True`"
        in told
    )


def test_sparse_gradients_train_where_the_optimizer_takes_them() -> None:
    assert run(EMBEDDING, model={"name": "own:Net"})[2][0]["status"] == "ok"


def test_a_batch_of_one_under_batch_normalisation_names_the_batch_size() -> None:
    normed = NET.replace("nn.Linear(64, width), ", "nn.Sequential(nn.Linear(64, width), nn.BatchNorm1d(width)), ")
    told = error_of(normed, model={"name": "own:Net"}, data={"batch_size": 1})
    assert told.startswith("ValueError: data.batch_size must be at least 2")


@pytest.mark.parametrize("told_classes", ["", ", num_classes=2"])
def test_data_of_one_class_is_refused_before_training(told_classes: str) -> None:
    code = (
        "import numpy as np\n"
        "def data():\n    x, y = np.random.default_rng(0).random((40, 1, 8, 8)), np.zeros(40, int)\n"
        f"    return dict(train_images=x, train_labels=y, test_images=x, test_labels=y{told_classes})\n"
    )
    with pytest.raises(CommandError, match="all training labels are one class"):  # exit code 2
        run(code, data={"name": "own:data", "limit": None})
    assert not list(Path().glob("told_*/grid/trials.csv"))


def test_one_class_is_right_with_a_loss_that_needs_no_labels() -> None:
    code = (
        "import numpy as np\n"
        "def data():\n    x, y = np.random.default_rng(0).random((40, 1, 8, 8)), np.zeros(40, int)\n"
        "    return dict(train_images=x, train_labels=y, test_images=x, test_labels=y)\n"
        "def loss(logits, labels):\n    return (logits ** 2).mean()\n"
    )
    exit_code, output, _ = run(code, data={"name": "own:data", "limit": None}, train={"loss": "own:loss"})
    assert exit_code == 0, output


def test_examples_that_stand_in_train_and_in_test_are_said() -> None:
    code = (
        "import numpy as np\n"
        "def data():\n    x, y = np.random.default_rng(0).random((40, 1, 8, 8)), np.arange(40) % 2\n"
        "    return dict(train_images=x, train_labels=y, test_images=x, test_labels=y)\n"
    )
    exit_code, output, _ = run(code, data={"name": "own:data", "limit": None})
    assert exit_code == 0
    assert "warning: data own:data: 40 of 40 examples of test stand among those to learn from, too" in output


def test_rows_of_curves_and_bits_that_cannot_be_read_are_said_in_the_report() -> None:
    run("", data={"name": "digits"})
    folder = next(Path().glob("told_*/grid"))
    curves, correct = ((folder / name).read_text().splitlines() for name in ("curves.csv", "correct.csv"))
    header = curves[0].split(",")
    cells = curves[1].split(",")
    cells[header.index("train_seconds")] = "soon"
    (folder / "curves.csv").write_text("\n".join([*curves, ",".join(cells), "a,b"]) + "\n")
    bits = correct[1].split(",")
    bits[correct[0].split(",").index("correct")] = "AAAA"
    (folder / "correct.csv").write_text("\n".join([*correct, ",".join(bits)]) + "\n")
    done = CliRunner().invoke(app, ["report", "grid.yaml", "--results", str(folder.parent)], env={"COLUMNS": "400"})
    said = " ".join(done.output.split())
    assert f"curves.csv:{len(curves) + 1}: train_seconds must be a number, got 'soon'; the row is left out" in said
    assert f"curves.csv:{len(curves) + 2}: a row must have the header's" in said
    assert "correct.csv:3: correct must be 360 bits in base64; the row is left out" in said
