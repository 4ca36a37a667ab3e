"""Settings of a user's parts: what reaches the constructor, what tells trials apart, what is refused at its line."""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.grid.load import GridError, Plan, load_plan
from lab import run_trial
from lab.data import load_data
from lab.networks import build_model
from lab.optim import build_optimizer
from lab.parts import make_part
from lab.settings import DataSettings, ModelSettings, OptimizerSettings, Settings, parse_section

Write = Callable[[str, str], None]

ODD = '''
import dataclasses
import enum
from pathlib import Path
from typing import Literal, Optional

import numpy as np
import torch
from torch import nn


class Mode(enum.Enum):
    FAST = 1
    SLOW = 2


@dataclasses.dataclass(frozen=True)
class Options:
    width: int = 4
    drop: float | None = 0.5


class Odd(nn.Module):
    """Remembers what it was given."""

    def __init__(self, in_channels, num_classes, size, pair=(2, 2), mode=Mode.FAST, options=Options(3), act=torch.relu,
                 dtype=torch.float32, kind=nn.ReLU, drop: Optional[float] = 0.5, path: Path = Path("a"),
                 sizes: tuple[int, ...] = (3, 5), extra: dict | None = None, rest=None, hidden=[8]):
        super().__init__()
        given = dict(locals())
        self.given = {name: given[name] for name in given if name not in ("self", "__class__")}
        self.fc = nn.Linear(in_channels * size * size, num_classes)

    def forward(self, X):
        return self.fc(X.flatten(1))


class Scale(enum.Enum):
    HALF = 0.5
    FULL = 1.0


def pictures(pair=(2, 3), scale: Scale = Scale.HALF):
    side = sum(pair + ())
    images = (np.random.default_rng(0).random((40, side, side)) * scale.value).astype(np.float32)
    labels = np.arange(40) % 2
    return {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}


def focal(logits, labels, gamma: float = 2.0, *, num_classes):
    return (labels * 0.0 + gamma + num_classes).mean()


class Focal(nn.Module):
    def __init__(self, gamma: float = 2.0, num_classes: int = 0, weights: tuple[float, ...] = (1.0,),
                 clip: float | None = None):
        super().__init__()
        self.gamma, self.num_classes, self.weights = gamma, num_classes, weights

    def forward(self, logits, y):
        nll = nn.functional.cross_entropy(logits, y, reduction="none")
        return ((1 - torch.exp(-nll)) ** self.gamma * nll).mean()


class Needy(Focal):
    def __init__(self, gamma: float):
        super().__init__(gamma)


class Learned(Focal):
    def __init__(self):
        super().__init__()
        self.centres = nn.Parameter(torch.zeros(3))


class TopK:
    """Share of images whose label is among the k largest logits."""

    better = "higher"

    def __init__(self, num_classes: int, k: int = 1):
        assert k <= num_classes
        self.k = k

    def reset(self):
        self.hits = self.total = 0

    def update(self, logits, labels):
        self.hits += int((logits.topk(self.k).indices == labels[:, None]).sum())
        self.total += len(labels)

    def accumulate(self):
        return self.hits / self.total
'''
RAW: dict[str, Any] = {
    "data": {"name": "digits", "limit": 200},
    "model": {"name": "mlp", "hidden": [8]},
    "optimizer": {"name": "momentum", "lr": 0.05},
    "train": {"epochs": 1},
}


@pytest.fixture(autouse=True)
def odd(workshop: Write) -> None:
    workshop("odd_parts", ODD)


def given_to(**own: object) -> dict[str, Any]:
    """What the network's constructor was given."""
    settings = parse_section("model", {"name": "odd_parts:Odd", **own})
    assert isinstance(settings, ModelSettings)
    return build_model(settings, in_channels=1, num_classes=10, size=2).given  # type: ignore[return-value]


def trial_id(section: str, **changes: object) -> str:
    return Settings.parse(RAW | {section: changes}).trial_id


def odd_id(**own: object) -> str:
    return trial_id("model", name="odd_parts:Odd", **own)


# --- what reaches the constructor -----------------------------------------------------------------------------------


