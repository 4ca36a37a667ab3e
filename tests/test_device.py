"""Devices: which one is taken, what is timed on it, and that nothing computes beside it.

There need not be a card: tensors of FakeTensorMode have a device and no data, and refuse to be mixed with tensors of
another device. What needs a card is marked ``gpu`` and runs where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lab import Accuracy, Runner, run_trial
from lab.data import Batches, Images, Splits
from lab.device import (
    Clock,
    autocast,
    configure,
    environment,
    lay_out,
    memory_format,
    network_format,
    peak_memory_bytes,
    reset_peak_memory,
    resolve,
    transfer,
    worker_devices,
)
from lab.networks import build_model
from lab.optim import build_optimizer
from lab.settings import ModelSettings, OptimizerSettings, Settings, parse_section
from lab.vision import import_torchvision

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

# --- which device ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cards", "mps", "taken"), [(2, True, "cuda"), (0, True, "mps"), (0, False, "cpu"), (1, False, "cuda")]
)
def test_auto_takes_cuda_then_mps_then_the_cpu(
    monkeypatch: pytest.MonkeyPatch, cards: int, mps: bool, taken: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve("auto") == torch.device(taken)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "meta", "xpu"])
def test_another_device_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=f"device must be auto, cpu, cuda, cuda:N or mps, got '{name}'"):
        resolve(name)


@pytest.mark.parametrize(("name", "cards"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_card_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, cards: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    with pytest.raises(ValueError, match=f"device {name}: this machine has {cards} CUDA devices"):
        resolve(name)


def test_trials_are_spread_over_every_card_or_kept_on_the_one_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert worker_devices("auto") == worker_devices("cuda") == ["cuda:0", "cuda:1", "cuda:2"]
    assert worker_devices("cuda:1") == ["cuda:1"]
    assert worker_devices("cpu") == ["cpu"]


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_card_is_made_the_current_one_where_its_number_is_known(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    current: list[int] = []
    monkeypatch.setattr(torch._C, "_cuda_setDevice", current.append, raising=False)
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    try:
        configure(torch.device(name))
        assert torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before[1:]
    assert current == ([1] if name == "cuda:1" else [])


def test_the_environment_of_the_cpu() -> None:
    found = environment(CPU)
    assert (found.device, found.threads, found.torch_version) == ("cpu", 1, torch.__version__)
    assert found.device_name
    assert found.hostname


# --- what a device does ---------------------------------------------------------------------------------------------


def test_a_clock_adds_up_what_runs_inside_it_also_where_that_fails() -> None:
    times = iter([10.0, 12.5, 100.0, 101.0])
    clock = Clock(CPU, now=lambda: next(times))
    with clock.running():
        pass
    assert clock.seconds == 2.5
    with pytest.raises(KeyError), clock.running():
        raise KeyError
    assert clock.seconds == 3.5


def test_peak_memory_sees_what_is_held_between_two_looks() -> None:
    reset_peak_memory(CPU)
    before = peak_memory_bytes(CPU)
    held = torch.ones(200_000_000, dtype=torch.uint8)
    del held
    assert peak_memory_bytes(CPU) >= before + 50_000_000


def test_autocast_is_bfloat16_or_nothing() -> None:
    matrix = torch.ones(2, 2)
    with autocast(CPU, "bfloat16"):
        assert (matrix @ matrix).dtype == torch.bfloat16
    with autocast(CPU, "float32"):
        assert (matrix @ matrix).dtype == torch.float32


def test_images_go_channels_last_to_a_card_and_anything_else_as_it_is() -> None:
    net = network(RESNET)
    assert {memory_format(CUDA, precision, net) for precision in ("float32", "bfloat16")} == {torch.channels_last}
    assert memory_format(CPU, "float32", net) == torch.contiguous_format
    assert memory_format(CPU, "bfloat16", net) == torch.channels_last
    with FakeTensorMode():
        images = transfer(torch.zeros(2, 3, 4, 4, device=CUDA), CUDA, torch.channels_last)
        assert images.is_contiguous(memory_format=torch.channels_last)
        for shape in [(2,), (2, 3), (2, 3, 4), (2, 3, 4, 4, 4)]:
            assert transfer(torch.zeros(shape, device=CUDA), CUDA, torch.channels_last).shape == shape
    last = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    assert transfer(last, CPU, torch.contiguous_format).is_contiguous()


def test_networks_of_ones_own_get_images_as_plain_pytorch_lays_them_out() -> None:
    """What ``view`` makes of them is so in no other layout; torchvision's networks take any."""
    own = nn.Sequential(nn.Conv2d(3, 4, 3))
    for device in (CPU, CUDA):
        assert memory_format(device, "bfloat16", own) == network_format(device, own) == torch.contiguous_format
    theirs = import_torchvision().models.resnet18()
    assert memory_format(CUDA, "float32", theirs) == network_format(CUDA, theirs) == torch.channels_last


