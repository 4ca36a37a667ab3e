"""Runner: trains on any batches, from a notebook; its curve is worked out by hand, and stopping costs nothing."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from lab import Accuracy, Runner
from lab.data import Batches, Images, Splits
from lab.device import Clock
from lab.result import Evaluation
from lab.returned import ReturnedError
from lab.runner import Diverged, Interrupted, TrainingProgress, Undefined
from lab.selection import Selection
from lab.weights import save_weights

CPU = torch.device("cpu")
ONE = [(torch.ones(1, 1), torch.ones(1, 1))]  # a batch of a single pair: x = 1, y = 1


class Nearness:
    """1 minus the mean distance to the target: a metric with reset, update and accumulate."""

    def reset(self) -> None:
        self.distances: list[Tensor] = []

    def update(self, logits: Tensor, labels: Tensor) -> None:
        self.distances.append((logits - labels).abs())

    def accumulate(self) -> float:
        return 1 - float(torch.cat(self.distances).mean())


class Scripted:
    """Scores as given, one per evaluation."""

    def __init__(self, *scores: float) -> None:
        self.scores = iter(scores)

    def reset(self) -> None: ...

    def update(self, logits: Tensor, labels: Tensor) -> None: ...

    def accumulate(self) -> float:
        return next(self.scores)


class Recording(torch.optim.SGD):
    """Remembers the learning rate and the gradients' norm of each step."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.rates: list[float] = []
        self.norms: list[float] = []

    def step(self, closure: Any = None) -> Any:
        gradients = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
        self.rates.append(self.param_groups[0]["lr"])
        self.norms.append(float(torch.cat(gradients).norm()))
        super().step()


