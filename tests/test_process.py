"""Every trial starts from the same state of the process, and leaves the process as it found it."""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lab import Settings, run_trial
from lab.process import FLAGS, KEPT, kept_generators, starting_state, unseeded
from lab.result import Result

NETS = '''
import os, random
import numpy as np
import torch
from torch import nn

class Coin(nn.Module):
    """Skips a block at random while training, by a coin of its own."""

    def __init__(self, in_channels, num_classes, size, coin="numpy"):
        super().__init__()
        self.first = nn.Linear(in_channels * size * size, 16)
        self.block = nn.Linear(16, 16)
        self.head = nn.Linear(16, num_classes)
        self.coin = coin

    def forward(self, X):
        h = self.first(X.flatten(1)).relu()
        draw = {"numpy": np.random.rand, "python": random.random, "torch": lambda: torch.rand(()).item()}[self.coin]()
        if not (self.training and draw < 0.5):
            h = h + self.block(h).relu()
        return self.head(h)
'''


def polluted() -> None:
    """What trials leave behind, all of it."""
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_grad_enabled(False)
    torch.autograd.set_detect_anomaly(True)
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("medium")
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.enabled = False
    torch.backends.mkldnn.enabled = False
    torch.set_autocast_enabled("cpu", True)
    torch.set_autocast_enabled("cuda", True)
    backends: Any = torch.backends
    if hasattr(backends, "fp32_precision"):  # beside the older way's switches, of which torch tells none any more
        backends.mkldnn.matmul.fp32_precision = "ieee"
        backends.cudnn.conv.fp32_precision = "ieee"
    np.seterr(all="raise")
    os.environ["LEFT_BEHIND"] = "1"
    os.environ.pop("HOME", None)
    sys.path.insert(0, "/nowhere")
    sys.argv.append("--left")
    os.chdir("/")
    warnings.simplefilter("always")


def standing() -> dict[str, Any]:
    """Everything that a trial puts back, and the generators' next numbers."""
    with kept_generators():
        numbers = [torch.rand(1).item(), random.random(), np.random.rand()]
    return {str(i): get() for i, (get, _) in enumerate(KEPT)} | {
        "generators": numbers,
        "arguments": list(sys.argv),
        "filters": list(warnings.filters),
    }


def test_what_a_trial_changes_is_put_back() -> None:
    before = standing()
    with starting_state(0):
        polluted()
        random.seed(1)
    assert standing() == before


def test_a_trial_starts_from_the_same_state_whatever_stood_there() -> None:
    with starting_state(7):
        fresh = standing()
    with starting_state(0):  # so that this test puts back what it changes
        pass
    before = [get() for get, _ in KEPT]
    try:
        polluted()
        with starting_state(7):
            flags = [flag.get() for flag in FLAGS]
            found = standing()
    finally:
        sys.argv.pop()
        for (_, put), value in zip(KEPT, before, strict=True):
            put(value)
    assert flags == [flag.start for flag in FLAGS]
    assert found["generators"] == fresh["generators"]
    assert len(found["arguments"]) == 1, "user code that reads a command line sees none"


def test_streams_differ_by_seed_and_generator() -> None:
    drawn = []
    for seed in range(3):
        with starting_state(seed):
            drawn += [torch.rand(1).item(), random.random(), np.random.rand()]
    assert len(set(drawn)) == 9


def test_within_a_trial_what_a_module_set_on_import_holds() -> None:
    with starting_state(0):
        torch.set_default_dtype(torch.float64)
        first = random.random()
        with starting_state(0):
            assert torch.get_default_dtype() == torch.float64
            assert random.random() == first
        assert torch.get_default_dtype() == torch.float64
    assert torch.get_default_dtype() == torch.float32


def test_reading_data_draws_afresh_and_disturbs_no_stream() -> None:
    with starting_state(3):
        before = standing()["generators"]
        found = []
        for _ in range(2):
            with unseeded():
                found += [torch.rand(1).item(), random.random(), np.random.rand()]
        assert standing()["generators"] == before
    assert len(set(found)) == 6


def coin(kind: str, **train: Any) -> Settings:
    return Settings.parse(
        {
            "data": {"name": "digits", "limit": 200},
            "model": {"name": "coins:Coin", "coin": kind},
            "optimizer": {"name": "sgd", "lr": 0.1},
            "train": {"epochs": 2, **train},
        }
    )


def losses(result: Result) -> list[Any]:
    return [(point.step, point.scores["dev_loss"], point.scores["dev_accuracy"]) for point in result.curve]


@pytest.mark.parametrize("kind", ["numpy", "python", "torch"])
def test_an_unseeded_generator_of_a_network_gives_the_same_numbers_each_time(
    workshop: Callable[[str, str], None], tmp_path: Path, kind: str
) -> None:
    workshop("coins", NETS)
    whole = run_trial(coin(kind), device="cpu")
    np.random.seed(99)
    random.seed(99)
    torch.manual_seed(99)
    assert losses(run_trial(coin(kind), device="cpu")) == losses(whole)
    asked = iter(range(1, 1000))
    checkpoints = tmp_path / "checkpoints"
    stopped = run_trial(coin(kind), device="cpu", checkpoint_dir=checkpoints, should_stop=lambda: next(asked) == 4)
    assert stopped.status == "interrupted"
    assert losses(run_trial(coin(kind), device="cpu", checkpoint_dir=checkpoints)) == losses(whole)
    other = run_trial(coin(kind).with_seed(1), device="cpu")
    assert losses(other) != losses(whole)


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for label, kind in enumerate(("bright", "dark")):
            folder = tmp_path / "pictures" / part / kind
            folder.mkdir(parents=True)
            for i in range(16):
                pixels = (rng.integers(0, 120, (8, 8)) + 120 * (1 - label)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return {
        "data": {"name": "image_folder", "path": str(tmp_path / "pictures"), "batch_size": 4},
        "model": {"name": "mlp", "hidden": [16], "dropout": 0.5},
        "optimizer": {"name": "sgd", "lr": 0.05},
        "train": {"epochs": 2},
    }


def test_streaming_evaluations_and_a_resume_leave_the_networks_own_stream_alone(
    pictures: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lab.data.loading import _splits

    settings = Settings.parse(pictures)
    often = Settings.parse(pictures | {"train": {"epochs": 2, "eval_every": 1}})
    in_memory = run_trial(settings, device="cpu")
    _splits.cache_clear()
    monkeypatch.setattr("lab.device.fits", lambda num_bytes, device: False)
    last = in_memory.curve[-1]
    assert losses(run_trial(settings, device="cpu")) == losses(in_memory)
    assert run_trial(often, device="cpu").curve[-1].scores["dev_loss"] == last.scores["dev_loss"]
    asked = iter(range(1, 1000))
    run_trial(settings, device="cpu", checkpoint_dir=tmp_path / "c", should_stop=lambda: next(asked) == 9)
    assert losses(run_trial(settings, device="cpu", checkpoint_dir=tmp_path / "c")) == losses(in_memory)
    _splits.cache_clear()
