"""Convergence and speed of learning, against published tables."""

import math
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.analysis import summaries
from bench.analysis.comparison import Comparison
from bench.analysis.learning import (
    area_under_curve,
    default_target,
    first_reach,
    learning_table,
    time_to_target,
)
from bench.analysis.tables import cell_table
from bench.grid.load import Plan, load_plan

# Weeks of remission with 6-mercaptopurine, 9 of 21 ended; and without, all ended (Freireich et al. 1963).
TREATED_ENDED = [6, 6, 6, 7, 10, 13, 16, 22, 23]
TREATED_WATCHED = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
UNTREATED = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def test_the_first_evaluation_at_the_target_counts() -> None:
    steps, accuracies = [0, 10, 20, 30], [0.1, 0.8, 0.7, 0.9]
    assert first_reach(steps, accuracies, 0.75) == 10
    assert first_reach(steps, accuracies, 0.8) == 10
    assert first_reach(steps, accuracies, 0.95) == math.inf
    assert first_reach(steps, [0.1, math.nan, math.nan, math.nan], 0.5) == math.inf


def test_medians_are_those_of_the_leukaemia_trial() -> None:
    first = [*map(float, TREATED_ENDED), *[math.inf] * len(TREATED_WATCHED)]
    treated = time_to_target(first, [*TREATED_ENDED, *TREATED_WATCHED])
    assert (treated.median, treated.reached, treated.total) == (23, 9, 21)
    assert (treated.low, treated.high) == (13, math.inf)  # R: survfit with conf.type = "log-log"
    untreated = time_to_target(UNTREATED, UNTREATED)
    assert (untreated.median, untreated.low, untreated.high) == (8, 4, 11)


def test_a_diverged_trial_never_reaches_the_target() -> None:
    found = time_to_target([10, 20, math.inf, math.inf, math.inf], [50, 50, math.inf, math.inf, math.inf])
    assert (found.median, found.reached, found.total) == (math.inf, 2, 5)


def test_where_none_reaches_the_target_the_median_is_infinite() -> None:
    found = time_to_target([math.inf, math.inf], [50, math.inf])
    assert (found.median, found.high, found.reached) == (math.inf, math.inf, 0)
    assert math.isnan(found.low)


def test_where_all_reach_it_at_once_the_median_is_that() -> None:
    assert time_to_target([10, 10, 10], [50, 50, 50]).median == 10


def test_the_area_is_the_mean_accuracy_over_training() -> None:
    assert area_under_curve([0, 10, 30], [0.0, 0.5, 1.0]) == pytest.approx((10 * 0.25 + 20 * 0.75) / 30)
    assert area_under_curve(np.linspace(0, 7, 29), np.full(29, 0.4)) == pytest.approx(0.4)


@pytest.mark.parametrize("steps", [[0], [0, 0], [10, 0]])
def test_a_curve_needs_increasing_positions(steps: list[float]) -> None:
    with pytest.raises(ValueError, match="increasing"):
        area_under_curve(steps, [0.5] * len(steps))


# --- the table of a grid --------------------------------------------------------------------------------------------

GRID = """
    question: Which rate?
    base:
      data: {name: digits, batch_size: 50}
      model: {name: mlp, hidden: [8]}
      optimizer: {name: sgd}
      train: {epochs: 3}
    factors: {optimizer.lr: [0.1, 1.0]}
    seeds: 3
    baseline: {optimizer.lr: 0.1}
"""
# Dev accuracies after 0, 10, 20 and 30 steps by cell and seed; a curve that breaks off is that of a trial that failed.
CURVES = {
    ("lr=0.1", 0): [0.1, 0.5, 0.8, 0.96],
    ("lr=0.1", 1): [0.1, 0.5, 0.9, 0.95],
    ("lr=0.1", 2): [0.1, 0.5, 0.7, 0.91],
    ("lr=1.0", 0): [0.1, 0.9, 0.95, 0.95],
    ("lr=1.0", 1): [0.1, 0.7],
    ("lr=1.0", 2): [0.1],
}
STATUS = {("lr=1.0", 1): "diverged", ("lr=1.0", 2): "out_of_memory"}


NO_CURVES = pd.DataFrame(columns=["trial_id", "step", "epoch", "dev_accuracy"])


