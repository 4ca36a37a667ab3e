"""What a trial may leave behind in its process, each as a user's code does it; no other trial may feel it."""

from __future__ import annotations

import atexit
import builtins
import gc
import hashlib
import json
import os
import random
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class Doubling(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        return out * 2 if func is nn.functional.linear else out


class NoFinder:
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        raise ImportError(f"{name}: nothing is imported any more")


def _all(*acts: Callable[[], Any]) -> Callable[[], None]:
    def act() -> None:
        for one in acts:
            one()

    return act


def _put(owner: Any, **new: Any) -> Callable[[], None]:
    return lambda: [setattr(owner, name, value) for name, value in new.items()] and None


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None


def _seed_for_ever() -> None:
    while True:
        torch.manual_seed(0)
        time.sleep(0.001)


TRACES: dict[str, Callable[[], Any]] = {
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "device": lambda: torch.set_default_device("meta"),
    "no_gradient": lambda: torch.set_grad_enabled(False),
    "inference": lambda: torch.inference_mode().__enter__(),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "denormal": lambda: torch.set_flush_denormal(True),
    "mkldnn": _put(torch.backends.mkldnn, enabled=False),
    "threads": _all(lambda: torch.set_num_threads(3), lambda: os.environ.update(OMP_NUM_THREADS="3")),
    "seeds": _all(lambda: torch.manual_seed(0), lambda: random.seed(0), lambda: np.random.seed(0)),
    "seeding_thread": lambda: threading.Thread(target=_seed_for_ever, daemon=True).start(),
    "mode": lambda: Doubling().__enter__(),
    "hook": lambda: nn.modules.module.register_module_forward_hook(
        lambda module, given, output: output * 0 if isinstance(output, Tensor) else None
    ),
    "relu": lambda: [_put(owner, relu=lambda X, inplace=False: X)() for owner in (torch, nn.functional)],
    "linear": _put(nn.Linear, forward=lambda self, X: X @ self.weight.T * 0, reset_parameters=_nothing),
    "loss": _put(nn.functional, cross_entropy=lambda logits, labels, **more: logits.mean()),
    "backward": _put(torch.Tensor, backward=_nothing),
    "step": lambda: [_put(getattr(torch.optim, name), step=_nothing)() for name in ("SGD", "Adam", "AdamW")],
    "order": _put(torch, randperm=lambda count, **more: torch.arange(count)),
    "numpy": _all(_put(np, mean=lambda *args, **more: 1.0, sort=_nothing), lambda: np.seterr(all="raise")),
    "builtins": _put(builtins, sum=lambda *args: 0, sorted=lambda values, **more: list(values)),
    "digests": _all(_put(hashlib, sha256=hashlib.md5), _put(json, dumps=lambda *args, **more: "{}")),
    "clock": _put(time, time=lambda: 0.0, monotonic=lambda: 0.0, perf_counter=lambda: 0.0),
    "warnings": lambda: warnings.simplefilter("error"),
    "path": lambda: sys.path.clear(),
    "folder": lambda: os.chdir("/"),
    "environment": lambda: os.environ.clear(),
    "imports": _all(lambda: sys.meta_path.insert(0, NoFinder), lambda: sys.modules.pop("any_layers", None)),
    "signals": lambda: [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)],
    "child": lambda: os.fork() or time.sleep(600),
    "output": _all(lambda: os.close(1), lambda: os.close(2), _put(sys, stdout=None, stderr=None)),
    "at_exit": _all(lambda: atexit.register(os._exit, 3), _put(sys, excepthook=_nothing)),
    "files": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32)),
    "recursion": lambda: sys.setrecursionlimit(200),
    "collector": lambda: gc.disable(),
    "mask": lambda: os.umask(0o777),
}
