"""Independent random streams, each derived from the seed of a trial and the stream's name."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# A tensor made at random holds what the in-place call would have filled it with.
IN_PLACE = {aten.randn.default: aten.normal_.default, aten.rand.default: aten.uniform_.default}


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed for the stream of that name; unlike names and seeds give unrelated streams."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: object) -> torch.Generator:
    """The stream as a generator on the CPU, so that its numbers are the same for every device."""
    return torch.Generator().manual_seed(derive(seed, *names))


class _Fills(TorchDispatchMode):
    """Records, for each storage, the calls that wrote to it, and where in the storage."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[int, list[tuple[Any, tuple[Any, ...], tuple[Any, ...], dict[str, Any]]]] = defaultdict(list)
        self._alive: list[Tensor] = []  # an address must not be used again while it is recorded

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in IN_PLACE:
            self._record(out, IN_PLACE[func], (), {})
        elif func._schema.is_mutable and args and isinstance(args[0], Tensor) and _is_written(func):
            self._record(args[0], func, args[1:], kwargs or {})
        return out

    def _record(self, target: Tensor, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._alive.append(target)
        where = (target.size(), target.stride(), target.storage_offset())
        self.calls[target.untyped_storage().data_ptr()].append((func, where, args, kwargs))


def _is_written(func: Any) -> bool:
    """Whether the first argument is what the call writes to; with ``out=`` it is another."""
    alias = func._schema.arguments[0].alias_info
    return alias is not None and alias.is_write


def build(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The network that ``make`` returns, each parameter filled from the stream of its own name and shape.

    The network's own rule of initial values holds: the in-place calls that filled a parameter (``normal_``,
    ``uniform_`` and what follows them) are repeated with the parameter's generator in place of the global one. So two
    networks that share a parameter share its initial values, whatever other layers stand beside it. Values computed
    out of place (``0.02 * torch.randn(...)``; torch's ``orthogonal_``, and ``trunc_normal_`` of late) are left as drawn
    from one stream in the order of construction.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "init"))
        with _Fills() as fills:
            model = make()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            stream = generator(seed, "init", name, *parameter.shape)
            for func, where, args, kwargs in fills.calls[parameter.untyped_storage().data_ptr()]:
                random = any(argument.name == "generator" for argument in func._schema.arguments)
                func(parameter.as_strided(*where), *args, **(kwargs | {"generator": stream} if random else kwargs))
    return model
