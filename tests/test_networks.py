"""Whatever a network may do in plain PyTorch trains as in a loop written by hand, or is refused in words."""

from __future__ import annotations

import inspect
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import legal_networks
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab import run_trial
from lab.data import load_data
from lab.inspection import inspect_all
from lab.metrics import Accuracy
from lab.outputs import logits_of, on_logits
from lab.result import Inspection, Result
from lab.settings import Settings
from lab.streams import build, derive
from lab.trial import batches

CPU = torch.device("cpu")
Make = Callable[..., Settings]
EPOCHS = 3


def settings_of(make_settings: Make, network: str, **changes: Any) -> Settings:
    """Of two epochs of six steps on 200 digits, where the changes do not say otherwise."""
    model = {"name": f"legal_networks:{network}"}
    data = {"name": "digits", "limit": 200, "batch_size": 32}
    return make_settings({"data": data, "model": model, "train.epochs": EPOCHS, **changes})


def numbers(result: Result) -> list[Any]:
    assert result.status == "ok", result.error
    scores = {name: value for name, value in result.measures.items() if name.startswith(("test_", "dev_", "final_"))}
    assert "test_accuracy" in scores
    points = [(p.step, sorted(p.scores.items()), repr(p.train_loss)) for p in result.curve]
    return [*points, sorted(scores.items()), result.correct]


# --- the loop that a user would write -------------------------------------------------------------------------------


def plain_loss(output: Any, y: Tensor) -> Tensor:
    """Cross-entropy of what the networks of legal_networks mean by their outputs."""
    if isinstance(output, dict):
        output = output["logits"]
    if hasattr(output, "logits"):
        output = output.logits
    return F.cross_entropy(output[1] if isinstance(output, tuple) else output, y)


def by_hand(
    settings: Settings,
    make: Callable[[], nn.Module],
    optimizer_of: Callable[[Any], torch.optim.Optimizer],
    loss_of: Callable[[Any, Tensor], Tensor] = plain_loss,
) -> list[tuple[float, float]]:
    """The mean training loss of each epoch and the loss on dev after it, in plain PyTorch."""
    splits = load_data(settings.data, CPU)
    train, dev = batches(settings, splits, "train"), batches(settings, splits, "dev")
    network = make()
    optimizer = optimizer_of(network.parameters())
    needs_closure = inspect.signature(optimizer.step).parameters["closure"].default is inspect.Parameter.empty
    torch.manual_seed(derive(settings.seed, "dropout"))
    random.seed(derive(settings.seed, "python"))
    np.random.seed(derive(settings.seed, "numpy") % 2**32)
    evaluate(network, dev, loss_of)
    points = []
    for epoch in range(settings.train.epochs):
        train.set_epoch(epoch)
        network.train()
        switch(optimizer, "train")
        losses = []
        for X, y in train:

            def closure(X: Tensor = X, y: Tensor = y) -> Any:
                optimizer.zero_grad()
                with torch.enable_grad():
                    loss = loss_of(network(X), y)
                    loss.backward()
                return loss

            if needs_closure:
                first: list[float] = []
                optimizer.step(lambda c=closure, f=first: f.append(float((loss := c()).detach())) or loss)  # type: ignore[misc]
                losses.append(first[0])
            else:
                losses.append(float(closure().detach()))
                optimizer.step()
        switch(optimizer, "eval")
        points.append((float(np.mean(losses)), evaluate(network, dev, loss_of)))
    return points


def switch(optimizer: torch.optim.Optimizer, mode: str) -> None:
    getattr(optimizer, mode, lambda: None)()


@torch.no_grad()
def evaluate(network: nn.Module, dev: Any, loss_of: Callable[[Any, Tensor], Tensor]) -> float:
    network.eval()
    losses = [(float(loss_of(network(X), y)), len(y)) for X, y in dev]
    return sum(loss * count for loss, count in losses) / sum(count for _, count in losses)


