"""A command as training code: its words, its metrics, its end, and whatever it may do."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.execute.options import Options
from bench.execute.progress import Progress
from bench.execute.run import Summary
from bench.execute.run import run as run_plan
from bench.execute.trainables import command
from bench.grid.load import GridError, Plan, load_plan
from bench.grid.own import OwnSettings, Run
from bench.grid.own_command import Command
from bench.record.printable import printable

SCRIPT = """
import argparse, json, os
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--width", type=int)
parser.add_argument("--norm", action=argparse.BooleanOptionalAction)
parser.add_argument("--seed", type=int)
args = parser.parse_args()
with open(os.environ["BENCH_METRICS"], "a") as file:
    for step in (1, 2):
        print(json.dumps({"step": step, "dev_rmse": args.lr + args.width / step}), file=file)
    print(json.dumps({"test_rmse": args.width + args.norm + args.seed / 10, "extra": {"f1": 0.5}}), file=file)
"""

GRID = """
question: Does the width matter?
run:
  command: python train.py --seed {seed} {flags}
  flags: {norm: [--norm, --no-norm]}
metrics:
  test_rmse: {better: lower}
  dev_rmse: {better: lower, split: dev, at: best}
base: {lr: 0.1, norm: true}
factors:
  width: [32, 64]
seeds: 2
"""


@pytest.fixture
def grid(workshop: Callable[[str, str], None], tmp_path: Path) -> Callable[..., Plan]:
    def make(*changes: tuple[str, str], source: str = SCRIPT, text: str = GRID) -> Plan:
        workshop("train", source)
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


# --- words ----------------------------------------------------------------------------------------------------------


def words(text: str, settings: dict[str, Any], **run: Any) -> list[str]:
    given = Run(command=text, **run)
    sections = {"settings": {name: value for name, value in settings.items() if not isinstance(value, dict)}}
    sections |= {name: value for name, value in settings.items() if isinstance(value, dict)}
    handed = {"seed": "3", "folder": "/there", "device": "cpu", "settings_file": "/there/settings.json"}
    return Command(given).arguments(OwnSettings(sections, given), handed)


def test_each_placeholder_is_one_argument_whatever_is_in_it() -> None:
    odd = "a b'c\"d; rm -rf $(x) `y` {z} | & > *"
    assert words("echo '{name}' x={name} {{literal}}", {"name": odd}) == ["echo", odd, f"x={odd}", "{literal}"]


def test_flags_hold_what_is_placed_nowhere_else() -> None:
    settings = {"lr": 0.1, "norm": False, "none": None, "model": {"hidden": [64, 32], "deep": {"name": "a b"}}}
    got = words("echo --rate {lr} {flags}", settings, flags={"norm": [None, "--no-norm"]})
    assert got == ["echo", "--rate", "0.1", "--no-norm", "--hidden", "64", "32", "--name", "a b"]


def test_overrides_are_spelled_as_hydra_reads_them() -> None:
    settings = {"lr": 0.1, "a": {"b": {"c": [1, "x y"]}, "t": "it's", "n": None, "s": "1e3", "f": True}}
    got = words("echo {overrides}", settings)
    assert got == ["echo", "lr=0.1", "a.b.c=[1,'x y']", "a.t='it\\'s'", "a.n=null", "a.s='1e3'", "a.f=true"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("{seed} {flags}", "{sed} {flags}")], "run.command: {sed} is no setting; did you mean seed?"),
        ([("{seed} {flags}", "{seed} {width} {norm}")], "lr: has no place in the command, so it would change nothing"),
        ([("  flags: {norm: [--norm, --no-norm]}\n", "")], "norm: how to spell true and false must be said: `flags:"),
        ([("norm: true", "norm: 3")], "norm: has two spellings in `flags`, so it must be true or false, got 3"),
        ([("{norm: [", "{normal: [")], "run.command: the setting normal of `flags` is nowhere in the grid"),
        ([("{lr: 0.1,", "{lr: 0.1, opt: {lr: 2},")], "opt.lr: would be --lr, as lr is; place one of them: {opt.lr}"),
        ([("{seed} {flags}", "x{flags}")], "run.command: x{flags}: {flags} and {overrides} stand alone"),
        ([("{seed} {flags}", "'{seed} {flags}")], "run.command: No closing quotation"),
        ([("{seed} {flags}", "{seed} { {flags}")], "run.command: Single '{' encountered in format string"),
        ([("python train.py", "python trian.py")], "run.command: no such file: trian.py"),
        ([("python train.py", "pythom train.py")], "run.command: no such program, or not executable: pythom"),
        ([("python train.py", "./train.py")], "run.command: no such program, or not executable: ./train.py"),
        ([("  flags:", "  function: 'a:b'\n  flags:")], "run: says what is run: one of `function` and `command`"),
        ([("  flags:", "  resume: maybe\n  flags:")], "run.resume: must be restart or continue, got maybe"),
        ([("  flags:", "  read: {stdout: '(x'}\n  flags:")], "run.read: must be a pattern of Python's re ("),
        ([("  flags:", "  read: {stdout: 'x'}\n  flags:")], "run.read: must be a pattern that names metrics"),
        ([("  flags:", "  read: {cvs: 'x'}\n  flags:")], "run.read: must be a mapping of one of csv, json"),
    ],
)
def test_what_does_not_fit_is_told(grid: Callable[..., Plan], changes: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(GridError) as error:
        grid(*changes)
    assert message in str(error.value)


def test_seeds_that_cannot_reach_the_script_are_warned_of(grid: Callable[..., Plan]) -> None:
    (warning,) = grid(("--seed {seed} ", "")).warnings
    assert warning.startswith("run.command has no place for {seed}: the 2 seeds of a cell are copies of one run")
    assert not grid().warnings
    assert not grid(("--seed {seed} ", "{settings_file} ")).warnings
    assert not grid(("--seed {seed} ", ""), ("seeds: 2", "seeds: 1")).warnings


# --- results --------------------------------------------------------------------------------------------------------


def test_a_script_is_run_as_it_is_and_its_metrics_are_recorded(grid: Callable[..., Plan]) -> None:
    plan = grid()
    assert run(plan).exit_code == 0
    found = {(row["settings.width"], row["seed"]): row for row in rows(plan)}
    assert {key: float(row["test_rmse"]) for key, row in found.items()} == {
        ("32", "0"): 33.0,
        ("32", "1"): 33.1,
        ("64", "0"): 65.0,
        ("64", "1"): 65.1,
    }
    assert float(found["32", "0"]["dev_rmse"]) == 0.1 + 32 / 2
    assert found["32", "0"]["extra/f1"] == "0.5"
    assert not run(plan).statuses


def test_the_script_and_what_it_imports_make_a_result_stale_unless_code_says_what_does(
    grid: Callable[..., Plan],
) -> None:
    (Path("pack")).mkdir()
    Path("pack/__init__.py").write_text("")
    Path("pack/inner.py").write_text("import far\n")
    Path("far.py").write_text("")
    Path("unused.py").write_text("")
    plan = grid(source="from pack import inner\n" + SCRIPT)
    assert plan.run is not None
    assert list(plan.run.sources()) == ["far.py", "pack/__init__.py", "pack/inner.py", "train.py"]
    plan = grid(("  flags:", "  code: [un*.py]\n  flags:"))
    assert plan.run is not None
    assert list(plan.run.sources()) == ["unused.py"]


def test_nothing_of_the_environment_is_recorded(grid: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret-value")
    plan = grid()
    run(plan)
    for path in Path("results").rglob("*"):
        if path.is_file():
            assert b"secret-value" not in path.read_bytes()


def test_a_missing_metric_stops_the_run_and_names_what_was_seen(grid: Callable[..., Plan]) -> None:
    summary = run(grid(("test_rmse:", "test_mse:")))
    assert "metric test_mse was not reported; reported were test_rmse, extra/f1, dev_rmse" in summary.refused


TOLD = """
import json, os
told = {name: value for name, value in os.environ.items() if name.startswith(("BENCH_", "CUDA_VIS", "PYTHONHASH"))}
settings = json.load(open(os.environ["BENCH_SETTINGS"]))
past = os.path.exists(os.environ["BENCH_FOLDER"] + "/state")
open(os.environ["BENCH_FOLDER"] + "/state", "w").write("x")
json.dump([told, settings, past], open("told.json", "w"))
if not past: raise SystemExit(3)
print(json.dumps({"test_rmse": 1.0, "dev_rmse": 1.0}), file=open(os.environ["BENCH_METRICS"], "a"))
"""


@pytest.mark.parametrize("resume", ["restart", "continue"])
def test_what_a_command_is_told_and_what_it_finds_when_it_is_run_again(grid: Callable[..., Plan], resume: str) -> None:
    plan = grid(("  flags:", f"  resume: {resume}\n  flags:"), source=TOLD)
    one = plan.trials[0].trial_id
    assert run(plan, trial=one).exit_code == 1
    told, settings, past = json.loads(Path("told.json").read_text())
    assert settings == {"settings": {"lr": 0.1, "norm": True, "width": 32}, "seed": 0}
    assert (told["BENCH_SEED"], told["BENCH_DEVICE"], told["CUDA_VISIBLE_DEVICES"]) == ("0", "cpu", "")
    assert "BENCH_RESUME" not in told
    assert not past
    assert run(plan, trial=one).exit_code == (0 if resume == "continue" else 1)
    told, _, past = json.loads(Path("told.json").read_text())
    assert past == (resume == "continue") == (told.get("BENCH_RESUME") == "1")


# --- whatever it may do ---------------------------------------------------------------------------------------------

BAD = """
import argparse, json, os, signal, subprocess, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--how")
how = parser.parse_args().how
if how == "flag": parser.parse_args(["--unknown"])
def child(seconds):
    process = subprocess.Popen(["sleep", str(seconds)], start_new_session=how in ("hang", "leave"))
    open("children.txt", "a").write(f"{process.pid}\\n")
