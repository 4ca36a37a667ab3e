"""Nothing lost: killed, stopped, run twice at once, without room: what was recorded is whole, the numbers the same."""

from __future__ import annotations

import csv
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from torture import recorded, start

from lab import Settings, run_trial
from lab.result import Evaluation, Result

GRID = """
question: Is anything lost?
base:
  data: {name: digits, augment: shift}
  model: {name: mlp, hidden: [64, 64], dropout: 0.2, batch_norm: true}
  optimizer: {name: adam, lr: 0.002}
  train: {epochs: 30}
factors:
  model.residual: [true, false]
seeds: 3
"""


def settings(**train: Any) -> Settings:
    return Settings.parse(
        {
            "data": {"name": "digits", "augment": "flip_shift"},
            "model": {"name": "mlp", "hidden": [32, 32], "dropout": 0.3, "batch_norm": True},
            "optimizer": {"name": "adam", "lr": 0.01},
            "schedule": {"name": "cosine", "warmup": 0.2},
            "train": {"epochs": 3, **train},
        }
    )


def numbers(result: Result) -> list[Any]:
    curve = [(p.step, p.epoch, p.scores, repr(p.train_loss)) for p in result.curve]
    return [
        result.measures.get("test_accuracy"),
        result.measures.get("selected_epoch"),
        result.measures.get("steps"),
        result.correct,
        curve,
    ]


def after(steps: int) -> Callable[[], bool]:
    """Asks to stop once, after so many steps."""
    asked = iter(range(1, 10**6))
    return lambda: next(asked) == steps


