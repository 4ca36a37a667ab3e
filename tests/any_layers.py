"""Layers of every kind, and networks that settings compose of them: ``[{conv: 4}, relu, flatten, {residual: [lstm]}]``.

Each maker gets the shape of one example, ``(C, *S)`` or ``(F,)``, and one argument; it gives the layer and what the
shape becomes.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint

Shape = tuple[int, ...]
Made = tuple[nn.Module, Shape]


def compose(layers: list[Any], shape: Shape) -> tuple[nn.Sequential, Shape]:
    """Makes the layers one after the other: each a name, or a mapping of it to its argument."""
    made = []
    for one in layers:
        name, argument = (one, 4) if isinstance(one, str) else next(iter(one.items()))
        layer, shape = LAYERS[name](shape, argument)
        made.append(layer)
    return nn.Sequential(*made), shape


class Does(nn.Module):
    """Computes by a function of itself and the input; what it is given are its parameters, buffers, modules, state."""

    def __init__(self, rule: Callable[[Any, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        self.rule = rule
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, X: Tensor) -> Tensor:
        return self.rule(self, X)


def channels_last(X: Tensor) -> Tensor:
    """Lays images out channels last; not those that need no gradient, of which GroupNorm crashes torch 2.13."""
    return X.to(memory_format=torch.channels_last) if X.ndim == 4 and X.requires_grad else X


def keeps(rule: Callable[[Any, Tensor], Tensor], **parts: Callable[[Shape], Any]) -> Callable[[Shape, Any], Made]:
    """A layer that keeps the shape, of parts that are made from it."""
    return lambda shape, argument: (Does(rule, **{name: make(shape) for name, make in parts.items()}), shape)


def widens(
    make: Callable[[int, int], nn.Module], rule: Callable[[Any, Tensor], Tensor] | None = None
) -> Callable[[Shape, int], Made]:
    """A layer from F features to so many others."""

    def made(shape: Shape, width: int) -> Made:
        inner = make(shape[0], width)
        return (inner if rule is None else Does(rule, inner=inner)), (width, *shape[1:])

    return made


def of(kind: Callable[..., nn.Module]) -> Callable[[Shape, Any], Made]:
    """A layer of torch's that is told the number of features."""
    return lambda shape, argument: (kind(shape[0]), shape)


def plain(kind: Callable[[], nn.Module]) -> Callable[[Shape, Any], Made]:
    return lambda shape, argument: (kind(), shape)


def dims(*kinds: type[nn.Module]) -> Callable[[Shape], Any]:
    """The kind for vectors or signals, or that for images."""
    return lambda shape: kinds[max(0, len(shape) - 2)]


# --- operations -----------------------------------------------------------------------------------------------------


class Rounded(torch.autograd.Function):
    """Rounds to eighths; the gradient goes straight through."""

    @staticmethod
    def forward(ctx: Any, X: Tensor) -> Tensor:
        ctx.save_for_backward(X)
        return (X * 8).round() / 8

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]  # as torch's own examples write it
        (X,) = ctx.saved_tensors
        return gradient * (X.abs() < 3)


class Reversed(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(X: Tensor) -> Tensor:
        return X.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]  # as torch's own examples write it
        return -gradient


class Symmetric(nn.Module):
    def forward(self, X: Tensor) -> Tensor:
        return X.triu() + X.triu(1).T


class ActNorm(nn.Module):
    """Takes its scale and shift from the first batch of training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shift, self.scale = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.ones(width))
        self.register_buffer("begun", torch.tensor(False))

    def forward(self, X: Tensor) -> Tensor:
        if self.training and not self.begun:
            self.shift.data.copy_(-X.detach().mean(0))
            self.scale.data.copy_(1 / (X.detach().std(0, correction=0) + 0.1))
            self.begun.fill_(True)  # type: ignore[operator]  # torch's types: Tensor | Module
        return (X + self.shift) * self.scale


class Codebook(nn.Module):
    """Replaces each example by the nearest of its codes, which move towards what they stand for."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(5, width))

    def forward(self, X: Tensor) -> Tensor:
        codes: Any = self.codes
        near = torch.cdist(X.detach().to(codes.dtype), codes).argmin(1)
        quantised = codes[near].to(X.dtype)
        if self.training:
            codes.index_add_(0, near, 0.1 * (X.detach().to(codes.dtype) - codes[near]))
        return X + (quantised - X).detach()


