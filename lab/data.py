"""Data sets as uint8 tensors on the device; batches are selected, resized and normalised there."""

from __future__ import annotations

import functools
import gzip
import importlib.util
import inspect
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from platformdirs import user_cache_path
from torch import Tensor

from lab import device as devices
from lab import parts
from lab.image_files import ImageFiles, size_of
from lab.process import unseeded
from lab.settings import DataSettings
from lab.streams import generator

DATA_DIR_VARIABLE = "LAB_DATA_DIR"
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


class DataError(ValueError):
    """A data set cannot be had; the message says where it was looked for and how to get it."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images ``(N, C, H, W)`` uint8 (or float, already scaled as wished) with labels ``(N,)`` int64.

    They lie on the device of a trial where they fit, else in the host's memory, else on the disk.
    """

    images: Tensor | ImageFiles
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> Images:
        return Images(self.images.index_select(0, index), self.labels.index_select(0, index))

    def to(self, device: torch.device) -> Images:
        return Images(self.images.to(device), self.labels.to(device))

    def settle(self, device: torch.device) -> Images:
        """On the device if they fit there, else as they are."""
        num_bytes = math.prod(self.images.shape) * self.images.dtype.itemsize
        return self.to(device) if devices.fits(num_bytes, device) else self

    def read(self, indices: Sequence[Tensor], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of a batch, on the device, for each of the indices, which lie on that of the labels."""
        if isinstance(self.images, ImageFiles):
            pieces = self.images.read(indices, pin_memory=device.type == "cuda")
        else:
            pieces = (self.images.index_select(0, index) for index in indices)
        for index, images in zip(indices, pieces, strict=True):
            labels = self.labels.index_select(0, index)
            there = images.device == device
            yield (images, labels) if there else (devices.transfer(images, device), devices.transfer(labels, device))


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set as published: its own training and test images."""

    train: Images
    test: Images
    num_classes: int


@dataclass(frozen=True, eq=False)
class Splits:
    """The images of a trial on its device, and the mean and deviation ``(C, 1, 1)`` of the training split's pixels."""

    train: Images
    dev: Images
    test: Images
    num_classes: int
    mean: Tensor
    deviation: Tensor

    @property
    def in_channels(self) -> int:
        return self.mean.shape[0]


# --- splits ---------------------------------------------------------------------------------------------------------


def stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Sorted indices of ``count`` images, each class by its share to within one (largest remainder).

    Drawn with numpy's legacy generator, whose stream is frozen, so that a split is the same under every version.
    """
    random = np.random.RandomState(seed)
    classes, sizes = np.unique(labels, return_counts=True)
    shares = sizes * (count / len(labels))
    counts = np.floor(shares).astype(int)
    short = count - counts.sum()
    counts[np.argsort(counts - shares, kind="stable")[:short]] += 1
    chosen = [random.permutation(np.flatnonzero(labels == c))[:k] for c, k in zip(classes, counts, strict=True)]
    return np.sort(np.concatenate(chosen))


def split(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the rest and of ``count`` stratified images, both sorted, without overlap."""
    chosen = stratified(labels, count, seed)
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


@unseeded()
def load_data(settings: DataSettings, device: torch.device, data_dir: Path | None = None) -> Splits:
    """The splits of a trial on ``device``: dev is taken from train by ``split_seed``, test is the data set's own."""
    own = {name: value for name, value in settings if name not in DataSettings.model_fields}
    source = settings.name, data_dir or default_data_dir(), json.dumps(own, sort_keys=True)
    return _placed(_splits(*source, *(getattr(settings, name) for name in SPLIT_SETTINGS)), device)


SPLIT_SETTINGS = ("dev_fraction", "split_seed", "limit", "channels")


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
    mean, deviation = _moments(train.images)
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


def _moments(images: Tensor | ImageFiles) -> tuple[Tensor, Tensor]:
    """Mean and deviation over all pixels of a channel, each ``(C, 1, 1)``, computed in float64."""
    if images.dtype == torch.uint8:  # by counts of the 256 values: exact, whatever the pieces
        pieces: Iterable[Tensor] = images.pieces() if isinstance(images, ImageFiles) else [images]
        counts = [torch.stack([_counts(channel) for channel in piece.unbind(1)]) for piece in pieces]
        channels = [_moments_of_counts(count) for count in torch.stack(counts).sum(0)]
    else:
        assert isinstance(images, Tensor)
        channels = [_moments_of_floats(channel) for channel in images.unbind(1)]
    mean, deviation = torch.tensor(channels).T[:, :, None, None]
    deviation[deviation == 0] = 1  # a channel without variation is only centred
    return mean, deviation


def _counts(pixels: Tensor) -> Tensor:
    return torch.bincount(pixels.flatten(), minlength=256)


def _moments_of_counts(counts: Tensor) -> tuple[float, float]:
    weights, values = counts.double(), torch.arange(256, dtype=torch.float64)
    mean = float(weights @ values / weights.sum())
    return mean, math.sqrt(weights @ (values - mean).square() / weights.sum())


def _moments_of_floats(pixels: Tensor) -> tuple[float, float]:
    variance, average = torch.var_mean(pixels.double(), correction=0)
    return float(average), math.sqrt(variance)


# --- batches --------------------------------------------------------------------------------------------------------


class Batches:
    """Iterates over ``(X, y)``: X ``(N, C, size, size)`` float, normalised, on the images' device.

    Images that do not lie there are brought there a batch at a time. With an ``order`` seed, each epoch has its own
    order and augmentation, drawn from streams that depend on nothing else; without, the images come as they stand. All
    images are used; a last batch of a single image is left out in training, since BatchNorm cannot normalise it.
    """

    def __init__(
        self,
        images: Images,
        splits: Splits,
        *,
        batch_size: int,
        size: int,
        order: int | None = None,
        augment: str = "none",
    ) -> None:
        self.images, self.batch_size = images, batch_size
        self.device = splits.mean.device
        self._order, self._augment = order, augment
        self._mean, self._inverse = splits.mean, 1 / splits.deviation
        native = images.images.shape[-2:]
        self._resize = None if native == (size, size) else [resize_matrix(n, size).to(self.device) for n in native]
        self.set_epoch(0)

    def __len__(self) -> int:
        full, last = divmod(len(self.images), self.batch_size)
        smallest = 1 if self._order is None or not full else 2
        return full + (last >= smallest)

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is that epoch."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        indices, moves = self._indices(), self._moves()
        for index, (images, labels) in zip(indices, self.images.read(indices, self.device), strict=True):
            if moves is not None:
                images = move(images, moves.index_select(0, index).to(self.device), self._reach)
            yield self.prepare(images), labels

    def _indices(self) -> Sequence[Tensor]:
        """Of the epoch's batches, on the device of the labels."""
        if self._order is None:
            order = torch.arange(len(self.images))
        else:
            order = torch.randperm(len(self.images), generator=generator(self._order, "order", self._epoch))
        return order.to(self.images.labels.device).split(self.batch_size)[: len(self)]

    @property
    def _reach(self) -> int:
        """The largest shift in native pixels."""
        return max(1, self.images.images.shape[-1] // 8)

    def _moves(self) -> Tensor | None:
        """``(num_images, 3)``: rows down, columns right, mirrored or not; for each image of the epoch."""
        if self._augment == "none" or self._order is None:
            return None
        stream = generator(self._order, "augment", self._epoch)
        shifts = torch.randint(-self._reach, self._reach + 1, (len(self.images), 2), generator=stream)
        flips = torch.randint(0, 2, (len(self.images), 1), generator=stream)
        moves = torch.cat([shifts, flips * (self._augment == "flip_shift")], dim=1)
        return moves.to(self.images.labels.device)

    def prepare(self, images: Tensor) -> Tensor:
        """Native images to what the network takes: float, resized (antialiased bilinear), normalised."""
        X = (images.float() - self._mean).mul_(self._inverse)
        if self._resize is None:
            return X
        rows, columns = self._resize
        return rows @ (X @ columns.T)  # columns first: that product takes all images at once


def resize_matrix(native: int, size: int) -> Tensor:
    """``(size, native)``: antialiased bilinear resizing of one axis, which is linear, as a matrix.

    The weights are those of ``torch.nn.functional.interpolate``, read off by resizing the identity; two small matrix
    products then do what it does, several times faster on a CPU.
    """
    identity = torch.eye(native)[None, None]
    return F.interpolate(identity, size=(size, native), mode="bilinear", antialias=True, align_corners=False)[0, 0]


def move(images: Tensor, moves: Tensor, reach: int) -> Tensor:
    """Each image ``(N, C, H, W)`` shifted by whole pixels, with zeros moving in, then mirrored.

    ``moves`` is ``(N, 3)``: rows down and columns right, each from ``-reach`` to ``reach``, and 1 to mirror, else 0.
    """
    num_images, channels, height, width = images.shape
    down, right, mirror = moves.unsqueeze(-1).unbind(1)
    columns = torch.arange(width, device=images.device)
    columns = torch.where(mirror == 1, columns.flip(0), columns) + reach - right
    rows = torch.arange(height, device=images.device) + reach - down
    pixel = rows.unsqueeze(-1) * (width + 2 * reach) + columns.unsqueeze(-2)
    padded = F.pad(images, [reach] * 4).flatten(2)
    return padded.gather(2, pixel.view(num_images, 1, -1).expand(-1, channels, -1)).view_as(images)


# --- data sets ------------------------------------------------------------------------------------------------------


def default_data_dir() -> Path:
    """The folder named by the environment, else a cache folder of the user."""
    named = os.environ.get(DATA_DIR_VARIABLE)
    return Path(named) if named else user_cache_path("ablation-bench") / "data"


def read(name: str, root: Path, own: str = "{}") -> DataSet:
    """The data set ``name``; ``own`` is its own settings as JSON. Raises :class:`DataError` where it is missing."""
    settings = json.loads(own)
    if name in READERS:
        return READERS[name](root, **settings)
    part = parts.load(name)
    given: dict[str, Any] = {"root": root} if "root" in inspect.signature(part).parameters else {}
    return _from_arrays(name, part(**settings, **given))


def _digits(root: Path) -> DataSet:
    """Read from scikit-learn's own file, since importing scikit-learn would take 2 s; a fixed fifth is the test."""
    package = importlib.util.find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    table = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.uint8))
    images = Images(table[:, :-1].reshape(-1, 1, 8, 8).contiguous(), table[:, -1].long())
    rest, test = split(images.labels.numpy(), math.ceil(0.2 * len(images)), seed=0)
    return DataSet(images[torch.from_numpy(rest)], images[torch.from_numpy(test)], num_classes=10)


