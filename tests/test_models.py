"""The networks: what they compute, how many parameters they have, and what each switch takes away."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab import settings
from lab.measure import count_parameters
from lab.models import BasicBlock, Conv2d, LeNet, Mlp, ResNet
from lab.networks import MODELS, build_model
from lab.streams import build
from lab.vision import import_torchvision

HARNESS = set(settings.ModelSettings.model_fields)  # what every model takes, and no constructor sees
RESNETS = ["resnet10", "resnet18", "resnet34"]
SMALL: dict[str, dict[str, Any]] = {"mlp": {"hidden": [12, 12]}, **{name: {"width": 4} for name in RESNETS}}
VARIANTS: list[dict[str, Any]] = [
    *(
        {"name": name, **small, "residual": residual, "batch_norm": batch_norm}
        for name, small in SMALL.items()
        for residual in (True, False)
        for batch_norm in (True, False)
    ),
    {"name": "lenet"},
    {"name": "lenet", "batch_norm": True},
    {"name": "mlp", "dropout": 0.5},
    {"name": "resnet10", "width": 4, "stem": "cifar"},
]


def make(raw: dict[str, Any], in_channels: int = 1, num_classes: int = 10, size: int = 32) -> nn.Module:
    checked = settings.parse_section("model", raw)
    assert isinstance(checked, settings.ModelSettings)
    return build_model(checked, in_channels=in_channels, num_classes=num_classes, size=size)


def kinds(network: nn.Module) -> set[type[nn.Module]]:
    return {type(module) for module in network.modules()}


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [Mlp, LeNet, ResNet])
def test_a_default_stands_once_in_the_signature_that_the_settings_are_read_off(network: type[nn.Module]) -> None:
    assert all(p.default is p.empty for p in inspect.signature(network).parameters.values())


@pytest.mark.parametrize("name", MODELS)
def test_a_networks_settings_are_its_keywords_each_with_a_description(name: str) -> None:
    keywords = [p.name for p in inspect.signature(MODELS[name]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    fields = settings.PARTS["model"][name].model_fields
    assert [field for field in fields if field not in HARNESS] == keywords
    assert all(field.description for field in fields.values())


# --- parameters, counted by hand ------------------------------------------------------------------------------------

# LeNet, 1 channel: 25*6 + 6 = 156, 150*16 + 16 = 2,416, 400*120 + 120 = 48,120, 120*84 + 84 = 10,164, 84*10 + 10 = 850.
# With 3 channels the first is 75*6 + 6 = 456. With BatchNorm each of the 6 + 16 + 120 biases gives way to two numbers.
# mlp on 28 x 28: 784*256 + 256 = 200,960, 256*128 + 128 = 32,896, 128*10 + 10 = 1,290; BatchNorm as above.
#
# ResNet of width 64 with BatchNorm:
#   stem, 1 channel: 49*64 + 64 (bias) + 128 (BN) = 3,328; with 3 channels 147*64 + 192 = 9,600; cifar 9*64 + 192 = 768
#   head: 512*10 + 10 = 5,130
#   stage   first block                            projection            each further block
#   64      2*9*64*64 + 256             = 73,984    none                  73,984
#   128     9*64*128 + 9*128*128 + 512  = 221,696   8,192 + 256 = 8,448   2*147,456 + 512 = 295,424
#   256     294,912 + 589,824 + 1,024   = 885,760   32,768 + 512 = 33,280 2*589,824 + 1,024 = 1,180,672
#   512     1,179,648 + 2,359,296 + 2,048 = 3,540,992   131,072 + 1,024 = 132,096   2*2,359,296 + 2,048 = 4,720,640
# resnet10: 3,328 + 73,984 + 230,144 + 919,040 + 3,673,088 + 5,130 = 4,904,714
# resnet18: resnet10 + 73,984 + 295,424 + 1,180,672 + 4,720,640 (= 6,270,720) = 11,175,434
# resnet34: resnet10 + 2*73,984 + 3*295,424 + 5*1,180,672 + 2*4,720,640 (= 16,378,880) = 21,283,594
# plain18: resnet18 - (8,448 + 33,280 + 132,096 = 173,824) = 11,001,610
# no BatchNorm: the stem loses 128, every other convolution one number a channel: 4*64 + 5*128 + 5*256 + 5*512 = 4,736
#   resnet18 - 4,864 = 11,170,570; the plain one has no projections: 11,001,610 - 128 - 4*(64+128+256+512) = 10,997,642
COUNTS: list[tuple[dict[str, Any], int, int, int]] = [
    ({"name": "mlp"}, 1, 28, 235_146),
    ({"name": "mlp", "batch_norm": True}, 1, 28, 235_530),
    ({"name": "mlp", "hidden": []}, 1, 28, 7_850),
    ({"name": "lenet"}, 1, 32, 61_706),
    ({"name": "lenet"}, 3, 32, 62_006),
    ({"name": "lenet", "batch_norm": True}, 1, 32, 61_848),
    ({"name": "resnet10"}, 1, 224, 4_904_714),
    ({"name": "resnet18"}, 1, 224, 11_175_434),
    ({"name": "resnet18"}, 3, 224, 11_181_706),
    ({"name": "resnet18", "stem": "cifar"}, 1, 32, 11_172_874),
    ({"name": "resnet18", "residual": False}, 1, 224, 11_001_610),
    ({"name": "resnet18", "batch_norm": False}, 1, 224, 11_170_570),
    ({"name": "resnet18", "residual": False, "batch_norm": False}, 1, 224, 10_997_642),
    ({"name": "resnet34"}, 1, 224, 21_283_594),
]


@pytest.mark.parametrize(("raw", "in_channels", "size", "count"), COUNTS)
def test_number_of_parameters(raw: dict[str, Any], in_channels: int, size: int, count: int) -> None:
    assert count_parameters(make(raw, in_channels, 10, size)) == count


# --- what they compute ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_resnet_computes_what_torchvisions_does_with_the_same_weights(name: str) -> None:
    torch.manual_seed(0)
    theirs = getattr(import_torchvision().models, name)(num_classes=10).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.1)
            nn.init.normal_(module.bias, 0, 0.1)
            module.get_buffer("running_mean").normal_(0, 0.1)
            module.get_buffer("running_var").uniform_(0.8, 1.2)
    ours = make({"name": name}, in_channels=3).eval()
    ours.load_state_dict(theirs.state_dict() | {"conv1.bias": torch.zeros(64)})
    X = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(X), theirs(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "height", "width"),
    [
        (5, 1, 0, 5, 5),  # LeNet's third
        (3, 1, 1, 1, 1),  # a ResNet's last at 32 x 32, and the first of its last stage
        (3, 2, 1, 2, 2),
        (1, 2, 0, 2, 2),  # a shortcut that sees one of four pixels, and one of many
        (1, 2, 0, 56, 56),
        (3, 2, 1, 1, 2),
        (3, 2, 0, 4, 3),  # a row that no tap meets
        (7, 2, 3, 2, 1),
        (3, 1, 1, 4, 1),  # not one pixel: torch's own way, in both memory formats
        (3, 1, 1, 4, 4),
    ],
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_gives_what_torchs_gives(
    kernel: int, stride: int, padding: int, height: int, width: int, memory_format: torch.memory_format, bias: bool
) -> None:
    torch.manual_seed(0)
    ours = Conv2d(3, 4, kernel, stride, padding, bias=bias)
    theirs = nn.Conv2d(3, 4, kernel, stride, padding, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    X = torch.randn(2, 3, height, width)
    found = []
    for layer, layout in ((ours, memory_format), (theirs, torch.contiguous_format)):
        image = X.clone(memory_format=layout).requires_grad_()
        out = layer(image)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        found.append([out, image.grad, *(parameter.grad for parameter in layer.parameters())])
    for mine, its in zip(*found, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-4)


def test_lenet_pools_by_maximum_then_by_mean() -> None:
    torch.manual_seed(0)
    network = make({"name": "lenet"})
    w = dict(network.named_parameters())
    X = torch.randn(3, 1, 32, 32)
    out = F.conv2d(X, w["conv1.weight"], w["conv1.bias"]).clamp(min=0)
    out = out.unfold(2, 2, 2).unfold(3, 2, 2).amax((-2, -1))
    out = F.conv2d(out, w["conv2.weight"], w["conv2.bias"]).clamp(min=0)
    out = out.unfold(2, 2, 2).unfold(3, 2, 2).mean((-2, -1))
    out = (out.flatten(1) @ w["conv3.weight"].flatten(1).T + w["conv3.bias"]).clamp(min=0)  # 5 x 5 on 5 x 5: a product
    out = (out @ w["fc1.weight"].T + w["fc1.bias"]).clamp(min=0) @ w["fc2.weight"].T + w["fc2.bias"]
    torch.testing.assert_close(network(X), out)


def test_lenet_refuses_images_that_are_not_32_by_32() -> None:
    with pytest.raises(ValueError, match=r"lenet: .* data\.size must be 32, got 28"):
        make({"name": "lenet"}, size=28)


def test_mlp_adds_a_hidden_layers_input_only_where_two_hidden_widths_match() -> None:
    torch.manual_seed(0)
    network = make({"name": "mlp", "hidden": [16, 16, 8], "residual": True}, size=4)  # the image has 16 pixels too
    w = {name: parameter.T for name, parameter in network.named_parameters() if name.endswith("weight")}
    X = torch.randn(5, 1, 4, 4)
    first = (X.reshape(5, 16) @ w["hidden.0.linear.weight"]).clamp(min=0)
    second = first + (first @ w["hidden.1.linear.weight"]).clamp(min=0)
    third = (second @ w["hidden.2.linear.weight"]).clamp(min=0)
    torch.testing.assert_close(network(X), third @ w["fc.weight"])


def test_mlp_drops_hidden_activations_in_training_only() -> None:
    torch.manual_seed(0)
    network = make({"name": "mlp", "dropout": 0.5})
    X = torch.randn(2, 1, 32, 32)
    assert not torch.equal(network(X), network(X))
    assert torch.equal(network.eval()(X), network(X))


@pytest.mark.parametrize(("stem", "side"), [("imagenet", 16), ("cifar", 64)])
def test_the_imagenet_stem_quarters_the_side_and_the_cifar_stem_keeps_it(stem: str, side: int) -> None:
    network = make({"name": "resnet10", "width": 4, "stem": stem})
    seen: list[Tensor] = []
    network.get_submodule("layer1").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.randn(2, 1, 64, 64))
    assert seen[0].shape == (2, 4, side, side)


@pytest.mark.parametrize("raw", VARIANTS, ids=str)
def test_every_arm_maps_images_to_logits_and_trains_every_parameter(raw: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = make(raw, in_channels=3, num_classes=7)
    X = torch.randn(4, 3, 32, 32)
    before = X.clone()
    logits = network(X)
    assert logits.shape == (4, 7)
    assert logits.dtype == torch.float32
    assert torch.equal(X, before)
    F.cross_entropy(logits, torch.arange(4)).backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []


# --- switches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RESNETS)
def test_the_plain_network_has_no_shortcut_and_no_projection(name: str) -> None:
    plain = make({"name": name, "width": 4, "residual": False})
    assert not any("downsample" in parameter for parameter, _ in plain.named_parameters())
    assert not any(isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) for m in plain.modules())


@pytest.mark.parametrize("residual", [True, False])
def test_a_block_whose_convolutions_give_zero_passes_its_input_on_only_by_a_shortcut(residual: bool) -> None:
    block = BasicBlock(4, 4, 1, residual=residual, batch_norm=False)
    nn.init.zeros_(block.conv2.weight)
    assert block.conv2.bias is not None
    nn.init.zeros_(block.conv2.bias)
    X = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(block(X), X.clamp(min=0) if residual else torch.zeros_like(X))


@pytest.mark.parametrize("name", MODELS)
def test_layers_have_a_bias_where_no_batch_norm_follows(name: str) -> None:
    normed = make({"name": name, "batch_norm": True})
    bare = make({"name": name, "batch_norm": False})
    assert not kinds(bare) & {nn.BatchNorm1d, nn.BatchNorm2d}
    assert kinds(normed) & {nn.BatchNorm1d, nn.BatchNorm2d}
    assert all(m.bias is not None for m in bare.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    weights = {key for key, m in normed.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and m.bias is not None}
    outputs = {"mlp": {"fc"}, "lenet": {"fc1", "fc2"}}
    assert weights == outputs.get(name, {"conv1", "fc"})  # a residual network's stem keeps its bias


@pytest.mark.parametrize(
    ("name", "switch"), [("lenet", "batch_norm"), *((name, s) for name in SMALL for s in ("residual", "batch_norm"))]
)
def test_a_switch_renames_no_weight_and_moves_no_initial_value(name: str, switch: str) -> None:
    raw = {"name": name, **SMALL.get(name, {})}
    on, off = (dict(build(partial(make, {**raw, switch: value}), seed=3).named_parameters()) for value in (True, False))
    either, both = on.keys() | off.keys(), on.keys() & off.keys()
    stays = {key for key in either if key.endswith("weight") and "bn" not in key and "downsample" not in key}
    assert len(stays) >= 3
    assert stays <= both
    assert all(torch.equal(on[key], off[key]) for key in both)


# --- initial values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", VARIANTS, ids=str)
def test_every_arm_starts_by_the_same_rule(raw: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = make({**raw, "width": 32} if "width" in raw else raw)
    for key, module in network.named_modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight)), key
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.detach()
            fan = weight[:, 0].numel() if isinstance(module, nn.Conv2d) else weight.shape[1]
            scaled = weight * (fan / 2) ** 0.5  # He et al.: standard normal
            tolerance = 5 / scaled.numel() ** 0.5  # five standard errors of a mean, seven of a deviation
            assert abs(scaled.mean()) < tolerance, key
            assert abs(scaled.std() - 1) < tolerance, key
        if getattr(module, "bias", None) is not None:
            assert not module.get_parameter("bias").any(), key


# --- import paths ---------------------------------------------------------------------------------------------------


class Flat(nn.Module):
    """A user's network that asks for two of the three counts, and has one setting."""

    def __init__(self, in_channels: int, num_classes: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.fc = nn.Linear(in_channels, num_classes)
        self.scale = scale


def no_network(num_classes: int) -> int:
    return num_classes


def test_an_import_path_gets_its_settings_and_the_counts_its_signature_names() -> None:
    network = make({"name": f"{__name__}:Flat", "scale": 2.0}, in_channels=3, num_classes=7)
    assert isinstance(network, nn.Module)
    assert (network.scale, network.get_parameter("fc.weight").shape) == (2.0, (7, 3))


def test_torchvisions_networks_are_reached_by_import_path() -> None:
    network = make({"name": "torchvision.models:squeezenet1_1"}, in_channels=3, num_classes=7)
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_an_import_path_must_give_a_network() -> None:
    with pytest.raises(ValueError, match=r"no_network'?: must return a torch\.nn\.Module, returned 10"):
        make({"name": f"{__name__}:no_network"})
