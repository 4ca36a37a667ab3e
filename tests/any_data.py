"""Data as users give them: arrays of every shape, type and kind of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


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
        import pandas as pd  # here and below: it takes half a second, of each process that reads the data

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
            import pandas as pd

            return pd.Series(np.array(["cat", "dog", "eel", "fox", "gnu"])[y])
        case "category":
            import pandas as pd

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
