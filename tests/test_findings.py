"""Findings from typed records: effects with verdicts, hypotheses with evidence, winners; expected values by hand."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import ttest_rel

from bench.analysis.findings import Findings, edge_cautions, gather
from bench.analysis.verdicts import p_text
from bench.grid.load import Trial, load_plan
from bench.record.records import Records

GRID = """
    name: typed
    question: What matters?
    base:
      data: {name: digits}
      model: {name: resnet18}
      optimizer: {name: momentum, lr: 0.1}
      train: {epochs: 2}
    factors:
      model.residual: [true, false]
      model.batch_norm: [true, false]
    seeds: 4
    baseline: {model.residual: true, model.batch_norm: true}
"""
HYPOTHESES = """
    hypotheses:
      - model.residual=true > model.residual=false on test_accuracy
      - model.residual=false > model.residual=true on test_accuracy
      - test_accuracy > 0.9 where model.residual=true
      - model.residual=true ~ model.residual=false on parameters
      - model.residual=true > model.residual=false on train_images_per_second
      - (model.residual=true - model.residual=false where model.batch_norm=true)
        > (model.residual=true - model.residual=false where model.batch_norm=false) on test_accuracy
"""
NOISE = [0.0, 0.01, 0.02, 0.005]


def accuracy(trial: Trial) -> float | None:
    """Without shortcuts 0.3 lower, a little more or less by seed; BatchNorm is worth nothing but noise."""
    residual, norm = (trial.cell.levels[f"model.{name}"] == "true" for name in ("residual", "batch_norm"))
    jitter = NOISE[(trial.seed + 2 * norm) % 4]
    return 0.8 - 0.3 * (not residual) + jitter + 0.01 * (not residual) * trial.seed


def findings(folder: Path, grid: str, value: Callable[[Trial], float | None], *, alone: bool = False) -> Findings:
    (folder / "grid.yaml").write_text(textwrap.dedent(grid))
    plan, records = load_plan(folder / "grid.yaml"), Records(folder)
    for trial in plan.trials:
        number = value(trial)
        row = {"trial_id": trial.trial_id, "grid": plan.name, "cell": trial.cell.label, "seed": trial.seed}
        row |= {"status": "diverged" if number is None else "ok", "test_accuracy": number, "dev_accuracy": number}
        row |= {"parameters": 1000, "device_name": "EPYC", "concurrent_trials": 1 if alone else 2}
        row |= {"train_images_per_second": 100.0 + trial.seed, "source_fingerprint": "of another time"}
        records.append(row, [])
    return gather(folder)


@pytest.fixture
def found(tmp_path: Path) -> Findings:
    return findings(tmp_path, textwrap.dedent(GRID) + textwrap.dedent(HYPOTHESES), accuracy)


def test_an_effect_has_the_difference_and_the_corrected_p_of_its_family(found: Findings) -> None:
    residual, norm = found.effects.to_dict("records")
    means = {
        variant: [0.8 - 0.3 * variant + 0.01 * variant * s + 0.5 * (NOISE[s] + NOISE[(s + 2) % 4]) for s in range(4)]
        for variant in (0, 1)
    }
    test = ttest_rel(means[1], means[0])
    assert (residual["level"], residual["against"], residual["verdict"]) == ("false", "true", "worse")
    assert residual["difference"] == pytest.approx(-0.285)  # 0.3 less the mean of 0, 0.01, 0.02, 0.03
    assert residual["p_holm"] == pytest.approx(2 * test.pvalue)  # the smaller of two
    assert norm["verdict"] == "undecided"
    assert norm["difference"] == pytest.approx(0.0)
    assert norm["detectable"] > 0
    assert "would not show" in norm["sentence"]


def test_the_answer_is_each_hypothesis_with_its_ruling(found: Findings) -> None:
    first, second, *_ = found.answer.split("). ")
    assert first.startswith("Supported: model.residual=true > model.residual=false on test_accuracy (difference +28.5")
    assert second.startswith("Refuted: model.residual=false > model.residual=true")


def test_without_hypotheses_the_answer_is_what_is_decided_with_the_interval_of_one_that_was_picked(
    tmp_path: Path,
) -> None:
    made = findings(tmp_path, GRID, accuracy)
    said = "model.residual=false is worse than true by 28.5 points of test accuracy (97.5 % interval "
    assert made.answer.startswith(said)  # one of two: 1 - 0.05 / 2
    assert made.answer.endswith(", p < 0.001). Of 2 effects, 1 decided.")
    row = made.effects.iloc[0]
    assert row["picked_low"] < row["difference_low"] < row["difference_high"] < row["picked_high"]


def test_a_difference_is_never_said_without_how_often_both_train(tmp_path: Path) -> None:
    def gains_and_fails(trial: Trial) -> float | None:
        if trial.cell.levels["model.residual"] == "false" and trial.seed < 6:
            return None
        return 0.8 + NOISE[trial.seed % 4] + 0.05 * (trial.cell.levels["model.residual"] == "false")

    made = findings(tmp_path, GRID.replace("seeds: 4", "seeds: 10"), gains_and_fails)
    row = made.effects.iloc[0]
    assert (row["trained_verdict"], row["trains"]) == (
        "worse",
        "trains in 8 of 20 against 20 of 20, p = 0.011, corrected 0.022",
    )
    assert "is better" not in made.answer


def test_without_a_decided_effect_the_answer_says_what_is_missing(tmp_path: Path) -> None:
    said = findings(tmp_path, GRID, lambda trial: 0.8 + NOISE[(trial.seed + len(trial.cell.label)) % 4]).answer
    assert said.startswith("Undecided: the largest difference is model.")
    one = tmp_path / "one"
    one.mkdir()
    assert findings(one, GRID.replace("seeds: 4", "seeds: 1"), accuracy).answer.endswith(
        "one seed, and another may differ."
    )
    none = tmp_path / "none"
    none.mkdir()
    assert findings(none, GRID, lambda trial: None).answer.startswith("Undecided: no seed has a result on both sides")


def test_each_hypothesis_is_ruled_on_with_its_evidence(found: Findings) -> None:
    table = found.hypotheses
    assert table["ruling"].tolist() == ["supported", "refuted", "refuted", "supported", "undecided", "undecided"]
    assert table["evidence"][0].startswith("difference +28.5 points (95 %: ")
    assert table["evidence"][0].endswith(", p < 0.001, 4 seeds")
    assert table["evidence"][2].startswith("mean 80.9 % (95 %")
    assert table["evidence"][3] == "difference +0, exact"
    assert table["estimate"][5] == pytest.approx(0.0)  # shortcuts are worth as much with BatchNorm as without


def test_speeds_of_trials_that_shared_a_machine_are_no_evidence(found: Findings, tmp_path: Path) -> None:
    assert found.hypotheses["evidence"][4] == "no trials timed alone"
    assert "no speeds are shown: the trials shared their machine" in " ".join(found.cautions)
    assert found.cells["train_images_per_second"].isna().all()
    alone = tmp_path / "alone"
    alone.mkdir()
    assert findings(alone, GRID, accuracy, alone=True).cells["train_images_per_second"][0] == pytest.approx(101.5)


def test_speeds_come_from_the_timing_protocol_where_it_ran(tmp_path: Path) -> None:
    from lab.settings import timing_id

    (tmp_path / "grid.yaml").write_text(textwrap.dedent(GRID))
    plan = load_plan(tmp_path / "grid.yaml")
    keys = list(dict.fromkeys(timing_id(trial.settings) for trial in plan.trials))
    columns = ["timing_id", "device_name", "train_images_per_second"]
    columns += ["train_images_per_second_low", "train_images_per_second_high", "reliable"]
    rows = [[key, "EPYC", 100 * i, 90 * i, 120 * i, "true" if i > 1 else "false"] for i, key in enumerate(keys, 1)]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "timings.csv", index=False)
    made = findings(tmp_path, GRID, accuracy)
    assert made.cells["train_images_per_second"].tolist() == [100, 200, 300, 400]
    assert made.cells["train_images_per_second_high"].tolist() == [120, 240, 360, 480]
    assert made.levels[0]["train_images_per_second"].tolist() == [150, 350]
    assert "1 of 4 timings are not reliable: the machine's speed drifted" in made.cautions


def test_results_of_other_sources_are_stale(found: Findings) -> None:
    made = (
        "16 of 16 results were made by other source code than what is here now; `run --rerun stale` trains them again"
    )
    assert made in found.cautions


def test_counts_of_an_earlier_version_stand_apart_from_those_of_today(tmp_path: Path) -> None:
    """It left multiply-accumulates that meet padding alone out of ``forward_macs``: today's ``computed_macs``."""
    made = findings(tmp_path, GRID, accuracy)
    plan, records = load_plan(tmp_path / "grid.yaml"), Records(tmp_path)
    for trial in plan.trials:
        counts = {"forward_macs": 280} if trial.cell.label.startswith("residual=true") else {"forward_macs": 350}
        counts |= {"computed_macs": 280} if counts["forward_macs"] == 350 else {}
        row = {"trial_id": trial.trial_id, "grid": plan.name, "cell": trial.cell.label, "seed": trial.seed}
        records.append(row | {"status": "ok", "test_accuracy": 0.5, "dev_accuracy": 0.5} | counts, [])
    made = gather(tmp_path)
    said = "8 results are of an earlier version, which left multiply-accumulates on padding alone out"
    assert f"{said}: its counts are not shown beside those of today" in made.cautions
    assert made.cells["forward_macs_low"].fillna(0).tolist() == [0, 0, 350, 350]
    assert made.trials["computed_macs"].tolist() == [280] * 16