@pytest.mark.parametrize("steps", [1, 7, 21, 42, 50, 62])
@pytest.mark.parametrize("eval_every", [None, 7])
def test_a_trial_that_was_stopped_goes_on_to_the_same_numbers(
    tmp_path: Path, steps: int, eval_every: int | None
) -> None:
    whole = run_trial(settings(eval_every=eval_every), device="cpu")
    stopped = run_trial(
        settings(eval_every=eval_every), device="cpu", checkpoint_dir=tmp_path, should_stop=after(steps)
    )
    assert stopped.status == "interrupted"
    assert stopped.measures["steps"] < 63
    resumed = run_trial(settings(eval_every=eval_every), device="cpu", checkpoint_dir=tmp_path)
    assert numbers(resumed) == numbers(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


def test_a_trial_that_died_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    def die(point: Evaluation) -> None:
        if point.epoch == 2:
            raise SystemExit

    whole = run_trial(settings(), device="cpu")
    with pytest.raises(SystemExit):
        run_trial(settings(), device="cpu", checkpoint_dir=tmp_path, checkpoint_seconds=0, on_evaluation=die)
    steps: list[int] = []
    resumed = run_trial(
        settings(), device="cpu", checkpoint_dir=tmp_path, on_evaluation=lambda point: steps.append(point.step)
    )
    assert steps == [63]
    assert numbers(resumed) == numbers(whole)


def test_a_checkpoint_of_other_source_code_is_not_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_trial(settings(), device="cpu", checkpoint_dir=tmp_path, should_stop=after(30))
    monkeypatch.setattr("lab.trial.source_fingerprint", lambda _: "other")
    steps: list[int] = []
    run_trial(settings(), device="cpu", checkpoint_dir=tmp_path, on_evaluation=lambda point: steps.append(point.step))
    assert steps == [0, 21, 42, 63]


def spoil_torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def spoil_bytes(path: Path) -> None:
    path.write_bytes(b"not a checkpoint")


def spoil_keys(path: Path) -> None:
    state = torch.load(path)
    del state["loss_sum"], state["progress"]["images"]
    torch.save(state, path)


def spoil_weights(path: Path) -> None:
    """As if of another network: some of its weights fit, one does not."""
    state = torch.load(path)
    weights = state["model"]["saved"]
    name = list(weights)[-1]
    state["model"]["saved"] = {key: value + 1 for key, value in weights.items()} | {name: torch.zeros(3)}
    torch.save(state, path)


def spoil_optimizer(path: Path) -> None:
    state = torch.load(path)
    del state["hidden"]["optimizer"]["saved"]["state_dict()"][1]["param_groups"][0]["params"][0]
    torch.save(state, path)


def spoil_by_code(path: Path) -> None:
    """A pickle that would run code where it is loaded without care."""
    torch.save({"source_fingerprint": Path}, path)


def spoil_path(path: Path) -> None:
    """Something that not even the superuser can read."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "spoil", [spoil_torn, spoil_bytes, spoil_keys, spoil_weights, spoil_optimizer, spoil_by_code, spoil_path]
)
def test_a_checkpoint_that_cannot_be_gone_on_from_is_left_and_the_trial_starts_again(
    tmp_path: Path, spoil: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run_trial(settings(), device="cpu")
    run_trial(settings(), device="cpu", checkpoint_dir=tmp_path, should_stop=after(30))
    spoil(tmp_path / "last.pt")
    steps: list[int] = []
    again = run_trial(
        settings(), device="cpu", checkpoint_dir=tmp_path, on_evaluation=lambda point: steps.append(point.step)
    )
    assert steps == [0, 21, 42, 63]
    assert numbers(again) == numbers(whole)
    assert "last.pt: not resumed from, the trial starts from the beginning" in capsys.readouterr().out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "torture.yaml").write_text(GRID)
    return tmp_path


def bench(folder: Path, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "run", "torture.yaml", "--no-time", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, **options)


def ids(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [row["trial_id"] for row in csv.DictReader(file)]


def wait_for(found: Callable[[], object], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_that_is_killed_again_and_again_records_what_an_undisturbed_one_does(folder: Path) -> None:
    assert start(folder, "undisturbed").wait() == 0
    checkpoints = folder / "tortured" / "torture" / "checkpoints"
    for _ in range(2):
        process = start(folder, "tortured")
        wait_for(lambda: list(checkpoints.glob("*/last.pt")))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(folder, "tortured").wait() == 0
    assert "resumes at step" in "".join(log.read_text() for log in folder.glob("tortured/torture/logs/*.log"))
    for table in ("trials.csv", "curves.csv", "correct.csv"):
        assert recorded(folder, "tortured", table) == recorded(folder, "undisturbed", table)


def test_two_runs_on_one_folder_share_the_trials(folder: Path) -> None:
    both = [start(folder, "shared") for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    found = ids(folder / "shared" / "torture" / "trials.csv")
    assert len(found) == len(set(found)) == 6


def test_a_disk_without_room_is_one_message_and_what_was_recorded_is_whole(folder: Path) -> None:
    limit = 12_000  # bytes per file: room for some curves, not for all

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = bench(folder, preexec_fn=no_room)
    assert done.returncode == 1
    assert "some results could not be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    recorded_ids = ids(folder / "results" / "torture" / "trials.csv")
    assert 0 < len(recorded_ids) < 6
    done = bench(folder)
    assert done.returncode == 0
    assert f"{6 - len(recorded_ids)} ok" in done.stdout
    assert len(set(ids(folder / "results" / "torture" / "trials.csv"))) == 6


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_may_not_be_written_is_one_message(folder: Path) -> None:
    (folder / "results").mkdir(mode=0o500)
    done = bench(folder)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr


def test_results_that_are_a_file_are_one_message(folder: Path) -> None:
    (folder / "results").write_text("")
    done = bench(folder)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be written" in done.stderr


def test_a_results_folder_that_is_removed_in_mid_run_is_made_again(folder: Path) -> None:
    process = start(folder, "results")
    trials = folder / "results" / "torture" / "trials.csv"
    wait_for(lambda: trials.exists() and ids(trials))
    while (folder / "results").exists():  # a trial that starts meanwhile may put its log there
        shutil.rmtree(folder / "results", ignore_errors=True)
    assert process.wait() == 1
    assert "was removed meanwhile" in (folder / "results.txt").read_text()
    assert bench(folder).returncode == 0
    assert len(set(ids(trials))) == 6


def test_what_is_recorded_as_failed_is_left_alone_where_asked(folder: Path) -> None:
    (folder / "nets.py").write_text("def broken():\n    raise RuntimeError\n")
    grid = GRID.replace("{name: mlp, hidden: [64, 64], dropout: 0.2, batch_norm: true}", "{name: 'nets:broken'}")
    (folder / "torture.yaml").write_text(grid.replace("model.residual: [true, false]", "optimizer.lr: [0.1, 0.2]"))
    assert bench(folder).returncode == 1
    done = bench(folder, "--rerun", "missing")
    assert "nothing to train" in done.stdout
    assert done.returncode == 0
