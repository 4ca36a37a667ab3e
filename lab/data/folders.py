"""Folders of image files."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from lab import device as devices
from lab.data.image_files import ImageFiles, size_of
from lab.data.sets import DataError, DataSet, Images


def image_folder(root: Path, path: str) -> DataSet:
    """Folders ``train/<class>/`` and ``test/<class>/`` of image files of one size, read by torchvision."""
    from lab.vision import import_torchvision

    vision = import_torchvision()
    try:
        sets = {part: vision.datasets.ImageFolder(Path(path) / part) for part in ("train", "test")}
    except (OSError, RuntimeError) as error:
        raise DataError(f"data.path: {path}: must hold train/<class>/ and test/<class>/: {error}") from error
    if sets["train"].classes != sets["test"].classes:
        raise DataError(f"data.path: {path}: classes of train {sets['train'].classes} and test {sets['test'].classes}")
    sizes = {size_of(file) for part in sets.values() for file, _ in part.samples}
    if len(sizes) != 1:
        raise DataError(f"data.path: {path}: images must be of one size, got {sorted(sizes)[:5]}")
    ((width, height),) = sizes
    files = {part: ImageFiles([file for file, _ in sets[part].samples], height, width) for part in sets}
    num_bytes = sum(math.prod(one.shape) for one in files.values())
    in_memory = devices.fits(num_bytes, torch.device("cpu"))
    train, test = (
        Images(files[part].all() if in_memory else files[part], torch.tensor(sets[part].targets)) for part in sets
    )
    return DataSet(train, test, num_classes=len(sets["train"].classes))
