"""Families of comparisons: corrected p-values against statsmodels, levels of intervals, the set of the best by hand."""

import math

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from bench.stats.estimates import Estimate, Variant, contrast
from bench.stats.families import holm, selected_level, standings

STEPS = np.array([-2.0, -1.0, 0.0, 1.0, 2.0]) / 100


def test_holm_agrees_with_statsmodels() -> None:
    p = [0.04, 0.001, 0.03, 0.9, 0.012, 0.001]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_holm_counts_only_what_was_tested() -> None:
    assert holm([0.01, math.nan, 0.04]) == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)
    assert holm([]) == []


def test_holm_leaves_an_array_that_it_is_given_as_it_was() -> None:
    p = np.array([0.04, 0.01])
    holm(p)  # type: ignore[arg-type]
    assert p.tolist() == [0.04, 0.01]


def test_one_that_was_picked_of_six_has_an_interval_at_a_sixth_of_the_error() -> None:
    assert selected_level(1, 6) == pytest.approx(1 - 0.05 / 6)
    assert selected_level(6, 6) == pytest.approx(0.95)


def test_cells_stand_to_the_best_by_equivalence_and_what_is_not_told_apart_is_not_the_same() -> None:
    cells = [
        0.9 + STEPS,
        0.9 - 0.001 + STEPS + STEPS[::-1] / 100,
        0.87 - 3 * STEPS,
        0.5 + STEPS[::-1],
        np.full(5, np.nan),
    ]

    def minus(one: int, other: int) -> Estimate:
        return contrast([Variant(cells[one]), Variant(cells[other])], [1, -1])

    scores = [float(cell.mean()) for cell in cells]
    assert standings(scores, minus, 0.01) == ["best", "equivalent", "not told apart", "worse", "unknown"]
    assert standings(scores, minus, None)[:2] == ["best", "worse"]  # real, and nothing says that it is small
    assert standings([math.nan], minus, 0.01) == ["unknown"]


def test_the_picked_best_asks_more_than_one_comparison() -> None:
    # Student's t of 3.2 at 4 degrees, p = 0.032: enough for one pair, too little for the three pairs of three cells.
    cells = [0.9 + STEPS, 0.9 - 3.2 * np.sqrt(0.5) / 100 + np.zeros(5), 0.5 + STEPS]

    def minus(one: int, other: int) -> Estimate:
        return contrast([Variant(cells[one]), Variant(cells[other])], [1, -1])

    assert 0.03 < minus(1, 0).p_value() < 0.034
    assert standings([0.9, 0.8774], lambda one, other: minus(one, other), None) == ["best", "worse"]
    assert standings([0.9, 0.8774, 0.5], minus, None)[1] == "not told apart"
