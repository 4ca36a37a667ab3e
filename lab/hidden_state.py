"""State that objects keep where no ``state_dict`` looks: in attributes, containers and closures, and what these hold.

What is found belongs to a network, a loss or an optimizer: their own attributes, those of what they hold, and plain
values of the classes and modules of the user that these come from, such as a count of steps.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import enum
import functools
import io
import queue
import sys
import types
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lab.saved_values import PLAIN, NoState, Saved, place, restored, saved

OPTIMIZER = torch.optim.SGD([torch.zeros(1)])
COMPILED = "_compiled_call_impl"  # torch.compile sets it in a module
OWN = {nn.Module: frozenset([*vars(nn.Module()), COMPILED]), torch.optim.Optimizer: frozenset(vars(OPTIMIZER))}
LIBRARIES = sys.stdlib_module_names | {"torch", "numpy", "lab", "bench"}  # whose objects are not looked into, but for
KNOWN = (types.SimpleNamespace, argparse.Namespace, queue.Queue, torch.quasirandom.SobolEngine)
STATE_DICT, SAME = "state_dict()", "same"  # kinds of a saved value, beside those of lab.saved_values
Put = Callable[[Any, Any], object]
State = dict[str, dict[str, Any]]  # by path of an object: its values that are saved, and the kinds of the others


class UnrestorableError(ValueError):
    """A value that changed in training cannot be put back; the message names it."""


@dataclass(frozen=True)
class _Holder:
    """What an object holds, by name, and how a name of it is given another value."""

    values: Mapping[Any, Any]
    put: Put
    drop: Callable[[Any], object] | None = None  # None where others may add names meanwhile
    is_shared: bool = False  # by all that comes from it: a class, a module


def hidden_state(roots: Mapping[str, Any], elsewhere: Iterable[Tensor] = (), start: State | None = None) -> State:
    """Returns a copy, by path, of what the objects and all that they hold keep, but for tensors saved ``elsewhere``.

    Of classes and modules, only what is other than in ``start``.
    """
    places, first = {place(one) for one in elsewhere}, dict[int, str]()
    return {
        path: _shared_state(holder, (start or {}).get(path)) if holder.is_shared else _held(path, holder, places, first)
        for path, holder in _holders(roots, places)
    }


def load_hidden_state(
    roots: Mapping[str, Any], state: State, elsewhere: Iterable[Tensor] = (), *, strict: bool = True
) -> None:
    """Puts back what :func:`hidden_state` gave, in place where it can: who else refers to a value sees it too.

    Raises :class:`UnrestorableError` in words where something cannot be; without ``strict`` it stays as it is.
    """
    places = {place(one) for one in elsewhere}
    here = dict(_holders(roots, places))
    if strict:
        for path, held in state.items():
            if path in here:
                _check(path, here[path], held["others"])
            elif held["saved"] or held["others"]:
                raise UnrestorableError(f"{path} cannot be restored: it came into being in training")
    loaded: dict[str, Any] = {}
    for path, held in state.items():
        if path in here:
            _load(path, here[path], held, places, loaded)


def _held(path: str, holder: _Holder, places: Collection[int], first: dict[int, str]) -> dict[str, Any]:
    found: dict[Any, Saved] = {}
    others: dict[Any, str] = {}
    for name, value in holder.values.items():
        try:
            same = None if isinstance(value, PLAIN) else first.get(id(value))
            found[name] = _saved(value, places) if same is None else (SAME, same)
            first.setdefault(id(value), f"{path}.{name}")
        except (NoState, RecursionError):  # a list that holds itself
            others[name] = _kind(value)
    return {"saved": found, "others": others}


def _shared_state(holder: _Holder, start: dict[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Saved] = {}
    before = start["saved"] if start is not None else {}
    for name, value in holder.values.items():
        with contextlib.suppress(NoState, RecursionError):
            found[name] = saved(value, None)
    return {"saved": {name: one for name, one in found.items() if before.get(name) != one}, "others": {}}


def _saved(value: Any, places: Collection[int], *, copies: bool = True) -> Saved:
    if isinstance(value, _StateDict):
        return STATE_DICT, copy.deepcopy(value.of.state_dict()) if copies else None
    return saved(value, places, copies=copies)


def _check(path: str, holder: _Holder, others: dict[Any, str]) -> None:
    for name, kind in others.items():
        now = _kind(holder.values[name]) if name in holder.values else "nothing"
        if now != kind:
            raise UnrestorableError(f"{path}.{name} cannot be restored: it was {kind}, and is {now} at the start")
        if _is_iterator(holder.values[name]):
            raise UnrestorableError(f"{path}.{name} cannot be restored: nobody can read the place of {kind}")


def _load(path: str, holder: _Holder, held: dict[str, Any], places: Collection[int], loaded: dict[str, Any]) -> None:
    """Puts the values of one object back; what was one value in two places is one again, what was two is two."""
    if holder.drop is not None:
        for name in [name for name in holder.values if name not in held["saved"] and name not in held["others"]]:
            holder.drop(name)
    for name, state in held["saved"].items():
        fresh = holder.values.get(name)
        if state[0] == STATE_DICT:
            _load_state_dict(fresh.of, state[1])  # type: ignore[union-attr]  # where it was saved
            continue
        taken = any(fresh is one for one in loaded.values()) or (isinstance(fresh, Tensor) and place(fresh) in places)
        value = loaded.get(state[1], fresh) if state[0] == SAME else restored(None if taken else fresh, state)
        if not isinstance(value, PLAIN):
            loaded[f"{path}.{name}"] = value
        holder.put(name, value)


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _is_iterator(value: Any) -> bool:
    """Tells whether a value has a place in a sequence that nobody can read, as that of a generator."""
    return hasattr(type(value), "__next__") and not isinstance(value, io.IOBase) and _holder(value) is None


@dataclass(frozen=True)
class _StateDict:
    """An optimizer, whose state is what its ``state_dict`` gives."""

    of: torch.optim.Optimizer


def _load_state_dict(one: torch.optim.Optimizer, state: Any) -> None:
    """Loads the state of an optimizer in place, so that whoever shares its groups with it still does."""
    before, groups = one.state, one.param_groups
    one.load_state_dict(state)
    if one.state is before:
        return  # by a method of its own
    before.clear()
    before.update(one.state)
    for group, loaded in zip(groups, one.param_groups, strict=True):
        group.update(loaded)
    one.state, one.param_groups = before, groups


# --- what holds values ----------------------------------------------------------------------------------------------


def _holders(roots: Mapping[str, Any], places: Collection[int]) -> Iterator[tuple[str, _Holder]]:
    """Yields each object that holds values, once, with a path to it."""
    waiting = list(roots.items())
    seen: dict[int, Any] = {}  # kept, so that no other object is at the address
    for path, one in waiting:
        if id(one) in seen or (holder := _holder(one)) is None:
            continue
        seen[id(one)] = one
        yield path, holder
        if not holder.is_shared:
            waiting += [(f"{path}.{name}", value) for name, value in holder.values.items() if _is_open(value, places)]
            waiting += _sources(one)


def _is_open(value: Any, places: Collection[int]) -> bool:
    """Tells whether a value cannot be saved whole, so that what it holds is looked at."""
    try:
        _saved(value, places, copies=False)
    except (NoState, RecursionError):
        return True
    return False


def _holder(one: Any) -> _Holder | None:
    match one:
        case nn.Module():
            return _module(one)
        case torch.optim.Optimizer():
            return _Holder({STATE_DICT: _StateDict(one)} | _attributes(one), *_setters(one))
        case type() | types.ModuleType():
            return _shared(one) if _is_own(one) and type(one) is not enum.EnumType else None
        case list() | tuple() | deque() | dict():
            return _container(one)
        case functools.partial():
            return _fixed({"func": one.func, "args": one.args, "keywords": one.keywords})
        case types.MethodType():
            return _fixed({"self": one.__self__})
        case types.FunctionType():
            return _function(one) if _is_users(one) else None
        case _ if isinstance(one, KNOWN) or (_is_users(type(one)) and not isinstance(one, Tensor | enum.Enum)):
            return _Holder(_attributes(one), *_setters(one))
    return None


def _fixed(values: Mapping[Any, Any]) -> _Holder:
    """Makes the holder of what cannot be given another value: what is in it is changed in place."""

    def put(name: Any, value: Any) -> None:
        if value is not values[name] and value != values[name]:
            raise UnrestorableError(f"{name} was {value!r} and is {values[name]!r}, which nobody can change")

    return _Holder(values, put)


def _module(module: nn.Module) -> _Holder:
    tensors = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
    children = dict(module.named_children())

    def put(name: str, value: Any) -> None:
        if name in tensors or name in module._buffers:
            if value is not tensors.get(name):
                module._buffers[name] = value
        else:
            vars(module)[name] = value

    def drop(name: str) -> None:
        if name in module._buffers:
            module._buffers[name] = None
        else:
            vars(module).pop(name, None)

    return _Holder({**_attributes(module), **tensors, **children}, put, drop)


def _attributes(one: Any) -> dict[str, Any]:
    own = next((names for kind, names in OWN.items() if isinstance(one, kind)), frozenset())
    slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ()) if hasattr(one, name)]
    found = {name: getattr(one, name) for name in slots if not name.startswith("__")}
    for name, value in getattr(one, "__dict__", {}).items():
        if name not in own:
            found[name] = value
        elif name.endswith("hooks") and (hooks := tuple(hook for hook in value.values() if callable(hook))):
            found[name] = hooks  # what they hold: their keys count all hooks of the process
    return found


def _setters(one: Any) -> tuple[Put, Callable[[Any], object]]:
    return lambda name, value: object.__setattr__(one, name, value), lambda name: object.__delattr__(one, name)


def _container(one: Any) -> _Holder:
    if isinstance(one, dict):
        keys = {key if isinstance(key, str | int) else f"#{at}": key for at, key in enumerate(one)}
        values = {name: one[key] for name, key in keys.items()}
        return _Holder(values, lambda name, value: one.__setitem__(keys.get(name, name), value), one.__delitem__)
    values = dict(enumerate(one))
    return _fixed(values) if isinstance(one, tuple) else _Holder(values, one.__setitem__)


def _function(function: types.FunctionType) -> _Holder:
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    filled = {name: cell.cell_contents for name, cell in cells.items() if cell != types.CellType()}

    def put(name: str, value: Any) -> None:
        if name in cells:
            cells[name].cell_contents = value
        else:
            setattr(function, name, value)

    return _Holder({**vars(function), **filled}, put)


# --- the classes and modules of the user ----------------------------------------------------------------------------


def _sources(one: Any) -> list[tuple[str, Any]]:
    """Returns the user's classes of an object, and the modules that they or a function stand in."""
    kinds = [one] if isinstance(one, types.FunctionType) else type(one).__mro__
    users = [kind for kind in kinds if _is_users(kind)]
    classes = [(f"class {_name(kind)}", kind) for kind in users if isinstance(kind, type)]
    return [*classes, *((f"module {kind.__module__}", sys.modules[kind.__module__]) for kind in users)]