def with_first_pass(make: Callable[[], nn.Module], modes: tuple[bool, ...]) -> Callable[[], nn.Module]:
    """As a user does who needs all parameters before the optimizer is made."""

    def made() -> nn.Module:
        network = make()
        for mode in modes:
            network.train(mode)
            with torch.no_grad():
                network(torch.zeros(2, 1, 8, 8))
        if isinstance(network, legal_networks.Lazy):
            network.norm.reset_running_stats()
        return network

    return made


FIRST_PASS: dict[str, tuple[bool, ...]] = {"Lazy": (False,), "MadeInForward": (False,), "MadeInTraining": (True,)}
LEGAL = [
    "Plain", "Lazy", "MadeInForward", "MadeInTraining", "Tuple", "Dict", "Named", "Data", "ExtraState", "Counts",
    "Queue", "Locked", "Coins", "NoAverages", "Late", "Tied", "Frozen", "Complex", "Double", "Hooked", "Normed",
    "Sparse", "Objects", "Thawed", "Silent", "Holds", "Aside", "Iterates",
    "SetLater",
]  # fmt: skip
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.05),
    "momentum": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9),
    "nesterov": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda params: torch.optim.RMSprop(params, lr=0.05),
    "adam": lambda params: torch.optim.Adam(params, lr=0.05),
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.05),
}


def agree(result: Result, points: list[tuple[float, float]]) -> None:
    assert result.status == "ok", result.error
    curve = [(point.train_loss, point.scores["dev_loss"]) for point in result.curve[1:]]
    np.testing.assert_allclose(curve, points, rtol=2e-4)


@pytest.mark.parametrize("network", LEGAL)
def test_training_is_that_of_a_loop_written_by_hand(make_settings: Make, network: str) -> None:
    settings = settings_of(make_settings, network)
    made = with_first_pass(getattr(legal_networks, network), FIRST_PASS.get(network, ()))
    agree(
        run_trial(settings, device="cpu"), by_hand(settings, lambda: build(made, settings.seed), OPTIMIZERS["momentum"])
    )


def test_images_lie_as_in_plain_pytorch_where_a_network_views_them(make_settings: Make) -> None:
    colours = {"name": "digits", "limit": 200, "batch_size": 32, "channels": 3}
    for precision in ("float32", "bfloat16"):
        settings = settings_of(make_settings, "Viewed", data=colours, **{"train.precision": precision})
        result = run_trial(settings, device="cpu")
        assert result.status == "ok", result.error
        assert math.isfinite(result.measures["test_loss"])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", ["Late", "Frozen", "Complex", "Double"])
def test_every_optimizer_does_what_torchs_does(make_settings: Make, network: str, optimizer: str) -> None:
    settings = settings_of(make_settings, network, optimizer={"name": optimizer, "lr": 0.05})
    make = getattr(legal_networks, network)
    agree(
        run_trial(settings, device="cpu"), by_hand(settings, lambda: build(make, settings.seed), OPTIMIZERS[optimizer])
    )


OWN: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "torch.optim:LBFGS": lambda params: torch.optim.LBFGS(params, lr=0.05),
    "legal_networks:Averaging": lambda params: legal_networks.Averaging(params, lr=0.05),
    "legal_networks:TwoPasses": lambda params: legal_networks.TwoPasses(params, lr=0.05),
    "legal_networks:hooked": lambda params: legal_networks.hooked(params, lr=0.05),
    "legal_networks:in_groups": lambda params: legal_networks.in_groups(params, lr=0.05),
    "legal_networks:trainable_only": lambda params: legal_networks.trainable_only(params, lr=0.05),
}


@pytest.mark.parametrize("optimizer", OWN)
def test_optimizers_with_closures_groups_and_parameters_left_out(make_settings: Make, optimizer: str) -> None:
    settings = settings_of(make_settings, "Frozen", optimizer={"name": optimizer, "lr": 0.05})
    points = by_hand(settings, lambda: build(legal_networks.Frozen, settings.seed), OWN[optimizer])
    agree(run_trial(settings, device="cpu"), points)


