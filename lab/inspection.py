"""Looks at what trials would train before they do: does it run, what does it cost, did the switch change anything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lab import device as devices
from lab.data import Splits, load_data
from lab.limits import kills
from lab.measure import count_parameters
from lab.memory import is_out_of_memory, release_memory
from lab.outputs import tensors_of
from lab.process import seed_generators, starting_state
from lab.result import Inspection
from lab.runner import Runner
from lab.settings import Settings
from lab.streams import kept_generators
from lab.trial import batches, make_runner

HOST = torch.device("cpu")

STEPS_SECONDS, MOST_STEPS = 0.3, 100  # one step alone is too short to tell what many take on a machine that does more


def inspect_all(
    raw: Mapping[str, Mapping[str, Any]], device: str, data_dir: Path | None, threads: int, price: bool = True
) -> list[Inspection]:
    """Inspects settings (plain data, by key) one after the other; whatever a network raises is in its ``error``.

    Raises ValueError where data cannot be had. With ``price`` it takes real training steps, for a fraction of a second
    after the first, and one real evaluation of each.
    """
    where = devices.resolve(device)
    torch.set_num_threads(threads)
    found = []
    for key, one in raw.items():
        with starting_state(one["seed"]):
            devices.configure(where)
            found.append(_inspect(key, Settings.parse(one), where, data_dir, price))
    return found


def _inspect(key: str, settings: Settings, device: torch.device, data_dir: Path | None, price: bool) -> Inspection:
    release_memory()  # what the last look held is not this one's
    devices.reset_peak_memory(device)
    devices.reset_peak_memory(HOST)
    kills_before = kills()
    splits = load_data(settings.data, device, data_dir)
    try:
        if not price:  # compiling takes longer than all that is asked here
            settings = settings.model_copy(update={"train": settings.train.model_copy(update={"compile": False})})
        return _look(key, settings, splits, device, price)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a user's network raises is the finding
        lacking = is_out_of_memory(error, kills_before)
        return Inspection(key, error=f"{type(error).__name__}: {error}", out_of_memory=lacking)


def _look(key: str, settings: Settings, splits: Splits, device: torch.device, price: bool) -> Inspection:
    setup = devices.Clock(device)
    with setup.running():
        runner = make_runner(settings, splits, device)
    train = batches(settings, splits, "train")
    X, y = next(iter(train))
    found = Inspection(
        key,
        parameters=count_parameters(runner.model),
        forward_macs=runner.macs.forward if runner.macs else 0,
        signature=signature(runner, X, y),
        num_dev_images=len(splits.dev),
    )
    if settings.train.loss == "cross_entropy":
        found = replace(found, gives_shares=_gives_shares(runner, X))
    if not price:
        state = 2 * 4 * found.parameters  # of an optimizer such as Adam, the most that a built-in one keeps
        peak = devices.peak_memory_bytes(device) + state
        host = devices.peak_memory_bytes(HOST) + (state if device == HOST else 0)
        return replace(found, peak_memory_bytes=peak, host_memory_bytes=host)
    step, evaluation = devices.Clock(device), devices.Clock(device)
    runner.begin_training()
    with setup.running():
        runner.step(X, y)
    count = 0
    while count == 0 or (step.seconds < STEPS_SECONDS and count < MOST_STEPS):
        with step.running():
            runner.step(X, y)
        count += 1
    with evaluation.running():
        runner.evaluate(batches(settings, splits, "dev"))
    steps = settings.train.epochs * len(train)
    return replace(
        found,
        setup_seconds=setup.seconds,
        step_seconds=step.seconds / count,
        eval_seconds=evaluation.seconds,
        steps=steps,
        evaluations=1 + steps // (settings.train.eval_every or len(train)),
        peak_memory_bytes=devices.peak_memory_bytes(device),
        host_memory_bytes=devices.peak_memory_bytes(HOST),
    )


def _gives_shares(runner: Runner, X: Tensor) -> bool:
    """Tells whether the outputs for a batch ``(N, C, H, W)`` are shares, as a softmax gives them, no logits."""
    with kept_generators():
        seed_generators(0)
        logits = runner.predict(X).double()
    return bool((logits >= 0).all() and ((logits.sum(dim=1) - 1).abs() < 1e-2).all())


def signature(runner: Runner, X: Tensor, y: Tensor) -> str:
    """Digests all that a batch ``(N, C, H, W)`` shows of a network: equal where a step of training is the same.

    That is the modules' types, the parameters' names, shapes and whether they are trained, the outputs in evaluation,
    the loss and gradients in training, and the buffers after it. Both modes are asked with the same random numbers.
    """
    digest = hashlib.sha256()
    X, y = runner.moved(X), devices.transfer(y, runner.device)
    for name, module in runner.model.named_modules():
        digest.update(f"{name}:{type(module).__qualname__};".encode())
    for name, parameter in runner.model.named_parameters():
        digest.update(f"{name}:{tuple(parameter.shape)}:{parameter.requires_grad};".encode())
    with kept_generators():
        seed_generators(0)
        with torch.no_grad():
            runner.begin_evaluation()
            output = runner.model(X)
        seed_generators(0)
        runner.begin_training()
        loss = runner.gradients(X, y)
    gradients = {name: one.grad for name, one in runner.model.named_parameters() if one.grad is not None}
    buffers = dict(runner.model.named_buffers())
    digest.update(f"{list(gradients)}{list(buffers)}".encode())
    for value in [*tensors_of(output), loss, *gradients.values(), *buffers.values()]:
        dense = (value.to_dense() if value.is_sparse else value).detach().cpu()
        digest.update(dense.flatten().contiguous().view(torch.uint8).numpy().tobytes())
    runner.model.zero_grad(set_to_none=True)
    return digest.hexdigest()[:12]