def test_weights_go_channels_last_to_a_card_alone() -> None:
    net = network(RESNET)
    assert network_format(CUDA, net) == torch.channels_last
    assert network_format(CPU, net) == torch.contiguous_format


@pytest.mark.parametrize("channels", [1, 3])
def test_on_a_cpu_convolutions_take_large_images_channels_last_and_small_ones_as_they_come(channels: int) -> None:
    large, small = torch.zeros(2, channels, 4, 4), torch.zeros(2, channels, 3, 4)
    assert lay_out(large).stride() == (16 * channels, 1, 4 * channels, channels)
    laid_out = lay_out(large)
    assert lay_out(laid_out) is laid_out
    assert lay_out(small.to(memory_format=torch.channels_last)).is_contiguous()
    with FakeTensorMode():
        card = torch.empty(2, channels, 4, 4, device=CUDA)
        assert lay_out(card) is card


# --- nothing computes beside the device -----------------------------------------------------------------------------

RESNET = {"name": "resnet10", "width": 4}
VARIANTS: list[dict[str, Any]] = [
    {"name": "mlp", "hidden": [6, 6]},
    {"name": "mlp", "hidden": [6, 6], "residual": True, "batch_norm": True, "dropout": 0.5},
    {"name": "lenet"},
    {"name": "lenet", "batch_norm": True},
    *(
        RESNET | {"residual": residual, "batch_norm": batch_norm, "stem": stem}
        for residual in (True, False)
        for batch_norm in (True, False)
        for stem in ("imagenet", "cifar")
    ),
    {"name": "resnet18", "width": 4},
    {"name": "resnet34", "width": 4},
]


def network(settings: dict[str, Any]) -> nn.Module:
    parsed = parse_section("model", settings)
    assert isinstance(parsed, ModelSettings)
    return build_model(parsed, in_channels=1, num_classes=10, size=32)


def fake_batches(**settings: Any) -> Batches:
    """Ten images of 8 x 8 on a card that need not exist."""
    images = Images(
        torch.zeros(10, 1, 8, 8, dtype=torch.uint8, device=CUDA), torch.zeros(10, dtype=torch.long, device=CUDA)
    )
    moments = torch.zeros(1, 1, 1, device=CUDA), torch.ones(1, 1, 1, device=CUDA)
    return Batches(images, Splits(images, images, images, 10, *moments), batch_size=4, size=32, **settings)


def on_card(model: nn.Module, values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.empty(value.shape, dtype=value.dtype, device=CUDA) for name, value in values.items()}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("settings", VARIANTS, ids=lambda s: " ".join(map(str, s.values())))
def test_no_cpu_tensor_slips_into_the_forward_path(settings: dict[str, Any], training: bool) -> None:
    model = network(settings).train(training)
    if training:  # writing running statistics to a card asks for a torch that was built with CUDA; their use does not
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean = module.running_var = module.num_batches_tracked = None
    values = model.state_dict()
    with FakeTensorMode(), torch.no_grad():
        state = on_card(model, values)
        for loader in (fake_batches(), fake_batches(order=0, augment="flip_shift")):
            X, y = next(iter(loader))
            logits = torch.func.functional_call(model, state, (X,))
            loss = F.cross_entropy(logits, y, label_smoothing=0.1)
            metric = Accuracy()
            metric.update(logits, y)
            assert {t.device for t in (X, y, logits, loss, metric.correct())} == {CUDA}
            assert logits.shape == (4, 10)