if how == "hang":
    child(300); time.sleep(300)
if how == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN); child(300); time.sleep(300)
if how == "kill":
    child(300); os.kill(os.getpid(), signal.SIGKILL)
if how == "exit":
    print("10 %\\r20 %\\r\\x1b[31mthe last\\x1b[0m \\x07\\0word\\x1b]0;title\\x07"); sys.exit(7)
if how == "memory":
    raise MemoryError
if how == "flood":
    for _ in range(300): sys.stdout.write("x" * 65535 + "\\n")
if how == "leave":
    child(300)
if how == "garbage":
    open(os.environ["BENCH_METRICS"], "w").write("rmse 3\\n")
value = float("nan") if how == "nan" else 2.0
print(json.dumps({"rmse": value}), file=open(os.environ["BENCH_METRICS"], "a"))
"""

FAULTS = """
question: What may a command do?
run: {command: "python train.py {flags}"}
metrics: {rmse: {better: lower}}
factors:
  how: [fine, hang, deaf, kill, exit, memory, flood, leave, garbage, nan, flag, done]
seeds: 1
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_whatever_a_command_does_leaves_a_row_and_no_process(
    grid: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "GRACE_SECONDS", 0.5)
    plan = grid(source=BAD, text=FAULTS)
    assert run(plan, timeout=6).exit_code == 1
    found = {row["settings.how"]: (row["status"], row["error"]) for row in rows(plan)}
    assert {how: status for how, (status, _) in found.items()} == {
        **dict.fromkeys(("fine", "flood", "leave", "done"), "ok"),
        **dict.fromkeys(("kill", "exit", "garbage", "flag"), "error"),
        **{"hang": "timed_out", "deaf": "timed_out", "memory": "out_of_memory", "nan": "diverged"},
    }
    assert found["hang"][1] == found["deaf"][1] == "ran longer than 6 seconds"
    assert found["kill"][1].startswith("the command was ended by SIGKILL")
    assert found["exit"][1] == "the command ended by itself with exit code 7: the last word"
    (log,) = (p for row in rows(plan) if row["settings.how"] == "exit" for p in Path().rglob(f"{row['trial_id']}.log"))
    assert printable(log.read_bytes().decode()) == "the last word\n"
    assert found["flag"][1].endswith("exit code 2: train.py: error: unrecognized arguments: --unknown")
    assert found["garbage"][1] == "ValueError: metrics.jsonl:1: must be a JSON mapping, got b'rmse 3'"
    assert not any(is_alive(int(pid)) for pid in Path("children.txt").read_text().split())
    sizes = [path.stat().st_size for path in Path("results/own/logs").glob("*.log")]
    assert 2 * command.END < max(sizes) < 2 * command.END + 1000
    assert b"bytes left out" in max(Path("results/own/logs").glob("*.log"), key=lambda p: p.stat().st_size).read_bytes()