def test_defaults_that_the_grid_does_not_name_are_the_constructors_own() -> None:
    given = given_to()
    odd_parts = sys.modules["odd_parts"]
    assert (given["pair"], given["sizes"]) == ((2, 2), (3, 5))
    assert (given["mode"], given["options"]) == (odd_parts.Mode.FAST, odd_parts.Options(3))
    assert (given["act"], given["dtype"], given["kind"]) == (torch.relu, torch.float32, torch.nn.ReLU)
    assert (given["path"], given["extra"], given["rest"], given["hidden"]) == (Path("a"), None, None, [8])


def test_they_are_after_the_settings_crossed_to_a_worker_too() -> None:
    settings = Settings.parse(RAW | {"model": {"name": "odd_parts:Odd"}})
    again = Settings.parse(settings.model_dump())
    assert again.trial_id == settings.trial_id
    assert isinstance(again.model, ModelSettings)
    network = build_model(again.model, in_channels=1, num_classes=10, size=2)
    assert network.given["pair"] == (2, 2)  # type: ignore[index,union-attr]  # its own attribute


@pytest.mark.parametrize(
    ("name", "plain", "received"),
    [
        ("pair", [4, 4], (4, 4)),
        ("sizes", [1], (1,)),
        ("drop", None, None),
        ("path", "b//c", Path("b/c")),
        ("extra", {"drop": None}, {"drop": None}),
        ("rest", "8", "8"),
        ("rest", [], []),
        ("hidden", [], []),
    ],
)
def test_what_the_grid_names_arrives_as_the_signature_has_it(name: str, plain: object, received: object) -> None:
    value = given_to(**{name: plain})[name]
    assert (value, type(value)) == (received, type(received))


def test_members_by_name_or_value_and_dataclasses_of_mappings() -> None:
    assert given_to(mode="SLOW")["mode"] == given_to(mode=2)["mode"]
    odd_parts = sys.modules["odd_parts"]
    assert given_to(mode=2)["mode"] == odd_parts.Mode.SLOW
    assert given_to(options={"width": 8})["options"] == odd_parts.Options(8, 0.5)
    assert given_to(options={"drop": None})["options"] == odd_parts.Options(4, None)


def test_a_data_function_keeps_its_own_defaults_too() -> None:
    """It stacks tuples, which a list would not do: the side is ``pair[0] + pair[1]``."""
    data = parse_section("data", {"name": "odd_parts:pictures"})
    assert isinstance(data, DataSettings)
    assert load_data(data, torch.device("cpu")).train.images.shape[1:] == (1, 5, 5)
    named = parse_section("data", {"name": "odd_parts:pictures", "pair": [4, 4], "scale": "FULL"})
    assert isinstance(named, DataSettings)
    assert load_data(named, torch.device("cpu")).train.images.shape[1:] == (1, 8, 8)


def test_an_optimizer_keeps_its_own_defaults_and_takes_lists_as_tuples() -> None:
    for own, betas in (({}, (0.9, 0.999)), ({"betas": [0.5, 0.9]}, (0.5, 0.9))):
        settings = parse_section("optimizer", {"name": "torch.optim:NAdam", "lr": 0.1, **own})
        assert isinstance(settings, OptimizerSettings)
        made = build_optimizer(settings, [torch.nn.Parameter(torch.zeros(1))])
        assert made.defaults["betas"] == betas
        assert type(made.defaults["betas"]) is tuple


def test_what_the_constructor_changes_stays_its_own() -> None:
    given_to(hidden=[1])["hidden"].append(2)
    assert given_to(hidden=[1])["hidden"] == [1]


# --- what tells trials apart ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "own",
    [
        {"pair": [2, 2]},
        {"mode": "FAST"},
        {"mode": 1},
        {"options": {"width": 3}},
        {"drop": 0.5},
        {"path": "./a"},
        {"sizes": [3, 5]},
        {"extra": None},
        {"hidden": [8]},
    ],
)
def test_a_default_spelled_out_is_the_same_trial(own: dict[str, object]) -> None:
    assert odd_id(**own) == odd_id()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"drop": None}, {}),
        ({"hidden": None}, {"hidden": []}),
        ({"hidden": None}, {}),
        ({"hidden": []}, {}),
        ({"rest": []}, {"rest": {}}),
        ({"rest": []}, {"rest": None}),
        ({"rest": {"drop": None, "width": 8}}, {"rest": {"width": 8}}),
        ({"rest": [None]}, {"rest": [[]]}),
        ({"extra": {}}, {"extra": None}),
        ({"extra": {"of": {"drop": None}}}, {"extra": {"of": {}}}),
        ({"options": {"drop": None, "width": 3}}, {}),
        ({"mode": "SLOW"}, {}),
        ({"rest": 1}, {"rest": 1.0}),
        ({"rest": 1}, {"rest": True}),
        ({"rest": "1"}, {"rest": 1}),
        ({"rest": float("inf")}, {"rest": None}),
    ],
)
def test_what_the_part_would_receive_tells_trials_apart(one: dict[str, object], other: dict[str, object]) -> None:
    assert odd_id(**one) != odd_id(**other)


