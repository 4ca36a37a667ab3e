"""Counts of a model, against arithmetic by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lab.measure import count_parameters, forward_macs
from lab.networks import build_model
from lab.settings import ModelSettings, parse_section


def network(in_channels: int = 1, size: int = 32, **settings: object) -> nn.Module:
    parsed = parse_section("model", settings)
    assert isinstance(parsed, ModelSettings)
    return build_model(parsed, in_channels=in_channels, num_classes=10, size=size)


def test_macs_of_lenet() -> None:
    convolutions = 28 * 28 * 6 * (25 * 1) + 10 * 10 * 16 * (25 * 6) + 1 * 1 * 120 * (25 * 16)
    linear = 120 * 84 + 84 * 10
    assert forward_macs(network(name="lenet"), 1, 32) == convolutions + linear == 416_520


def test_macs_of_lenet_with_three_channels_grow_in_the_first_convolution_alone() -> None:
    assert forward_macs(network(3, name="lenet"), 3, 32) - 416_520 == 28 * 28 * 6 * 25 * 2


def test_macs_of_an_mlp_are_its_weights() -> None:
    mlp = network(size=8, name="mlp", hidden=[20, 30])
    assert forward_macs(mlp, 1, 8) == 64 * 20 + 20 * 30 + 30 * 10


def test_macs_of_a_resnet_block_by_block() -> None:
    w = 4  # 32 x 32 pixels: 16 after the stem, 8 after its pool, then 8, 4, 2, 1 in the stages
    stem = 16 * 16 * w * 49
    first = 2 * (8 * 8 * w * 9 * w)
    later = sum(
        side**2 * c * (9 * c // 2) + side**2 * c * 9 * c + side**2 * c * (c // 2)  # two 3x3, and the 1x1 shortcut
        for side, c in [(4, 2 * w), (2, 4 * w)]
    )
    c = 8 * w  # in the last stage, of one pixel, what meets padding alone is left out: 4 of 9 taps play a part, then 1
    last = c * (4 * c // 2) + c * c + c * (c // 2)
    assert forward_macs(network(name="resnet10", width=w), 1, 32) == stem + first + later + last + 8 * w * 10


def test_parameters_are_those_that_training_can_change() -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    assert count_parameters(model) == 5 * 3 + 3 + 2 * 3
    model[0].weight.requires_grad_(False)
    assert count_parameters(model) == 3 + 2 * 3


@pytest.mark.parametrize("training", [True, False])
def test_counting_leaves_the_model_as_it_was(training: bool) -> None:
    model = network(name="resnet10", width=4).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    forward_macs(model, 1, 32)
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
    assert forward_macs(model, 1, 4) == 32
    assert not compiled
    model(torch.zeros(3, 1, 4, 4))
    assert compiled
