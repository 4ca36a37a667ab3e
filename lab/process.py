"""The state of the process: every trial starts from the same one, and leaves the process as it found it.

What a process cannot undo (the globals of a module, a function that was replaced) is undone by its end: trials that
name user code are each run in a process of their own.
"""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lab.streams import derive, kept_generators
from lab.visiting import restore_environment

_entered = False  # a trial is under way: what its modules set on import holds until it ends


class Flag(NamedTuple):
    """A switch of the whole process, and how it stands at the start of a trial."""

    get: Callable[[], Any]
    set: Callable[[Any], object]
    start: Any


def _attribute(owner: Any, name: str, start: Any) -> Flag:
    return Flag(lambda: getattr(owner, name), lambda value: setattr(owner, name, value), start)


def _autocast(device: str) -> Flag:
    return Flag(
        lambda: torch.is_autocast_enabled(device), lambda value: torch.set_autocast_enabled(device, value), False
    )


def _default_device() -> torch.device | None:
    """Returns None for the CPU: a device that is named would be asked for at every call that makes a tensor."""
    device = torch.get_default_device()
    return None if device.type == "cpu" else device


def _where_readable(flag: Flag) -> Flag:
    """Reads None where torch refuses to tell, since a newer way's switches stand beside it; those are put back then."""

    def get() -> Any:
        try:
            return flag.get()
        except RuntimeError:
            return None

    return Flag(get, lambda value: None if value is None else flag.set(value), flag.start)


def _precisions() -> Iterator[Flag]:
    """Yields what sets the precision of products and convolutions: the older way, then, from torch 2.9, the newer.

    Setting the older writes the newer's switches, so those come after.
    """
    backends: Any = torch.backends
    cudnn, mkldnn = backends.cudnn, backends.mkldnn
    yield _where_readable(Flag(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"))
    yield _where_readable(_attribute(cudnn, "allow_tf32", True))
    if hasattr(backends, "fp32_precision"):
        for owner in (backends, backends.cuda.matmul, cudnn, mkldnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn):
            yield _attribute(owner, "fp32_precision", "none")
        for owner in (cudnn.conv, cudnn.rnn):
            yield _attribute(owner, "fp32_precision", "tf32")


FLAGS = (
    Flag(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    Flag(_default_device, torch.set_default_device, None),
    Flag(torch.is_grad_enabled, torch.set_grad_enabled, True),
    Flag(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly, False),
    Flag(torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, False),
    *_precisions(),
    _attribute(torch.backends.cudnn, "benchmark", False),
    _attribute(torch.backends.cudnn, "deterministic", False),
    _attribute(torch.backends.cudnn, "enabled", True),
    _attribute(torch.backends.mkldnn, "enabled", True),
    _autocast("cpu"),
    _autocast("cuda"),
    Flag(
        np.geterr,
        lambda errors: np.seterr(**errors),
        dict.fromkeys(("divide", "over", "invalid"), "warn") | {"under": "ignore"},
    ),
)


def _set_path(entries: list[str]) -> None:
    sys.path[:] = entries


# What has no one right value: a trial finds it as the process has it, and it is put back.
KEPT: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.get_num_threads, torch.set_num_threads),
    (Path.cwd, os.chdir),
    (lambda: list(sys.path), _set_path),
    (lambda: dict(os.environ), restore_environment),
    *((flag.get, flag.set) for flag in FLAGS),
)


def _settle(get: Callable[[], Any], put: Callable[[Any], object], wanted: Any) -> None:
    if get() != wanted:
        put(wanted)


@contextmanager
def starting_state(seed: int) -> Iterator[None]:
    """Puts the process into the state that a trial of that seed starts from; puts it back at the end.

    Generators are seeded from the seed's streams, torch's and numpy's flags stand as in a process that has just begun,
    and user code sees no command line but its own. Threads, folder, environment and ``sys.path`` are the caller's.
    Within another, only the generators are seeded.
    """
    global _entered
    if _entered:
        seed_generators(seed)
        yield
        return
    before = [get() for get, _ in KEPT]
    arguments, sys.argv = sys.argv, sys.argv[:1]
    with kept_generators(), warnings.catch_warnings():
        _entered = True
        try:
            for flag in FLAGS:
                _settle(flag.get, flag.set, flag.start)
            seed_generators(seed)
            yield
        finally:
            _entered = False
            for (get, put), value in zip(KEPT, before, strict=True):
                _settle(get, put, value)
            sys.argv = arguments


def seed_generators(seed: int) -> None:
    """Seeds the generators of torch, Python and numpy, each from its own stream."""
    in_use = torch.cuda.is_initialized() or torch.backends.mps.is_available()
    # before a card is in use, torch would note each seed for it, with the stack it came from
    (torch.manual_seed if in_use else torch.default_generator.manual_seed)(derive(seed, "dropout"))
    random.seed(derive(seed, "python"))
    np.random.seed(derive(seed, "numpy") % 2**32)


@contextmanager
def unseeded() -> Iterator[None]:
    """Seeds the generators from the system meanwhile, and puts them back.

    Reading data happens so: what it draws without a seed of its own differs from process to process, which shows that
    the data are not repeatable, where forked processes would agree by chance of their birth.
    """
    with kept_generators():
        random.seed()
        np.random.seed()
        torch.default_generator.seed()
        yield
