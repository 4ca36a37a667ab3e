"""Parts of packages are tried before a run: what their settings break is refused at its line, and nothing else is."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.cli.options import CommandError
from lab.settings import Settings
from lab.tryout import doubts, fault

SCHEDULE, OPTIMIZER, LOSS = "torch.optim.lr_scheduler", "torch.optim", "torch.nn"
METRIC = "torchmetrics"
RAW: dict[str, Any] = {
    "data": {"name": "digits", "limit": 60, "batch_size": 20},
    "model": {"name": "mlp", "hidden": [4]},
    "optimizer": {"name": "momentum", "lr": 0.1},
    "train": {"epochs": 2},
}


def schedule(name: str, **own: object) -> dict[str, Any]:
    return {"schedule": {"name": f"{SCHEDULE}:{name}", **own}}


def optimizer(name: str, **own: object) -> dict[str, Any]:
    return {"optimizer": {"name": f"{OPTIMIZER}:{name}", "lr": 0.1, **own}}


def loss(name: str, **own: object) -> dict[str, Any]:
    return {"train": {"epochs": 2, "loss": {"name": f"{LOSS}:{name}", **own}}}


def metric(name: str, **own: object) -> dict[str, Any]:
    return {"train": {"epochs": 2, "metric": {"mine": {"name": f"{METRIC}:{name}", **own}}}}


def found(changes: dict[str, Any]) -> str | None:
    """What is refused, if made-up numbers and the network's own agree that something is."""
    raw = Settings.parse(RAW | changes).model_dump()
    problem = fault(raw, "cpu", None) if doubts([raw], None) else None
    return None if problem is None else str(problem)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (schedule("ChainedScheduler", schedulers=[]), "schedule.schedulers: * with schedulers []* ValueError: "),
        (schedule("LambdaLR", lr_lambda=0.9), "schedule.lr_lambda: * with lr_lambda 0.9* TypeError: "),
        (schedule("StepLR", step_size=0), "schedule.step_size: * with step_size 0* ZeroDivisionError: "),
        (schedule("OneCycleLR", max_lr=1, total_steps=3), "schedule.total_steps: ** ValueError: Tried to step 4"),
        (optimizer("Adam", betas=[1.5, 0.9]), "optimizer.betas: * with lr 0.1, betas [1.5, 0.9]* ValueError: "),
        (optimizer("SGD", momentum=-1), "optimizer.momentum: * with lr 0.1, momentum -1.0* Value"),
        (optimizer("SparseAdam"), "optimizer.name: * with lr 0.1* RuntimeError: SparseAdam does not support"),
        (
            loss("CrossEntropyLoss", reduction="none"),
            "train.loss: * with reduction 'none': * must return the mean loss",
        ),
        (loss("CrossEntropyLoss", reduction="sum"), "train.loss: * with reduction 'sum': * returned the sum over it"),
        (
            loss("NLLLoss", reduction="avg"),
            "train.loss.reduction: * with reduction 'avg'* ValueError: avg is not",
        ),
        (loss("MSELoss"), "train.loss: ** RuntimeError: The size of tensor a (10) must match"),
    ],
)
def test_what_a_part_of_a_package_cannot_do_is_refused(changes: dict[str, Any], says: str) -> None:
    told, at = found(changes) or "", 0
    for words in says.split("*"):
        at = told.find(words, at)
        assert at >= 0, (words, told)


@pytest.mark.parametrize(
    ("own", "says"),
    [
        (
            {"task": "multiclass", "num_classes": 10, "average": None},
            "must return a number, returned a tensor of shape",
        ),
        ({"task": "multiclass", "num_classes": 10, "top_k": 11}, "train.metric.top_k: torchmetrics:Accuracy with"),
        ({"task": "binary"}, "RuntimeError: Predictions and targets are expected to have the same shape"),
    ],
)
def test_what_a_metric_of_torchmetrics_cannot_do_is_refused(own: dict[str, Any], says: str) -> None:
    if importlib.util.find_spec("torchmetrics") is None:
        pytest.skip("torchmetrics is not installed")
    assert says in str(found(metric("Accuracy", **own)))


@pytest.mark.parametrize(
    "changes",
    [
        schedule("OneCycleLR", max_lr=0.2),
        schedule("ReduceLROnPlateau", mode="max", patience=0),
        schedule("CosineAnnealingWarmRestarts", T_0=2, per="step"),
        optimizer("LBFGS"),
        loss("CrossEntropyLoss", label_smoothing=0.1, ignore_index=3),
        loss("MultiMarginLoss"),
    ],
)
def test_what_works_is_not_doubted(changes: dict[str, Any]) -> None:
    assert not doubts([Settings.parse(RAW | changes).model_dump()], None)


