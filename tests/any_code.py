"""Code as users write it, one module that settings turn into thousands: networks, data and metrics of every kind."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections import namedtuple
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

Output = namedtuple("Output", ["features", "logits"])
NORMS = {
    "none": nn.Identity,
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
    "untracked": lambda width: nn.BatchNorm1d(width, track_running_stats=False),
    "average": lambda width: nn.BatchNorm1d(width, momentum=None),
    "group": lambda width: nn.GroupNorm(1, width),
    "lazy": lambda width: nn.LazyBatchNorm1d(),
}


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
    """A fully connected network that is unusual in what it returns, what it keeps and in which type it computes."""

    def __init__(
        self,
        num_classes: int,
        width: int = 4,
        norm: str = "none",
        dtype: str = "float32",
        output: str = "tensor",
        state: str = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.output, self.state, self.count = output, state, 0
        self.first, self.norm = nn.LazyLinear(width), NORMS[norm](width) if norm != "none" else nn.Identity()
        self.drop, self.head = nn.Dropout(dropout), nn.Linear(width, num_classes + (output == "too_many"))
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
        if self.state == "first_pass" and not hasattr(self, "late"):
            self.late = nn.Linear(X.flatten(1).shape[1], X.flatten(1).shape[1])
        if self.state == "first_pass":
            X = self.late(X.flatten(1).float())
        h = self.drop(self.norm(self.first(X.flatten(1).to(self.head.weight.dtype)))).relu()
        if self.state in ("scalar", "not_saved"):
            h = h * self.scale
        if self.state == "bool_buffer":
            h = h * self.mask
        if self.training:
            self._remember(h)
        return self._returned(h, self.head(h))

    def _remember(self, h: Tensor) -> None:
        self.count += 1
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
                return h, logits
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
                return logits, logits * 2
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


def data(
    shape: str = "features",
    labels: str = "plain",
    pixels: str = "float32",
    spoilt: str = "none",
    train: int = 24,
    classes: int = 3,
) -> dict[str, Any]:
    """Arrays of so many training examples, a third as many to test on."""
    draw = np.random.default_rng(0)
    sizes = {"features": (5,), "images": (1, 6, 6), "last": (6, 6, 3), "grey": (6, 6), "signals": (2, 9), "thin": ()}
    sizes |= {"wide": (3, 6, 9), "one_pixel": (1, 1, 1), "volume": (1, 4, 4, 4), "one_feature": (1,)}
    name = dict.fromkeys(("features", "thin", "one_feature"), "features") | {"signals": "signals"}
    name = name.get(shape, "images")
    found = {}
    for split, count in (("train", train), ("test", max(1, train // 3))):
        y = np.arange(count) % classes
        X = draw.normal(size=(count, *sizes[shape])) + y.reshape(-1, *[1] * len(sizes[shape]))
        found[f"{split}_{name}"] = _spoilt(_pixels(X, pixels), spoilt, split)
        found[f"{split}_labels"] = _labels(y, labels, classes)
    return found


def _pixels(X: np.ndarray, kind: str) -> Any:
    if kind == "uint8":
        return ((X - X.min()) / np.ptp(X) * 255).astype(np.uint8)
    if kind == "int16":
        return (100 * X).astype(np.int16)
    if kind == "bool":
        return X > 0
    if kind == "tensor":
        return torch.from_numpy(X).float()
    if kind == "list":
        return X.tolist()
    if kind == "object":
        return X.astype(object)
    if kind == "fortran":
        return np.asfortranarray(X.astype(np.float32))
    if kind == "reversed":
        return X.astype(np.float32)[..., ::-1]
    if kind == "read_only":
        X = X.astype(np.float32)
        X.flags.writeable = False
        return X
    if kind == "big_endian":
        return X.astype(">f4")
    if kind == "masked":
        return np.ma.masked_less(X, -1)
    if kind == "frame":
        return pd.DataFrame(X.reshape(len(X), -1))
    if kind == "texts":
        return X.astype(str)
    if kind == "with_gradient":
        return torch.from_numpy(X).float().requires_grad_()
    if kind == "bfloat16":
        return torch.from_numpy(X).bfloat16()
    if kind == "huge":
        return X * 1e300
    return X.astype(kind)


def _spoilt(X: Any, how: str, split: str) -> Any:
    if how == "nan" and split == "test" and getattr(X, "dtype", None) in (np.float32, np.float64):
        X[0] = np.nan
    if how == "constant":
        return X * 0
    if how == "short" and split == "test":
        return X[:-1]
    if how == "none_at_all" and split == "test":
        return None
    return X


def _labels(y: np.ndarray, kind: str, classes: int) -> Any:
    match kind:
        case "from_one":
            return y + 1
        case "gaps":
            return y * 10
        case "strings":
            return np.array(["cat", "dog", "eel", "fox", "gnu"])[y]
        case "one_hot":
            return np.eye(classes)[y]
        case "column":
            return y[:, None]
        case "floats":
            return y + 0.5
        case "negative":
            return y - 1
        case "bool":
            return y > 0
        case "tensor":
            return torch.from_numpy(y)
        case "list":
            return y.tolist()
        case "int8" | "uint64" | "float32":
            return y.astype(kind)
        case "series":
            return pd.Series(np.array(["cat", "dog", "eel", "fox", "gnu"])[y])
        case "category":
            return pd.Categorical(np.array(["cat", "dog", "eel", "fox", "gnu"])[y])
        case "objects":
            return np.array([f"class {one}" for one in y], object)
        case "mixed":
            return np.array([one if one else "none" for one in y.tolist()], object)
        case "bytes":
            return np.array([b"cat", b"dog", b"eel", b"fox", b"gnu"])[y]
        case "dates":
            return np.array(y, "datetime64[D]")
        case "nan":
            return np.where(y == 0, np.nan, y)
        case "soft":
            return np.eye(classes)[y] * 0.8 + 0.2 / classes
        case "masked":
            return np.ma.masked_equal(y, 0)
        case "complex":
            return y + 1j
        case "large":
            return y + 2**40
    return y


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
