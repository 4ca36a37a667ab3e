"""The timing protocol: every model alone on the device, in rounds that alternate, with a canary between them.

A round visits every model once, each time starting with another one, so that a machine that slows down slows all of
them. The canary is fixed work before and after each round, of the two kinds that training is made of: a large matrix
product, and a burst of small kernels, which suffers much more where another process takes a core for a moment. A round
does not count where either took more than a tenth longer than at its fastest, or where the canary did not get the
processors: that tells of a neighbour that is always there. It is repeated, up to twice as many rounds in all and as
long as there is time. Warm-up is outside the clock, the device is idle at both ends of it, and what is inside is whole
steps on batches that lie on the device ready to use.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lab import device as devices
from lab.data import load_data
from lab.imports import as_part_error
from lab.measure import Macs, count_parameters
from lab.process import starting_state
from lab.result import Timing
from lab.runner import Runner
from lab.settings import Settings, timing_id
from lab.trial import batches, make_runner

GROUP = 8  # models on the device at once
ROUNDS, FEWEST_ROUNDS = 5, 3  # the latter where time is short
CANARY_SECONDS = 0.6  # about, of a round
CALLS_SECONDS = 0.1  # a visit repeats what it times for about so long, three times at least
MAX_DRIFT = 0.1
MIN_SHARE = 0.9  # of the processor time that its threads ask for, that the canary must get on a CPU
BURST = 200  # small kernels
GROUP_SECONDS = 60.0  # no further round of a group starts after so long: on a busy machine there is no steady one
MATMUL_SIDE = {"cpu": 1024, "cuda": 8192, "mps": 4096}


def time_settings(
    settings: Sequence[Mapping[str, Any]],
    device: str = "auto",
    threads: int | None = None,
    data_dir: Path | None = None,
    rounds: int = ROUNDS,
    now: Callable[[], float] | None = None,
    until: float | None = None,
) -> list[Timing]:
    """Returns one timing for each distinct ``timing_id`` among the settings (plain data), in their order.

    Where the canary left too few steady rounds, all rounds are used and the row is marked as not reliable. ``until`` is
    a time of day (``time.time()``) by which it ends: the models that do not fit are left out, three steady rounds are
    enough for the others, and what is not reliable is left out, too. Raises what the networks raise.
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
        if until is None:
            timings += _time_group(group, where, data_dir, rounds, now)
            continue
        share = (until - time.time()) * len(group) / (len(distinct) - start)
        timings += [one for one in _time_group(group, where, data_dir, rounds, now, share) if one.reliable]
    return timings


@dataclass
class _Subject:
    """A model ready to step, and what was measured of it: seconds of each call, in each round."""

    settings: Settings
    runner: Runner
    batch: tuple[torch.Tensor, torch.Tensor]
    macs: Macs
    visit_seconds: float  # that a visit is expected to take
    forward: list[list[float]] = field(default_factory=list)
    train: list[list[float]] = field(default_factory=list)


def _time_group(
    group: Sequence[Settings],
    device: torch.device,
    data_dir: Path | None,
    rounds: int,
    now: Callable[[], float] | None,
    seconds: float = math.inf,
) -> list[Timing]:
    """Times the models of a group side by side; as many as there are ``seconds`` for."""
    end = time.monotonic() + seconds
    subjects = _subjects(group, device, data_dir, seconds)
    if not subjects:
        return []
    rounds = min(rounds, FEWEST_ROUNDS) if seconds < math.inf else rounds
    products: dict[str, list[float]] = {one.settings.train.precision: [] for one in subjects}
    multiply = {precision: _matmul(device, precision) for precision in products}
    canary = _Canary(device, now)
    rounds_of_canary: list[_Beat] = []
    began, longest = time.monotonic(), 0.0
    while len(_steady(rounds_of_canary)) < rounds and len(rounds_of_canary) < 2 * rounds:
        started = time.monotonic()
        if rounds_of_canary and (started > began + GROUP_SECONDS or started + longest > end):
            break
        shift = len(rounds_of_canary) % len(subjects)
        before = canary.beat()
        for precision, taken in products.items():
            taken.append(statistics.median(_calls(multiply[precision], device, now)))
        for subject in [*subjects[shift:], *subjects[:shift]]:
            _visit(subject, device, now)
        rounds_of_canary.append(before.worse(canary.beat()))
        longest = max(longest, time.monotonic() - started)
    steady = _steady(rounds_of_canary)
    reliable = len(steady) >= rounds
    used = steady if reliable else list(range(len(rounds_of_canary)))
    drift = _drift([rounds_of_canary[index] for index in used])
    return [
        _timing(subject, used, products[subject.settings.train.precision], drift, reliable, device)
        for subject in subjects
    ]


