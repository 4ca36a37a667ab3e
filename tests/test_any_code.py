"""Any code at all: a trial is right, or refused in words; what is recorded can be read and is the same again.

``ANY_CODE=5000 ANY_CODE_FROM=1000 pytest tests/test_any_code.py`` tries so many examples, from that number on.
"""

from __future__ import annotations

import gc
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import any_grids
import pytest
import torch
import yaml
from any_beginnings import assert_examples_are_the_users, assert_network_is_the_users
from any_traces import TRACES
from plain_training import trained
from rich.console import Console
from torch.nn.functional import cross_entropy

from bench.analysis.findings import gather
from bench.execute.executor import Executor
from bench.execute.inline import InlineExecutor
from bench.execute.local import LocalExecutor
from bench.execute.options import Options
from bench.execute.progress import Progress
from bench.execute.run import run
from bench.execute.verify import verify
from bench.grid.load import GridError, load_plan
from bench.grid.plan import Plan, Trial
from bench.record.records import Records
from lab.outputs import on_logits

EXAMPLES, FIRST = int(os.environ.get("ANY_CODE", 20)), int(os.environ.get("ANY_CODE_FROM", 0))
HERE = Path(__file__).parent
MODULES = ("any_code", "any_data", "any_layers", "any_traces")
OURS = ("/lab/", "/bench/")
ENDED: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _place(workshop: Callable[[str, str], None]) -> None:
    """A working folder that has the modules."""
    for module in MODULES:
        workshop(module, (HERE / f"{module}.py").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True, scope="module")
def _quick_collections() -> Iterator[None]:
    """What is there already need not be looked through after each trial."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("number", range(FIRST, FIRST + EXAMPLES))
@pytest.mark.filterwarnings("ignore")  # of torch about users' types and shapes
def test_a_trial_of_any_code_is_right_or_refused_in_words(number: int) -> None:
    grid = any_grids.draw(Random(number))
    text = yaml.safe_dump(grid)
    print(text)
    Path("any.yaml").write_text(text)
    try:
        plan = load_plan(Path("any.yaml"))
        rows = recorded(plan, "once")
    except (GridError, ValueError, OSError) as refusal:
        ENDED["refused"] += 1
        print(refusal)
        assert_words(str(refusal))
        return
    gather(Path("once", plan.name))
    ENDED.update({row["status"] for row in rows.values()})
    trials = {trial.trial_id: trial for trial in trials_of(plan)}
    for name, row in rows.items():
        print(row["status"], row["error"])
        assert_true(trials[name], row, Path("once", plan.name))
    if number % 4 == 0:  # training by hand has said the same of most
        again = recorded(plan, "again")
        assert {name: numbers(row) for name, row in again.items()} == {name: numbers(row) for name, row in rows.items()}


def recorded(
    plan: Plan, results: str, make: Callable[..., Executor] = lambda *_: InlineExecutor("cpu", threads=1)
) -> dict[str, dict[str, str]]:
    options = Options(results=Path(results), device="cpu", executor="inline", jobs=1, attempts=1)
    run(plan, options, Progress(Console(file=io.StringIO()), ["bench"]), make=make)
    return {row["trial_id"]: row for row in Records(Path(results, plan.name), plan.selecting).trials.rows()}


def trials_of(plan: Plan) -> list[Trial]:
    """Those that the plan has, and those of whichever candidate won."""
    return [*plan.trials, *(one.of_seed(seed) for one in plan.experiments for seed in plan.seeds)]


def numbers(row: dict[str, str]) -> dict[str, str]:
    """Everything but clocks and memory."""
    return {name: value for name, value in row.items() if not re.search("second|memory|started_at|attempts", name)}


def assert_true(trial: Trial, row: dict[str, str], folder: Path) -> None:
    """What the row says is so: its numbers are those of training by hand, its error is in words and the user's own."""
    match row["status"]:
        case "ok":
            assert_right(trial, row, folder)
        case "diverged":
            assert not trained(trial.lab).is_sound
        case _:
            assert_words(row["error"])
            assert_not_ours(trial, folder / "logs" / f"{trial.trial_id}.log")


