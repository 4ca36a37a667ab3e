"""The report of recorded trials, from files to files; the trials are made up here, no network is trained."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bench.cli.options import CommandError
from bench.cli.report import report as command
from bench.grid.load import Plan, Trial, load_plan
from bench.record.records import Records
from bench.report.output import report
from lab.result import Evaluation

RESIDUAL = """
    name: residual_vs_plain
    question: Do residual shortcuts make deep networks trainable, with and without BatchNorm?
    base:
      data: {name: digits, size: 32, batch_size: 64}
      model: {name: resnet18, width: 16}
      optimizer: {name: momentum, lr: 0.05}
      train: {epochs: 5}
    factors:
      model.name: [resnet18, resnet34]
      model.residual: [true, false]
      model.batch_norm: [true, false]
    seeds: 5
    baseline: {model.residual: true, model.batch_norm: true}
"""
OPTIMIZERS = """
    name: optimizers
    question: Which optimizer learns fastest at its usual rate?
    base:
      data: {name: digits}
      model: {name: lenet}
      train: {epochs: 8}
    factors:
      optimizer:
        sgd: {name: sgd, lr: 0.1}
        momentum: {name: momentum, lr: 0.05}
        rmsprop: {name: rmsprop, lr: 0.001}
        adam: {name: adam, lr: 0.001}
    seeds: 3
    baseline: {optimizer: adam}
"""
RATES = """
    name: batch_norm
    question: Does BatchNorm allow larger learning rates and converge sooner?
    base:
      data: {name: digits}
      model: {name: lenet}
      optimizer: {name: momentum, lr: 0.1}
      train: {epochs: 10}
    factors:
      model.batch_norm: [true, false]
      optimizer.lr: [0.001, 0.003, 0.01, 0.1, 1.0, 10.0]
    seeds: 5
    baseline: {model.batch_norm: true, optimizer.lr: 0.1}
"""
IMAGES = 360


def point(step: int, epoch: float, accuracy: float, dev_loss: float, train_loss: float, seconds: float) -> Evaluation:
    return Evaluation(step, epoch, train_loss, seconds, {"dev_accuracy": accuracy, "dev_loss": dev_loss})


def record(folder: Path, grid: str, level: Callable[[Trial], tuple[str, float, float]]) -> Plan:
    """Writes a grid and made-up records: ``level`` gives a trial's status ("" for none), accuracy and images/s."""
    folder.mkdir(parents=True)
    (folder / "grid.yaml").write_text(textwrap.dedent(grid))
    plan = load_plan(folder / "grid.yaml")
    records = Records(folder)
    images = np.random.default_rng(7).uniform(0, 0.1, IMAGES)
    for index, trial in enumerate(plan.trials):
        status, accuracy, rate = level(trial)
        random = np.random.default_rng(index)
        accuracy = float(np.clip(accuracy + random.normal(0, 0.15 * accuracy * (1.02 - accuracy)), 0.05, 0.995))
        correct = random.uniform(size=IMAGES) + images < accuracy + 0.05
        epochs = trial.settings.train.epochs
        curve = [
            point(20 * epoch, epoch, 0.1 + (accuracy - 0.1) * (1 - math.exp(-0.9 * epoch)), 1.0, 1.0, epoch / 5)
            for epoch in range(epochs + 1)
        ]
        row = {
            **{"trial_id": trial.trial_id, "grid": plan.name, "cell": trial.cell.label, "status": status},
            **{"seed": trial.seed, "parameters": 61706 if rate > 2000 else 175000, "device": "cpu"},
            **{"device_name": "AMD EPYC", "threads": 1, "concurrent_trials": 1, "source_fingerprint": "f"},
            **({"error": "loss is nan at step 31"} if status == "diverged" else {}),
        }
        if status == "ok":
            row |= {"test_accuracy": float(correct.mean()), "dev_accuracy": curve[-1].scores["dev_accuracy"]}
            row |= {
                "first_epoch_dev_accuracy": curve[1].scores["dev_accuracy"],
                "final_dev_accuracy": curve[-1].scores["dev_accuracy"],
            }
            row |= {"train_images_per_second": float(rate * random.normal(1, 0.03))}
            records.append(row, [], curve, np.packbits(correct).tobytes(), IMAGES)
        elif status:
            records.append(row, [])
    return plan


