"""Values that can be saved: plain data and tensors that make another like them, or change one in place."""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import itertools
import operator
import random
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

PLAIN = (bool, int, float, str, bytes, type(None))
Saved = tuple[str, Any]  # the kind of a value, and what makes another like it: plain data and tensors alone


class NoState(Exception):  # noqa: N818  # a finding
    """The value cannot be saved whole."""


def saved(value: Any, elsewhere: Collection[int] | None, *, copies: bool = True) -> Saved:
    """Copies a value; raises :class:`NoState` where it, or what it holds, is of no kind that is known here.

    Tensors at the :func:`place` of one that is saved ``elsewhere`` are none; with None for that, no tensor or array is.
    Without ``copies`` tensors are taken as they are.
    """
    kind, each = type(value), functools.partial(saved, elsewhere=elsewhere, copies=copies)
    if kind in PLAIN:
        return "plain", value
    if isinstance(value, Tensor):
        if elsewhere is None or is_lazy(value) or value.is_meta or place(value) in elsewhere:
            raise NoState
        return "Tensor", value.detach().clone() if copies else value
    if kind in SEQUENCES.values():
        return kind.__name__, [each(one) for one in value]
    if kind is deque:
        return "deque", ([each(one) for one in value], value.maxlen)
    if kind in (dict, OrderedDict, Counter, defaultdict):
        return kind.__name__, [(each(key), each(one)) for key, one in value.items()]
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc" and elsewhere is not None:
        array = np.asarray(value)
        return "array", (array.dtype.str, list(array.shape), array.tobytes(), isinstance(value, np.generic))
    return _saved_generator(value) or _saved_instance(value, each)


def place(tensor: Tensor) -> int:
    """Returns where a tensor's numbers lie: the same for its views."""
    if is_lazy(tensor) or tensor.layout is not torch.strided:
        return id(tensor)
    return tensor.untyped_storage().data_ptr() or id(tensor)


def _saved_generator(value: Any) -> Saved | None:
    if isinstance(value, torch.Generator):
        return "torch.Generator", value.get_state().cpu().numpy().tobytes()
    if isinstance(value, np.random.Generator):
        return "numpy.Generator", saved(value.bit_generator.state, ())
    if isinstance(value, np.random.RandomState):
        return "numpy.RandomState", saved(value.get_state(legacy=False), ())
    if type(value) is random.Random:
        return "random.Random", saved(value.getstate(), ())
    if type(value) is itertools.count:
        return "count", repr(value).removeprefix("count")
    return None


