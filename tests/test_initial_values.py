"""Initial values are the network's own: what holds between tensors of a network made plainly holds in a built one."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lab.streams import build, rehearse


def relations(network: nn.Module) -> set[tuple[str, ...]]:
    """What is so of each tensor, and of each pair of them, whatever the random numbers are."""
    tensors = {name: value.detach() for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    found = {("kind", name, str(value.dtype), str(tuple(value.shape))) for name, value in tensors.items()}
    for name, value in tensors.items():
        found |= {(fact, name) for fact in facts(value)}
    for (one, a), (other, b) in combinations(tensors.items(), 2):
        found |= {(fact, one, other) for fact in [*between(a, b), *between(b, a)]}
    found |= {("trained", name, str(value.requires_grad)) for name, value in network.named_parameters()}
    groups = [[id(value) for _, value in network.named_parameters(remove_duplicate=False)]]
    names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
    return found | {("tied", a, b) for (a, i), (b, j) in combinations(zip(names, groups[0], strict=True), 2) if i == j}


def facts(value: Tensor) -> list[str]:
    flat = value.flatten()
    if not flat.numel():
        return ["empty"]
    if bool((flat == flat[0]).all()):
        number = complex(flat[0].item())
        return [f"all {number}" if number * 4 == round(number.real * 4) else "all the same"]
    said = []
    if value.ndim == 2 and value.is_floating_point():
        rows, columns = value.shape
        if torch.equal(value, torch.eye(rows, columns, dtype=value.dtype)):
            said.append("identity")
        product = value @ value.T if rows <= columns else value.T @ value
        scale = product[0, 0]
        if torch.allclose(product, scale * torch.eye(len(product), dtype=value.dtype), atol=1e-4 * float(scale.abs())):
            said.append("orthogonal")
        said += [f"row {at} is zero" for at in range(rows) if not bool(value[at].any())]
    if value.numel() > 5 and not value.dtype.is_complex and bool((flat.sort().values == flat).all()):
        said.append("sorted")
    return said


def between(a: Tensor, b: Tensor) -> list[str]:
    """Equal, a multiple, the norms of the rows, the norm or the deviation of all, the first rows."""
    said = []
    if a.numel() > 1 and bool((a != a.flatten()[0]).any()) and a.shape == b.shape:
        wide, other = a.to(torch.complex128).flatten(), b.to(torch.complex128).flatten()
        factor = (wide.conj() @ other) / (wide.conj() @ wide)
        if float(factor.abs()) > 1e-6 and torch.allclose(other, factor * wide, rtol=1e-4, atol=1e-7):
            said.append(f"{complex(factor):.3g} times")
    if a.is_floating_point() and b.ndim > 1 and a.numel() == len(b):
        norms = b.double().flatten(1).norm(dim=1)
        if bool(norms.any()) and torch.allclose(a.double().flatten(), norms, rtol=1e-4):
            said.append("norms of the rows")
    if a.is_floating_point() and a.numel() == 1 and b.numel() > 1 and b.is_floating_point():
        for word, number in (("norm", b.norm()), ("deviation", b.std()), ("mean", b.mean())):
            if bool(number) and torch.allclose(a.double().flatten(), number.double().flatten(), rtol=1e-4):
                said.append(f"{word} of all")
    if a.ndim == b.ndim > 0 and 1 < len(a) < len(b) and a.shape[1:] == b.shape[1:] and torch.equal(a, b[: len(a)]):
        said.append("first rows")
    return said


class Net(nn.Module):
    """Layers by name, as a function makes them."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


def hold(**values: Tensor) -> nn.Module:
    return nn.ParameterDict({name: nn.Parameter(value) for name, value in values.items()})


# --- the zoo --------------------------------------------------------------------------------------------------------


def weight_norms() -> nn.Module:
    return Net(
        linear=parametrizations.weight_norm(nn.Linear(6, 5)),
        conv=parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
        first=parametrizations.weight_norm(nn.Linear(6, 5), dim=1),
    )


def old_weight_norm() -> nn.Module:
    layer = nn.Linear(7, 3)
    gain = nn.Parameter(layer.weight.detach().norm(dim=1, keepdim=True))
    return Net(layer=layer, gain=hold(g=gain))


def spectral() -> nn.Module:
    return Net(
        linear=parametrizations.spectral_norm(nn.Linear(6, 5)),
        conv=parametrizations.spectral_norm(nn.Conv2d(2, 3, 3), n_power_iterations=3),
        transposed=parametrizations.spectral_norm(nn.ConvTranspose2d(2, 3, 3)),
    )


