"""Arrays of the user: checked, and taken as images, signals or features with their labels."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lab.data.conversion import as_array, raise_at_other_tables
from lab.data.errors import DataError
from lab.data.labels import read_labels
from lab.data.sets import AXES, DataSet, Images, shape_of

LAYOUTS = ("channels_first", "channels_last")
OTHER_PARTS = ("val", "valid", "validation", "dev", "eval")
EXPECTED = (
    "a mapping with train_images, train_labels, test_images, test_labels (or signals, or features, instead of images)"
)


def npz(root: Path, path: str) -> DataSet:
    """Arrays ``train_images, train_labels, test_images, test_labels`` of a file that numpy wrote.

    Instead of images there may be ``signals`` or ``features``.
    """
    try:
        with Path(path).expanduser().open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = dict(arrays)
    except (OSError, ValueError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise DataError(f"data.path: {path}: cannot be read as .npz: {error}") from error
    return from_arrays(path, found)


def from_arrays(name: str, found: Any) -> DataSet:
    """Makes a data set of what a user's callable or file gave: a DataSet, or a mapping of four arrays.

    The mapping may hold ``num_classes``, and ``layout`` where the shape does not tell where the channels stand. Raises
    :class:`DataError` for what cannot be told or cannot be trained on.
    """
    if isinstance(found, DataSet):
        found = _arrays_of(found)
    found = dict(found) if isinstance(found, Mapping) else found
    word = _word(name, found)
    _raise_at_others(name, found, word)
    raise_at_other_tables(name, found, word)
    layout = str(found.get("layout", "")) or None
    if layout not in (None, *LAYOUTS):
        raise DataError(f"data {name}: layout must be {' or '.join(LAYOUTS)}, got {layout!r}")
    parts = {part: _numbers(name, f"{part}_{word}", found[f"{part}_{word}"]) for part in ("train", "test")}
    labels = read_labels(name, found["train_labels"], found["test_labels"], found.get("num_classes"))
    for part, wanted in (("train", len(labels.train)), ("test", len(labels.test))):
        if len(parts[part]) != wanted:
            shape = tuple(parts[part].shape)
            raise DataError(f"data {name}: {part}_{word} of shape {shape} do not go with {wanted} {part}_labels")
    if parts["train"].shape[1:] != parts["test"].shape[1:]:
        shapes = f"{tuple(parts['train'].shape)} and {tuple(parts['test'].shape)}"
        raise DataError(f"data {name}: train and test {word} must be of one shape, got {shapes}")
    train, test = (_laid_out(name, f"{part}_{word}", inputs, word, layout) for part, inputs in parts.items())
    if word == "images":
        train, test = _of_one_range(name, train, test)
    return DataSet(
        Images(train, torch.from_numpy(labels.train)), Images(test, torch.from_numpy(labels.test)), labels.num_outputs
    )


def _arrays_of(data: DataSet) -> dict[str, Any]:
    """Returns the mapping that a data set of a user's callable stands for; its layout is what it says it is."""
    word = data.train.word
    found: dict[str, Any] = {"layout": "channels_first"}
    for part, images in (("train", data.train), ("test", data.test)):
        found |= {f"{part}_{word}": images.images, f"{part}_labels": images.labels}
    return found if data.train.labels.is_floating_point() else found | {"num_classes": data.num_classes}


def _word(name: str, found: Any) -> str:
    """Tells images, signals and features apart by the names of their arrays."""
    if isinstance(found, dict):
        words = [word for word in AXES if f"train_{word}" in found]
        needed = [f"{part}_{word}" for word in words for part in ("train", "test")] + ["train_labels", "test_labels"]
        if len(words) == 1 and all(key in found for key in needed):
            return words[0]
    got = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
    raise DataError(f"data {name}: must give {EXPECTED}, got {got or 'an empty one'}")


def _raise_at_others(name: str, found: dict[str, Any], word: str) -> None:
    """Raises :class:`DataError` for arrays that would be left out without a word: of another part or name."""
    if other := [key for key in found if str(key).partition("_")[0] in OTHER_PARTS]:
        rule = "train and test alone are taken, dev is drawn from train: join these to train, or leave them out"
        raise DataError(f"data {name}: {rule}; got {', '.join(map(str, other))}")
    taken = [f"{part}_{kind}" for part in ("train", "test") for kind in (word, "labels")]
    if other := [str(key) for key in found if str(key).startswith(("train_", "test_")) and key not in taken]:
        rule = f"would be left out in silence: of train and test {', '.join(taken)} are taken"
        raise DataError(f"data {name}: {', '.join(other)} {rule}")


