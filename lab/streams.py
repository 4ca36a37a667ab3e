"""Independent random streams, each derived from the seed of a trial and the stream's name; initial values from them."""

from __future__ import annotations

import functools
import hashlib
import math
import random
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from lab.hidden_state import hidden_state, own_sources, reset

EMPTY = {torch.ops.aten.empty, torch.ops.aten.empty_like, torch.ops.aten.empty_strided, torch.ops.aten.new_empty}
MOST_CONSTRUCTIONS = 8  # after so many the draws of a constructor are not going to settle
Owner = tuple[object, ...]  # name and shape of a parameter or buffer


def derive(seed: int, *names: object) -> int:
    """Returns a 63-bit seed for the stream of that name; unlike names and seeds give unrelated streams."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: object) -> torch.Generator:
    """Returns the stream as a generator on the CPU, so that its numbers are the same for every device."""
    return torch.Generator().manual_seed(derive(seed, *names))


def generators() -> dict[str, Any]:
    """Returns the state of the generators of torch (on the CPU), Python and numpy: tensors and plain numbers."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
    }


def restore_generators(state: Mapping[str, Any]) -> None:
    """Puts the generators into a state that :func:`generators` returned."""
    torch.set_rng_state(state["torch"].cpu())
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))


@contextmanager
def kept_generators() -> Iterator[None]:
    """Puts the generators of Python, numpy and torch, on cards that are in use too, back as they were."""
    state = generators()
    cards = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        restore_generators(state)
        if cards:
            torch.cuda.set_rng_state_all(cards)


def _seed_torch(seed: int) -> None:
    """Does what ``torch.manual_seed`` does; where no card is in use, without the milliseconds that it takes."""
    if torch.cuda.is_initialized():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


# --- initial values -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Construction:
    """A network, and another that was made on the way: what is to be tried before training is tried on that."""

    network: nn.Module
    rehearsal: nn.Module
    note: str | None = None  # in words, where the network does not share initial values with others


def build(make: Callable[[], nn.Module], seed: int, *, check: bool = True) -> nn.Module:
    """Makes a network as its author wrote it, where each random number comes from the stream of what it ends up in.

    ``make`` is called at least twice. The first time shows which random call of torch ends in which parameter or
    buffer; from then on each call draws from the stream of that one's name and shape, and all that follows the call
    (scaling, copies, a norm, an orthogonal basis) is computed from what it drew. So two networks that share a parameter
    share its initial values, whatever other layers stand beside it, and what holds between the values of a network made
    plainly holds in this one. A call that ends in none, and numpy's and Python's generators, draw in the order of
    construction. Where the calls of a constructor are others each time, all of it draws from one stream. Raises
    ValueError where parameters or buffers start from other values each time; what is known not to needs no ``check``.
    """
    return _settle(_from_one_start(make) if check else make, seed, [], check=check)[0]


def _from_one_start(make: Callable[[], nn.Module], modules: Iterable[str] = ()) -> Callable[[], nn.Module]:
    """Lets each construction find the user's classes and modules as the first one did: their counts, lists, caches."""
    sources = own_sources([*modules, make.__module__])
    start = hidden_state(sources)

    def made() -> nn.Module:
        reset(sources, start)
        return make()

    return made


def rehearse(
    make: Callable[[], nn.Module], seed: int, forward: Callable[[nn.Module], object], modules: Iterable[str] = ()
) -> Construction:
    """Does what :func:`build` does, and makes the parameters that come into being in the first ``forward`` pass.

    Only a network that makes parameters then is asked for a forward pass; others start untouched. ``modules`` names
    those of the user that ``make`` runs code of, beside its own.
    """
    make = _from_one_start(make, modules)
    first = _construct(make, seed, [], forward)
    grown = make if not first.grew else functools.partial(_grown, make, forward)
    network, note = _settle(grown, seed, first.draws)
    return Construction(network, first.network, note)


def _grown(make: Callable[[], nn.Module], forward: Callable[[nn.Module], object]) -> nn.Module:
    network = make()
    forward(network)
    return network


def _settle(
    make: Callable[[], nn.Module], seed: int, draws: list[_Draw], *, check: bool = True
) -> tuple[nn.Module, str | None]:
    """Constructs until each draw came from the stream of what it ended up in; else once more, from one stream."""
    for _ in range(MOST_CONSTRUCTIONS):
        made = _construct(make, seed, draws, marks=check)
        if made.settled:
            if check:
                _raise_if_unlike(made.network, _construct(make, seed, made.draws).network)
            return made.network, None
        draws = made.draws
        del made  # one network at a time: a second one would need memory of its own
    note = "its constructor draws in another way each time: initial values are not shared with other networks"
    return _construct(make, seed, []).network, note