def slope(metric: Any = None, lr: float = 0.25, **settings: Any) -> Runner:
    """Fits y = w x from w = 0 by the squared distance: with x = y = 1, each step halves w's distance to 1."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    return Runner(model, Recording(model.parameters(), lr=lr), F.mse_loss, metric or Nearness(), "cpu", **settings)


def weight(runner: Runner) -> float:
    return float(runner.model.weight.detach())


def points(curve: list[Evaluation]) -> list[tuple[int, float]]:
    return [(point.step, point.epoch) for point in curve]


# --- the curve, by hand ---------------------------------------------------------------------------------------------


def test_the_curve_of_a_tiny_problem_by_hand() -> None:
    # w after each step: 0, 1/2, 3/4, 7/8, 15/16; the loss of a step is (w - 1)^2 before it
    curve = slope().train(ONE * 2, ONE, num_epochs=2)
    assert [(p.step, p.epoch, p.scores["dev_nearness"], p.scores["dev_loss"]) for p in curve] == [
        (0, 0.0, 0.0, 1.0),
        (2, 1.0, 0.75, 0.0625),
        (4, 2.0, 0.9375, 0.00390625),
    ]
    assert math.isnan(curve[0].train_loss)
    assert [p.train_loss for p in curve[1:]] == [(1 + 0.25) / 2, (0.0625 + 0.015625) / 2]


def test_dev_loss_is_the_mean_over_images_not_over_batches() -> None:
    three, one = (torch.ones(3, 1), torch.ones(3, 1)), (torch.ones(1, 1), torch.full((1, 1), 2.0))
    assert slope().train(ONE, [three, one], num_epochs=1)[0].scores["dev_loss"] == (3 * 1 + 1 * 4) / 4


@pytest.mark.parametrize(
    ("eval_steps", "expected"),
    [
        (None, [(0, 0), (3, 1), (6, 2)]),
        (2, [(0, 0), (2, 2 / 3), (4, 4 / 3), (6, 2)]),
        (3, [(0, 0), (3, 1), (6, 2)]),
        (4, [(0, 0), (4, 4 / 3), (6, 2)]),
        (100, [(0, 0), (6, 2)]),
    ],
)
def test_dev_is_evaluated_before_the_first_step_when_due_and_after_the_last(
    eval_steps: int | None, expected: list[tuple[int, float]]
) -> None:
    curve = slope().train(ONE * 3, ONE, 2, eval_steps=eval_steps)
    assert points(curve) == expected


def test_each_point_is_told_as_it_comes() -> None:
    told: list[Evaluation] = []
    assert slope().train(ONE * 3, ONE, 2, on_evaluation=told.append) == told


def test_the_loss_is_logged_as_often_as_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    slope().train(ONE * 4, ONE, 1, log_steps=2)
    assert capsys.readouterr().out.splitlines() == ["step 2: loss 0.6250", "step 4: loss 0.3320"]
    logged: list[tuple[int, float]] = []
    slope().train(ONE * 2, ONE, 1, log_steps=1, on_log=lambda step, loss: logged.append((step, loss)))
    assert logged == [(1, 1.0), (2, 0.625)]


def test_training_goes_on_where_it_stands() -> None:
    runner = slope()
    runner.train(ONE * 2, ONE, 1)
    curve = runner.train(ONE * 2, ONE, 3)
    assert points(curve) == [(0, 0), (2, 1), (4, 2), (6, 3)]
    assert [point.scores["dev_loss"] for point in curve] == [1, 0.25**2, 0.25**4, 0.25**6]


# --- best weights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "step"),
    [((0.1, 0.9, 0.5, 0.6), 1), ((0.1, 0.5, 0.9, 0.9), 2), ((0.1, 0.2, 0.3, 0.4), 3), ((0.9, 0.2, 0.3, 0.4), 0)],
)
def test_the_best_by_dev_is_kept_and_the_earliest_of_equals(
    tmp_path: Path, scores: tuple[float, ...], step: int
) -> None:
    runner = slope(Scripted(*scores))
    runner.train(ONE, ONE, 3, save_path=tmp_path / "deep" / "best.pt")
    assert runner.progress.best.step == step
    assert runner.best_weights["weight"].item() == 1 - 0.5**step
    assert weight(runner) == 1 - 0.5**3, "the network itself has its last weights"
    runner.load_model(tmp_path / "deep" / "best.pt")
    assert weight(runner) == 1 - 0.5**step


# --- any batches ----------------------------------------------------------------------------------------------------


def classifier(**settings: Any) -> Runner:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 4)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return Runner(model, optimizer, F.cross_entropy, Accuracy(), "cpu", **settings)


def images(num_images: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(seed)
    y = torch.arange(num_images) % 4
    return torch.randn(num_images, 1, 4, 4, generator=stream) + y[:, None, None, None], y


def test_a_data_loader_and_a_list_of_batches_are_the_same_to_it() -> None:
    X, y = images()
    loader = DataLoader(TensorDataset(X, y), batch_size=8, generator=torch.Generator())  # else it draws from dropout's
    listed = list(zip(X.split(8), y.split(8), strict=True))
    curves = [classifier().train(batches, batches, 2) for batches in (loader, listed)]
    scores = [[(p.epoch, p.scores["dev_accuracy"], p.scores["dev_loss"]) for p in curve] for curve in curves]
    assert scores[0] == scores[1]


def test_it_learns() -> None:
    X, y = images(200)
    curve = classifier().train(DataLoader(TensorDataset(X, y), batch_size=10, shuffle=True), [(X, y)], 10)
    assert curve[-1].scores["dev_accuracy"] > 0.7 > 0.4 > curve[0].scores["dev_accuracy"]


def test_a_loader_that_knows_epochs_is_told_the_epoch() -> None:
    class Epochs:
        def __init__(self) -> None:
            self.told: list[int] = []

        def set_epoch(self, epoch: int) -> None:
            self.told.append(epoch)

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return iter(ONE)

    loader = Epochs()
    slope().train(loader, ONE, 3)
    assert loader.told == [0, 1, 2]


def test_a_train_loader_that_is_exhausted_is_named() -> None:
    with pytest.raises(ValueError, match="the train loader gave no batches in epoch 2: it must be iterable again"):
        slope().train((batch for batch in ONE), ONE, 2)


def test_a_dev_loader_that_is_exhausted_is_named() -> None:
    with pytest.raises(ValueError, match="the loader gave no batches: it must be iterable again in each evaluation"):
        slope().train(ONE, (batch for batch in ONE), 2)


# --- evaluate, predict, save, load ----------------------------------------------------------------------------------


def test_evaluating_and_predicting_change_nothing() -> None:
    X, y = images()
    runner = classifier()
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    random = torch.get_rng_state()
    score = runner.evaluate([(X, y)])
    runner.model.train()
    logits = runner.predict(X)
    assert logits.shape == (24, 4)
    assert not logits.requires_grad
    assert score == int((logits.argmax(1) == y).sum()) / 24
    assert all(torch.equal(value, before[name]) for name, value in runner.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random), "no dropout"


def test_weights_are_saved_and_loaded(tmp_path: Path) -> None:
    X, _ = images()
    one, other = classifier(), classifier()
    one.train([images()], [images()], 1)
    one.save_model(tmp_path / "model.pt")
    assert not torch.equal(one.predict(X), other.predict(X))
    other.load_model(tmp_path / "model.pt")
    assert torch.equal(one.predict(X), other.predict(X))


def test_loading_runs_no_code(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return print, ("code ran",)

    torch.save({"weight": Code()}, tmp_path / "model.pt")
    with pytest.raises(pickle.UnpicklingError, match=r"[Ww]eights"):
        slope().load_model(tmp_path / "model.pt")


def test_a_file_of_weights_is_the_old_one_or_the_new_one_whole(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    save_weights({"weight": torch.ones(1)}, file)
    with pytest.raises(AttributeError, match="pickle"):
        save_weights({"weight": lambda: None}, file)
    assert torch.load(file, weights_only=True) == {"weight": torch.ones(1)}
    assert list(tmp_path.iterdir()) == [file]


# --- divergence -----------------------------------------------------------------------------------------------------


def test_divergence_is_raised_at_the_end_of_its_epoch_with_curve_and_best_weights_kept() -> None:
    class TurnsBad:
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            bad = torch.full((1, 1), math.inf if self.epoch == 2 else 1.0)
            return iter([*ONE, (bad, torch.ones(1, 1)), *ONE])

    runner = slope()
    with pytest.raises(Diverged, match="up to step 9 the mean training loss is inf, the dev loss nan"):
        runner.train(TurnsBad(), ONE, 5)
    assert [p.step for p in runner.progress.curve] == [0, 3, 6, 9]
    assert runner.progress.best.step == 6
    assert runner.best_weights["weight"].item() == 1 - 0.5**6


def test_weights_that_break_in_the_last_step_of_an_epoch_are_not_the_best() -> None:
    runner = slope(Scripted(0.1, 0.5, 0.9), schedule=lambda step: 1e30 if step == 3 else 1.0)
    with pytest.raises(Diverged, match=r"the mean training loss is 0.02\d+, the dev loss inf"):  # (0.2^2 + 0.1^2) / 2
        runner.train([(torch.ones(1, 1), torch.full((1, 1), 0.8))] * 2, ONE, 2)
    assert math.isfinite(runner.progress.curve[-1].train_loss)
    assert runner.progress.best.step == 2
    assert math.isfinite(runner.best_weights["weight"].item())


def test_best_of_a_curve_leaves_out_what_is_not_finite() -> None:
    def point(step: int, score: float, dev_loss: float, train_loss: float) -> Evaluation:
        return Evaluation(step, step, train_loss, 0.0, {"dev_accuracy": score, "dev_loss": dev_loss})

    curve = [point(0, 0.1, 2.0, math.nan), point(1, 0.9, math.nan, 1.0), point(2, 0.8, 1.0, math.inf)]
    assert TrainingProgress(curve=curve).best == curve[0]
    assert TrainingProgress(curve=[*curve, point(3, 0.2, 1.0, 1.0)]).best.step == 3


# --- stopping and going on ------------------------------------------------------------------------------------------


def training(eval_steps: int | None, stop_after: int | None = None, state: bytes | None = None) -> tuple[Runner, bytes]:
    """BatchNorm, dropout, Adam, a schedule and augmented batches; from a state, or until a number of steps."""
    torch.manual_seed(7 if state is None else 99)
    runner = classifier(schedule=lambda step: 1 / (1 + step), clip_norm=0.5)
    X, y = images(26)
    pixels = Images((X * 10 + 100).to(torch.uint8), y)
    splits = Splits(pixels, pixels, pixels, 4, torch.full((1, 1, 1), 100.0), torch.full((1, 1, 1), 30.0))
    train = Batches(pixels, splits, batch_size=5, size=4, order=3, augment="flip_shift")
    assert len(train) == 5, "the last image alone is left out"
    if state is not None:
        runner.load_state(torch.load(io.BytesIO(state), weights_only=True))
    try:
        runner.train(
            train,
            Batches(pixels, splits, batch_size=10, size=4),
            3,
            eval_steps=eval_steps,
            should_stop=lambda: stop_after is not None and runner.progress.step >= stop_after,
        )
    except Interrupted:
        assert stop_after is not None
    file = io.BytesIO()
    torch.save(runner.state(), file)
    return runner, file.getvalue()


@pytest.mark.parametrize("eval_steps", [None, 3, 5])
@pytest.mark.parametrize("stop_after", [0, 1, 3, 4, 5, 6, 10, 14])
def test_an_interrupted_training_goes_on_to_the_same_numbers_to_the_last_bit(
    eval_steps: int | None, stop_after: int
) -> None:
    whole, _ = training(eval_steps)
    stopped, state = training(eval_steps, stop_after)
    assert stopped.progress.step == stop_after
    resumed, _ = training(eval_steps, state=state)
    assert resumed.progress.step == whole.progress.step == 15
    curves = [[repr((p.step, p.epoch, p.scores, p.train_loss)) for p in one.progress.curve] for one in (resumed, whole)]
    assert curves[0] == curves[1]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    for name, value in whole.best_weights.items():
        assert torch.equal(value, resumed.best_weights[name]), name
    assert resumed.progress.images == whole.progress.images == 75


def test_a_state_is_a_copy_that_training_does_not_change() -> None:
    runner, _ = training(None, stop_after=5)
    state = runner.state()
    kept = {name: value.clone() for name, value in state["model"]["saved"].items()}
    moment = state["hidden"]["optimizer"]["saved"]["state_dict()"][1]["state"][0]["exp_avg"].clone()
    runner.train([images()], [images()], 3)
    other = classifier()
    other.load_state(state)
    other.train([images()], [images()], 3)
    assert all(torch.equal(value, kept[name]) for name, value in state["model"]["saved"].items())
    assert torch.equal(state["hidden"]["optimizer"]["saved"]["state_dict()"][1]["state"][0]["exp_avg"], moment)


def test_the_seconds_go_on_too() -> None:
    runner = slope()
    runner._clock.seconds = 12.0
    other = slope()
    other.load_state(runner.state())
    assert other.train(ONE, ONE, 1)[-1].train_seconds > 12


# --- the clock ------------------------------------------------------------------------------------------------------


def test_train_seconds_count_loading_and_steps_but_no_evaluation() -> None:
    time = 0.0

    def takes(seconds: float, num_batches: int) -> Any:
        class Slow:
            def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
                nonlocal time
                for _ in range(num_batches):
                    time += seconds
                    yield ONE[0]

        return Slow()

    runner = slope()
    runner._clock = Clock(CPU, now=lambda: time)
    curve = runner.train(takes(1, 4), takes(100, 3), 2, eval_steps=2)
    assert [(p.step, p.train_seconds) for p in curve] == [(0, 0), (2, 2), (4, 4), (6, 6), (8, 8)]
    assert time == 8 + 5 * 300


# --- nothing waits for the device -----------------------------------------------------------------------------------


class Waits(TorchDispatchMode):
    """Counts what would make the host wait for the device: reading a number, or a shape that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.forbidden = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2"}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ in self.forbidden
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_only_evaluations_wait_for_the_device(kind: str) -> None:
    def waits(batch_size: int, epochs: int) -> int:
        X, y = images(32)
        pixels = Images((X * 10 + 100).to(torch.uint8), y)
        splits = Splits(pixels, pixels, pixels, 4, torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
        model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Dropout(), nn.Linear(108, 4))
        own = {"fused": True} if kind != "RMSprop" else {}
        optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.01, **own)
        loss = nn.CrossEntropyLoss(label_smoothing=0.1)
        runner = Runner(model, optimizer, loss, Accuracy(), "cpu", clip_norm=1.0, schedule=lambda step: 0.5)
        train = Batches(pixels, splits, batch_size=batch_size, size=8, order=0, augment="flip_shift")
        with Waits() as counter:
            runner.train(train, Batches(pixels, splits, batch_size=8, size=8), epochs)
        return counter.count

    two_steps = waits(batch_size=16, epochs=1)
    assert two_steps > 0, "an evaluation reads its score"
    assert waits(batch_size=2, epochs=1) == two_steps, "sixteen steps wait no more often than two"
    assert waits(batch_size=16, epochs=3) > two_steps


