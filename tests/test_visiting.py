"""The driver never runs a line of the user's code: what it knows of a part was read in a process of its own."""

import builtins
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import lab.visiting
from bench.grid.load import GridError, load_plan
from lab.parts import settings_type
from lab.settings import Settings
from lab.visiting import asked, is_asked, visiting

GRID = """
question: Does it matter?
base:
  data: {name: digits, limit: 40}
  model: {name: "%s:Net"}
  optimizer: {name: sgd, lr: 0.1}
  train: {epochs: 1}
factors: {model.width: [4, 8]}
seeds: 1
"""

NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, in_channels, num_classes, size, width: int = 4):
        super().__init__(nn.Flatten(), nn.Linear(in_channels * size * size, width), nn.Linear(width, num_classes))
"""

HOSTILE = """
import atexit, builtins, json, os, pickle, signal, sys, threading, time

def broken(*given, **named):
    raise RuntimeError("replaced")

json.dumps = json.loads = pickle.dumps = builtins.open = print = broken
atexit.register(os._exit, 5)
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.environ["LEFT_BY_IMPORT"] = "1"
sys.excepthook = broken
threading.Thread(target=time.sleep, args=(600,)).start()
"""


def write(folder: Path, name: str, code: str) -> Path:
    (folder / f"{name}.py").write_text(code)
    (folder / f"{name}.yaml").write_text(GRID % name)
    return folder / f"{name}.yaml"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_a_module_replaces_on_import_never_reaches_the_driver(tmp_path: Path) -> None:
    before = json.dumps, builtins.open, signal.getsignal(signal.SIGINT), sys.excepthook, threading.active_count()
    plan = load_plan(write(tmp_path, "hostile_net", HOSTILE + NET))
    assert [trial.settings.flat()["model.width"] for trial in plan.trials] == [4, 8]
    assert "hostile_net" not in sys.modules
    after = json.dumps, builtins.open, signal.getsignal(signal.SIGINT), sys.excepthook, threading.active_count()
    assert after == before
    assert "LEFT_BY_IMPORT" not in os.environ


def test_a_run_with_such_a_module_trains_and_ends_with_the_exit_code_of_the_harness(tmp_path: Path) -> None:
    write(tmp_path, "hostile_run", HOSTILE + NET)
    words = ["-m", "bench", "run", "hostile_run.yaml", "--results", "out", "--no-time", "--device", "cpu"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 ok" in done.stdout


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("import os; os._exit(7)", "it ended the process with exit code 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "it ended the process by SIGKILL"),
        ("import os\nif os.fork(): os._exit(3)\nimport time; time.sleep(60)", "it ended the process with exit code 3"),
        ("import os; os.closerange(3, 256); os._exit(4)", "it ended the process"),
        ("raise KeyboardInterrupt", "it ended the process with exit code 1"),
        ("import os; assert os.read(0, 9), 'nobody types'", "AssertionError: nobody types"),
        ("print('no licence'); raise SystemExit(2)", "no licence"),
    ],
)
def test_a_module_that_ends_its_process_on_import_is_named_and_says_how(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(GridError, match="cannot import ending") as caught:
        load_plan(write(tmp_path, "ending", line + "\n" + NET))
    assert told in str(caught.value)


def test_both_ways_of_a_fork_on_import_give_one_answer(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path, "forking", "import os\nos.fork()\n" + NET))
    assert len(plan.trials) == 2


RICH = """
import dataclasses, enum, math
from pathlib import Path
from typing import Literal, NamedTuple
from torch import nn

class Act(enum.Enum):
    RELU = "relu"
    GELU = "gelu"

class Pair(NamedTuple):
    a: int = 1
    b: float = 2.0

class Word(str):
    pass

@dataclasses.dataclass
class Norm:
    kind: str = "batch"
    eps: float = 1e-5
    def __post_init__(self):
        if self.kind == "boom":
            raise RuntimeError("no such norm")

