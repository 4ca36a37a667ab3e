"""What must not matter to a report does not: the order of rows, factors, levels, seeds and images, labels, folders."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.cli.options import CommandError
from bench.cli.report import report
from bench.grid.load import Plan, load_plan
from bench.record.records import Records
from bench.report import telling
from lab.result import Evaluation

GRID = """
    name: widths
    question: Does width or rate matter?
    base:
      data: {name: digits}
      optimizer: {name: momentum, lr: 0.1}
      train: {epochs: 3}
    factors:
      model:
        narrow: {name: mlp, hidden: [8]}
        wide: {name: mlp, hidden: [64]}
      optimizer.lr: [0.01, 0.1, 0.5]
    baseline: {model: narrow, optimizer.lr: 0.1}
    hypotheses:
      - model=wide > model=narrow on test_accuracy
      - parameters > 100 where model=wide
    seeds: [0, 1, 2, 3]
"""
IMAGES = 200
FILES = ("trials.csv", "curves.csv", "correct.csv")
FORMATS = ("csv", "json", "markdown", "latex")
NUMBER = re.compile(r"\d+\.?\d*(?:e[+-]?\d+)?")
Change = Callable[[pd.DataFrame], pd.DataFrame]


def record(folder: Path, plan: Plan, seed: Callable[[int], int] = int, order: np.ndarray | None = None) -> None:
    """Results that depend on a trial's settings and ``seed`` of its seed alone, their test images in ``order``."""
    folder.mkdir(parents=True)
    (folder / "grid.yaml").write_text(plan.text)
    difficulty = np.random.default_rng(7).uniform(0, 0.3, IMAGES)
    for trial in plan.trials:
        settings = trial.settings.flat()
        width, rate = settings["model.hidden"][0], settings["optimizer.lr"]
        random = np.random.default_rng([width, int(1000 * rate), seed(trial.seed)])
        accuracy = 0.5 + 0.1 * (width > 8) + 0.2 * (rate == 0.1) + random.normal(0, 0.02)
        correct = random.uniform(size=IMAGES) + difficulty < accuracy + 0.15
        heights = [0.1, *(float(accuracy * (1 - math.exp(-epoch))) for epoch in (1, 2, 3))]
        curve = [
            Evaluation(20 * k, float(k), 1.0, k / 5, {"dev_accuracy": height, "dev_loss": 1.0})
            for k, height in enumerate(heights)
        ]
        row = {"trial_id": trial.trial_id, "grid": plan.name, "cell": trial.cell.label, "seed": trial.seed}
        row |= {"status": "ok", "test_accuracy": float(correct.mean()), "dev_accuracy": heights[-1]}
        row |= {"final_dev_accuracy": heights[-1], "first_epoch_dev_accuracy": heights[1], "selected_epoch": 3}
        row |= {"parameters": 64 * width, "forward_macs": 64 * width, "device": "cpu", "device_name": "EPYC"}
        row |= {"threads": 1, "concurrent_trials": 1, "train_images_per_second": float(1000 + random.uniform(0, 9))}
        bits = correct if order is None else correct[order]
        Records(folder).append(row, [], curve, np.packbits(bits).tobytes(), IMAGES)


def told(capsys: pytest.CaptureFixture[str], grid: Path, *results: Path) -> dict[str, str]:
    """All that a report says, by where it says it; paths and the text of the grid left out."""
    said = {}
    for form in ("table", *FORMATS):
        report(grids=[grid], results=list(results), form=form)
        said[form] = "\n".join(line for line in capsys.readouterr().out.splitlines() if "page, figures" not in line)
    target = results[0] / ("report/widths" if len(results) > 1 else "widths/report")
    page = re.sub(r"<(pre|code|style)>.*?</\1>", "", (target / "index.html").read_text(), flags=re.S)
    said["charts"] = re.findall(r'<script id="charts"[^>]*>(.*?)</script>', page, flags=re.S)[0]
    said["captions"] = "".join(re.findall(r"<figcaption.*?</figcaption>", page, flags=re.S))
    text = re.sub(r"<(script|figcaption).*?</\1>", "", page, flags=re.S)
    said["page"] = re.sub(r"<[^>]+>", " ", text)
    said["report.md"] = (target / "report.md").read_text()
    tables = ("cells", "levels", "effects", "hypotheses", "learning", "curves", "seeds")
    return said | {name: (target / f"{name}.csv").read_text() for name in tables}


def numbers(text: str) -> Counter[str]:
    """Every number in a text, to nine digits: sums in another order differ in the last bits."""
    return Counter(f"{float(word):.9g}" for word in NUMBER.findall(text))


