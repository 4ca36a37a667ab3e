"""Arrays of the user: checked, and taken as images with labels."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lab.data.sets import DataError, DataSet, Images

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def npz(root: Path, path: str) -> DataSet:
    """Arrays ``train_images, train_labels, test_images, test_labels`` of a file that numpy wrote."""
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = dict(arrays)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"data.path: {path}: cannot be read as .npz: {error}") from error
    return from_arrays(path, found)


def from_arrays(name: str, found: Any) -> DataSet:
    """What a user's callable or file gave: a DataSet, or a mapping of four arrays with ``num_classes`` if it likes."""
    if isinstance(found, DataSet):
        return found
    if not isinstance(found, dict) or any(key not in found for key in ARRAYS):
        got = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
        raise DataError(f"data {name}: must give a mapping with {', '.join(ARRAYS)}, got {got or 'an empty one'}")
    train, test = (_images(name, part, found[f"{part}_images"], found[f"{part}_labels"]) for part in ("train", "test"))
    if train.images.shape[1:] != test.images.shape[1:]:
        shapes = f"{tuple(train.images.shape)} and {tuple(test.images.shape)}"
        raise DataError(f"data {name}: train and test images must be of one shape (C, H, W), got {shapes}")
    labels = torch.cat([train.labels, test.labels])
    lowest, highest = int(labels.min()), int(labels.max())
    num_classes = int(found.get("num_classes", highest + 1))
    if lowest < 0 or highest >= num_classes:
        raise DataError(f"data {name}: labels must be in 0..{num_classes - 1}, got {lowest}..{highest}")
    return DataSet(train, test, num_classes)


def _images(name: str, part: str, images: Any, labels: Any) -> Images:
    try:
        images, labels = torch.as_tensor(images), torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"data {name}: {part} must be arrays of numbers: {error}") from error
    images = images[:, None] if images.ndim == 3 else images
    if images.ndim != 4 or labels.ndim != 1 or len(images) != len(labels) or not len(labels):
        shapes = f"{tuple(images.shape)} and {tuple(labels.shape)}"
        raise DataError(f"data {name}: {part} must be images (N, H, W) or (N, C, H, W) with labels (N,), got {shapes}")
    if labels.is_floating_point():
        raise DataError(f"data {name}: {part}_labels must be integers, got {labels.dtype}")
    return Images(images if images.dtype == torch.uint8 else images.float(), labels.long())
