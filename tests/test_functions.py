"""A Python function of the user's as training code: its settings, its metrics, its record, and whatever it may do."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from rich.console import Console

from bench.analysis.findings import gather
from bench.analysis.own import are_alike

sys.path.insert(0, str(Path(__file__).parent))
from test_commands import is_alive

from bench.execute.job import Job
from bench.execute.options import Options, Rerun
from bench.execute.progress import Progress
from bench.execute.run import Summary
from bench.execute.run import run as run_plan
from bench.execute.trainables.reported import Origin, Reported, environment, outcome
from bench.execute.verify import verify
from bench.grid.load import GridError, Plan, load_plan
from bench.grid.metrics import Metric
from bench.grid.own_sources import sources_of_run
from bench.record.plan_file import plan_json, read_plan
from bench.record.records import Records, read_curves, read_trials
from bench.record.staleness import find_stale
from bench.report.output import write_report
from lab import fingerprint

RUN = """
import random

def run(lr, width: int = 64, *, seed, report):
    rng = random.Random(seed)
    for epoch in range(4):
        error = abs(epoch - 2) + lr + rng.random() / 100 + 1 / width
        report(step=epoch, dev_rmse=error, learning_rate=lr)
    return {"test_rmse": error, "f1": 0.5}
"""

GRID = """
question: Does the width matter?
run: {function: train:run}
metrics:
  test_rmse: {better: lower, scale: log, margin: 2 %}
  dev_rmse: {better: lower, split: dev, at: best}
base: {lr: 0.1}
factors:
  model.width: [32, 64]
