"""Which grid a report answers: the one that is named, or each folder's as it was last asked for. Nothing is trained."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.cli import main
from bench.grid.load import load_plan
from bench.record.asked import keep
from bench.record.records import Records
from bench.report import telling
from lab.result import Evaluation

GRID = """
    question: Is a tenth better than a hundredth?
    base:
      data: {name: digits}
      model: {name: mlp, hidden: [16]}
      optimizer: {name: momentum}
      train: {epochs: 2}
    factors: {optimizer.lr: [0.01, 0.1]}
    baseline: {optimizer.lr: 0.1}
    hypotheses: ["optimizer.lr=0.1 > optimizer.lr=0.01 on test_accuracy"]
    seeds: 2
"""
OTHER = GRID.replace("hidden: [16]", "hidden: [64]").replace("a tenth", "a tenth, in a wide network,")
Say = Callable[..., tuple[int, str, str]]


def write(path: str, text: str = GRID) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))
    return file


def trained(grid: str, results: str = "out", **options: object) -> Path:
    """What a run of the grid with these options leaves; its trials are made up."""
    plan = load_plan(Path(grid), **options)  # type: ignore[arg-type]
    folder = Path(results) / plan.name
    keep(plan, folder)
    records, known = Records(folder), set(Records(folder).outcomes())
    for trial in plan.trials:
        if trial.trial_id in known:
            continue
        settings = trial.settings.flat()
        accuracy = 0.6 + 2 * settings["optimizer.lr"] + 0.01 * trial.seed
        correct = np.arange(100) < 100 * accuracy
        row = {"trial_id": trial.trial_id, "grid": plan.name, "cell": trial.cell.label, "seed": trial.seed}
        row |= {"status": "ok", "test_accuracy": accuracy, "dev_accuracy": accuracy, "final_dev_accuracy": accuracy}
        curve = [
            Evaluation(10 * k, float(k), 1.0, float(k), {"dev_accuracy": k * accuracy, "dev_loss": 1.0}) for k in (0, 1)
        ]
        records.append(row | settings, list(settings), curve, np.packbits(correct).tobytes(), 100)
    return folder


@pytest.fixture
def say(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """Runs a command in a folder of its own; returns exit code, output as one line, and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(telling, "titles", lambda findings: {})  # pictures take seconds, and are not asked about

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bench", *words, "--results", "out"])
        before = sorted((path, path.read_bytes()) for path in Path("out").glob("*/trials.csv"))
        with pytest.raises(SystemExit) as ended:
            main()
        assert sorted((path, path.read_bytes()) for path in Path("out").glob("*/trials.csv")) == before
        said = capsys.readouterr()
        return int(ended.value.code or 0), " ".join(said.out.split()), said.err

    return run


# --- the grid that is named -----------------------------------------------------------------------------------------


def test_rows_outside_the_grid_are_counted_by_cause(say: Say) -> None:
    write("rates.yaml", GRID.replace("[0.01, 0.1]", "[0.01, 0.1, 0.2]"))
    trained("rates.yaml")
    trained("rates.yaml", overrides=["train.epochs=5"], seeds=1)
    write("rates.yaml")
    _, out, _ = say("report", "rates.yaml", "--seeds", "1")
    assert "2 of 2 trials" in out
    assert "7 recorded trials are not this grid's and are left out: " in out
    causes = re.search(r"left out: (.*?) warning", out)
    assert causes is not None
    assert set(causes[1].split("; ")) == {
        "2 with optimizer.lr=0.2", "2 with train.epochs=5", "2 of seed 1", "1 with optimizer.lr=0.2, train.epochs=5"
    }  # fmt: skip


def test_every_recorded_seed_counts_and_one_that_is_asked_for_is_missed(say: Say) -> None:
    write("rates.yaml")
    trained("rates.yaml", seeds=4)
    assert "8 of 8 trials" in say("report", "rates.yaml")[1]
    assert "4 of 4 trials" in say("report", "rates.yaml", "--seeds", "2")[1]
    write("rates.yaml", GRID.replace("seeds: 2", "seeds: 5"))
    assert "8 of 10 trials; 2 missing" in say("report", "rates.yaml")[1]


def test_a_further_seed_of_one_cell_is_not_asked_of_the_others(say: Say) -> None:
    write("rates.yaml")
    trained("rates.yaml")
    trained("rates.yaml", only=["optimizer.lr=0.1"], seeds=4)
    assert "6 of 6 trials" in say("report", "rates.yaml")[1]


