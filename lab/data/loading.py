"""The splits of a trial: read, split, placed on its device, and kept for the next trial."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import torch

from lab.data.moments import moments
from lab.data.sets import DataError, Splits
from lab.data.sources import default_data_dir, read
from lab.data.splits import split, stratified
from lab.process import unseeded
from lab.settings import DataSettings

SPLIT_SETTINGS = ("dev_fraction", "split_seed", "limit", "channels")


@unseeded()
def load_data(settings: DataSettings, device: torch.device, data_dir: Path | None = None) -> Splits:
    """The splits of a trial on ``device``: dev is taken from train by ``split_seed``, test is the data set's own.

    Raises :class:`DataError` or :class:`lab.parts.PartError` in words that name the file or function and the reason.
    """
    own = {name: value for name, value in settings if name not in DataSettings.model_fields}
    source = settings.name, data_dir or default_data_dir(), json.dumps(own, sort_keys=True)
    try:
        splits = _splits(*source, *(getattr(settings, name) for name in SPLIT_SETTINGS))
    except OSError as error:
        raise DataError(f"data {settings.name}: cannot be read: {error}") from error
    return _placed(splits, device)


@functools.lru_cache(maxsize=2)
def _splits(
    name: str, root: Path, own: str, dev_fraction: float, split_seed: int, limit: int | None, channels: int | None
) -> Splits:
    """In the host's memory. Only the images of the splits are kept, not the data set that they were taken from."""
    data = read(name, root, own)
    labels = data.train.labels.numpy()
    pool = np.arange(len(labels))
    if limit is not None and limit < len(labels):
        pool = stratified(labels, limit, split_seed)
    num_dev = max(1, round(dev_fraction * len(pool)))
    rest, dev = split(labels[pool], num_dev, split_seed)
    if not len(rest):
        raise DataError(f"data: {len(pool)} training images leave none to train on beside {num_dev} for dev")
    train = data.train[torch.from_numpy(pool[rest])]
    mean, deviation = moments(train.images)
    if channels is not None and channels != len(mean):
        if len(mean) != 1:
            raise DataError(f"data.channels: only grey images can be repeated; these have {len(mean)} channels")
        mean, deviation = mean.expand(channels, 1, 1), deviation.expand(channels, 1, 1)
    return Splits(
        train=train,
        dev=data.train[torch.from_numpy(pool[dev])],
        test=data.test,
        num_classes=data.num_classes,
        mean=mean,
        deviation=deviation,
    )


@functools.lru_cache(maxsize=2)
def _placed(splits: Splits, device: torch.device) -> Splits:
    """The splits with their images on the device, as far as they fit there."""
    if device.type == "cpu":
        return splits
    return Splits(
        train=splits.train.settle(device),
        dev=splits.dev.settle(device),
        test=splits.test.settle(device),
        num_classes=splits.num_classes,
        mean=splits.mean.to(device),
        deviation=splits.deviation.to(device),
    )
