"""Features, signals and float targets: trained by the built-in mlp and by own networks, or refused in words."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

from bench.analysis.findings import gather
from bench.execute.options import Options
from bench.execute.progress import Progress
from bench.execute.run import run
from bench.grid.load import load_plan
from lab.data import Batches, DataError, Splits, load_data
from lab.data.arrays import from_arrays
from lab.regression import Errors, example_error, like_targets, mean_error
from lab.result import Result
from lab.settings import DataSettings, Settings, SettingsError, parse_section
from lab.trial import run_trial

CPU = torch.device("cpu")
Write = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(**settings: Any) -> Splits:
    parsed = parse_section("data", settings)
    assert isinstance(parsed, DataSettings)
    return load_data(parsed, CPU)


def settings_of(data: dict[str, Any], model: dict[str, Any] | None = None, **train: Any) -> Settings:
    return Settings.parse(
        {
            "data": {"batch_size": 16, **data},
            "model": model or {"name": "mlp", "hidden": [8]},
            "optimizer": {"name": "adam", "lr": 0.05},
            "schedule": {},
            "train": {"epochs": 3, **train},
        }
    )


def train(*args: Any, **train: Any) -> Result:
    return run_trial(settings_of(*args, **train), device="cpu")


def write(path: str, inputs: np.ndarray, labels: np.ndarray, word: str = "features") -> None:
    cut = 2 * len(labels) // 3
    parts = {f"train_{word}": inputs[:cut], f"test_{word}": inputs[cut:]}
    np.savez(path, **parts, train_labels=labels[:cut], test_labels=labels[cut:])


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


# --- features and signals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count", "width", "classes"), [("breast_cancer", 569, 30, 2), ("wine", 178, 13, 3)])
def test_tables_are_scikit_learns(name: str, count: int, width: int, classes: int) -> None:
    import sklearn.datasets

    theirs = getattr(sklearn.datasets, f"load_{name}")()
    splits = load(name=name)
    parts = (splits.train, splits.dev, splits.test)
    ours = {(*map(float, x), int(y)) for part in parts for x, y in zip(part.images, part.labels, strict=True)}  # type: ignore[call-overload]  # a tensor
    wanted = {(*map(float, np.float32(x)), int(y)) for x, y in zip(theirs.data, theirs.target, strict=True)}
    assert ours == wanted
    assert sum(map(len, parts)) == count
    assert (splits.num_classes, splits.in_channels, splits.dims, splits.train.word) == (classes, width, 0, "features")


def test_diabetes_is_scikit_learns() -> None:
    from sklearn.datasets import load_diabetes

    theirs = load_diabetes(scaled=False)
    splits = load(name="diabetes")
    assert splits.is_regression
    targets = torch.cat([part.labels for part in (splits.train, splits.dev, splits.test)])
    assert sorted(targets[:, 0].tolist()) == sorted(theirs.target)
    assert (len(splits.test), splits.in_channels, splits.num_classes) == (89, 10, 1)


def test_each_feature_is_normalised_by_its_own_moments() -> None:
    splits = load(name="wine")
    X = torch.cat([X for X, _ in Batches(splits.train, splits, batch_size=50, size=1)])
    torch.testing.assert_close(X.mean(0), torch.zeros(13), atol=1e-5, rtol=0)
    torch.testing.assert_close(X.std(0, correction=0), torch.ones(13))


def test_signals_keep_their_shape_and_each_channel_has_its_moments(random: np.random.Generator) -> None:
    signals = random.normal([[3], [50]], [[2], [9]], (60, 2, 40))
    write("waves.npz", signals, np.arange(60) % 3, "signals")
    splits = load(name="npz", path="waves.npz")
    assert splits.mean.shape == (2, 1)
    X, _ = next(iter(Batches(splits.train, splits, batch_size=60, size=40, order=0)))
    assert X.shape == (len(splits.train), 2, 40)
    torch.testing.assert_close(X.mean((0, 2)), torch.zeros(2), atol=1e-5, rtol=0)


NETS = """
    from torch import nn

    class Convolutions(nn.Module):
        def __init__(self, in_channels, num_classes, size):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv1d(in_channels, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * size, num_classes)
            )

        def forward(self, X):
            return self.layers(X)

    class Line(nn.Module):
        def __init__(self, in_channels, num_classes):
            super().__init__()
            self.line = nn.Linear(in_channels, num_classes)

        def forward(self, X):
            return self.line(X)

    class Flat(Line):
        def forward(self, X):
            return self.line(X)[:, 0]

    class Wide(Line):
        def forward(self, X):
            return self.line(X).repeat(1, 2)
