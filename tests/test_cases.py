"""Fifteen small inputs that a harness may answer wrongly in silence, each by its name, as a user would run them.

Each stands for a kind, whose other members are tested where that kind is: metrics in ``test_own_metrics``, data in
``test_datasets`` and ``test_layouts``, the state of the process in ``test_process`` and ``test_fresh``, settings in
``test_arguments``, which grid is answered in ``test_asked``, text in ``test_text``.
"""

from __future__ import annotations

import csv
import html
import importlib.util
import itertools
import random
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from metric_code import METRICS
from PIL import Image
from typer.testing import CliRunner

from bench.cli import app
from bench.cli.options import CommandError
from bench.grid.load import GridError
from bench.record.table import RecordError
from bench.report import telling
from lab.data.loading import _splits

NAMES = map("case_{}".format, itertools.count())  # of the user's module: each test imports its own


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.chdir(tmp_path)
    if request.function is not test_labels:
        monkeypatch.setattr(telling, "titles", lambda findings: {})  # pictures take seconds, and are not asked about


def bench(*words: str) -> tuple[int, str]:
    """Runs a command in this process: its exit code, and what it says as one line."""
    alone = ["--executor", "inline", "--no-time", "--device", "cpu"] if words[0] == "run" else []
    _splits.cache_clear()  # what files hold is read again, as a process of its own would
    done = CliRunner().invoke(app, [*words, *alone, "--results", "out"], env={"COLUMNS": "160"})
    if isinstance(done.exception, CommandError | GridError | RecordError):
        return 2, str(done.exception)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, " ".join(done.output.split())


def write(path: str, factors: dict[str, Any], module: str = "", **more: Any) -> None:
    """Writes a grid, and the module that it names as ``own:``; a section given as a mapping adds to the usual one."""
    if module:
        name = next(NAMES)
        Path(f"{name}.py").write_text(module)
    base: dict[str, Any] = {
        "data": {"name": "digits", "limit": 200},
        "model": {"name": "mlp", "hidden": [8]},
        "optimizer": {"name": "momentum", "lr": 0.05},
        "train": {"epochs": 2},
    }
    for section in base.keys() & more.keys():
        given = more.pop(section)
        base[section] = given if "name" in given else {**base[section], **given}
    grid = {"question": "Which is better?", "base": base, "factors": factors, "seeds": 1, **more}
    text = yaml.safe_dump(grid, sort_keys=False, allow_unicode=True)
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.replace("own:", f"{name}:") if module else text)


def rows(grid: str = "grid") -> list[dict[str, str]]:
    record = Path("out", grid, "trials.csv")
    return list(csv.DictReader(record.read_text().splitlines())) if record.exists() else []


def run(*words: str) -> list[dict[str, str]]:
    """Runs the grid; its rows, all ok."""
    code, said = bench("run", "grid.yaml", *words)
    found = rows()
    assert (code, {row["status"] for row in found}) == (0, {"ok"}), said
    return found


def column(name: str, found: list[dict[str, str]]) -> list[float]:
    return [float(row[name]) for row in found]


# --- what user code returns -----------------------------------------------------------------------------------------

SCORES = (
    METRICS
    + """
class Never(MacroPrecision):
    def accumulate(self):
        return math.nan

class Nll:
    better = "lower"
    def reset(self):
        self.total, self.n = 0.0, 0
    def update(self, logits, labels):
        self.total += float(F.cross_entropy(logits, labels, reduction="sum"))
        self.n += len(labels)
    def accumulate(self):
        return self.total / self.n

class MinusNll(Nll):
    better = "higher"
    def accumulate(self):
        return -super().accumulate()

class Silent(Nll):
    better = None

class Hits:
    better = "higher"
    def reset(self):
        self.hits, self.total = 0, 0
    def update(self, logits, labels):
        self.hits = self.hits + (logits.argmax(1) == labels).sum()
        self.total += len(labels)
    def accumulate(self):
        return self.hits / self.total  # a tensor of no dimensions

class Both(Hits):
    def accumulate(self):
        return torch.ones(2)
"""
)


def curve(score: str, trial: dict[str, str]) -> dict[float, float]:
    """The score by the epoch it was measured at; NaN where it was undefined."""
    lines = csv.DictReader(Path("out/grid/curves.csv").read_text().splitlines())
    return {
        float(line["epoch"]): float(line[score] or "nan") for line in lines if line["trial_id"] == trial["trial_id"]
    }


