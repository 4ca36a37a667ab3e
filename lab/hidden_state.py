"""State that a network keeps where its ``state_dict`` does not look: in attributes, and in buffers it leaves out."""

from __future__ import annotations

import random
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

OWN = frozenset(vars(nn.Module()))  # what every module has
PLAIN = (bool, int, float, str, bytes, type(None))
LIBRARIES = sys.stdlib_module_names | {"torch", "numpy"}  # whose objects are known here, or are not looked into
NO_HOLDER = (type, FunctionType, MethodType, ModuleType, Tensor, np.ndarray)
Saved = tuple[str, Any]  # the kind of a value, and what makes another like it: plain data and tensors alone


class _NoState(Exception):  # noqa: N818  # a finding
    """The value cannot be copied and put back."""


def hidden_state(network: nn.Module) -> dict[str, Saved]:
    """Returns a copy, by path, of what modules, and plain objects that they hold, have in their attributes.

    That is numbers, text, tensors and arrays, lists, tuples, dicts, sets and deques of them, and generators; and
    buffers that are not saved. Parameters, what is computed from them, functions and locks are no state of this kind.
    """
    return {path: saved for path, _, _, saved in _attributes(network)}


def load_hidden_state(network: nn.Module, state: dict[str, Saved]) -> None:
    """Puts back what :func:`hidden_state` gave, in place where it can: who else refers to a value sees it too."""
    for path, holder, name, saved in list(_attributes(network)):
        if path in state and holder.get(name) is not None and saved[0] == state[path][0] and saved[0] in IN_PLACE:
            IN_PLACE[saved[0]](holder, name, state[path][1])
        elif path in state:
            holder[name] = _made(state[path])


def _attributes(network: nn.Module) -> Iterator[tuple[str, dict[str, Any], str, Saved]]:
    """Yields a path, the dict that has it, the name in it, and the value saved."""
    taken = {_place(one) for one in [*network.parameters(), *network.buffers()]}
    for path, holder in _holders(network):
        for name, value in list(holder.items()):
            try:
                yield f"{path}.{name}", holder, name, _saved(value, taken)
            except (_NoState, RecursionError):  # a list that holds itself
                continue
    for path, module in network.named_modules():
        for name in module._non_persistent_buffers_set:
            if module._buffers.get(name) is not None:
                yield f"{path}.{name}", module._buffers, name, ("Tensor", module._buffers[name].detach().clone())


def _holders(network: nn.Module) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each module's attributes but those that every module has, and those of objects among them, once each."""
    waiting: list[tuple[str, Any]] = list(network.named_modules())
    seen = {id(one) for _, one in waiting}
    for path, one in waiting:
        holder = vars(one)
        yield path, _Own(holder) if isinstance(one, nn.Module) else holder
        for name, value in holder.items():
            is_object = hasattr(value, "__dict__") and not isinstance(value, (nn.Module, *NO_HOLDER))
            is_object = is_object and type(value).__module__.partition(".")[0] not in LIBRARIES
            if is_object and not (isinstance(one, nn.Module) and name in OWN) and id(value) not in seen:
                seen.add(id(value))
                waiting.append((f"{path}.{name}", value))


class _Own(dict[str, Any]):
    """A module's attributes without torch's own; what is set is set in the module."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        super().__init__({name: value for name, value in attributes.items() if name not in OWN})
        self._attributes = attributes

    def __setitem__(self, name: str, value: Any) -> None:
        self._attributes[name] = value


def _place(tensor: Tensor) -> int:
    if is_lazy(tensor) or tensor.layout is not torch.strided:
        return id(tensor)
    return tensor.untyped_storage().data_ptr()


# --- values ---------------------------------------------------------------------------------------------------------


def _saved(value: Any, taken: set[int]) -> Saved:
    kind = type(value)
    if kind in PLAIN:
        return "plain", value
    if isinstance(value, Tensor):
        if value.requires_grad or isinstance(value, nn.Parameter) or _place(value) in taken:
            raise _NoState
        return "Tensor", value.detach().clone()
    if kind in (list, tuple, set):
        return kind.__name__, [_saved(one, taken) for one in value]
    if kind is deque:
        return "deque", ([_saved(one, taken) for one in value], value.maxlen)
    if kind in (dict, OrderedDict, Counter, defaultdict):
        return kind.__name__, [(_saved(key, taken), _saved(one, taken)) for key, one in value.items()]
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        array = np.asarray(value)
        return "array", (array.dtype.str, list(array.shape), array.tobytes(), isinstance(value, np.generic))
    return _saved_generator(value)


def _saved_generator(value: Any) -> Saved:
    if isinstance(value, torch.Generator):
        return "torch.Generator", value.get_state()
    if isinstance(value, np.random.Generator):
        return "numpy.Generator", _saved(value.bit_generator.state, set())
    if isinstance(value, np.random.RandomState):
        return "numpy.RandomState", _saved(value.get_state(legacy=False), set())
    if type(value) is random.Random:
        return "random.Random", _saved(value.getstate(), set())
    raise _NoState


def _made(saved: Saved) -> Any:
    kind, value = saved
    if kind in ("plain", "Tensor"):
        return value.clone() if kind == "Tensor" else value
    if kind in SEQUENCES:
        return SEQUENCES[kind](map(_made, value))
    if kind in MAPPINGS:
        return MAPPINGS[kind]({_made(key): _made(one) for key, one in value})
    if kind == "deque":
        return deque(map(_made, value[0]), value[1])
    if kind == "array":
        array = np.frombuffer(value[2], value[0]).reshape(value[1]).copy()
        return array[()] if value[3] else array
    made = GENERATORS[kind]()
    SETTERS[kind](made, value)
    return made


SEQUENCES: dict[str, Callable[..., Any]] = {"list": list, "tuple": tuple, "set": set}
MAPPINGS: dict[str, Callable[..., Any]] = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}
GENERATORS: dict[str, Callable[[], Any]] = {
    "torch.Generator": torch.Generator,
    "numpy.Generator": np.random.default_rng,
    "numpy.RandomState": np.random.RandomState,
    "random.Random": random.Random,
}
SETTERS: dict[str, Callable[[Any, Any], object]] = {
    "torch.Generator": lambda one, state: one.set_state(state.cpu()),
    "numpy.Generator": lambda one, state: setattr(one.bit_generator, "state", _made(state)),
    "numpy.RandomState": lambda one, state: one.set_state(_made(state)),
    "random.Random": lambda one, state: one.setstate(_made(state)),
}


def _put_tensor(holder: dict[str, Any], name: str, value: Tensor) -> None:
    if holder[name].shape == value.shape and holder[name].dtype == value.dtype:
        with torch.no_grad():
            holder[name].copy_(value)
    else:
        holder[name] = value.clone()


def _put_items(holder: dict[str, Any], name: str, value: Any) -> None:
    holder[name].clear()
    holder[name].extend(map(_made, value))


def _put_entries(holder: dict[str, Any], name: str, value: Any) -> None:
    holder[name].clear()
    holder[name].update({_made(key): _made(one) for key, one in value})


def _put_state(kind: str) -> Callable[[dict[str, Any], str, Any], object]:
    return lambda holder, name, value: SETTERS[kind](holder[name], value)


IN_PLACE: dict[str, Callable[[dict[str, Any], str, Any], object]] = {
    "Tensor": _put_tensor,
    "list": _put_items,
    "deque": lambda holder, name, value: _put_items(holder, name, value[0]),
    **dict.fromkeys(("dict", "OrderedDict", "Counter", "defaultdict"), _put_entries),
    **{kind: _put_state(kind) for kind in GENERATORS},
}
