"""A trial: from settings to a plain result, and to the same result every time."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lab import fingerprint, run_trial
from lab import trial as trials
from lab.data import Batches, DataError, Splits, load_data
from lab.fingerprint import source_fingerprint
from lab.result import Result
from lab.settings import Settings
from lab.trial import batches, make_runner, prepare

CPU = torch.device("cpu")
Make = Callable[..., Settings]
Write = Callable[[str, str], None]


def numbers(result: Result) -> list[str]:
    """The curve to the last bit, without the seconds, which are never the same."""
    curve = [repr((p.step, p.epoch, p.scores, p.train_loss)) for p in result.curve]
    return [*curve, repr(result.measures.get("test_accuracy")), repr(result.correct)]


# --- what a result says ---------------------------------------------------------------------------------------------


def test_a_result_by_its_fields(make_settings: Make) -> None:
    settings = make_settings({"train.epochs": 3, "seed": 4})
    result = run_trial(settings, device="cpu")
    assert (result.trial_id, result.status, result.error) == (settings.trial_id, "ok", None)
    # 200 images, 20 of them for dev: 180 in batches of 32 are 6 steps per epoch
    assert (result.measures["epochs"], result.measures["steps"]) == (3, 3 * math.ceil(180 / 32))
    assert [(p.step, p.epoch) for p in result.curve] == [(0, 0), (6, 1), (12, 2), (18, 3)]
    assert result.measures["first_epoch_dev_accuracy"] == result.curve[1].scores["dev_accuracy"]
    assert result.measures["final_dev_accuracy"] == result.curve[-1].scores["dev_accuracy"]
    assert result.measures["final_train_loss"] == result.curve[-1].train_loss
    best = max(result.curve, key=lambda p: (p.scores["dev_accuracy"], -p.step))
    assert (result.measures["dev_accuracy"], result.measures["selected_epoch"]) == (
        best.scores["dev_accuracy"],
        best.epoch,
    )
    assert result.measures["parameters"] == 64 * 16 + 16 + 16 * 10 + 10
    assert result.measures["forward_macs"] == 64 * 16 + 16 * 10
    assert result.measures["train_images_per_second"] == pytest.approx(3 * 180 / result.measures["train_seconds"])
    assert 0 < result.measures["train_seconds"] < result.measures["total_seconds"]
    assert result.measures["eval_images_per_second"] is not None
    assert result.measures["eval_images_per_second"] > 0
    assert result.measures["peak_memory_bytes"] > 50_000_000
    assert result.environment.device == "cpu"
    assert result.environment.threads == 1


def test_the_test_accuracy_is_that_of_the_best_weights_image_by_image(make_settings: Make, tmp_path: Path) -> None:
    settings = make_settings({"train.epochs": 4, "optimizer.lr": 0.3})
    result = run_trial(settings, device="cpu", checkpoint_dir=tmp_path)
    splits = load_data(settings.data, CPU)
    runner = make_runner(settings, splits, CPU)
    runner.load_model(tmp_path / "best.pt")
    prepared = batches(settings, splits, "test").prepare(splits.test.images)
    right = (runner.predict(prepared).argmax(1) == splits.test.labels).numpy()
    assert result.num_test_images == 360
    assert result.correct is not None
    bits = np.unpackbits(np.frombuffer(result.correct, np.uint8), count=360)
    np.testing.assert_array_equal(bits, right)
    assert result.measures["test_accuracy"] == pytest.approx(right.mean(), abs=1e-12)


def test_resnet18_of_the_published_width_has_its_published_size(make_settings: Make) -> None:
    changes = {"model.name": "resnet18", "data.size": 32, "data.limit": 20, "data.batch_size": 18, "train.epochs": 1}
    assert run_trial(make_settings(changes), device="cpu").measures["parameters"] == 11_175_434


def test_the_first_epochs_accuracy_is_the_first_one_from_there_on(make_settings: Make) -> None:
    result = run_trial(make_settings({"train.eval_every": 4}), device="cpu")
    assert [p.step for p in result.curve] == [0, 4, 8, 12]
    assert result.measures["first_epoch_dev_accuracy"] == result.curve[2].scores["dev_accuracy"]
    assert result.curve[2].epoch == pytest.approx(1 + 2 / 6)


def test_a_result_is_plain_data(make_settings: Make) -> None:
    result = run_trial(make_settings(), device="cpu")
    assert repr(pickle.loads(pickle.dumps(result))) == repr(result)
    plain = dataclasses.asdict(result) | {"correct": None, "dev_correct": None, "examples": {}}
    assert repr(json.loads(json.dumps(plain))) == repr(plain)


def test_each_evaluation_is_told_as_it_comes(make_settings: Make) -> None:
    told: list[Any] = []
    assert run_trial(make_settings(), device="cpu", on_evaluation=told.append).curve == told


# --- selection reads dev only ---------------------------------------------------------------------------------------


def test_test_is_read_once_after_training(make_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    class Watched(Batches):
        part = ""

        def prepare(self, images: torch.Tensor) -> torch.Tensor:
            read.append(self.part)
            return super().prepare(images)

    def watched(settings: Settings, splits: Splits, part: str) -> Batches:
        made = batches(settings, splits, part)
        made.__class__ = Watched
        made.part = part  # type: ignore[attr-defined]  # Watched's
        return made

    monkeypatch.setattr(trials, "batches", watched)
    run_trial(make_settings(), device="cpu")
    assert read == ["dev", *["train"] * 6, "dev", *["train"] * 6, "dev", "test"]


def test_another_test_split_changes_no_selection(make_settings: Make, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (90, 6, 6), dtype=np.uint8), np.arange(90) % 3
    results = []
    for name, count in (("one", 30), ("other", 60)):
        file = tmp_path / f"{name}.npz"
        np.savez(file, train_images=images, train_labels=labels, test_images=images[:count], test_labels=labels[:count])
        results.append(run_trial(make_settings({"data": {"name": "npz", "path": str(file)}}), device="cpu"))
    one, other = results
    assert [repr(p)[: repr(p).index("train_seconds")] for p in one.curve] == [
        repr(p)[: repr(p).index("train_seconds")] for p in other.curve
    ]
    assert one.measures["selected_epoch"] == other.measures["selected_epoch"]


# --- the same every time --------------------------------------------------------------------------------------------

VARIED = {"model.dropout": 0.3, "data.augment": "flip_shift", "schedule": {"name": "cosine"}}


def test_the_same_settings_give_the_same_numbers_alone_or_after_other_trials(make_settings: Make) -> None:
    settings = make_settings(VARIED)
    first = run_trial(settings, device="cpu")
    other = run_trial(make_settings({"model.name": "lenet", "optimizer": {"name": "adam", "lr": 0.01}}), device="cpu")
    again = run_trial(settings, device="cpu")
    assert numbers(again) == numbers(first)
    assert numbers(other) != numbers(first)


def test_another_process_gives_the_same_numbers(make_settings: Make) -> None:
    settings = make_settings(VARIED)
    code = f"""
        import torch
        from lab import Settings, run_trial
        from test_trial import numbers
        torch.set_num_threads(1)
        print(numbers(run_trial(Settings.parse({settings.model_dump()!r}), device="cpu")))
    """
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    script = f"import sys; sys.path[:0] = {paths!r}\n" + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(numbers(run_trial(settings, device="cpu")))


def test_another_seed_gives_other_numbers(make_settings: Make) -> None:
    settings = make_settings()
    assert numbers(run_trial(settings, device="cpu")) != numbers(run_trial(settings.with_seed(1), device="cpu"))


RESNET = {"model.name": "resnet10", "model.width": 4, "data.size": 32}


@pytest.mark.parametrize(
    "changes",
    [
        {"model.residual": False},
        {"model.batch_norm": False},
        {"model.name": "resnet18"},
        {"optimizer": {"name": "adam", "lr": 0.001}},
        {"schedule": {"name": "cosine"}},
        {"train.epochs": 5},
    ],
)
def test_arms_see_the_same_batches_in_the_same_order(make_settings: Make, changes: dict[str, Any]) -> None:
    def seen(settings: Settings) -> list[torch.Tensor]:
        splits = load_data(settings.data, CPU)
        make_runner(settings, splits, CPU)  # a variant with more layers draws more numbers
        torch.rand(len(changes))
        loader = batches(settings, splits, "train")
        epochs = []
        for epoch in range(2):
            loader.set_epoch(epoch)
            epochs += [X for X, _ in loader]
        return epochs

    one = seen(make_settings({**RESNET, "data.augment": "shift"}))
    other = seen(make_settings({**RESNET, "data.augment": "shift", **changes}))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[0], one[len(one) // 2]), "the second epoch has another order"


def test_another_seed_sees_another_order(make_settings: Make) -> None:
    def first_labels(seed: int) -> list[int]:
        settings = make_settings({"seed": seed})
        _, y = next(iter(batches(settings, load_data(settings.data, CPU), "train")))
        return y.tolist()

    assert first_labels(0) == first_labels(0) != first_labels(1)


def test_the_users_random_state_does_not_reach_a_trial(make_settings: Make) -> None:
    settings = make_settings(VARIED)
    first = run_trial(settings, device="cpu")
    torch.manual_seed(123)
    np.random.seed(5)  # the global state is the point
    assert numbers(run_trial(settings, device="cpu")) == numbers(first)


# --- however it ends ------------------------------------------------------------------------------------------------


def test_divergence_is_a_result(make_settings: Make, tmp_path: Path) -> None:
    settings = make_settings({"optimizer.lr": 1e30, "train.epochs": 5})
    result = run_trial(settings, device="cpu", checkpoint_dir=tmp_path)
    assert result.status == "diverged"
    assert result.error is not None
    assert "up to step 6 the mean training loss is" in result.error
    assert "test_accuracy" not in result.measures
    assert result.correct is None
    assert (result.measures["selected_epoch"], result.measures["epochs"], result.measures["steps"]) == (
        0,
        1,
        6,
    )
    assert result.measures["dev_accuracy"] == result.curve[0].scores["dev_accuracy"]
    weights = torch.load(tmp_path / "best.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_an_interrupted_trial_says_how_far_it_came(make_settings: Make) -> None:
    calls = iter(range(100))
    result = run_trial(make_settings(), device="cpu", should_stop=lambda: next(calls) == 8)
    assert (result.status, result.measures["steps"]) == ("interrupted", 8)
    assert "test_accuracy" not in result.measures
    assert [p.step for p in result.curve] == [0, 6]


def test_an_interruption_before_the_first_step_is_a_result_too(make_settings: Make) -> None:
    result = run_trial(make_settings(), device="cpu", should_stop=lambda: True)
    assert (result.status, result.measures["steps"], result.measures["epochs"]) == ("interrupted", 0, 0)
    assert "first_epoch_dev_accuracy" not in result.measures
    assert result.measures["train_images_per_second"] in (None, 0)


def test_what_a_network_raises_goes_through(make_settings: Make, workshop: Write) -> None:
    workshop("broken", "class Net:\n    def __init__(self): raise RuntimeError('no such luck')")
    with pytest.raises(RuntimeError, match="no such luck"):
        run_trial(make_settings({"model": {"name": "broken:Net"}}), device="cpu")


# --- what a user brings ---------------------------------------------------------------------------------------------

MINE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, in_channels: int, num_classes: int, size: int, width: int = 6):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(in_channels * size * size, width), nn.ReLU())
        self.head = nn.Linear(width, num_classes)

    def forward(self, X):
        return self.head(self.body(X))

class Loss:
    def __call__(self, logits, y):
        return nn.functional.multi_margin_loss(logits, y)

class Top3:
    better = "higher"

    def reset(self):
        self.right, self.seen = 0, 0

    def update(self, logits, y):
        self.right += int((logits.topk(3).indices == y[:, None]).sum())
        self.seen += len(y)

    def accumulate(self):
        return self.right / self.seen

def halves(num_steps: int, times: int = 2):
    return lambda step: 0.5 ** (times * step // num_steps)
"""


