"""torch.compile: for every built-in network, without a trace in the trial, and with a way back where it fails."""

from __future__ import annotations

import functools
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lab import trial
from lab.compilation import compile_network
from lab.networks import MODELS
from lab.settings import Settings
from lab.trial import run_trial

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own imports
CPU = torch.device("cpu")
X = torch.linspace(-1, 1, 4 * 32 * 32).view(4, 1, 32, 32)


def network(name: str, **own: Any) -> nn.Module:
    torch.manual_seed(0)
    size = {"size": 32} if name in ("mlp", "lenet") else {"width": 4}
    return MODELS[name](in_channels=1, num_classes=10, **size, **own)


def settings() -> Settings:
    return Settings.parse(
        {
            "data": {"name": "digits", "limit": 200},
            "model": {"name": "mlp", "hidden": [8]},
            "optimizer": {"name": "sgd", "lr": 0.1},
            "train": {"epochs": 1, "compile": True},
        }
    )


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("name", ["mlp", "lenet", "resnet10"])
def test_every_network_compiles_and_is_left_as_it_was(name: str, batch_norm: bool) -> None:
    model, same = (network(name, batch_norm=batch_norm).train() for _ in range(2))
    torch.manual_seed(1)
    assert compile_network(model, X, CPU, "float32", (name, batch_norm), backend="aot_eager") is None
    assert model._compiled_call_impl is not None
    assert torch.rand(()) == torch.rand((), generator=torch.Generator().manual_seed(1)), "random streams"
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    for (key, value), other in zip(model.state_dict().items(), same.state_dict().values(), strict=True):
        assert torch.equal(value, other), key
    torch.testing.assert_close(model(X), same(X))


def test_networks_of_one_kind_share_what_was_compiled() -> None:
    compiled: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        compiled.append(1)
        return graph.forward

    def compile_one(kind: str, **own: Any) -> int:
        compiled.clear()
        assert compile_network(network("lenet", **own), X, CPU, "float32", kind, backend=backend) is None
        return len(compiled)

    first = compile_one("plain")
    assert first == 2, "one graph to train, one to evaluate"
    assert compile_one("plain") == 0
    assert compile_one("normal", batch_norm=True) == first
    assert compile_one("plain") == first, "the compiler forgets where the kind changes"


def test_where_the_compiler_fails_the_network_is_trained_as_it_is_and_the_result_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(trial, "compile_network", functools.partial(compile_network, backend=broken))
    result = run_trial(settings(), device="cpu")
    assert result.status == "ok"
    assert "no compiler here" in (result.compile_error or "")
    raw = settings().model_dump()
    raw["train"]["compile"] = False
    uncompiled = run_trial(Settings.parse(raw), device="cpu")
    assert uncompiled.compile_error is None
    assert uncompiled.curve[-1].scores["dev_loss"] == result.curve[-1].scores["dev_loss"], (
        "the same numbers to the last bit"
    )


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler for CPUs needs g++")
def test_a_compiled_trial_learns_what_an_uncompiled_one_does() -> None:
    compiled = run_trial(settings(), device="cpu")
    assert compiled.compile_error is None
    raw = settings().model_dump()
    raw["train"]["compile"] = False
    assert compiled.curve[-1].scores["dev_loss"] == pytest.approx(
        run_trial(Settings.parse(raw), device="cpu").curve[-1].scores["dev_loss"], rel=1e-4
    )
