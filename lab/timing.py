"""The timing protocol: every model alone on the device, in rounds that alternate, with a canary between them.

A round visits every model once, each time starting with another one, so that a machine that slows down slows all of
them. Warm-up is outside the clock, the device is idle at both ends of it, and what is inside is whole steps on batches
that lie on the device ready to use.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lab import device as devices
from lab.data import load_data
from lab.measure import count_parameters, forward_macs
from lab.result import Timing
from lab.runner import Runner
from lab.settings import Settings, timing_id
from lab.trial import batches, make_runner

GROUP = 8  # models on the device at once
ROUNDS = 7
CALLS_SECONDS = 0.15  # a visit repeats what it times for about so long, three times at least
MAX_DRIFT = 0.1
MATMUL_SIDE = {"cpu": 1024, "cuda": 8192, "mps": 4096}


def time_settings(
    settings: Sequence[Mapping[str, Any]],
    device: str = "auto",
    threads: int | None = None,
    data_dir: Path | None = None,
    rounds: int = ROUNDS,
    now: Callable[[], float] | None = None,
) -> list[Timing]:
    """One timing for each distinct ``timing_id`` among the settings (plain data), in their order.

    A group of models whose canary drifted by more than a tenth is timed once more; if it drifts again its rows are
    marked as not reliable. Raises what the networks raise.
    """
    where = devices.resolve(device)
    devices.configure(where)
    if threads is not None:
        torch.set_num_threads(threads)
    parsed = [Settings.parse(raw) for raw in settings]
    distinct = list({timing_id(one): one for one in parsed}.values())
    timings: list[Timing] = []
    for start in range(0, len(distinct), GROUP):
        group = distinct[start : start + GROUP]
        found = _time_group(group, where, data_dir, rounds, now)
        if not found[0].reliable:
            found = _time_group(group, where, data_dir, rounds, now)
        timings += found
    return timings


@dataclass
class _Subject:
    """A model ready to step, and what was measured of it: seconds of each call, in each round."""

    settings: Settings
    runner: Runner
    batch: tuple[torch.Tensor, torch.Tensor]
    macs: int
    forward: list[list[float]] = field(default_factory=list)
    train: list[list[float]] = field(default_factory=list)


def _time_group(
    group: Sequence[Settings],
    device: torch.device,
    data_dir: Path | None,
    rounds: int,
    now: Callable[[], float] | None,
) -> list[Timing]:
    subjects = [_subject(settings, device, data_dir) for settings in group]
    canary: list[float] = []
    products: dict[str, list[float]] = {one.settings.train.precision: [] for one in subjects}
    multiply = {precision: _matmul(device, precision) for precision in ("float32", *products)}
    for product in multiply.values():
        product()
    for index in range(rounds):
        canary.append(statistics.median(_calls(multiply["float32"], device, now)))
        for precision, seconds in products.items():
            seconds += _calls(multiply[precision], device, now)
        shift = index % len(subjects)
        for subject in [*subjects[shift:], *subjects[:shift]]:
            _visit(subject, device, now)
        canary.append(statistics.median(_calls(multiply["float32"], device, now)))
    return [_timing(subject, canary, products[subject.settings.train.precision], device) for subject in subjects]


def _subject(settings: Settings, device: torch.device, data_dir: Path | None) -> _Subject:
    splits = load_data(settings.data, device, data_dir)
    runner = make_runner(settings, splits, device)
    macs = forward_macs(runner.model, splits.in_channels, settings.data.size or splits.train.images.shape[-1])
    subject = _Subject(settings, runner, next(iter(batches(settings, splits, "train"))), macs)
    for _ in range(3):  # autotuning, compilation, optimizer state
        runner.step(*subject.batch)
        runner.predict(subject.batch[0])
    return subject


def _visit(subject: _Subject, device: torch.device, now: Callable[[], float] | None) -> None:
    X, y = subject.batch
    subject.runner.model.eval()
    subject.forward.append(_calls(lambda: subject.runner.predict(X), device, now))
    subject.runner.model.train()
    subject.train.append(_calls(lambda: subject.runner.step(X, y), device, now))


def _calls(function: Callable[[], object], device: torch.device, now: Callable[[], float] | None) -> list[float]:
    """Seconds of each of at least three calls, after one that is not counted."""
    function()
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < CALLS_SECONDS:
        clock = devices.Clock(device) if now is None else devices.Clock(device, now)
        with clock.running():
            function()
        seconds.append(clock.seconds)
    return seconds


def _matmul(device: torch.device, precision: str) -> Callable[[], torch.Tensor]:
    """A square matrix product that the device does at its best; also the canary."""
    side = MATMUL_SIDE[device.type]
    a = torch.ones(side, side, device=device, dtype=getattr(torch, precision))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, a, out=out)


def _timing(subject: _Subject, canary: list[float], product: list[float], device: torch.device) -> Timing:
    num_images = len(subject.batch[1])
    forward = statistics.median(statistics.median(calls) for calls in subject.forward)
    rates = [num_images / statistics.median(calls) for calls in subject.train]
    train = statistics.median(rates)
    flops = 6 * subject.macs * train
    matmul = 2 * MATMUL_SIDE[device.type] ** 3 / statistics.median(product)
    drift = max(canary) / min(canary) - 1
    every_call = sorted(seconds for calls in subject.forward for seconds in calls)
    return Timing(
        timing_id=timing_id(subject.settings),
        batch_size=num_images,
        parameters=count_parameters(subject.runner.model),
        forward_macs=subject.macs,
        forward_seconds=forward,
        forward_seconds_p95=every_call[min(len(every_call) - 1, round(0.95 * len(every_call)))],
        forward_images_per_second=num_images / forward,
        train_images_per_second=train,
        train_images_per_second_low=min(rates),
        train_images_per_second_high=max(rates),
        rounds=len(rates),
        train_flops=flops,
        matmul_flops=matmul,
        matmul_share=flops / matmul,
        canary_drift=drift,
        reliable=drift <= MAX_DRIFT,
        environment=devices.environment(device),
    )