class Teacher(nn.Module):
    """A momentum copy of a layer, moved in each pass of training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.student = nn.Linear(width, width)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def forward(self, X: Tensor) -> Tensor:
        if self.training:
            for slow, fast in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                slow.data.lerp_(fast.data, 0.1)
        return self.student(X) + self.teacher(X).detach()


class Queue(nn.Module):
    """Remembers the last examples, in buffers that are saved and in a list that is not."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("memory", torch.zeros(4, width))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64), persistent=False)
        self.seen: list[int] = []

    def forward(self, X: Tensor) -> Tensor:
        memory, pointer = self.get_buffer("memory"), self.get_buffer("pointer")
        if self.training:
            self.seen.append(len(X))
            memory[int(pointer) % 4] = X[-1].detach()
            pointer.add_(1)
        return X - memory.mean(0) / (1 + 0.1 * len(self.seen))


def dropped(module: Any, X: Tensor, coin: Callable[[], float]) -> Tensor:
    return X if module.training and coin() < 0.5 else X + module.inner(X).tanh()


def sequence(module: Any, X: Tensor) -> Tensor:
    """The features of an example as a sequence; the last state."""
    return module.inner(X[:, :, None])[0][:, -1]


def symmetric(shape: Shape) -> nn.Module:
    layer = nn.Linear(shape[0], shape[0])
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return layer


def on_meta(shape: Shape) -> nn.Module:
    layer = nn.Linear(shape[0], shape[0], device="meta").to_empty(device="cpu")
    layer.reset_parameters()
    return layer


def by_author(shape: Shape) -> nn.Module:
    """Its author seeds torch, for this layer and whatever follows."""
    torch.manual_seed(5)
    return nn.Linear(shape[0], shape[0])


def by_numpy(shape: Shape) -> nn.Module:
    layer = nn.Linear(shape[0], shape[0])
    layer.weight.data = torch.from_numpy(np.random.normal(0, random.uniform(0.1, 0.5), layer.weight.shape)).float()
    return layer


def fixed_features(shape: Shape) -> nn.Module:
    layer = nn.Linear(shape[0], shape[0]).requires_grad_(False)
    layer.weight.data = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(3))
    return layer


def hooked(shape: Shape) -> nn.Module:
    layer = nn.Linear(shape[0], shape[0])
    layer.register_forward_pre_hook(lambda module, given: (given[0] - 0.1,))
    layer.register_forward_hook(lambda module, given, output: output * 1.5)
    layer.register_full_backward_hook(
        lambda module, into, out: tuple(one if one is None else one * 0.5 for one in into)
    )
    layer.weight.register_hook(lambda gradient: gradient.clamp(-0.1, 0.1))
    return layer


def scripted(shape: Shape) -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Linear(shape[0], shape[0]), nn.Tanh()))  # type: ignore[no-any-return]


def inner(make: Callable[[Shape], nn.Module]) -> Callable[[Shape, Any], Made]:
    return lambda shape, argument: (make(shape), shape)


def square(shape: Shape) -> nn.Linear:
    return nn.Linear(shape[0], shape[0])


def matrix(shape: Shape) -> nn.Parameter:
    return nn.Parameter(0.3 * torch.randn(shape[0], shape[0]))


def residual(shape: Shape, layers: list[Any]) -> Made:
    body, after = compose(layers, shape)
    if after != shape:
        body.append(nn.Linear(after[0], shape[0]) if len(shape) == 1 else conv(len(shape) - 1)(after[0], shape[0], 1))
    return Does(lambda module, X: X + module.body(X), body=body), shape


