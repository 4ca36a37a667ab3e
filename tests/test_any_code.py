"""Any code at all: a trial is right, or refused in words; what is recorded can be read and is the same again.

``ANY_CODE=5000 pytest tests/test_any_code.py`` tries so many examples, others each time.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import any_code
import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch.nn.functional import cross_entropy

from bench.analysis.findings import gather
from bench.execute.options import Options
from bench.execute.progress import Progress
from bench.execute.run import run
from bench.grid.load import GridError, load_plan
from bench.grid.plan import Plan
from bench.record.records import Records
from lab.data import load_data
from lab.device import autocast
from lab.outputs import on_logits
from lab.trial import batches, make_runner

EXAMPLES = int(os.environ.get("ANY_CODE", 0))
HERE = Path(__file__).parent
OURS = ("/lab/", "/bench/")


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    """The usual value as often as all others, so that most examples are unusual in few ways."""
    return st.one_of(st.just(usual), st.just(usual), st.sampled_from([usual, *others]))


LOSSES = ["mean", "each", "float", "none", "of_one", "pair", "detached", "nan", "negative", "writes", "complex", "sum"]
SCORES = [
    *["float", "tensor", "array", "many", "none", "nan", "text", "bool", "complex", "inf", "raises", "decimal", "list"],
    *["fraction", "mapping", "huge", "whole", "one", "array_of_one", "float16", "with_gradient", "itself", "masked"],
    *["asserts", "stops"],
]
GRIDS = st.fixed_dictionaries(
    {
        "data": st.fixed_dictionaries(
            {
                "name": st.just("any_code:data"),
                "shape": mostly(
                    *["features", "images", "last", "grey", "signals", "thin", "wide", "one_pixel", "volume"],
                    "one_feature",
                ),
                "labels": mostly(
                    *["plain", "from_one", "gaps", "strings", "one_hot", "column", "floats", "negative", "bool"],
                    *["tensor", "list", "int8", "uint64", "float32", "series", "category", "objects", "mixed"],
                    *["bytes", "dates", "nan", "soft", "masked", "complex", "large"],
                ),
                "pixels": mostly(
                    *["float32", "float64", "float16", "uint8", "int16", "int64", "bool", "tensor", "list", "object"],
                    *["fortran", "reversed", "read_only", "big_endian", "masked", "frame", "texts", "with_gradient"],
                    *["bfloat16", "huge"],
                ),
                "spoilt": mostly("none", "nan", "constant", "short", "none_at_all"),
                "train": mostly(24, 1, 2, 3, 7, 33),
                "classes": mostly(3, 1, 2, 5),
                "batch_size": mostly(8, 1, 3, 100),
            }
        ),
        "model": st.fixed_dictionaries(
            {
                "name": st.just("any_code:Net"),
                "width": mostly(4, 1, 2),
                "norm": mostly("none", "batch", "layer", "untracked", "average", "group", "lazy"),
                "dtype": mostly("float32", "float64", "bfloat16", "float16", "complex64"),
                "output": mostly(
                    *["tensor", "tuple", "dict", "named", "axis", "none", "text", "training_alone", "nan", "one"],
                    *["too_many", "dataclass", "mapped", "nested", "list", "two", "evaluation_alone", "numpy"],
                    *["float64", "int", "half_batch", "in_place", "strided", "sparse"],
                ),
                "state": mostly(
                    *["none", "buffer", "frozen", "all_frozen", "tied", "float64", "python", "raises", "weight_norm"],
                    *["orthogonal", "spectral", "bool_buffer", "complex_buffer", "not_saved", "hook", "gradient_hook"],
                    *["lock", "extra", "unused", "empty", "scalar", "by_hand", "first_pass"],
                ),
                "dropout": mostly(0.0, 0.5),
            }
        ),
        "optimizer": mostly(
            {"name": "sgd", "lr": 0.1},
            {"name": "adam", "lr": 0.01},
            {"name": "sgd", "lr": 1e30},
            {"name": "adamw", "lr": 0.1},
            *({"name": f"torch.optim:{name}", "lr": 0.01} for name in ("LBFGS", "Adagrad", "Rprop", "RAdam", "NAdam")),
        ),
        "train": st.fixed_dictionaries(
            {"epochs": st.just(1)},
            optional={
                "loss": st.sampled_from(LOSSES).map(lambda gives: {"name": "any_code:loss", "gives": gives}),
                "clip_norm": st.just(0.5),
                "eval_every": st.just(2),
                "precision": st.just("bfloat16"),
                "label_smoothing": st.just(0.1),
                "metric": st.sampled_from(SCORES).map(lambda gives: {"name": "any_code:Score", "gives": gives}),
            },
        ),
    }
)


@pytest.fixture(autouse=True)
def _place(workshop: Callable[[str, str], None]) -> None:
    """A working folder that has the module; the same for all examples."""
    workshop("any_code", (HERE / "any_code.py").read_text(encoding="utf-8"))


@settings(
    max_examples=EXAMPLES or 12,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # an example of a grid is short enough as it is
)
@given(base=GRIDS)
@pytest.mark.filterwarnings("ignore")  # of torch about users' types and shapes
def test_a_trial_of_any_code_is_right_or_refused_in_words(base: dict[str, Any]) -> None:
    place = Path(tempfile.mkdtemp(dir=Path.cwd()))
    try:
        grid = {"question": "Right?", "base": base, "factors": {"model.width": [base["model"]["width"]]}, "seeds": 1}
        (place / "any.yaml").write_text(yaml.safe_dump(grid))
        try:
            plan = load_plan(place / "any.yaml")
            run(plan, options(place / "once"), Progress(Console(file=io.StringIO()), ["bench"]))
        except (GridError, ValueError, OSError) as refusal:
            assert_words(str(refusal))
            event("refused before training")
            return
        row = recorded(plan, place / "once")
        event(row["status"])
        gather(place / "once" / plan.name)
        if row["status"] == "ok":
            assert_right(plan, place / "once", row)
            run(plan, options(place / "again"), Progress(Console(file=io.StringIO()), ["bench"]))
            assert numbers(recorded(plan, place / "again")) == numbers(row)
        else:
            assert_words(row["error"])
            assert_not_ours(place / "once" / plan.name / "logs" / f"{row['trial_id']}.log")
    finally:
        shutil.rmtree(place)


def options(results: Path) -> Options:
    return Options(results=results, device="cpu", executor="inline", jobs=1, keep="best", attempts=1)


def recorded(plan: Plan, results: Path) -> dict[str, str]:
    (row,) = Records(results / plan.name, plan.selecting).trials.rows()
    return row


def numbers(row: dict[str, str]) -> dict[str, str]:
    """Everything but clocks and memory."""
    return {name: value for name, value in row.items() if not re.search("second|memory|started_at|attempts", name)}


def assert_words(message: str) -> None:
    assert len(message.split()) >= 3, message
    assert "Traceback" not in message


def assert_not_ours(log: Path) -> None:
    """The failure is the user's own, or was raised in words: no statement of ours stumbled over what it got."""
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    frames = re.findall(r'File "([^"]+)", line \d+, in .+\n\s+(.+)', text.rpartition("Traceback")[2])
    known = [(file, line) for file, line in frames if "site-packages" not in file and "/lib/python" not in file]
    known = [(file, line) for file, line in known if line != "out = func(*args, **kwargs)"]  # of a dispatch mode
    if known and any(room in known[-1][0] for room in OURS) and "any_code" not in known[-1][0]:
        assert known[-1][1].startswith(("raise ", "return self._call_impl")), text


