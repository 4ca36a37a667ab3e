"""Code as users write it, one module that settings turn into thousands: networks, data and metrics of every kind."""

from __future__ import annotations

import random
from collections import namedtuple
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Output = namedtuple("Output", ["features", "logits"])
NORMS = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


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
        if state == "float64":
            self.double()
        self.to(getattr(torch, dtype))

    def forward(self, X: Tensor) -> Any:
        h = self.drop(self.norm(self.first(X.flatten(1).to(self.head.weight.dtype)))).relu()
        if self.training:
            self._remember(h)
        return self._returned(h, self.head(h))

    def _remember(self, h: Tensor) -> None:
        self.count += 1
        if self.state == "buffer":
            self.seen += len(h)
        if self.state == "python":
            h.mul_(1 + 0.1 * random.random()) if not h.requires_grad else None
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
    name = {"features": "features", "signals": "signals", "thin": "features"}.get(shape, "images")
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
        return given.get(self.gives, 0.25)