class Net(nn.Module):
    '''A network with every kind of default.'''
    def __init__(self, num_classes, act: Act = Act.RELU, norm: Norm = Norm(), pair: Pair = Pair(), top=math.inf,
                 sides=(1, (2, 3)), word=Word("w"), where=Path("a/b"), mode: Literal["x", "y"] = "x",
                 made=nn.ReLU, cut=None, bins: dict[str, int] = {"a": 1}, *, needed: int, **more):
        super().__init__()
"""


def plainly(settings: Settings) -> str:
    return json.dumps(settings.model_dump(mode="json"), sort_keys=True)


def raw(**model: object) -> dict[str, object]:
    return {
        "data": {"name": "digits"},
        "model": {"name": "richly:Net", "needed": 3, **model},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "train": {"epochs": 1},
    }


GIVEN: list[dict[str, object]] = [
    {},
    {"act": "GELU"},
    {"act": "relu"},
    {"norm": {"eps": 1}},
    {"pair": [3, 4]},
    {"sides": [[5], 6], "top": 2, "word": "v", "where": "c", "mode": "y", "cut": 1, "bins": {"b": 2}, "other": [1]},
]


def test_settings_checked_elsewhere_are_those_that_the_imported_part_gives(tmp_path: Path) -> None:
    """Every default, spelling and identity: what decides is the same code, on either side of the pipe."""
    write(tmp_path, "richly", RICH)
    with visiting():
        there = [Settings.parse(raw(**given)) for given in GIVEN]
        kind = settings_type("model", "richly:Net")
        assert "richly" not in sys.modules
    lab.visiting._answers.clear()
    here = [Settings.parse(raw(**given)) for given in GIVEN]
    assert "richly" in sys.modules
    assert [plainly(one) for one in there] == [plainly(one) for one in here]
    assert [one.trial_id for one in there] == [one.trial_id for one in here]
    assert kind.signature == settings_type("model", "richly:Net").signature
    assert kind.__doc__ == "A network with every kind of default."


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"act": "tanh"}, "model.act: must be RELU or GELU, got 'tanh'"),
        ({"norm": {"esp": 1}}, "model.norm.esp: no such field of Norm; did you mean eps?"),
        ({"norm": {"kind": "boom"}}, "RuntimeError: no such norm (rich2.py, line 24)"),
        ({"needed": "3"}, "model.needed: must be integer, got '3'"),
    ],
)
def test_what_does_not_fit_is_told_as_ever(tmp_path: Path, given: dict[str, object], told: str) -> None:
    write(tmp_path, "rich2", RICH)
    model = json.dumps({"name": "rich2:Net", "needed": 3, **given})
    grid = (GRID % "rich2").replace('{name: "rich2:Net"}', model).replace("model.width: [4, 8]", "optimizer.lr: [1, 2]")
    (tmp_path / "rich2.yaml").write_text(grid)
    with pytest.raises(GridError) as caught:
        load_plan(tmp_path / "rich2.yaml")
    assert told in str(caught.value)
    assert "rich2" not in sys.modules


def here(path: str) -> str:
    return f"{path} in {os.getpid()}"


def test_outside_of_a_visit_this_process_answers_and_within_one_another_once() -> None:
    assert not is_asked(here, "a:b")
    assert asked(here, "a:b") == f"a:b in {os.getpid()}"
    with visiting():
        assert is_asked(here, "a:b")
        first = asked(here, "a:b")
        assert first != f"a:b in {os.getpid()}"
    assert asked(here, "a:b") == first  # kept
    with visiting():
        assert asked(here, "a:b") != first  # looked at again


def test_where_a_card_is_in_use_a_fork_could_not_import_what_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert len(load_plan(write(tmp_path, "with_card", NET)).trials) == 2
    assert "with_card" in sys.modules


def test_without_fork_user_code_is_imported_here_and_what_can_be_put_back_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "fork")
    code = (
        "import os, sys\nos.environ['LEFT_BY_IMPORT'] = '1'\nos.chdir('/')\nassert len(sys.argv) == 1\nprint('loud')\n"
    )
    assert len(load_plan(write(tmp_path, "forkless", code + NET)).trials) == 2
    assert "forkless" in sys.modules
    assert "LEFT_BY_IMPORT" not in os.environ
    assert Path.cwd() == tmp_path