def test_a_users_network_optimizer_schedule_loss_and_metric_make_a_trial(make_settings: Make, workshop: Write) -> None:
    workshop("mine", MINE)
    settings = make_settings(
        {
            "model": {"name": "mine:Net", "width": 12},
            "optimizer": {"name": "torch.optim:Adagrad", "lr": 0.1},
            "schedule": {"name": "mine:halves", "times": 3},
            "train": {"epochs": 4, "loss": "mine:Loss", "metric": "mine:Top3"},
        }
    )
    result = run_trial(settings, device="cpu")
    assert result.status == "ok"
    assert result.measures["parameters"] == 64 * 12 + 12 + 12 * 10 + 10
    assert result.measures["test_top3"] > 0.6
    assert result.measures["test_top3"] > result.measures["test_accuracy"], "the built-in scores stand beside it"
    assert result.measures["dev_top3"] == max(point.scores["dev_top3"] for point in result.curve)


def test_the_fingerprint_is_of_the_source_of_lab_and_of_what_the_user_brings(
    make_settings: Make, workshop: Write
) -> None:
    workshop("mine", MINE)
    built_in = source_fingerprint(make_settings())
    settings = make_settings({"model": {"name": "mine:Net"}})
    users = source_fingerprint(settings)
    assert built_in == source_fingerprint(make_settings({"seed": 3}))
    assert users != built_in
    workshop("mine", MINE + "\n# changed")
    fingerprint._digests.cache_clear()
    assert source_fingerprint(settings) != users
    assert source_fingerprint(make_settings()) == built_in