seeds: 3
"""

Workshop = Callable[[str, str], None]


@pytest.fixture
def grid(workshop: Workshop, tmp_path: Path) -> Callable[..., Plan]:
    """The plan of a grid with some words replaced, over a module ``train``."""

    def make(*changes: tuple[str, str], source: str = RUN) -> Plan:
        workshop("train", source)
        text = GRID
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "own.yaml").write_text(text)
        return load_plan(tmp_path / "own.yaml")

    return make


def run(plan: Plan, executor: str = "inline", **options: Any) -> Summary:
    given = Options(results=Path("results"), device="cpu", executor=executor, **options)
    return run_plan(plan, given, Progress(Console(file=io.StringIO()), []))


def rows(plan: Plan) -> list[dict[str, str]]:
    with (Path("results") / plan.name / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def refused(grid: Callable[..., Plan], *changes: tuple[str, str], source: str = RUN) -> list[str]:
    with pytest.raises(GridError) as error:
        grid(*changes, source=source)
    return [message.partition("own.yaml:")[2] for message in error.value.messages]


# --- settings -------------------------------------------------------------------------------------------------------


def test_settings_are_what_the_grid_gives_in_sections_or_at_top_level(grid: Callable[..., Plan]) -> None:
    plan = grid()
    assert [cell.label for cell in plan.cells] == ["width=32", "width=64"]
    assert plan.trials[0].settings.flat() == {"settings.lr": 0.1, "model.width": 32}
    assert len({trial.trial_id for trial in plan.trials}) == 6


def test_the_identity_is_of_settings_seed_and_function(grid: Callable[..., Plan]) -> None:
    source = RUN + "\n\ndef again(lr, width=3):\n    return 1.0\n"
    first = grid(source=source).trials[0]
    assert first.trial_id == grid(("seeds: 3", "seeds: 2"), source=source).trials[0].trial_id
    other = grid(("train:run", "train:again"), source=source).trials[0]
    assert other.settings.flat() == first.settings.flat()
    assert other.trial_id != first.trial_id
    assert first.of_seed(1).trial_id != first.trial_id
    whole = {"settings": {"lr": 0.1}, "model": {"width": 32}, "run": {"function": "train:run"}, "seed": 0}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    assert first.trial_id == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_a_section_is_one_argument_where_the_function_asks_for_it(grid: Callable[..., Plan]) -> None:
    source = "def run(optimizer, width):\n    return {'test_rmse': optimizer['lr'] + width, 'dev_rmse': 1.0}\n"
    plan = grid(("{lr: 0.1}", "{optimizer: {lr: 0.25, name: adam}}"), source=source)
    assert run(plan).exit_code == 0
    assert sorted(float(row["test_rmse"]) for row in rows(plan)) == [32.25] * 3 + [64.25] * 3


def test_an_empty_mapping_is_the_value_of_an_argument_that_the_function_asks_for(grid: Callable[..., Plan]) -> None:
    source = "def run(width, options={'decay': 8}):\n    return {'test_rmse': 1.0 + len(options), 'dev_rmse': 1.0}\n"
    left_out, empty = (grid(("{lr: 0.1}", base), source=source) for base in ("{}", "{options: {}}"))
    assert {trial.trial_id for trial in left_out.trials}.isdisjoint(trial.trial_id for trial in empty.trials)
    for plan, value in ((left_out, 2.0), (empty, 1.0)):
        assert run(plan).exit_code == 0
        recorded = {row["trial_id"]: float(row["test_rmse"]) for row in rows(plan)}
        assert [recorded[trial.trial_id] for trial in plan.trials] == [value] * 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("{lr: 0.1}", "{lr: 0.1, depth: 3}"),
            "7:17: depth: no such argument of train:run; did you mean width?",
        ),
        (("{lr: 0.1}", "{lr: 0.1, seeed: 3}"), "7:17: seeed: no such argument of train:run; it takes: lr, width"),
        (("{lr: 0.1}", "{}"), "7:1: lr: is required by train:run: any value"),
        (("{lr: 0.1}", "{lr: 0.1, optimizer: {lr: 1}}"), "optimizer.lr: lr offers train:run the argument lr, too"),
        (("{lr: 0.1}", "{lr: 0.1, seed: 1}"), "7:17: base.seed: replicates are no setting"),
        (("{lr: 0.1}", "{lr: 0.1, report: 1}"), "7:25: report: the harness gives report to the function"),
        (("[32, 64]", "[32, wide]"), "9:21: model.width: must be integer, got 'wide'"),
        (("train:run", "train:walk"), "3:1: run.function: 'train:walk': train has no 'walk'"),
        (("train:run", "trains:run"), "3:1: run.function: 'trains:run': cannot import trains: No module named"),
        (("train:run", "run"), "3:17: run.function: must be an import path package.module:function, got run"),
        (("function:", "funktion:"), "run.funktion: no such key; did you mean function?"),
        (("test_rmse: {better: lower, ", "test_rmse: {"), "metrics.test_rmse: nobody declared which direction"),
        (("at: best", "at: dev_rsme"), "metrics.dev_rmse.at: must be last, best, min, max, or a metric of the grid"),
        (("dev_rmse:", "total_seconds:"), "metrics.total_seconds: the harness measures it"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(
    grid: Callable[..., Plan], change: tuple[str, str], message: str
) -> None:
    (told,) = refused(grid, change)
    assert message in told


def test_metrics_are_required_and_tuning_needs_one_of_dev(grid: Callable[..., Plan]) -> None:
    start, end = GRID.index("metrics:"), GRID.index("base:")
    assert "metrics: is required beside `run`" in refused(grid, (GRID[start:end], ""))[0]
    (told,) = refused(grid, (", split: dev", ""), ("seeds: 3", "seeds: 3\ntune: {lr: [0.1, 0.2]}"), ("{lr: 0.1}", "{}"))
    assert "`tune` needs one that may select: give a metric `split: dev`" in told


def test_a_grid_of_own_code_does_not_import_torch_where_the_function_does_not(grid: Callable[..., Plan]) -> None:
    grid()
    code = "import sys; from pathlib import Path; from bench.grid.load import load_plan; load_plan(Path('own.yaml'))"
    done = subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"], check=False)
    assert done.returncode == 0


def test_the_plan_comes_back_without_the_function(grid: Callable[..., Plan], tmp_path: Path) -> None:
    plan = grid()
    (tmp_path / "train.py").unlink()
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "grid.yaml").write_text(plan.text)
    (folder / "plan.json").write_text(plan_json(plan))
    back = read_plan(folder)
    assert back.trials == plan.trials
    assert back.run == plan.run
    assert back.metrics == plan.metrics


# --- results --------------------------------------------------------------------------------------------------------


def test_a_row_has_what_counts_of_each_metric_and_undeclared_numbers_too(grid: Callable[..., Plan]) -> None:
    plan = grid()
    summary = run(plan)
    assert summary.exit_code == 0
    trials, curves = read_trials(Path("results/own")), read_curves(Path("results/own"))
    for _, row in trials.iterrows():
        curve = curves[curves["trial_id"] == row["trial_id"]]
        assert list(curve["step"]) == [0, 1, 2, 3]
        assert row["dev_rmse"] == curve["dev_rmse"].min()
        assert row["test_rmse"] == curve["dev_rmse"].iloc[-1]
        assert (row["f1"], row["learning_rate"]) == (0.5, 0.1)
    assert not run(plan).statuses  # all are recorded


def test_what_was_recorded_is_resumed_by_trial_and_a_changed_function_is_stale(grid: Callable[..., Plan]) -> None:
    plan = grid()
    run(plan, trial=plan.trials[0].trial_id)
    assert sum(run(plan).statuses.values()) == 5
    assert not find_stale(plan, Records(Path("results/own"), plan.selecting)).changed
    Path("train.py").write_text(RUN.replace("abs(epoch - 2)", "abs(epoch - 1)"))
    for cached in (fingerprint._digests, sources_of_run):
        cached.cache_clear()
    stale = find_stale(plan, Records(Path("results/own"), plan.selecting))
    assert set(stale.changed.values()) == {("train.py",)}
    assert sum(run(plan, rerun=Rerun.STALE).statuses.values()) == 6


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_a_function_that_leaves_the_working_folder_is_the_same_source_code(
    grid: Callable[..., Plan], executor: str
) -> None:
    source = (
        "import os\n\ndef run(width, *, seed):\n    os.chdir('/')\n    return {'test_rmse': 1.0, 'dev_rmse': 1.0}\n"
    )
    plan = grid(("{lr: 0.1}", "{}"), ("seeds: 3", "seeds: 1"), source=source)
    assert run(plan, executor).exit_code == 0
    assert find_stale(plan, Records(Path("results") / plan.name)).changed == {}


def test_a_missing_metric_stops_the_run_and_names_what_was_seen(grid: Callable[..., Plan]) -> None:
    plan = grid(("test_rmse:", "test_mse:"))
    summary = run(plan)
    assert summary.refused.endswith(
        "the declared metric test_mse was not reported; reported were test_rmse, f1, dev_rmse, learning_rate"
    )
    assert [row["status"] for row in rows(plan)] == ["error"]


def test_tuning_selects_by_the_dev_metric_in_its_direction(grid: Callable[..., Plan]) -> None:
    plan = grid(("{lr: 0.1}", "{}"), ("seeds: 3", "seeds: 2\ntune: {lr: [0.3, 0.1, 0.2]}\ntune_seeds: 2"))
    assert run(plan).exit_code == 0
    found = rows(plan)
    assert len(found) == 2 * (3 * 2 + 2)
    assert {row["settings.lr"] for row in found if int(row["seed"]) < 2} == {"0.1"}


BAD = """
import os, signal, sys, time