# --- settings -------------------------------------------------------------------------------------------------------


def test_the_schedule_multiplies_the_learning_rate_of_each_step() -> None:
    runner = slope(lr=0.5, schedule=lambda step: [1.0, 0.5, 0.25, 0.0][step])
    runner.train(ONE * 2, ONE, 2)
    assert runner.optimizer.rates == [0.5, 0.25, 0.125, 0.0]


def test_each_group_of_parameters_keeps_its_own_rate() -> None:
    model = nn.Linear(1, 1)
    groups = [{"params": [model.weight], "lr": 0.5}, {"params": [model.bias], "lr": 0.1}]
    runner = Runner(model, torch.optim.SGD(groups), F.mse_loss, Nearness(), "cpu", schedule=lambda step: 0.5)
    runner.train(ONE, ONE, 1)
    assert [group["lr"] for group in runner.optimizer.param_groups] == [0.25, 0.05]


def test_the_gradients_norm_is_clipped() -> None:
    runner = slope(clip_norm=0.5)
    runner.train(ONE * 2, ONE, 1)
    # the gradient is 2 (w - 1): -2, cut to -0.5, so w = 0.125; then -1.75, cut to -0.5, so w = 0.25
    assert runner.optimizer.norms == pytest.approx([0.5, 0.5], rel=1e-5)
    assert weight(runner) == pytest.approx(0.25, rel=1e-5)