def test_an_open_keyword_that_is_null_is_another_trial_than_none() -> None:
    open_ended = "torchvision.models:resnet18"  # takes any keyword
    assert trial_id("model", name=open_ended, more=None) != trial_id("model", name=open_ended)


def test_a_setting_of_a_built_in_part_that_is_empty_is_another_trial() -> None:
    assert trial_id("model", name="mlp", hidden=[]) != trial_id("model", name="mlp")


def test_a_loss_without_settings_is_the_same_trial_however_it_is_written() -> None:
    plain = trial_id("train", epochs=1, loss="odd_parts:Focal")
    assert trial_id("train", epochs=1, loss={"name": "odd_parts:Focal"}) == plain
    assert trial_id("train", epochs=1, loss={"name": "odd_parts:Focal", "gamma": 2}) == plain
    assert trial_id("train", epochs=1, loss={"name": "odd_parts:Focal", "gamma": 1}) != plain
    assert trial_id("train", epochs=1, loss={"name": "cross_entropy"}) == Settings.parse(RAW).trial_id


@pytest.mark.parametrize("folder", sorted((Path(__file__).parents[1] / "results" / "reference").glob("*/grid.yaml")))
def test_every_recorded_trial_of_a_built_in_part_keeps_its_id(folder: Path) -> None:
    plan = load_plan(folder)
    planned = {trial.trial_id for trial in plan.trials}
    winners = {trial.settings.with_seed(seed).trial_id for trial in plan.trials for seed in plan.seeds}  # if tuned
    with folder.with_name("trials.csv").open(newline="") as file:
        recorded = {row["trial_id"] for row in csv.DictReader(file)}
    assert planned <= recorded <= planned | winners


# --- losses and metrics ---------------------------------------------------------------------------------------------


def test_a_loss_is_given_its_settings_and_the_classes_where_it_asks_for_them() -> None:
    loss = make_part("loss", {"name": "odd_parts:Focal", "gamma": 3, "weights": [1, 2]}, {"num_classes": 7})
    assert (loss.gamma, loss.num_classes, loss.weights) == (3.0, 7, (1.0, 2.0))


def test_a_loss_that_is_a_function_keeps_its_settings() -> None:
    loss = make_part("loss", {"name": "odd_parts:focal", "gamma": 1.5}, {"num_classes": 10})
    assert loss(torch.zeros(2, 3), torch.zeros(2)) == 11.5
    smoothed = make_part("loss", {"name": "torch.nn.functional:cross_entropy", "label_smoothing": 0.1}, {})
    logits, labels = torch.tensor([[1.0, 2.0]]), torch.tensor([0])
    torch.testing.assert_close(smoothed(logits, labels), torch.nn.CrossEntropyLoss(label_smoothing=0.1)(logits, labels))


def test_classes_of_torch_are_losses_with_settings() -> None:
    loss = make_part("loss", {"name": "torch.nn:CrossEntropyLoss", "label_smoothing": 0.1}, {"num_classes": 3})
    assert loss.label_smoothing == 0.1


def test_a_metric_takes_settings_and_the_classes_where_it_asks_for_them() -> None:
    assert make_part("metric", {"name": "odd_parts:TopK", "k": 3}, {"num_classes": 3}).k == 3


def test_a_loss_with_parameters_of_its_own_is_refused() -> None:
    settings = Settings.parse(RAW | {"train": {"epochs": 1, "loss": "odd_parts:Learned"}})
    with pytest.raises(ValueError, match="has parameters of its own, which no optimizer trains: centres"):
        run_trial(settings, device="cpu")