def test_nan_metric() -> None:
    write(
        "grid.yaml",
        {"model.hidden": [[16]]},
        SCORES,
        data={"limit": 400},
        train={"metric": "own:MacroPrecision", "epochs": 4},
    )
    (trial,) = run()
    values = curve("dev_macro_precision", trial)
    assert np.isnan(values[0]), "a class is never predicted before training"
    assert float(trial["selected_epoch"]) > 0
    assert float(trial["dev_macro_precision"]) == np.nanmax(list(values.values()))
    assert 0 < float(trial["test_macro_precision"]) <= 1


def test_nan_metric_that_is_never_defined() -> None:
    write("grid.yaml", {"model.hidden": [[16]]}, SCORES, train={"metric": "own:Never"})
    assert bench("run", "grid.yaml")[0] == 1
    (trial,) = rows()
    assert trial["status"] == "error"
    assert trial["error"].startswith("dev_never is a finite number in none of 3 evaluations, although the loss is")
    assert "test_never" not in trial


@pytest.mark.parametrize(("name", "best", "ahead"), [("Nll", min, "-"), ("MinusNll", max, "+")])
def test_lower_is_better(name: str, best: Any, ahead: str) -> None:
    write("grid.yaml", {"model.hidden": [[16], [64]]}, SCORES, train={"metric": f"own:{name}"}, data={"limit": 400})
    found = run()
    score = {"Nll": "nll", "MinusNll": "minus_nll"}[name]
    for trial in found:
        values = curve(f"dev_{score}", trial)
        assert values[float(trial["selected_epoch"])] == float(trial[f"dev_{score}"]) == best(values.values())
    code, said = bench("report", "grid.yaml")
    assert code == 0
    assert f"model.hidden [64] − [16] {ahead}" in said
    assert "%" not in said.split("effects on")[1].split("difference:")[0], "a likelihood is no share"


def test_lower_is_better_needs_the_direction() -> None:
    write("grid.yaml", {"model.hidden": [[4], [64]]}, SCORES, train={"metric": "own:Silent"})
    code, said = bench("run", "grid.yaml")
    assert (code, rows()) == (2, [])
    assert 'does not say which direction is better; add the line `better = "lower"`' in said


def test_tensor_metric() -> None:
    write("grid.yaml", {"model.hidden": [[8]]}, SCORES, train={"metric": "own:Hits"})
    (trial,) = run()
    assert float(trial["test_hits"]) == pytest.approx(float(trial["test_accuracy"]), abs=1e-6)
    record = Path("out/grid/trials.csv")
    whole = record.read_text()
    assert whole.count(trial["test_hits"]) >= 1
    record.write_text(whole.replace(trial["test_hits"], "tensor(0.8194)"))  # as it was written once
    code, said = bench("report", "grid.yaml")
    assert (code, "test_hits must be a number, got 'tensor(0.8194)'" in said) == (0, True), said
    assert [row["test_hits"] for row in run()] == [trial["test_hits"]]


def test_tensor_metric_of_two_numbers() -> None:
    write("grid.yaml", {"model.hidden": [[8]]}, SCORES, train={"metric": "own:Both"})
    assert bench("run", "grid.yaml")[0] == 1
    assert "must return a number, returned a tensor of shape (2,)" in rows()[0]["error"]


# --- networks, losses and what they take ----------------------------------------------------------------------------