def test_a_gradient_below_the_limit_is_left_alone() -> None:
    runner = slope(clip_norm=10.0)
    runner.train(ONE * 2, ONE, 1)
    assert weight(runner) == 0.75


def test_bfloat16_computes_in_bfloat16_and_keeps_the_weights_in_float32() -> None:
    seen: list[torch.dtype] = []

    def loss_fn(logits: Tensor, y: Tensor) -> Tensor:
        seen.append(logits.dtype)
        return F.cross_entropy(logits, y)

    runner = classifier(precision="bfloat16")
    runner.loss_fn = loss_fn
    curve = runner.train([images()], [images()], 1)
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in runner.model.parameters()} == {torch.float32}
    assert runner.predict(images()[0]).dtype == torch.bfloat16
    whole = classifier()
    assert curve[0].scores["dev_loss"] == pytest.approx(
        whole.train([images()], [images()], 1)[0].scores["dev_loss"], rel=0.02
    )


# --- selection, and what a user's code returns ----------------------------------------------------------------------


@pytest.mark.parametrize(("better", "best"), [("higher", 2), ("lower", 1)])
def test_the_best_epoch_follows_the_direction_of_its_score(better: Any, best: int) -> None:
    runner = slope(Scripted(0.5, 0.2, 0.9), selection=Selection("dev_scripted", better))
    runner.train(ONE, ONE, 2)
    assert runner.progress.best is not None
    assert runner.progress.best.step == best
    assert runner.best_weights["weight"].item() == 1 - 0.5**best


