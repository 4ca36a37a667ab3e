"""Random streams: variants that share a seed share their initial values, whatever else differs between them."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lab.networks import build_model
from lab.settings import ModelSettings, parse_section
from lab.streams import build, derive, generator


def network(seed: int = 0, **settings: Any) -> nn.Module:
    parsed = parse_section("model", settings)
    assert isinstance(parsed, ModelSettings)
    return build(functools.partial(build_model, parsed, in_channels=1, num_classes=10, size=32), seed)


def shared(one: nn.Module, other: nn.Module) -> list[tuple[str, Tensor, Tensor]]:
    """The parameters that two networks have under the same name and in the same shape."""
    theirs = dict(other.named_parameters())
    return [
        (name, mine, theirs[name])
        for name, mine in one.named_parameters()
        if name in theirs and theirs[name].shape == mine.shape
    ]


# --- streams --------------------------------------------------------------------------------------------------------


def test_a_stream_is_derived_from_seed_and_name_by_sha256() -> None:
    digest = hashlib.sha256(b"7/order/3").digest()
    assert derive(7, "order", 3) == int.from_bytes(digest[:8], "big") // 2


def test_streams_differ_by_seed_and_by_name_and_repeat_themselves() -> None:
    def draw(*stream: Any) -> list[float]:
        return torch.rand(4, generator=generator(*stream)).tolist()

    assert draw(0, "order", 1) == draw(0, "order", 1)
    streams = [(0, "order", 0), (0, "order", 1), (1, "order", 0), (0, "augment", 0), (0, "init", "order", 0)]
    assert len({tuple(draw(*stream)) for stream in streams}) == len(streams)


# --- variants -------------------------------------------------------------------------------------------------------

RESNET: dict[str, Any] = {"name": "resnet18", "width": 4}


@pytest.mark.parametrize(
    ("one", "other", "only_in_one"),
    [
        (RESNET, RESNET | {"residual": False}, {"downsample"}),
        (RESNET | {"batch_norm": False}, RESNET | {"residual": False, "batch_norm": False}, {"downsample"}),
        (RESNET, RESNET | {"batch_norm": False}, {"bn1", "bn2"}),
        ({"name": "resnet34", "width": 4}, RESNET, {"layer1", "layer2", "layer3", "layer4"}),
        ({"name": "lenet", "batch_norm": True}, {"name": "lenet"}, {"bn1", "bn2", "bn3"}),
        ({"name": "mlp", "hidden": [8, 8], "residual": True}, {"name": "mlp", "hidden": [8, 8]}, set()),
        ({"name": "mlp", "hidden": [8, 8], "dropout": 0.5}, {"name": "mlp", "hidden": [8, 8]}, set()),
    ],
)
def test_arms_start_from_the_same_values_where_they_share_a_parameter(
    one: dict[str, Any], other: dict[str, Any], only_in_one: set[str]
) -> None:
    mine, theirs = network(**one), network(**other)
    pairs = shared(mine, theirs)
    assert all(torch.equal(a, b) for _, a, b in pairs)
    left = {name for name, _ in mine.named_parameters()} - {name for name, _, _ in pairs}
    assert all(only_in_one & set(name.split(".")) for name in left if "downsample" not in name)
    weights = {name for name, value in mine.named_parameters() if value.ndim > 1}
    assert {name for name, _, _ in pairs} & weights >= {name for name in weights if name.startswith(("fc", "conv"))}


def test_the_same_seed_gives_the_same_network_whatever_was_drawn_before() -> None:
    first = network(**RESNET)
    torch.rand(17)
    again = network(**RESNET)
    assert all(torch.equal(a, b) for _, a, b in shared(first, again))


def test_another_seed_gives_another_network() -> None:
    weights = [(a, b) for _, a, b in shared(network(0, **RESNET), network(1, **RESNET)) if a.ndim > 1]
    assert weights
    assert not any(torch.equal(a, b) for a, b in weights)


def test_parameters_of_one_shape_have_values_of_their_own() -> None:
    weights = [value for value in network(**RESNET).state_dict().values() if value.shape == (4, 4, 3, 3)]
    assert len(weights) == 4
    assert len({float(weight.sum()) for weight in weights}) == 4


def test_building_leaves_the_global_stream_where_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    network(**RESNET)
    assert torch.equal(torch.rand(3), expected)


# --- the network's own rule of initial values -----------------------------------------------------------------------


def test_he_et_als_variances_hold() -> None:
    convolution = network(name="resnet10", width=64).state_dict()["layer4.0.conv2.weight"]
    assert float(convolution.std()) == pytest.approx(math.sqrt(2 / (512 * 9)), rel=0.01)  # 2 / fan_out
    assert float(convolution.mean()) == pytest.approx(0, abs=1e-4)
    linear = network(name="mlp", hidden=[512]).state_dict()["hidden.0.linear.weight"]
    assert float(linear.std()) == pytest.approx(math.sqrt(2 / 1024), rel=0.01)  # 2 / fan_in


def test_constants_stay_constants() -> None:
    values = dict(network(name="resnet10", width=4).named_parameters())
    assert torch.equal(values["layer1.0.bn1.weight"], torch.ones(4))
    assert torch.equal(values["layer1.0.bn1.bias"], torch.zeros(4))
    assert torch.equal(values["fc.bias"], torch.zeros(10))


class Wrapped(nn.Module):
    """The layer under test, beside another one that comes first where ``beside`` says so."""

    def __init__(self, layer: Callable[[], nn.Module], *, beside: bool = False) -> None:
        super().__init__()
        if beside:
            self.first = nn.Linear(7, 3)
        self.layer = layer()


def twice(layer: Callable[[], nn.Module]) -> tuple[nn.Module, nn.Module]:
    """The layer alone, and after a layer that draws before it."""
    made = [build(functools.partial(Wrapped, layer, beside=beside), 0) for beside in (False, True)]
    alone, after = (one.get_submodule("layer") for one in made)
    return alone, after


def embedding() -> nn.Module:
    return nn.Embedding(50, 20, padding_idx=3)


def truncated() -> nn.Module:
    layer = nn.Linear(100, 100)
    nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.03, b=0.03)
    return layer


def scaled() -> nn.Module:
    layer = nn.Linear(100, 100)
    with torch.no_grad():
        layer.weight.normal_().mul_(0.01)
    return layer


class Made(nn.Module):
    """A parameter made at random, not filled."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(40, 40))
        self.gate = nn.Parameter(torch.rand(40, 40))


