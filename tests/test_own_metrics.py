"""Metrics of a user's own through a whole trial: which epoch is selected, what is recorded, what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from metric_code import METRICS

from lab.data import load_data
from lab.result import Result
from lab.settings import Settings, SettingsError
from lab.trial import batches, make_runner, run_trial

CPU = torch.device("cpu")
SCORES = (
    METRICS
    + """
class Nll:
    better = "lower"
    def reset(self):
        self.total, self.n = 0.0, 0
    def update(self, logits, labels):
        self.total += float(F.cross_entropy(logits, labels, reduction="sum"))
        self.n += len(labels)
    def compute(self):
        return self.total / self.n

class Silent(Nll):
    better = None

class Share(Nll):
    range = [0, 1]

class Never(Nll):
    def compute(self):
        return math.nan

class OnTest(Nll):
    '''Undefined on the larger split alone: test.'''
    def compute(self):
        return math.nan if self.n > 100 else super().compute()

class Hits:
    better = "higher"
    def reset(self):
        self.hits, self.total = 0, 0
    def update(self, logits, labels):
        self.hits = self.hits + (logits.argmax(1) == labels).sum()
        self.total += len(labels)
    def compute(self):
        return self.hits / self.total

class Wiping(Hits):
    '''Writes into what it is given, in torch and past it.'''
    def update(self, logits, labels):
        super().update(logits, labels)
        logits.zero_()
        labels.numpy()[:] = 0

def wiping_loss(logits, labels):
    loss = F.cross_entropy(logits, labels)
    if not torch.is_grad_enabled():
        logits.zero_()
        labels.zero_()
    return loss

def hits(logits, labels):
    return (logits.argmax(1) == labels).float().mean()

class Torchlike(Hits):
    better = None
    higher_is_better = True
    def to(self, device):
        self.device = device
        return self
"""
)
Train = Callable[..., Result]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Train]:
    """Trains a small net on digits with settings of ``train``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_scores.py").write_text(SCORES)

    def run(epochs: int = 4, lr: float = 0.05, **own: Any) -> Result:
        raw = {
            "data": {"name": "digits", "limit": 400},
            "model": {"name": "mlp", "hidden": [16]},
            "optimizer": {"name": "momentum", "lr": lr},
            "train": {"epochs": epochs, **own},
        }
        return run_trial(Settings.parse(raw), device="cpu")

    yield run
    sys.modules.pop("own_scores", None)


def test_what_a_metric_or_loss_writes_into_its_batch_reaches_no_other_score(train: Train) -> None:
    plain = train(epochs=2)
    scores = ("test_accuracy", "dev_accuracy", "test_loss", "test_macro_f1", "test_calibration_error")
    metrics = {"wiping": "own_scores:Wiping", "hits": "own_scores:Hits"}
    for changed in (train(epochs=2, metric=metrics), train(epochs=2, loss="own_scores:wiping_loss")):
        assert [changed.measures[name] for name in scores] == [plain.measures[name] for name in scores]
    measures = train(epochs=2, metric=metrics).measures
    assert measures["test_hits"] == measures["test_wiping"] == pytest.approx(plain.measures["test_accuracy"], abs=1e-6)


def test_a_metric_made_as_torchmetrics_makes_them(train: Train) -> None:
    result = train(metric="own_scores:Torchlike", epochs=2)
    assert result.measures["dev_torchlike"] == max(point.scores["dev_torchlike"] for point in result.curve)


def test_several_metrics_stand_beside_the_built_in_ones_and_the_first_selects(train: Train) -> None:
    result = train(metric={"likelihood": "own_scores:Nll", "hits": "own_scores:Hits"})
    assert {"test_likelihood", "dev_likelihood", "final_dev_likelihood", "test_hits"} <= result.measures.keys()
    assert {"test_accuracy", "test_loss", "test_macro_f1", "test_calibration_error"} <= result.measures.keys()
    assert result.measures["dev_likelihood"] == min(point.scores["dev_likelihood"] for point in result.curve)


def test_another_score_may_select(train: Train) -> None:
    result = train(metric="own_scores:MacroPrecision", select="dev_loss", epochs=3)
    assert result.measures["dev_loss"] == min(point.scores["dev_loss"] for point in result.curve)


def test_a_metric_that_is_undefined_on_test_alone_is_an_error(train: Train) -> None:
    result = train(metric="own_scores:OnTest", epochs=1)
    assert (result.status, "test_accuracy" in result.measures) == ("error", False)
    assert "test_on_test is not finite at the selected epoch, although the loss is" in str(result.error)


def test_a_loss_that_is_not_finite_is_divergence_whatever_the_metric(train: Train) -> None:
    assert train(metric="own_scores:Never", lr=1e18, epochs=2).status == "diverged"