class Bench:
    """A working folder with the grid and its results, and what a report says of them."""

    def __init__(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path, self.capsys = tmp_path, capsys
        self.grid = self.write(GRID)
        record(tmp_path / "out" / "widths", load_plan(self.grid))
        self.before = told(capsys, self.grid, tmp_path / "out")

    def write(self, text: str) -> Path:
        path = self.path / "widths.yaml"
        path.write_text(textwrap.dedent(text))
        return path

    def after(self, *results: str) -> dict[str, str]:
        return told(self.capsys, self.grid, *(self.path / name for name in results or ("out",)))

    def change(self, change: Change) -> None:
        for name in FILES:
            path = self.path / "out" / "widths" / name
            change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(telling, "titles", lambda findings: {})  # pictures take seconds, and hold no numbers
    return Bench(tmp_path, capsys)


def agree(before: dict[str, str], after: dict[str, str], but: Collection[str] = ()) -> None:
    for where in before.keys() - set(but):
        assert numbers(after[where]) == numbers(before[where]), where


def test_the_order_of_rows(bench: Bench) -> None:
    bench.change(lambda table: table.sample(frac=1, random_state=3))
    after = bench.after()
    agree(bench.before, after)
    assert after["table"] == bench.before["table"]


def test_the_order_of_factors_and_levels(bench: Bench) -> None:
    model = GRID[GRID.index("      model:\n") : GRID.index("      optimizer.lr: [")]
    narrow, wide = model.splitlines(keepends=True)[1:]
    text = GRID.replace(model, "").replace("[0.01, 0.1, 0.5]\n", "[0.5, 0.1, 0.01]\n      model:\n" + wide + narrow)
    bench.write(text)
    agree(bench.before, bench.after(), but=["charts", "captions"])  # which factor has panels follows their order


def test_labels(bench: Bench) -> None:
    """The record keeps the old ones: sizes are told of the cells as they are called now."""
    swapped = GRID.replace("narrow", "X").replace("wide", "narrow").replace("X", "wide")
    bench.write(swapped)
    after = bench.after()
    agree(bench.before, after)
    assert "model=wide has up to 700% more parameters than narrow" in bench.before["report.md"]
    assert "model=narrow has up to 700% more parameters than wide" in after["report.md"]


def test_the_order_of_seeds_in_the_grid(bench: Bench) -> None:
    bench.write(GRID.replace("[0, 1, 2, 3]", "[3, 1, 0, 2]"))
    after = bench.after()
    agree(bench.before, after)
    assert after["table"] == bench.before["table"]


def test_which_seed_gave_which_results(bench: Bench) -> None:
    record(bench.path / "other" / "widths", load_plan(bench.grid), seed=lambda seed: 3 - seed)
    agree(bench.before, bench.after("other"))


def test_the_order_of_test_images(bench: Bench) -> None:
    order = np.random.default_rng(1).permutation(IMAGES)
    record(bench.path / "other" / "widths", load_plan(bench.grid), order=order)
    after = bench.after("other")
    agree(bench.before, after)
    assert after["table"] == bench.before["table"]


def test_one_folder_or_three(bench: Bench) -> None:
    whole = bench.path / "out" / "widths"
    tables = {name: pd.read_csv(whole / name, dtype=str, keep_default_na=False) for name in FILES}
    ids = tables["trials.csv"]["trial_id"].tolist()
    for part in range(3):
        folder = bench.path / f"part{part}" / "widths"
        folder.mkdir(parents=True)
        (folder / "grid.yaml").write_text((whole / "grid.yaml").read_text())
        for name, table in tables.items():
            table[table["trial_id"].isin(ids[part::3])].to_csv(folder / name, index=False)
    after = bench.after("part0", "part1", "part2")
    agree(bench.before, after)
    assert after["table"] == bench.before["table"]


def test_the_baseline_turns_the_sign_and_nothing_else(bench: Bench) -> None:
    bench.write(GRID.replace("{model: narrow, ", "{model: wide, "))
    (one,), (other,) = (
        [row for row in json.loads(said["json"])[0]["effects"] if row["factor"] == "model"]
        for said in (bench.before, bench.after())
    )
    assert (one["level"], other["level"]) == ("wide", "narrow")
    assert (one["verdict"], other["verdict"]) == ("better", "worse")
    assert other["difference"] == pytest.approx(-one["difference"])
    assert (other["difference_low"], other["difference_high"]) == pytest.approx(
        (-one["difference_high"], -one["difference_low"])
    )
    assert other["p"] == pytest.approx(one["p"])
    agree({"markdown": _accuracies(bench.before)}, {"markdown": _accuracies(bench.after())})


def _accuracies(said: dict[str, str]) -> str:
    """Test accuracy of each cell, with its interval."""
    table = json.loads(said["json"])[0]["cells"]
    names = ("test_accuracy", "test_accuracy_low", "test_accuracy_high")
    return " ".join(str(row[name]) for row in table for name in names)


def test_attempts_at_a_trial_whose_rows_are_mixed_up_are_refused(bench: Bench) -> None:
    curves = bench.path / "out" / "widths" / "curves.csv"
    lines = curves.read_text().splitlines(keepends=True)
    curves.write_text("".join([*lines[:5], *lines[1:5], *lines[5:]]))  # the first trial, tried twice
    agree(bench.before, bench.after())
    curves.write_text("".join([lines[0], lines[2], *lines[1:5], *lines[3:5], lines[1], *lines[5:]]))
    with pytest.raises(CommandError, match=r"curves.csv: the rows of each attempt at a trial must stand together"):
        bench.after()
