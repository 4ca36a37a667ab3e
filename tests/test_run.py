"""Which trials a run trains: what is missing, and what failed, so often as it may."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.execute.agenda import read_agenda
from bench.execute.events import Event, Lost, Started
from bench.execute.job import Job
from bench.execute.options import Options, Rerun
from bench.execute.progress import Progress
from bench.execute.run import Summary, longest_first, run
from bench.grid.load import load_plan
from bench.grid.plan import Plan, Trial
from bench.record.outcome import Outcome
from bench.record.recorder import Recorder
from bench.record.records import Records
from bench.record.status import Status
from lab.fingerprint import source_fingerprint

GRID = """
    question: How often is it tried?
    base:
      data: {name: digits, limit: 100}
      model: {name: "failing_nets:net"}
      optimizer: {name: sgd, lr: 0.1}
      train: {epochs: 1}
    factors:
      optimizer.lr: [0.1]
    seeds: 1
"""
NET = """
    import os
    from pathlib import Path
    from torch import nn

    def net(size: int, num_classes: int):
        if Path("broken").exists():
            raise RuntimeError("wires crossed")
        if Path("dies").exists():
            os._exit(3)
        return nn.Sequential(nn.Flatten(), nn.Linear(size * size, num_classes))
"""


@pytest.fixture
def plan(workshop: Callable[[str, str], None], tmp_path: Path) -> Plan:
    workshop("failing_nets", textwrap.dedent(NET))
    (tmp_path / "grid.yaml").write_text(textwrap.dedent(GRID))
    return load_plan(tmp_path / "grid.yaml")


def options(**changes: Any) -> Options:
    return Options(**{"results": Path("results"), "device": "cpu", "executor": "inline", "jobs": 1, **changes})


def again(plan: Plan, **changes: Any) -> Summary:
    return run(plan, options(**changes), Progress(Console(file=io.StringIO()), ["bench"]))


def left(plan: Plan, **changes: Any) -> list[Trial]:
    return read_agenda(plan, Records(Path("results") / plan.name), options(**changes)).trials


def attempts() -> list[tuple[str, int]]:
    return [(last.status, last.attempts) for last in Records(Path("results/grid")).outcomes().values()]


def test_what_failed_is_tried_so_often_as_it_may_and_then_left(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    for count in (1, 2, 3):
        assert again(plan).statuses == {"error": 1}
        assert attempts() == [("error", count)]
    given_up = again(plan)
    assert given_up.statuses == {}
    assert given_up.given_up == [3]
    assert given_up.exit_code == 1
    assert again(plan, rerun=Rerun.MISSING).exit_code == 0, "asked to leave failures alone"
    assert again(plan, attempts=4).statuses == {"error": 1}
    (tmp_path / "broken").unlink()
    assert again(plan, rerun=Rerun.ALL).statuses == {"ok": 1}
    assert attempts() == [("ok", 5)]
    assert again(plan, rerun=Rerun.ALL).statuses == {"ok": 1}
    assert attempts() == [("ok", 1)], "a finished trial, rerun, starts at 0"


def test_the_death_of_a_worker_is_an_attempt(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "dies").touch()
    assert again(plan, executor="local").statuses == {"error": 1}
    assert attempts() == [("error", 1)]
    assert again(plan, executor="local", attempts=1).given_up == [1]


def test_an_interruption_is_no_attempt(plan: Plan) -> None:
    (trial,) = plan.trials
    row = {"trial_id": trial.trial_id, "status": "interrupted", "attempts": 2}
    row["source_fingerprint"] = source_fingerprint(trial.settings)
    Path("results/grid").mkdir(parents=True)
    Records(Path("results/grid")).append(row, [])
    assert left(plan, attempts=2) == [trial]
    Path("broken").touch()
    assert again(plan).statuses == {"error": 1}
    assert attempts() == [("error", 3)]


@pytest.mark.parametrize(("made_by", "tried"), [("the code here now", False), ("other code", True), ("", False)])
def test_failures_of_other_source_code_do_not_count(plan: Plan, made_by: str, tried: bool) -> None:
    (trial,) = plan.trials
    here = source_fingerprint(trial.settings)
    row = {"trial_id": trial.trial_id, "status": "timed_out", "attempts": 3}
    row["source_fingerprint"] = here if made_by == "the code here now" else made_by
    Path("results/grid").mkdir(parents=True)
    Records(Path("results/grid")).append(row, [])
    assert (left(plan) == [trial]) == tried


@pytest.mark.parametrize(
    ("rerun", "rerun_statuses"),
    [
        (Rerun.MISSING, {None, "interrupted"}),
        (Rerun.FAILED, {None, "interrupted", "timed_out"}),
        (Rerun.STALE, {None, "interrupted", "timed_out", "stale"}),
        (Rerun.ALL, {None, "interrupted", "timed_out", "stale", "ok"}),
    ],
)
def test_each_word_of_rerun_includes_those_before_it(plan: Plan, rerun: Rerun, rerun_statuses: set[str | None]) -> None:
    (trial,) = plan.trials
    Path("results/grid").mkdir(parents=True)
    tried = {None} if left(plan, rerun=rerun) else set()
    for status in ("interrupted", "timed_out", "stale", "ok"):
        made_by = "other" if status == "stale" else source_fingerprint(trial.settings)
        kept = "ok" if status == "stale" else status
        row = {"trial_id": trial.trial_id, "status": kept, "dev_accuracy": 0.5, "source_fingerprint": made_by}
        Records(Path("results/grid")).append(row, [])
        tried |= {status} if left(plan, rerun=rerun) else set()
    assert tried == rerun_statuses


def test_a_tuned_value_is_not_chosen_while_a_candidate_is_interrupted_or_stale(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(
        textwrap.dedent(GRID).replace("seeds: 1", "seeds: 2\ntune: {train.epochs: [1, 2]}\ntune_seeds: 1")
    )
    plan = load_plan(tmp_path / "grid.yaml")
    one, two = plan.trials
    Path("results/grid").mkdir(parents=True)
    records = Records(Path("results/grid"))

    def record(trial_id: str, status: str, fingerprint: str) -> None:
        row = {"trial_id": trial_id, "status": status, "dev_accuracy": 0.5, "source_fingerprint": fingerprint}
        records.append(row, [])

    here = source_fingerprint(one.settings)
    record(one.trial_id, "ok", here)
    record(two.trial_id, "interrupted", here)
    assert left(plan) == [two]
    record(two.trial_id, "ok", "other")
    assert [trial.seed for trial in left(plan)] == [0, 1], "the winner's, on seeds that did not choose it"
    assert left(plan, rerun=Rerun.STALE) == [two]


def test_the_cells_that_take_longest_start_first_and_the_trials_of_a_cell_stay_together(tmp_path: Path) -> None:
    (tmp_path / "order.yaml").write_text(
        textwrap.dedent(
            """
            question: In which order?
            base:
              data: {name: digits}
              model: {name: mlp}
              optimizer: {name: sgd, lr: 0.1}
              train: {epochs: 1}
            factors:
              model.name: [mlp, lenet]
              train.epochs: [1, 3]
            seeds: 2
            """
        )
    )
    plan = load_plan(tmp_path / "order.yaml")
    macs = {cell.label: 10 if cell.levels["model.name"] == "mlp" else 20 for cell in plan.cells}

    def order(macs: dict[str, int]) -> list[str]:
        found = [(trial.settings.model.name, trial.settings.train.epochs) for trial in longest_first(plan.trials, macs)]
        assert found[::2] == found[1::2]
        return [f"{name} {epochs}" for name, epochs in found[::2]]

    assert order(macs) == ["lenet 3", "mlp 3", "lenet 1", "mlp 1"]
    assert order({}) == ["mlp 3", "lenet 3", "mlp 1", "lenet 1"]


class LosesItsWorker:
    """An executor whose only worker is lost just before the run is asked to stop, as when a cluster is pre-empted."""

    num_workers = 1

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        yield Started(next(iter(jobs)).trial_id, 0)
        yield Lost(0, "the node is gone")

    def stop(self) -> None: ...


def test_a_trial_that_was_lost_before_the_run_was_asked_to_stop_is_recorded_as_interrupted(
    plan: Plan,
) -> None:
    quiet = Progress(Console(file=io.StringIO()), ["bench"])
    assert run(plan, options(), quiet, make=lambda *asked: LosesItsWorker()).statuses == {"interrupted": 1}
    assert attempts() == [("interrupted", 0)]


def test_results_that_somebody_removed_after_the_last_trial_are_told_at_the_end(plan: Plan) -> None:
    told: list[str] = []
    recorder = Recorder(Records(Path("results/grid")), plan, 1, told.append)
    (trial,) = plan.trials
    recorder.ended(trial, Outcome(trial.trial_id, Status.ERROR, "wires crossed"), datetime.now(UTC))
    Path("results/grid/trials.csv").unlink()
    assert recorder.finish() is None
    assert (recorder.num_lost, len(told)) == (1, 1)
    assert "was removed meanwhile, with 1 results of this run" in told[0]


def test_results_that_go_while_others_come_are_told_at_the_end(plan: Plan) -> None:
    told: list[str] = []
    recorder = Recorder(Records(Path("results/grid")), plan, 1, told.append)
    (trial,) = plan.trials
    recorder.ended(trial, Outcome(trial.trial_id, Status.ERROR, "wires crossed"), datetime.now(UTC))
    table = Path("results/grid/trials.csv")
    table.write_text(table.read_text().replace(trial.trial_id, "elsewhere"))  # another process began the file anew
    assert recorder.finish() is None
    assert recorder.num_lost == 1
    assert "was removed meanwhile" in told[0]