def test_what_a_metric_gives_is_checked_at_the_first_evaluation(train: Train) -> None:
    says = r"own_scores:Share.compute\(\) must lie in \[0, 1\], as its class says, returned [23]\.\d+"
    with pytest.raises(TypeError, match=says):
        train(metric="own_scores:Share")


def test_a_metric_that_is_a_function_of_a_batch_is_refused_with_what_one_is(train: Train) -> None:
    says = r"train.metric.labels: is required: any value; a metric is a class with reset\(\), update\(logits, labels\)"
    with pytest.raises(SettingsError, match=says):
        train(metric="own_scores:hits")


def test_settings_may_say_the_direction_that_a_class_does_not(train: Train) -> None:
    result = train(metric="own_scores:Silent", better="lower", lr=1.0)
    assert result.measures["dev_silent"] == min(point.scores["dev_silent"] for point in result.curve)


# --- what is kept of single images ----------------------------------------------------------------------------------


def test_the_loss_of_each_test_image_and_the_dev_bits_are_those_of_the_selected_epoch(tmp_path: Path) -> None:
    raw = {"data": {"name": "digits", "limit": 400}, "model": {"name": "mlp"}, "optimizer": {"name": "sgd", "lr": 0.5}}
    settings = Settings.parse(raw | {"train": {"epochs": 3, "label_smoothing": 0.1}})
    result = run_trial(settings, device="cpu", checkpoint_dir=tmp_path)
    splits = load_data(settings.data, CPU)
    runner = make_runner(settings, splits, CPU)
    runner.load_model(tmp_path / "best.pt")
    logits = {part: runner.predict(next(iter(batches(settings, splits, part)))[0]) for part in ("dev", "test")}
    losses = np.frombuffer(result.examples["test_loss"], np.float32)
    expected = F.cross_entropy(logits["test"], splits.test.labels, label_smoothing=0.1, reduction="none")
    np.testing.assert_allclose(losses, expected.numpy(), atol=1e-6)
    assert losses.mean() == pytest.approx(result.measures["test_loss"], abs=1e-6)
    assert result.dev_correct is not None
    bits = np.unpackbits(np.frombuffer(result.dev_correct, np.uint8), count=result.num_dev_images)
    np.testing.assert_array_equal(bits, (logits["dev"].argmax(1) == splits.dev.labels).numpy())
    assert bits.mean() == pytest.approx(result.measures["dev_accuracy"])


# --- regression -----------------------------------------------------------------------------------------------------


def regression(tmp_path: Path, **train: Any) -> Settings:
    random = np.random.default_rng(0)
    images = random.random((150, 1, 4, 4), np.float32)
    targets = images.sum((1, 2, 3)).astype(np.float32) + 0.25
    parts = {"train_images": images[:100], "train_labels": targets[:100]}
    np.savez(tmp_path / "sums.npz", **parts, test_images=images[100:], test_labels=targets[100:])
    raw = {
        "data": {"name": "npz", "path": str(tmp_path / "sums.npz")},
        "model": {"name": "mlp", "hidden": [8]},
        "optimizer": {"name": "adam", "lr": 0.01},
        "train": {"epochs": 3, "loss": "torch.nn:MSELoss", **train},
    }
    return Settings.parse(raw)


def test_a_regression_is_selected_and_measured_by_its_error(tmp_path: Path) -> None:
    result = run_trial(regression(tmp_path, metric="rmse"), device="cpu")
    assert result.status == "ok"
    squares = np.frombuffer(result.examples["test_rmse"], np.float32)
    assert len(squares) == 50
    assert result.measures["test_rmse"] == pytest.approx(np.sqrt(squares.mean()), rel=1e-6)
    assert result.measures["test_rmse"] == pytest.approx(np.sqrt(result.measures["test_loss"]), rel=1e-5)
    assert result.measures["test_mae"] <= result.measures["test_rmse"]
    assert result.measures["dev_rmse"] == min(point.scores["dev_rmse"] for point in result.curve)
    assert "test_accuracy" not in result.measures


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_a_score_of_classes_is_refused_for_targets_in_words(tmp_path: Path, metric: str) -> None:
    settings = regression(tmp_path, metric=[metric, "rmse"])
    with pytest.raises(ValueError, match=f"{metric} does not go with these labels, which are float targets"):
        make_runner(settings, load_data(settings.data, CPU), CPU)


def test_a_score_of_targets_is_refused_for_classes_in_words(train: Train) -> None:
    with pytest.raises(ValueError, match="rmse is of float targets"):
        train(metric="rmse")


def test_another_built_in_score_may_be_the_first(train: Train) -> None:
    result = train(metric="macro_f1")
    assert result.measures["dev_macro_f1"] == max(point.scores["dev_macro_f1"] for point in result.curve)