@dataclass(frozen=True)
class _Beat:
    """Seconds of the canary's product and of its burst, and the share of processor time that it got."""

    product: float
    burst: float
    share: float = 1.0

    def worse(self, other: _Beat) -> _Beat:
        return _Beat(max(self.product, other.product), max(self.burst, other.burst), min(self.share, other.share))


class _Canary:
    """Fixed work on the device."""

    def __init__(self, device: torch.device, now: Callable[[], float] | None) -> None:
        self._device, self._now = device, now
        self._product = _matmul(device, "float32")
        self._small = torch.zeros(64, 16, 14, 14, device=device)  # as small as LeNet's, and split between threads

    def beat(self) -> _Beat:
        wall, processor = time.perf_counter(), time.process_time()
        product = statistics.median(_calls(self._product, self._device, self._now))
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        on_its_own_clock = self._now is None and self._device.type == "cpu"
        share = processor / (wall * torch.get_num_threads()) if on_its_own_clock else 1.0
        return _Beat(product, statistics.median(_calls(self._burst, self._device, self._now)), share)

    def _burst(self) -> None:
        for _ in range(BURST):
            self._small.add_(1.0)


def _steady(beats: Sequence[_Beat]) -> list[int]:
    """Returns the rounds whose canary got its processors and took at most a tenth longer than in the fastest round."""
    return [
        index
        for index, beat in enumerate(beats)
        if beat.share >= MIN_SHARE
        and beat.product <= (1 + MAX_DRIFT) * min(other.product for other in beats)
        and beat.burst <= (1 + MAX_DRIFT) * min(other.burst for other in beats)
    ]


def _drift(beats: Sequence[_Beat]) -> float:
    """Returns how much longer the canary took in its slowest round than in its fastest."""
    return max(
        max(times) / min(times) - 1 for times in zip(*((beat.product, beat.burst) for beat in beats), strict=True)
    )


def _subjects(group: Sequence[Settings], device: torch.device, data_dir: Path | None, seconds: float) -> list[_Subject]:
    """Makes the models ready, the first ones of the group whose rounds are expected to fit."""
    subjects: list[_Subject] = []
    began, wanted = time.monotonic(), FEWEST_ROUNDS * CANARY_SECONDS
    for settings in group:
        if time.monotonic() - began + wanted > seconds:
            break
        subject = _subject(settings, device, data_dir)
        wanted += FEWEST_ROUNDS * subject.visit_seconds
        if time.monotonic() - began + wanted > seconds:
            break
        subjects.append(subject)
    return subjects


def _subject(settings: Settings, device: torch.device, data_dir: Path | None) -> _Subject:
    splits = load_data(settings.data, device, data_dir)
    with starting_state(settings.seed), as_part_error(f"model {settings.model.name}: one step of it raised"):
        devices.configure(device)
        runner = make_runner(settings, splits, device)
        batch = next(iter(batches(settings, splits, "train")))
        subject = _Subject(settings, runner, batch, runner.macs or Macs(), 0.0)
        for _ in range(3):  # autotuning, compilation, optimizer state
            clock = devices.Clock(device)
            with clock.running():
                runner.begin_training()
                runner.step(*subject.batch)
                runner.predict(subject.batch[0])
        subject.visit_seconds = max(2 * CALLS_SECONDS, 3 * clock.seconds) + clock.seconds  # as :func:`_calls` repeats
    return subject


def _visit(subject: _Subject, device: torch.device, now: Callable[[], float] | None) -> None:
    X, y = subject.batch
    subject.runner.begin_evaluation()
    subject.forward.append(_calls(lambda: subject.runner.predict(X), device, now))
    subject.runner.begin_training()
    subject.train.append(_calls(lambda: subject.runner.step(X, y), device, now))


def _calls(function: Callable[[], object], device: torch.device, now: Callable[[], float] | None) -> list[float]:
    """Returns the seconds of each of at least three calls, after one that is not counted."""
    function()
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < CALLS_SECONDS:
        clock = devices.Clock(device) if now is None else devices.Clock(device, now)
        with clock.running():
            function()
        seconds.append(clock.seconds)
    return seconds


def _matmul(device: torch.device, precision: str) -> Callable[[], torch.Tensor]:
    """Returns a square matrix product that the device does at its best; also the canary."""
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
    flops = 6 * subject.macs.computed * train
    matmul = 2 * MATMUL_SIDE[device.type] ** 3 / statistics.median(product[index] for index in rounds)
    every_call = sorted(seconds for calls in forwards for seconds in calls)
    return Timing(
        timing_id=timing_id(subject.settings),
        batch_size=num_images,
        parameters=count_parameters(subject.runner.model),
        forward_macs=subject.macs.forward,
        computed_macs=subject.macs.computed,
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
