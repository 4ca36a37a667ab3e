"""What TensorBoard and MLflow read of an export, each with its own reader; the record is made up.

Nothing is trained here.
"""

from __future__ import annotations

import math
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.options import CommandError
from bench.cli.report import export as command
from bench.record.records import Records
from lab.result import Evaluation

COLUMNS = ["data.name", "model.batch_norm", "model.hidden", "optimizer.lr", "data.limit"]
FIRST = {
    **{"trial_id": "0123456789ab", "grid": "rates", "cell": "lr=0.1 act=a/b", "status": "ok", "seed": 3},
    **{"data.name": "digits", "model.batch_norm": True, "model.hidden": [8], "optimizer.lr": 0.1, "data.limit": None},
    **{"test_accuracy": 0.75, "dev_accuracy": 0.5, "steps": 20, "parameters": 1234, "total_seconds": 4.0},
    **{"git_commit": "f00d", "device": "cpu", "started_at": "2026-01-02T03:04:05+00:00"},
}
SECOND = FIRST | {
    **{"trial_id": "ba9876543210", "cell": "lr=10", "status": "diverged", "error": "loss is nan at step 10"},
    **{"optimizer.lr": 10.0, "test_accuracy": None},
}


def point(step: int, epoch: float, accuracy: float, dev_loss: float, train_loss: float, seconds: float) -> Evaluation:
    return Evaluation(step, epoch, train_loss, seconds, {"dev_accuracy": accuracy, "dev_loss": dev_loss})