def orthogonal() -> nn.Module:
    filled = nn.Linear(8, 6)
    nn.init.orthogonal_(filled.weight, gain=2.0)
    return Net(
        filled=filled,
        square=parametrizations.orthogonal(nn.Linear(5, 5)),
        cayley=parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map="cayley"),
        wide=parametrizations.orthogonal(nn.Linear(7, 4)),
    )


def copies() -> nn.Module:
    encoder = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Linear(4, 4))
    momentum = copy.deepcopy(encoder)
    for parameter in momentum.parameters():
        parameter.requires_grad_(False)
    loaded = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Linear(4, 4))
    loaded.load_state_dict(encoder.state_dict())
    return Net(momentum=momentum, loaded=loaded, encoder=encoder)


def averaged() -> nn.Module:
    network = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    return Net(
        mean=AveragedModel(network), ema=AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9)), own=network
    )


def tied() -> nn.Module:
    embedding, decoder, third = nn.Embedding(9, 4, padding_idx=2), nn.Linear(4, 9), nn.Linear(9, 4)
    decoder.weight = embedding.weight
    third.weight.data = decoder.weight.data.T.clone()
    layer = nn.Linear(3, 3)
    return Net(embedding=embedding, decoder=decoder, third=third, stack=nn.Sequential(layer, layer))


def attention() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return Net(
        stack=nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), one=nn.MultiheadAttention(8, 2, kdim=4)
    )


def recurrent() -> nn.Module:
    lstm = nn.LSTM(4, 5, num_layers=2, bidirectional=True)
    for name, parameter in lstm.named_parameters():
        if "hh" in name and parameter.ndim > 1:
            nn.init.orthogonal_(parameter)
        if "bias" in name:
            parameter.data[5:10].fill_(1.0)
    return Net(lstm=lstm, gru=nn.GRU(3, 4), cell=nn.LSTMCell(3, 2))


def lora() -> nn.Module:
    base = nn.Linear(6, 6)
    base.requires_grad_(False)
    down, up = nn.Linear(6, 2, bias=False), nn.Linear(2, 6, bias=False)
    nn.init.zeros_(up.weight)
    merged = base.weight.detach() + up.weight.detach() @ down.weight.detach()
    left, values, _ = torch.linalg.svd(base.weight.detach())
    return Net(base=base, down=down, up=up, more=hold(merged=merged, basis=left[:, :2].contiguous(), singular=values))


def double() -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), parametrizations.weight_norm(nn.Linear(5, 4))).double()
    return Net(net=net, made=nn.Linear(5, 3, dtype=torch.float64), short=nn.Linear(5, 3).half(), wide=nn.Linear(3, 3))


def complex_values() -> nn.Module:
    value = torch.randn(4, 3, dtype=torch.complex64)
    pair = torch.complex(torch.randn(3, 3), torch.zeros(3, 3))
    return hold(value=value, unit=value / value.abs(), twice=2j * value, real=value.real.clone(), pair=pair)


def by_hand() -> nn.Module:
    a, b, c, d, e = (nn.Linear(6, 6) for _ in range(5))
    a.weight.data = 0.02 * torch.randn(6, 6)
    b.weight.data.copy_(a.weight.data * 3)
    nn.init.eye_(c.weight)
    nn.init.trunc_normal_(d.weight, std=0.5)
    with torch.no_grad():
        torch.randn(6, 6, out=e.weight.data)
        a.bias.copy_(e.weight.norm(dim=1))
        torch.neg(a.bias, out=b.bias)
        c.bias.zero_().add_(1.5)
        d.bias.set_(torch.randn(6).sort().values)
    return Net(a=a, b=b, c=c, d=d, e=e)


def with_foreach() -> nn.Module:
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    weights = [a.weight.data, b.weight.data]
    torch._foreach_mul_(weights, 2.0)
    torch._foreach_copy_([b.weight.data], [a.weight.data])
    torch._foreach_zero_([a.bias.data, b.bias.data])
    return Net(a=a, b=b)


def with_numpy() -> nn.Module:
    a, b, c = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(4, 3)
    a.weight.detach().numpy()[:] = np.random.randn(3, 4)
    b.weight.data = torch.from_numpy(np.random.uniform(-1, 1, (3, 4))).float()
    c.weight.detach().numpy()[:] = 2 * a.weight.detach().numpy()
    c.bias.data.fill_(random.gauss(0, 1))
    return Net(a=a, b=b, c=c, deviation=hold(scale=torch.tensor(float(a.weight.detach().std()))))


def deviations() -> nn.Module:
    layer = nn.Linear(20, 10)
    values = layer.weight.detach()
    return Net(
        layer=layer,
        of=hold(std=values.std(), norm=values.norm(), mean=values.mean(), item=torch.tensor(values.std().item())),
    )