NETS = """
import random
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

class PatchNet(nn.Module):
    def __init__(self, in_channels, num_classes, size, patch=(2, 2), width=8, norm=True):
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn((width, in_channels) + patch))
        self.stride = patch
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.fc = nn.Linear(width * (size // patch[0]) * (size // patch[1]), num_classes)
    def forward(self, X):
        return self.fc(self.norm(F.conv2d(X, self.weight, stride=self.stride)).relu().flatten(1))

class AuxNet(nn.Module):
    '''Two heads while training, as GoogLeNet has; one in evaluation.'''
    def __init__(self, in_channels, num_classes, size, aux=True):
        super().__init__()
        self.first = nn.Linear(in_channels * size * size, 8)
        self.head = nn.Linear(8, num_classes)
        self.aux = nn.Linear(8, num_classes) if aux else None
    def forward(self, X):
        h = self.first(X.flatten(1)).relu()
        return (self.head(h), self.aux(h)) if self.training and self.aux is not None else self.head(h)

def aux_loss(out, y):
    outputs = out if isinstance(out, tuple) else (out,)
    return sum(F.cross_entropy(one, y) for one in outputs)

class Drop(nn.Module):
    '''Skips a block at random while training, by numpy's generator and Python's.'''
    def __init__(self, in_channels, num_classes, size):
        super().__init__()
        self.first = nn.Linear(in_channels * size * size, 8)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.head = nn.Linear(8, num_classes)
    def forward(self, X):
        h = self.first(X.flatten(1)).relu()
        for block in self.blocks:
            if not (self.training and np.random.rand() < random.random()):
                h = h + block(h).relu()
        return self.head(h)

class Turning(nn.Module):
    '''With double, its author sets torch's default type, as scripts do that run once.'''
    def __init__(self, in_channels, num_classes, size, double=False):
        super().__init__()
        if double:
            torch.set_default_dtype(torch.float64)
        self.first = nn.Linear(in_channels * size * size, 8)
        self.head = nn.Linear(8, num_classes)
    def forward(self, X):
        return self.head(self.first(X.flatten(1).to(self.first.weight.dtype)).relu())

class Focal(nn.Module):
    def __init__(self, gamma: float = 2.0):
        super().__init__()
        self.gamma = gamma
    def forward(self, logits, y):
        nll = F.cross_entropy(logits, y, reduction="none")
        return ((1 - torch.exp(-nll)) ** self.gamma * nll).mean()
"""
MEASURED = ["test_loss", "dev_loss", "test_accuracy", "final_train_loss"]


def test_tuple_default() -> None:
    write("grid.yaml", {"model.norm": [True, False]}, NETS, model={"name": "own:PatchNet"})
    assert len(run()) == 2
    write("grid.yaml", {"model.norm": [True]}, NETS, model={"name": "own:PatchNet", "patch": [4, 4]})
    assert bench("run", "grid.yaml", "--rerun", "all")[0] == 0, "a pair that the grid names arrives as a pair, too"


def test_tuple_output() -> None:
    factors = {"model.aux": [True, False]}
    write("grid.yaml", factors, NETS, model={"name": "own:AuxNet"}, train={"loss": "own:aux_loss"})
    code, said = bench("run", "grid.yaml", "--dry-run", "--price")
    assert (code, "fail" in said) == (0, False), said
    assert len(run()) == 2
    assert "fail" not in bench("run", "grid.yaml")[1]


def test_own_generators() -> None:
    optimizers = ["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop"]  # some parameters' first gradient is late
    write("grid.yaml", {"optimizer.name": optimizers}, NETS, model={"name": "own:Drop"}, train={"epochs": 1})
    first = run()
    np.random.seed(None)
    random.seed(None)
    again = run("--rerun", "all")
    assert [[row[name] for name in MEASURED] for row in again] == [[row[name] for name in MEASURED] for row in first]


def test_process_state() -> None:
    found = []
    for levels in ([True, False], [False, True]):
        write(
            "grid.yaml",
            {"model.double": levels},
            NETS,
            model={"name": "own:Turning"},
            name=f"first_{levels[0]}".lower(),
        )
        assert bench("run", "grid.yaml")[0] == 0
        found.append(
            {row["model.double"]: [row[name] for name in MEASURED] for row in rows(f"first_{levels[0]}".lower())}
        )
    assert found[0] == found[1]
    assert found[0]["true"] != found[0]["false"]


def test_process_state_is_the_working_folder_too() -> None:
    """A module that leaves it on import is the same source code as before: its results are not stale."""
    write("grid.yaml", {"optimizer.lr": [0.1]}, f"import os\nos.chdir('/')\n{NETS}", model={"name": "own:PatchNet"})
    run()
    code, said = bench("run", "grid.yaml")
    assert (code, "nothing to train" in said, "source code" in said) == (0, True, False), said


def test_arguments_of_a_loss() -> None:
    levels = {"soft": {"name": "own:Focal", "gamma": 0.5}, "hard": {"name": "own:Focal", "gamma": 2.0}}
    write("grid.yaml", {"train.loss": levels}, NETS)
    soft, hard = run()
    assert [soft["train.loss.gamma"], hard["train.loss.gamma"]] == ["0.5", "2.0"]
    assert soft["test_loss"] != hard["test_loss"]


