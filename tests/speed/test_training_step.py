"""One training step on one thread of the CPU: forward, backward, Adam and the Runner around them."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from lab.data import load_data
from lab.measure import count_macs, count_parameters
from lab.settings import Settings
from lab.trial import batches, make_runner

SIZE, BATCH_SIZE = 32, 64
CPU = torch.device("cpu")
PRECISIONS = {"mlp": ["float32"], "lenet": ["float32", "bfloat16"], "resnet18": ["float32", "bfloat16"]}
CASES = [(model, precision) for model, precisions in PRECISIONS.items() for precision in precisions]


@pytest.mark.parametrize(("name", "precision"), CASES)
@pytest.mark.benchmark(max_time=1, min_rounds=5, warmup=True, warmup_iterations=2)
def test_training_step(benchmark: BenchmarkFixture, name: str, precision: str) -> None:
    settings = Settings.parse(
        {
            "data": {"name": "digits", "size": SIZE, "batch_size": BATCH_SIZE},
            "model": {"name": name},
            "optimizer": {"name": "adam", "lr": 0.001},
            "train": {"epochs": 1, "precision": precision},
        }
    )
    splits = load_data(settings.data, CPU)
    runner = make_runner(settings, splits, CPU)
    X, y = next(iter(batches(settings, splits, "train")))
    before = [parameter.clone() for parameter in runner.model.parameters()]
    benchmark.group = "training step"
    benchmark.extra_info |= {
        "model": name,
        "batch_size": BATCH_SIZE,
        "precision": precision,
        "size": SIZE,
        "work": "train",
        "parameters": count_parameters(runner.model),
        "computed_macs": count_macs(runner.model, 1, SIZE).computed,
    }
    runner.model.train()

    benchmark(runner.step, X, y)

    assert any(not torch.equal(a, b) for a, b in zip(before, runner.model.parameters(), strict=True))