def seeded_copies() -> nn.Module:
    torch.manual_seed(3)
    one = nn.Linear(5, 4)
    torch.manual_seed(3)
    other = nn.Linear(5, 4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        third = nn.Linear(5, 4)
    return Net(one=one, other=other, third=third, last=nn.Linear(5, 4))


def own_generator() -> nn.Module:
    def drawn() -> Tensor:
        return torch.randn(4, 4, generator=torch.Generator().manual_seed(8))

    return Net(a=hold(value=drawn()), b=hold(value=drawn()), c=nn.Linear(2, 2))


def several_from_one_draw() -> nn.Module:
    q, k, v = torch.randn(3, 4, 4).unbind()
    order = torch.randperm(12)
    net = Net(parts=hold(q=q.clone(), k=k.clone(), v=v.clone(), sum=(q + k + v), q2=-q))
    net.register_buffer("order", order)
    net.register_buffer("inverse", order.argsort().argsort())
    net.register_buffer("mask", torch.bernoulli(torch.full((5, 5), 0.5)).bool())
    return net


def truncated_often() -> nn.Module:
    """Numbers are rejected and drawn again, so that the calls depend on what was drawn."""
    layers = {f"l{at}": nn.Linear(12, 12) for at in range(6)}
    for layer in layers.values():
        nn.init.trunc_normal_(layer.weight, std=1.0, a=-1.0, b=1.0)
    tokens = hold(cls=torch.empty(12, 12), pos=torch.empty(12, 12), far=torch.empty(12, 12))
    for value in tokens.parameters():
        nn.init.trunc_normal_(value, std=1.0, a=0.5, b=3.0)
    return Net(**layers, tokens=tokens, copy=hold(cls=2 * tokens.get_parameter("cls").detach()))


def residual_scaling() -> nn.Module:
    net = nn.Sequential(*(nn.Linear(5, 5) for _ in range(4)))
    for at, layer in enumerate(net):
        assert isinstance(layer, nn.Linear)
        nn.init.kaiming_uniform_(layer.weight)
        layer.weight.data.div_(np.sqrt(2 * (at + 1)))
        layer.bias.data = layer.weight.data.norm() * torch.ones(5)
    return net


def from_meta() -> nn.Module:
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
    net.to_empty(device="cpu")
    for layer in net:
        assert isinstance(layer, nn.Linear)
        layer.reset_parameters()
    return net


def scipy_orthogonal() -> nn.Module:
    ortho_group = pytest.importorskip("scipy.stats").ortho_group  # draws from numpy's generator
    turned = torch.from_numpy(ortho_group.rvs(6)).float()
    return hold(a=turned, b=turned.T.clone())


def factors_of_one() -> nn.Module:
    q, r = torch.linalg.qr(torch.randn(6, 6))
    return hold(q=q, r=r, whole=q @ r, low=q[:, :2] @ r[:2])


def permuted() -> nn.Module:
    order, values = torch.randperm(9), torch.randn(9)
    return hold(drawn=values, moved=values[order], back=values[order][torch.argsort(order)])


def chosen_rows() -> nn.Module:
    table, rows = torch.randn(9, 3), torch.multinomial(torch.ones(9), 4)
    return hold(table=table, some=table[rows], again=table[rows].clone())


def masked_apart() -> nn.Module:
    mask, values = torch.bernoulli(torch.full((6, 6), 0.5)), torch.randn(6, 6)
    return hold(mask=mask, inside=values * mask, both=values * mask + values * (1 - mask), drawn=values)


def scrambled() -> nn.Module:
    points = torch.quasirandom.SobolEngine(3, scramble=True).draw(8)
    return hold(points=points, twice=2 * points)


def stacked_copies() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


ZOO: list[Callable[[], nn.Module]] = [
    weight_norms, old_weight_norm, spectral, orthogonal, copies, averaged, tied, attention, recurrent, lora, double,
    complex_values, by_hand, with_foreach, with_numpy, deviations, seeded_copies, own_generator, several_from_one_draw,
    truncated_often, residual_scaling, from_meta, scipy_orthogonal, factors_of_one, permuted, chosen_rows, masked_apart,
    scrambled, stacked_copies,
]  # fmt: skip


@pytest.mark.parametrize("make", ZOO)
def test_what_holds_in_a_network_made_plainly_holds_in_a_built_one(make: Callable[[], nn.Module]) -> None:
    assert relations(build(make, 0)) == relations(make())


@pytest.mark.parametrize("make", ZOO)
def test_a_seed_gives_the_same_values_and_another_seed_others(make: Callable[[], nn.Module]) -> None:
    first = build(make, 0).state_dict()
    torch.randn(7), np.random.rand(3), random.random()
    again, other = build(make, 0).state_dict(), build(make, 1).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert make is own_generator or any(not torch.equal(value, other[name]) for name, value in first.items())


@pytest.mark.parametrize("make", [one for one in ZOO if one not in (with_numpy, seeded_copies, scipy_orthogonal)])
def test_what_stands_beside_a_network_does_not_change_its_values(make: Callable[[], nn.Module]) -> None:
    def beside() -> nn.Module:
        before = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.GRU(2, 2))
        return nn.ModuleDict({"before": before, "it": make()})

    alone = build(lambda: nn.ModuleDict({"it": make()}), 0).state_dict()
    both = build(beside, 0).state_dict()
    assert all(torch.equal(value, both[name]) for name, value in alone.items())