def _saved_instance(value: Any, each: Callable[[Any], Saved]) -> Saved:
    """Saves what never changes itself: members of enumerations, named tuples, frozen dataclasses, numbers and text."""
    kind: Any = type(value)
    name = (kind.__module__, kind.__qualname__)
    if _class(*name) is not kind:
        raise NoState
    if isinstance(value, enum.Enum):
        return "enum", (*name, each(value.value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return "named", (*name, [each(one) for one in value])
    if getattr(getattr(kind, "__dataclass_params__", None), "frozen", False):
        return "frozen", (*name, {field.name: each(getattr(value, field.name)) for field in dataclasses.fields(value)})
    if isinstance(value, complex):
        return "instance", (*name, value.real, value.imag)
    if isinstance(value, range):
        return "instance", (*name, value.start, value.stop, value.step)
    for plain in (int, float, str):
        if isinstance(value, plain) and not getattr(value, "__dict__", None):
            return "instance", (*name, plain(value))
    raise NoState


def _class(module: str, name: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def made(state: Saved) -> Any:
    """Makes a value from what :func:`saved` gave."""
    kind, value = state
    if kind in ("plain", "Tensor"):
        return value.clone() if kind == "Tensor" else value
    if kind in SEQUENCES:
        return SEQUENCES[kind](map(made, value))
    if kind in MAPPINGS:
        return MAPPINGS[kind]({made(key): made(one) for key, one in value})
    if kind == "deque":
        return deque(map(made, value[0]), value[1])
    if kind == "array":
        array = np.frombuffer(value[2], value[0]).reshape(value[1]).copy()
        return array[()] if value[3] else array
    if kind == "count":
        start = ast.literal_eval(value)
        return itertools.count(*start) if isinstance(start, tuple) else itertools.count(start)
    if kind in INSTANCES:
        return INSTANCES[kind](_class(*value[:2]), *value[2:])
    found = GENERATORS[kind]()
    SETTERS[kind](found, value)
    return found


def restored(fresh: Any, state: Saved) -> Any:
    """Returns the value that was saved: ``fresh`` itself, changed in place where it can be, so that all see it."""
    kind, value = state
    if kind == "Tensor":
        if isinstance(fresh, Tensor) and fresh.is_leaf and fresh.dtype == value.dtype and fits(fresh, value):
            with torch.no_grad():
                fresh.copy_(value)
            return fresh
        if isinstance(fresh, nn.Parameter):
            raise ValueError(f"a parameter was of shape {tuple(value.shape)}, and is of {tuple(fresh.shape)}")
    elif kind == "tuple" and type(fresh) is tuple and len(fresh) == len(value):
        items = tuple(map(restored, fresh, value))
        return fresh if all(map(operator.is_, items, fresh)) else items
    elif type(fresh).__name__ == kind and kind in IN_PLACE:
        IN_PLACE[kind](fresh, value)
        return fresh
    elif kind in SETTERS and isinstance(fresh, TYPES[kind]):
        SETTERS[kind](fresh, value)
        return fresh
    return made(state)


def fits(fresh: Tensor, value: Tensor) -> bool:
    """Tells whether a tensor can take the numbers of another, each in a place of its own."""
    strided = fresh.layout is torch.strided
    overlaps = strided and any(size > 1 and not step for size, step in zip(fresh.shape, fresh.stride(), strict=True))
    return fresh.shape == value.shape and not overlaps and not fresh.is_meta


def _frozen(kind: Any, fields: dict[str, Any]) -> Any:
    found = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(found, name, value)
    return found


def _put_items(fresh: Any, items: list[Saved]) -> None:
    """Puts items into a list or deque; a parameter stays the one that an optimizer has."""
    new = [
        restored(old, one) if isinstance(old, nn.Parameter) else made(one)
        for old, one in itertools.zip_longest([*fresh][: len(items)], items)
    ]
    fresh.clear()
    fresh.extend(new)


def _put_entries(fresh: Any, entries: list[tuple[Saved, Saved]]) -> None:
    new = {made(key): one for key, one in entries}
    kept = {key: old for key, old in fresh.items() if key in new and isinstance(old, nn.Parameter)}
    fresh.clear()
    fresh.update({key: restored(kept.get(key), one) for key, one in new.items()})


SEQUENCES: dict[str, Callable[..., Any]] = {kind.__name__: kind for kind in (list, tuple, set, frozenset, torch.Size)}
MAPPINGS: dict[str, Callable[..., Any]] = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}
INSTANCES: dict[str, Callable[..., Any]] = {
    "enum": lambda kind, value: kind(made(value)),
    "named": lambda kind, items: kind(*map(made, items)),
    "frozen": lambda kind, fields: _frozen(kind, {name: made(one) for name, one in fields.items()}),
    "instance": lambda kind, *arguments: kind(*arguments),
}
GENERATORS: dict[str, Callable[[], Any]] = {
    "torch.Generator": torch.Generator,
    "numpy.Generator": np.random.default_rng,
    "numpy.RandomState": np.random.RandomState,
    "random.Random": random.Random,
}
TYPES: dict[str, type] = {
    "torch.Generator": torch.Generator,
    "numpy.Generator": np.random.Generator,
    "numpy.RandomState": np.random.RandomState,
    "random.Random": random.Random,
}
SETTERS: dict[str, Callable[[Any, Any], object]] = {
    "torch.Generator": lambda one, state: one.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8)),
    "numpy.Generator": lambda one, state: setattr(one.bit_generator, "state", made(state)),
    "numpy.RandomState": lambda one, state: one.set_state(made(state)),
    "random.Random": lambda one, state: one.setstate(made(state)),
}
IN_PLACE: dict[str, Callable[[Any, Any], object]] = {
    "list": _put_items,
    "deque": lambda fresh, value: _put_items(fresh, value[0]),
    **dict.fromkeys(("dict", "OrderedDict", "Counter", "defaultdict"), _put_entries),
}