CURVE = [
    point(0, 0.0, 0.1, 2.3, math.nan, 0.0),
    point(10, 0.5, 0.4, 1.9, 2.1, 1.0),
    point(20, 1.0, 0.5, 1.7, 1.8, 2.5),
]
STARTED = 1767323045  # seconds from 1970 to 2026-01-02T03:04:05 UTC


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder with one grid and two trials; the first had been interrupted and was run again."""
    folder = tmp_path / "results" / "rates"
    folder.mkdir(parents=True)
    (folder / "grid.yaml").write_text("question: Which rate?\n")
    records = Records(folder)
    records.append(FIRST | {"status": "interrupted"}, COLUMNS, CURVE[:2])
    records.append(FIRST, COLUMNS, CURVE)
    records.append(SECOND, COLUMNS, CURVE[:2])
    return folder.parent


# --- TensorBoard ----------------------------------------------------------------------------------------------------


def test_tensorboard_reads_curves_by_step_and_measures(results: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    command(("tensorboard", tmp_path / "tb"), results=results)
    run = tmp_path / "tb" / "rates" / "lr=0.1 act=a_b seed=3 0123456789ab"
    events = accumulator.EventAccumulator(str(run)).Reload()
    curve = events.Scalars("curve/dev_accuracy")
    assert [(event.step, pytest.approx(event.value)) for event in curve] == [(0, 0.1), (10, 0.4), (20, 0.5)]
    assert [event.wall_time - STARTED for event in curve] == [0, 1, 2.5]
    assert [event.step for event in events.Scalars("curve/train_loss")] == [10, 20]  # there is none before a step
    assert [(event.step, event.value) for event in events.Scalars("trial/test_accuracy")] == [(20, 0.75)]


def test_tensorboard_tells_settings_and_what_became_of_each_trial(results: Path, tmp_path: Path) -> None:
    multiplexer = pytest.importorskip(
        "tensorboard.backend.event_processing.plugin_event_multiplexer", reason="tensorboard is not installed"
    )
    from tensorboard.plugins.hparams import metadata

    command(("tensorboard", tmp_path / "tb"), results=results)
    events = multiplexer.EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "tb")).Reload()
    assert len(events.Runs()) == 2
    found = {}
    for run, tags in events.PluginRunToTagToContent(metadata.PLUGIN_NAME).items():
        info = metadata.parse_session_start_info_plugin_data(tags[metadata.SESSION_START_INFO_TAG])
        values = {name: getattr(value, value.WhichOneof("kind")) for name, value in info.hparams.items()}
        found[run.rpartition(" ")[2]] = values
    assert found["0123456789ab"] == {
        **{"trial_id": "0123456789ab", "grid": "rates", "cell": "lr=0.1 act=a/b", "status": "ok", "seed": 3},
        **{"data.name": "digits", "model.batch_norm": True, "model.hidden": "[8]", "optimizer.lr": 0.1},
        **{"git_commit": "f00d", "device": "cpu", "started_at": "2026-01-02T03:04:05+00:00"},
    }
    assert (found["ba9876543210"]["status"], found["ba9876543210"]["error"]) == ("diverged", "loss is nan at step 10")


def test_a_second_export_to_tensorboard_replaces_the_first(results: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    command(("tensorboard", tmp_path / "tb"), results=results)
    Records(results / "rates").append(FIRST | {"cell": "lr=0.1 renamed"}, COLUMNS, CURVE)
    note = tmp_path / "tb" / "rates" / "lr=10 seed=3 ba9876543210" / "note.txt"
    note.write_text("mine")
    command(("tensorboard", tmp_path / "tb"), results=results)
    files = sorted((tmp_path / "tb").rglob("events.out.tfevents.*"))
    assert [file.parent.name for file in files] == ["lr=0.1 renamed seed=3 0123456789ab", "lr=10 seed=3 ba9876543210"]
    assert note.read_text() == "mine"
    assert len(list((tmp_path / "tb" / "rates").iterdir())) == 2


# --- MLflow ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of libraries among each other
@pytest.mark.parametrize("name", ["é [b]", "a 'b' \"c\" $d"])
def test_the_database_is_where_it_was_asked_for_whatever_letters_its_path_has(
    results: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    command(("mlflow", tmp_path / name), results=results)
    assert (tmp_path / name / "mlflow.db").stat().st_size > 0
    address = shlex.split(capsys.readouterr().out.partition(": mlflow ")[2])[-1]
    client = mlflow.MlflowClient(tracking_uri=address)
    assert len(client.search_runs([client.get_experiment_by_name("rates").experiment_id])) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of libraries among each other
def test_mlflow_reads_the_runs_once_however_often_they_are_exported(results: Path, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed")
    target = tmp_path / "mlflow"
    command(("mlflow", target), results=results)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{target / 'mlflow.db'}")
    [experiment] = [found for found in client.search_experiments() if found.name == "rates"]

    def found() -> dict[str, mlflow.entities.Run]:
        runs = client.search_runs([experiment.experiment_id])
        assert len(runs) == 2
        return {run.data.tags["trial_id"]: run for run in runs}

    first, second = found()["0123456789ab"], found()["ba9876543210"]
    assert first.data.params == {
        **{"data.name": "digits", "model.batch_norm": "true", "model.hidden": "[8]", "optimizer.lr": "0.1"},
        "seed": "3",
    }
    assert (first.data.metrics["test_accuracy"], first.data.metrics["parameters"]) == (0.75, 1234)
    assert (first.info.run_name, first.info.status) == ("lr=0.1 act=a/b seed=3", "FINISHED")
    assert (first.info.start_time, first.info.end_time) == (1000 * STARTED, 1000 * STARTED + 4000)
    assert {"git_commit": "f00d", "device": "cpu", "status": "ok"}.items() <= first.data.tags.items()
    curve = client.get_metric_history(first.info.run_id, "curve/dev_accuracy")
    assert [(point.step, point.value) for point in curve] == [(0, 0.1), (10, 0.4), (20, 0.5)]
    assert (second.info.status, second.data.tags["error"]) == ("FAILED", "loss is nan at step 10")
    assert "test_accuracy" not in second.data.metrics

    Records(results / "rates").append(SECOND | {"status": "ok", "test_accuracy": 0.25, "error": None}, COLUMNS, CURVE)
    command(("mlflow", target), results=results)
    assert found()["0123456789ab"].info.run_id == first.info.run_id
    assert found()["ba9876543210"].data.metrics["test_accuracy"] == 0.25


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_command_that_shows_the_runs_is_quoted(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    folder = tmp_path / "a 'b' $d é"
    command(("tensorboard", folder), results=results)
    assert shlex.split(capsys.readouterr().out.partition(": ")[2]) == ["tensorboard", "--logdir", str(folder)]


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", "%#?")
def test_a_folder_that_a_database_address_cannot_say_is_refused(results: Path, tmp_path: Path, letter: str) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed")
    with pytest.raises(CommandError, match="have a meaning in a database's address: name another folder"):
        command(("mlflow", tmp_path / f"a{letter}b"), results=results)


def test_another_tool_is_refused_by_name(results: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="--to must be tensorboard or mlflow, and a folder, got 'excel'"):
        command(("excel", tmp_path), results=results)


@pytest.mark.parametrize(("tool", "package"), [("tensorboard", "tensorboard"), ("mlflow", "sqlalchemy")])
def test_a_missing_package_is_one_message_that_says_what_to_install(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, "alembic", sys)  # whether installed here or not
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CommandError, match=rf"^--to {tool}: needs the package {package}\S*: pip install .*{package}"):
        command((tool, tmp_path / "target"), results=results)
    assert not (tmp_path / "target").exists()


def test_the_command_needs_no_torch(results: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    words = f"['export', '--to', 'tensorboard', {str(tmp_path / 'tb')!r}, '--results', {str(results)!r}]"
    code = f"import sys; from bench.cli import app; app({words}, standalone_mode=False)"
    code += "; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "2 runs in" in done.stdout
