"""Weights of a network, and the rest of its state: copied, put back, and written to a file."""

from __future__ import annotations

import copy
import io
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lab.saved_values import fits


def copied_weights(network: nn.Module) -> dict[str, Any]:
    """Returns a copy of the ``state_dict``: tensors, and whatever else modules keep there."""
    state = network.state_dict()
    return {name: value.clone() if isinstance(value, Tensor) else copy.deepcopy(value) for name, value in state.items()}


def module_state(module: nn.Module) -> dict[str, Any]:
    """Returns what a module saves, and which of its parameters are trained."""
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    return {"saved": module.state_dict(), "trained": trained}


def load_module_state(module: nn.Module, state: dict[str, Any]) -> None:
    """Puts back what :func:`module_state` gave."""
    load_weights(module, state["saved"])
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in state["trained"])


def load_weights(network: nn.Module, weights: dict[str, Any]) -> None:
    """Loads a ``state_dict``; a buffer that has grown, came into being or is an expanded value gets another place."""
    for path, module in network.named_modules():
        for name, buffer in module._buffers.items():
            value = weights.get(f"{path}.{name}" if path else name)
            if isinstance(value, Tensor) and (buffer is None or not fits(buffer, value)):
                module._buffers[name] = value.clone()
    network.load_state_dict(weights)


def save_weights(weights: dict[str, Any], path: Path) -> None:
    """Writes aside, then renames: a reader sees the old file or the new one, whole. Raises OSError without room."""
    whole = io.BytesIO()
    torch.save(weights, whole)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(whole.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