# --- settings that reach the Runner ---------------------------------------------------------------------------------


def test_label_smoothing_reaches_the_loss(make_settings: Make) -> None:
    loss = trials.make_loss(make_settings({"train.label_smoothing": 0.2}).train, 2, torch.device("cpu"))
    logits, y = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    log_p = torch.log_softmax(logits, 1)[0]
    # a fifth of the target is spread over both classes: 0.9 and 0.1
    assert float(loss(logits, y)) == pytest.approx(float(-(0.9 * log_p[0] + 0.1 * log_p[1])))


def test_the_schedule_spans_the_whole_training(make_settings: Make) -> None:
    settings = make_settings({"schedule": {"name": "step", "milestones": [0.5], "gamma": 0.1}})
    runner = make_runner(settings, load_data(settings.data, CPU), CPU)
    assert runner.factor is not None
    assert [runner.factor(step) for step in range(12)] == pytest.approx([1.0] * 6 + [0.1] * 6)


def test_evaluation_takes_no_more_memory_at_a_large_size(make_settings: Make) -> None:
    sizes = {}
    for size in (8, 64, 224, 4096):
        settings = make_settings({"data.size": size})
        sizes[size] = batches(settings, load_data(settings.data, CPU), "test").batch_size
    assert sizes == {8: 512, 64: 512, 224: 2**22 // 224**2, 4096: 1}


# --- before any trial -----------------------------------------------------------------------------------------------


def test_prepare_gives_the_devices_once_the_data_is_there() -> None:
    assert prepare("cpu", [{"name": "digits"}]) == ["cpu"]


def test_prepare_finds_missing_data_and_devices(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.npz"):
        prepare("cpu", [{"name": "digits"}, {"name": "npz", "path": str(tmp_path / "none.npz")}])
    with pytest.raises(ValueError, match="device must be"):
        prepare("tpu", [])
