"""The timing protocol: every model alone on the device, in rounds that alternate, with a canary between them.

A round visits every model once, each time starting with another one, so that a machine that slows down slows all of
them. The canary is a fixed piece of work before and after each round: a round where it took more than a tenth longer
than at its fastest does not count and is repeated, up to twice as many rounds in all and as long as there is time.
Warm-up is outside the clock, the device is idle at both ends of it, and what is inside is whole steps on batches that
lie on the device ready to use.
"""

from __future__ import annotations

import statistics
import time
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
ROUNDS = 5
CALLS_SECONDS = 0.1  # a visit repeats what it times for about so long, three times at least
MAX_DRIFT = 0.1
GROUP_SECONDS = 60.0  # no further round of a group starts after so long: on a busy machine there is no steady one
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

    Where the canary left too few steady rounds, all rounds are used and the row is marked as not reliable. Raises what
    the networks raise.
    """
    where = devices.resolve(device)
    devices.configure(where)
    if threads is not None:
        torch.set_num_threads(threads)
    parsed = [Settings.parse(raw) for raw in settings]
    distinct = list({timing_id(one): one for one in parsed}.values())
    timings: list[Timing] = []
    for start in range(0, len(distinct), GROUP):
        timings += _time_group(distinct[start : start + GROUP], where, data_dir, rounds, now)
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
    precisions = sorted({one.settings.train.precision for one in subjects})
    multiply: dict[str, Callable[[], torch.Tensor]] = {
        precision: _matmul(device, precision) for precision in {"float32", *precisions}
    }
    products: dict[str, list[float]] = {str(precision): [] for precision in precisions}

    def canary() -> float:
        return statistics.median(_calls(multiply["float32"], device, now))

    brackets: list[float] = []
    deadline = time.monotonic() + GROUP_SECONDS
    while len(_steady(brackets)) < rounds and len(brackets) < 2 * rounds:
        if brackets and time.monotonic() > deadline:
            break
        shift = len(brackets) % len(subjects)
        before = canary()
        for precision, seconds in products.items():
            seconds.append(statistics.median(_calls(multiply[precision], device, now)))
        for subject in [*subjects[shift:], *subjects[:shift]]:
            _visit(subject, device, now)
        brackets.append(max(before, canary()))
    reliable = len(_steady(brackets)) >= rounds
    used = _steady(brackets) if reliable else list(range(len(brackets)))
    drift = max(brackets[index] for index in used) / min(brackets) - 1
    return [
        _timing(subject, used, products[subject.settings.train.precision], drift, reliable, device)
        for subject in subjects
    ]


def _steady(brackets: Sequence[float]) -> list[int]:
    """The rounds whose slower canary took at most a tenth longer than the fastest round's."""
    return [index for index, seconds in enumerate(brackets) if seconds <= (1 + MAX_DRIFT) * min(brackets)]


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


def _timing(
    subject: _Subject,
    rounds: Sequence[int],
    product: Sequence[float],
    drift: float,
    reliable: bool,
    device: torch.device,
) -> Timing:
    num_images = len(subject.batch[1])
    forwards = [subject.forward[index] for index in rounds]
    forward = statistics.median(statistics.median(calls) for calls in forwards)
    rates = [num_images / statistics.median(subject.train[index]) for index in rounds]
    train = statistics.median(rates)
    flops = 6 * subject.macs * train
    matmul = 2 * MATMUL_SIDE[device.type] ** 3 / statistics.median(product[index] for index in rounds)
    every_call = sorted(seconds for calls in forwards for seconds in calls)
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
        reliable=reliable,
        environment=devices.environment(device),
    )
