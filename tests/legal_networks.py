"""Networks that are legal in plain PyTorch, each unusual in one way; for images ``(N, 1, 8, 8)`` and ten classes."""

from __future__ import annotations

import copy
import itertools
import random
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations


class Plain(nn.Module):
    """One hidden layer; the others differ from it in one way each."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(64, 16), nn.Linear(16, 10)

    def hidden(self, X: Tensor) -> Tensor:
        return self.first(X.flatten(1)).relu()

    def forward(self, X: Tensor) -> Any:
        return self.head(self.hidden(X))


# --- parameters that come later -------------------------------------------------------------------------------------


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.LazyLinear(10)

    def forward(self, X: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(X)).relu().flatten(1))


class MadeInForward(nn.Module):
    def forward(self, X: Tensor) -> Tensor:
        if not hasattr(self, "first"):
            self.first, self.head = nn.Linear(X[0].numel(), 12), nn.Linear(12, 10)
        return self.head(self.first(X.flatten(1)).relu())


class MadeInTraining(Plain):
    """The head beside it comes into being in the first training pass."""

    def forward(self, X: Tensor) -> Any:
        h = self.hidden(X)
        if not self.training:
            return self.head(h)
        if not hasattr(self, "other"):
            self.other = nn.Linear(16, 10)
        return self.head(h) + self.other(h)


class Viewed(nn.Module):
    """Views colour images, and what a convolution makes of them, as they lie in memory by default."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv, self.head = nn.GroupNorm(1, 3), nn.Conv2d(3, 4, 3), nn.Linear(192 + 144, 10)

    def forward(self, X: Tensor) -> Tensor:
        return self.head(torch.cat([X.view(len(X), -1), self.conv(self.norm(X)).view(len(X), -1)], 1))


# --- outputs --------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    features: Tensor
    logits: Tensor


@dataclass
class Out:
    loss: None
    logits: Tensor
    features: Tensor


class Tuple(Plain):
    def forward(self, X: Tensor) -> Any:
        h = self.hidden(X)
        return h, self.head(h)


class Dict(Plain):
    def forward(self, X: Tensor) -> Any:
        return {"features": torch.zeros(len(X), 10), "logits": super().forward(X)}


class Named(Plain):
    def forward(self, X: Tensor) -> Any:
        h = self.hidden(X)
        return Pair(h, self.head(h)) if self.training else self.head(h)


class Data(Plain):
    def forward(self, X: Tensor) -> Any:
        h = self.hidden(X)
        return Out(None, self.head(h), h)


class TwoHeads(Plain):
    """As GoogLeNet: another head while training."""

    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Linear(16, 10)

    def forward(self, X: Tensor) -> Any:
        h = self.hidden(X)
        return (self.head(h), self.aux(h)) if self.training else self.head(h)


def two_heads(output: Any, y: Tensor) -> Tensor:
    if isinstance(output, tuple):
        return F.cross_entropy(output[0], y) + 0.3 * F.cross_entropy(output[1], y)
    return F.cross_entropy(output, y)


