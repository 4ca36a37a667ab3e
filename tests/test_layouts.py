"""Layouts, ranges and labels of the user's data: told by names and sizes, right or refused in words, never guessed."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import sparse

from lab.data import Batches, DataError, Splits, load_data
from lab.data.arrays import from_arrays
from lab.data.image_files import ImageFiles
from lab.data.leaks import repeated
from lab.settings import DataSettings, parse_section

CPU = torch.device("cpu")
Random = np.random.Generator


@pytest.fixture
def random() -> Random:
    return np.random.default_rng(0)


def load(**settings: Any) -> Splits:
    parsed = parse_section("data", settings)
    assert isinstance(parsed, DataSettings)
    return load_data(parsed, CPU)


def arrays(inputs: np.ndarray, labels: Any = None, word: str = "images", **more: Any) -> dict[str, Any]:
    """The same examples to train on and to test."""
    labels = np.arange(len(inputs)) % 3 if labels is None else labels
    both = {f"{part}_{word}": inputs for part in ("train", "test")}
    return both | {"train_labels": labels, "test_labels": labels} | more


def test_images(shape: tuple[int, ...], **more: Any) -> torch.Tensor:
    images = np.arange(np.prod(shape)).reshape(shape) % 251
    read = from_arrays("mine", arrays(images.astype(np.uint8), **more)).test.images
    assert isinstance(read, torch.Tensor)
    return read


test_images.__test__ = False  # type: ignore[attr-defined]  # a reader, not a test


# --- where the channels are -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "read"),
    [
        ((6, 16, 16, 3), (6, 3, 16, 16)),
        ((6, 16, 20, 3), (6, 3, 16, 20)),
        ((6, 32, 24, 1), (6, 1, 32, 24)),
        ((6, 12, 12, 30), (6, 30, 12, 12)),  # 30 bands of a square
        ((6, 3, 16, 16), (6, 3, 16, 16)),
        ((6, 30, 12, 12), (6, 30, 12, 12)),
        ((6, 3, 5, 6), (6, 3, 5, 6)),
        ((6, 1, 28, 28), (6, 1, 28, 28)),
        ((6, 28, 28), (6, 1, 28, 28)),
    ],
)
def test_channels_are_found_where_the_sizes_show_them(shape: tuple[int, ...], read: tuple[int, ...]) -> None:
    images = test_images(shape)
    assert tuple(images.shape) == read
    pixels = np.arange(np.prod(shape)).reshape(shape) % 251
    if len(shape) == 4 and read[1] == shape[3]:
        pixels = pixels.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(images, pixels.reshape(read))


@pytest.mark.parametrize("shape", [(6, 16, 16, 16), (6, 3, 3, 3), (6, 28, 3, 28), (6, 1, 1, 3)])
def test_sizes_that_do_not_show_the_channels_are_refused_until_the_layout_is_told(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError) as caught:
        test_images(shape)
    says = f"train_images must be images (N, C, H, W), got {shape}, which does not tell where the channels are"
    assert says in str(caught.value)
    assert "layout='channels_first' or layout='channels_last'" in str(caught.value)
    assert tuple(test_images(shape, layout="channels_first").shape) == shape
    assert tuple(test_images(shape, layout="channels_last").shape) == (shape[0], shape[3], shape[1], shape[2])


def test_a_layout_that_there_is_not_is_refused() -> None:
    with pytest.raises(DataError, match="layout must be channels_first or channels_last, got 'NHWC'"):
        test_images((6, 16, 16, 3), layout="NHWC")


@pytest.mark.parametrize(
    ("shape", "read"), [((6, 2, 50), (6, 2, 50)), ((6, 50, 2), (6, 2, 50)), ((6, 1, 128), (6, 1, 128))]
)
def test_signals_are_named_so(shape: tuple[int, ...], read: tuple[int, ...]) -> None:
    data = from_arrays("mine", arrays(np.zeros(shape), word="signals"))
    assert tuple(data.train.images.shape) == read
    assert data.train.word == "signals"


@pytest.mark.parametrize(
    ("word", "shape", "says"),
    [
        ("images", (6, 3, 128), "images of 3 x 128: signals (N, C, L) are named train_signals"),
        ("images", (6, 1, 40), "grey images given as (N, 1, H, W)"),
        ("images", (6, 64), "features (N, F) are train_features"),
        ("images", (6, 2, 8, 8, 8), "must be images (N, C, H, W), got (6, 2, 8, 8, 8)"),
        ("signals", (6, 64, 32), "does not tell where the channels are"),
        ("signals", (6, 64), "features (N, F) are train_features"),
        ("features", (6, 8, 8), "signals (N, C, L) are train_signals"),
    ],
)
def test_arrays_under_the_wrong_name_are_refused_with_the_right_one(
    word: str, shape: tuple[int, ...], says: str
) -> None:
    with pytest.raises(DataError) as caught:
        from_arrays("mine", arrays(np.zeros(shape), word=word))
    assert says in str(caught.value)


# --- numbers and ranges ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, np.float16, np.float64, ">f4", bool])
def test_numbers_of_any_type_are_what_they_are(random: Random, dtype: Any) -> None:
    images = random.integers(0, 2000, (9, 8, 8)).astype(dtype)
    read = from_arrays("mine", arrays(images)).test.images
    assert read.dtype == torch.float32
    np.testing.assert_array_equal(read[:, 0], images.astype(np.float32))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e300])
def test_pixels_that_are_not_finite_are_refused_with_their_place(random: Random, wrong: float) -> None:
    images = random.normal(size=(9, 8, 8))
    images[4, 2, 3] = images[6, 0, 0] = wrong
    with pytest.raises(DataError, match=r"train_images must be finite in float32; 2 of 9 .*, the first at index 4"):
        from_arrays("mine", arrays(images))


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (lambda x: x, lambda x: x / 255),
        (lambda x: x.astype(np.uint8), lambda x: x / 255),
        (lambda x: x / 255, lambda x: x.astype(np.uint8)),
        (lambda x: x.astype(np.uint8), lambda x: (x - 120) / 60),
        (lambda x: x.astype(np.uint8), lambda x: (x / 255 > 0.5).astype(np.uint8)),
    ],
)
def test_train_and_test_of_unlike_ranges_are_refused(
    random: Random, train: Callable[[np.ndarray], np.ndarray], test: Callable[[np.ndarray], np.ndarray]
) -> None:
    images = random.integers(0, 256, (9, 8, 8)).astype(float)
    with pytest.raises(DataError, match=r"must be scaled alike, got train u?\w+ in .*, test u?\w+ in"):
        from_arrays("mine", arrays(train(images)) | {"test_images": test(images)})


def test_float_images_in_0_to_255_are_normalised_as_bytes_are(random: Random) -> None:
    images = random.integers(0, 256, (30, 8, 8), dtype=np.uint8)
    np.savez("bytes.npz", **arrays(images))
    np.savez("floats.npz", **arrays(images.astype(np.float32)))
    np.savez("mixed.npz", **arrays(images) | {"test_images": images.astype(np.float32)})
    batch = {}
    for name in ("bytes", "floats", "mixed"):
        splits = load(name="npz", path=f"{name}.npz")
        batch[name], _ = next(iter(Batches(splits.test, splits, batch_size=30, size=8)))
    torch.testing.assert_close(batch["floats"], batch["bytes"])
    torch.testing.assert_close(batch["mixed"], batch["bytes"])


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e4, -7.7])
def test_a_constant_channel_is_only_centred_whatever_its_value(random: Random, value: float) -> None:
    images = random.normal(size=(30, 2, 8, 8)).astype(np.float32)
    images[:, 1] = value
    np.savez("mine.npz", **arrays(images))
    splits = load(name="npz", path="mine.npz")
    X, _ = next(iter(Batches(splits.test, splits, batch_size=30, size=8)))
    assert float(splits.deviation[1]) == 1
    assert float(X[:, 1].abs().max()) <= abs(value) * 1e-6


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- labels ---------------------------------------------------------------------------------------------------------


def classes(labels: Any, **more: Any) -> tuple[list[int], int]:
    data = from_arrays("mine", arrays(np.zeros((6, 5, 5)), np.asarray(labels), **more))
    assert data.train.labels.dtype == torch.int64
    return data.train.labels.tolist(), data.num_classes


@pytest.mark.parametrize(
    "labels",
    [
        [1, 2, 3, 1, 2, 3],
        [0, 10, 20, 0, 10, 20],
        [[5], [7], [9], [5], [7], [9]],
        ["cat", "dog", "emu", "cat", "dog", "emu"],
        np.array(["cat", "dog", "emu"] * 2, object),
        np.array([b"cat", b"dog", b"emu"] * 2),
        np.eye(3, dtype=int)[[0, 1, 2, 0, 1, 2]],
        np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]],
        np.eye(3, dtype=bool)[[0, 1, 2, 0, 1, 2]],
        np.array([1, 2, 3] * 2, np.uint8),
    ],
)
def test_labels_however_they_are_written_are_classes_in_their_order(labels: Any) -> None:
    assert classes(labels) == ([0, 1, 2, 0, 1, 2], 3)


def test_labels_stand_as_they_are_where_the_number_of_classes_is_told() -> None:
    assert classes([1, 2, 3, 1, 2, 3], num_classes=4) == ([1, 2, 3, 1, 2, 3], 4)
    assert classes(["b", "a", "b", "a", "a", "b"], num_classes=5) == ([1, 0, 1, 0, 0, 1], 5)


@pytest.mark.parametrize(
    ("train", "test", "says"),
    [
        ([0, 1, 0, 1, 0, 1], [0, 1, 2, 0, 1, 2], "test_labels have 2, which no training example has; these have 0, 1"),
        (["a", "b"] * 3, ["a", "c"] * 3, "test_labels have 'c', which no training example has"),
        ([0, 1] * 3, np.eye(2, dtype=int)[[0, 1] * 3], "train_labels are integers, test_labels are one-hot rows"),
        ([[1, 1], [0, 1]] * 3, [[1, 1], [0, 1]] * 3, "must be integers or strings"),
        (np.eye(2, dtype=int)[[0, 1] * 3], np.eye(3, dtype=int)[[0, 1] * 3], "must be equally wide"),
        ([None, 1] * 3, [None, 1] * 3, "such as None at [0]"),
        (
            np.ma.array([0, 1] * 3, mask=[0, 0, 0, 0, 0, 1]),
            [0, 1] * 3,
            "train_labels must be whole, but its",
        ),
        ([0.5, np.nan] * 3, [0.5, 1.0] * 3, "train_labels must be finite in float32, 3 are not, the first at 1"),
    ],
)
def test_labels_that_cannot_be_told_are_refused(train: Any, test: Any, says: str) -> None:
    made = arrays(np.zeros((6, 5, 5)), np.asanyarray(train)) | {"test_labels": np.asarray(test)}
    with pytest.raises(DataError) as caught:
        from_arrays("mine", made)
    assert says in str(caught.value)


def test_inputs_whose_mask_hides_some_are_refused_and_a_mask_that_hides_none_is_not() -> None:
    images = np.ma.array(np.arange(150.0).reshape(6, 5, 5), mask=False)
    assert len(from_arrays("mine", arrays(images, np.arange(6) % 2)).train) == 6
    images[2, 1, 1] = np.ma.masked
    with pytest.raises(DataError, match="train_images must be whole, but its mask hides some values: fill them"):
        from_arrays("mine", arrays(images, np.arange(6) % 2))


@pytest.mark.parametrize("part", ["val", "validation", "dev"])
def test_arrays_of_another_part_are_not_left_out_in_silence(part: str) -> None:
    made = arrays(np.zeros((6, 5, 5)), np.arange(6) % 2)
    made |= {f"{part}_images": made["test_images"], f"{part}_labels": made["test_labels"], "about": "letters"}
    with pytest.raises(DataError, match=f"dev is drawn from train: .*; got {part}_images, {part}_labels"):
        from_arrays("mine", made)


@pytest.mark.parametrize("other", ["train_weights", "test_mask", "train_lables"])
def test_arrays_of_another_name_are_not_left_out_in_silence(other: str) -> None:
    with pytest.raises(DataError, match=f"{other} would be left out in silence: of train and test train_images, train"):
        from_arrays("mine", arrays(np.zeros((6, 5, 5)), np.arange(6) % 2) | {other: np.ones(6)})


def test_a_path_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd() / "home"))
    Path("home").mkdir()
    np.savez("home/mine.npz", **arrays(np.zeros((6, 5, 5)), np.arange(6) % 2))
    folder(png, count=2).rename("home/pictures")
    assert len(load(name="npz", path="~/mine.npz").test) == 6
    assert len(load(name="image_folder", path="~/pictures").test) == 4


def test_a_class_of_one_image_that_would_go_to_dev_is_refused() -> None:
    np.savez("mine.npz", **arrays(np.zeros((6, 5, 5)), np.arange(6)))
    with pytest.raises(DataError, match="has one training image, which goes to dev: none is left to train on"):
        load(name="npz", path="mine.npz")


@pytest.mark.parametrize(
    ("in_test", "says"),
    [
        (slice(0, 0), ""),
        (slice(0, 3), "3 of 33 examples of test"),
        (slice(0, 100), "100 of 130 examples of test"),
    ],
)
def test_examples_that_stand_in_two_splits_are_counted(random: Random, in_test: slice, says: str) -> None:
    train, other = random.random((100, 7)), random.random((30, 7))
    made = {"train_features": train, "train_labels": np.arange(100) % 2}
    made |= {"test_features": np.concatenate([other, train[in_test]])}
    np.savez("mine.npz", **made, test_labels=np.arange(len(made["test_features"])) % 2)
    assert repeated(load(name="npz", path="mine.npz")) == says


def test_examples_of_dev_that_stand_in_train_are_counted(random: Random) -> None:
    """As where a class was made as frequent as the others by repeating its examples."""
    twice = np.tile(random.random((50, 7)), (2, 1))
    np.savez("mine.npz", **arrays(twice, np.arange(100) % 2, "features") | {"test_features": -twice})
    said = repeated(load(name="npz", path="mine.npz", dev_fraction=0.2, split_seed=1))
    assert re.fullmatch(r"\d\d of 20 examples of dev", said)


# --- files of images ------------------------------------------------------------------------------------------------


def folder(make: Callable[[Path, int], None], *, count: int = 8) -> Path:
    """Two classes each to train and to test; ``make`` writes an image to a path without its ending."""
    for part in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            Path("pictures", part, name).mkdir(parents=True)
            for number in range(count):
                make(Path("pictures", part, name, str(number)), 10 * label + number)
    return Path("pictures")


def png(path: Path, number: int) -> None:
    Image.new("RGB", (6, 5), (number, 20, 30)).save(f"{path}.png")


def first_pixel(**settings: Any) -> list[list[int]]:
    images = load(name="image_folder", path="pictures", **settings).test.images
    assert isinstance(images, torch.Tensor)
    return images[:2, :, 0, 0].tolist()


def test_what_systems_leave_behind_is_no_image() -> None:
    pictures = folder(png)
    for name in (".DS_Store", "._7.png", "Thumbs.db", "desktop.ini", "notes.txt"):
        (pictures / "train" / "dog" / name).write_bytes(b"\0\5\26\7Mac OS X")
    for name in (".git", "__MACOSX", ".ipynb_checkpoints", "@eaDir"):
        (pictures / "test" / name).mkdir()
        (pictures / "test" / name / "0.png").write_bytes(b"nothing")
    splits = load(name="image_folder", path="pictures")
    assert (len(splits.train) + len(splits.dev), len(splits.test), splits.num_classes) == (16, 16, 2)


@pytest.mark.parametrize(
    "content",
    [b"", b"no image", b"\x89PNG\r\n\x1a\n and then nothing", "cut short"],
    ids=["empty", "text", "head", "cut"],
)
@pytest.mark.parametrize("processes", [False, True])
def test_a_broken_image_is_named(content: bytes | str, processes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = folder(png)
    broken = pictures / "test" / "dog" / "3.png"
    broken.write_bytes(content if isinstance(content, bytes) else broken.read_bytes()[:48])
    monkeypatch.setattr("lab.data.image_files.WORTH_A_PROCESS", 1 if processes else 10**6)
    with pytest.raises(DataError) as caught:
        load(name="image_folder", path="pictures")
    assert str(caught.value).startswith(f"{broken}: cannot be read as an image: ")
    assert "Traceback" not in str(caught.value)


def test_palette_grey_and_cmyk_images_are_read_in_their_colours() -> None:
    def write(path: Path, number: int) -> None:
        image = Image.new("RGB", (6, 5), (255, 0, 0) if number % 2 else (0, 0, 255))
        match number % 10:
            case 0 | 1:
                image.quantize(4).save(f"{path}.png")
            case 2 | 3:
                image.convert("CMYK").save(f"{path}.tif")
            case 4 | 5:
                image.putalpha(255)
                image.save(f"{path}.png")
            case _:
                image.save(f"{path}.bmp")

    folder(write)
    images = load(name="image_folder", path="pictures").test.images
    assert isinstance(images, torch.Tensor)
    expected = [[255, 0, 0] if number % 2 else [0, 0, 255] for number in [*range(8), *range(8)]]
    assert images[:, :, 2, 2].tolist() == expected


def grey_of_16_bits(path: Path, number: int) -> None:
    Image.fromarray(np.full((5, 6), 1000 * number, np.uint16)).save(f"{path}.png")


def colours_of_16_bits(path: Path, number: int) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels = b"".join(b"\0" + struct.pack(">18H", *[1000] * 18) for _ in range(5))
    head = struct.pack(">IIBBBBB", 6, 5, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    Path(f"{path}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def float_tiff(path: Path, number: int) -> None:
    Image.fromarray(np.full((5, 6), number, np.float32)).save(f"{path}.tif")


def transparent(path: Path, number: int) -> None:
    Image.new("RGBA", (6, 5), (number, 0, 0, 0)).save(f"{path}.png")


def transparent_palette(path: Path, number: int) -> None:
    Image.new("RGB", (6, 5), (number, 0, 0)).quantize(4).save(f"{path}.png", transparency=0)


def animated(path: Path, number: int) -> None:
    frames = [Image.new("RGB", (6, 5), (value, 0, 0)) for value in (number, 200)]
    frames[0].save(f"{path}.gif", save_all=True, append_images=frames[1:])


def pages(path: Path, number: int) -> None:
    frames = [Image.new("RGB", (6, 5), (value, 0, 0)) for value in (number, 200)]
    frames[0].save(f"{path}.tif", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (grey_of_16_bits, "has pixels of more than 8 bits"),
        (colours_of_16_bits, "has pixels of more than 8 bits"),
        (float_tiff, "has pixels of more than 8 bits"),
        (transparent, "has transparent pixels, whose colour is not told"),
        (transparent_palette, "has transparent pixels, whose colour is not told"),
        (animated, "has 2 frames: must be a single image"),
        (pages, "has 2 frames: must be a single image"),
    ],
)
def test_images_that_cannot_be_read_without_a_guess_are_refused(make: Callable[[Path, int], None], says: str) -> None:
    folder(make)
    with pytest.raises(DataError, match=r"pictures/train/(cat|dog)/\d\.\w+: ") as caught:
        load(name="image_folder", path="pictures")
    assert says in str(caught.value)


@pytest.mark.parametrize("in_memory", [True, False])
def test_images_of_unlike_sizes_are_stretched_where_that_is_asked_for(
    in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.device.fits", lambda num_bytes, device: in_memory)
    folder(lambda path, number: Image.linear_gradient("L").resize((6 + number, 9)).convert("RGB").save(f"{path}.png"))
    with pytest.raises(DataError, match=r"one size, got 6 x 9 .* and 7 x 9 .*data\.resize: N stretches each to N x N"):
        load(name="image_folder", path="pictures")
    images = load(name="image_folder", path="pictures", resize=12).test.images
    assert isinstance(images, torch.Tensor) is in_memory
    pixels = next(images.read([torch.tensor([1])])) if isinstance(images, ImageFiles) else images[1:2]
    with Image.open("pictures/test/cat/1.png") as image:
        expected = np.array(image.resize((12, 12), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(pixels[0].permute(1, 2, 0), expected)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_without_images_is_refused(part: str) -> None:
    pictures = folder(png)
    for file in (pictures / part / "dog").iterdir():
        file.unlink()
    (pictures / part / "dog" / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=rf"{part}/dog: must hold images \(.*\.png.*\), holds none"):
        load(name="image_folder", path="pictures")


# --- arrays of other libraries --------------------------------------------------------------------------------------

GREY = np.arange(150.0).reshape(6, 5, 5)
ONE_OF_THREE = [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    "given",
    [
        lambda: torch.tensor(GREY, requires_grad=True),
        lambda: torch.tensor(GREY).bfloat16(),
        lambda: torch.tensor(-1j * GREY).conj().imag,
        lambda: torch.tensor(GREY).transpose(1, 2).contiguous().transpose(1, 2),
        lambda: [torch.tensor(image) for image in GREY],
        lambda: np.array([*GREY, None], object)[:6],
        lambda: GREY.astype(object),
    ],
    ids=["gradient", "bfloat16", "negative view", "strides", "list", "objects of arrays", "objects"],
)
def test_arrays_of_any_kind_are_the_numbers_that_they_hold(given: Callable[[], Any]) -> None:
    read = from_arrays("mine", arrays(given())).test.images
    np.testing.assert_array_equal(read[:, 0], GREY)


@pytest.mark.parametrize("kind", ["float64", "Int64", "Float64", "boolean", "bool"])
def test_columns_of_a_table_are_features_whatever_they_can_hold(kind: str) -> None:
    table = pd.DataFrame({"size": [1.5, 2, 3, 4, 5, 6], "old": [0, 1, 1, 0, 1, 0]}).astype({"old": kind})
    read = from_arrays("mine", arrays(table, word="features")).test.images
    np.testing.assert_array_equal(read, [[1.5, 0], [2, 1], [3, 1], [4, 0], [5, 1], [6, 0]])


class Kind(StrEnum):
    CAT = "cat"
    DOG = "dog"
    EMU = "emu"


class Number(enum.IntEnum):
    CAT = 3
    DOG = 5
    EMU = 8


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series(["cat", "dog", "emu"] * 2, dtype="category"),
        pd.Series(pd.Categorical(["cat", "dog", "emu"] * 2, ["emu", "dog", "cat"], ordered=True)),
        pd.Series([3, 5, 9] * 2, dtype="Int64"),
        pd.DataFrame({"label": [3, 5, 9] * 2}),
        pd.get_dummies(pd.Series(["cat", "dog", "emu"] * 2)),
        [*Kind] * 2,
        np.array([*Kind] * 2, object),
        [*Number] * 2,
        np.array([3, 5, 9] * 2, object),
        torch.tensor([3, 5, 9] * 2, dtype=torch.int32),
    ],
)
def test_labels_of_other_libraries_are_classes_in_their_order(labels: Any) -> None:
    data = from_arrays("mine", arrays(GREY, labels))
    assert (data.train.labels.tolist(), data.num_classes) == (ONE_OF_THREE, 3)


class Plain(enum.Enum):
    CAT = 1


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["cat", float("nan"), "dog"] * 2, "it holds objects, such as float nan at [1]"),
        (["1", 1, "2"] * 2, "it holds objects, such as int 1 at [1]"),
        (pd.Series(["cat", None, "dog"] * 2), "it holds objects, such as float nan at [1]"),
        (pd.Series(["cat", pd.NA, "dog"] * 2, dtype="string"), "such as NAType <NA> at [1]"),
        ([Plain.CAT] * 6, "such as Plain <Plain.CAT: 1> at [0]"),
        (sparse.csr_array(np.eye(6)), "got csr_array <"),
        (sparse.csr_array(np.eye(6)), ": .toarray() makes it dense"),
        (map(int, ONE_OF_THREE), "got map <map object"),
        ([[1, 2], [3]] * 3, "float targets (N,) or (N, K): its rows are of unlike shapes"),
        ([-1, 1, 1] * 2, "got -1..1; where -1 marks an example without a label, leave the example out; where it is a"),
        (["caf\u00e9", "cafe\u0301", "bar"] * 2, r"'cafe\u0301' and 'caf\xe9' are one name in two spellings"),
    ],
)
def test_labels_that_are_no_classes_are_refused_with_the_one_that_is_not(labels: Any, says: str) -> None:
    with pytest.raises(DataError) as caught:
        from_arrays("mine", arrays(GREY, labels))
    assert says in str(caught.value)


@pytest.mark.parametrize("word", ["features", "labels"])
def test_tables_whose_columns_stand_in_another_order_are_refused(word: str) -> None:
    table = pd.DataFrame(np.eye(3)[ONE_OF_THREE], columns=["cat", "dog", "emu"])
    made = arrays(table, table, "features") | {f"test_{word}": table[["dog", "cat", "emu"]]}
    says = f"train_{word} and test_{word} must have the same columns in the same order, got cat, dog, emu and dog, cat"
    with pytest.raises(DataError, match=says):
        from_arrays("mine", made)


def test_rows_that_an_index_puts_in_another_order_are_refused() -> None:
    """Sampling or sorting one of the two leaves its index behind, by which pandas would join them."""
    table, labels = pd.DataFrame({"size": range(6)}), pd.Series(ONE_OF_THREE)
    with pytest.raises(DataError, match="train_features and train_labels have one index in two orders"):
        from_arrays("mine", arrays(table, labels[::-1], "features"))
    for right in (labels.set_axis(range(10, 16)), labels[::-1].to_numpy(), labels[::-1].tolist()):
        assert len(from_arrays("mine", arrays(table, right, "features")).train) == 6


@pytest.mark.parametrize("scale", [lambda x: 2 * x - 1, lambda x: (x - 0.3) / 0.2])
def test_images_around_zero_do_not_go_with_images_above_it(random: Random, scale: Callable[[Any], Any]) -> None:
    images = random.random((9, 8, 8))
    for test in (images, 255 * images):
        for made in (arrays(scale(images)) | {"test_images": test}, arrays(test) | {"test_images": scale(images)}):
            with pytest.raises(DataError, match="must be scaled alike, got train float32 in"):
                from_arrays("mine", made)
    almost = arrays(images) | {"test_images": images - 0.01}  # as resizing leaves it
    assert len(from_arrays("mine", almost).train) == 9


# --- folders as people have them ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_images_stand_as_the_camera_was_held(ending: str, orientation: int) -> None:
    pixels = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    folder(lambda path, number: Image.fromarray(pixels).save(f"{path}.{ending}", exif=exif, lossless=True), count=2)
    turned = {1: pixels, 3: pixels[::-1, ::-1], 6: np.rot90(pixels, -1), 7: np.rot90(pixels, 1)[:, ::-1]}[orientation]
    images = load(name="image_folder", path="pictures").test.images
    assert isinstance(images, torch.Tensor)
    np.testing.assert_array_equal(images[0].permute(1, 2, 0), turned)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda cat: (cat / "logo.svg").touch(), "cat/logo.svg: .svg is not read: convert it"),
        (lambda cat: png(cat.parent / "stray", 1), "train/stray.png: belongs to no class: move it"),
        (lambda cat: (cat / "again").symlink_to("../../train"), "cat/again: is a link to a folder that it lies in"),
        (lambda cat: (cat / "gone.png").symlink_to("nowhere.png"), "cat/gone.png: cannot be read as an image"),
        (lambda cat: (cat.parents[1] / "val").mkdir(), "pictures: train and test alone are taken, .*; got val"),
        (lambda cat: cat.rename(cat.with_name("Cat")), "train alone has 'Cat', test alone has 'cat'"),
        (lambda cat: cat.rename(cat.with_name("d\u00f6g")), "train alone has 'd\u00f6g', test alone has 'cat'"),
    ],
)
def test_folders_that_hold_more_or_other_than_is_read_are_refused(spoil: Callable[[Path], Any], says: str) -> None:
    spoil(folder(png, count=2) / "train" / "cat")
    with pytest.raises(DataError, match=says):
        load(name="image_folder", path="pictures")


def test_one_class_in_two_spellings_of_unicode_is_told_so_that_they_can_be_told_apart() -> None:
    pictures = folder(png, count=2)
    (pictures / "train" / "cat").rename(pictures / "train" / "caf\u00e9")
    (pictures / "test" / "cat").rename(pictures / "test" / "cafe\u0301")
    with pytest.raises(DataError, match=r"'cafe\\u0301' and 'caf\\xe9' are one name in two spellings of Unicode"):
        load(name="image_folder", path="pictures")


def test_files_of_any_name_and_links_to_them_are_read() -> None:
    cat = folder(png, count=4) / "train" / "cat"
    (cat / "0.png").rename(cat / "0.tar.PNG")
    (cat / "1.png").rename(os.fsdecode(os.fsencode(cat) + b"/\xff\xfe.png"))
    (cat / "2.png").rename("elsewhere.png")
    (cat / "2.png").symlink_to("../../../elsewhere.png")
    (cat / "3.png").rename(cat / "3.png.bak")
    splits = load(name="image_folder", path="pictures")
    assert (len(splits.train) + len(splits.dev), len(splits.test)) == (7, 8)
