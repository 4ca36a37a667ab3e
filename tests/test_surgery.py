"""Modules of a network that was not written for ablation: taken out by path, replaced by class."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lab import settings
from lab.networks import build_model
from lab.surgery import remove_modules, replace_modules


def small() -> nn.Module:
    """Two convolutions with BatchNorm; one ReLU that both use."""
    act = nn.ReLU()
    first = nn.Sequential(nn.Conv2d(1, 12, 3, bias=False), nn.BatchNorm2d(12, eps=1e-3), act)
    second = nn.Sequential(nn.Conv2d(12, 48, 3, stride=2), nn.BatchNorm2d(48), act)
    return nn.Sequential(first, second)


def make(raw: dict[str, Any], in_channels: int = 3) -> nn.Module:
    checked = settings.parse_section("model", raw)
    assert isinstance(checked, settings.ModelSettings)
    return build_model(checked, in_channels=in_channels, num_classes=10, size=32)


def of(network: nn.Module, kind: type[nn.Module]) -> dict[str, Any]:
    return {path: module for path, module in network.named_modules() if isinstance(module, kind)}


# --- replace --------------------------------------------------------------------------------------------------------


def test_identity_takes_the_place_of_every_module_of_a_class() -> None:
    network = small()
    replace_modules(network, {"BatchNorm2d": "Identity"})
    assert list(of(network, nn.Identity)) == ["0.1", "1.1"]
    assert not of(network, nn.BatchNorm2d)


def test_group_norm_gets_the_channels_and_the_most_groups_up_to_32_that_divide_them() -> None:
    network = small()
    replace_modules(network, {"BatchNorm2d": "GroupNorm"})
    found = {path: (norm.num_groups, norm.num_channels, norm.eps) for path, norm in of(network, nn.GroupNorm).items()}
    assert found == {"0.1": (12, 12, 1e-3), "1.1": (24, 48, 1e-5)}


def test_arguments_stand_after_the_class() -> None:
    network = small()
    replace_modules(network, {"BatchNorm2d": "GroupNorm(4)", "ReLU": "LeakyReLU(0.2, true)"})
    assert {norm.num_groups for norm in of(network, nn.GroupNorm).values()} == {4}
    assert {(act.negative_slope, act.inplace) for act in of(network, nn.LeakyReLU).values()} == {(0.2, True)}


def test_what_is_shared_stays_shared() -> None:
    network = small()
    replace_modules(network, {"ReLU": "GELU"})
    assert network.get_submodule("0.2") is network.get_submodule("1.2")
    assert isinstance(network.get_submodule("1.2"), nn.GELU)


def test_two_classes_can_change_places() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Tanh())
    replace_modules(network, {"ReLU": "Tanh", "Tanh": "ReLU"})
    assert [type(module) for module in network] == [nn.Tanh, nn.ReLU]


class Scaled(nn.Module):
    """A user's own stand-in for a convolution."""

    def __init__(self, out_channels: int, stride: tuple[int, int], bias: bool, scale: float = 2.0) -> None:
        super().__init__()
        self.seen = (out_channels, stride, bias, scale)


def test_an_import_path_gets_the_attributes_that_its_signature_names() -> None:
    network = small()
    replace_modules(network, {"Conv2d": f"{__name__}:Scaled"})
    assert [module.seen for module in of(network, Scaled).values()] == [
        (12, (1, 1), False, 2.0),
        (48, (2, 2), True, 2.0),
    ]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("BatchNorm", "Identity", "no module of class 'BatchNorm'; did you mean BatchNorm2d? There are BatchNorm2d, "),
        ("BatchNorm2d", "GroupNrm", "torch.nn has no module 'GroupNrm'; did you mean GroupNorm? Or an import path"),
        ("BatchNorm2d", "LayerNorm", "LayerNorm can't take the place of BatchNorm2d: missing a required argument: "),
        ("BatchNorm2d", "GroupNorm(", "must be a class and its arguments such as GroupNorm(8), got 'GroupNorm('"),
        ("BatchNorm2d", "GroupNorm(x)", "must be a class and its arguments such as GroupNorm(8), got 'GroupNorm(x)'"),
        ("BatchNorm2d", "builtins:len", "builtins:len can't take the place of BatchNorm2d"),
        ("BatchNorm2d", "nowhere_at_all:Norm", "cannot import nowhere_at_all"),
    ],
)
def test_a_swap_that_cannot_be_made_says_why(old: str, new: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        replace_modules(small(), {old: new})


# --- remove ---------------------------------------------------------------------------------------------------------


def test_what_a_pattern_matches_gives_way_to_identity_and_what_is_in_it_goes_too() -> None:
    network = small()
    remove_modules(network, ["1*", "0.2"])
    assert isinstance(network.get_submodule("1"), nn.Identity)
    assert list(dict(network.named_parameters())) == ["0.0.weight", "0.1.weight", "0.1.bias"]
    assert isinstance(network.get_submodule("0.2"), nn.Identity)


def test_a_pattern_that_matches_nothing_names_the_nearest_path() -> None:
    says = "model.remove: no module 'layer3.*.downsampel'; did you mean layer3.1.downsample? There are conv1, "
    with pytest.raises(ValueError, match=re.escape(says)):
        make({"name": "resnet18", "width": 4, "remove": ["layer3.*.downsampel"]})


# --- whole networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "kind", "count"),
    [  # 17 convolutions and 3 projections, each with its BatchNorm; two of them in the second block of each stage
        ({"name": "torchvision.models:resnet18", "replace": {"BatchNorm2d": "Identity"}}, nn.Identity, 20),
        ({"name": "torchvision.models:resnet18", "replace": {"BatchNorm2d": "GroupNorm"}}, nn.GroupNorm, 20),
        ({"name": "resnet18", "width": 4, "replace": {"BatchNorm2d": "GroupNorm(2)"}}, nn.GroupNorm, 20),
        ({"name": "resnet18", "width": 4, "remove": ["layer?.1.bn*"]}, nn.Identity, 8),
    ],
)
def test_a_residual_network_without_its_batch_norm_takes_a_step(
    raw: dict[str, Any], kind: type[nn.Module], count: int
) -> None:
    torch.manual_seed(0)
    network = make(raw)
    assert len(of(network, nn.BatchNorm2d)) == 20 - count
    assert len([path for path in of(network, kind) if "bn" in path or "downsample.1" in path]) == count
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    before = network.get_parameter("conv1.weight").clone()
    F.cross_entropy(network(torch.randn(2, 3, 32, 32)), torch.tensor([0, 1])).backward()
    optimizer.step()
    assert not torch.equal(network.get_parameter("conv1.weight"), before)
    assert all(parameter.isfinite().all() for parameter in network.parameters())
