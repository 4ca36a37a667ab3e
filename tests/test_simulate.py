"""The simulation: its truth is true, its bootstrap is a bootstrap, and the intervals cover where others do not."""

import numpy as np
import pytest
from scipy import special, stats
from typer.testing import CliRunner

from bench.studies.simulate import NOISE, Scenario, Task, app, bootstraps, coverage, draw, family_error, noise

NULL = Scenario((0.9, 0.9), images=1.0, seeds=0.1)


def test_arms_have_the_accuracies_of_the_scenario() -> None:
    rng = np.random.default_rng(0)
    scenario = Scenario((0.9, 0.97), images=0.5, seeds=0.4)
    variants = draw(rng, scenario, 400, 5000, scenario.accuracy)
    assert [variant.mean() for variant in variants] == pytest.approx([0.9, 0.97], abs=0.006)
    assert scenario.truth == pytest.approx(0.07)


def test_noise_is_normal_to_a_part_in_65536() -> None:
    thresholds = np.linspace(-4, 4, 33)
    shares = [(threshold > NOISE).mean() for threshold in thresholds]
    assert shares == pytest.approx(special.ndtr(thresholds), abs=2**-16)
    drawn = noise(np.random.Generator(np.random.SFC64(0)), 7, 30_001)
    assert drawn.shape == (7, 30_001)
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 0.01
    assert np.corrcoef(drawn.ravel()[:-1], drawn.ravel()[1:])[0, 1] == pytest.approx(0, abs=0.01)


def test_arms_find_the_same_images_hard() -> None:
    a, b = draw(np.random.default_rng(0), NULL, 20, 2000, (0.9, 0.9))
    assert np.corrcoef(a.mean(0), b.mean(0))[0, 1] > 0.5


def test_intervals_cover_what_they_promise_and_the_seeds_alone_do_not() -> None:
    shares = coverage(Task(NULL, num_seeds=5, num_images=360, repetitions=600, seed=(1,)))
    assert 0.93 < shares["this report"] < 0.975
    assert shares["paired t"] < 0.9


def test_families_without_a_difference_seldom_show_one() -> None:
    assert family_error(Task(NULL, num_seeds=3, num_images=360, repetitions=150, seed=(2,))) < 0.08


def test_the_bootstrap_draws_seeds_and_images() -> None:
    rng = np.random.default_rng(0)
    a, b = draw(rng, NULL, 4, 60, (0.8, 0.9))
    difference = np.subtract(b, a, dtype=float)
    seeds, images = rng.integers(0, 4, (20_000, 4)), rng.integers(0, 60, (20_000, 60))
    plain = np.quantile([difference[np.ix_(s, i)].mean() for s, i in zip(seeds, images, strict=True)], [0.025, 0.975])
    percentiles, _ = bootstraps(a, b, rng, resamples=20_000)
    assert percentiles == pytest.approx(tuple(plain), abs=0.006)


def test_the_command_prints_the_tables() -> None:
    sizes = ["--repetitions", "1", "--families", "1", "--bootstrap-repetitions", "1", "-j", "1"]
    result = CliRunner().invoke(app, ["coverage", *sizes])
    assert result.exit_code == 0
    assert "| this report |" in result.output
    assert "| bootstrap, percentiles |" in result.output
    assert result.output.count("n = 3, 10,000") == 4