"""


@pytest.mark.parametrize("model", ["mlp", "my_nets:Convolutions"])
def test_signals_are_learnt(workshop: Write, random: np.random.Generator, model: str) -> None:
    workshop("my_nets", textwrap.dedent(NETS))
    labels = np.arange(120) % 2
    waves = np.sin(np.arange(32) * np.where(labels, 0.3, 0.9)[:, None])[:, None] + random.normal(0, 0.1, (120, 2, 32))
    write("waves.npz", waves, labels, "signals")
    result = train({"name": "npz", "path": "waves.npz"}, {"name": model})
    assert (result.status, result.measures["test_accuracy"]) == ("ok", 1.0)
    if model == "mlp":
        assert result.measures["forward_macs"] == 64 * 256 + 256 * 128 + 128 * 2


def test_features_are_learnt_by_the_mlp_and_by_a_network_of_ones_own(workshop: Write) -> None:
    workshop("my_nets", textwrap.dedent(NETS))
    mlp, line = (train({"name": "wine"}, model, epochs=10) for model in ({"name": "mlp"}, {"name": "my_nets:Line"}))
    assert min(mlp.measures["test_accuracy"], line.measures["test_accuracy"]) > 0.9
    assert line.measures["parameters"] == 13 * 3 + 3


@pytest.mark.parametrize(
    ("data", "model", "says"),
    [
        ({"size": 8}, "mlp", "data.size: goes with images alone; these are features (N, F)"),
        ({"augment": "shift"}, "mlp", "data.augment: goes with images alone"),
        ({"channels": 3}, "mlp", "data.channels: goes with images alone"),
        ({}, "lenet", "a network that takes images alone sets a size"),
        ({}, "resnet18", "data.size: goes with images alone"),
    ],
)
def test_what_only_images_have_is_refused(data: dict[str, Any], model: str, says: str) -> None:
    with pytest.raises(DataError) as caught:
        train({"name": "wine", **data}, {"name": model})
    assert says in str(caught.value)


# --- targets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(60,), (60, 1), (60, 3)])
def test_float_labels_are_targets(random: np.random.Generator, shape: tuple[int, ...]) -> None:
    targets = random.normal(size=shape)
    write("line.npz", random.normal(size=(60, 4)), targets)
    splits = load(name="npz", path="line.npz")
    assert splits.is_regression
    width = shape[1] if len(shape) > 1 else 1
    assert (splits.num_classes, splits.train.labels.dtype) == (width, torch.float32)
    np.testing.assert_allclose(splits.test.labels, targets.reshape(60, width)[40:], rtol=1e-6)
    found = torch.cat([splits.train.labels, splits.dev.labels])
    np.testing.assert_allclose(np.sort(found, 0), np.sort(targets.reshape(60, width)[:40], 0), rtol=1e-6)
    assert len(splits.dev) == 4


def test_losses_and_errors_are_those_of_numpy(random: np.random.Generator) -> None:
    outputs, targets = random.normal(size=(2, 30, 3)).astype(np.float32)
    gap = (outputs - targets).astype(np.float64)
    pair = torch.from_numpy(outputs), torch.from_numpy(targets)
    assert float(mean_error("mse")(*pair)) == pytest.approx((gap**2).mean(), rel=1e-5)
    assert float(mean_error("l1")(*pair)) == pytest.approx(np.abs(gap).mean(), rel=1e-5)
    np.testing.assert_allclose(example_error("mse")(*pair), (gap**2).mean(1), rtol=1e-5)
    np.testing.assert_allclose(example_error("l1")(*pair), np.abs(gap).mean(1), rtol=1e-5)
    errors = Errors()
    for part in (slice(0, 7), slice(7, 30)):
        errors.update(pair[0][part], pair[1][part])
    assert errors.scores() == pytest.approx({"rmse": np.sqrt((gap**2).mean()), "mae": np.abs(gap).mean()}, rel=1e-5)


def test_outputs_of_one_axis_are_not_broadcast_against_targets() -> None:
    outputs, targets = torch.tensor([1.0, 2.0]), torch.tensor([[1.0], [2.0]])
    assert float(mean_error("mse")(outputs, targets)) == 0
    assert float(F.mse_loss(like_targets(outputs, targets), targets)) == 0
    for wrong in (torch.zeros(2, 2), torch.zeros(1, 1), torch.zeros(3)):
        with pytest.raises(ValueError, match=r"the network must give one output per target, \(2, 1\), got"):
            like_targets(wrong, targets)


@pytest.mark.parametrize("net", ["Line", "Flat"])
def test_a_line_is_found(workshop: Write, random: np.random.Generator, net: str) -> None:
    workshop("my_nets", textwrap.dedent(NETS))
    X = random.normal(size=(300, 4))
    write("line.npz", X, X @ [1.0, -2.0, 0.5, 0.0] + 3 + random.normal(0, 0.1, 300))
    result = train({"name": "npz", "path": "line.npz"}, {"name": f"my_nets:{net}"}, epochs=25, loss="mse")
    assert result.status == "ok"
    assert result.measures["test_rmse"] < 0.15  # 0.1 is the noise
    assert result.measures["test_loss"] == pytest.approx(result.measures["test_rmse"] ** 2, rel=1e-4)
    assert result.correct is None
    assert "test_accuracy" not in result.measures


def test_a_network_with_other_outputs_than_targets_is_refused(workshop: Write, random: np.random.Generator) -> None:
    workshop("my_nets", textwrap.dedent(NETS))
    write("line.npz", random.normal(size=(60, 4)), random.normal(size=60))
    with pytest.raises(ValueError, match=r"one output per target, \(\d+, 1\), got \(\d+, 2\)"):
        train({"name": "npz", "path": "line.npz"}, {"name": "my_nets:Wide"}, loss="mse")


@pytest.mark.parametrize(("loss", "metric"), [("mse", "rmse"), ("l1", "mae")])
def test_the_loss_says_the_metric_where_none_is_named(loss: str, metric: str) -> None:
    settings = settings_of({"name": "diabetes"}, loss=loss)
    assert settings.train.metric == metric
    assert Settings.parse(settings.model_dump()).trial_id == settings.trial_id
    assert settings_of({"name": "diabetes"}, loss=loss, metric=metric).trial_id == settings.trial_id


def test_a_metric_of_targets_does_not_go_with_a_loss_of_classes() -> None:
    with pytest.raises(SettingsError, match="rmse is of float targets, with the loss mse, l1 or your own"):
        settings_of({"name": "diabetes"}, metric="rmse")
    with pytest.raises(SettingsError, match="rmse is built in, and is called rmse; got 'mine'"):
        settings_of({"name": "diabetes"}, loss="mse", metric={"mine": "rmse"})


@pytest.mark.parametrize(
    ("data", "loss", "says"),
    [
        (
            "diabetes",
            "cross_entropy",
            "train.loss: cross_entropy does not go with these labels, which are float",
        ),
        ("wine", "mse", "train.loss: mse does not go with these labels, which are classes: cross_entropy does"),
        ("digits", "l1", "train.loss: l1 does not go with these labels, which are classes"),
    ],
)
def test_a_loss_that_does_not_go_with_the_labels_is_refused_before_anything_trains(
    tmp_path: Path, data: str, loss: str, says: str
) -> None:
    (tmp_path / "grid.yaml").write_text(
        f"question: Does it fit?\nbase:\n  data: {{name: {data}}}\n  model: {{name: mlp}}\n"
        f"  optimizer: {{name: sgd, lr: 0.1}}\n  train: {{epochs: 1, loss: {loss}}}\n"
        "factors: {model.batch_norm: [true, false]}\n"
    )
    options = Options(results=Path("results"), device="cpu", executor="inline", jobs=1)
    with pytest.raises(ValueError, match="does not go with") as caught:
        run(load_plan(tmp_path / "grid.yaml"), options, Progress(Console(file=io.StringIO()), ["bench"]))
    assert says in str(caught.value)
    assert not (Path("results") / "grid" / "trials.csv").exists()


def test_a_regression_is_reported_by_the_ratio_of_its_errors_over_seeds_and_examples(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(
        "question: Does width lower the error?\nbase:\n  data: {name: diabetes}\n  model: {name: mlp}\n"
        "  optimizer: {name: adam, lr: 0.01}\n  train: {epochs: 2, loss: mse}\n"
        "factors: {model.hidden: [[8], [32]]}\nseeds: 3\n"
    )
    options = Options(results=Path("results"), device="cpu", executor="inline", jobs=1)
    run(load_plan(tmp_path / "grid.yaml"), options, Progress(Console(file=io.StringIO()), ["bench"]))
    found = gather(Path("results/grid"))
    logs = np.log(found.found.pivot(index="seed", columns="cell", values="test_rmse").astype(float))
    (effect,) = found.effects.to_dict("records")
    assert effect["difference"] == pytest.approx((logs["hidden=[32]"] - logs["hidden=[8]"]).mean())
    assert set(found.cells["test_rmse_basis"]) == {"seeds and test set"}
    assert not any("left out" in caution for caution in found.cautions)


def test_labels_of_several_classes_per_example_are_targets_of_a_loss_of_ones_own(random: np.random.Generator) -> None:
    labels = (random.random((60, 3)) < 0.5).astype(np.float32)
    labels[0] = 1
    made = {"train_features": random.normal(size=(60, 4)), "test_features": random.normal(size=(60, 4))}
    assert from_arrays("mine", made | {"train_labels": labels, "test_labels": labels}).num_classes == 3
    write("several.npz", random.normal(size=(60, 4)), labels)
    data = {"name": "npz", "path": "several.npz"}
    result = train(data, loss="torch.nn:BCEWithLogitsLoss", select="dev_loss", metric="mae")
    assert result.status == "ok"
    assert result.measures["test_loss"] > 0
