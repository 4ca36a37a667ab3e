"""Counts of a model, against arithmetic by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lab.measure import count_macs, count_parameters, counting_macs
from lab.networks import build_model
from lab.settings import ModelSettings, parse_section


def network(in_channels: int = 1, size: int = 32, **settings: object) -> nn.Module:
    return build_model(_settings(**settings), in_channels=in_channels, num_classes=10, size=size)


def _settings(**settings: object) -> ModelSettings:
    parsed = parse_section("model", settings)
    assert isinstance(parsed, ModelSettings)
    return parsed


def test_macs_of_lenet() -> None:
    convolutions = 28 * 28 * 6 * (25 * 1) + 10 * 10 * 16 * (25 * 6) + 1 * 1 * 120 * (25 * 16)
    linear = 120 * 84 + 84 * 10
    counted = count_macs(network(name="lenet"), 1, 32)
    assert counted.forward == counted.computed == convolutions + linear == 416_520


def test_macs_of_lenet_with_three_channels_grow_in_the_first_convolution_alone() -> None:
    assert count_macs(network(3, name="lenet"), 3, 32).forward - 416_520 == 28 * 28 * 6 * 25 * 2


def test_macs_of_an_mlp_are_its_weights() -> None:
    mlp = network(size=8, name="mlp", hidden=[20, 30])
    assert count_macs(mlp, 1, 8).forward == 64 * 20 + 20 * 30 + 30 * 10


def test_macs_of_a_resnet_block_by_block() -> None:
    w = 4  # 32 x 32 pixels: 16 after the stem, 8 after its pool, then 8, 4, 2, 1 in the stages
    stem = 16 * 16 * w * 49
    first = 2 * (8 * 8 * w * 9 * w)
    later = sum(
        side**2 * c * (9 * c // 2) + side**2 * c * 9 * c + side**2 * c * (c // 2)  # two 3x3, and the 1x1 shortcut
        for side, c in [(4, 2 * w), (2, 4 * w)]
    )
    c = 8 * w  # the last stage has one pixel: of the nine taps four meet the image, then one; the others meet padding
    last = c * (9 * c // 2) + 9 * c * c + c * (c // 2)
    met = c * (4 * c // 2) + c * c + c * (c // 2)
    counted = count_macs(network(name="resnet10", width=w), 1, 32)
    assert counted.forward == stem + first + later + last + 8 * w * 10
    assert counted.computed == stem + first + later + met + 8 * w * 10


def test_macs_of_resnet18_are_those_that_others_report() -> None:
    thousand = build_model(_settings(name="resnet18"), in_channels=3, num_classes=1000, size=224)
    assert count_macs(thousand, 3, 224).forward == 1_814_073_344  # torchvision and fvcore: 1.81 G
    assert count_macs(network(name="resnet18"), 1, 32).forward == 35_410_944


ATTENTION = 10 * 16 * 48 + 10 * 10 * 16 * 2 + 10 * 16 * 16  # queries, keys and values; scores and their sums; output


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(8, 6, 3, padding=1, groups=2), (8, 5, 5), 5 * 5 * 6 * 4 * 9),
        (nn.ConvTranspose2d(3, 4, 3, stride=2), (3, 8, 8), 8 * 8 * 3 * 4 * 9),
        (nn.Linear(16, 8), (10, 16), 10 * 16 * 8),
        (nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), (10, 16), ATTENTION + 2 * 10 * 16 * 32),
        (nn.LSTM(16, 8, batch_first=True), (10, 16), 10 * 4 * 8 * (16 + 8)),
        (nn.GRU(16, 8, batch_first=True), (10, 16), 10 * 3 * 8 * (16 + 8)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_macs_of_a_layer_for_each_image_by_hand(layer: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    with torch.no_grad(), counting_macs(layer.eval()) as counted:
        layer(torch.zeros(3, *shape))
    assert counted.per_image(3).forward == counted.per_image(3).computed == macs


def test_parameters_are_those_that_training_can_change() -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    assert count_parameters(model) == 5 * 3 + 3 + 2 * 3
    model[0].weight.requires_grad_(False)
    assert count_parameters(model) == 3 + 2 * 3


@pytest.mark.parametrize("training", [True, False])
def test_counting_leaves_the_model_as_it_was(training: bool) -> None:
    model = network(name="resnet10", width=4).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_macs(model, 1, 32)
    assert model.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_counting_does_not_keep_a_model_from_being_compiled() -> None:
    compiled: list[int] = []

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(16, 2)

        def forward(self, X: Tensor) -> Tensor:
            return self.fc(X.flatten(1))

    def backend(graph: torch.fx.GraphModule, example: list[Tensor]) -> torch.fx.GraphModule:
        compiled.append(1)
        return graph

    model = Net()
    model.compile(backend=backend)
    assert count_macs(model, 1, 4).forward == 32
    assert not compiled
    model(torch.zeros(3, 1, 4, 4))
    assert compiled


def test_macs_of_a_recurrent_layer_as_a_cuda_card_computes_it() -> None:
    """By the shapes alone: on torch's ``meta`` device, which computes nothing."""
    lstm = nn.LSTM(16, 8, num_layers=2, bidirectional=True, device="meta")
    X, state = torch.zeros(10, 3, 16, device="meta"), torch.zeros(4, 3, 8, device="meta")
    cudnn = (lstm._flat_weights, 4, None, state, state, 2, 8, 0, 2, False, 0.0, False, True, [], None)
    with torch.no_grad(), counting_macs(lstm) as counted:
        torch.ops.aten._cudnn_rnn(X, *cudnn)
    layer = 2 * 4 * 8 * (16 + 8)  # both directions; the second layer reads the 2 x 8 of the first
    assert counted.forward == 10 * 3 * 2 * layer
