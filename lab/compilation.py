"""torch.compile for any network, and the way back where it fails."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import chain

import torch
from torch import Tensor, nn

from lab.device import autocast, memory_format, transfer
from lab.hidden_state import hidden_state, load_hidden_state
from lab.outputs import tensors_of
from lab.streams import kept_generators

_last: list[Hashable] = []  # what this process compiled last


def compile_network(
    model: nn.Module, X: Tensor, device: torch.device, precision: str, kind: Hashable, backend: str = "inductor"
) -> str | None:
    """Compiles the network in place; returns None, or in words why it runs uncompiled.

    Compilation happens, and may fail, at the first training and evaluation pass: here, on the batch ``X`` ``(N, C, H,
    W)``, so that no trial pays for it inside its clock. Parameters, buffers and random streams are left as they were.
    ``kind`` is the same for networks that can share what was compiled; where it changes, the compiler forgets, since it
    gives up silently after a few variants of one piece of code.
    """
    if _last != [kind]:
        torch.compiler.reset()
        _last[:] = [kind]
    kept = [(tensor, tensor.detach().clone()) for tensor in chain(model.parameters(), model.buffers())]
    roots, tensors = {"network": model}, [tensor for tensor, _ in kept]
    training, hidden = model.training, hidden_state(roots, tensors)
    layout = memory_format(device, precision, model)
    try:
        model.compile(backend=backend)
        with kept_generators():
            for passes in (True, False):
                model.train(passes)
                with torch.set_grad_enabled(passes), autocast(device, precision):
                    outputs = list(tensors_of(model(transfer(X, device, layout))))
                if passes:
                    torch.stack([one.float().sum() for one in outputs if one.requires_grad]).sum().backward()
    except Exception as error:  # noqa: BLE001  # whatever the compiler raises: the network itself may be sound
        model._compiled_call_impl = None
        said = str(error).partition("\n\n")[0]  # what follows is advice on how to debug the compiler
        return f"{type(error).__name__}: {' '.join(said.split())}"
    finally:
        model.train(training)
        model.zero_grad(set_to_none=True)
        load_hidden_state(roots, hidden, tensors, strict=False)
        with torch.no_grad():
            for tensor, before in kept:
                tensor.copy_(before)
    return None
