"""The splits of a trial: read, split, placed on its device, and kept for the next trial."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import replace
from json import dumps  # by name: user code may have put another in its place
from pathlib import Path

import numpy as np
import torch

from lab import device as devices
from lab.data.digests import digest
from lab.data.errors import DataError
from lab.data.image_files import ImageFiles
from lab.data.moments import moments
from lab.data.sets import DataSet, Images, Splits, shape_of
from lab.data.sources import default_data_dir, read
from lab.data.splits import split, stratified
from lab.process import unseeded
from lab.settings import DataSettings

SPLIT_SETTINGS = ("dev_fraction", "split_seed", "limit", "channels")


@unseeded()
def load_data(settings: DataSettings, device: torch.device, data_dir: Path | None = None) -> Splits:
    """Loads the splits of a trial on ``device``: dev is taken from train by ``split_seed``, test is the data set's own.

    Raises :class:`DataError`, also for settings that only images have, or :class:`lab.parts.PartError`, in words that
    name the file or function and the reason.
    """
    own = {name: value for name, value in settings if name not in DataSettings.model_fields}
    source = settings.name, data_dir or default_data_dir(), dumps(own, sort_keys=True)
    try:
        splits = _splits(*source, *(getattr(settings, name) for name in SPLIT_SETTINGS))
    except OSError as error:
        raise DataError(f"data {settings.name}: cannot be read: {error}") from error
    if splits.dims != 2:
        _refuse_image_settings(settings, splits)
    return _placed(splits, device)


def _refuse_image_settings(settings: DataSettings, splits: Splits) -> None:
    for name, off in (("size", None), ("augment", "none"), ("channels", None)):
        value = getattr(settings, name)
        if value != off:
            rule = f"goes with images alone; these are {shape_of(splits.train.word)}, which mlp and own networks take"
            raise DataError(f"data.{name}: {rule}; got {value} (a network that takes images alone sets a size)")


@functools.lru_cache(maxsize=2)
def _splits(
    name: str, root: Path, own: str, dev_fraction: float, split_seed: int, limit: int | None, channels: int | None
) -> Splits:
    """Makes the splits in the host's memory. Only their images are kept, not the data set that they were taken from."""
    data = read(name, root, own)
    train, dev = (data.train[torch.from_numpy(index)] for index in _indices(data, dev_fraction, split_seed, limit))
    parts = {"train": train, "dev": dev, "test": data.test}
    digests = {f"{part}_digest": digest(images.images, images.labels) for part, images in parts.items()}
    parts = _in_memory(parts)
    mean, deviation = moments(parts["train"].images)
    if channels is not None and mean.ndim == 3 and channels != len(mean):
        if len(mean) != 1:
            raise DataError(f"data.channels: only grey images can be repeated; these have {len(mean)} channels")
        mean, deviation = mean.expand(channels, 1, 1), deviation.expand(channels, 1, 1)
    return Splits(**parts, num_classes=data.num_classes, mean=mean, deviation=deviation, digests=digests)


def _indices(data: DataSet, dev_fraction: float, split_seed: int, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Draws the indices of train and dev: stratified by class; of a regression, from all alike."""
    labels = data.train.labels.numpy()
    strata = labels if data.train.labels.ndim == 1 else np.zeros(len(labels), int)
    pool = np.arange(len(labels))
    if limit is not None and limit < len(labels):
        pool = stratified(strata, limit, split_seed)
    num_dev = max(1, round(dev_fraction * len(pool)))
    rest, dev = split(strata[pool], num_dev, split_seed)
    if not len(rest):
        raise DataError(f"data: {len(pool)} training images leave none to train on beside {num_dev} for dev")
    lost = np.setdiff1d(strata[pool[dev]], strata[pool[rest]])
    if len(lost):
        rule = f"class {lost[0]} has one training image, which goes to dev: none is left to train on"
        raise DataError(f"data: {rule}; leave the class out, or give it more images")
    return pool[rest], pool[dev]


def _in_memory(parts: Mapping[str, Images]) -> dict[str, Images]:
    """Reads image files into the host's memory if all of them fit there."""
    files = {part: images.images for part, images in parts.items() if isinstance(images.images, ImageFiles)}
    if not files or not devices.fits(sum(math.prod(one.shape) for one in files.values()), torch.device("cpu")):
        return dict(parts)
    return {part: Images(files[part].all(), images.labels) for part, images in parts.items()}


@functools.lru_cache(maxsize=2)
def _placed(splits: Splits, device: torch.device) -> Splits:
    """Returns the splits with their images on the device, as far as they fit there."""
    if device.type == "cpu":
        return splits
    return replace(
        splits,
        train=splits.train.settle(device),
        dev=splits.dev.settle(device),
        test=splits.test.settle(device),
        mean=splits.mean.to(device),
        deviation=splits.deviation.to(device),
    )