@dataclass(frozen=True)
class _Draw:
    """A random call of a constructor: what it is, and the owner of the stream that it draws from."""

    key: Hashable
    owner: Owner | None


@dataclass(frozen=True)
class _Constructed:
    network: nn.Module
    draws: list[_Draw]  # with the owners as they turned out
    settled: bool  # each draw came from the stream of what it ended up in
    grew: bool


def _construct(
    make: Callable[[], nn.Module],
    seed: int,
    plan: list[_Draw],
    forward: Callable[[nn.Module], object] | None = None,
    *,
    marks: bool = True,
) -> _Constructed:
    with kept_generators():
        _seed_torch(derive(seed, "init"))
        np.random.seed(derive(seed, "init", "numpy") % 2**32)
        random.seed(derive(seed, "init", "python"))
        with _Draws(seed, plan, marks=marks) as draws:
            network = make()
            made, num_draws = _parameter_names(network), len(draws.used)
            if forward is not None:
                forward(network)
        grew = _parameter_names(network) != made
        if not grew:
            del draws.used[num_draws:]
        owners = draws.owners(network)
    settled = owners == [draw.owner for draw in draws.used]
    turned_out = [_Draw(draw.key, owner) for draw, owner in zip(draws.used, owners, strict=True)]
    return _Constructed(network, turned_out, settled, grew)


def _parameter_names(network: nn.Module) -> set[tuple[str, bool]]:
    return {(name, is_lazy(parameter)) for name, parameter in network.named_parameters()}


def _raise_if_unlike(one: nn.Module, other: nn.Module) -> None:
    values = _values(other)
    unlike = [name for name, value in _values(one).items() if name not in values or not _same(values[name], value)]
    if unlike:
        rule = "must be the same each time that the network is made with one seed, but differs"
        how = "draw it from torch's, numpy's or Python's own generator, or seed the one that it is drawn from"
        raise ValueError(f"the initial value of {unlike[0]} {rule}: {how}")


def _values(network: nn.Module) -> dict[str, Tensor]:
    """Returns all parameters and buffers that have values."""
    named = [*network.named_parameters(), *network.named_buffers()]
    return {name: value for name, value in named if not is_lazy(value)}


def _same(one: Tensor, other: Tensor) -> bool:
    """Compares bit for bit, but for which NaN it is."""
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device or one.is_meta:
        return one.is_meta and other.is_meta
    return bool(((one == other) | ((one != one) & (other != other))).all())


