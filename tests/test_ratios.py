"""Log ratios: geometric means against scipy, and the delta method against the bootstrap."""

import math

import numpy as np
import pytest
from scipy import stats

from bench.stats.estimates import Variant, effect, mean
from bench.stats.ratios import logarithms, outcomes_of


def test_the_mean_of_logarithms_is_the_geometric_mean_and_a_difference_a_ratio() -> None:
    a, b = [1.0, 10.0, 100.0], [2.0, 10.0, 50.0]
    assert math.exp(mean(logarithms(Variant(a)).values).value) == pytest.approx(stats.gmean(a))
    difference = effect(logarithms(Variant(a)), logarithms(Variant(b)))
    assert math.exp(difference.estimate.value) == pytest.approx(stats.gmean(a) / stats.gmean(b))
    assert difference.p == pytest.approx(stats.ttest_rel(np.log(a), np.log(b)).pvalue)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_what_is_not_positive_has_no_logarithm(value: float) -> None:
    with pytest.raises(ValueError, match=rf"needs positive values, got {value:g}"):
        logarithms(Variant([1.0, value]))


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_examples_tell_the_error_of_a_log_ratio(power: float) -> None:
    rng = np.random.default_rng(0)
    losses = rng.gamma(2.0, size=(2, 1, 400)) * np.array([1.0, 1.2])[:, None, None]
    variants = [logarithms(Variant(table.mean(-1) ** power, table), power=power) for table in losses]
    estimate = effect(*variants).estimate
    drawn = rng.integers(0, 400, (4000, 400))
    ratios = power * np.log(losses[0, 0][drawn].mean(1) / losses[1, 0][drawn].mean(1))
    assert estimate.value == pytest.approx(power * math.log(losses[0].mean() / losses[1].mean()))
    assert estimate.standard_error == pytest.approx(ratios.std(), rel=0.05)
    assert estimate.basis == "test set"


def test_examples_are_of_a_value_or_of_the_square_of_a_root_of_a_mean_or_of_neither() -> None:
    squares = np.array([0.25, 1.0, 4.0, 0.75])  # mean 1.5
    root = math.sqrt(1.5)
    mean, of_log = outcomes_of(1.5, squares, log=False), outcomes_of(1.5, squares, log=True)
    assert mean is squares
    assert of_log == pytest.approx(math.log(1.5) + squares / 1.5 - 1)
    linear, log = outcomes_of(root, squares, log=False), outcomes_of(root, squares, log=True)
    assert linear is not None
    assert log is not None
    # d sqrt(m) / dm = 1 / (2 sqrt(m)); d log(sqrt(m)) / dm = 1 / (2 m)
    assert linear == pytest.approx(root + (squares - 1.5) / (2 * root))
    assert log == pytest.approx(math.log(root) + (squares - 1.5) / (2 * 1.5))
    assert linear.mean() == pytest.approx(root)
    assert log.mean() == pytest.approx(math.log(root))
    assert outcomes_of(0.9, squares, log=False) is None
    assert outcomes_of(-1.5, squares, log=False) is None
