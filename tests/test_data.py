"""Data: read as it came, split without overlap, prepared on the device as torchvision would."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lab.data import Batches, DataError, Images, Splits, default_data_dir, load_data, loading, published
from lab.data.batches import move
from lab.data.image_files import ImageFiles
from lab.data.splits import split
from lab.device import fits
from lab.settings import DATASETS, DataSettings, Settings, num_classes, parse_section
from lab.trial import run_trial
from lab.vision import import_torchvision

CPU = torch.device("cpu")
Write = Callable[[str, str], None]
Random = np.random.Generator


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """No data set is remembered from one test to the next."""
    yield
    forget()


def forget() -> None:
    loading._placed.cache_clear()
    loading._splits.cache_clear()


@pytest.fixture
def random() -> Random:
    return np.random.default_rng(0)


def load(data_dir: Path | None = None, **settings: Any) -> Splits:
    parsed = parse_section("data", settings)
    assert isinstance(parsed, DataSettings)
    return load_data(parsed, CPU, data_dir)


def numbered(num_images: int, *, channels: int = 1, size: int = 4) -> Images:
    """Images whose every pixel, and label, is the image's number."""
    numbers = torch.arange(num_images)
    pixels = numbers.to(torch.uint8)[:, None, None, None].expand(-1, channels, size, size).contiguous()
    return Images(pixels, numbers)


def batches(images: Images, size: int, mean: float = 0.0, deviation: float = 1.0, **settings: Any) -> Batches:
    channels = images.images.shape[1]
    moments = [torch.full((channels, 1, 1), value) for value in (mean, deviation)]
    return Batches(images, Splits(images, images, images, 10, *moments), size=size, **{"batch_size": 4, **settings})


# --- digits ---------------------------------------------------------------------------------------------------------


def test_digits_are_1437_images_to_train_on_and_360_to_test() -> None:
    digits = load(name="digits")
    assert (len(digits.train) + len(digits.dev), len(digits.test)) == (1437, 360)
    assert len(digits.dev) == round(0.1 * 1437)
    for part in (digits.train, digits.dev, digits.test):
        assert part.images.dtype == torch.uint8
        assert part.images.shape[1:] == (1, 8, 8)
        assert part.labels.dtype == torch.int64
        assert set(part.labels.tolist()) == set(range(10))
    assert (digits.num_classes, digits.in_channels) == (10, 1)


def test_digits_are_scikit_learns_and_each_stands_in_one_split() -> None:
    from sklearn.datasets import load_digits

    ours: Counter[bytes] = Counter()
    digits = load(name="digits")
    for part in (digits.train, digits.dev, digits.test):
        for image, label in zip(part.images, part.labels.tolist(), strict=True):
            ours[bytes([label, *image.flatten().tolist()])] += 1
    theirs = load_digits()
    assert ours == Counter(
        bytes([label, *image.astype(int)]) for image, label in zip(theirs.data, theirs.target, strict=True)
    )


def test_the_test_split_is_the_data_sets_own_whatever_else_is_set() -> None:
    test = load(name="digits").test
    for other in ({"split_seed": 3}, {"dev_fraction": 0.5}, {"limit": 100}):
        assert torch.equal(load(name="digits", **other).test.images, test.images)


# --- splits ---------------------------------------------------------------------------------------------------------


@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=200),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_split_has_no_overlap_misses_nothing_and_gives_each_class_its_share(
    labels: list[int], share: float, seed: int
) -> None:
    count = max(1, round(share * len(labels)))
    rest, chosen = split(np.array(labels), count, seed)
    assert sorted([*rest, *chosen]) == list(range(len(labels)))
    assert len(chosen) == count
    in_all, in_chosen = Counter(labels), Counter(labels[i] for i in chosen)
    for label, size in in_all.items():
        assert abs(in_chosen[label] - size * count / len(labels)) < 1


def test_what_is_left_over_goes_to_the_largest_remainders() -> None:
    labels = np.repeat([0, 1, 2, 3], [6, 15, 18, 11])
    chosen = split(labels, 12, 0)[1]  # shares of 12 in 50: 1.44, 3.6, 4.32, 2.64
    assert Counter(labels[chosen].tolist()) == {0: 1, 1: 4, 2: 4, 3: 3}


