"""The timing protocol, on a clock that the test moves."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from lab.timing import _Beat, _steady, time_settings


def settings(lr: float = 0.1, hidden: int = 8) -> dict[str, Any]:
    return {
        "data": {"name": "digits"},
        "model": {"name": "mlp", "hidden": [hidden]},
        "optimizer": {"name": "sgd", "lr": lr},
        "train": {"epochs": 1},
    }


def test_what_is_timed_is_whole_calls_on_the_clock() -> None:
    ticks = itertools.count(0, 0.05)  # each reading of the clock is 0.05 s after the last: each call takes 0.05 s
    (timing,) = time_settings([settings()], "cpu", 1, rounds=2, now=lambda: next(ticks))
    assert timing.forward_seconds == pytest.approx(0.05)
    assert timing.forward_seconds_p95 == pytest.approx(0.05)
    assert timing.train_images_per_second == pytest.approx(64 / 0.05)
    assert timing.train_images_per_second_low == pytest.approx(timing.train_images_per_second_high)
    assert timing.forward_macs == 64 * 8 + 8 * 10
    assert timing.train_flops == pytest.approx(6 * (64 * 8 + 8 * 10) * 64 / 0.05)
    assert timing.matmul_flops == pytest.approx(2 * 1024**3 / 0.05)
    assert timing.rounds == 2
    assert timing.reliable


def test_a_machine_that_gets_slower_and_slower_is_not_reliable() -> None:
    ticks = (2.0 ** (index / 20) for index in itertools.count())
    (timing,) = time_settings([settings()], "cpu", 1, rounds=2, now=lambda: next(ticks))
    assert not timing.reliable
    assert timing.canary_drift > 0.1
    assert timing.rounds == 4


def test_a_round_counts_where_both_canaries_are_within_a_tenth_of_their_fastest() -> None:
    assert _steady([_Beat(1.0, 2.0), _Beat(1.09, 2.0), _Beat(1.2, 2.0), _Beat(1.0, 2.3)]) == [0, 1]
    assert _steady([_Beat(1.2, 2.0), _Beat(1.09, 2.1), _Beat(1.0, 2.0)]) == [1, 2]


def test_a_round_counts_only_where_the_canary_got_its_processors() -> None:
    assert _steady([_Beat(1.0, 2.0, share=0.99), _Beat(1.0, 2.0, share=0.6)]) == [0]


def test_models_that_differ_only_in_what_costs_no_time_are_timed_once() -> None:
    ticks = itertools.count(0, 0.05)
    timings = time_settings(
        [settings(0.1), settings(0.2), settings(0.1, hidden=9)], "cpu", 1, rounds=1, now=lambda: next(ticks)
    )
    assert [timing.parameters for timing in timings] == [64 * 8 + 8 + 8 * 10 + 10, 64 * 9 + 9 + 9 * 10 + 10]


def test_with_little_time_three_steady_rounds_are_enough() -> None:
    ticks = itertools.count(0, 0.05)
    (timing,) = time_settings([settings()], "cpu", 1, now=lambda: next(ticks), until=time.time() + 1000)
    assert (timing.rounds, timing.reliable) == (3, True)


def test_models_for_whose_rounds_there_is_no_time_are_left_out() -> None:
    ticks = itertools.count(0, 0.05)
    assert time_settings([settings(), settings(hidden=9)], "cpu", 1, now=lambda: next(ticks), until=time.time()) == []


def test_with_little_time_what_is_not_reliable_is_left_out() -> None:
    ticks = (2.0 ** (index / 20) for index in itertools.count())
    assert time_settings([settings()], "cpu", 1, now=lambda: next(ticks), until=time.time() + 1000) == []