def residual(trial: Trial) -> tuple[str, float, float]:
    levels = trial.cell.levels
    residual, norm = levels["model.residual"] == "true", levels["model.batch_norm"] == "true"
    deep = levels["model.name"] == "resnet34"
    accuracy = {(True, True): 0.95, (True, False): 0.9, (False, True): 0.7, (False, False): 0.12}[residual, norm]
    return "ok", accuracy - 0.12 * deep * (not residual), (1500 if deep else 2600) * (1 if norm else 1.3)


def optimizer(trial: Trial) -> tuple[str, float, float]:
    accuracy, rate = {"sgd": (0.93, 9100), "momentum": (0.97, 8800), "rmsprop": (0.965, 8100), "adam": (0.975, 7900)}[
        trial.cell.levels["optimizer"]
    ]
    return "ok", accuracy, rate


def rates(trial: Trial) -> tuple[str, float, float]:
    rate, norm = float(trial.cell.levels["optimizer.lr"]), trial.cell.levels["model.batch_norm"] == "true"
    accuracy = {0.001: 0.6, 0.003: 0.8, 0.01: 0.93, 0.1: 0.975, 1.0: 0.95, 10.0: 0.5}[rate] - 0.06 * (not norm)
    diverges = not norm and (rate > 1 or (rate == 1 and trial.seed > 2))
    return "diverged" if diverges else "ok", accuracy, 8000 if norm else 9500


def text_of(folder: Path, width: int = 80) -> str:
    output = io.StringIO()
    report(folder, Console(file=output, width=width, highlight=False), full=True)
    return output.getvalue()