def own_sources(modules: Iterable[str]) -> dict[str, Any]:
    """Returns these modules, as far as they are the user's, those that they name, and their classes, by path."""
    found: dict[str, types.ModuleType] = {}
    waiting = [*modules]
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        if name in found or not isinstance(module, types.ModuleType) or not _is_own(module):
            continue
        found[name] = module
        for value in list(vars(module).values()):
            if isinstance(value, types.ModuleType):
                waiting.append(value.__name__)
            elif isinstance(value, type | types.FunctionType):
                waiting.append(value.__module__ or "")
    classes = [kind for module in found.values() for kind in list(vars(module).values()) if isinstance(kind, type)]
    return {f"module {name}": module for name, module in found.items()} | {
        f"class {_name(kind)}": kind for kind in classes if _is_own(kind) and type(kind) is not enum.EnumType
    }


def reset(sources: Mapping[str, Any], start: State) -> None:
    """Gives classes and modules back the values that they had at the ``start``, where they have others now."""
    now = hidden_state(sources)
    for path, held in start.items():
        changed = {name: one for name, one in held["saved"].items() if now[path]["saved"].get(name) != one}
        _load(path, _shared(sources[path]), {"saved": changed}, (), {})


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_users(one: Any) -> bool:
    """Tells whether a class or function is of no library that is known here."""
    return _is_users_name(getattr(one, "__module__", None) or "")


def _is_users_name(module: str) -> bool:
    return module in sys.modules and module.partition(".")[0] not in LIBRARIES


def _is_own(one: Any) -> bool:
    """Tells whether a class or module was written by the user, not installed."""
    module = one if isinstance(one, types.ModuleType) else sys.modules.get(one.__module__)
    file = getattr(module, "__file__", None) or ""
    return _is_users_name(getattr(module, "__name__", "")) and file != "" and "-packages" not in file


def _shared(one: Any) -> _Holder:
    values = {name: value for name, value in list(vars(one).items()) if not name.startswith("__")}
    return _Holder(values, lambda name, value: setattr(one, name, value), is_shared=True)