# --- parameters of the first forward pass, and constructors that never settle ---------------------------------------


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(5), nn.Dropout(0.5), nn.LazyBatchNorm1d(), nn.LazyLinear(3))


class Grown(nn.Module):
    def forward(self, X: Tensor) -> Tensor:
        if not hasattr(self, "layer"):
            self.layer = nn.Linear(X.shape[1], 3)
            self.twice = nn.Parameter(2 * self.layer.weight.detach())
        return self.layer(X) + X @ self.twice.T


@pytest.mark.parametrize("make", [lazy, Grown])
def test_what_a_first_pass_makes_starts_from_streams_of_its_own(make: Callable[[], nn.Module]) -> None:
    def first_pass(network: nn.Module) -> None:
        with torch.no_grad():
            network.eval()(torch.zeros(2, 6))

    def made_plainly() -> nn.Module:
        network = make()
        first_pass(network)
        return network

    one, other = (rehearse(make, seed, first_pass).network.state_dict() for seed in (0, 1))
    assert relations(rehearse(make, 0, first_pass).network) == relations(made_plainly())
    again = rehearse(make, 0, first_pass).network.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert any(not torch.equal(value, other[name]) for name, value in one.items())


def test_a_network_that_makes_nothing_in_its_first_pass_is_not_asked_for_one() -> None:
    asked = []
    made = rehearse(lambda: nn.Linear(3, 3), 0, asked.append)
    assert asked == [made.rehearsal]
    assert made.note is None


def test_a_constructor_that_never_settles_starts_as_its_author_wrote_it_and_says_so() -> None:
    class Restless(nn.Module):
        made = 0

        def __init__(self) -> None:
            super().__init__()
            Restless.made += 1
            self.add_module(f"layer{Restless.made}", parametrizations.weight_norm(nn.Linear(4, 3)))

    made = rehearse(Restless, 0, lambda network: None)
    assert made.note is not None
    assert "not shared with other networks" in made.note
    weights = dict(made.network.named_parameters())
    gain, direction = (next(value for name, value in weights.items() if f"original{at}" in name) for at in (0, 1))
    torch.testing.assert_close(gain.flatten(), direction.norm(dim=1))


@pytest.mark.parametrize("source", ["numpy", "python", "count"])
def test_values_that_no_seed_settles_are_refused(source: str) -> None:
    def make() -> nn.Module:
        layer = nn.Linear(3, 2)
        draw: dict[str, Callable[[], float]] = {
            "numpy": np.random.default_rng().normal,
            "python": random.Random().random,
            "count": lambda: float(next(count)),
        }
        layer.bias = nn.Parameter(torch.tensor([draw[source](), 0.0]))
        return layer

    count = iter(range(100))
    with pytest.raises(ValueError, match="the initial value of bias must be the same each time"):
        build(make, 0)


def over_drawn_values(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.bias.copy_(torch.from_numpy(np.random.default_rng().normal(size=2)))


def in_numpys_memory(layer: nn.Linear) -> None:
    layer.bias.detach().numpy()[:1] = np.random.default_rng().normal()


def by_a_generator_of_ones_own(layer: nn.Linear) -> None:
    own = torch.Generator()
    own.seed()
    nn.init.normal_(layer.bias, generator=own)


def in_a_buffer(layer: nn.Linear) -> None:
    del layer.bias
    layer.register_buffer("bias", torch.tensor(random.SystemRandom().random()))


@pytest.mark.parametrize("fill", [over_drawn_values, in_numpys_memory, by_a_generator_of_ones_own, in_a_buffer])
def test_values_that_no_seed_settles_are_refused_wherever_they_are_put(fill: Callable[[nn.Linear], None]) -> None:
    def make() -> nn.Module:
        layer = nn.Linear(3, 2)
        fill(layer)
        return layer

    with pytest.raises(ValueError, match="the initial value of bias must be the same each time"):
        build(make, 0)