@pytest.mark.skipif(importlib.util.find_spec("torchmetrics") is None, reason="torchmetrics is not installed")
def test_arguments_of_a_metric() -> None:
    metric = {"name": "torchmetrics.classification:MulticlassF1Score", "average": "micro"}
    write("grid.yaml", {"model.hidden": [[8]]}, train={"metric": metric})
    (trial,) = run()
    assert float(trial["test_multiclass_f1_score"]) == pytest.approx(float(trial["test_accuracy"])), "what micro means"


# --- data -----------------------------------------------------------------------------------------------------------


def npz(train: np.ndarray[Any, Any], test: np.ndarray[Any, Any], labels: int) -> None:
    parts = {part: np.arange(len(images)) % labels for part, images in (("train", train), ("test", test))}
    np.savez("my.npz", train_images=train, train_labels=parts["train"], test_images=test, test_labels=parts["test"])


def test_channels_last() -> None:
    """The class is the colour: three channels of 8 x 8, however the file holds them."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 40, (120, 3, 8, 8), dtype=np.uint8)
    images[np.arange(120), np.arange(120) % 3] += 150
    found = []
    for name, held in (("first", images), ("last", images.transpose(0, 2, 3, 1))):
        npz(held[:90], held[90:], 3)
        write("grid.yaml", {"model.hidden": [[8]]}, data={"name": "npz", "path": "my.npz"}, name=name)
        assert bench("run", "grid.yaml")[0] == 0
        found += [[row[measure] for measure in MEASURED] for row in rows(name)]
    assert found[0] == found[1]


def test_channels_last_where_the_shape_does_not_say() -> None:
    npz(np.zeros((30, 3, 8, 3), np.uint8), np.zeros((9, 3, 8, 3), np.uint8), 3)
    write("grid.yaml", {"model.hidden": [[8]]}, data={"name": "npz", "path": "my.npz"})
    code, said = bench("run", "grid.yaml")
    assert (code, "(30, 3, 8, 3)" in said, rows()) == (2, True, []), said


def pictures() -> Path:
    rng = np.random.default_rng(0)
    for part, (label, kind), i in itertools.product(("train", "test"), enumerate(("dark", "bright")), range(12)):
        folder = Path("pictures", part, kind)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((rng.integers(0, 100, (8, 8)) + 150 * label).astype(np.uint8)).save(folder / f"{i}.png")
    return Path("pictures")


def test_foreign_files() -> None:
    folder = pictures()
    (folder / "train" / "dark" / "._7.png").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        " + bytes(60))
    (folder / "train" / ".DS_Store").write_bytes(b"x")
    write("grid.yaml", {"model.hidden": [[8]]}, data={"name": "image_folder", "path": "pictures", "batch_size": 8})
    run()
    correct = next(csv.DictReader(Path("out/grid/correct.csv").read_text().splitlines()))
    assert correct["num_images"] == "24"


def test_foreign_files_that_are_no_images() -> None:
    broken = pictures() / "train" / "dark" / "7.png"
    broken.write_bytes(b"no image")
    write("grid.yaml", {"model.hidden": [[8]]}, data={"name": "image_folder", "path": "pictures", "batch_size": 8})
    code, said = bench("run", "grid.yaml")
    assert (code, said.count("cannot be read as an image"), rows()) == (2, 1, []), said
    assert str(broken) in said


def test_unseeded_split() -> None:
    data = """
        import numpy as np
        def mine():
            order = np.random.permutation(60)
            images = np.repeat(np.arange(60, dtype=np.uint8), 16).reshape(60, 4, 4)[order]
            train = dict(train_images=images[:45], train_labels=order[:45] % 3)
            return train | dict(test_images=images[45:], test_labels=order[45:] % 3)
    """
    write("grid.yaml", {"model.hidden": [[4], [8]]}, textwrap.dedent(data), data={"name": "own:mine"})
    assert bench("run", "grid.yaml")[0] == 1
    found = rows()
    assert len(found) == 2
    for row in found:
        assert row["error"].startswith("DataError: the data are not repeatable: train, dev, test of"), row["error"]
        assert row["test_accuracy"] == "", "it stopped before it trained"


def test_data_changed() -> None:
    def make(noise: float) -> None:
        rng = np.random.default_rng(0)
        images = rng.normal(0, noise, (90, 4, 4)).astype(np.float32)
        images[np.arange(90), np.arange(90) % 3, 0] += 1
        npz(images[:60], images[60:], 3)

    make(2)
    write("grid.yaml", {"model.hidden": [[4], [8]]}, data={"name": "npz", "path": "my.npz"})
    first = run()
    make(0.1)
    code, said = bench("run", "grid.yaml", "--seeds", "2")
    assert (code, rows()) == (2, first), "nothing is added beside them"
    assert "2 of 2 results rest on other data than npz my.npz holds now" in said
    assert "--rerun stale" in said
    code, said = bench("report", "grid.yaml")
    assert "0 of 2 trials" in said
    assert "2 results on other data than the last run found are left out" in said
    renewed = run("--seeds", "2", "--rerun", "stale")
    assert len(renewed) == 4
    assert len({row["train_digest"] for row in renewed}) == 1
    assert "4 of 4 trials" in bench("report", "grid.yaml")[1]


# --- grids and their words ------------------------------------------------------------------------------------------


def test_edited_grid() -> None:
    names = ("optimizer.lr=0.1", "optimizer.lr=0.01")
    write(
        "grid.yaml",
        {"optimizer.lr": [0.01, 0.1]},
        baseline={"optimizer.lr": 0.1},
        hypotheses=[" > ".join(names) + " on test_accuracy"],
    )
    trained = run()
    edited = {"baseline": {"optimizer.lr": "small"}, "question": "Is a hundredth enough?"}
    edited["hypotheses"] = ["optimizer.lr=small > optimizer.lr=large on test_accuracy"]
    write("grid.yaml", {"optimizer.lr": {"large": 0.1, "small": 0.01}}, **edited)
    code, said = bench("report", "grid.yaml")
    assert (code, rows()) == (0, trained)
    assert said.startswith("grid Is a hundredth enough?")
    assert "optimizer.lr large − small" in said
    assert edited["hypotheses"][0] in said
    assert "2 of 2 trials" in said
    assert bench("report")[1].startswith("grid Which is better?"), "without a name, as it was last asked for"
    bench("run", "grid.yaml")
    assert rows() == trained, "nothing is to train"
    assert bench("report")[1].startswith("grid Is a hundredth enough?")
    write("grid.yaml", {"optimizer.lr": [0.01, 0.3]})
    assert "1 of 2 trials; 1 missing" in bench("report", "grid.yaml")[1]


def test_same_name() -> None:
    write("paper1/mine.yaml", {"model.hidden": [[4], [8]]})
    write("paper2/mine.yaml", {"optimizer.lr": [0.01, 0.1]}, model={"hidden": [16]})
    assert bench("run", "paper1/mine.yaml")[0] == 0
    before = rows("mine")
    for command in ("run", "report", "time", "verify"):
        code, said = bench(command, "paper2/mine.yaml")
        assert (code, rows("mine")) == (2, before)
        assert all(word in said for word in ("paper1/mine.yaml", "paper2/mine.yaml", "`name:`")), said


WRITTEN = [
    *[
        "NA",
        "None",
        "null",
        "nan",
        "$x_1",
        "pay $5 or $6_7",
        "a|b",
        "<script>x</script>",
        "100 % _it_ & #1",
        "-1",
        "@home",
    ],
    *['é, ü; "q"', "1e5", "007"],
]


def test_labels() -> None:
    question = "Which of $x_1$ & <b>y</b> | 100% _z_ is best?"
    levels = {label: [4 + i] for i, label in enumerate(WRITTEN)}
    write("grid.yaml", {"model.hidden": levels}, question=question, data={"limit": 60}, train={"epochs": 1})
    run()
    code, said = bench("report", "grid.yaml", "--full")
    assert code == 0
    page = Path("out/grid/report/index.html").read_text()
    svg = Path("out/grid/report/accuracy.svg").read_text()
    drawn = {html.unescape(text) for text in re.findall(r"<!-- (.*?) -->", svg)}  # what each group of glyphs spells
    for label in WRITTEN:
        assert label in said
        assert label in html.unescape(page)
        assert any(label in text for text in drawn), label
    assert "<script>x</script>" not in page