def test_settings_of_a_loss_change_what_is_trained_and_stand_in_the_row() -> None:
    results = {}
    for gamma in (0.0, 2.0):
        train = {"epochs": 1, "loss": {"name": "odd_parts:Focal", "gamma": gamma}}
        settings = Settings.parse(RAW | {"train": train})
        assert settings.flat()["train.loss"] == "odd_parts:Focal"
        assert settings.flat()["train.loss.gamma"] == gamma
        results[gamma] = run_trial(settings, device="cpu").curve[-1].train_loss
    plain = run_trial(Settings.parse(RAW), device="cpu").curve[-1].train_loss
    assert results[0.0] == pytest.approx(plain, rel=1e-5)  # without focus it is cross-entropy
    assert results[2.0] != pytest.approx(plain, rel=1e-2)


# --- in a grid ------------------------------------------------------------------------------------------------------

BASE = """\
question: Which?
base:
  data: {name: digits, limit: 200}
  model: {name: mlp, hidden: [8]}
  optimizer: {name: momentum, lr: 0.05}
  train: {epochs: 1, loss: %s}
"""


def grid(tmp_path: Path, text: str, **options: Any) -> Plan:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return load_plan(path, **options)


def losses(plan: Plan) -> list[object]:
    return list(dict.fromkeys(repr(trial.settings.train.loss) for trial in plan.trials))


FOCAL = '"odd_parts:Focal"'


def test_a_setting_of_a_loss_is_a_factor_by_its_dotted_path(tmp_path: Path) -> None:
    plan = grid(tmp_path, BASE % FOCAL + "factors: {train.loss.gamma: [0.5, 2.0]}\n")
    assert [cell.label for cell in plan.cells] == ["gamma=0.5", "gamma=2.0"]
    assert losses(plan) == ["{'name': 'odd_parts:Focal', 'gamma': 0.5}", "'odd_parts:Focal'"]


def test_labelled_losses_with_settings_are_levels(tmp_path: Path) -> None:
    levels = 'soft: {name: "odd_parts:Focal", gamma: 0.5}, plain: cross_entropy'
    plan = grid(tmp_path, BASE % "cross_entropy" + f"factors: {{train.loss: {{{levels}}}}}\n")
    assert losses(plan) == ["{'name': 'odd_parts:Focal', 'gamma': 0.5}", "'cross_entropy'"]


def test_a_setting_of_a_loss_can_be_tuned_zipped_set_and_included(tmp_path: Path) -> None:
    tuned = BASE % FOCAL + "factors: {model.hidden: [[4], [8]]}\ntune: {train.loss.gamma: [0.5, 1.0]}\n"
    assert len(losses(grid(tmp_path, tuned))) == 2
    zipped = BASE % FOCAL + 'factors: {"train.loss.gamma, optimizer.lr": [[0.5, 0.1], [1.0, 0.2]]}\n'
    assert len(losses(grid(tmp_path, zipped))) == 2
    plain = BASE % FOCAL + "factors: {model.hidden: [[4], [8]]}\n"
    assert losses(grid(tmp_path, plain, overrides=["train.loss.gamma=1"])) == [
        "{'name': 'odd_parts:Focal', 'gamma': 1.0}"
    ]
    assert len(losses(grid(tmp_path, plain + "include: [{train.loss.gamma: 0.5}]\n"))) == 2


def test_null_is_dropped_where_a_loss_has_no_such_setting(tmp_path: Path) -> None:
    factors = f"factors: {{train.loss: [cross_entropy, {FOCAL}], train.loss.clip: [null, 1.0]}}\n"
    exclude = "exclude: [{when: {train.loss: cross_entropy, train.loss.clip: 1.0}, because: it has none}]\n"
    plan = grid(tmp_path, BASE % "cross_entropy" + factors + exclude)
    assert losses(plan) == ["'cross_entropy'", "'odd_parts:Focal'", "{'name': 'odd_parts:Focal', 'clip': 1.0}"]


