"""Forward pass of every model on one thread of the CPU: seconds per batch of 32 x 32 grey images.

Run by ``pytest tests/speed``. Parameters and multiply-accumulates per image stand in the head of each table, and as
columns in the table of models at the end; with ``--benchmark-json`` they are beside each time as ``extra_info``.
"""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from lab.device import autocast
from lab.measure import count_macs, count_parameters
from lab.networks import MODELS, build_model
from lab.settings import ModelSettings, parse_section

SIZE = 32
CPU = torch.device("cpu")
CASES = [
    (name, batch_size, precision)
    for name in MODELS
    for precision in (["float32", "bfloat16"] if name in ("lenet", "resnet18") else ["float32"])
    for batch_size in (1, 16, 64)
]


@pytest.mark.parametrize(("name", "batch_size", "precision"), CASES)
@pytest.mark.benchmark(max_time=0.5, min_rounds=3, warmup=True, warmup_iterations=2)
def test_forward(benchmark: BenchmarkFixture, name: str, batch_size: int, precision: str) -> None:
    settings = parse_section("model", {"name": name})
    assert isinstance(settings, ModelSettings)
    torch.manual_seed(0)
    model = build_model(settings, in_channels=1, num_classes=10, size=SIZE).eval()
    X = torch.randn(batch_size, 1, SIZE, SIZE)
    parameters, macs = count_parameters(model), count_macs(model, 1, SIZE).computed
    benchmark.group = f"{name}, {parameters:,} parameters, {macs:,} multiply-accumulates per image"
    benchmark.extra_info |= {
        "model": name,
        "batch_size": batch_size,
        "precision": precision,
        "size": SIZE,
        "work": "forward",
        "parameters": parameters,
        "computed_macs": macs,
    }

    @torch.inference_mode()
    def forward() -> torch.Tensor:
        with autocast(CPU, precision):
            return model(X)

    assert benchmark(forward).shape == (batch_size, 10)
