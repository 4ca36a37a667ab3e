"""What training begins with is what the user made: values and state of the network, examples and their labels."""

from __future__ import annotations

from typing import Any

import any_code
import any_data
import numpy as np
import torch
from test_initial_values import relations
from torch import nn
from torch.nn.parameter import is_lazy

from lab.data import Splits, load_data
from lab.process import starting_state
from lab.settings import Settings
from lab.trial import batches, make_runner

CPU = torch.device("cpu")
EXACT = ("float32", "float64", "float16", "list", "object", "tensor", "fortran", "reversed", "read_only", "big_endian")


def assert_network_is_the_users(settings: Settings) -> None:
    """What holds between the values of a network that is constructed plainly holds in the trial's, and nothing more.

    Facts of three networks of the one kind and of two of the other: what holds by chance is in fewer.
    """
    splits = load_data(settings.data, CPU, None)
    plain = [_plain(settings, splits, seed) for seed in range(3)]
    built = [_built(settings.with_seed(seed), splits) for seed in range(2)]
    facts, found = [[relations(network) for network in networks] for networks in (plain, built)]
    lost, won = set.intersection(*facts) - set.intersection(*found), set.intersection(*found) - set.union(*facts)
    for seed in range(3, 15):  # what holds by chance does not hold for ever
        lost = lost and lost & relations(_plain(settings, splits, seed))
        won = won and won & relations(_built(settings.with_seed(seed), splits))
    assert not lost, f"held of networks that are constructed plainly: {lost}"
    assert not won, f"never held of networks that are constructed plainly: {won}"
    assert (begun := _attributes(built[0])) == (wanted := _attributes(plain[0])), (begun, wanted)


def _built(settings: Settings, splits: Splits) -> nn.Module:
    with starting_state(settings.seed):
        return make_runner(settings, splits, CPU).model


def _plain(settings: Settings, splits: Splits, seed: int) -> nn.Module:
    own = {name: value for name, value in settings.model if name not in ("name", "replace", "remove")}
    with starting_state(seed):
        network = any_code.Net(splits.num_classes, **own)
        X, _ = next(iter(batches(settings, splits, "dev")))
        if own.get("state") == "first_pass" or any(map(is_lazy, network.parameters())):
            with torch.no_grad():
                network.eval()(X)
        return network.train()


def _attributes(network: nn.Module) -> dict[str, dict[str, Any]]:
    kinds = (bool, int, float, str)
    return {
        path: {name: value for name, value in vars(module).items() if isinstance(value, kinds) or value == []}
        for path, module in network.named_modules()
    }


def assert_examples_are_the_users(settings: Settings) -> None:
    """Each example has its own label, is in one split, and none is lost."""
    data = settings.data
    own = {name: getattr(data, name) for name in ("shape", "labels", "pixels", "train", "classes")}
    if own["pixels"] not in EXACT or data.spoilt != "none":
        return
    splits, raw = load_data(data, CPU, None), any_data.data(**own)
    found = {}
    for part in ("train", "dev", "test"):
        images = getattr(splits, part)
        whole = next(value for name, value in raw.items() if name.startswith(f"{part.replace('dev', 'train')}_"))
        rows = _laid_out(np.asarray(whole).astype(np.float32), own["shape"])
        places = [_place(rows, image.numpy()) for image in images.images]
        labels = np.arange(len(rows))[places] % own["classes"]
        found[part] = places
        if own["labels"] == "bool":
            labels = labels > 0
        if not splits.is_regression:
            assert images.labels.tolist() == labels.tolist()
        elif own["labels"] != "soft":
            assert images.labels[:, 0].tolist() == (labels + (own["labels"] == "floats") / 2).tolist()
    train = sorted(found["train"] + found["dev"])
    assert len(set(train)) == len(train) == (data.limit or own["train"])
    assert found["test"] == list(range(len(found["test"])))


def _laid_out(rows: np.ndarray, shape: str) -> np.ndarray:
    return rows.transpose(0, 3, 1, 2) if shape == "last" else rows[:, None] if shape == "grey" else rows


def _place(rows: np.ndarray, image: np.ndarray) -> int:
    (place,) = np.flatnonzero((rows == image).reshape(len(rows), -1).all(1))
    return int(place)
