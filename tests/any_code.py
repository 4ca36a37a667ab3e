"""Code as users write it, one module that settings turn into thousands: networks, metrics and losses of every kind."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections import namedtuple
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from any_layers import compose
from any_traces import TRACES
from torch import Tensor, nn

Output = namedtuple("Output", ["features", "logits"])


@dataclasses.dataclass
class Answer:
    logits: Tensor
    features: Tensor | None = None


class Mapped(dict):
    """A mapping whose entries are attributes too, as in libraries of language models."""

    __getattr__ = dict.__getitem__


class Counted(nn.Module):
    """Keeps a state that is no tensor, in the way that torch provides for it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def get_extra_state(self) -> int:
        return self.count

    def set_extra_state(self, state: int) -> None:
        self.count = state


class Net(nn.Module):
    """Layers that settings name, and a head; unusual in what it returns, what it keeps and how it computes."""

    def __init__(
        self,
        num_classes: int,
        shape: tuple[int, ...],
        layers: list[Any],
        dtype: str = "float32",
        output: str = "tensor",
        state: str = "none",
        leaves: str = "nothing",
    ) -> None:
        super().__init__()
        self.output, self.state, self.leaves, self.count = output, state, leaves, 0
        self.body, (width,) = compose(layers, tuple(shape))
        self.head = nn.Linear(width, num_classes + (output == "too_many"))
        if state == "buffer":
            self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        if state == "frozen":
            self.head.requires_grad_(False)
        if state == "all_frozen":
            self.requires_grad_(False)
        if state == "tied":
            self.copy = self.head
        self._unusual(state, width)
        if state == "float64":
            self.double()
        self.to(getattr(torch, dtype))

    def _unusual(self, state: str, width: int) -> None:
        match state:
            case "weight_norm":
                self.head = nn.utils.parametrizations.weight_norm(self.head)
            case "orthogonal":
                self.head = nn.utils.parametrizations.orthogonal(self.head)
            case "spectral":
                self.head = nn.utils.parametrizations.spectral_norm(self.head)
            case "bool_buffer":
                self.register_buffer("mask", torch.rand(width) > 0.2)
            case "complex_buffer":
                self.register_buffer("phase", torch.randn(width, dtype=torch.complex64))
            case "not_saved":
                self.register_buffer("scale", torch.rand(width), persistent=False)
            case "hook":
                self.register_forward_hook(lambda module, given, output: output)
            case "gradient_hook":
                self.head.weight.register_hook(lambda gradient: gradient * 0.5)
            case "lock":
                self.lock = threading.Lock()
            case "extra":
                self.extra = Counted()
            case "unused":
                self.spare = nn.Linear(2, 2)
            case "empty":
                self.nothing = nn.Parameter(torch.empty(0))
            case "scalar":
                self.scale = nn.Parameter(torch.ones(()))
            case "by_hand":
                self.head.weight.data.copy_(torch.eye(*self.head.weight.shape))
                self.head.bias.detach().numpy()[:] = 0.5

    def forward(self, X: Tensor) -> Any:
        if self.state == "first_pass":
            if not hasattr(self, "late"):
                self.late = nn.Linear(X[0].numel(), X[0].numel())
            X = self.late(X.flatten(1)).view_as(X)
        h = self.body(X.to(self.head.weight.dtype))
        if self.state in ("scalar", "not_saved"):
            h = h * self.scale
        if self.state == "bool_buffer":
            h = h * self.mask
        if self.training:
            self._remember(h)
        return self._returned(h, self.head(h))

    def _remember(self, h: Tensor) -> None:
        self.count += 1
        if self.count == 2 and self.leaves in TRACES:
            TRACES[self.leaves]()
        if self.state == "buffer":
            self.seen += len(h)
        if self.state == "python":
            h.mul_(1 + 0.1 * random.random()) if not h.requires_grad else None
        if self.state == "extra":
            self.extra.count += 1
        if self.state == "raises" and self.count == 2:
            raise RuntimeError("wires crossed")

    def _returned(self, h: Tensor, logits: Tensor) -> Any:
        match self.output:
            case "tuple":
                return (h if h.shape != logits.shape else h[..., None]), logits  # the first that fits is the logits
            case "dict":
                return {"features": h, "logits": logits}
            case "named":
                return Output(h, logits)
            case "dataclass":
                return Answer(logits, h)
            case "mapped":
                return Mapped(loss=logits.mean(), logits=logits)
            case "nested":
                return {"head": {"scores": logits}, "loss": None}
            case "list":
                return [logits]
            case "two":
                return [logits, logits * 2]
            case "evaluation_alone":
                return logits if self.training else Answer(logits)
            case "numpy":
                return logits.detach().numpy()
            case "float64":
                return logits.double()
            case "int":
                return logits.argmax(1)
            case "half_batch":
                return logits[: len(logits) // 2]
            case "in_place":
                return logits.clone().mul_(2)
            case "strided":
                return logits.T.contiguous().T
            case "sparse":
                return logits.to_sparse()
            case "axis":
                return logits[:, :, None]
            case "none":
                return None
            case "text":
                return "logits"
            case "training_alone":
                return {"logits": logits} if self.training else logits
            case "nan":
                return logits * float("nan")
            case "one":
                return logits.mean()
        return logits


class Score:
    """A metric that returns what it is told to; 0.25 in words, arrays and tensors."""

    better = "higher"

    def __init__(self, gives: str = "float") -> None:
        self.gives, self.count = gives, 0

    def reset(self) -> None:
        self.count = 0

    def update(self, logits: Tensor, y: Tensor) -> None:
        self.count += len(y)

    def compute(self) -> Any:
        if self.gives == "raises":
            raise KeyError("no such class")
        given = {"tensor": torch.tensor(0.25), "array": np.float32(0.25), "many": torch.ones(2), "none": None}
        given |= {"nan": float("nan"), "text": "0.25", "bool": True, "complex": 0.25 + 1j, "inf": float("inf")}
        given |= {"decimal": Decimal("0.25"), "fraction": Fraction(1, 4), "list": [0.25], "mapping": {"score": 0.25}}
        given |= {
            "huge": 10**400,
            "whole": 1,
            "one": torch.ones(1),
            "array_of_one": np.ones((1, 1)),
            "float16": np.float16(0.25),
        }
        given |= {"with_gradient": torch.tensor(0.25, requires_grad=True), "itself": self, "masked": np.ma.masked}
        if self.gives == "asserts":
            assert not self.count
        if self.gives == "stops":
            raise StopIteration
        return given.get(self.gives, 0.25)


class TopK:
    """The share of examples whose class is among the ``k`` likeliest."""

    better, range = "higher", (0, 1)

    def __init__(self, k: int, num_classes: int) -> None:
        self.k = min(k, num_classes)
        self.reset()

    def reset(self) -> None:
        self.right = self.count = 0

    def update(self, logits: Tensor, y: Tensor) -> None:
        self.right += int((logits.topk(self.k).indices == y[:, None]).sum())
        self.count += len(y)

    def accumulate(self) -> float:
        return self.right / self.count


def logits_in(output: Any) -> Any:
    """What the network of this module means by its logits."""
    if isinstance(output, dict):
        return output["logits"] if "logits" in output else output["head"]["scores"]
    if isinstance(output, list):
        return output[0]
    if hasattr(output, "logits"):
        return output.logits
    return output[-1] if isinstance(output, tuple) else output


def loss(logits: Any, labels: Tensor, gives: str = "mean") -> Any:
    """A loss that returns what it is told to."""
    logits = logits if isinstance(logits, Tensor) else logits_in(logits)
    each = nn.functional.cross_entropy(logits, labels, reduction="none")
    match gives:
        case "each":
            return each
        case "float":
            return float(each.mean())
        case "none":
            return None
        case "of_one":
            return each.mean().reshape(1)
        case "pair":
            return each.mean(), {"ce": each.mean()}
        case "detached":
            return each.mean().detach()
        case "nan":
            return each.mean() * float("nan")
        case "negative":
            return -each.mean()
        case "writes":
            labels.zero_()
            return logits.mul_(2).mean()
        case "complex":
            return each.mean() * 1j
        case "sum":
            return each.sum()
    return each.mean()


def focal(output: Any, labels: Tensor, *, gamma: float = 2.0, weights: list[float] | None = None) -> Tensor:
    """Cross-entropy that counts for less where the network is sure (Lin et al. 2017); a weight per class."""
    logs = logits_in(output).float().log_softmax(1)
    scale = 1 if weights is None else torch.tensor([*weights, *[1.0] * logs.shape[1]])[: logs.shape[1]]
    return nn.functional.nll_loss((1 - logs.exp()) ** gamma * logs * scale, labels)


class Annealed(nn.Module):
    """Cross-entropy whose smoothing falls from step to step, by a count that it keeps."""

    def __init__(self, start: float = 0.5) -> None:
        super().__init__()
        self.start = start
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, output: Any, labels: Tensor) -> Tensor:
        steps = self.get_buffer("steps")
        if torch.is_grad_enabled():
            steps += 1
        return nn.functional.cross_entropy(logits_in(output), labels, label_smoothing=self.start / (1 + float(steps)))