class Annealed(nn.Module):
    """A loss with a state: it smooths labels less from step to step, by a count and by a mean of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.steps += 1
            self.get_buffer("mean").add_(output.detach().mean())
        smoothing = 0.5 / (1 + self.steps)
        return F.cross_entropy(output, y, label_smoothing=smoothing) + 0.1 * self.get_buffer("mean") * output.mean()


class Features(Plain):
    """No logits anywhere."""

    def forward(self, X: Tensor) -> Any:
        return {"features": self.hidden(X)}


# --- state ----------------------------------------------------------------------------------------------------------


class ExtraState(Plain):
    """Counts its training passes where ``state_dict`` finds the count, and lets go of a noise with it."""

    def __init__(self) -> None:
        super().__init__()
        self._passes = 0

    def get_extra_state(self) -> Any:
        return {"passes": self._passes, "kind": "noise"}

    def set_extra_state(self, state: Any) -> None:
        self._passes = state["passes"]

    def forward(self, X: Tensor) -> Any:
        self._passes += self.training
        return self.head(self.hidden(X)) / (1 + 1 / (1 + self._passes))


class Counts(Plain):
    """Keeps a count, a list and a running mean in plain attributes, as many do."""

    def __init__(self) -> None:
        super().__init__()
        self.passes, self.seen, self.mean = 0, [0.0], torch.zeros(16)

    def forward(self, X: Tensor) -> Any:
        h = self.hidden(X)
        if self.training:
            self.passes += 1
            self.seen.append(float(self.passes))
            self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(0)
        return self.head(h - self.mean * min(1.0, len(self.seen) / 20))


class Queue(Plain):
    """A memory that is no part of ``state_dict``, and buffers of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("memory", torch.zeros(16), persistent=False)
        kinds = torch.bool, torch.uint8, torch.int64, torch.float64, torch.bfloat16, torch.complex64
        for at, dtype in enumerate(kinds):
            self.register_buffer(f"buffer{at}", torch.ones(3).to(dtype))

    def forward(self, X: Tensor) -> Any:
        h = self.hidden(X)
        if self.training:
            self.get_buffer("memory").mul_(0.5).add_(h.detach().mean(0))
            self.get_buffer("buffer2").add_(1)
            self.get_buffer("buffer5").mul_(1j)
        return self.head(h + self.get_buffer("memory")) * (1 + 1 / self.get_buffer("buffer2")[0])


class Memory:
    """An object of one's own with a state of its own, which a network and the object itself hold."""

    def __init__(self) -> None:
        self.calls, self.itself = 0, self
        self.means: list[Tensor] = []


class Objects(Plain):
    """Remembers in objects of the standard library and numpy, and draws from generators of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.queue, self.array, self.seen, self.kinds = deque([0.0], maxlen=3), np.zeros(2), {0}, Counter(a=1)
        self.lists: defaultdict[str, list[int]] = defaultdict(list)
        self.coin, self.die = np.random.default_rng(3), random.Random(4)
        self.cards, self.noise = np.random.RandomState(5), torch.Generator().manual_seed(6)
        self.memory = Memory()
        self.register_module("again", self.first)
        self.shared = self.queue

    def forward(self, X: Tensor) -> Any:
        h = self.hidden(X)
        if self.training:
            self.queue.append(float(self.coin.random() + self.die.random() + self.cards.rand()))
            self.array += 0.1
            self.seen.add(len(self.seen))
            self.kinds["a"] += 1
            self.lists["steps"].append(1)
            self.memory.calls += 1
            self.memory.means = [*self.memory.means[-2:], h.detach().mean(0)]
            h = h + 0.1 * torch.randn(16, generator=self.noise)
        number = (
            sum(self.shared) + float(self.array.sum()) + len(self.seen) + self.kinds["a"] + len(self.lists["steps"])
        )
        mean = sum(self.memory.means, torch.zeros(16))
        return self.head(h - mean / 3) / (1 + 0.01 * number + 0.01 * self.memory.calls)


class Phase(Enum):
    FIRST = 1
    SECOND = 2


class Place(NamedTuple):
    step: int
    share: float


@dataclass(frozen=True)
class Level:
    value: float = 0.0


class Slotted:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Whole(int):
    """A number of one's own."""


