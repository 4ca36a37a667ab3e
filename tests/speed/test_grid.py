"""Reading, checking and expanding a grid: 40 trials, and 2,000."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.grid.load import load_plan

pytestmark = pytest.mark.canary("python")
GRID = """
question: Which of these matters?
base:
  data: {name: digits, size: 32}
  model: {name: resnet18, width: 16}
  optimizer: {name: momentum, lr: 0.05}
  train: {epochs: 5}
factors:
  model.residual: [true, false]
  model.batch_norm: [true, false]
  data.batch_size: [32, 64]
seeds: 5
baseline: {model.residual: true, model.batch_norm: true, data.batch_size: 32}
"""


@pytest.mark.parametrize("num_trials", [40, 2000])
@pytest.mark.benchmark(group="expansion of a grid", max_time=1, min_rounds=3)
def test_expansion(benchmark: BenchmarkFixture, tmp_path: Path, num_trials: int) -> None:
    grid = tmp_path / "many.yaml"
    grid.write_text(GRID.replace("seeds: 5", f"seeds: {num_trials // 8}"))
    assert len(benchmark(load_plan, grid).trials) == num_trials


@pytest.mark.benchmark(group="expansion of a grid", max_time=1, min_rounds=3)
def test_expansion_into_many_cells(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """400 cells of one trial each: every cell's settings are checked, which seeds of a cell are not."""
    grid = tmp_path / "many.yaml"
    rates = ", ".join(f"{rate / 1000:g}" for rate in range(1, 51))
    text = GRID.replace("seeds: 5", "seeds: 1").replace("lr: 0.05", "lr: 0.001")
    grid.write_text(text.replace("factors:", f"factors:\n  optimizer.lr: [{rates}]"))
    assert len(benchmark(load_plan, grid).trials) == 400