def test_a_winner_at_the_edge_of_the_candidates_is_warned_of(tmp_path: Path) -> None:
    def rate(trial: Trial) -> float:
        return 0.9 - abs(float(str(trial.tuned["optimizer.lr"])) - (0.1 if "=true b" in trial.cell.label else 0.01))

    made = findings(tmp_path, textwrap.dedent(GRID) + "tune: {optimizer.lr: [0.1, 0.01, 0.001]}\n", rate)
    assert made.winners["winner"].tolist() == [0.1, 0.1, 0.01, 0.01]
    assert made.winners["at_edge"].tolist() == [True, True, False, False]
    assert edge_cautions(made.winners)[0].startswith(
        "optimizer.lr: the winner is at the edge of the candidates in 2 of 4 cells (residual=true batch_norm=true, "
    )


def test_p_values_are_said_with_what_matters_of_them() -> None:
    assert [p_text(p) for p in (0.0323, 0.00099, math.nan)] == ["= 0.032", "< 0.001", "unknown"]


def test_a_hypothesis_on_dev_counts_the_dev_set_where_its_images_are_recorded(tmp_path: Path) -> None:
    import numpy as np

    grid = GRID + "    hypotheses:\n      - model.residual=true > model.residual=false on dev_accuracy\n"
    (tmp_path / "grid.yaml").write_text(textwrap.dedent(grid))
    plan, rng = load_plan(tmp_path / "grid.yaml"), np.random.default_rng(0)
    for recorded, said in ((False, "4 seeds, on this dev set"), (True, "4 seeds")):
        for trial in plan.trials:
            right = rng.random(80) < (0.9 if trial.cell.levels["model.residual"] == "true" else 0.8)
            row = {"trial_id": trial.trial_id, "status": "ok", "seed": trial.seed, "dev_accuracy": right.mean()}
            dev = (np.packbits(right).tobytes(), 80) if recorded else None
            test = {"correct": np.packbits([True, False]).tobytes(), "num_images": 2}
            Records(tmp_path).append(row | {"test_accuracy": 0.5}, [], **test, dev_correct=dev)
        assert gather(tmp_path).hypotheses["evidence"][0].endswith(said)