def conv(spatial: int) -> Any:
    return nn.Conv1d if spatial == 1 else nn.Conv2d


def convolution(**settings: Any) -> Callable[[Shape, int], Made]:
    def made(shape: Shape, width: int) -> Made:
        return conv(len(shape) - 1)(shape[0], width, 3, padding=settings.get("dilation", 1), **settings), (
            width,
            *shape[1:],
        )

    return made


def depthwise(shape: Shape, argument: Any) -> Made:
    return conv(len(shape) - 1)(shape[0], shape[0], 3, padding=1, groups=shape[0], padding_mode="circular"), shape


def pooled(kind: str) -> Callable[[Shape, Any], Made]:
    def made(shape: Shape, argument: Any) -> Made:
        layer = getattr(nn, f"{kind}{len(shape) - 1}d")(2, ceil_mode=True)
        return layer, (shape[0], *((side + 1) // 2 for side in shape[1:]))

    return made


def transposed(shape: Shape, width: int) -> Made:
    kind: Any = nn.ConvTranspose1d if len(shape) == 2 else nn.ConvTranspose2d
    return kind(shape[0], width, 2, stride=2), (width, *(2 * side for side in shape[1:]))


def attentive(module: Any, X: Tensor) -> Tensor:
    tokens = module.inner(X.flatten(2).transpose(1, 2))
    return module.attend(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).reshape(len(X), 4, *X.shape[2:])


def attention(shape: Shape, argument: Any) -> Made:
    """The places of an image, or the features of a vector, attend to each other."""
    parts = {
        "inner": nn.Linear(shape[0], 4),
        "attend": nn.MultiheadAttention(4, 2, dropout=argument / 10, batch_first=True),
    }
    return Does(attentive, **parts), (4, *shape[1:])


def encoded(module: Any, X: Tensor) -> Tensor:
    return module.inner(X[:, :, None] * module.vector).mean(1)


def encoder(shape: Shape, argument: Any) -> Made:
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True)
    return Does(encoded, inner=layer, vector=nn.Parameter(torch.randn(4))), (4,)


def frozen_low_rank(shape: Shape) -> nn.Module:
    layer = square(shape).requires_grad_(False)
    layer.down, layer.up = nn.Linear(shape[0], 2, bias=False), nn.Linear(2, shape[0], bias=False)
    nn.init.zeros_(layer.up.weight)
    return layer


def spectrum(module: Any, X: Tensor) -> Tensor:
    wave = torch.fft.rfft(X.float(), n=4)
    return torch.cat([X, (wave * module.phase).abs().to(X.dtype)], 1)[:, : X.shape[1]] + module.phase.abs().sum()


def remembered(module: Any, X: Tensor) -> Tensor:
    if module.training:
        module.mean = 0.9 * module.mean + 0.1 * X.detach().mean(0)
        module.passes += 1
    return X - module.mean * min(1.0, module.passes / 10)


NORM = dims(nn.BatchNorm1d, nn.BatchNorm2d)
ANY_SHAPE: dict[str, Callable[[Shape, Any], Made]] = {
    "relu": plain(nn.ReLU),
    "in_place": plain(lambda: nn.ReLU(inplace=True)),
    "prelu": of(nn.PReLU),
    "rrelu": plain(nn.RReLU),
    "gelu": plain(nn.GELU),
    "dropout": lambda shape, percent: (nn.Dropout(percent / 10), shape),
    "alpha": plain(lambda: nn.AlphaDropout(0.2)),
    "batch_norm": lambda shape, argument: (NORM(shape)(shape[0]), shape),
    "average": lambda shape, argument: (NORM(shape)(shape[0], momentum=None), shape),
    "untracked": lambda shape, argument: (NORM(shape)(shape[0], track_running_stats=False), shape),
    "layer_norm": lambda shape, argument: (nn.LayerNorm(shape), shape),
    "rms_norm": lambda shape, argument: (nn.RMSNorm(shape), shape),
    "group_norm": lambda shape, argument: (nn.GroupNorm(1, shape[0]), shape),
    "noise": keeps(lambda module, X: X + 0.1 * torch.randn_like(X) if module.training else X),
    "always_noise": keeps(lambda module, X: X + 0.1 * torch.rand_like(X)),
    "rounded": keeps(lambda module, X: Rounded.apply(X)),
    "residual": residual,
}
SPATIAL: dict[str, Callable[[Shape, Any], Made]] = ANY_SHAPE | {
    "conv": convolution(),
    "dilated": convolution(dilation=2),
    "unbiased": convolution(bias=False),
    "depthwise": depthwise,
    "transposed": transposed,
    "max_pool": pooled("MaxPool"),
    "avg_pool": pooled("AvgPool"),
    "channel_dropout": lambda shape, argument: (dims(nn.Dropout1d, nn.Dropout2d)(shape)(0.3), shape),
    "local": plain(lambda: nn.LocalResponseNorm(2)),
    "attention": attention,
    "squeeze": keeps(
        lambda module, X: X * module.inner(X.flatten(2).mean(2)).sigmoid().view(*X.shape[:2], *[1] * (X.ndim - 2)),
        inner=square,
    ),
    "channels_last": keeps(lambda module, X: channels_last(X)),
    "rolled": keeps(lambda module, X: X.roll(1, -1).flip(-1) + X.mean(1, keepdim=True)),
}
FLAT: dict[str, Callable[[Shape, Any], Made]] = ANY_SHAPE | {
    "linear": widens(nn.Linear),
    "bilinear": widens(
        lambda inputs, width: nn.Bilinear(inputs, inputs, width), lambda module, X: module.inner(X, X.tanh())
    ),
    "lazy": lambda shape, width: (nn.LazyLinear(width), (width,)),
    "lstm": widens(lambda inputs, width: nn.LSTM(1, width, batch_first=True), sequence),
    "gru": widens(lambda inputs, width: nn.GRU(1, width, 2, batch_first=True, dropout=0.2), sequence),
    "rnn": widens(lambda inputs, width: nn.RNN(1, width, batch_first=True), sequence),
    "embedding": widens(
        lambda inputs, width: nn.Embedding(7, width, padding_idx=3),
        lambda module, X: module.inner(X.detach().clamp(-3, 3).round().long() + 3).mean(1),
    ),
    "bag": widens(
        lambda inputs, width: nn.EmbeddingBag(7, width), lambda module, X: module.inner(X.clamp(-3, 3).long() + 3)
    ),
    "attended": lambda shape, argument: (
        Does(
            lambda module, X: F.scaled_dot_product_attention(*(X[:, :, None] * one for one in module.keys)).squeeze(2),
            keys=nn.ParameterList([torch.randn(1) for _ in range(3)]),
        ),
        shape,
    ),
    "encoder": encoder,
    "list": keeps(
        lambda module, X: sum((one(X) for one in module.inner), X) / 3,
        inner=lambda shape: nn.ModuleList([square(shape), square(shape)]),
    ),
    "dict": keeps(
        lambda module, X: module.inner["b"](module.inner["a"](X).relu()),
        inner=lambda shape: nn.ModuleDict({"b": square(shape), "a": square(shape)}),
    ),
    "parameters": keeps(
        lambda module, X: X @ module.inner[0] + module.more["bias"],
        inner=lambda shape: nn.ParameterList([matrix(shape)]),
        more=lambda shape: nn.ParameterDict({"bias": nn.Parameter(torch.zeros(shape))}),
    ),
    "shared": keeps(lambda module, X: module.inner(module.inner(X).tanh()), inner=square),
    "reversed": keeps(lambda module, X: X + 0.1 * Reversed.apply(module.inner(X)), inner=square),
    "checkpoint": keeps(
        lambda module, X: checkpoint(module.inner, X, use_reentrant=False),
        inner=lambda shape: nn.Sequential(square(shape), nn.Dropout(0.2), nn.Tanh()),
    ),
    "vmap": keeps(lambda module, X: torch.func.vmap(lambda row: module.inner @ row)(X), inner=matrix),
    "functional": keeps(
        lambda module, X: torch.func.functional_call(module.inner, {"bias": module.inner.bias * 2}, (X,)), inner=square
    ),
    "gradient": keeps(
        lambda module, X: X + torch.func.grad(lambda one: (one @ module.inner).tanh().square().sum())(X), inner=matrix
    ),
    "scripted": inner(scripted),
    "weight_norm": inner(lambda shape: parametrizations.weight_norm(square(shape))),
    "spectral": inner(lambda shape: parametrizations.spectral_norm(square(shape))),
    "orthogonal": inner(lambda shape: parametrizations.orthogonal(square(shape))),
    "symmetric": inner(symmetric),
    "pruned": inner(lambda shape: prune.random_unstructured(square(shape), "weight", 0.3)),
    "hooked": inner(hooked),
    "on_meta": inner(on_meta),
    "copied": inner(lambda shape: copy.deepcopy(square(shape))),
    "by_author": inner(by_author),
    "by_numpy": inner(by_numpy),
    "fixed": inner(fixed_features),
    "act_norm": of(ActNorm),
    "codebook": of(Codebook),
    "teacher": of(Teacher),
    "queue": of(Queue),
    "remembered": keeps(remembered, mean=lambda shape: torch.zeros(shape), passes=lambda shape: 0),
    "low_rank": keeps(lambda module, X: module.inner(X) + module.inner.up(module.inner.down(X)), inner=frozen_low_rank),
    "double": keeps(lambda module, X: module.inner(X.double()).to(X.dtype), inner=lambda shape: square(shape).double()),
    "spectrum": keeps(spectrum, phase=lambda shape: nn.Parameter(torch.randn(3, dtype=torch.complex64))),
    "sparse": keeps(lambda module, X: torch.sparse.mm(module.inner.to_sparse(), X.T).T, inner=matrix),
    "experts": keeps(
        lambda module, X: torch.einsum("ni,ioe,ne->no", X, module.inner, module.gate(X).softmax(1).to(X.dtype)),
        inner=lambda shape: nn.Parameter(0.3 * torch.randn(shape[0], shape[0], 2)),
        gate=lambda shape: nn.Linear(shape[0], 2),
    ),
    "python_coin": keeps(lambda module, X: dropped(module, X, random.random), inner=square),
    "numpy_coin": keeps(lambda module, X: dropped(module, X, np.random.rand), inner=square),
    "torch_coin": keeps(lambda module, X: dropped(module, X, lambda: torch.rand(()).item()), inner=square),
    "own_coin": keeps(
        lambda module, X: dropped(module, X, module.coin.random),
        inner=square,
        coin=lambda shape: np.random.default_rng(1),
    ),
    "gumbel": keeps(lambda module, X: F.gumbel_softmax(X, hard=True) + X if module.training else X),
    "sampled": keeps(
        lambda module, X: torch.distributions.Normal(X, 0.1).rsample() if module.training else X,
    ),
    "deviation": keeps(lambda module, X: X / (1 + X.std(0, correction=0).mean())),  # other examples have a say
    "detached": keeps(lambda module, X: X + module.inner(X).detach(), inner=square),
}


def rows(shape: Shape, width: int) -> Made:
    """The channels as a sequence."""
    recurrent = nn.GRU(int(np.prod(shape[1:])), width, batch_first=True)
    return Does(lambda module, X: module.inner(X.flatten(2))[0][:, -1], inner=recurrent), (width,)


TO_FLAT: dict[str, Callable[[Shape, Any], Made]] = {
    "flatten": lambda shape, argument: (nn.Flatten(), (int(np.prod(shape)),)),
    "mean": lambda shape, argument: (Does(lambda module, X: X.flatten(2).mean(2)), shape[:1]),
    "rows": rows,
}
LAYERS = SPATIAL | FLAT | TO_FLAT