@pytest.fixture(scope="module")
def rates_report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A whole report of a grid where large rates without BatchNorm diverge."""
    folder = tmp_path_factory.mktemp("results") / "batch_norm"
    record(folder, RATES, rates)
    return folder, text_of(folder)


def section(text: str, heading: str) -> list[list[str]]:
    """The cells of each line of a table in the terminal, below its rule."""
    table = text.split(f"\n{heading}\n", 1)[1].split("\n\n")[0].splitlines()
    start = next(i for i, line in enumerate(table) if line.startswith("──"))
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table[start + 1 :]]


def test_the_terminal_shows_the_question_and_what_is_covered(rates_report: tuple[Path, str]) -> None:
    _, text = rates_report
    joined = " ".join(text.split())
    assert joined.startswith("batch_norm Does BatchNorm allow larger learning rates and converge sooner?")
    assert "53 of 60 trials; 7 diverged: batch_norm=false lr=1.0 (seeds 3, 4); batch_norm=false lr=10.0" in joined
    assert "Test accuracy is of those that trained" in joined


def test_a_table_a_factor_and_one_of_all_cells_fit_80_columns(rates_report: tuple[Path, str]) -> None:
    _, text = rates_report
    assert max(map(len, text.splitlines()[:-1])) <= 80  # the last names a folder
    assert [row[0] for row in section(text, "model.batch_norm")] == ["true", "false"]
    assert [row[:2] for row in section(text, "optimizer.lr")][3:] == [
        ["0.1", "10/10"],
        ["1.0", "8/10"],
        ["10.0", "5/10"],
    ]
    assert len(section(text, "cells")) == 12
    assert "\x1b" not in text


def test_no_mean_stands_without_its_interval(rates_report: tuple[Path, str]) -> None:
    _, text = rates_report
    for heading in ("model.batch_norm", "optimizer.lr", "cells"):
        for row in section(text, heading):
            numbers = [cell for cell in row if "." in cell and cell not in row[:2]]
            assert numbers or row[-1] == "–"
            assert all("±" in number for number in numbers)


def test_how_often_trials_train_and_learning_stand_beside_accuracy(rates_report: tuple[Path, str]) -> None:
    folder, text = rates_report
    rows = {tuple(row[:2]): row[2:] for row in section(text, "training")}
    assert rows["false", "1.0"][:2] == ["3/5", "60 (15 to 95)"]
    assert rows["false", "10.0"] == ["0/5", "0 (0 to 52)", "–", "10.0 (10 to 57)"]
    assert "count at chance, 1 / number of classes" in " ".join(text.split())
    assert [row[:3] for row in section(text, "model.batch_norm")] == [
        ["true", "30/30", "100 (88 to 100)"],
        ["false", "23/30", "77 (58 to 90)"],
    ]
    learning = pd.read_csv(folder / "report" / "learning.csv").set_index("cell")
    baseline = learning.loc["batch_norm=true lr=0.1"]
    assert baseline[["trained", "reached", "steps_to_target"]].tolist() == [5, 5, 80]  # 0.975 (1 - exp(-0.9 t)) > 92 %
    assert section(text, "learning")[3][:2] == ["true", "0.1"]


def test_where_all_trained_nothing_is_said_of_failures(tmp_path: Path) -> None:
    record(tmp_path / "optimizers", OPTIMIZERS, optimizer)
    text = text_of(tmp_path / "optimizers")
    assert "\ntraining\n" not in text
    assert "trained: ended above chance" not in text
    assert "count at chance" not in text
    assert len(section(text, "learning")) == 4


def test_the_baseline_is_marked_and_an_incomplete_difference_is_starred(rates_report: tuple[Path, str]) -> None:
    _, text = rates_report
    by_rate = {row[0]: row[4] for row in section(text, "optimizer.lr")}
    assert by_rate["0.1"] == "baseline"
    assert by_rate["1.0"].endswith("*")
    assert by_rate["0.001"].startswith("-")
    assert not by_rate["0.001"].endswith("*")


def test_the_numbers_are_in_csv_and_agree_with_the_terminal(rates_report: tuple[Path, str]) -> None:
    folder, text = rates_report
    levels = pd.read_csv(folder / "report" / "levels.csv")
    assert levels["level"].astype(str).tolist()[:2] == ["true", "false"]
    shown = section(text, "model.batch_norm")[0][3]
    half = (levels["test_accuracy_high"] - levels["test_accuracy_low"])[0] / 2
    assert shown == f"{100 * levels['test_accuracy'][0]:.1f} ± {100 * half:.1f}"
    cells = pd.read_csv(folder / "report" / "cells.csv")
    assert cells["diverged"].sum() == 7
    trials = pd.read_csv(folder / "trials.csv")
    mean = trials[trials["cell"] == "batch_norm=true lr=0.1"]["test_accuracy"].mean()
    assert cells.set_index("cell").loc["batch_norm=true lr=0.1", "test_accuracy"] == pytest.approx(mean)


def test_the_page_of_markdown_holds_the_tables_and_the_figures(rates_report: tuple[Path, str]) -> None:
    folder, _ = rates_report
    page = (folder / "report" / "report.md").read_text()
    assert page.startswith("# batch_norm\n\nDoes BatchNorm")
    for name in ("curves", "accuracy", "trade_off"):
        assert f"({name}.png)" in page
        assert (folder / "report" / f"{name}.png").stat().st_size > 10_000
        assert (folder / "report" / f"{name}.svg").read_text().lstrip().startswith("<?xml")
    cells = page.split("## cells")[1].split("## training")[0].strip().splitlines()
    rows = [line for line in cells if line.startswith("| false | 1.0 |")]
    assert len(rows) == 1
    assert rows[0].count("|") == cells[0].count("|")
    assert "| 3/5 |" in rows[0]


def test_a_table_of_one_factor_is_not_repeated_as_cells(tmp_path: Path) -> None:
    record(tmp_path / "optimizers", OPTIMIZERS, lambda trial: ("diverged", 0.0, 1.0))
    text = text_of(tmp_path / "optimizers")
    assert "optimizer\n" in text
    assert "\ncells\n" not in text


def test_a_grid_in_which_all_diverged_says_so_and_has_no_figures(tmp_path: Path) -> None:
    record(tmp_path / "residual_vs_plain", RESIDUAL, lambda trial: ("diverged", 0.0, 1.0))
    text = text_of(tmp_path / "residual_vs_plain")
    assert "0 of 40 trials; 40 diverged: in 8 cells" in text
    assert section(text, "model.residual") == [
        ["true", "0/20", "0 (0 to 17)", "–", "baseline", "–"],
        ["false", "0/20", "0 (0 to 17)", *"–––"],
    ]
    assert not list((tmp_path / "residual_vs_plain" / "report").glob("*.png"))


def test_a_half_finished_grid_is_reported_with_what_is_missing(tmp_path: Path) -> None:
    def first_ones(trial: Trial) -> tuple[str, float, float]:
        status, accuracy, rate = optimizer(trial)
        kept = {"sgd": 3, "momentum": 1, "rmsprop": 2, "adam": 0}[trial.cell.levels["optimizer"]]
        return status if trial.seed < kept else "error" if trial.seed == 2 and kept == 2 else "", accuracy, rate

    record(tmp_path / "optimizers", OPTIMIZERS, first_ones)
    text = text_of(tmp_path / "optimizers")
    joined = " ".join(text.split())
    assert "6 of 12 trials; 1 error: optimizer=rmsprop (seed 2); 5 missing:" in joined
    rows = {row[0]: row[1:] for row in section(text, "optimizer")}
    assert rows["adam"] == ["0/3", "–", "baseline", "–", "–"]
    assert rows["sgd"][0] == "3/3"
    assert rows["momentum"][3].endswith("± ?")
    assert "± ?: no interval" in joined
    assert (tmp_path / "optimizers" / "report" / "accuracy.png").exists()


def test_long_names_of_levels_fold_and_numbers_stay_whole(tmp_path: Path) -> None:
    long = OPTIMIZERS.replace("momentum: {", "momentum with a very long label that says all of its settings: {")
    record(tmp_path / "optimizers", long, lambda trial: ("diverged", 0.0, 1.0))
    text = text_of(tmp_path / "optimizers")
    assert max(map(len, text.splitlines()[:-1])) <= 80
    assert "0/3" in text


def test_a_report_never_imports_torch(tmp_path: Path) -> None:
    record(tmp_path / "optimizers", OPTIMIZERS, optimizer)
    code = (
        "import sys; from pathlib import Path; from rich.console import Console;"
        "from bench.report.output import report;"
        f"report(Path({str(tmp_path / 'optimizers')!r}), Console(width=80)); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "12 of 12 trials" in done.stdout


def test_the_report_leaves_a_page_a_table_for_a_paper_and_figures_as_pdf(rates_report: tuple[Path, str]) -> None:
    folder, text = rates_report
    names = {path.name for path in (folder / "report").iterdir()}
    assert {"index.html", "table.tex", "table.md", "effects.csv", "forest.svg", "interaction.png"} <= names
    effects = section(text, "effects on test accuracy")
    assert effects[0][0] == "model.batch_norm"
    assert {row[-1] for row in effects} & {"better", "worse"}


def test_for_a_paper_there_are_figures_of_one_and_two_columns(tmp_path: Path) -> None:
    record(tmp_path / "optimizers", OPTIMIZERS, lambda trial: optimizer(trial) if trial.seed == 0 else ("", 0.0, 1.0))
    command(results=[tmp_path], form="csv", paper=True)
    names = {path.name for path in (tmp_path / "optimizers" / "report" / "paper").iterdir()}
    figures = {
        f"{name}-{n}-column.{end}" for name in ("curves", "forest") for n in (1, 2) for end in ("pdf", "svg", "png")
    }
    assert figures | {"table.tex"} <= names


def test_hypotheses_stand_in_the_terminal_with_ruling_and_evidence(tmp_path: Path) -> None:
    more = "hypotheses: [optimizer=adam > optimizer=sgd on test_accuracy]\n"
    record(tmp_path / "optimizers", textwrap.dedent(OPTIMIZERS) + more, optimizer)
    text = text_of(tmp_path / "optimizers")
    block = text.split("\nhypotheses\n")[1].splitlines()
    assert block[0].split()[0] in ("supported", "undecided", "refuted")
    assert block[0].rstrip().endswith("optimizer=adam > optimizer=sgd on test_accuracy")
    assert block[1].strip().startswith("difference +")


def test_the_command_prints_for_scripts_and_then_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "optimizers", OPTIMIZERS, optimizer)
    record(tmp_path / "others", OPTIMIZERS.replace("name: optimizers", "name: others"), optimizer)
    command(form="json", results=[tmp_path])
    both = json.loads(capsys.readouterr().out)
    assert [item["grid"] for item in both] == ["optimizers", "others"]
    assert not (tmp_path / "optimizers" / "report").exists()
    with pytest.raises(CommandError, match="--format must be one of table, csv, json, markdown, latex, got 'xml'"):
        command(form="xml", results=[tmp_path])
