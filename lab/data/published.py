"""Published data sets: as torchvision, Debian or scikit-learn keep them."""

from __future__ import annotations

import functools
import gzip
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from lab.data.errors import DataError
from lab.data.sets import DataSet, Images
from lab.data.splits import split

DATA_DIR_VARIABLE = "LAB_DATA_DIR"
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def _digits(root: Path) -> DataSet:
    table = torch.from_numpy(np.loadtxt(_scikit_learn("digits.csv.gz"), delimiter=",", dtype=np.uint8))
    return _a_fifth_to_test(Images(table[:, :-1].reshape(-1, 1, 8, 8).contiguous(), table[:, -1].long()), 10)


def _scikit_learn(name: str) -> Path:
    """Reads one of scikit-learn's own files, found without importing it, which would take 2 s."""
    package = importlib.util.find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "datasets" / "data" / name


def _a_fifth_to_test(examples: Images, num_classes: int) -> DataSet:
    """Takes a fixed fifth as the test: of each class, or of a regression drawn from all."""
    strata = examples.labels if examples.labels.ndim == 1 else torch.zeros(len(examples), dtype=torch.int64)
    rest, test = split(strata.numpy(), math.ceil(0.2 * len(examples)), seed=0)
    return DataSet(examples[torch.from_numpy(rest)], examples[torch.from_numpy(test)], num_classes)


def _table(root: Path, file: str, num_classes: int) -> DataSet:
    """Features ``(N, F)`` with their class in the last column."""
    table = np.loadtxt(_scikit_learn(file), delimiter=",", skiprows=1, dtype=np.float32)
    labels = torch.from_numpy(table[:, -1]).long()
    return _a_fifth_to_test(Images(torch.from_numpy(table[:, :-1].copy()), labels), num_classes)


def _diabetes(root: Path) -> DataSet:
    """Efron et al. (2004): ten features as measured, and how far the disease came in a year, 25 to 346."""
    features, target = (
        np.loadtxt(_scikit_learn(f"diabetes_{name}.csv.gz"), dtype=np.float32) for name in ("data_raw", "target")
    )
    return _a_fifth_to_test(Images(torch.from_numpy(features), torch.from_numpy(target)[:, None]), 1)


def _idx(path: Path) -> Tensor:
    """Reads one file of the MNIST family (http://yann.lecun.com/exdb/mnist), packed or not."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        raw = file.read()
    shape = [int.from_bytes(raw[4 * i : 4 * i + 4], "big") for i in range(1, raw[3] + 1)]
    if int(np.prod(shape)) != len(raw) - 4 - 4 * len(shape):
        raise DataError(f"{path}: must hold {'x'.join(map(str, shape))} bytes, holds {len(raw) - 4 - 4 * len(shape)}")
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).copy().reshape(shape))


def _idx_set(folder: Path, num_classes: int, *, prefix: str = "", suffix: str = "", first_label: int = 0) -> DataSet:
    def images(part: str) -> Images:
        pixels, labels = (_idx(folder / f"{prefix}{name}{suffix}") for name in IDX_FILES[part])
        return Images(pixels[:, None], labels.long() - first_label)

    return DataSet(images("train"), images("test"), num_classes)


def _mnist_like(root: Path, folder: str, num_classes: int = 10) -> DataSet:
    """Reads a set that torchvision keeps as ``<root>/<folder>/raw/*-ubyte``, downloaded by torchvision if missing."""
    raw = root / folder / "raw"
    if folder == "FashionMNIST" and not raw.exists() and DEBIAN_FASHION_MNIST.exists():
        return _idx_set(DEBIAN_FASHION_MNIST, num_classes, suffix=".gz")
    if not all((raw / name).exists() for names in IDX_FILES.values() for name in names):
        _torchvision(root, folder, train=True)
    return _idx_set(raw, num_classes)


def _emnist(root: Path, split: str) -> DataSet:
    """EMNIST (Cohen et al. 2017); its images are stored with rows and columns exchanged, as torchvision reads them."""
    train, test = (_torchvision(root, "EMNIST", train=train, split=split) for train in (True, False))
    first = 1 if split == "letters" else 0
    sets = [Images(part.data[:, None], part.targets.long() - first) for part in (train, test)]
    return DataSet(sets[0], sets[1], num_classes=int(max(s.labels.max() for s in sets)) + 1)


def _cifar(root: Path, name: str, num_classes: int) -> DataSet:
    sets = [_torchvision(root, name, train=train) for train in (True, False)]
    channels_first = [torch.from_numpy(s.data).permute(0, 3, 1, 2).contiguous() for s in sets]
    train, test = (Images(x, torch.tensor(s.targets)) for x, s in zip(channels_first, sets, strict=True))
    return DataSet(train, test, num_classes)


def _svhn(root: Path) -> DataSet:
    sets = [_torchvision(root, "SVHN", split=part) for part in ("train", "test")]
    train, test = (Images(torch.from_numpy(s.data).contiguous(), torch.from_numpy(s.labels).long()) for s in sets)
    return DataSet(train, test, num_classes=10)


def _torchvision(root: Path, name: str, **which: Any) -> Any:
    """Reads the torchvision data set from ``root``, downloaded there once under a lock where it is missing."""
    from lab.vision import import_torchvision

    kind = getattr(import_torchvision().datasets, name)
    try:
        return kind(root, download=False, **which)
    except RuntimeError:
        pass  # torchvision's word for: not there
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"):
            return kind(root, download=True, **which)
    except (OSError, RuntimeError) as error:
        ways = [
            f"--data-dir or the environment variable {DATA_DIR_VARIABLE} naming a torchvision root that has it",
            f"torchvision.datasets.{name}(root, download=True) where there is a network, and the folder copied here",
        ]
        if name == "FashionMNIST":
            ways.append(f"Debian's package dataset-fashion-mnist, which is looked for in {DEBIAN_FASHION_MNIST}")
        missing = f"{name} is not in {root} and cannot be downloaded ({error})"
        raise DataError(f"{missing}. Ways to get it: {'; '.join(ways)}") from error


PUBLISHED: dict[str, Callable[..., DataSet]] = {
    "digits": _digits,
    "breast_cancer": functools.partial(_table, file="breast_cancer.csv", num_classes=2),
    "wine": functools.partial(_table, file="wine_data.csv", num_classes=3),
    "diabetes": _diabetes,
    "mnist": functools.partial(_mnist_like, folder="MNIST"),
    "fashion_mnist": functools.partial(_mnist_like, folder="FashionMNIST"),
    "kmnist": functools.partial(_mnist_like, folder="KMNIST"),
    "emnist": _emnist,
    "cifar10": functools.partial(_cifar, name="CIFAR10", num_classes=10),
    "cifar100": functools.partial(_cifar, name="CIFAR100", num_classes=100),
    "svhn": _svhn,
}
