"""What is shown while trials run: in a terminal cells, workers and a bar, elsewhere a line per trial."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.execute.progress import Progress
from bench.grid.load import Plan, load_plan
from bench.record.outcome import Outcome
from bench.record.status import Status
from lab.result import Environment, Evaluation, Result

GRID = """
question: What is shown?
base:
  data: {name: digits}
  model: {name: mlp, hidden: [8]}
  optimizer: {name: sgd, lr: 0.1}
  train: {epochs: 4}
factors:
  model.batch_norm: [true, false]
  optimizer.lr: [0.1, 0.2]
seeds: 2
"""
ENVIRONMENT = Environment("cpu", "none", 1, "none", "none", "none")


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Run:
    """A run whose events a test tells; ``screen`` is what a terminal shows live, ``text`` what scrolls."""

    def __init__(
        self, plan: Plan, *, terminal: bool = True, quiet: bool = False, size: tuple[int, int] = (80, 24), **begin: Any
    ) -> None:
        self.plan, self.clock = plan, Clock()
        self.console = self._console(terminal, size)
        self.progress = Progress(self.console, ["bench", "run", "grid.yaml"], self.clock, quiet=quiet)
        self.progress.begin(plan, begin.pop("trials", plan.trials), begin.pop("num_workers", 2), **begin)

    @staticmethod
    def _console(terminal: bool, size: tuple[int, int]) -> Console:
        look: dict[str, Any] = {"width": size[0], "height": size[1], "color_system": None, "highlight": False}
        return Console(file=io.StringIO(), force_terminal=terminal, **look)

    def start(self, worker: int, trial: int) -> None:
        self.progress.started(worker, self.plan.trials[trial].trial_id)

    def end(self, worker: int, trial: int, status: Status = Status.OK, seconds: float = 1.0, **measures: float) -> None:
        self.start(worker, trial)
        self.clock.seconds += seconds
        trial_id = self.plan.trials[trial].trial_id
        known = {"dev_accuracy": 0.5, "total_seconds": seconds} | measures
        result = Result(trial_id, status, None, known, ENVIRONMENT, "none") if status is Status.OK else None
        error = None if status is Status.OK else "ValueError: it broke\nmore"
        self.progress.ended(worker, Outcome(trial_id, status, error, result))

    @property
    def text(self) -> str:
        assert isinstance(self.console.file, io.StringIO)
        return self.console.file.getvalue()

    def screen(self, width: int = 80, height: int = 24) -> list[str]:
        console = self._console(True, (width, height))
        console.print(self.progress.screen)
        assert isinstance(console.file, io.StringIO)
        return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "grid.yaml").write_text(GRID)
    return load_plan(tmp_path / "grid.yaml")


def words(lines: list[str]) -> list[list[str]]:
    return [line.split() for line in lines]


# --- in a terminal --------------------------------------------------------------------------------------------------


def test_a_cell_has_n_its_mean_so_far_and_what_failed(plan: Plan) -> None:
    run = Run(plan)
    run.end(0, 0, test_accuracy=0.9)
    run.end(1, 1, test_accuracy=0.8)
    run.end(0, 2, Status.ERROR)
    run.end(1, 3, Status.DIVERGED)
    lines = words(run.screen())
    assert lines[0] == ["cell", "n", "mean", "test", "accuracy,", "%", "failed"]
    assert lines[1] == ["batch_norm=true", "lr=0.1", "2/2", "85.0"]
    assert lines[2] == ["batch_norm=true", "lr=0.2", "2/2", "–", "1", "error,", "1", "diverged"]
    assert lines[3] == ["batch_norm=false", "lr=0.1", "0/2", "–"]


def test_only_failures_scroll(plan: Plan) -> None:
    run = Run(plan)
    run.end(0, 0, test_accuracy=0.9)
    run.end(1, 1, Status.DIVERGED)
    run.end(0, 2, Status.ERROR)
    assert run.text.splitlines() == [
        "grid: 8 trials on 2 workers",
        "3/8 error    batch_norm=true lr=0.2 seed=0",
        "    ValueError: it broke",
        f"    to repeat it alone: bench run grid.yaml --trial {plan.trials[2].trial_id} --rerun all",
    ]


def test_a_worker_has_a_line_with_what_it_trains_and_how_far_it_is(plan: Plan) -> None:
    run = Run(plan)
    run.start(0, 0)
    run.clock.seconds = 5
    run.progress.evaluated(0, Evaluation(30, 1.5, 1.0, 5.0, {"dev_accuracy": 0.75, "dev_loss": 1.0}))
    lines = run.screen()
    assert lines[-3] == "worker 0 batch_norm=true lr=0.1 seed=0 epoch 1.5/4, dev 0.7500, 5 s"
    assert lines[-2] == "worker 1 idle"


def test_the_bar_says_how_many_ended_what_became_of_them_and_the_time_left(plan: Plan) -> None:
    run = Run(plan)
    run.end(0, 0, seconds=10, test_accuracy=0.9)
    run.end(0, 2, Status.ERROR, seconds=30)
    assert "2/8 trials, about" in run.screen()[-1]
    # one more of the first cell takes 10 s, one of the second 30 s, four of others 20 s each: 120 s by two workers
    assert run.screen()[-1].endswith("2/8 trials, about 60 s left, 1 error")
    run.start(1, 1)
    run.clock.seconds += 4
    assert run.screen()[-1].endswith("2/8 trials, about 58 s left, 1 error")


def test_before_any_trial_ended_the_pace_of_those_under_way_tells_the_time_left(plan: Plan) -> None:
    run = Run(plan, num_workers=1)
    run.start(0, 0)
    assert run.screen()[-1].endswith(" 0/8 trials")
    run.clock.seconds = 10
    run.progress.evaluated(0, Evaluation(10, 1.0, 1.0, 10.0, {"dev_accuracy": 0.5}))
    assert run.screen()[-1].endswith(" 0/8 trials, about 5 min left")  # 8 x 40 s less 10 s


def test_at_the_end_the_cells_stay_and_the_workers_go(plan: Plan) -> None:
    run = Run(plan)
    with run.progress:
        run.end(0, 0, test_accuracy=0.9)
    left = run.screen()
    assert len(left) == 5
    assert not any("worker" in line for line in left)


def test_what_was_recorded_before_counts(plan: Plan) -> None:
    rows: list[Mapping[str, str]] = [
        {"trial_id": plan.trials[0].trial_id, "status": "ok", "test_accuracy": "0.7"},
        {"trial_id": plan.trials[1].trial_id, "status": "error", "test_accuracy": ""},
        {"trial_id": "of another grid", "status": "ok", "test_accuracy": "0.1"},
    ]
    run = Run(plan, trials=plan.trials[1:], recorded=1, rows=lambda: iter(rows))
    assert words(run.screen())[1] == ["batch_norm=true", "lr=0.1", "1/2", "70.0"]  # the failed one runs again
    run.end(0, 1, test_accuracy=0.9)
    assert words(run.screen())[1] == ["batch_norm=true", "lr=0.1", "2/2", "80.0"]


def test_candidates_have_their_best_on_dev(tmp_path: Path) -> None:
    tuned = "tune: {optimizer.lr: [0.1, 0.2]}\ntune_seeds: 2\nseeds: 2"
    grid = GRID.replace("optimizer.lr: [0.1, 0.2]", "").replace("seeds: 2", tuned)
    (tmp_path / "grid.yaml").write_text(grid)
    run = Run(load_plan(tmp_path / "grid.yaml"))
    run.end(0, 0, dev_accuracy=0.4, test_accuracy=0.9)
    run.end(0, 1, dev_accuracy=0.6, test_accuracy=0.1)
    lines = words(run.screen())
    assert lines[0][2:6] == ["best", "dev", "accuracy,", "%"]
    assert lines[1][1:] == ["2/4", "60.0"]


def test_on_a_log_scale_the_mean_is_geometric(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID + "metrics: {test_loss: {scale: log}}\n")
    run = Run(load_plan(tmp_path / "grid.yaml"))
    run.end(0, 0, test_loss=0.1)
    run.end(0, 1, test_loss=0.4)
    assert words(run.screen())[1][-1] == "0.2"


@pytest.fixture
def many(tmp_path: Path) -> Plan:
    rates = ", ".join(f"0.{level:03d}" for level in range(1, 301))
    (tmp_path / "grid.yaml").write_text(GRID.replace("[0.1, 0.2]", f"[{rates}]"))
    return load_plan(tmp_path / "grid.yaml")


@pytest.mark.parametrize("size", [(80, 24), (120, 50), (40, 10), (30, 5), (20, 2)])
def test_many_cells_and_workers_are_capped_by_the_terminal(many: Plan, size: tuple[int, int]) -> None:
    run = Run(many, num_workers=200)
    for worker in range(200):
        run.start(worker, worker)
    run.end(0, 1150, test_accuracy=0.5)
    lines = run.screen(*size)
    assert len(lines) <= max(1, size[1] - 1)
    assert all(len(line) <= size[0] for line in lines)
    assert "1/1200" in lines[-1]
    if size[1] >= 24:
        assert any("batch_norm=false lr=0.276" in line for line in lines)  # the last that something happened to
        (rest,) = [line for line in lines if line.startswith("and ")]
        shown = sum("lr=0." in line and "worker" not in line for line in lines)
        assert rest == f"and {600 - shown} more cells: 0 done, {600 - shown} to come"
        assert sum(line.startswith("worker") for line in lines) == 8


# --- elsewhere ------------------------------------------------------------------------------------------------------


def test_piped_there_is_a_line_per_trial_and_nothing_live(plan: Plan) -> None:
    run = Run(plan, terminal=False)
    with run.progress:
        run.end(0, 0, test_accuracy=0.9)
        run.end(1, 1, Status.DIVERGED)
    assert run.text.splitlines() == [
        "grid: 8 trials on 2 workers",
        "1/8 ok       batch_norm=true lr=0.1 seed=0  test 0.9000  dev 0.5000  1.0 s",
        "2/8 diverged batch_norm=true lr=0.1 seed=1",
        "    ValueError: it broke",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_shows_failures_alone(plan: Plan, terminal: bool) -> None:
    run = Run(plan, terminal=terminal, quiet=True)
    with run.progress:
        run.end(0, 0, test_accuracy=0.9)
        run.end(1, 1, Status.DIVERGED)
        run.end(0, 2, Status.TIMED_OUT)
    lines = run.text.splitlines()
    assert lines[0] == "3/8 timed_out batch_norm=true lr=0.2 seed=0"
    assert len(lines) == 3