def test_a_class_that_says_lower_selects_the_lowest() -> None:
    falling = type("Falling", (Scripted,), {"better": "lower"})
    runner = slope(falling(-1.0, -3.0, -2.0))
    runner.train(ONE, ONE, 2)
    assert runner.selection == Selection("dev_falling", "lower")
    assert runner.best_weights["weight"].item() == 0.5


def test_another_score_than_the_metrics_own_can_select() -> None:
    runner = slope(Scripted(0.9, 0.5, 0.1), selection=Selection("dev_loss", "lower"))
    runner.train(ONE, ONE, 2)
    assert runner.progress.best is not None
    assert runner.progress.best.step == 2


@pytest.mark.parametrize("undefined", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_never_the_best(undefined: float) -> None:
    runner = slope(Scripted(undefined, 0.2, undefined))
    runner.train(ONE, ONE, 2)
    assert runner.progress.best is not None
    assert runner.progress.best.step == 1


def test_a_score_that_is_never_finite_while_the_loss_is_cannot_select() -> None:
    runner = slope(Scripted(math.nan, math.nan, math.nan))
    message = "dev_scripted is a finite number in none of 3 evaluations, although the loss is: .*:Scripted.accumulate"
    with pytest.raises(Undefined, match=message):
        runner.train(ONE, ONE, 2)


class Fading(nn.Linear):
    """Counts its training passes in an attribute, and gives less with each."""

    passes = 0

    def forward(self, X: Tensor) -> Tensor:
        self.passes += self.training
        return super().forward(X) / (1 + self.passes)


def test_test_is_read_of_the_network_as_it_was_at_the_best_epoch_with_what_it_keeps_beside_its_weights() -> None:
    model = Fading(1, 1)
    runner = Runner(model, torch.optim.SGD(model.parameters(), lr=0.25), F.mse_loss, Scripted(0, 2, 1, 0, 0), "cpu")
    curve = runner.train(ONE, ONE, 3)
    runner.restore_best()
    assert model.passes == 1
    assert runner.measure(ONE).scores["loss"] == curve[1].scores["dev_loss"]


def test_which_dev_images_the_best_weights_predict_right_is_kept_through_a_stop() -> None:
    whole, _ = training(None)
    _, state = training(None, 10)
    resumed, _ = training(None, state=state)
    assert whole.best_correct is not None
    assert torch.equal(whole.best_correct, resumed.best_correct)
    assert whole.progress.best is not None
    assert int(whole.best_correct.sum()) / 26 == whole.progress.best.scores["dev_accuracy"]


def test_the_loss_of_each_image_is_given_where_it_is_asked_for() -> None:
    squares = lambda outputs, targets: (outputs - targets).square()[:, 0]  # noqa: E731
    runner = slope(example_loss=squares)
    two = [(torch.ones(1, 1), torch.full((1, 1), value)) for value in (2.0, 3.0)]
    assert runner.measure(two).losses is None
    assert runner.measure(two, examples=True).losses.tolist() == [4.0, 9.0]  # type: ignore[union-attr]  # asked for


def mean_of_nothing(outputs: Tensor, targets: Tensor) -> Any:
    return GIVEN["value"]


GIVEN: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0.5, "float 0.5"),
        (None, "None"),
        (torch.ones(4), "a tensor of shape (4,) and type float32"),
        (torch.tensor(1), "a tensor of shape () and type int64"),
        (torch.tensor(1j), "a tensor of shape () and type complex64"),
        ("low", "the text 'low'"),
    ],
)
def test_a_loss_that_is_no_mean_of_a_batch_is_named_at_the_first_evaluation(value: Any, says: str) -> None:
    GIVEN["value"] = value
    model = nn.Linear(1, 1)
    runner = Runner(model, Recording(model.parameters(), lr=0.1), mean_of_nothing, Nearness(), "cpu")
    rule = "must return the mean loss of the batch as one floating-point tensor"
    with pytest.raises(ReturnedError) as caught:
        runner.train(ONE, ONE, 1)
    assert str(caught.value) == f"test_runner:mean_of_nothing {rule}, returned {says}"


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_loss_of_one_element_is_that_number(shape: tuple[int, ...]) -> None:
    model = nn.Linear(1, 1, bias=False)
    loss = lambda outputs, targets: F.mse_loss(outputs, targets).reshape(shape)  # noqa: E731
    assert Runner(model, Recording(model.parameters(), lr=0.1), loss, Nearness(), "cpu").train(ONE, ONE, 1)