def run(how, *, seed, report, folder):
    (folder / "mark").write_text(how)
    report(step=1, rmse=1.0)
    if how == "hang":
        time.sleep(60)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(7)
    if how == "leave":
        sys.exit("no more")
    if how == "memory":
        raise MemoryError
    if how == "raise":
        raise KeyError("x")
    if how == "fork":
        if (pid := os.fork()) == 0:
            time.sleep(60)
        open("child.txt", "w").write(str(pid))
    if how == "text":
        return "good"
    if how == "out":
        return -1.0
    return float("nan") if how == "nan" else 2.0
"""

FAULTS = """
question: What may a function do?
run: {function: train:run}
metrics: {rmse: {better: lower, range: [0, null]}}
factors:
  how: [fine, hang, kill, exit, leave, memory, raise, fork, text, out, nan, done]
seeds: 1
"""


def test_whatever_a_function_does_leaves_a_row_and_the_others_go_on(workshop: Workshop, tmp_path: Path) -> None:
    workshop("train", BAD)
    (tmp_path / "own.yaml").write_text(FAULTS)
    plan = load_plan(tmp_path / "own.yaml")
    assert run(plan, executor="local", jobs=2, timeout=4).exit_code == 1
    found = {row["settings.how"]: (row["status"], row["error"]) for row in rows(plan)}
    assert {how: status for how, (status, _) in found.items()} == {
        **dict.fromkeys(("fine", "fork", "done"), "ok"),
        **dict.fromkeys(("kill", "exit", "leave", "raise", "text", "out"), "error"),
        **{"hang": "timed_out", "memory": "out_of_memory", "nan": "diverged"},
    }
    assert found["hang"][1] == "ran longer than 4 seconds"
    assert "SIGKILL" in found["kill"][1]
    assert "exit code 7" in found["exit"][1]
    assert found["raise"][1].startswith("KeyError: 'x'")
    assert found["text"][1] == "TypeError: a training function returns a number or a mapping, got str"
    assert found["out"][1] == "rmse must lie in [0, ], got -1.0"
    assert found["nan"][1] == "rmse is nan"
    assert not is_alive(int(Path("child.txt").read_text()))  # what it forked ended with it
    marks = {path.read_text() for path in Path("results/own/files").glob("*/mark")}
    assert marks == set(found)


# --- which value counts ---------------------------------------------------------------------------------------------


def reported(curve: dict[int, dict[str, float]], **final: float) -> Reported:
    found = Reported()
    for step, values in curve.items():
        found.add(values, step)
    found.add(final)
    return found


CURVE = {1: {"rmse": 3.0, "dev": 2.0}, 2: {"rmse": 1.0, "dev": 4.0}, 3: {"rmse": 2.0, "dev": 3.0}}


@pytest.mark.parametrize(
    ("at", "better", "expected"),
    [
        (None, "lower", 2.0),
        ("last", "lower", 2.0),
        ("best", "lower", 1.0),
        ("best", "higher", 3.0),
        ("min", "higher", 1.0),
        ("max", "lower", 3.0),
        ("dev", "higher", 3.0),
    ],
)
def test_which_point_of_a_curve_counts(at: str | None, better: Any, expected: float) -> None:
    metrics = [Metric("rmse", better, at=at), Metric("dev", "lower", split="dev")]
    assert reported(CURVE).value(metrics[0], metrics) == expected


def test_a_final_value_counts_unless_a_point_of_the_curve_is_asked_for() -> None:
    plain, best = Metric("rmse", "lower"), Metric("rmse", "lower", at="best")
    assert reported(CURVE, rmse=9.0).value(plain, [plain]) == 9.0
    assert reported(CURVE, rmse=9.0).value(best, [best]) == 1.0
    assert reported({}, rmse=9.0).value(best, [best]) == 9.0


def test_train_and_dev_values_of_one_step_are_one_point_and_every_curve_begins_at_step_0() -> None:
    found = Reported()
    found.add({"train_loss": 0.5}, 10)
    found.add({"dev": 0.25}, 10)
    found.add({"dev": 0.125}, 20)
    points = found.curve()
    assert [(point.step, point.scores["dev"]) for point in points[1:]] == [(10, 0.25), (20, 0.125)]
    assert points[0].step == 0
    assert math.isnan(points[0].scores["dev"])
    assert points[1].train_loss == 0.5


def test_a_secondary_metric_that_is_not_finite_leaves_its_cell_empty() -> None:
    metrics = (Metric("rmse", "lower"), Metric("f1", "higher"))
    job = Job("id", {"seed": 0}, Path(), metrics=metrics)
    origin = Origin(environment("cpu", 1), {}, 1.0)
    done = outcome(job, reported({}, rmse=1.0, f1=math.nan), origin)
    assert done.status == "ok"
    assert done.result is not None
    assert done.result.measures.keys() == {"rmse", "total_seconds"}


def test_a_trial_that_is_run_again_agrees_within_the_spread_of_the_seeds(grid: Callable[..., Plan]) -> None:
    plan = grid()
    run(plan)
    folder = Path("results/own")
    checks = verify(plan, folder, sample=2, seed=0, device="cpu", data_dir=None)
    assert [check.agrees for check in checks] == [True, True]
    assert {check.rule.split()[0] for check in checks} == {"within"}
    Path("train.py").write_text(RUN.replace("1 / width", "9 / width"))
    assert not any(check.agrees for check in verify(plan, folder, sample=2, seed=0, device="cpu", data_dir=None))


def test_the_report_compares_the_primary_metric_and_says_what_own_code_cannot_promise(
    grid: Callable[..., Plan],
) -> None:
    run(grid())
    Path("train.py").unlink()  # a report needs no code
    found = gather(Path("results/own"))
    trials = read_trials(Path("results/own"))
    logs = np.log(trials.pivot(index="seed", columns="model.width", values="test_rmse"))
    difference = (logs["64"] - logs["32"]).to_numpy()
    expected = scipy.stats.ttest_rel(logs["64"], logs["32"])
    (effect,) = found.effects.to_dict("records")
    assert effect["p"] == pytest.approx(expected.pvalue)
    assert effect["difference"] == pytest.approx(difference.mean())
    said = " ".join(found.cautions)
    assert "own code: it is up to the code to use its seed" in said
    correlation = np.corrcoef(trials.pivot(index="model.width", columns="seed", values="test_rmse"))[0, 1]
    assert f"cells correlate over seeds by {correlation:.2f} on average: pairing by seed removes noise" in said
    assert "own code did not say what its data are" in said


def test_examples_that_are_not_what_the_metric_is_made_of_are_left_out_and_counted(grid: Callable[..., Plan]) -> None:
    source = RUN.replace('return {"test_rmse"', 'return {"examples": {"test_rmse": [8.0, 9.0]}, "test_rmse"')
    assert source != RUN
    assert run(grid(source=source)).exit_code == 0
    (said,) = (caution for caution in gather(Path("results/own")).cautions if "single examples" in caution)
    assert said.startswith("outcomes of single examples of test_rmse are left out in 6 trials: their mean is neither")


def test_a_setting_that_the_code_does_not_use_is_told(grid: Callable[..., Plan]) -> None:
    run(grid(("[32, 64]", "[32, 64]\n  unused: [1, 2]"), source=RUN.replace("lr, width", "lr, unused, width")))
    said = [caution for caution in gather(Path("results/own")).cautions if "changes nothing" in caution]
    assert said == ["unused changes nothing: 1 and 2 gave the same in every seed; does the code use it?"]


def test_curves_of_other_numbers_than_the_metric_are_no_figure_and_stop_no_report(grid: Callable[..., Plan]) -> None:
    run(grid(("  dev_rmse: {better: lower, split: dev, at: best}\n", "")))
    found = gather(Path("results/own"))
    assert found.curves.empty
    assert (write_report(found) / "forest.png").exists()


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ([1.0, 2.0], [1.0, 2.0], True),
        ([1.0, 2.0, math.nan], [1.0, 2.0, 5.0], True),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 4.0], False),
        ([1.0, math.nan], [1.0, math.nan], False),  # one seed is no evidence
    ],
)
def test_levels_are_alike_where_two_seeds_have_the_same_values(
    one: list[float], other: list[float], alike: bool
) -> None:
    assert are_alike(one, other) is alike
