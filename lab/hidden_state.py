"""State that a network keeps where its ``state_dict`` does not look: in plain attributes and unsaved buffers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

OWN = frozenset(vars(nn.Module()))  # what every module has
PLAIN = (bool, int, float, str, bytes, type(None))


def hidden_state(network: nn.Module) -> dict[str, Any]:
    """A copy by path: attributes that are numbers, text, tensors or lists, tuples, dicts of them; unsaved buffers."""
    return {path: _copied(value) for path, _, _, value in _attributes(network)}


def load_hidden_state(network: nn.Module, state: dict[str, Any]) -> None:
    """Puts back what :func:`hidden_state` gave, tensors in place: who else refers to them sees it too."""
    for path, module, name, value in list(_attributes(network)):
        if path not in state:
            continue
        kept = state[path]
        if isinstance(value, Tensor) and isinstance(kept, Tensor) and value.shape == kept.shape:
            with torch.no_grad():
                value.copy_(kept)
        else:
            setattr(module, name, _copied(kept))


def _attributes(network: nn.Module) -> Iterator[tuple[str, nn.Module, str, Any]]:
    saved = {value.untyped_storage().data_ptr() for value in network.parameters()}
    for path, module in network.named_modules():
        for name, value in vars(module).items():
            if name not in OWN and _is_state(value, saved):
                yield f"{path}.{name}", module, name, value
        for name in module._non_persistent_buffers_set:
            if module._buffers.get(name) is not None:
                yield f"{path}.{name}", module, name, module._buffers[name]


def _is_state(value: object, saved: set[int]) -> bool:
    """Whether it can be copied and put back: no parameter, nor a tensor that is computed from one."""
    if isinstance(value, Tensor):
        is_own = value.layout is torch.strided and value.untyped_storage().data_ptr() not in saved
        return is_own and not value.requires_grad and not isinstance(value, nn.Parameter)
    if type(value) is dict:
        return all(isinstance(key, PLAIN) for key in value) and all(_is_state(one, saved) for one in value.values())
    return type(value) in PLAIN or (type(value) in (list, tuple) and all(_is_state(one, saved) for one in value))  # type: ignore[attr-defined]  # a list or tuple, as asked before


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    return type(value)(_copied(one) for one in value) if isinstance(value, list | tuple) else value