@pytest.mark.parametrize("layer", [functools.partial(nn.Linear, 30, 20), embedding, scaled, Made])
def test_a_users_layer_starts_from_the_same_values_beside_another(layer: Callable[[], nn.Module]) -> None:
    alone, after = twice(layer)
    pairs = shared(alone, after)
    assert pairs
    for name, a, b in pairs:
        assert torch.equal(a, b), name
        assert len(a.unique()) > 1, name


def values(layer: Callable[[], nn.Module], name: str = "weight", seed: int = 0) -> Tensor:
    return build(layer, seed).get_parameter(name).detach()


def test_torchs_own_rule_of_a_linear_layer_holds() -> None:
    bound = 1 / math.sqrt(400)  # torch's documentation of nn.Linear: uniform up to 1 / sqrt(in_features)
    for name in ("weight", "bias"):
        drawn = values(functools.partial(nn.Linear, 400, 300), name)
        assert 0.98 * bound < float(drawn.abs().max()) <= bound
        assert float(drawn.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_the_padding_row_of_an_embedding_stays_zero() -> None:
    drawn = values(embedding)
    assert torch.equal(drawn[3], torch.zeros(20))
    assert float(drawn[4:].std()) == pytest.approx(1, rel=0.05)


def test_every_step_of_a_rule_is_kept() -> None:
    assert float(values(scaled).std()) == pytest.approx(0.01, rel=0.02)


def test_a_truncated_normal_is_one() -> None:
    drawn = values(truncated)
    assert float(drawn.abs().max()) <= 0.03
    # of a standard normal cut off at 1.5: sqrt(1 - 2 * 1.5 * phi(1.5) / (2 * Phi(1.5) - 1)) = 0.7426
    assert float(drawn.std()) == pytest.approx(0.02 * 0.7426, rel=0.02)


def test_a_parameter_made_at_random_has_the_distribution_it_was_made_with() -> None:
    token, gate = values(Made, "token"), values(Made, "gate")
    assert float(token.std()) == pytest.approx(1, rel=0.05)
    assert float(token.min()) < -2
    assert 0 <= float(gate.min()) < 0.01 < 0.99 < float(gate.max()) < 1
    assert float(gate.mean()) == pytest.approx(0.5, rel=0.05)


def test_values_computed_out_of_place_follow_the_seed() -> None:
    def orthogonal() -> nn.Module:
        layer = nn.Linear(20, 20, bias=False)
        nn.init.orthogonal_(layer.weight)
        return layer

    first, again, other = (values(orthogonal, seed=seed) for seed in (0, 0, 1))
    torch.testing.assert_close(first @ first.T, torch.eye(20), atol=1e-5, rtol=0)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_weights_that_were_loaded_stay_as_loaded() -> None:
    trained = nn.Linear(6, 4)

    def pretrained() -> nn.Module:
        layer = nn.Linear(6, 4)
        layer.load_state_dict(trained.state_dict())
        return layer

    assert torch.equal(values(pretrained), trained.weight)


def test_weights_that_are_tied_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode, self.decode = nn.Linear(5, 5), nn.Linear(5, 5)
            self.decode.weight = self.encode.weight

    tied = build(Tied, 0)
    assert tied.get_parameter("decode.weight") is tied.get_parameter("encode.weight")


def test_a_write_to_another_tensor_is_not_repeated_as_one_to_the_first_argument() -> None:
    class WritesOut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(30))
            self.register_buffer("table", torch.empty(30))
            torch.mul(self.weight.detach(), 3, out=self.get_buffer("table"))
            self.get_buffer("table").zero_()

    assert torch.equal(build(WritesOut, 0).get_buffer("table"), torch.zeros(30))


def test_a_parameter_does_not_inherit_what_was_written_where_it_lies_now() -> None:
    class Reuses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for i in range(20):
                torch.empty(1000).normal_()  # freed at once: the next of its size gets its place
                self.register_parameter(f"zero{i}", nn.Parameter(torch.zeros(1000)))

    assert all(torch.equal(value, torch.zeros(1000)) for value in build(Reuses, 0).parameters())