def test_the_networks_own_numbers_have_the_last_word(workshop: Callable[[str, str], None]) -> None:
    workshop(
        "matrices",
        "from torch import nn\n"
        "def net(in_channels, num_classes, size, bias=False):\n"
        "    width = in_channels * size * size\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(width, num_classes, bias=bias))\n",
    )
    for bias, refused in ((False, False), (True, True)):  # torch's Muon takes matrices alone
        raw = Settings.parse(RAW | optimizer("Muon") | {"model": {"name": "matrices:net", "bias": bias}}).model_dump()
        assert doubts([raw], None) == [0]
        assert (fault(raw, "cpu", None) is not None) is refused


OWN = """
from torch import nn

class Focal(nn.CrossEntropyLoss):
    def __init__(self, gamma: float = 2.0):
        if gamma < 0:
            raise ValueError("must be positive")
        super().__init__()

class Broken(nn.CrossEntropyLoss):
    def __init__(self):
        raise KeyError("its own fault")

class Each(nn.CrossEntropyLoss):
    def __init__(self, gamma: float = 2.0):
        super().__init__(reduction="none")

def summed(logits, labels):
    return nn.functional.cross_entropy(logits, labels, reduction="sum")

def mean(logits, labels):
    return nn.functional.cross_entropy(logits, labels)
"""


def test_a_loss_of_ones_own_that_is_a_sum_is_refused(workshop: Callable[[str, str], None]) -> None:
    workshop("own_losses", OWN)
    told = str(found({"train": {"epochs": 1, "loss": "own_losses:summed"}}))
    assert "own_losses:summed must return the mean loss of the batch, returned the sum over it" in told
    assert found({"train": {"epochs": 1, "loss": "own_losses:mean"}}) is None


def test_of_ones_own_code_what_the_grid_gives_it_is_tried_and_no_more(workshop: Callable[[str, str], None]) -> None:
    workshop("own_losses", OWN)
    told = found({"train": {"epochs": 1, "loss": {"name": "own_losses:Focal", "gamma": -1}}})
    assert told is not None
    says = "train.loss: own_losses:Focal with gamma -1.0 fails when it is tried: ValueError: must be positive"
    assert told.startswith(says)
    assert "own_losses.py, line 7" in told
    for left in ("own_losses:Broken", {"name": "own_losses:Each", "gamma": 3}):  # the trial tells
        assert found({"train": {"epochs": 1, "loss": left}}) is None


METRICS = """
class Hits:
    better = "higher"
    def __init__(self):
        self.hits = self.total = 0
    def reset(self):
        pass
    def update(self, logits, labels):
        self.hits += int((logits.argmax(1) == labels).sum())
        self.total += len(labels)
    def compute(self):
        return self.hits / self.total

class Forgetful(Hits):
    def reset(self):
        self.__init__()

class Noisy(Forgetful):
    calls = 0
    def compute(self):
        Noisy.calls += 1
        return super().compute() + 0.01 * Noisy.calls

class Broken(Hits):
    def compute(self):
        raise KeyError("its own fault")
"""


def test_a_metric_whose_reset_forgets_nothing_is_refused(workshop: Callable[[str, str], None]) -> None:
    workshop("own_scores", METRICS)
    told = found({"train": {"epochs": 1, "metric": "own_scores:Hits"}})
    assert told is not None
    assert "own_scores:Hits.reset() must forget what was added before: own_scores:Hits.compute() gives 0." in told
    for name in ("Forgetful", "Noisy", "Broken"):
        assert found({"train": {"epochs": 1, "metric": f"own_scores:{name}"}}) is None


def test_a_run_stops_before_training_at_the_line_of_the_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rates.yaml").write_text(
        "question: Which?\n"
        "base:\n"
        "  data: {name: digits, limit: 60, batch_size: 20}\n"
        "  model: {name: mlp, hidden: [4]}\n"
        "  optimizer: {name: momentum, lr: 0.1}\n"
        "  train: {epochs: 1}\n"
        "factors:\n"
        "  schedule:\n"
        "    none: {name: constant}\n"
        f"    steps: {{name: '{SCHEDULE}:StepLR', step_size: 0}}\n"
        "seeds: 1\n"
    )
    done = CliRunner().invoke(app, ["run", "rates.yaml", "--results", "out", "-j", "1"], env={"COLUMNS": "160"})
    assert isinstance(done.exception, CommandError)
    says = str(done.exception)
    line = Path("rates.yaml").read_text().splitlines()[9]
    place = f"rates.yaml:10:{line.index('0}') + 1}: schedule.step_size: "
    why = "fails when it is tried: ZeroDivisionError: integer modulo by zero"
    assert says == f"{place}{SCHEDULE}:StepLR with step_size 0 {why}"
    assert not Path("out/rates/trials.csv").exists()