def typed(
    folder: Path, grid: str = GRID, timings: pd.DataFrame | None = None
) -> tuple[Plan, pd.DataFrame, pd.DataFrame]:
    """The plan, its outcomes, and the table."""
    (folder / "grid.yaml").write_text(textwrap.dedent(grid))
    plan = load_plan(folder / "grid.yaml")
    curves, trials = [], []
    for trial in plan.trials:
        heights, status = CURVES[trial.cell.label, trial.seed], STATUS.get((trial.cell.label, trial.seed), "ok")
        curves += [(trial.trial_id, 10 * i, float(i), height) for i, height in enumerate(heights)]
        numbers = (heights[-1], heights[-1], heights[-1], heights[1]) if status == "ok" else (np.nan,) * 4
        trials.append((trial.trial_id, status, *numbers))
    measures = ["test_accuracy", "dev_accuracy", "final_dev_accuracy", "first_epoch_dev_accuracy"]
    found = summaries.outcomes(plan, pd.DataFrame(trials, columns=["trial_id", "status", *measures]))
    points = pd.DataFrame(curves, columns=["trial_id", "step", "epoch", "dev_accuracy"])
    cells = cell_table(Comparison(plan, found, timings=timings))
    return plan, found, learning_table(plan, found, points, cells, default_target(plan, found, points))


def test_the_target_is_95_percent_of_what_the_baseline_ends_with_rounded_down(tmp_path: Path) -> None:
    plan, found, table = typed(tmp_path)
    assert default_target(plan, found, NO_CURVES) == 0.89  # 0.95 x 0.94 = 0.893
    assert table["target"].tolist() == [0.89, 0.89]
    assert math.isnan(default_target(plan, found[found["cell"] == "lr=1.0"], NO_CURVES))


def test_each_cell_says_how_many_trained_and_how_fast_they_learned(tmp_path: Path) -> None:
    _, _, table = typed(tmp_path)
    usual, large = table.to_dict("records")
    assert (usual["trained"], usual["ended"], usual["reached"], usual["steps_to_target"]) == (3, 3, 3, 30)
    assert usual["area_under_curve"] == pytest.approx(np.mean([(0.53 + 1.3), (0.525 + 1.4), (0.505 + 1.2)]) / 3)
    assert (large["trained"], large["ended"], large["reached"]) == (1, 3, 1)
    assert large["first_epoch_dev_accuracy"] == pytest.approx(0.9)
    assert math.isnan(large["seconds_to_target"])


def test_under_six_trials_a_median_has_no_interval() -> None:
    """Of five, the least and the greatest hold the median with 1 - 2 / 2^5 = 93.75 %."""
    five, six = (time_to_target([float(i) for i in range(n)], [10.0] * n) for n in (5, 6))
    assert np.isnan([five.low, five.high]).all()
    assert five.median == 2
    assert not math.isnan(six.low)


def test_seconds_are_steps_at_the_speed_that_was_timed_alone(tmp_path: Path) -> None:
    from lab.settings import timing_id

    (tmp_path / "grid.yaml").write_text(textwrap.dedent(GRID))
    (key,) = {timing_id(trial.settings) for trial in load_plan(tmp_path / "grid.yaml").trials}
    names = ["timing_id", "device_name", "threads", *summaries.RATES]
    rows = [
        (key, "EPYC", "2", 1000, 900, 1100),
        (key, "EPYC", "8", 5000, 4900, 5100),
        (key, "EPYC", "2", 2000, 1, 3000),
    ]
    _, _, table = typed(tmp_path, timings=pd.DataFrame(rows, columns=names))
    assert table["seconds_to_target"][0] == pytest.approx(30 * 50 / 2000)  # the last timing of the machine with most


def test_without_known_classes_the_untrained_have_no_accuracy(tmp_path: Path) -> None:
    plan, found, _ = typed(tmp_path)
    known = cell_table(Comparison(plan, found))
    assert known["with_untrained"][1] == pytest.approx((0.95 + 0.1) / 2)  # ten classes; an error is no result
    assert (known["trained"][1], known["judged"][1]) == (1, 2)
    plan, found, _ = typed(tmp_path, GRID.replace("name: digits", "name: npz, path: mine.npz"))
    assert cell_table(Comparison(plan, found))["with_untrained"].isna().all()