def test_a_factor_whose_baseline_is_what_stood_in_base_keeps_the_results(say: Say) -> None:
    write("rates.yaml")
    trained("rates.yaml")
    factors = "{optimizer.lr: [0.01, 0.1], model.dropout: [0.0, 0.5]}"
    write("rates.yaml", GRID.replace("{optimizer.lr: [0.01, 0.1]}", factors))
    code, out, _ = say("report", "rates.yaml")
    assert code == 0
    assert "4 of 8 trials; 4 missing" in out
    assert "left out" not in out


def test_a_report_takes_set_and_only_as_run_does(say: Say) -> None:
    write("rates.yaml")
    trained("rates.yaml")
    code, out, _ = say("report", "rates.yaml", "--only", "optimizer.lr=0.1")
    assert (code, "2 of 2 trials" in out) == (0, True)
    code, _, err = say("report", "--only", "optimizer.lr=0.1")
    assert (code, err) == (2, "--set, --only and --seeds go with a GRID: name it\n")


# --- the last run ---------------------------------------------------------------------------------------------------


def test_where_the_last_run_had_options_the_first_line_says_how_to_report_that_run(say: Say) -> None:
    write("rates.yaml")
    trained("rates.yaml")
    trained("rates.yaml", overrides=["train.epochs=1"], seeds=1)
    words = "report rates.yaml --set train.epochs=1 --seeds 1"
    line = f"the last run had --set train.epochs=1 --seeds 1; its report: bench {words} --results out "
    _, out, _ = say("report", "rates.yaml")
    assert out.startswith(f"{line}rates Is a tenth")
    assert "4 of 4 trials" in out
    _, bare, _ = say("report")
    assert bare.startswith(line)
    assert "2 of 2 trials" in bare
    _, same, _ = say(*words.split())
    assert bare == line + same
    _, out, err = say("report", "rates.yaml", "--format", "csv")
    assert err.startswith(line.strip())
    assert out.startswith("grid,")


def test_a_run_with_nothing_to_train_is_the_last_one_all_the_same(say: Say) -> None:
    write("rates.yaml")
    trained("rates.yaml")
    trained("rates.yaml", seeds=1)
    _, out, _ = say("run", "rates.yaml", "--no-time")
    assert "nothing to train" in out
    assert out.endswith("The answer: bench report rates.yaml --results out")
    assert say("report")[1].startswith("rates Is a tenth")


def test_the_answer_and_the_page_keep_every_option_that_matters(say: Say) -> None:
    write("rates.yaml")
    trained("rates.yaml")
    words = ["rates.yaml", "--only", "optimizer.lr=0.1", "--seeds", "2"]
    _, out, _ = say("run", *words, "--no-time")
    assert out.endswith(f"The answer: bench report {' '.join(words)} --results out")
    say("report", *words)
    page = Path("out/rates/report/index.html").read_text()
    both = " &amp;&amp; ".join(f"python -m bench {verb} {' '.join(words)} --results out" for verb in ("run", "report"))
    assert f"<code>{both}</code>" in page


def test_a_trial_of_the_folders_own_copy_is_repeated_without_a_change_of_what_was_asked(say: Say) -> None:
    write("rates.yaml")
    folder = trained("rates.yaml", seeds=1)
    before = (folder / "asked.json").read_text()
    key = next(iter(Records(folder).outcomes()))
    code, _, _ = say("run", "out/rates/grid.yaml", "--trial", key, "--no-time")
    assert code == 0
    assert (folder / "asked.json").read_text() == before


# --- folders --------------------------------------------------------------------------------------------------------


def test_another_grid_of_the_same_name_is_refused_before_training(say: Say) -> None:
    write("paper1/mine.yaml")
    write("paper2/mine.yaml", OTHER)
    trained("paper1/mine.yaml")
    kept = Path("out/mine/grid.yaml").read_text()
    for words in (["run"], ["run", "--dry-run"], ["report"], ["time"], ["verify"]):
        code, _, err = say(*words, "paper2/mine.yaml")
        assert code == 2
        assert "paper1/mine.yaml" in err
        assert "paper2/mine.yaml" in err
        assert "`name:`" in err
    assert Path("out/mine/grid.yaml").read_text() == kept
    code, out, err = say("report", "paper1/mine.yaml", "paper2/mine.yaml")
    assert code == 2
    assert out.startswith("mine Is a tenth better")
    assert "paper2/mine.yaml" in err


def test_two_grids_of_one_name_in_one_command_are_refused_before_either_trains(say: Say) -> None:
    write("paper1/mine.yaml")
    write("paper2/mine.yaml", OTHER)
    code, _, err = say("run", "paper1/mine.yaml", "paper2/mine.yaml")
    assert code == 2
    assert "`name:`" in err
    assert not Path("out").exists()