@pytest.mark.parametrize("name", ["rmsprop", "adam", "adamw"])  # the fused kernel of SGD cannot be run without data
def test_no_cpu_tensor_slips_into_an_optimizers_step(name: str) -> None:
    settings = parse_section("optimizer", {"name": name, "lr": 0.1})
    assert isinstance(settings, OptimizerSettings)
    with FakeTensorMode(), torch.no_grad():
        weight = torch.empty(3, 3, device=CUDA)
        weight.grad = torch.empty(3, 3, device=CUDA)
        optimizer = build_optimizer(settings, [weight])  # type: ignore[list-item]  # a parameter would need autograd
        for _ in range(2):
            assert nn.utils.clip_grad_norm_([weight], 1.0).device == CUDA
            optimizer.step()
        held = [value for value in optimizer.state[weight].values() if isinstance(value, Tensor)]
        assert all(value.device == CUDA for value in held if value.ndim)


def test_the_proof_can_fail() -> None:
    class Slips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.scale = torch.ones(4)  # no buffer, so it stays behind

        def forward(self, X: Tensor) -> Tensor:
            return self.fc(X) * self.scale

    model = Slips()
    values = model.state_dict()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        state, X = on_card(model, values), torch.zeros(2, 4, device=CUDA)
        with pytest.raises(RuntimeError, match="same device"):
            torch.func.functional_call(model, state, (X,))
        with pytest.raises(RuntimeError, match="same device"):
            F.cross_entropy(X, torch.zeros(2, dtype=torch.long))


# --- with a card ----------------------------------------------------------------------------------------------------

Make = Callable[..., Settings]


@needs_card
@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_trial_on_a_card(make_settings: Make, precision: str, tmp_path: Path) -> None:
    settings = make_settings(
        {"model.name": "resnet10", "model.width": 8, "data.size": 32, "train.precision": precision}
    )
    result = run_trial(settings, device="cuda", checkpoint_dir=tmp_path)
    assert result.status == "ok"
    assert result.environment.device_name == torch.cuda.get_device_name()
    assert result.measures["peak_memory_bytes"] > 4 * result.measures["parameters"]
    assert all(math.isfinite(point.scores["dev_loss"]) for point in result.curve)
    on_cpu = run_trial(make_settings({**settings.flat(), "train.precision": "float32"}), device="cpu")
    assert result.curve[0].scores["dev_loss"] == pytest.approx(on_cpu.curve[0].scores["dev_loss"], rel=0.02), (
        "the same initial values"
    )


@needs_card
@pytest.mark.gpu
def test_weights_lie_channels_last_on_a_card() -> None:
    model = network(RESNET)
    runner = Runner(model, torch.optim.SGD(model.parameters(), lr=0.1), F.cross_entropy, Accuracy(), "cuda")
    weight = runner.model.get_parameter("layer1.0.conv1.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert weight.device.type == "cuda"


@needs_card
@pytest.mark.gpu
def test_what_a_loader_streams_goes_through_pinned_memory_without_waiting() -> None:
    from torch.utils.data import DataLoader, TensorDataset

    model = network({"name": "lenet"})
    runner = Runner(model, torch.optim.SGD(model.parameters(), lr=0.01), F.cross_entropy, Accuracy(), "cuda")
    loader = DataLoader(TensorDataset(torch.randn(64, 1, 32, 32), torch.arange(64) % 10), batch_size=16)
    X, y = next(iter(loader))
    runner.step(X, y)  # whatever is set up once
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        runner.step(X, y)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    curve = runner.train(loader, loader, 2)
    assert len(curve) == 3
    assert runner.predict(X).device.type == "cuda"


@needs_card
@pytest.mark.gpu
def test_an_epoch_of_batches_does_not_wait_for_a_card() -> None:
    images = Images(torch.zeros(64, 1, 8, 8, dtype=torch.uint8).cuda(), torch.zeros(64, dtype=torch.long).cuda())
    moments = torch.zeros(1, 1, 1).cuda(), torch.ones(1, 1, 1).cuda()
    loader = Batches(
        images, Splits(images, images, images, 10, *moments), batch_size=8, size=32, order=0, augment="shift"
    )
    iterator = iter(loader)
    next(iterator)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert len(list(iterator)) == 7
    finally:
        torch.cuda.set_sync_debug_mode("default")