class Holds(Plain):
    """Remembers in whatever Python has: values of every kind, objects in containers, a closure, what comes later."""

    def __init__(self) -> None:
        super().__init__()
        self.phase, self.where, self.level, self.whole = Phase.FIRST, Place(0, 1.0), Level(), Whole(1)
        self.turn, self.span, self.fixed, self.count = 1j, range(1), frozenset({0}), itertools.count()
        self.space, self.slotted, self.mixed = SimpleNamespace(value=0.0), Slotted(), [len, 0]
        self.objects, self.named, self.late = [Memory(), Memory()], {"it": (Memory(), 1)}, None
        self.step = partial(lambda held: held.append(1) or len(held), [])
        self.same = self.alias = torch.zeros(16)
        calls = 0

        def counted() -> int:
            nonlocal calls
            calls += 1
            return calls

        self.counted = counted
        self.register_buffer("grows", torch.zeros(0, 16))
        self.register_buffer("comes", None)
        self.register_buffer("spread", torch.ones(1).expand(16))

    def learn(self, h: Tensor) -> None:
        mean = h.detach().mean(0)
        self.where, self.level = Place(self.where.step + 1, self.where.share * 0.9), Level(self.level.value + 0.1)
        self.phase, self.whole = Phase(1 + self.where.step % 2), Whole(self.whole + 1)
        self.turn, self.span, self.fixed = self.turn * 1.1, range(len(self.span) + 1), self.fixed | {next(self.count)}
        self.space.value += float(mean[0])
        self.slotted.value += float(mean[1])
        self.mixed[1] += self.step()
        for memory in (*self.objects, self.named["it"][0]):
            memory.calls += self.counted()
        self.same = 0.5 * self.same + mean
        self.late = mean if self.late is None else self.late + 0.1 * mean
        self.new = getattr(self, "new", 0) + 1
        self.grows = torch.cat([self.grows, mean[None]])
        self.comes = mean if self.comes is None else 0.9 * self.comes + 0.1 * mean

    def forward(self, X: Tensor) -> Any:
        h = self.hidden(X)
        if self.training:
            self.learn(h)
        if self.late is not None:
            h = h - 0.1 * (self.late + self.same - self.alias + self.comes + self.grows.mean(0)) * self.spread
        numbers = [self.where.share, self.phase.value, self.level.value, self.whole, abs(self.turn), len(self.span)]
        numbers += [len(self.fixed), self.space.value, self.slotted.value, self.mixed[1], getattr(self, "new", 0)]
        numbers += [memory.calls for memory in (*self.objects, self.named["it"][0])]
        return self.head(h) / (1 + 0.01 * sum(numbers))


class Aside(Plain):
    """Keeps a moving average of its first layer, a normalisation and a parameter where no ``state_dict`` finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.average = [copy.deepcopy(self.first)]
        object.__setattr__(self, "norm", nn.BatchNorm1d(16, affine=False))
        self.shift = [nn.Parameter(torch.zeros(16))]
        self.last: Tensor | None = None

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        yield from super().parameters(recurse)
        yield from self.shift

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return {name: value for name, value in super().state_dict(*args, **kwargs).items() if name != "first.bias"}

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        return super().load_state_dict(state_dict, strict=False, assign=assign)

    def forward(self, X: Tensor) -> Any:
        self.norm.train(self.training)
        if self.training:
            with torch.no_grad():
                for slow, fast in zip(self.average[0].parameters(), self.first.parameters(), strict=True):
                    slow.lerp_(fast, 0.1)
        before = 0.0 if self.last is None else self.last.detach().mean(0)
        h = self.norm(self.hidden(X)) + self.average[0](X.flatten(1)) + self.shift[0] + before
        self.last = h if self.training else self.last
        return self.head(h)


steps = 0


class Counted(Plain):
    """Scales by how many were made, and by a count of steps that the module has; names its parts by another."""

    made, parts, seen = 0, itertools.count(), []  # the class's own

    def __init__(self) -> None:
        super().__init__()
        Counted.made += 1
        self.scale = 1 / Counted.made
        self.name = f"part{next(Counted.parts)}"
        self.add_module(self.name, nn.Linear(16, 16))
        Counted.seen.append(self)

    def forward(self, X: Tensor) -> Any:
        global steps
        steps += self.training
        part = self.get_submodule(self.name)
        return self.head(part(self.hidden(X))) * self.scale / (1 + 0.1 * steps) / len(Counted.seen)


class Iterates(Plain):
    """Takes its scales from a generator, whose place nobody can read."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = (0.9**power for power in range(100))

    def forward(self, X: Tensor) -> Any:
        return self.head(self.hidden(X)) * (next(self.scales) if self.training else 1.0)