def refusals(tmp_path: Path, marked: str) -> list[str]:
    """What a grid is refused for where ``@`` stands, which is no part of it."""
    before = marked.partition("@")[0]
    at = f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}: "
    with pytest.raises(GridError) as caught:
        grid(tmp_path, marked.replace("@", ""))
    start = f"{tmp_path / 'mine.yaml'}:{at}"
    assert any(message.startswith(start) for message in caught.value.messages), (at, caught.value.messages)
    return [message.removeprefix(start) for message in caught.value.messages]


HIDDEN = "factors: {model.hidden: [[4], [8]]}"


@pytest.mark.parametrize(
    ("loss", "more", "says"),
    [
        ('@"odd_parts:Needy"', HIDDEN, "train.loss.gamma: is required: number"),
        ('@{name: "odd_parts:Needy"}', HIDDEN, "train.loss.gamma: is required: number"),
        ('{name: "odd_parts:Focal", gamma: @"2"}', HIDDEN, "train.loss.gamma: must be number, got '2'"),
        ('{name: "odd_parts:Focal", @gama: 2}', HIDDEN, "train.loss.gama: no such setting of odd_parts:Focal; did you"),
        ('{name: "odd_parts:Focal", @num_classes: 2}', HIDDEN, "train.loss.num_classes: no such setting of odd_parts"),
        (
            "{name: cross_entropy, @gamma: 2}",
            HIDDEN,
            "train.loss.gamma: no such setting of cross_entropy; it takes: na",
        ),
        (
            '{name: "torch.nn:CrossEntropyLoss", weight: @[1.0, 2.0]}',
            HIDDEN,
            "train.loss.weight: must be Tensor or null, got [1.0, 2.0]; what YAML cannot write, such as a "
            "function, comes from code: name a loss of your own, `module:function`",
        ),
        ("@{gamma: 2}", HIDDEN, "train.loss.name: is required and must be a string; there are cross_entropy"),
        ("@{name: focal}", HIDDEN, "train.loss: no such loss 'focal'; there are cross_entropy"),
        ("cross_entropy", "factors: {@train.loss.gamma: [1, 2]}", "train.loss.gamma: no such setting of cross_entropy"),
        (FOCAL, "factors: {train.loss.gamma: [1, @'2']}", "train.loss.gamma: must be number, got '2'"),
        (
            FOCAL,
            "factors: {train.loss: {a: {name: 'odd_parts:Focal', weights: @[1, x]}}}",
            "train.loss.weights: must be list of number, got 'x'",
        ),
        (FOCAL, "factors: {@train.epochs.gamma: [1, 2]}", "train.epochs.gamma: must be a setting's dotted path"),
    ],
)
def test_what_a_loss_cannot_take_is_refused_at_its_line(tmp_path: Path, loss: str, more: str, says: str) -> None:
    found = refusals(tmp_path, BASE % loss + more + "\n")
    assert any(message.startswith(says) for message in found), found


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ("pair: [2, 2], mode: @fast", "model.mode: must be FAST or SLOW, got 'fast'"),
        ("sizes: @[3, '5']", "model.sizes: must be list of integer, got '5'"),
        ("options: {width: @'8'}", "model.options.width: must be integer, got '8'"),
        ("options: {@wdth: 8}", "model.options.wdth: no such field of Options; did you mean width?"),
        ("drop: @'0.5'", "model.drop: must be number or null, got '0.5'"),
        ("path: @3", "model.path: must be string, got 3"),
        ("@act: relu", "model.act: no such setting of odd_parts:Odd"),
        ("@dtype: float64", "model.dtype: no such setting of odd_parts:Odd"),
    ],
)
def test_what_an_annotation_cannot_take_is_refused_at_its_line(tmp_path: Path, own: str, says: str) -> None:
    text = (BASE % "cross_entropy").replace("{name: mlp, hidden: [8]}", f'{{name: "odd_parts:Odd", {own}}}')
    found = refusals(tmp_path, text + "factors: {optimizer.lr: [0.1, 0.2]}\n")
    assert any(message.startswith(says) for message in found), found


def test_torchmetrics_classes_are_metrics_with_settings() -> None:
    if importlib.util.find_spec("torchmetrics") is None:
        pytest.skip("torchmetrics is not installed")
    f1 = make_part(
        "metric", {"name": "torchmetrics.classification:MulticlassF1Score", "average": "micro"}, {"num_classes": 4}
    )
    assert (f1.num_classes, f1.average) == (4, "micro")