def test_a_split_is_the_same_every_time_and_another_with_another_seed() -> None:
    labels = np.arange(300) % 3
    first, again, other = (split(labels, 30, seed)[1].tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_dev_is_drawn_by_split_seed() -> None:
    first, again, other = (load(name="digits", split_seed=seed).dev.images for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_dev_fraction_is_of_the_training_images() -> None:
    half = load(name="digits", dev_fraction=0.5)
    assert (len(half.train), len(half.dev)) == (1437 - 718, 718)  # 718.5 goes to the even number


def test_limit_counts_train_and_dev_together_and_keeps_the_share_of_each_class() -> None:
    few = load(name="digits", limit=200)
    assert (len(few.train), len(few.dev)) == (180, 20)
    full = load(name="digits")
    everything = Counter(torch.cat([full.train.labels, full.dev.labels]).tolist())
    limited = Counter(torch.cat([few.train.labels, few.dev.labels]).tolist())
    for label, size in everything.items():
        assert abs(limited[label] - size * 200 / 1437) < 1


def test_a_limit_above_the_size_of_the_set_changes_nothing() -> None:
    assert torch.equal(load(name="digits", limit=5000).train.images, load(name="digits").train.images)


def test_a_limit_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match="1 training images leave none to train on beside 1 for dev"):
        load(name="digits", limit=1)


# --- normalising ----------------------------------------------------------------------------------------------------


def test_mean_and_deviation_are_those_of_the_training_splits_pixels() -> None:
    digits = load(name="digits")
    pixels = digits.train.images.numpy().astype(np.float64)
    assert float(digits.mean) == pytest.approx(pixels.mean(), rel=1e-6)
    assert float(digits.deviation) == pytest.approx(pixels.std(), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_each_channel_has_its_own_mean_and_deviation(workshop: Write, random: Random, dtype: type) -> None:
    images: np.ndarray = random.integers(0, 256, (60, 3, 6, 6)).astype(dtype)
    images[:, 1] //= 4
    images[:, 2] = 7
    labels = np.arange(60) % 3
    np.savez("images.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    splits = load(name="npz", path="images.npz")
    pixels = splits.train.images.numpy().astype(np.float64)
    np.testing.assert_allclose(splits.mean.flatten(), pixels.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(splits.deviation[:2].flatten(), pixels.std((0, 2, 3))[:2], rtol=1e-6)
    assert float(splits.deviation[2]) == 1, "a channel without variation is only centred"


def test_training_images_come_out_with_mean_0_and_deviation_1() -> None:
    digits = load(name="digits")
    X = torch.cat([X for X, _ in Batches(digits.train, digits, batch_size=100, size=8)])
    assert float(X.mean()) == pytest.approx(0, abs=1e-5)
    assert float(X.std(correction=0)) == pytest.approx(1, abs=1e-5)


# --- resizing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("native", "size"),
    [((8, 8), 32), ((28, 28), 32), ((28, 28), 224), ((32, 32), 28), ((32, 32), 8), ((20, 30), 24), ((8, 8), 8)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_prepared_as_torchvision_would(native: tuple[int, int], size: int, channels: int) -> None:
    functional = import_torchvision().transforms.functional
    pixels = torch.randint(0, 256, (5, channels, *native), dtype=torch.uint8)
    resized = functional.resize(pixels.float(), [size, size], antialias=True)
    expected = functional.normalize(resized, [33.0] * channels, [80.0] * channels)
    X = batches(Images(pixels, torch.zeros(5)), size, mean=33.0, deviation=80.0).prepare(pixels)
    assert X.dtype == torch.float32
    torch.testing.assert_close(X, expected, atol=2e-5, rtol=0)


def test_images_stay_as_they_came_until_they_are_a_batch() -> None:
    digits = load(name="digits")
    X, y = next(iter(Batches(digits.train, digits, batch_size=16, size=32)))
    assert (X.shape, X.dtype, y.dtype) == ((16, 1, 32, 32), torch.float32, torch.int64)
    assert digits.train.images.dtype == torch.uint8
    assert digits.train.images.shape[-1] == 8


def test_grey_images_are_repeated_to_as_many_channels_as_are_asked_for() -> None:
    grey, colour = load(name="digits"), load(name="digits", channels=3)
    assert colour.in_channels == 3
    assert colour.train.images.shape[1] == 1, "repeated in the batch, not in memory"
    X, _ = next(iter(Batches(grey.train, grey, batch_size=4, size=16)))
    X3, _ = next(iter(Batches(colour.train, colour, batch_size=4, size=16)))
    torch.testing.assert_close(X3, X.expand(-1, 3, -1, -1))


# --- batches --------------------------------------------------------------------------------------------------------


def labels_of(loader: Batches) -> list[list[int]]:
    return [y.tolist() for _, y in loader]


def test_without_an_order_the_images_come_as_they_stand() -> None:
    assert labels_of(batches(numbered(10), 4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@given(num_images=st.integers(1, 40), batch_size=st.integers(1, 12), order=st.none() | st.integers(0, 9))
def test_every_image_comes_once_an_epoch_and_the_length_is_told(
    num_images: int, batch_size: int, order: int | None
) -> None:
    loader = batches(numbered(num_images), 4, batch_size=batch_size, order=order)
    epoch = labels_of(loader)
    assert len(loader) == len(epoch)
    assert all(len(labels) == batch_size for labels in epoch[:-1])
    seen = [label for labels in epoch for label in labels]
    assert len(set(seen)) == len(seen)
    alone = order is not None and num_images > batch_size and num_images % batch_size == 1 and batch_size > 1
    assert len(seen) == num_images - alone, "in training, a last image alone is left out: BatchNorm cannot take it"


def test_image_and_label_stay_together() -> None:
    for X, y in batches(numbered(50), 4, order=3):
        assert X[:, 0, 0, 0].tolist() == y.tolist()


def test_each_epoch_draws_an_order_of_its_own_and_repeats_itself_with_the_seed() -> None:
    loader, same, other = (batches(numbered(50), 4, order=order) for order in (1, 1, 2))
    first = labels_of(loader)
    assert labels_of(loader) == first, "the epoch says the order, not how often it was asked for"
    loader.set_epoch(1)
    assert labels_of(loader) != first
    assert labels_of(same) == first
    assert labels_of(other) != first


def test_neither_the_augmentation_nor_other_draws_move_the_order() -> None:
    first = labels_of(batches(numbered(50), 4, order=1))
    torch.rand(3)
    assert labels_of(batches(numbered(50), 4, order=1, augment="flip_shift")) == first


# --- augmentation ---------------------------------------------------------------------------------------------------


def move_slowly(image: np.ndarray, down: int, right: int, mirror: int) -> np.ndarray:
    """One channel, pixel by pixel."""
    height, width = image.shape
    moved = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                moved[row, column] = image[row - down, column - right]
    return moved[:, ::-1] if mirror else moved


@pytest.mark.parametrize(("channels", "height", "width", "reach"), [(1, 8, 8, 1), (3, 16, 16, 2), (2, 10, 17, 3)])
def test_moving_is_shifting_zeros_in_and_then_mirroring(channels: int, height: int, width: int, reach: int) -> None:
    steps = range(-reach, reach + 1)
    moves = torch.tensor([(down, right, mirror) for down in steps for right in steps for mirror in (0, 1)])
    images = torch.randint(1, 256, (len(moves), channels, height, width), dtype=torch.uint8)
    moved = move(images, moves, reach)
    assert moved.dtype == torch.uint8
    expected = [
        [move_slowly(channel, *by) for channel in image]
        for image, by in zip(images.numpy(), moves.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(moved, np.array(expected))


def single_pixels(num_images: int, size: int = 16) -> Images:
    """A bright pixel in the middle, right of the axis: where it ends up tells how the image was moved."""
    images = torch.zeros(num_images, 1, size, size, dtype=torch.uint8)
    images[:, 0, size // 2, size // 2 + 3] = 255
    return Images(images, torch.arange(num_images))


def places(X: Tensor) -> set[tuple[int, int]]:
    return {tuple(place) for place in X[:, 0].nonzero()[:, 1:].tolist()}


def test_a_shift_goes_up_to_an_eighth_of_the_side_each_way() -> None:
    X = torch.cat([X for X, _ in batches(single_pixels(400), 16, order=0, augment="shift")])
    assert places(X) == {(8 + down, 11 + right) for down in range(-2, 3) for right in range(-2, 3)}


def test_flip_and_shift_mirrors_half_of_the_images_as_well() -> None:
    X = torch.cat([X for X, _ in batches(single_pixels(400), 16, order=0, augment="flip_shift")])
    columns = X[:, 0].nonzero()[:, 2]
    assert set(columns.tolist()) == {*range(9, 14), *range(2, 7)}
    assert 160 < int((columns < 8).sum()) < 240  # 200 expected, deviation 10


def test_an_images_move_does_not_depend_on_the_batch_it_is_in() -> None:
    def moved(batch_size: int) -> dict[int, Tensor]:
        loader = batches(single_pixels(60), 16, order=5, augment="flip_shift", batch_size=batch_size)
        return {int(label): image for X, y in loader for image, label in zip(X, y, strict=True)}

    one, other = moved(7), moved(20)
    assert all(torch.equal(one[i], other[i]) for i in one.keys() & other.keys())


def test_each_epoch_draws_an_augmentation_of_its_own_and_repeats_itself_with_the_seed() -> None:
    loader, same = (batches(single_pixels(60), 16, order=5, augment="shift", batch_size=60) for _ in range(2))
    sort = lambda pair: pair[0][pair[1].argsort()]  # noqa: E731  # by image, so that the order does not count
    (first,), (again,) = map(sort, loader), map(sort, same)
    loader.set_epoch(1)
    (second,) = map(sort, loader)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_images_are_not_moved_where_they_come_as_they_stand() -> None:
    (X, _), *_ = batches(single_pixels(8), 16, augment="flip_shift", batch_size=8)
    assert places(X) == {(8, 11)}


# --- files of the MNIST family --------------------------------------------------------------------------------------


def write_idx(path: Path, array: np.ndarray) -> None:
    """As published at http://yann.lecun.com/exdb/mnist: magic number, sizes, bytes."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((gzip.compress if path.suffix == ".gz" else bytes)(head + array.astype(np.uint8).tobytes()))


def write_idx_set(
    folder: Path, random: Random, *, suffix: str = "", prefix: str = "", test: str = "t10k-", first: int = 0
) -> dict[str, np.ndarray]:
    """40 images to train and 20 to test; returns the arrays."""
    made = {}
    for part, count in (("train-", 40), (test, 20)):
        made[part + "images"] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        made[part + "labels"] = np.arange(count, dtype=np.uint8) % 10 + first
        write_idx(folder / f"{prefix}{part}images-idx3-ubyte{suffix}", made[part + "images"])
        write_idx(folder / f"{prefix}{part}labels-idx1-ubyte{suffix}", made[part + "labels"])
    return made


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_a_torchvision_root_works_as_it_is(tmp_path: Path, random: Random, name: str, folder: str) -> None:
    made = write_idx_set(tmp_path / folder / "raw", random)
    splits = load(tmp_path, name=name)
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (36, 4, 20)
    np.testing.assert_array_equal(splits.test.images[:, 0], made["t10k-images"])
    np.testing.assert_array_equal(splits.test.labels, made["t10k-labels"])
    trained_on = {image.tobytes() for part in (splits.train, splits.dev) for image in part.images.numpy()}
    assert trained_on == {image.tobytes() for image in made["train-images"]}


def test_the_default_folder_is_the_one_that_the_environment_names(data_dir: Path, random: Random) -> None:
    write_idx_set(data_dir / "MNIST" / "raw", random)
    assert len(load(name="mnist").test) == 20


def test_the_default_folder_is_else_a_cache_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_DATA_DIR")
    assert default_data_dir().parts[-2:] == ("ablation-bench", "data")


def test_fashion_mnist_is_found_in_the_layout_of_debians_package(
    tmp_path: Path, data_dir: Path, random: Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write_idx_set(tmp_path / "fashion-mnist", random, suffix=".gz")
    monkeypatch.setattr(published, "DEBIAN_FASHION_MNIST", tmp_path / "fashion-mnist")
    np.testing.assert_array_equal(load(data_dir, name="fashion_mnist").test.images[:, 0], made["t10k-images"])


def test_the_users_own_root_comes_before_debians_package(
    tmp_path: Path, data_dir: Path, random: Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx_set(tmp_path / "fashion-mnist", random, suffix=".gz")
    own = write_idx_set(data_dir / "FashionMNIST" / "raw", random)
    monkeypatch.setattr(published, "DEBIAN_FASHION_MNIST", tmp_path / "fashion-mnist")
    np.testing.assert_array_equal(load(data_dir, name="fashion_mnist").test.images[:, 0], own["t10k-images"])


@pytest.mark.skipif(
    not published.DEBIAN_FASHION_MNIST.exists(), reason="Debian's package dataset-fashion-mnist is not installed"
)
def test_debians_fashion_mnist_is_whole(data_dir: Path) -> None:
    splits = load(data_dir, name="fashion_mnist")
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (54_000, 6_000, 10_000)
    assert torch.bincount(splits.test.labels).tolist() == [1000] * 10
    assert torch.bincount(splits.dev.labels).tolist() == [600] * 10
    assert float(splits.mean) / 255 == pytest.approx(0.2860, abs=0.001)  # as published for all 60,000
    assert float(splits.deviation) / 255 == pytest.approx(0.3530, abs=0.001)


def test_a_file_cut_short_is_refused(tmp_path: Path, random: Random) -> None:
    write_idx_set(tmp_path / "MNIST" / "raw", random)
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(DataError, match="must hold 40x28x28 bytes, holds 31355"):
        load(tmp_path, name="mnist")


@pytest.mark.parametrize(("emnist", "first", "num_classes"), [("letters", 1, 10), ("digits", 0, 10)])
def test_emnist_is_read_by_split_and_its_labels_start_at_0(
    tmp_path: Path, random: Random, emnist: str, first: int, num_classes: int
) -> None:
    raw = tmp_path / "EMNIST" / "raw"
    made = write_idx_set(raw, random, prefix=f"emnist-{emnist}-", test="test-", first=first)
    splits = load(tmp_path, name="emnist", split=emnist)
    assert splits.num_classes == num_classes
    np.testing.assert_array_equal(splits.test.images[:, 0], made["test-images"])
    np.testing.assert_array_equal(splits.test.labels, made["test-labels"] - first)


# --- other torchvision sets -----------------------------------------------------------------------------------------


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def write_cifar(folder: Path, random: Random, kind: Any, label: str, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Five training images per file and four to test; torchvision is told their check sums."""
    folder.mkdir(parents=True)
    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for part, files in (("train_list", kind.train_list), ("test_list", kind.test_list)):
        for name, _ in files:
            count = 5 if part == "train_list" else 4
            pixels = random.integers(0, 256, (count, 3 * 32 * 32), dtype=np.uint8)
            labels = [i % 2 for i in range(count)] if part == "train_list" else list(range(count))
            (folder / name).write_bytes(pickle.dumps({"data": pixels, label: labels}))
            lists[part].append([name, md5(folder / name)])
    meta = folder / kind.meta["filename"]
    meta.write_bytes(pickle.dumps({kind.meta["key"]: [str(i) for i in range(10)]}))
    for part, files in lists.items():
        monkeypatch.setattr(kind, part, files)
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(meta)})
    return pixels.reshape(-1, 3, 32, 32)


@pytest.mark.parametrize(
    ("name", "kind", "label", "trained_on", "num_classes"),
    [("cifar10", "CIFAR10", "labels", 25, 10), ("cifar100", "CIFAR100", "fine_labels", 5, 100)],
)
def test_a_cifar_root_works_as_it_is(
    tmp_path: Path, random: Random, monkeypatch: pytest.MonkeyPatch,
    name: str, kind: str, label: str, trained_on: int, num_classes: int,
) -> None:  # fmt: skip
    made = getattr(import_torchvision().datasets, kind)
    test = write_cifar(tmp_path / made.base_folder, random, made, label, monkeypatch)
    splits = load(tmp_path, name=name)
    assert len(splits.train) + len(splits.dev) == trained_on
    assert (splits.num_classes, splits.in_channels) == (num_classes, 3)
    np.testing.assert_array_equal(splits.test.images, test)
    assert splits.test.labels.tolist() == [0, 1, 2, 3]


def test_an_svhn_root_works_as_it_is(tmp_path: Path, random: Random, monkeypatch: pytest.MonkeyPatch) -> None:
    import scipy.io

    svhn = import_torchvision().datasets.SVHN
    lists = {}
    for part, count in (("train", 20), ("test", 10)):
        pixels = random.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        file = tmp_path / f"{part}_32x32.mat"
        scipy.io.savemat(file, {"X": pixels, "y": np.arange(count)[:, None] % 10 + 1})
        lists[part] = [*svhn.split_list[part][:2], md5(file)]
    monkeypatch.setattr(svhn, "split_list", lists)
    splits = load(tmp_path, name="svhn")
    np.testing.assert_array_equal(splits.test.images, pixels.transpose(3, 2, 0, 1))
    assert splits.test.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0], "SVHN writes the digit 0 as 10"


# --- data that is not there -----------------------------------------------------------------------------------------


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(published, "DEBIAN_FASHION_MNIST", Path("/nowhere/fashion-mnist"))


@pytest.mark.usefixtures("_offline")
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist", "emnist", "cifar10", "cifar100", "svhn"])
def test_missing_data_offline_names_the_folder_and_the_ways_to_get_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path / "here", name=name)
    message = str(caught.value)
    assert f"is not in {tmp_path / 'here'} and cannot be downloaded" in message
    assert "no network" in message
    for way in ("--data-dir", "LAB_DATA_DIR", "torchvision.datasets."):
        assert way in message
    assert ("dataset-fashion-mnist, which is looked for in /nowhere/fashion-mnist" in message) is (
        name == "fashion_mnist"
    )


def test_missing_data_is_downloaded_once_under_a_lock(
    tmp_path: Path, random: Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads = []

    def download(self: Any) -> None:
        downloads.append(1)
        with pytest.raises(Timeout):
            FileLock(tmp_path / ".MNIST.lock").acquire(timeout=0)
        write_idx_set(Path(self.raw_folder), random)

    monkeypatch.setattr(import_torchvision().datasets.MNIST, "download", download)
    assert len(load(tmp_path, name="mnist").test) == 20
    loading._placed.cache_clear()
    assert len(load(tmp_path, name="mnist").test) == 20
    assert len(downloads) == 1


# --- files and callables of the user --------------------------------------------------------------------------------


def arrays(**changes: Any) -> dict[str, Any]:
    labels = np.arange(30) % 3
    images = np.zeros((30, 5, 5), np.uint8)
    return {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels, **changes}


def test_an_npz_file_is_a_data_set(tmp_path: Path, random: Random) -> None:
    images = random.integers(0, 256, (30, 3, 5, 6), dtype=np.uint8)
    np.savez_compressed(tmp_path / "mine.npz", **arrays(train_images=images, test_images=images))
    splits = load(name="npz", path=str(tmp_path / "mine.npz"))
    assert (splits.num_classes, splits.in_channels) == (3, 3)
    np.testing.assert_array_equal(splits.test.images, images)


def test_how_many_classes_a_built_in_set_has_is_known_without_reading_it() -> None:
    splits = import_torchvision().datasets.EMNIST.classes_split_dict
    for name in splits:
        known = num_classes(DATASETS["emnist"](name="emnist", split=name))
        assert known == len(set(splits[name]) - {"N/A"})
    parsed = {name: DATASETS[name](name=name) for name in DATASETS if name not in ("npz", "image_folder", "diabetes")}
    assert all(num_classes(data) for data in parsed.values())
    assert num_classes(parsed["digits"]) == load(name="digits").num_classes
    assert num_classes(parse_section("data", {"name": "npz", "path": "mine.npz"})) is None


def test_num_classes_may_be_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **arrays(num_classes=7))
    assert load(name="npz", path=str(tmp_path / "mine.npz")).num_classes == 7


def test_floating_images_are_taken_as_they_are(tmp_path: Path, random: Random) -> None:
    images = random.normal(size=(30, 5, 5))
    np.savez(tmp_path / "mine.npz", **arrays(train_images=images, test_images=images))
    test = load(name="npz", path=str(tmp_path / "mine.npz")).test.images
    assert test.dtype == torch.float32
    np.testing.assert_allclose(test[:, 0], images, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train_labels": np.arange(29)}, r"train_images of shape \(30, 5, 5\) do not go with 29 train_labels"),
        (
            {"train_images": np.zeros((30, 25), np.uint8)},
            r"train and test images must be of one shape, got \(30, 25\) and \(30, 5, 5\)",
        ),
        ({"test_images": np.zeros((0, 5, 5))}, r"test_images must be an array of numbers, got float64 of shape \(0,"),
        ({"test_labels": np.zeros(0, int)}, r"test_labels must be integers or strings \(N,\), .*, got int64 of shape"),
        ({"test_images": np.zeros((30, 6, 5), np.uint8)}, r"of one shape, got \(30, 5, 5\) and \(30, 6, 5\)"),
        ({"train_labels": np.arange(30) / 3}, "train_labels are targets, test_labels are integers"),
        ({"train_labels": np.arange(30) - 1}, r"labels must not be negative, got -1..28; where -1 marks"),
        ({"num_classes": 2}, r"labels must be in 0..1 with num_classes 2, got 0..2"),
        ({"num_classes": "three"}, "num_classes must be an integer > 0"),
        ({"train_labels": np.array(["a"] * 30)}, "train_labels are strings, test_labels are integers"),
        ({"train_images": np.array([["a"] * 5] * 30)}, "train_images must be an array of numbers, got <U1 of shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_one_sentence(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    np.savez(tmp_path / "mine.npz", **arrays(**changes))
    with pytest.raises(DataError, match=says) as caught:
        load(name="npz", path=str(tmp_path / "mine.npz"))
    assert "mine.npz" in str(caught.value)
    assert "cannot be read" not in str(caught.value)


def test_an_npz_without_an_array_says_what_it_has(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", images=np.zeros(3))
    with pytest.raises(DataError, match=r"must give a mapping with train_images, .*, got images"):
        load(name="npz", path=str(tmp_path / "mine.npz"))


@pytest.mark.parametrize("content", [None, b"", b"not numpy's", b"PK\x03\x04 cut short", "npy"])
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes | str | None) -> None:
    file = tmp_path / "mine.npz"
    if content == "npy":
        with file.open("wb") as opened:
            np.save(opened, np.zeros(3))
    elif isinstance(content, bytes):
        file.write_bytes(content)
    with pytest.raises(DataError, match=r"data.path: .*mine.npz: cannot be read as .npz"):
        load(name="npz", path=str(file))


def write_image(path: Path, size: tuple[int, int], value: int) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 255)).save(path)


def test_a_folder_of_images_is_a_data_set(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label, kind in enumerate(("cat", "dog")):
            for i in range(6):
                write_image(tmp_path / part / kind / f"{i}.png", (7, 5), 10 * label + i)
    splits = load(name="image_folder", path=str(tmp_path))
    assert (len(splits.train) + len(splits.dev), len(splits.test), splits.num_classes) == (12, 12, 2)
    assert splits.test.images.shape == (12, 3, 5, 7)
    assert splits.test.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15]
    assert splits.test.labels.tolist() == [0] * 6 + [1] * 6


@pytest.mark.parametrize("worth_a_process", [1, 10**6])
def test_images_that_do_not_fit_are_read_as_they_are_asked_for_with_the_same_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worth_a_process: int
) -> None:
    for part in ("train", "test"):
        for label, kind in enumerate(("cat", "dog")):
            for i in range(12):
                write_image(tmp_path / part / kind / f"{i}.png", (8, 8), 90 * label + i)
    raw = {
        "data": {"name": "image_folder", "path": str(tmp_path), "augment": "flip_shift", "size": 9, "batch_size": 5},
        "model": {"name": "mlp", "hidden": [4]},
        "optimizer": {"name": "momentum", "lr": 0.05},
        "train": {"epochs": 2},
    }
    in_memory = run_trial(Settings.parse(raw), device="cpu")
    forget()
    monkeypatch.setattr("lab.device.fits", lambda num_bytes, device: False)
    monkeypatch.setattr("lab.data.image_files.WORTH_A_PROCESS", worth_a_process)
    assert isinstance(load(name="image_folder", path=str(tmp_path)).train.images, ImageFiles)
    streamed = run_trial(Settings.parse(raw), device="cpu")
    forget()
    assert [point.scores for point in streamed.curve] == [point.scores for point in in_memory.curve]
    assert streamed.measures["final_train_loss"] == in_memory.measures["final_train_loss"]
    assert streamed.correct == in_memory.correct


def test_what_fits_is_an_eighth_of_the_memory_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.device.whole_memory", lambda: 8000)
    assert fits(1000, torch.device("cpu"))
    assert not fits(1001, torch.device("cpu"))
    monkeypatch.setattr("lab.device.whole_memory", lambda: None)
    assert fits(2**50, torch.device("cpu")), "where the system does not say"


def test_a_folder_of_images_must_have_train_and_test(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold train/<class>/ and test/<class>/"):
        load(name="image_folder", path=str(tmp_path))


def test_images_of_a_folder_must_be_of_one_size(tmp_path: Path) -> None:
    for part, size in (("train", (7, 5)), ("test", (7, 6))):
        write_image(tmp_path / part / "cat" / "0.png", size, 0)
    with pytest.raises(DataError, match=r"one size, got 7 x 5 \(.*0.png\) and 7 x 6 \(.*\); data.resize: N"):
        load(name="image_folder", path=str(tmp_path))


def test_train_and_test_folders_must_have_the_same_classes(tmp_path: Path) -> None:
    for part, kind in (("train", "cat"), ("test", "dog")):
        write_image(tmp_path / part / kind / "0.png", (7, 5), 0)
    with pytest.raises(DataError, match="train alone has 'cat', test alone has 'dog'"):
        load(name="image_folder", path=str(tmp_path))


SETS = """
import numpy as np

def blank(root, sizes: list[int] = [30, 9], value: int = 3):
    labels = [np.arange(size) % 3 for size in sizes]
    images = [np.full((size, 4, 4), value, np.uint8) for size in sizes]
    (root / "seen").write_text("root was given")
    return dict(train_images=images[0], train_labels=labels[0], test_images=images[1], test_labels=labels[1])

def nothing():
    return None
"""


def test_a_users_callable_is_a_data_set(tmp_path: Path, workshop: Write) -> None:
    workshop("my_sets", SETS)
    splits = load(tmp_path, name="my_sets:blank", sizes=[50, 6], value=9)
    assert (len(splits.train) + len(splits.dev), len(splits.test)) == (50, 6)
    assert splits.test.images.unique().tolist() == [9]
    assert (tmp_path / "seen").exists()


def test_a_callable_that_gives_no_arrays_is_refused(tmp_path: Path, workshop: Write) -> None:
    workshop("my_sets", SETS)
    with pytest.raises(
        DataError, match=r"data my_sets:nothing: must give a mapping with train_images, .*, got NoneType"
    ):
        load(tmp_path, name="my_sets:nothing")


def test_only_grey_images_can_be_repeated(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "mine.npz", **{**arrays(), **{f"{p}_images": np.zeros((30, 3, 5, 5)) for p in ("train", "test")}}
    )
    with pytest.raises(DataError, match="only grey images can be repeated; these have 3 channels"):
        load(name="npz", path=str(tmp_path / "mine.npz"), channels=4)