def test_a_driver_that_is_killed_takes_the_command_with_it_and_nothing_is_lost(grid: Callable[..., Plan]) -> None:
    hang = (
        "import os, time\nif os.path.exists('third'): open('pid.txt', 'w').write(str(os.getpid())); time.sleep(300)\n"
    )
    count = "open('third' if os.path.exists('second') else 'second' if os.path.exists('first') else 'first', 'w')\n"
    plan = grid(source=hang + count + SCRIPT)
    words = [sys.executable, "-m", "bench", "run", "own.yaml", "--device", "cpu", "-j", "1", "--no-time"]
    root = str(Path(command.__file__).parents[3])
    driver = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": root}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not Path("pid.txt").exists() or not Path("pid.txt").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = int(Path("pid.txt").read_text())
    driver.kill()
    driver.wait()
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    before = rows(plan)
    assert len(before) == 3
    Path("third").unlink()
    assert run(plan).exit_code == 0
    assert rows(plan)[:3] == before
    assert len({row["trial_id"] for row in rows(plan)}) == len(rows(plan)) == 4


# --- what was not reported ------------------------------------------------------------------------------------------

SILENT = """
import sys
print("loss: n/a")
open(sys.argv[1] + "/m.csv", "w").write("step,test_rmse,dev_rmse\\n1,n/a,2\\n")
with open(sys.argv[1] + "/m.jsonl", "w") as file:
    for step in (1, 2): print('{"iter": %d, "test_rmse": 3, "dev_rmse": %d}' % (step, step), file=file)
"""


