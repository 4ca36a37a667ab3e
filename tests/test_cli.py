"""The command line from outside: tiny real grids, in processes of their own."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.record.records import ATTEMPTS, COMPILE_ERROR, ENVIRONMENT, IDENTITY, MEASURES, Records
from lab.result import Evaluation

GRID = """
    question: Does BatchNorm help a small network?
    base:
      data: {name: digits, batch_size: 128}
      model: {name: mlp, hidden: [16]}
      optimizer: {name: momentum, lr: 0.05}
      train: {epochs: 2}
    factors:
      model.batch_norm: [true, false]
    seeds: 2
    baseline: {model.batch_norm: true}
"""


def bench(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    command = [sys.executable, "-m", "bench", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the grid has been run."""
    folder = tmp_path_factory.mktemp("finished")
    write(folder / "tiny.yaml", GRID)
    done = bench("run", "tiny.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_run_records_each_trial_in_the_columns_of_the_design(finished: Path) -> None:
    trials = rows(finished / "results" / "tiny" / "trials.csv")
    columns = list(trials[0])
    settings = [column for column in columns if "." in column]
    assert columns == [*IDENTITY, *settings, *MEASURES, *ENVIRONMENT, ATTEMPTS, COMPILE_ERROR]
    assert {"data.name", "model.batch_norm", "optimizer.lr", "schedule.name", "train.epochs"} <= set(settings)
    assert sorted((t["model.batch_norm"], t["seed"]) for t in trials) == [
        ("false", "0"),
        ("false", "1"),
        ("true", "0"),
        ("true", "1"),
    ]
    for trial in trials:
        assert trial["status"] == "ok"
        assert re.fullmatch("[0-9a-f]{12}", trial["trial_id"])
        assert 0 < float(trial["test_accuracy"]) <= 1
        assert int(trial["steps"]) == 2 * 11  # 1293 training images in batches of 128
        assert trial["concurrent_trials"] == "2"


def test_run_records_the_curve_of_each_trial(finished: Path) -> None:
    curves = rows(finished / "results" / "tiny" / "curves.csv")
    trials = rows(finished / "results" / "tiny" / "trials.csv")
    for trial in trials:
        points = [point for point in curves if point["trial_id"] == trial["trial_id"]]
        assert [point["step"] for point in points] == ["0", "11", "22"]
        assert points[1]["dev_accuracy"] == trial["first_epoch_dev_accuracy"]
        assert trial["dev_accuracy"] == max(point["dev_accuracy"] for point in points)


def test_run_leaves_the_grid_the_logs_and_the_best_weights(finished: Path) -> None:
    folder = finished / "results" / "tiny"
    ids = {trial["trial_id"] for trial in rows(folder / "trials.csv")}
    assert {path.stem for path in (folder / "logs").iterdir()} == ids
    assert {path.parent.name for path in folder.glob("checkpoints/*/best.pt")} == ids
    assert "Does BatchNorm help" in (folder / "grid.yaml").read_text()


def test_output_that_is_piped_has_one_plain_line_a_trial(finished: Path) -> None:
    done = bench("run", "tiny.yaml", "--results", "piped", "-j", "1", cwd=finished)
    lines = done.stdout.splitlines()
    assert len([line for line in lines if re.match(r"\d/4 ok ", line)]) == 4
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_a_second_run_trains_nothing_and_says_so(finished: Path) -> None:
    before = (finished / "results" / "tiny" / "trials.csv").read_bytes()
    done = bench("run", "tiny.yaml", cwd=finished)
    assert done.returncode == 0
    assert "nothing to train, all 4 trials are recorded" in done.stdout
    assert (finished / "results" / "tiny" / "trials.csv").read_bytes() == before


def test_adding_a_seed_runs_only_what_is_new(finished: Path) -> None:
    done = bench("run", "tiny.yaml", "--results", "grown", "--seeds", "1", cwd=finished)
    assert "2 ok" in done.stdout
    done = bench("run", "tiny.yaml", "--results", "grown", cwd=finished)
    assert "2 trials on 2 workers, 2 recorded already" in done.stdout
    assert len(rows(finished / "grown" / "tiny" / "trials.csv")) == 4


def test_a_line_that_was_half_written_is_set_aside_and_said(finished: Path) -> None:
    shutil.copytree(finished / "results", finished / "torn")
    trials = finished / "torn" / "tiny" / "trials.csv"
    whole = trials.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    trials.write_bytes(whole[: last + 20])
    done = bench("run", "tiny.yaml", "--results", "torn", "--no-time", cwd=finished)
    assert "a line that was half written is set aside in trials.csv.torn" in done.stdout
    assert done.returncode == 0
    assert len(rows(trials)) == 4
    assert trials.with_name("trials.csv.torn").read_bytes() == whole[last : last + 20] + b"\n"


def test_a_trial_run_again_has_the_same_numbers_and_one_row(finished: Path) -> None:
    def numbers() -> list[tuple[str, str, str]]:
        trials = rows(finished / "results" / "tiny" / "trials.csv")
        return sorted((t["trial_id"], t["test_accuracy"], t["final_train_loss"]) for t in trials)

    before = numbers()
    assert bench("run", "tiny.yaml", "--trial", before[0][0], "--rerun", "all", cwd=finished).returncode == 0
    assert numbers() == before


def test_verify_repeats_recorded_trials_and_finds_one_that_was_changed(finished: Path) -> None:
    done = bench("verify", "tiny.yaml", "--sample", "2", cwd=finished)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("bit for bit") == done.stdout.count("agrees") == 2
    changed = finished / "changed" / "tiny"
    changed.mkdir(parents=True)
    with (changed / "trials.csv").open("w", newline="") as file:
        trials = rows(finished / "results" / "tiny" / "trials.csv")
        writer = csv.DictWriter(file, list(trials[0]))
        writer.writeheader()
        writer.writerows(trial | {"final_train_loss": "0.123"} for trial in trials)
    done = bench("verify", "tiny.yaml", "--sample", "1", "--results", "changed", cwd=finished)
    assert done.returncode == 1
    assert "differs" in done.stdout


def test_dry_run_shows_the_plan_and_trains_nothing(tmp_path: Path) -> None:
    write(tmp_path / "tiny.yaml", GRID)
    done = bench("run", "tiny.yaml", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    assert "4 trials" in done.stdout
    assert not (tmp_path / "results").exists()


def test_a_failed_trial_is_a_row_and_exit_code_1_and_is_tried_again(tmp_path: Path) -> None:
    write(tmp_path / "nets.py", "def broken(num_classes: int):\n    raise RuntimeError('wires crossed')\n")
    write(
        tmp_path / "broken.yaml",
        GRID.replace("name: mlp, hidden: [16]", "name: 'nets:broken'")
        .replace("model.batch_norm: [true, false]", "optimizer.lr: [0.1, 0.01]")
        .replace("model.batch_norm: true", "optimizer.lr: 0.1"),
    )
    for _ in range(2):
        done = bench("run", "broken.yaml", cwd=tmp_path)
        assert done.returncode == 1
        assert "RuntimeError: wires crossed" in done.stdout
        assert re.search(r"to repeat it alone: \S*python\S* -m bench run broken.yaml --trial", done.stdout)
        trials = rows(tmp_path / "results" / "broken" / "trials.csv")
        assert [(t["status"], t["error"]) for t in trials] == [
            ("error", "RuntimeError: wires crossed (nets.py, line 2, in broken)")
        ] * 4
    shown = bench("show", trials[0]["trial_id"], cwd=tmp_path)
    assert "Traceback" in shown.stdout
    left = bench("run", "broken.yaml", "--attempts", "2", cwd=tmp_path)
    assert "4 trials failed 2 times and are left; --attempts 3 or --rerun all tries again" in left.stdout
    assert left.returncode == 1


def test_the_command_that_repeats_a_failed_trial_can_be_copied(tmp_path: Path) -> None:
    write(tmp_path / "nets.py", "def broken(num_classes: int, why: str):\n    raise RuntimeError(why)\n")
    (tmp_path / "my grids").mkdir()
    grid = GRID.replace("name: mlp, hidden: [16]", "name: 'nets:broken', why: none").replace("seeds: 2", "seeds: 1")
    write(
        tmp_path / "my grids" / "broken.yaml",
        grid.replace("model.batch_norm: [true, false]", "optimizer.lr: [0.1]").replace("model.batch_norm: true", ""),
    )
    words = ["my grids/broken.yaml", "--set=model.why=it's <b>$1</b>", "--executor", "inline", "--results=my results"]
    done = bench("run", *words, cwd=tmp_path)
    assert "RuntimeError: it's <b>$1</b>" in done.stdout
    (command,) = re.findall(r"to repeat it alone: (.*)", done.stdout)
    again = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert again.returncode == 1
    assert "1/1 error" in again.stdout
    assert "RuntimeError: it's <b>$1</b>" in again.stdout
    log = next((tmp_path / "my results").glob("*/logs/*.log"))
    assert log.read_text().count("Traceback") == 2


def test_a_report_that_cannot_be_written_is_shown_and_one_message(finished: Path) -> None:
    shutil.copytree(finished / "results" / "tiny", finished / "other" / "tiny", ignore=shutil.ignore_patterns("report"))
    (finished / "other" / "tiny" / "report").write_text("in the way")
    done = bench("report", "tiny.yaml", "--results", "other", cwd=finished)
    assert done.returncode == 1
    assert "effects on test accuracy" in done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "report: cannot be written" in done.stderr


def test_show_tells_all_of_one_trial(finished: Path) -> None:
    trial = rows(finished / "results" / "tiny" / "trials.csv")[0]
    done = bench("show", trial["trial_id"][:8], cwd=finished)
    assert done.returncode == 0
    for text in (trial["test_accuracy"], "model.batch_norm", "dev_loss", "torch_version", "-m bench run"):
        assert text in done.stdout
    whole = bench("show", trial["trial_id"], "--full", cwd=finished).stdout
    for text in ("first_epoch_dev_loss", "data.split_seed"):  # the curve says it; at its default, and no factor
        assert (text in done.stdout, text in whole) == (False, True)


def test_show_cuts_a_long_curve_and_a_long_log_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("results/long")
    records = Records(folder)
    (folder / "logs").mkdir(parents=True)
    points = [
        Evaluation(step=n, epoch=n, train_loss=0.5, train_seconds=1.0, scores={"dev_loss": n / 7}) for n in range(100)
    ]
    records.append(
        {"trial_id": "0123456789ab", "grid": "long", "cell": "a", "seed": 0, "status": "error"}, [], curve=points
    )
    (folder / "logs" / "0123456789ab.log").write_text("".join(f"line {n}\n" for n in range(1000)))
    text = CliRunner().invoke(app, ["show", "01"]).output
    assert "12 of 100 points" in text
    assert "0123456789ab.log, the last 40 of 1,000 lines" in text
    assert ("line 960\n" in text, "line 959\n" in text) == (True, False)
    assert "with --full" in text
    whole = CliRunner().invoke(app, ["show", "01", "--full"]).output
    assert "line 0\n" in whole
    assert "with --full" not in whole


def test_show_offers_no_more_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Records(Path("results/own")).append(
        {"trial_id": "0123456789ab", "grid": "own", "cell": "a", "seed": 0, "status": "ok", "rmse": 0.5}, []
    )
    text = CliRunner().invoke(app, ["show", "01"]).output
    assert "rmse" in text
    assert "with --full" not in text


def test_list_names_every_part_once_with_its_settings_and_defaults(tmp_path: Path) -> None:
    done = bench("list", cwd=tmp_path)
    assert done.stdout.count("stem=") == 1, "resnet10, resnet18 and resnet34 take the same"
    assert "list resnet18, or list model: settings described" in done.stdout
    for word in ("resnet34", "fashion_mnist", "rmsprop", "one_cycle", "batch_norm", "[0.9, 0.999]", "label_smoothing"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "absent.yaml"], "absent.yaml"),
        (["run", "tiny.yaml", "--set", "model.name=lenett"], "did you mean lenet?"),
        (["run", "tiny.yaml", "--set", "model.hiden=[3]"], "did you mean hidden?"),
        (["run", "tiny.yaml", "--set", "train.epochs=two"], "must be integer > 0, got 'two'"),
        (["run", "tiny.yaml", "--only", "model.batch_norm=maybe"], "maybe"),
        (["run", "tiny.yaml", "--executor", "slurm"], "--executor must be one of local, inline, ray, got 'slurm'"),
        (["run", "tiny.yaml", "--device", "cuda:7"], "cuda:7"),
        (["run", "tiny.yaml", "--trial", "0123"], "no trial '0123' in tiny.yaml"),
        (["run", "tiny.yaml", "--set", "data.name=npz", "--set", "data.path=no.npz"], "no.npz"),
        (["report", "--results", "nowhere"], "no results here"),
        (["show", "0123"], "no such trial in results"),
        (["list", "resnet81"], "did you mean resnet18?"),
    ],
)
def test_what_cannot_be_done_is_one_message_and_exit_code_2(tmp_path: Path, words: list[str], message: str) -> None:
    write(tmp_path / "tiny.yaml", GRID)
    done = bench(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("results/*/trials.csv"))


def test_missing_data_names_the_folder_and_the_ways_to_get_it(tmp_path: Path) -> None:
    write(tmp_path / "tiny.yaml", GRID)
    words = ["run", "tiny.yaml", "--set", "data.name=npz", "--set", f"data.path={tmp_path}/no.npz"]
    done = bench(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path}/no.npz" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_records_what_was_under_way_and_exits_130(tmp_path: Path, number: signal.Signals) -> None:
    write(tmp_path / "long.yaml", GRID.replace("epochs: 2", "epochs: 100000"))
    command = [sys.executable, "-m", "bench", "run", "long.yaml", "-j", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    logs = tmp_path / "results" / "long" / "logs"
    while not (logs.exists() and len(list(logs.iterdir())) == 2):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    trials = rows(tmp_path / "results" / "long" / "trials.csv")
    assert [trial["status"] for trial in trials] == ["interrupted", "interrupted"]
    assert "2 interrupted" in output