def assert_right(plan: Plan, results: Path, row: dict[str, str]) -> None:
    """The recorded accuracy is that of the weights that were kept, counted here; of a loss, that it is finite."""
    if "test_accuracy" not in row or not row["test_accuracy"]:
        assert np.isfinite(float(row["test_loss"]))
        return
    (trial,) = plan.trials
    splits = load_data(trial.settings.data, torch.device("cpu"), None)
    model = make_runner(trial.settings, splits, torch.device("cpu")).model
    best = torch.load(results / plan.name / "checkpoints" / trial.trial_id / "best.pt", weights_only=False)
    model.load_state_dict(best.get("weights", best))
    right = total = 0
    model.eval()
    with torch.no_grad(), autocast(torch.device("cpu"), trial.settings.train.precision):
        for X, y in batches(trial.settings, splits, "test"):
            right += int((any_code.logits_in(model(X)).argmax(1) == y).sum())
            total += len(y)
    assert float(row["test_accuracy"]) == pytest.approx(right / total, abs=1e-6)


@pytest.mark.parametrize("shape", [(), (3,), (3, 2, 1), (4, 2)])
def test_what_is_no_logits_is_refused_with_its_shape(shape: tuple[int, ...]) -> None:
    labels = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=re.escape("the network must return logits of shape (3, 2)")):
        on_logits(cross_entropy, 2)(torch.zeros(shape), labels)