def _numbers(name: str, array: str, raw: Any) -> Tensor:
    """Converts all but uint8 to a tensor in float32; raises :class:`DataError` at what is not finite."""
    found = as_array(name, array, raw, "an array of numbers")
    if found.dtype.kind not in "biuf" or not found.ndim or not found.size:
        got = f"{found.dtype} of shape {found.shape}"
        raise DataError(f"data {name}: {array} must be an array of numbers, got {got}")
    if found.dtype == np.uint8:
        return torch.from_numpy(np.require(found, requirements=["C", "W"]))
    with np.errstate(over="ignore"):
        inputs = torch.from_numpy(np.require(found, np.float32, ["C", "W"]))
    if not all(map(torch.isfinite, inputs.aminmax())):
        wrong = ~inputs.isfinite().flatten(1).all(1)
        first = f"the first at index {int(wrong.int().argmax())}"
        rule = f"must be finite in float32; {int(wrong.sum())} of {len(wrong)} hold NaN or an infinite number, {first}"
        raise DataError(f"data {name}: {array} {rule}")
    return inputs


# --- layouts --------------------------------------------------------------------------------------------------------


def _laid_out(name: str, array: str, inputs: Tensor, word: str, layout: str | None) -> Tensor:
    """Lays images out as ``(N, C, H, W)``, signals ``(N, C, L)``, features ``(N, F)``; raises :class:`DataError`."""
    shape = tuple(inputs.shape)
    problem = f"data {name}: {array} must be {shape_of(word)}, got {shape}"
    if word == "images" and inputs.ndim == 3:
        if min(shape[1:]) <= 4 and max(shape[1:]) >= 8 * min(shape[1:]):
            ways = f"signals (N, C, L) are named {array.replace(word, 'signals')}, grey images given as (N, 1, H, W)"
            raise DataError(f"{problem}, images of {shape[1]} x {shape[2]}: {ways}")
        return inputs[:, None]
    if inputs.ndim != len(AXES[word]) + 1:
        named = [f"{shape_of(other)} are {array.replace(word, other)}" for other in AXES if other != word]
        raise DataError(f"{problem}; {', '.join(named)}")
    if word == "features":
        return inputs
    if layout is None:
        layout = _layout(*shape[1:])
    if layout is None:
        told = " or ".join(f"layout={layout!r}" for layout in LAYOUTS)
        raise DataError(f"{problem}, which does not tell where the channels are: put {told} beside the arrays")
    return inputs.movedim(-1, 1).contiguous() if layout == "channels_last" else inputs


def _layout(*shape: int) -> str | None:
    """Finds the channels of ``(C, H, W)`` or ``(C, L)``, if the sizes show them beyond doubt.

    The channels are fewer than each of the others, or the others are a square. Channels last are so few as colours in
    signals, which have no square to tell them by.
    """
    first = shape[0] < min(shape[1:]) or (len(shape) == 3 and shape[1] == shape[2] > 1)
    last = shape[-1] < min(shape[:-1]) or (len(shape) == 3 and shape[0] == shape[1] > 1)
    if len(shape) == 2:
        last &= shape[-1] <= 4
    return None if first == last else "channels_first" if first else "channels_last"


# --- ranges ---------------------------------------------------------------------------------------------------------


def _of_one_range(name: str, train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both parts in one dtype; raises :class:`DataError` where they are surely not scaled alike."""
    one, other = (tuple(map(float, inputs.aminmax())) for inputs in (train, test))
    (low, high), (test_low, test_high) = one, other
    mixed = train.dtype != test.dtype and (min(low, test_low) < 0 or max(high, test_high) > 255)
    if _unlike(*one, *other) or _unlike(*other, *one) or mixed:
        ranges = f"train {train.dtype} in {low:g}..{high:g}, test {test.dtype} in {test_low:g}..{test_high:g}"
        raise DataError(f"data {name}: train and test images must be scaled alike, got {ranges}".replace("torch.", ""))
    return (train, test) if train.dtype == test.dtype else (train.float(), test.float())


def _unlike(low: float, high: float, other_low: float, other_high: float) -> bool:
    """Tells whether one part is in 0..1 and the other is not, or one is around zero and the other never below it."""
    return (low >= 0 and 0 < high <= 1 and other_high > 2) or (low < -0.1 * abs(high) and other_low >= 0 < other_high)