def test_sparse_gradients_take_plain_steps(make_settings: Make) -> None:
    settings = settings_of(make_settings, "Sparse", optimizer={"name": "sgd", "lr": 0.05})
    points = by_hand(settings, lambda: build(legal_networks.Sparse, settings.seed), OPTIMIZERS["sgd"])
    agree(run_trial(settings, device="cpu"), points)


def test_a_loss_of_ones_own_gets_all_that_the_network_returns(make_settings: Make) -> None:
    settings = settings_of(make_settings, "TwoHeads", **{"train.loss": "legal_networks:two_heads"})
    make = lambda: build(legal_networks.TwoHeads, settings.seed)  # noqa: E731
    points = by_hand(settings, make, OPTIMIZERS["momentum"], legal_networks.two_heads)
    agree(run_trial(settings, device="cpu"), points)


# --- resumed in mid-trial -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "optimizer"),
    [
        *((network, "momentum") for network in LEGAL),
        *(("Late", optimizer) for optimizer in ("nesterov", "rmsprop", "adam")),
        *(("Plain", optimizer) for optimizer in OWN),
    ],
)
def test_a_trial_that_was_cut_off_gives_the_same_numbers(
    make_settings: Make, tmp_path: Path, network: str, optimizer: str
) -> None:
    settings = settings_of(make_settings, network, optimizer={"name": optimizer, "lr": 0.05})
    asked = iter([False] * 8 + [True] * 100)
    cut = run_trial(settings, device="cpu", checkpoint_dir=tmp_path, should_stop=lambda: next(asked))
    assert (cut.status, cut.measures["steps"]) == ("interrupted", 8)
    resumed = run_trial(settings, device="cpu", checkpoint_dir=tmp_path)
    assert numbers(resumed) == numbers(run_trial(settings, device="cpu"))