def test_an_average_over_unlike_effects_is_said_to_be_one_and_what_is_not_known_of_it_is_named(tmp_path: Path) -> None:
    def unlike(trial: Trial) -> float | None:
        residual, norm = (trial.cell.levels[f"model.{name}"] == "true" for name in ("residual", "batch_norm"))
        jitter = NOISE[trial.seed] * (1 + residual) / 4 + NOISE[(trial.seed + 1) % 4] * (norm and residual) / 5
        return 0.8 + jitter - (0.3 if norm else 0.05) * (not residual)

    made = findings(tmp_path, GRID, unlike)
    row = made.effects.iloc[0]
    assert (row["simple_low"], row["simple_high"]) == pytest.approx((-0.3, -0.05), abs=0.01)
    ends = f"{100 * row['simple_low']:+.3g} to {100 * row['simple_high']:+.3g}"
    assert row["sentence"].endswith(f"; an average of effects that differ with the other factors, {ends} points")
    lost = tmp_path / "lost"
    lost.mkdir()
    made = findings(lost, GRID, lambda t: None if t.cell.label == "residual=false batch_norm=false" else unlike(t))
    assert made.effects.iloc[0]["sentence"].endswith("; known under 1 of 2 combinations of the other factors")
    assert any("no pair has both results in residual=false batch_norm=false" in said for said in made.cautions)
