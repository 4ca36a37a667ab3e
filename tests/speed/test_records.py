"""Recording one ended trial, flushed and synced to the disk, in a record of 10 rows and of 100,000."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.record.records import CORRECT, CURVE, ENVIRONMENT, IDENTITY, MEASURES, Records
from lab.result import Evaluation

pytestmark = pytest.mark.canary("python")
SETTINGS = [f"model.setting_{index}" for index in range(20)]
CORRECT_BITS = np.packbits(np.arange(10_000) % 7 > 0).tobytes()
CURVE_POINTS = [
    Evaluation(100 * epoch, float(epoch), 0.25, 2.5 * epoch, {"dev_accuracy": 0.9, "dev_loss": 0.3})
    for epoch in range(6)
]


def record(folder: Path, num_rows: int) -> Records:
    """A record of so many trials, each with a curve of six points; the bits of test images are left out."""
    records = Records(folder)
    columns = [*IDENTITY, *SETTINGS, *MEASURES, *ENVIRONMENT]
    for table, header, cells, each in (
        (records.trials, columns, ["ok", *["0.123456789"] * (len(columns) - 2)], 1),
        (records.curves, CURVE, ["0.123456789"] * (len(CURVE) - 1), len(CURVE_POINTS)),
        (records.correct, CORRECT, ["10000", ""], 1),
    ):
        with table.path.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows([f"{row:012x}", *cells] for row in range(num_rows) for _ in range(each))
    return records


@pytest.mark.parametrize("num_rows", [10, 100_000])
@pytest.mark.benchmark(group="append of one trial", max_time=1, min_rounds=20)
def test_append(benchmark: BenchmarkFixture, tmp_path: Path, num_rows: int) -> None:
    records = record(tmp_path, num_rows)
    row = {"trial_id": "f" * 12, "status": "ok", "seed": 0} | dict.fromkeys([*SETTINGS, *MEASURES], 0.123456789)
    benchmark(records.append, row, SETTINGS, CURVE_POINTS, CORRECT_BITS, 10_000)
    with records.trials.path.open() as file:
        assert sum(1 for _ in file) > num_rows + (20 if benchmark.enabled else 1)


@pytest.mark.parametrize("num_rows", [100, 10_000])
@pytest.mark.benchmark(group="reading which trials are recorded", max_time=1, min_rounds=3)
def test_outcomes(benchmark: BenchmarkFixture, tmp_path: Path, num_rows: int) -> None:
    """What a second run reads to know what is missing."""
    assert len(benchmark(record(tmp_path, num_rows).outcomes)) == num_rows