def test_what_cannot_be_restored_is_told_and_trained_from_the_beginning(
    make_settings: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of(make_settings, "Iterates")
    asked = iter([False] * 8 + [True] * 100)
    run_trial(settings, device="cpu", checkpoint_dir=tmp_path, should_stop=lambda: next(asked))
    run_trial(settings, device="cpu", checkpoint_dir=tmp_path)
    said = "network.scales cannot be restored: nobody can read the place of builtins.generator"
    assert said in capsys.readouterr().out


def as_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the module and the class the values of a process that has just begun."""
    monkeypatch.setattr(legal_networks, "steps", 0)
    for name, value in {"made": 0, "parts": itertools.count(), "seen": []}.items():
        monkeypatch.setattr(legal_networks.Counted, name, value)


def test_counts_of_classes_and_modules_are_those_of_one_network_and_are_resumed(
    make_settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(make_settings, "Counted")
    as_imported(monkeypatch)
    whole = run_trial(settings, device="cpu")
    as_imported(monkeypatch)
    agree(whole, by_hand(settings, lambda: build(legal_networks.Counted, settings.seed), OPTIMIZERS["momentum"]))
    as_imported(monkeypatch)
    asked = iter([False] * 8 + [True] * 100)
    run_trial(settings, device="cpu", checkpoint_dir=tmp_path, should_stop=lambda: next(asked))
    as_imported(monkeypatch)
    assert numbers(run_trial(settings, device="cpu", checkpoint_dir=tmp_path)) == numbers(whole)


def test_a_loss_with_a_state_is_resumed_with_it(make_settings: Make, tmp_path: Path) -> None:
    settings = settings_of(make_settings, "Plain", **{"train.loss": "legal_networks:Annealed"})
    asked = iter([False] * 8 + [True] * 100)
    run_trial(settings, device="cpu", checkpoint_dir=tmp_path, should_stop=lambda: next(asked))
    assert numbers(run_trial(settings, device="cpu", checkpoint_dir=tmp_path)) == numbers(
        run_trial(settings, device="cpu")
    )


# --- which of the outputs are the logits ----------------------------------------------------------------------------

A, B, C = torch.rand(4, 10), torch.rand(4, 10), torch.rand(4, 6)


@pytest.mark.parametrize(
    ("output", "logits"),
    [
        (A, A),
        (C, C),  # a network may return what its own loss and metric understand
        ((A, B), A),
        ([C, A], A),
        ({"features": A, "logits": B}, B),
        ({"x": {"features": C}, "y": [B]}, B),
        (legal_networks.Pair(A, B), B),
        (legal_networks.Out(None, A, B), A),
    ],
)
def test_the_logits_are_the_tensor_what_is_named_so_or_the_first_of_their_shape(output: Any, logits: Tensor) -> None:
    assert logits_of(output, 4, 10) is logits


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (None, "returned NoneType without a tensor"),
        ({"features": C}, r"returned dict of \(4, 6\) float32"),
        ((A[:2], C), r"returned tuple of \(2, 10\) float32, \(4, 6\) float32"),
        ("logits", "returned str without a tensor"),
    ],
)
def test_an_output_without_logits_is_refused_with_what_it_is(output: Any, said: str) -> None:
    with pytest.raises(ValueError, match=rf"the network must return logits of shape \(4, 10\): .*{said}"):
        logits_of(output, 4, 10)


def test_too_few_outputs_are_refused_under_the_built_in_loss_and_more_are_not() -> None:
    loss, labels = on_logits(torch.nn.functional.cross_entropy, 10), torch.tensor([0, 1, 2, 3])
    assert loss(torch.zeros(4, 12), labels).item() == pytest.approx(math.log(12))
    with pytest.raises(ValueError, match=r"must return logits of shape \(4, 10\): .* returned \(4, 1\) float32"):
        loss(torch.zeros(4, 1), labels)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("TwoHeads", "would train the first alone.*name a loss of your own"),
        ("Features", "must return logits of shape"),
        ("Unmade", "the lazy parameter unused.weight must have been made by a forward pass"),
        ("Fixed", "has no parameter that requires a gradient"),
        ("Unset", r"shift is never given values \(torch.empty leaves whatever stood in memory\), or holds NaN"),
        ("Unrepeatable", "the initial value of first.weight must be the same each time"),
    ],
)
def test_what_cannot_be_trained_rightly_is_refused_in_words(make_settings: Make, network: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run_trial(settings_of(make_settings, network), device="cpu")


def test_an_accuracy_of_a_map_is_refused() -> None:
    with pytest.raises(ValueError, match=r"accuracy needs logits .* got logits \(4, 10, 1, 1\) and labels \(4,\)"):
        Accuracy().update(A[:, :, None, None], torch.zeros(4, dtype=torch.int64))


def test_a_schedule_needs_a_learning_rate_to_change(make_settings: Make) -> None:
    own = {"name": "legal_networks:without_rate", "lr": 0.1}
    with pytest.raises(ValueError, match="WithoutRate has parameters without a learning rate"):
        run_trial(settings_of(make_settings, "Plain", optimizer=own, schedule={"name": "cosine"}), device="cpu")


# --- the look before the run ----------------------------------------------------------------------------------------


def look(make_settings: Make, network: str, **model: Any) -> Inspection:
    settings = settings_of(make_settings, network, model={"name": f"legal_networks:{network}", **model})
    (found,) = inspect_all({"it": settings.model_dump()}, "cpu", None, 1, price=False)
    return found


@pytest.mark.parametrize("network", LEGAL)
def test_the_look_asks_no_more_than_training_does(make_settings: Make, network: str) -> None:
    found = look(make_settings, network)
    assert found.error is None
    unequal = {"peak_memory_bytes": None, "host_memory_bytes": None}  # from one look to the next
    assert replace(found, **unequal) == replace(look(make_settings, network), **unequal)


@pytest.mark.parametrize("level", ["frozen", "detached", "slower", "noisy", "averaged"])
def test_the_look_sees_what_changes_training_alone(make_settings: Make, level: str) -> None:
    assert look(make_settings, "Switched", level=level).signature != look(make_settings, "Switched").signature


def test_the_look_sees_that_a_switch_does_nothing(make_settings: Make) -> None:
    assert look(make_settings, "Switched", level="unknown").signature == look(make_settings, "Switched").signature
