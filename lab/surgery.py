"""Toggles for a network that was not written for ablation: its modules, taken out or replaced by others."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from lab.imports import load
from lab.sections import did_you_mean

NUM_GROUPS = 32  # Wu and He 2018, section 4.1
PLAIN = (bool, int, float, str, tuple, list)


def remove_modules(network: nn.Module, patterns: Sequence[str]) -> None:
    """Puts ``nn.Identity`` in place of the modules whose path matches (``*`` also spans dots), in place.

    Raises ValueError for a pattern that matches none.
    """
    for pattern in patterns:
        paths = [path for path, _ in network.named_modules(remove_duplicate=False) if path]
        found = [path for path in paths if fnmatchcase(path, pattern)]
        if not found:
            there = f"there are {', '.join(dict(network.named_children()))} and what is in them"
            raise ValueError(f"model.remove: no module {pattern!r}{did_you_mean(pattern, paths, there)}")
        _put(network, {path: nn.Identity() for path in found})


def replace_modules(network: nn.Module, swaps: Mapping[str, str]) -> None:
    """Puts new modules in place of those of a class, by the class's name, in place; a swap does not see another's.

    The new class, of ``torch.nn`` or an import path, may have positional arguments after it: ``GroupNorm(8)``. For what
    else its signature names it takes the old module's attributes of the same name (``eps``, ``kernel_size``), and for
    ``num_features`` and ``num_channels`` the old module's channels. ``GroupNorm`` without arguments has 32 groups, or
    as many below that as divide the channels. Raises ValueError where no module is of the class, where the new class
    does not exist, or where it needs an argument that the old module does not have.
    """
    modules = {path: module for path, module in network.named_modules(remove_duplicate=False) if path}
    new: dict[str, nn.Module] = {}
    for old, spec in swaps.items():
        found = {path: module for path, module in modules.items() if type(module).__name__ == old}
        if not found:
            kinds = sorted({type(module).__name__ for module in modules.values()})
            hint = did_you_mean(old, kinds, f"there are {', '.join(kinds)}")
            raise ValueError(f"model.replace: no module of class {old!r}{hint}")
        make, arguments = _parse(spec)
        made = {id(module): _make(spec, make, arguments, module) for module in found.values()}
        new |= {path: made[id(module)] for path, module in found.items()}  # what was shared stays shared
    _put(network, new)


def _put(network: nn.Module, new: Mapping[str, nn.Module]) -> None:
    """Sets modules by path; those inside one that goes as well go with it."""
    for path, module in new.items():
        parent, _, name = path.rpartition(".")
        if not any(path.startswith(f"{other}.") for other in new):
            setattr(network.get_submodule(parent), name, module)


def _parse(spec: str) -> tuple[Callable[..., Any], list[Any]]:
    """Parses ``GroupNorm(8)`` as class and arguments; raises ValueError, and PartError for an import path."""
    match = re.fullmatch(r"([\w.:]+)(?:\((.*)\))?", spec)
    try:
        arguments = json.loads(f"[{match[2] or ''}]") if match else None
    except json.JSONDecodeError:
        arguments = None
    if match is None or arguments is None:
        raise ValueError(f"model.replace: must be a class and its arguments such as GroupNorm(8), got {spec!r}")
    name = match[1]
    if ":" in name:
        return load(name), arguments
    kinds = [known for known, kind in vars(nn).items() if isinstance(kind, type) and issubclass(kind, nn.Module)]
    if name not in kinds:
        hint = did_you_mean(name, kinds, "or an import path package.module:attribute")
        raise ValueError(f"model.replace: torch.nn has no module {name!r}{hint}")
    return getattr(nn, name), arguments


def _make(spec: str, make: Callable[..., Any], arguments: list[Any], old: nn.Module) -> nn.Module:
    channels = _channels(old)
    if make is nn.GroupNorm and not arguments and channels is not None:
        arguments = [max(groups for groups in range(1, NUM_GROUPS + 1) if channels % groups == 0)]
    signature = inspect.signature(make)
    left = list(signature.parameters)[len(arguments) :]
    given = {name: getattr(old, name) for name in left if isinstance(getattr(old, name, None), PLAIN)}
    if channels is not None:
        given |= {name: channels for name in ("num_features", "num_channels") if name in left}
    if "bias" in left and hasattr(old, "bias"):
        given["bias"] = old.bias is not None
    try:
        signature.bind(*arguments, **given)
    except TypeError as error:
        rule = f"{spec} can't take the place of {type(old).__name__}: {error}; write it as in GroupNorm(8)"
        raise ValueError(f"model.replace: {rule}") from None
    new = make(*arguments, **given)
    if not isinstance(new, nn.Module):
        raise ValueError(f"model.replace: {spec} must be a torch.nn.Module, is {new!r}")
    return new


def _channels(module: nn.Module) -> int | None:
    """Counts the channels that come out of a normalisation or a convolution; None of others."""
    counts = (getattr(module, name, None) for name in ("num_features", "num_channels", "out_channels"))
    return next((count for count in counts if isinstance(count, int)), None)