def test_the_same_grid_elsewhere_is_moved(say: Say) -> None:
    write("paper1/mine.yaml")
    trained("paper1/mine.yaml")
    Path("paper2").mkdir()
    Path("paper1/mine.yaml").rename("paper2/mine.yaml")
    assert "4 of 4 trials" in say("report", "paper2/mine.yaml")[1]
    assert say("run", "paper2/mine.yaml", "--no-time")[0] == 0
    assert json.loads(Path("out/mine/asked.json").read_text())["grid"] == "../../paper2/mine.yaml"


def test_results_and_grid_that_move_together_still_belong_together(say: Say) -> None:
    write("paper/mine.yaml")
    trained("paper/mine.yaml", "paper/out", overrides=["train.epochs=1"])
    shutil.move("paper", "moved")
    shutil.move("moved/out", "out")
    shutil.move("moved/mine.yaml", "mine.yaml")
    json_path = Path("out/mine/asked.json")
    assert json.loads(json_path.read_text())["grid"] == "../../mine.yaml"
    _, out, _ = say("report")
    assert out.startswith("the last run had --set train.epochs=1; its report: bench report mine.yaml --set")


def test_a_renamed_file_is_told_where_its_results_are(say: Say) -> None:
    write("rates.yaml")
    trained("rates.yaml")
    Path("rates.yaml").rename("learning_rates.yaml")
    code, _, err = say("report", "learning_rates.yaml")
    assert code == 2
    assert "out/learning_rates: no trials.csv here" in err
    assert "out/rates has trials of this grid: with `name: rates`" in err
    _, out, _ = say("report")  # the page's command names what is still there
    assert "4 of 4 trials" in out
    assert "report out/rates/grid.yaml --results out" in Path("out/rates/report/index.html").read_text()


def test_a_folder_of_an_earlier_version_is_reported_by_either_way(say: Say) -> None:
    write("rates.yaml")
    (trained("rates.yaml") / "asked.json").unlink()
    assert "4 of 4 trials" in say("report")[1]
    assert "4 of 4 trials" in say("report", "rates.yaml")[1]


# --- several grids --------------------------------------------------------------------------------------------------


def test_a_grid_that_cannot_be_reported_is_named_and_the_others_are_reported(say: Say) -> None:
    for name in ("good", "broken", "empty"):
        write(f"{name}.yaml")
        trained(f"{name}.yaml")
    Path("out/broken/grid.yaml").write_text("question: [")
    Path("out/empty/trials.csv").unlink()
    code, out, err = say("report")
    assert code == 2
    assert out.startswith("good Is a tenth better")
    assert [line.split(":")[0] for line in err.splitlines()] == ["out/broken/grid.yaml", "out/empty"]
    code, out, err = say("report", "empty.yaml", "nothing.yaml", "good.yaml")
    assert code == 2
    assert out.startswith("good Is a tenth better")
    assert [line.split(":")[0] for line in err.splitlines()] == ["out/empty", "nothing.yaml"]


def test_a_factor_whose_levels_are_one_experiment_is_reported_so(say: Say) -> None:
    same = "{optimizer.lr: [0.1], model.hidden: {one: [16], two: [16]}}"
    text = GRID.replace("{optimizer.lr: [0.01, 0.1]}", same)
    write("same.yaml", re.sub(r"    (baseline|hypotheses):.*\n", "", text))
    write("good.yaml")
    trained("same.yaml")
    trained("good.yaml")
    code, out, _ = say("report")
    assert code == 0
    assert "good Is a tenth better" in out
    assert "`hidden=two` is the same experiment as" in out.replace("lr=0.1 ", "").replace(" lr=0.1", "")


def test_staleness_is_read_from_every_folder_that_is_pooled(say: Say) -> None:
    write("rates.yaml")
    trained("rates.yaml", "other", only=["optimizer.lr=0.1"])
    folder = trained("rates.yaml", "out", seeds=1)
    table = (folder / "trials.csv").read_text().splitlines()
    place = table[0].split(",").index("source_fingerprint")
    rows = [line.split(",") for line in table[1:]]
    table[1:] = [",".join([*cells[:place], "0" * 12, *cells[place + 1 :]]) for cells in rows]
    (folder / "trials.csv").write_text("\n".join(table) + "\n")
    _, out, _ = say("report", "rates.yaml", "--results", "other")
    assert "1 of 3 results were made by other source code" in out