@pytest.mark.parametrize(
    ("read", "message"),
    [
        ("csv: '{folder}/log.csv'", "nothing was reported; the file results/own/files/ID/log.csv is not there"),
        ("json: '{folder}/log.json'", "nothing was reported; there is no file results/own/files/ID/log.json"),
        ("tensorboard: '{folder}'", "nothing was reported; there are no event files below results/own/files/ID"),
        (
            "stdout: 'los: (?P<test_rmse>.*)'",
            "nothing was reported; the pattern of `stdout` matches no line of the output",
        ),
        ("stdout: 'loss: (?P<test_rmse>.*)'", "its value was 'n/a', no number; nothing was reported"),
        ("csv: '{folder}/m.csv'", "its value was 'n/a', no number; reported were dev_rmse"),
        ("jsonl: '{folder}/m.jsonl'", "dev_rmse was reported several times without a step: `at: best` chooses among"),
    ],
)
def test_a_metric_that_does_not_come_is_explained(grid: Callable[..., Plan], read: str, message: str) -> None:
    changes = [("{seed} {flags}", "{folder} {flags}"), ("python train.py --seed", "python train.py")]
    plan = grid(*changes, ("  flags:", f"  read: {{{read}}}\n  flags:"), source=SILENT)
    said = re.sub(r"files/[0-9a-f]{12}", "files/ID", run(plan).refused)
    assert message in said
