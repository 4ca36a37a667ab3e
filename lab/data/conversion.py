"""Arrays of whatever kind a user gives: converted where that is exact, else refused in words."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

from lab.data.errors import DataError
from lab.returned import described


def as_array(name: str, array: str, raw: Any, wanted: str) -> np.ndarray:
    """Converts an array, a tensor, a table, or nested lists; raises :class:`DataError` for what is not ``wanted``.

    Objects become what all of them are: arrays of one shape, texts or numbers. Lists that mix text with anything else
    are not made text, as numpy would: a NaN among class names is no class.
    """
    if np.ma.is_masked(raw):
        rule = "must be whole, but its mask hides some values: fill them, or leave those examples out"
        raise DataError(f"data {name}: {array} {rule}")
    try:
        found = np.asarray(_readable(raw))
        if found.dtype.kind in "US" and not hasattr(raw, "dtype"):
            found = np.asarray(raw, object)
        if found.ndim:
            return _of_one_kind(found) if found.dtype.kind == "O" else found
    except (TypeError, ValueError, RuntimeError) as error:
        reason = "its rows are of unlike shapes" if "inhomogeneous" in str(error) else error
        raise DataError(f"data {name}: {array} must be {wanted}: {reason}") from error
    way = ": .toarray() makes it dense" if hasattr(raw, "toarray") else ""
    raise DataError(f"data {name}: {array} must be {wanted}, got {described(raw)}{way}")


def _readable(raw: Any) -> Any:
    """Returns what numpy can read: of a tensor its values, wherever it lies and whatever torch does with it."""
    if not isinstance(raw, Tensor) or raw.is_sparse:
        return raw
    values = raw.detach().cpu().resolve_neg()
    return values.float() if values.is_floating_point() else values


def _of_one_kind(found: np.ndarray) -> np.ndarray:
    """Returns objects as an array of their own type; raises TypeError where they have no one type."""
    values = found.ravel().tolist()
    for kinds in (Real | np.bool_, str, bytes):
        if all(isinstance(value, kinds) for value in values):
            plain = [str.__str__(value) for value in values] if kinds is str else values  # an enumeration's are text
            return np.array(plain).reshape(found.shape)
    if found.ndim == 1 and all(isinstance(value, np.ndarray | Tensor | list | tuple) for value in values):
        return np.stack([np.asarray(_readable(value)) for value in values])
    kinds_at: dict[str, list[int]] = {}
    for index, value in enumerate(values):
        kinds_at.setdefault("number" if isinstance(value, Real) else type(value).__name__, []).append(index)
    _, (odd, *_) = min(kinds_at.items(), key=lambda kind: (len(kind[1]), kind[0] == "number"))
    place = [int(axis) for axis in np.unravel_index(odd, found.shape)]
    raise TypeError(f"it holds objects, such as {described(values[odd])} at {place}")


# --- tables ---------------------------------------------------------------------------------------------------------


def raise_at_other_tables(name: str, found: Mapping[str, Any], word: str) -> None:
    """Raises :class:`DataError` for tables whose columns or rows stand in another order than those they go with."""
    for kind in (word, "labels"):
        train, test = (getattr(found[f"{part}_{kind}"], "columns", None) for part in ("train", "test"))
        if train is not None and test is not None and list(train) != list(test):
            rule = f"train_{kind} and test_{kind} must have the same columns in the same order"
            raise DataError(f"data {name}: {rule}, got {_some(train)} and {_some(test)}")
    for part in ("train", "test"):
        rows, labels = (getattr(table, "index", None) for table in (found[f"{part}_{word}"], found[f"{part}_labels"]))
        if callable(rows) or callable(labels) or rows is None or labels is None or len(rows) != len(labels):
            continue  # a list's index is a method
        if list(rows) != list(labels) and set(rows) == set(labels):
            rule = f"{part}_{word} and {part}_labels have one index in two orders, and rows go together as they stand"
            raise DataError(f"data {name}: {rule}: sort both by it, or give .to_numpy()")


def _some(columns: Any) -> str:
    names = [str(column) for column in columns]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