class Locked(Plain):
    """Holds what can neither be copied nor pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.lock, self.file, self.rule = threading.Lock(), Path(__file__).open(), lambda h: h.relu()  # noqa: SIM115  # closed with the network
        self.weights = [self.head.weight]

    def forward(self, X: Tensor) -> Any:
        with self.lock:
            return self.head(self.rule(self.first(X.flatten(1))))

    def __del__(self) -> None:
        self.file.close()


class Coins(Plain):
    """Skips a layer as numpy's or Python's coin falls."""

    def __init__(self) -> None:
        super().__init__()
        self.second, self.third = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, X: Tensor) -> Any:
        h = self.hidden(X)
        if not self.training or np.random.rand() < 0.5:
            h = h + self.second(h)
        if not self.training or random.random() < 0.5:
            h = h + self.third(h)
        return self.head(F.dropout(h, 0.2, self.training))


# --- layers and parameters ------------------------------------------------------------------------------------------


class NoAverages(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16, track_running_stats=False)

    def forward(self, X: Tensor) -> Any:
        return self.head(self.norm(self.hidden(X)))


class Late(Plain):
    """A layer has its first gradient in the fourth step, and none in every third."""

    def __init__(self) -> None:
        super().__init__()
        self.late, self.never, self.passes = nn.Linear(16, 16), nn.Linear(3, 3), 0

    def forward(self, X: Tensor) -> Any:
        self.passes += self.training
        h = self.hidden(X)
        return self.head(h + self.late(h) if self.passes > 3 and self.passes % 3 else h)


class Tied(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.decode = nn.Linear(64, 16, bias=False)
        self.decode.weight = self.first.weight

    def forward(self, X: Tensor) -> Any:
        return self.head(self.hidden(X) + self.decode(X.flatten(1)).tanh())


class SetLater(Plain):
    """Scales by the deviations of the first batch that it sees, as ActNorm; empty memory stands there until then."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.is_set = nn.Parameter(torch.empty(16)), False

    def forward(self, X: Tensor) -> Any:
        h = self.hidden(X)
        if not self.is_set:
            self.is_set = True
            with torch.no_grad():
                self.scale.copy_(1 / (h.std(0) + 1))
        return self.head(h * self.scale)


class Frozen(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.first.requires_grad_(False)


class Thawed(Frozen):
    """Its first layer is trained from the fourth step on."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, X: Tensor) -> Any:
        self.passes += self.training
        if self.passes == 4:
            self.first.requires_grad_(True)
        return super().forward(X)


class Complex(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.spectrum = nn.Parameter(torch.randn(16, dtype=torch.complex64))

    def forward(self, X: Tensor) -> Any:
        return self.head((self.hidden(X) * self.spectrum).abs())


class Double(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.head.double()

    def forward(self, X: Tensor) -> Any:
        return self.head(self.hidden(X).double())


class Hooked(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.first.register_forward_hook(lambda module, inputs, output: output * 1.5)
        self.first.register_forward_pre_hook(lambda module, inputs: (inputs[0] - 0.1,))
        self.head.register_full_backward_hook(lambda module, into, out: (into[0] * 0.5,))
        self.first.weight.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))


class Silent(Plain):
    """Its methods return nothing, and its normalisation is frozen whatever the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16)

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        self.norm.eval()

    def eval(self) -> Any:
        self.train(False)

    def to(self, *args: Any, **kwargs: Any) -> Any:
        super().to(*args, **kwargs)

    def forward(self, X: Tensor) -> Any:
        return self.head(self.norm(self.hidden(X)))