def assert_right(trial: Trial, row: dict[str, str], folder: Path) -> None:
    """The numbers of the row, and the weights that were kept, are what training by hand gives, to the last bit."""
    if int(trial.trial_id, 16) % 4 == 0 and "16" not in str(trial.lab.model):
        assert_network_is_the_users(trial.lab)
    assert_examples_are_the_users(trial.lab)
    found = trained(trial.lab)
    assert int(row["steps"]) == found.steps[-1]
    own = {"dev": found.points[found.best], "final_dev": found.points[-1], "test": found.tested}
    wanted = {f"{split}_{name}": value for split, scores in own.items() for name, value in scores.items()}
    wanted["final_train_loss"] = found.losses[-1]
    got = {name: float(row[name]) for name in wanted if row.get(name)}
    assert len(got) > 4
    assert got == pytest.approx({name: wanted[name] for name in got}, rel=1e-5, abs=1e-6)
    kept = torch.load(folder / "checkpoints" / trial.trial_id / "best.pt", weights_only=False)
    assert kept.keys() == found.weights.keys()
    for name, value in kept.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, found.weights[name], rtol=0, atol=0, equal_nan=True)


def assert_words(message: str) -> None:
    assert len(message.split()) >= 3, message
    assert "Traceback" not in message


def assert_not_ours(trial: Trial, log: Path) -> None:
    """The failure was raised in words here, or training by hand fails as well: no statement of ours stumbled."""
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    frames = re.findall(r'File "([^"]+)", line \d+, in (.+)\n\s+(.+)', text.rpartition("Traceback")[2])
    if not frames or frames[-1][1] == "compute":  # of a metric, which training by hand does not ask
        return
    file, _, line = frames[-1]
    if not (any(room in file for room in OURS) and line.startswith("raise ")):
        with pytest.raises(Exception):  # noqa: B017, PT011  # whatever torch or the network raises
            trained(trial.lab)


@pytest.mark.filterwarnings("ignore")
def test_what_a_trial_leaves_behind_reaches_no_other() -> None:
    """After each trial that leaves a trace comes one that leaves none: its numbers are those of training by hand."""
    levels = [level for kind in TRACES for level in (kind, f"nothing after {kind}")]
    base = {
        "data": {"name": "any_data:data", "batch_size": 8},
        "model": {"name": "any_code:Net", "shape": [5], "layers": [{"linear": 4}, "relu", "dropout", "numpy_coin"]},
        "optimizer": {"name": "adam", "lr": 0.1},
        "train": {"epochs": 2, "loss": {"name": "any_code:loss"}},
    }
    grid = {"question": "Clean?", "base": base, "factors": {"model.leaves": levels}, "seeds": 1}
    Path("traces.yaml").write_text(yaml.safe_dump(grid))
    plan = load_plan(Path("traces.yaml"))
    rows = recorded(plan, "once", make=lambda *_: LocalExecutor(["cpu"], threads=1))
    assert len(rows) == len(levels)
    for trial in plan.trials:
        row = rows[trial.trial_id]
        if trial.cell.levels["model.leaves"] in TRACES:
            assert row["status"] == "ok" or len(row["error"].split()) >= 3, trial.cell
        else:
            assert row["status"] == "ok", (trial.cell, row["error"])
            assert_right(trial, row, Path("once", plan.name))
    num_checked = len(levels) if "ANY_CODE" in os.environ else 4
    checks = verify(plan, Path("once", plan.name), sample=num_checked, seed=0, device="cpu", data_dir=None)
    others = [check.trial.cell.levels["model.leaves"] for check in checks if not check.agrees]
    assert [level for level in others if level != "seeding_thread"] == []  # it races with its own trial


def test_most_examples_train(capsys: pytest.CaptureFixture[str]) -> None:
    """Else the examples would say little."""
    shares = {status: f"{count / ENDED.total():.1%}" for status, count in ENDED.most_common()}
    if "ANY_CODE" in os.environ:
        with capsys.disabled():
            print(f"\n{ENDED.total()} examples and trials: {shares}")
    if ENDED.total() < EXAMPLES:
        pytest.skip("other processes tried the others")
    assert ENDED["ok"] >= ENDED.total() / 2, shares


@pytest.mark.parametrize("shape", [(), (3,), (3, 2, 1), (4, 2)])
def test_what_is_no_logits_is_refused_with_its_shape(shape: tuple[int, ...]) -> None:
    labels = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=re.escape("the network must return logits of shape (3, 2)")):
        on_logits(cross_entropy, 2)(torch.zeros(shape), labels)