class _Draws(TorchDispatchMode):
    """Follows where random numbers go, and lets each call draw from the stream that a plan has for it.

    What a call drew is followed from storage to storage, with the number of operations in between: the parameter that
    is nearest to a call owns it. A call that the plan does not have, as where a rejected number is drawn again, is
    taken for one of the last owner's if it is of a kind that this one had before. A constructor that seeds torch's
    generator itself draws equal numbers where it seeds equally, and others for another seed of the trial.
    """

    def __init__(self, seed: int, plan: list[_Draw], *, marks: bool) -> None:
        super().__init__()
        self._marks = marks
        self.used: list[_Draw] = []
        self._seed, self._plan, self._next = seed, plan, 0
        self._sizes: list[int] = []
        self._streams: dict[tuple[Owner, torch.device], Tensor] = {}
        self._storages: dict[int, StorageWeakRef] = {}  # an address is not used again while it is referred to
        self._held: dict[int, dict[int, int]] = {}  # by storage: the calls whose numbers it holds, and how far away
        self._home = self._left = torch.get_rng_state()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to keep it from that takes longer than most calls

    # --- drawing ---

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags and _is_ours(args, kwargs):
            out = self._draw(func, args, kwargs)
            self._follow(func, args, kwargs, out, len(self.used) - 1)
        else:
            out = func(*args, **kwargs)
            self._follow(func, args, kwargs, out)
            if self._marks and func.overloadpacket in EMPTY:
                _mark(out)
        return out

    def _draw(self, func: Any, args: Any, kwargs: Any) -> Any:
        device = _device(args, kwargs)
        owner, key = None, None
        if not self._is_seeded_by_the_author():
            key = (str(func), _shape(args), str(device), _site())
            owner = self._planned(key)
        self.used.append(_Draw(key, owner))
        if owner is None:
            out = func(*args, **kwargs)
        else:
            with self._stream(owner, device):
                out = func(*args, **kwargs)
        self._left = torch.get_rng_state()
        if key is not None:
            self._home = self._left
        self._sizes.append(sum(one.numel() for one in _tensors(out)))
        return out

    def _is_seeded_by_the_author(self) -> bool:
        state = torch.get_rng_state()
        if torch.equal(state, self._home):
            return False
        if not torch.equal(state, self._left):
            _seed_torch(derive(self._seed, "init", hashlib.sha256(state.numpy().tobytes()).hexdigest()))
        return True

    def _planned(self, key: Hashable) -> Owner | None:
        plan, start = self._plan, self._next
        last = self.used[-1].owner if self.used else None
        found = next((at for at in range(start, len(plan)) if plan[at].key == key), None)
        if found != start and last is not None:
            had = any(draw.key == key and draw.owner == last for draw in plan[:start])
            fewer = found is not None and all(draw.owner == last for draw in plan[start:found])
            if had and not fewer:
                return last
        if found is None:
            return None
        self._next = found + 1
        return plan[found].owner

    @contextmanager
    def _stream(self, owner: Owner, device: torch.device) -> Iterator[None]:
        """Puts the device's generator where the owner's stream stands, and back afterwards."""
        ours = _default_generator(device)
        before = ours.get_state()
        if (owner, device) not in self._streams:
            start = torch.Generator(device).manual_seed(derive(self._seed, "init", *owner))
            self._streams[owner, device] = start.get_state()
        ours.set_state(self._streams[owner, device])
        yield
        self._streams[owner, device] = ours.get_state()
        ours.set_state(before)

    # --- following ---

    def _follow(self, func: Any, args: Any, kwargs: Any, out: Any, draw: int | None = None) -> None:
        if not self._held and draw is None:
            return
        before: dict[int, int] = {}
        for tensor in _tensors(args, *kwargs.values()):
            for call, distance in self._held.get(_storage(tensor), {}).items():
                before[call] = min(distance + 1, before.get(call, distance + 1))
        if draw is not None:
            before[draw] = 0
        if not before:
            return
        written = [args[at] if at < len(args) else kwargs.get(name) for at, name in _written(func)]
        for tensor in _tensors(out, *written):
            reference = StorageWeakRef(tensor.untyped_storage())
            self._storages.setdefault(reference.cdata, reference)
            held = self._held.setdefault(reference.cdata, {})
            for call, distance in before.items():
                held[call] = min(distance, held.get(call, distance))

    def owners(self, network: nn.Module) -> list[Owner | None]:
        """Returns the parameter or buffer that owns each draw."""
        best: dict[int, tuple[tuple[int, bool], Owner]] = {}
        for name, tensor in _values(network).items():
            for call, distance in self._held.get(_storage(tensor), {}).items():
                if call >= len(self.used) or self.used[call].key is None:
                    continue
                rank = (distance, tensor.numel() != self._sizes[call])
                if call not in best or rank < best[call][0]:
                    best[call] = rank, (name, *tensor.shape)
        return [best[call][1] if call in best else None for call in range(len(self.used))]


def _mark(empty: Tensor) -> None:
    """Fills what has no values yet, so that those that it is never given show: NaN, or zero."""
    if empty.device.type != "meta" and not empty.is_quantized and empty.layout is torch.strided:
        empty.fill_(math.nan if empty.is_floating_point() or empty.is_complex() else 0)


def _is_ours(args: Any, kwargs: Any) -> bool:
    """Tells whether a random call draws numbers, and from the generator that all draw from."""
    own: torch.Generator | None = kwargs.get("generator")
    return _device(args, kwargs).type != "meta" and (own is None or own is _default_generator(own.device))


def _default_generator(device: torch.device) -> torch.Generator:
    if device.type == "cuda":
        return torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()
    return torch.default_generator


def _device(args: Any, kwargs: Any) -> torch.device:
    """Finds the device that a random call draws on: where its tensors lie, else where it is asked to make one."""
    tensors = _tensors(args, *kwargs.values())
    return tensors[0].device if tensors else torch.device(kwargs.get("device") or "cpu")


def _shape(args: Any) -> Hashable:
    return tuple((one.shape, one.dtype) if isinstance(one, Tensor) else repr(one) for one in args)


def _site() -> Hashable:
    """Returns the lines of code that a random call is made from."""
    frame, lines = sys._getframe(2), []
    while frame is not None and frame.f_code is not _construct.__code__:
        lines.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back  # type: ignore[assignment]  # None at the outermost
    return tuple(lines)


def _tensors(*trees: Any) -> list[Tensor]:
    """Returns those of arguments, lists of them included, that lie in one storage: not sparse ones."""
    found: list[Tensor] = []
    for one in trees:
        if isinstance(one, Tensor):
            if one.layout is torch.strided:
                found.append(one)
        elif isinstance(one, list | tuple) and one and not isinstance(one[0], int):
            found += _tensors(*one)
    return found


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else 0


@functools.cache
def _written(func: Any) -> list[tuple[int, str]]:
    """Positions and names of the arguments that a call writes to, one or lists of several."""
    arguments = enumerate(func._schema.arguments if func._schema.is_mutable else [])
    return [(at, one.name) for at, one in arguments if one.alias_info is not None and one.alias_info.is_write]
