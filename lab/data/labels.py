"""Labels of the user, however they are written: classes as 0..K-1, or targets of a regression."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from lab.data.conversion import as_array
from lab.data.errors import DataError

WAYS = "integers or strings (N,), one-hot rows (N, K), or float targets (N,) or (N, K)"


class Labels(NamedTuple):
    """Labels of both parts: classes ``(N,)`` int64, or targets ``(N, K)`` float32; ``num_outputs`` is K."""

    train: np.ndarray
    test: np.ndarray
    num_outputs: int


def read_labels(name: str, train: Any, test: Any, num_classes: Any = None) -> Labels:
    """Labels of both parts as the network learns them.

    Integers, strings and one-hot rows are classes. Where ``num_classes`` is not told, the values that occur are the
    classes, in their order: labels may start at 1, and have gaps. Other floats are targets. Raises :class:`DataError`.
    """
    parts = {part: _column(name, part, raw) for part, raw in (("train", train), ("test", test))}
    kinds = {part: _kind(name, part, labels) for part, labels in parts.items()}
    if kinds["train"] != kinds["test"]:
        raise DataError(f"data {name}: train_labels are {kinds['train']}, test_labels are {kinds['test']}")
    match kinds["train"]:
        case "targets":
            return _targets(name, parts, num_classes)
        case "one-hot rows":
            return _one_hot(name, parts, num_classes)
        case kind:
            return _classes(name, parts, num_classes, kind)


def _column(name: str, part: str, raw: Any) -> np.ndarray:
    """As an array; ``(N, 1)`` is ``(N,)``."""
    labels = as_array(name, f"{part}_labels", raw, WAYS)
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _kind(name: str, part: str, labels: np.ndarray) -> str:
    if labels.ndim in (1, 2) and labels.size:
        if labels.ndim == 1 and labels.dtype.kind in "biu":
            return "integers"
        if labels.ndim == 1 and labels.dtype.kind in "US":
            return "strings"
        if labels.ndim == 2 and labels.dtype.kind in "biuf" and _is_one_hot(labels):
            return "one-hot rows"
        if labels.dtype.kind == "f":
            return "targets"
    raise DataError(f"data {name}: {part}_labels must be {WAYS}, got {labels.dtype} of shape {labels.shape}")


def _is_one_hot(labels: np.ndarray) -> bool:
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all())


def _targets(name: str, parts: dict[str, np.ndarray], num_classes: Any) -> Labels:
    if num_classes is not None:
        raise DataError(f"data {name}: num_classes goes with labels that are classes, these are float targets")
    found = {}
    for part, labels in parts.items():
        with np.errstate(over="ignore"):
            targets = labels.reshape(len(labels), -1).astype(np.float32)
        wrong = ~np.isfinite(targets)
        if wrong.any():
            first = int(wrong.any(1).argmax())
            rule = f"{part}_labels must be finite in float32, {int(wrong.sum())} are not, the first at {first}"
            raise DataError(f"data {name}: {rule}: {labels[first]}")
        found[part] = targets
    _same_width(name, found["train"], found["test"])
    return Labels(found["train"], found["test"], found["train"].shape[1])


def _one_hot(name: str, parts: dict[str, np.ndarray], num_classes: Any) -> Labels:
    train, test = parts["train"], parts["test"]
    _same_width(name, train, test)
    if num_classes is not None and _told(name, num_classes) != train.shape[1]:
        raise DataError(f"data {name}: num_classes is {num_classes}, one-hot labels have {train.shape[1]} columns")
    return Labels(train.argmax(1), test.argmax(1), train.shape[1])


def _same_width(name: str, train: np.ndarray, test: np.ndarray) -> None:
    if train.shape[1] != test.shape[1]:
        raise DataError(f"data {name}: labels of train and test must be equally wide, got {train.shape}, {test.shape}")


def _classes(name: str, parts: dict[str, np.ndarray], num_classes: Any, kind: str) -> Labels:
    train, test = parts["train"], parts["test"]
    classes = np.unique(train)
    values = np.union1d(classes, test)
    if values.dtype.kind == "U":
        raise_at_two_spellings(f"data {name}: labels", values.tolist())
    if kind == "integers" and values[0] < 0:
        raise DataError(
            f"data {name}: labels must not be negative, got {values[0]}..{values[-1]}; "
            "where -1 marks an example without a label, leave the example out; where it is a class, give 0 or a name"
        )
    if num_classes is not None:
        told = _told(name, num_classes)
        if kind == "integers":
            if values[-1] >= told:
                rule = f"labels must be in 0..{told - 1} with num_classes {told}, got {values[0]}..{values[-1]}"
                raise DataError(f"data {name}: {rule}")
            return Labels(train.astype(np.int64), test.astype(np.int64), told)
        if len(values) > told:
            raise DataError(f"data {name}: num_classes is {told}, labels have {len(values)} different values")
        return Labels(np.searchsorted(values, train), np.searchsorted(values, test), told)
    unknown = np.setdiff1d(test, classes)
    if len(unknown):
        rule = f"test_labels have {_some(unknown)}, which no training example has; these have {_some(classes)}"
        raise DataError(f"data {name}: {rule}")
    return Labels(np.searchsorted(classes, train), np.searchsorted(classes, test), len(classes))


def raise_at_two_spellings(where: str, names: Iterable[str]) -> None:
    """Raises :class:`DataError` for class names that are told apart by Unicode's spelling of their accents alone."""
    spelt: dict[str, str] = {}
    for name in names:
        other = spelt.setdefault(unicodedata.normalize("NFC", name), name)
        if other != name:
            rule = f"{other!a} and {name!a} are one name in two spellings of Unicode"
            raise DataError(f"{where}: {rule}: unicodedata.normalize('NFC', name) makes them one")


def _told(name: str, num_classes: Any) -> int:
    told = np.asarray(num_classes)
    if told.size != 1 or told.dtype.kind not in "iu" or told.item() < 1:
        raise DataError(f"data {name}: num_classes must be an integer > 0, got {num_classes!r}")
    return int(told.item())


def _some(values: np.ndarray) -> str:
    shown = ", ".join(repr(value) for value in values[:5].tolist())
    return f"{shown} and {len(values) - 5} more" if len(values) > 5 else shown
