"""Examples that stand in two splits: what is learnt by heart would count as what is learnt."""

from __future__ import annotations

import math

import torch

from lab.data.digests import CONTENTS
from lab.data.sets import Images, Splits

FEW = 0.01  # of a split: published data sets have some, which move no score


def repeated(splits: Splits) -> str:
    """Says how many examples of test stand in train or dev, too, and of dev in train; nothing where they are few.

    The same: the same numbers, whatever the label. Images that are read from the disk, or over a gigabyte, are not
    looked at.
    """
    parts = {"train": splits.train, "dev": splits.dev, "test": splits.test}
    if sum(_num_bytes(images) for images in parts.values()) > CONTENTS:
        return ""
    keys = {part: _keys(images) for part, images in parts.items()}
    learnt = {"dev": set(keys["train"]), "test": {*keys["train"], *keys["dev"]}}
    said = []
    for part, known in learnt.items():
        count = sum(key in known for key in keys[part])
        if count > FEW * len(keys[part]):
            said.append(f"{count} of {len(keys[part])} examples of {part}")
    return " and ".join(said)


def _num_bytes(images: Images) -> float:
    return images.images.nbytes if isinstance(images.images, torch.Tensor) else math.inf


def _keys(images: Images) -> list[int]:
    assert isinstance(images.images, torch.Tensor)
    return [hash(example.tobytes()) for example in images.images.numpy()]