def test_a_loss_that_training_cannot_follow_back_is_named() -> None:
    GIVEN["value"] = torch.tensor(0.5)
    model = nn.Linear(1, 1)
    runner = Runner(model, Recording(model.parameters(), lr=0.1), mean_of_nothing, Nearness(), "cpu")
    with pytest.raises(ReturnedError, match="mean_of_nothing must return a loss that depends on the outputs"):
        runner.train(ONE, ONE, 1)


class Detached(nn.Linear):
    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return super().forward(X).detach()


@pytest.mark.parametrize(("network", "enabled"), [(Detached, True), (nn.Linear, False)])
def test_a_network_whose_outputs_training_cannot_follow_back_is_named(network: type[nn.Linear], enabled: bool) -> None:
    model = network(1, 1)
    runner = Runner(model, Recording(model.parameters(), lr=0.1), F.mse_loss, Nearness(), "cpu")
    off = "" if enabled else ": torch.set_grad_enabled(False) is in force"
    rule = "the network must return what depends on its parameters by operations of torch"
    with torch.set_grad_enabled(enabled), pytest.raises(ReturnedError) as caught:
        runner.train(ONE, ONE, 1)
    assert str(caught.value) == f"{rule}, returned tensors without gradient{off}"


@pytest.mark.parametrize(
    ("value", "says"),
    [(math.nan, "a finite number, returned nan at step 1"), ("fast", "a number, returned the text 'fast'")],
)
def test_a_schedule_that_gives_no_finite_number_is_named(value: Any, says: str) -> None:
    def factor(step: int) -> Any:
        return value if step == 1 else np.float32(1)

    with pytest.raises(ReturnedError, match=rf"test_runner:.*factor must return {says}"):
        slope(schedule=factor).train(ONE * 2, ONE, 1)


@pytest.mark.parametrize(("dtype", "value", "count"), [(torch.bfloat16, 1.3046875, 3), (torch.float16, 200.0, 512)])
def test_the_mean_loss_of_a_network_in_half_precision_is_that_of_its_batch(
    dtype: torch.dtype, value: float, count: int
) -> None:
    """Three times 1.3046875 is no number of bfloat16, 512 times 200 is beyond float16."""
    net = nn.Linear(2, 2).to(dtype)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    runner = Runner(net, optimizer, lambda output, y: output.sum() * 0 + value, Accuracy())
    batch = torch.zeros(count, 2, dtype=dtype), torch.zeros(count, dtype=torch.int64)
    assert runner.measure([batch]).scores["loss"] == value
