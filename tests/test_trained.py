"""Which trials trained, by hand: chance on dev, divergence, and results that are missing."""

import math

import numpy as np
import pandas as pd
import pytest

from bench.analysis.trained import above_chance, number_of_examples


def rows(*trials: tuple[str, float | None]) -> pd.DataFrame:
    found = pd.DataFrame(trials, columns=["status", "dev_accuracy"])
    return found.assign(trial_id=[f"t{i}" for i in range(len(found))], cell="a", dev_accuracy=found["dev_accuracy"])


def curves(**evaluations: int) -> pd.DataFrame:
    """A curve's steps; the first is of the network as it was made."""
    points = [(key, step, 1 / 144) for key, count in evaluations.items() for step in range(count + 1)]
    return pd.DataFrame(points, columns=["trial_id", "step", "dev_accuracy"])


def test_a_trial_trained_where_it_ended_above_chance_on_dev() -> None:
    found = rows(("ok", 137 / 144), ("ok", 17 / 144), ("diverged", 100 / 144), ("error", None), ("missing", None))
    assert above_chance(found, 0.1).tolist() == pytest.approx([1, 0, 0, math.nan, math.nan], nan_ok=True)


def test_the_best_of_many_evaluations_needs_more() -> None:
    found = rows(("ok", 24 / 144), ("ok", 143 / 144))  # binomial: 0.009 at one in ten
    assert above_chance(found, 0.1, curves(t0=1)).tolist() == [1, 1]
    assert above_chance(found, 0.1, curves(t0=20)).tolist() == [0, 1]


def test_without_a_floor_every_trial_that_ended_well_trained() -> None:
    found = rows(("ok", 1 / 144), ("diverged", 0.5))
    assert above_chance(found).tolist() == [1, 0]


def test_what_the_row_says_of_dev_goes_before() -> None:
    found = rows(("ok", 0.75), ("ok", 0.75)).assign(num_dev_images=[400, 400], dev_majority=[0.74, 0.5])
    assert above_chance(found, 0.1).tolist() == [0, 1]


def test_the_number_of_dev_images_is_the_common_denominator_of_their_accuracies() -> None:
    assert number_of_examples(np.array([137, 17, 100, 1]) / 144) == 144
    assert number_of_examples(np.array([5000, 9999]) / 10_000) == 10_000
    assert number_of_examples([0.5, 0.25]) == 4  # no more is known
    assert number_of_examples([]) is None
    assert number_of_examples([math.pi / 4, math.e / 3, 2**0.5 / 2]) is None


def test_nothing_found_is_nothing() -> None:
    assert above_chance(rows(), 0.1).tolist() == []