class Normed(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.first = parametrizations.weight_norm(self.first)
        self.middle = parametrizations.spectral_norm(nn.Linear(16, 16))
        self.turn = parametrizations.orthogonal(nn.Linear(16, 16))

    def forward(self, X: Tensor) -> Any:
        return self.head(self.turn(self.middle(self.hidden(X))))


class Sparse(nn.Module):
    """Gradients of its embedding are sparse."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.EmbeddingBag(17, 12, sparse=True), nn.Linear(12, 10)

    def forward(self, X: Tensor) -> Tensor:
        return self.head(self.words(X.flatten(1).clamp(-2, 2).add(2).mul(4).long()))


class Switched(Plain):
    """One switch whose levels change training and not the outputs of the first evaluation."""

    def __init__(self, level: str = "none") -> None:
        super().__init__()
        self.level = level
        self.first.requires_grad_(level != "frozen")
        if level == "slower":
            self.first.weight.register_hook(lambda gradient: gradient / 2)
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, X: Tensor) -> Any:
        h = self.hidden(X)
        if self.level == "averaged" and self.training:
            self.get_buffer("mean").add_(h.detach().mean(0))
        if self.level == "noisy" and self.training:
            h = h + 0.1 * torch.randn_like(h)
        return self.head(h.detach() if self.level == "detached" else h)


# --- what cannot be trained -----------------------------------------------------------------------------------------


class Unmade(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.LazyLinear(3)


class Fixed(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)


class Unset(Plain):
    """Forgets to fill a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.empty(16))

    def forward(self, X: Tensor) -> Any:
        return self.head(self.hidden(X) + self.shift)


class Unrepeatable(Plain):
    """Draws from a generator that nobody seeded."""

    def __init__(self) -> None:
        super().__init__()
        self.first.weight = nn.Parameter(torch.from_numpy(np.random.default_rng().normal(size=(16, 64))).float())


# --- optimizers -----------------------------------------------------------------------------------------------------


def in_groups(params: Iterator[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    weights, biases = [], []
    for one in params:
        (weights if one.ndim > 1 else biases).append(one)
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": 0.01}, {"params": biases, "lr": 2 * lr}]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9)


def hooked(params: Iterator[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Divides gradients by a count of steps, which a hook keeps for itself."""
    optimizer, steps = torch.optim.SGD(params, lr=lr), 0

    def divide(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        nonlocal steps
        steps += 1
        for one in optimizer.param_groups[0]["params"]:
            if one.grad is not None:
                one.grad.div_(1 + 0.1 * steps)

    optimizer.register_step_pre_hook(divide)
    return optimizer


def trainable_only(params: Iterator[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([one for one in params if one.requires_grad], lr=lr, momentum=0.9)


class TwoPasses(torch.optim.SGD):
    """As SAM: the gradient of a second pass, at weights moved along the first; its step needs a closure."""

    def step(self, closure: Callable[[], Tensor]) -> None:  # type: ignore[override]  # it is the point
        closure()
        parameters = [one for group in self.param_groups for one in group["params"]]
        moved = [(one, one.grad.clone()) for one in parameters if one.grad is not None]
        with torch.no_grad():
            for one, gradient in moved:
                one.add_(gradient, alpha=0.05)
            closure()
            for one, gradient in moved:
                one.sub_(gradient, alpha=0.05)
        super().step()


class Averaging(torch.optim.SGD):
    """As schedule-free: evaluates the mean of all weights so far, and counts its steps in an attribute."""

    def __init__(self, params: Iterator[nn.Parameter], lr: float) -> None:
        super().__init__(params, lr)
        self.steps, self.is_training = 0, False
        self.means = [one.detach().clone() for group in self.param_groups for one in group["params"]]

    def _switch(self, training: bool) -> None:
        if training != self.is_training:
            parameters = [one for group in self.param_groups for one in group["params"]]
            for at, one in enumerate(parameters):
                self.means[at], one.data = one.data, self.means[at]
        self.is_training = training

    def train(self) -> None:
        self._switch(True)

    def eval(self) -> None:
        self._switch(False)

    def step(self, closure: Any = None) -> Any:
        if not self.is_training:
            raise RuntimeError("a step in evaluation")
        super().step()
        self.steps += 1
        parameters = [one for group in self.param_groups for one in group["params"]]
        for mean, one in zip(self.means, parameters, strict=True):
            mean.lerp_(one.data, 1 / self.steps)


class WithoutRate(torch.optim.Optimizer):
    """Its steps are of a fixed length."""

    def __init__(self, params: Iterator[nn.Parameter]) -> None:
        super().__init__(params, {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # it has no closure
        for group in self.param_groups:
            for one in group["params"]:
                one.data.sub_(0.001 * one.grad.sign())


def without_rate(params: Iterator[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    return WithoutRate(params)
