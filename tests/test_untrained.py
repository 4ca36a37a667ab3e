"""What the words ``untrained`` and ``pair`` of a grid do to a report, against scipy and by hand."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path

import pytest
from scipy.stats import ttest_ind
from test_findings import NOISE, findings

from bench.grid.plan import Trial
from bench.stats.proportions import Share

GRID = textwrap.dedent("""
    name: typed
    question: What matters?
    base:
      data: {name: digits}
      model: {name: resnet18}
      optimizer: {name: momentum, lr: 0.1}
      train: {epochs: 2}
    factors:
      model.residual: [true, false]
    seeds: 4
""")
HIGH, LOW = [0.90, 0.94, 0.91, 0.93], [0.80, 0.86, 0.81, 0.85]


def value(trial: Trial) -> float | None:
    """Without shortcuts seed 3 diverges."""
    if trial.cell.levels["model.residual"] == "true":
        return HIGH[trial.seed]
    return None if trial.seed == 3 else LOW[trial.seed]


def test_untrained_trials_are_apart_unless_the_grid_says_otherwise(tmp_path: Path) -> None:
    row = findings(tmp_path, GRID, value).effects.iloc[0]
    assert row["difference"] == pytest.approx(((0.80 - 0.90) + (0.86 - 0.94) + (0.81 - 0.91)) / 3)
    assert row["trains"].startswith("trains in 3 of 4 against 4 of 4, p = ")
    assert (row["pairs"], row["pairs_planned"]) == (3, 4)


@pytest.mark.parametrize(("word", "worth"), [("chance", 0.1), ("0.25", 0.25)])  # digits has ten classes
def test_untrained_trials_count_as_the_grid_says_with_intervals_that_know_it(
    word: str, worth: float, tmp_path: Path
) -> None:
    made = findings(tmp_path, GRID + f"untrained: {word}\n", value)
    row, cells = made.effects.iloc[0], made.cells.set_index("cell")
    low = (0.80 + 0.86 + 0.81 + worth) / 4
    assert row["difference"] == pytest.approx(low - sum(HIGH) / 4)
    assert cells.loc["residual=false", "test_accuracy"] == pytest.approx(low)
    failing = (sum(LOW[:3]) / 3 - worth) * (0.75 - Share(3, 4).low)  # the least that the share's own interval makes it
    assert cells.loc["residual=false", "test_accuracy_low"] < low - failing + 1e-9
    assert row["verdict"] == "undecided"
    assert "undecided: with untrained trials counted, from -" in row["sentence"]
    assert row["difference_high"] - row["difference_low"] > 0.5


def test_without_pairing_it_is_welchs_test(tmp_path: Path) -> None:
    row = findings(tmp_path, GRID + "pair: none\n", value).effects.iloc[0]
    expected = ttest_ind(LOW[:3], HIGH, equal_var=False)
    assert row["difference"] == pytest.approx(sum(LOW[:3]) / 3 - sum(HIGH) / 4)
    assert row["p"] == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((interval.low, interval.high))
    assert math.isnan(row["effect_size"])


def test_hypotheses_about_training_are_judged_by_exact_tests(tmp_path: Path) -> None:
    texts = ["model.residual=true beats model.residual=false on trained", "trained > 0.2 where model.residual=true"]
    grid = GRID.replace("seeds: 4", "seeds: 10") + "hypotheses:\n" + "".join(f"  - {text}\n" for text in texts)

    def failing(trial: Trial) -> float | None:
        fails = trial.cell.levels["model.residual"] == "false" and trial.seed < 7
        return None if fails else 0.9 + NOISE[trial.seed % 4]

    table = findings(tmp_path, grid, failing).hypotheses
    assert table["ruling"].tolist() == ["supported", "supported"]
    assert table["evidence"][0].startswith("trains in 10 of 10 against 3 of 10: difference +70.0 points (95 %: ")
    assert table["evidence"][1].startswith("trains in 10 of 10: share 100.0 % (95 %: 69.2 to 100.0)")
    assert table["p"][1] == pytest.approx(2 * 0.2**10, abs=1e-9)


def test_where_chance_is_not_known_it_is_said_that_the_untrained_stay_apart(tmp_path: Path) -> None:
    grid = GRID.replace("{name: digits}", "{name: npz, path: mine.npz}") + "untrained: chance\n"
    made = findings(tmp_path, grid, value)
    assert any(said.startswith("untrained: chance is not known of these data") for said in made.cautions)
    assert made.effects.iloc[0]["pairs"] == 3
