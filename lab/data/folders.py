"""Folders of image files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from lab.data.errors import DataError
from lab.data.image_files import ImageFiles, size_of
from lab.data.labels import raise_at_two_spellings
from lab.data.sets import DataSet, Images

SUFFIXES = {
    *(".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),  # as torchvision's ImageFolder
    *(".avif", ".gif", ".heic", ".heif", ".jp2", ".jfif", ".jpe", ".apng", ".pbm", ".pnm", ".j2k", ".tga"),
}
# Images all the same, which would be left out without a word.
UNREAD = {
    *(".svg", ".svgz", ".psd", ".eps", ".ico", ".exr", ".hdr", ".jxl"),
    *(".dcm", ".dng", ".cr2", ".nef", ".arw", ".raw"),
}
OTHER_PARTS = {"val", "valid", "validation", "dev", "eval"}
# What systems leave behind, beside what begins with a dot.
LEFT_BEHIND = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found"}


def image_folder(root: Path, path: str, resize: int | None = None) -> DataSet:
    """Folders ``train/<class>/`` and ``test/<class>/`` of image files.

    They are of one size, or stretched to squares of ``resize`` when they are read. Raises :class:`DataError`.
    """
    path = os.path.expanduser(path)  # noqa: PTH111  # a Path raises for ~ of a user that there is not
    found = {part: _classes(path, part) for part in ("train", "test")}
    _raise_at_other_parts(path)
    _raise_at_other_classes(path, [*found["train"]], [*found["test"]])
    height, width = (resize, resize) if resize is not None else _one_size(path, found)
    train, test = (_of(path, classes, height, width, resize is not None) for classes in found.values())
    return DataSet(train, test, num_classes=len(found["train"]))


def _of(path: str, classes: dict[str, list[Path]], height: int, width: int, resize: bool) -> Images:
    paths = [str(file) for files in classes.values() for file in files]
    labels = torch.tensor([label for label, files in enumerate(classes.values()) for _ in files])
    return Images(ImageFiles(path, paths, height, width, resize), labels)


def _raise_at_other_parts(path: str) -> None:
    """Raises :class:`DataError` for a folder of another part, which would be left out without a word."""
    if other := sorted(entry.name for entry in _visible(Path(path)) if entry.name.lower() in OTHER_PARTS):
        rule = "train and test alone are taken, dev is drawn from train: join these to train, or move them elsewhere"
        raise DataError(f"data.path: {path}: {rule}; got {', '.join(other)}")


def _raise_at_other_classes(path: str, train: list[str], test: list[str]) -> None:
    """Raises :class:`DataError` unless both parts have the same classes."""
    raise_at_two_spellings(f"data.path: {path}: classes", sorted({*train, *test}))
    alone = {"train": sorted({*train} - {*test}), "test": sorted({*test} - {*train})}
    if told := [f"{part} alone has {_some(names)}" for part, names in alone.items() if names]:
        raise DataError(f"data.path: {path}: train and test must have the same classes: {', '.join(told)}")


def _some(names: list[str]) -> str:
    return " ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _classes(path: str, part: str) -> dict[str, list[Path]]:
    """Returns the image files of each class, all sorted; raises :class:`DataError` where there are none."""
    folder = Path(path, part)
    try:
        entries = sorted(_visible(folder), key=lambda entry: entry.name)
        classes = [entry.name for entry in entries if entry.is_dir()]
        stray = [entry.path for entry in entries if _is_image(entry)]
        found = {name: sorted(_images(folder / name)) for name in classes}
    except OSError as error:
        raise DataError(f"data.path: {path}: must hold train/<class>/ and test/<class>/: {error}") from error
    if stray:
        raise DataError(f"data.path: {stray[0]}: belongs to no class: move it to the folder of one, or elsewhere")
    if not found:
        raise DataError(f"data.path: {path}: must hold train/<class>/ and test/<class>/: no class in {folder}")
    empty = [name for name, files in found.items() if not files]
    if empty:
        kinds = ", ".join(sorted(SUFFIXES))
        raise DataError(f"data.path: {folder / empty[0]}: must hold images ({kinds}), holds none")
    return found


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name.lower() not in LEFT_BEHIND:
                yield entry


def _images(folder: Path) -> Iterator[Path]:
    """Yields the image files of a class, those of folders below it included."""
    for entry in _visible(folder):
        if entry.is_dir():
            if entry.is_symlink() and folder.resolve().is_relative_to(Path(entry).resolve()):
                raise DataError(f"data.path: {entry.path}: is a link to a folder that it lies in: remove it")
            yield from _images(Path(entry))
        elif _is_image(entry):
            yield Path(entry)


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Tells a file that is read; raises :class:`DataError` at an image of a kind that is not."""
    suffix = Path(entry.name).suffix.lower()
    if suffix in UNREAD and entry.is_file():
        raise DataError(f"data.path: {entry.path}: {suffix} is not read: convert it (.png, for instance) or remove it")
    return suffix in SUFFIXES and not entry.is_dir()


def _one_size(path: str, found: dict[str, dict[str, list[Path]]]) -> tuple[int, int]:
    """Returns the height and width of every image; raises :class:`DataError` where they differ."""
    first: dict[tuple[int, int], Path] = {}
    for classes in found.values():
        for files in classes.values():
            for file in files:
                first.setdefault(size_of(str(file)), file)
    if len(first) > 1:
        (one, file), (other, another) = list(first.items())[:2]
        sizes = f"{one[0]} x {one[1]} ({file}) and {other[0]} x {other[1]} ({another})"
        ways = "data.resize: N stretches each to N x N when it is read"
        raise DataError(f"data.path: {path}: images must be of one size, got {sizes}; {ways}")
    ((width, height),) = first
    return height, width
