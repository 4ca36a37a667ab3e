"""Looks at what trials would train before they do: does it run, what does it cost, did the switch change anything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lab import device as devices
from lab.data import load_data
from lab.measure import count_parameters, forward_macs
from lab.process import starting_state
from lab.result import Inspection
from lab.runner import Runner
from lab.settings import Settings
from lab.trial import batches, make_runner


def inspect_all(
    raw: Mapping[str, Mapping[str, Any]], device: str, data_dir: Path | None, threads: int, price: bool = True
) -> list[Inspection]:
    """Inspects settings (plain data, by key) one after the other; whatever a network raises is in its ``error``.

    Raises ValueError where data cannot be had. With ``price`` it takes two real training steps and one real evaluation
    of each, and times the second step.
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
    devices.reset_peak_memory(device)
    splits = load_data(settings.data, device, data_dir)
    try:
        if not price:  # compiling takes longer than all that is asked here
            settings = settings.model_copy(update={"train": settings.train.model_copy(update={"compile": False})})
        runner = make_runner(settings, splits, device)
        train = batches(settings, splits, "train")
        X, y = next(iter(train))
        found = Inspection(
            key,
            parameters=count_parameters(runner.model),
            forward_macs=forward_macs(runner.model, *X.shape[1:3]),
            signature=signature(runner, X),
            num_dev_images=len(splits.dev),
        )
        if not price:
            return found
        step, evaluation = devices.Clock(device), devices.Clock(device)
        runner.model.train()
        runner.step(X, y)
        with step.running():
            runner.step(X, y)
        with evaluation.running():
            runner.evaluate(batches(settings, splits, "dev"))
        steps = settings.train.epochs * len(train)
        return replace(
            found,
            step_seconds=step.seconds,
            eval_seconds=evaluation.seconds,
            steps=steps,
            evaluations=1 + steps // (settings.train.eval_every or len(train)),
            peak_memory_bytes=devices.peak_memory_bytes(device),
        )
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a user's network raises is the finding
        return Inspection(key, error=f"{type(error).__name__}: {error}")


@torch.no_grad()
def signature(runner: Runner, X: torch.Tensor) -> str:
    """A digest of the modules' types, the parameters' names and shapes, and the outputs of a batch ``(N, C, H, W)``.

    Both modes are asked, training with its own random stream, so that a switch that only acts in one of them counts.
    """
    digest = hashlib.sha256()
    for name, module in runner.model.named_modules():
        digest.update(f"{name}:{type(module).__qualname__};".encode())
    for name, parameter in runner.model.named_parameters():
        digest.update(f"{name}:{tuple(parameter.shape)};".encode())
    with torch.random.fork_rng(devices=[runner.device] if runner.device.type == "cuda" else []):
        for training in (False, True):
            torch.manual_seed(0)
            runner.model.train(training)
            state = {name: value.clone() for name, value in runner.model.state_dict().items()}
            digest.update(runner.model(X).float().cpu().numpy().tobytes())
            runner.model.load_state_dict(state)
    return digest.hexdigest()[:12]
