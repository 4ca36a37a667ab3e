"""Tables of numbers from a plan and typed records; expected values by hand or by scipy."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from bench.analysis import summaries
from bench.analysis.comparison import Comparison
from bench.analysis.scope import left_out
from bench.analysis.summaries import (
    cautions,
    coverage,
    coverage_line,
    curve_table,
    extremes,
    layout,
    outcomes,
    seed_table,
    speed_cautions,
    timed,
    tuned_as_recorded,
    words,
)
from bench.analysis.tables import cell_table, comparable_cells, level_table, sampled
from bench.grid.factors import short_names
from bench.grid.load import Plan, Trial, load_plan
from bench.grid.metrics import Metric, lab_metrics
from bench.record.records import ENVIRONMENT, MEASURES
from lab.scores import Score

BASE = """
    name: typed
    question: What matters?
    base:
      data: {name: digits}
      model: {name: resnet18}
      optimizer: {name: momentum, lr: 0.1}
      train: {epochs: 2}
"""
TWO_BY_TWO = """
    factors:
      model.residual: [true, false]
      model.batch_norm: [true, false]
    seeds: 3
    baseline: {model.residual: true, model.batch_norm: true}
"""
ACCURACY = {  # (residual, batch_norm) -> by seed
    ("true", "true"): [0.90, 0.94, 0.95],
    ("true", "false"): [0.80, 0.82, 0.87],
    ("false", "true"): [0.70, 0.78, 0.71],
    ("false", "false"): [0.30, 0.50, 0.40],
}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return load(tmp_path, TWO_BY_TWO)


def load(folder: Path, more: str) -> Plan:
    (folder / "typed.yaml").write_text(textwrap.dedent(BASE) + textwrap.dedent(more))
    return load_plan(folder / "typed.yaml")


def rows(plan: Plan, accuracy: dict[tuple[str, ...], list[float]]) -> pd.DataFrame:
    """Records of the trials that have an accuracy; NaN is a trial that diverged."""
    found = []
    for trial in plan.trials:
        values = accuracy.get(tuple(trial.cell.levels.values()), [])
        if trial.seed < len(values):
            value = values[trial.seed]
            row: dict[str, object] = dict.fromkeys([*MEASURES, *ENVIRONMENT], np.nan)
            row |= {"trial_id": trial.trial_id, "status": "diverged" if np.isnan(value) else "ok", "error": ""}
            row |= {"test_accuracy": value, "dev_accuracy": value, "first_epoch_dev_accuracy": value / 2}
            row |= {"train_images_per_second": 1000.0 + 100 * trial.seed, "parameters": 61706}
            row |= {
                "device": "cpu",
                "device_name": "EPYC",
                "threads": 1,
                "concurrent_trials": 1,
                "source_fingerprint": "f",
            }
            found.append(row)
    return pd.DataFrame(found)


def compare(plan: Plan, accuracy: dict[tuple[str, ...], list[float]]) -> Comparison:
    return Comparison(plan, outcomes(plan, rows(plan, accuracy)))


def by_level(plan: Plan, comparison: Comparison, index: int = 0) -> pd.DataFrame:
    return level_table(comparison, plan.factors[index]).set_index("level")


# --- trials ---------------------------------------------------------------------------------------------------------


def test_every_trial_of_the_plan_has_a_row_and_one_without_a_record_is_missing(plan: Plan) -> None:
    found = outcomes(plan, rows(plan, {("true", "true"): [0.9, np.nan]}))
    assert len(found) == 12
    assert found["status"].tolist() == ["ok", "diverged", *["missing"] * 10]
    assert found["compared"].all()


def test_records_of_other_trials_are_left_out_and_said(plan: Plan) -> None:
    trials = rows(plan, ACCURACY)
    foreign = trials.iloc[:2].assign(trial_id=["0" * 12, "1" * 12])
    both = pd.concat([trials, foreign])
    found = outcomes(plan, both)
    assert len(found) == 12
    assert cautions(plan, found, both) == []
    (said,) = left_out(plan, both, found)
    assert said.startswith("2 recorded trials are not this grid's and are left out: 2 ")


def test_the_coverage_line_counts_every_trial_and_names_what_has_no_result(plan: Plan) -> None:
    accuracy = ACCURACY | {("false", "false"): [np.nan, 0.5, np.nan], ("true", "false"): [0.8, 0.82]}
    found = outcomes(plan, rows(plan, accuracy))
    assert coverage_line(found) == (
        "9 of 12 trials; 2 diverged: residual=false batch_norm=false (seeds 0, 2); "
        "1 missing: residual=true batch_norm=false (seed 2)"
    )
    assert coverage(found).loc["residual=false batch_norm=false"].to_dict() == {"diverged": 2, "missing": 0, "ok": 1}


TUNED = "tune: {optimizer.lr: [0.1, 0.01]}\nfactors: {model.residual: [true, false]}\nseeds: 2\ntune_seeds: 2\n"
DEV = {("true", 0.1): 0.6, ("true", 0.01): 0.8, ("false", 0.1): 0.5, ("false", 0.01): 0.4}


def tuned_rows(trials: Sequence[Trial]) -> pd.DataFrame:
    dev = [DEV[t.cell.levels["model.residual"], float(str(t.tuned["optimizer.lr"]))] for t in trials]
    ids = [t.trial_id for t in trials]
    return pd.DataFrame({"trial_id": ids, "status": "ok", "test_accuracy": 0.5, "dev_accuracy": dev})


def test_where_a_grid_tunes_the_winner_on_the_grids_own_seeds_is_compared(tmp_path: Path) -> None:
    plan = load(tmp_path, TUNED)
    found = outcomes(plan, tuned_rows(plan.trials))
    assert len(found) == 8 + 4
    compared = found[found["compared"]]
    assert sorted(compared["seed"]) == [0, 0, 1, 1]
    assert compared["status"].tolist() == ["missing"] * 4
    assert tuned_as_recorded(plan, tuned_rows(plan.trials)) == plan


def test_folders_whose_candidates_were_tried_on_the_grids_seeds_are_reported_as_they_were(tmp_path: Path) -> None:
    plan = load(tmp_path, TUNED.replace("tune_seeds: 2\n", ""))
    trials = tuned_rows(plan.tuned_on(plan.seeds).trials)
    before = tuned_as_recorded(plan, trials)
    found = outcomes(before, trials)
    assert len(found) == 8
    won = {("true", 0.01), ("false", 0.1)}
    assert set(found["trial_id"][found["compared"]]) == {
        t.trial_id
        for t in before.trials
        if (t.cell.levels["model.residual"], float(str(t.tuned["optimizer.lr"]))) in won
    }
    full = trials.reindex(columns=[*trials.columns, *{*MEASURES, *ENVIRONMENT} - {*trials.columns}])
    assert "the seeds that chose the candidates are reported too" in cautions(before, found, full)[0]


def test_speeds_of_an_unlike_machine_are_left_out_and_said(plan: Plan) -> None:
    trials = rows(plan, ACCURACY)
    trials.loc[0, "device_name"] = "Xeon"
    trials.loc[0, "train_images_per_second"] = 1e6
    found = outcomes(plan, trials)
    assert len(timed(found)) == 11
    assert cautions(plan, found, trials) == ["the trials ran on unlike machines: they differ in device_name"]
    assert speed_cautions(found) == [
        "speeds are those of 11 of 12 trials: the others shared a machine or ran on another"
    ]
    table = cell_table(Comparison(plan, found))
    assert table["train_images_per_second"][0] == pytest.approx((1100 + 1200) / 2)
    assert table["test_accuracy"][0] == pytest.approx((0.90 + 0.94 + 0.95) / 3)


def test_unlike_sources_and_single_seeds_are_said(plan: Plan) -> None:
    trials = rows(plan, {("true", "true"): [0.9], ("false", "true"): [0.8, 0.7]})
    trials.loc[0, "source_fingerprint"] = "g"
    said = cautions(plan, outcomes(plan, trials), trials)
    assert [caution.split(" ", 2)[:2] for caution in said] == [["the", "trials"], ["some", "cells"]]


# --- estimates ------------------------------------------------------------------------------------------------------


def test_trials_that_were_to_be_compiled_and_were_not_are_told_with_the_reason(plan: Plan) -> None:
    trials = rows(plan, ACCURACY)
    told = trials.assign(compile_error=[""] * (len(trials) - 2) + ["CppCompileError: no g++"] * 2)
    assert "2 trials were to be compiled and ran as they are: CppCompileError: no g++" in cautions(
        plan, outcomes(plan, told), told
    )
    for nothing in (None, "", float("nan")):
        none = trials.assign(compile_error=nothing)
        assert cautions(plan, outcomes(plan, none), none) == cautions(plan, outcomes(plan, trials), trials)


def test_a_level_is_the_mean_of_its_cells_with_the_interval_of_its_seeds(plan: Plan) -> None:
    row = by_level(plan, compare(plan, ACCURACY)).loc["true"]
    by_seed = [(0.90 + 0.80) / 2, (0.94 + 0.82) / 2, (0.95 + 0.87) / 2]
    interval = ttest_1samp(by_seed, 0).confidence_interval()
    assert (row["n"], row["planned"]) == (6, 6)
    assert row["test_accuracy"] == pytest.approx(0.88)
    assert (row["test_accuracy_low"], row["test_accuracy_high"]) == pytest.approx((interval.low, interval.high))
    assert row["first_epoch_dev_accuracy"] == pytest.approx(0.44)
    assert row["train_images_per_second"] == pytest.approx(1100)


def test_a_difference_is_paired_by_seed_and_by_the_cells_of_the_other_factors(plan: Plan) -> None:
    table = by_level(plan, compare(plan, ACCURACY))
    ours, theirs = (np.mean([ACCURACY[level, "true"], ACCURACY[level, "false"]], 0) for level in ("false", "true"))
    interval = ttest_rel(ours, theirs).confidence_interval()
    row = table.loc["false"]
    assert row["difference"] == pytest.approx(0.565 - 0.88)  # (0.73 + 0.40) / 2 - (0.93 + 0.83) / 2
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((interval.low, interval.high))
    assert (row["pairs"], row["pairs_planned"]) == (6, 6)
    assert table["is_baseline"].to_dict() == {"true": True, "false": False}
    assert np.isnan(table.loc["true", "difference"])


def test_each_cell_is_compared_with_the_baseline_cell(plan: Plan) -> None:
    table = cell_table(compare(plan, ACCURACY)).set_index("cell")
    row = table.loc["residual=true batch_norm=false"]
    interval = ttest_rel(ACCURACY["true", "false"], ACCURACY["true", "true"]).confidence_interval()
    assert row["difference"] == pytest.approx(-0.1)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((interval.low, interval.high))
    assert table["is_baseline"].tolist() == [True, False, False, False]


def test_where_the_baseline_omits_a_factor_cells_are_compared_within_its_levels(tmp_path: Path) -> None:
    plan = load(tmp_path, TWO_BY_TWO.replace(", model.batch_norm: true}", "}"))
    comparison = compare(plan, ACCURACY)
    table = cell_table(comparison).set_index("cell")
    assert table["is_baseline"].tolist() == [True, True, False, False]
    assert table.loc["residual=false batch_norm=false", "difference"] == pytest.approx(0.40 - 0.83)
    assert by_level(plan, comparison, 1)["is_baseline"].to_dict() == {"true": True, "false": False}


def test_failures_are_counted_and_a_difference_counts_only_whole_pairs(plan: Plan) -> None:
    accuracy = ACCURACY | {("false", "false"): [np.nan] * 3}
    row = by_level(plan, compare(plan, accuracy)).loc["false"]
    assert (row["n"], row["planned"], row["diverged"]) == (3, 6, 3)
    assert row["test_accuracy"] == pytest.approx(0.73)
    assert (row["pairs"], row["pairs_planned"]) == (3, 6)
    assert row["difference"] == pytest.approx(((0.70 - 0.90) + (0.78 - 0.94) + (0.71 - 0.95)) / 3)


def test_one_seed_has_no_interval_over_seeds(plan: Plan) -> None:
    row = cell_table(compare(plan, {key: values[:1] for key, values in ACCURACY.items()})).iloc[1]
    assert row["difference"] == pytest.approx(-0.1)
    assert np.isnan(row["difference_low"])
    assert row["difference_basis"] == "nothing"


def test_a_cell_without_any_trial_has_a_row_without_numbers(plan: Plan) -> None:
    row = cell_table(compare(plan, {("true", "true"): [0.9, 0.91, 0.92]})).iloc[3]
    assert (row["n"], row["planned"], row["pairs"]) == (0, 3, 0)
    assert row[["test_accuracy", "difference", "train_images_per_second", "parameters_low"]].isna().all()


def test_nothing_recorded_gives_tables_without_numbers(plan: Plan) -> None:
    none = rows(plan, {("true", "true"): [0.9]}).iloc[:0]
    comparison = Comparison(plan, outcomes(plan, none))
    assert cell_table(comparison)["n"].sum() == 0
    assert level_table(comparison, plan.factors[0])["test_accuracy"].isna().all()


def test_with_a_bit_a_test_image_the_interval_counts_the_test_set(plan: Plan) -> None:
    correct_by_cell = {("true", "true"): 9, ("false", "true"): 7}  # right among 10 images, in each seed
    trials = rows(plan, {key: [right / 10] * 3 for key, right in correct_by_cell.items()})
    ids = {t.trial_id: correct_by_cell.get(tuple(t.cell.levels.values()), 0) for t in plan.trials}
    bits = {key: np.arange(10) < ids[key] for key in trials["trial_id"]}
    found = outcomes(plan, trials)
    table = cell_table(Comparison(plan, found, {"test_accuracy": bits})).set_index("cell")
    row = table.loc["residual=false batch_norm=true"]
    assert row["difference"] == pytest.approx(-0.2)
    assert row["difference_basis"] == "test set"
    assert row["difference_low"] < -0.2 < row["difference_high"]
    assert sampled(plan.primary, table) == "test images alone"  # the seeds agree on each of them
    assert (
        sampled(plan.primary, table, table.assign(test_accuracy_basis="seeds and test set")) == "seeds and test images"
    )
    some = dict(list(bits.items())[:2])
    assert sampled(plan.primary, cell_table(Comparison(plan, found, {"test_accuracy": some}))) == "seeds"


def test_parameters_are_a_range_where_they_vary_over_the_cells_of_a_level(plan: Plan) -> None:
    trials = rows(plan, ACCURACY)
    trials.loc[3:5, "parameters"] = 100
    table = by_level(plan, Comparison(plan, outcomes(plan, trials)))
    assert table[["parameters_low", "parameters_high"]].to_numpy().tolist() == [[100, 61706], [61706, 61706]]


def test_levels_are_compared_where_the_plan_has_all_of_them(tmp_path: Path) -> None:
    exclude = "exclude: [{when: {model.residual: false, model.batch_norm: false}, because: it never learns}]\n"
    plan = load(tmp_path, textwrap.dedent(TWO_BY_TWO) + exclude)
    cells = comparable_cells(plan, plan.factors[0])
    assert {level: [cell.label for cell in found] for level, found in cells.items()} == {
        "true": ["residual=true batch_norm=true"],
        "false": ["residual=false batch_norm=true"],
    }


# --- figures --------------------------------------------------------------------------------------------------------


def test_a_curve_is_the_mean_and_the_extremes_of_the_seeds_that_ended_well(plan: Plan) -> None:
    found = outcomes(plan, rows(plan, {("true", "true"): [0.9, 0.8], ("false", "true"): [np.nan]}))
    points = [
        (key, step, accuracy)
        for key, last in zip(found["trial_id"], (0.9, 0.8), strict=False)
        for step, accuracy in ((0, 0.1), (20, last))
    ]
    points += [(found["trial_id"][6], 0, 0.1)]
    curves = pd.DataFrame(points, columns=["trial_id", "step", "dev_accuracy"])
    curves["epoch"] = curves["step"] / 20
    table = curve_table(plan, found, curves)
    assert table["cell"].unique().tolist() == ["residual=true batch_norm=true"]
    assert table["epoch"].tolist() == [0, 1]
    assert table.loc[1, ["n", "lowest", "highest"]].tolist() == [2, 0.8, 0.9]
    assert table.loc[1, "dev_accuracy"] == pytest.approx(0.85)


def test_dots_are_the_seeds_that_ended_well(plan: Plan) -> None:
    table = seed_table(plan, outcomes(plan, rows(plan, {("true", "true"): [0.9, np.nan, 0.8]})))
    assert table.to_numpy().tolist() == [
        ["residual=true batch_norm=true", 0, 0.9],
        ["residual=true batch_norm=true", 2, 0.8],
    ]


def test_a_factor_is_called_by_the_last_part_of_its_path_where_that_is_unambiguous() -> None:
    assert short_names(["model.name", "data.name", "optimizer.lr", "data.batch_size, train.epochs"]) == {
        "model.name": "model.name",
        "data.name": "data.name",
        "optimizer.lr": "lr",
        "data.batch_size, train.epochs": "batch_size,epochs",
    }


def test_levels_are_said_in_words(tmp_path: Path) -> None:
    factors = (
        "factors:\n  model.name: [resnet18, resnet34]\n  model.residual: [true, false]\n  optimizer.lr: [0.1, 1.0]\n"
    )
    factors += "  train.clip_norm: [null, 1.0]\nbaseline: {model.residual: true}\n"
    plan = load(tmp_path, factors)
    assert words(plan, plan.cells[0].levels) == "resnet18, residual, lr 0.1, clip_norm null"
    assert words(plan, {"model.residual": "false", "optimizer.lr": "1.0"}) == "no residual, lr 1.0"


def test_few_cells_share_a_panel_and_more_give_the_first_factors_panels_of_their_own(
    tmp_path: Path, plan: Plan
) -> None:
    assert layout(plan)["column"].unique().tolist() == [""]
    assert layout(plan)["variant"].tolist()[-1] == "no residual, no batch_norm"
    rates = load(
        tmp_path, "factors:\n  model.residual: [true, false]\n  optimizer.lr: [0.001, 0.01, 0.1, 1.0, 10.0, 30.0]\n"
    )
    places = layout(rates)
    assert places["column"].unique().tolist() == ["residual", "no residual"]
    assert places["variant"].unique().tolist() == ["lr 0.001", "lr 0.01", "lr 0.1", "lr 1.0", "lr 10.0", "lr 30.0"]
    assert places["ordered"].all()


def test_in_a_plan_around_a_baseline_an_arm_is_what_it_changes(tmp_path: Path) -> None:
    more = "include: [{model: {name: mlp}}]\n"
    plan = load(tmp_path, "plan: one_at_a_time\n" + textwrap.dedent(TWO_BY_TWO) + more)
    assert layout(plan)["variant"].tolist() == ["baseline", "no residual", "no batch_norm", "model=mlp"]


def test_a_users_metric_is_found_where_earlier_versions_kept_it() -> None:
    measures = lab_metrics({"nll": Score("lower")})
    plan = Plan("g", "q", (), (), (), {}, metrics=(measures["test_nll"],), measures=measures, selecting="dev_nll")
    trials = pd.DataFrame({"trial_id": ["a", "b"], "status": ["ok", "error"], "dev_accuracy": [0.3, np.nan]})
    assert summaries.selecting_scores(plan, trials.assign(test_accuracy=0.4)) == {"a": 0.3, "b": None}
    assert summaries.with_own_scores(plan, trials.assign(test_accuracy=0.4))["test_nll"].tolist() == [0.4, 0.4]
    newer = trials.assign(dev_nll=[0.2, np.nan])
    assert summaries.selecting_scores(plan, newer) == {"a": 0.2, "b": None}


def test_a_metric_that_no_trial_left_a_column_of_is_in_none() -> None:
    metric = Metric("Loss/test", "lower")
    plan = Plan("g", "q", (), (), (), {}, metrics=(metric,), measures={metric.name: metric}, selecting=metric.name)
    trials = pd.DataFrame({"trial_id": ["a"], "status": ["error"], "dev_accuracy": [np.nan]})
    assert summaries.selecting_scores(plan, trials) == {"a": None}


def test_the_median_and_the_worst_seed_of_each_cell_are_told(plan: Plan) -> None:
    table = extremes(plan, outcomes(plan, rows(plan, ACCURACY))).set_index("cell")
    row = table.loc["residual=false batch_norm=true"]
    assert (row["test_accuracy_median"], row["test_accuracy_worst"]) == (0.71, 0.70)