def _idx(path: Path) -> Tensor:
    """One file of the MNIST family (http://yann.lecun.com/exdb/mnist), packed or not."""
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
    """A set that torchvision keeps as ``<root>/<folder>/raw/*-ubyte``; downloaded by torchvision where it is not."""
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
    """The torchvision data set from ``root``, downloaded there once under a lock where it is missing."""
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


def _npz(root: Path, path: str) -> DataSet:
    """Arrays ``train_images, train_labels, test_images, test_labels`` of a file that numpy wrote."""
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = dict(arrays)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"data.path: {path}: cannot be read as .npz: {error}") from error
    return _from_arrays(path, found)


def _image_folder(root: Path, path: str) -> DataSet:
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


def _from_arrays(name: str, found: Any) -> DataSet:
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


PUBLISHED: dict[str, Callable[..., DataSet]] = {
    "digits": _digits,
    "mnist": functools.partial(_mnist_like, folder="MNIST"),
    "fashion_mnist": functools.partial(_mnist_like, folder="FashionMNIST"),
    "kmnist": functools.partial(_mnist_like, folder="KMNIST"),
    "emnist": _emnist,
    "cifar10": functools.partial(_cifar, name="CIFAR10", num_classes=10),
    "cifar100": functools.partial(_cifar, name="CIFAR100", num_classes=100),
    "svhn": _svhn,
}
READERS: dict[str, Callable[..., DataSet]] = PUBLISHED | {"npz": _npz, "image_folder": _image_folder}
