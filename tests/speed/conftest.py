"""What every speed test stands on: one thread, a canary beside each benchmark, a table of models at the end.

A canary is a fixed piece of work, timed before and after each benchmark. What is compared with a baseline is the
benchmark's time divided by its canary's, so that a slower machine, or a busier one, slows both. ``extra_info`` of the
JSON holds the canary's seconds. Tests of code that does without torch are marked ``canary("python")``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

CANARY_CALLS = 15
MODELS = pytest.StashKey[list[dict[str, Any]]]()  # what is known of each benchmark that has a model


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "canary(name): what the time of a benchmark is divided by, matmul or python")
    config.stash[MODELS] = []


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def canary(request: pytest.FixtureRequest, one_thread: None) -> Iterator[None]:
    """Times the canary before and after the test, and keeps the fastest call in the benchmark's ``extra_info``."""
    benchmark: BenchmarkFixture = request.getfixturevalue("benchmark")
    marker = request.node.get_closest_marker("canary")
    work = CANARIES[marker.args[0] if marker else "matmul"]()
    seconds = [_seconds(work) for _ in range(CANARY_CALLS)]
    yield
    seconds += [_seconds(work) for _ in range(CANARY_CALLS)]
    benchmark.extra_info["canary_seconds"] = min(seconds)
    if "model" in benchmark.extra_info and benchmark.stats:
        request.config.stash[MODELS].append(benchmark.extra_info | {"seconds": benchmark.stats.stats.median})


def _matmul() -> Callable[[], object]:
    """A matrix product of 384 x 384."""
    a = torch.ones(384, 384)
    out = torch.empty_like(a)
    return lambda: torch.mm(a, a, out=out)


def _python() -> Callable[[], object]:
    """A document of 300 small mappings to JSON text and back."""
    document = [{"name": str(i), "values": [i, i / 3, None]} for i in range(300)]
    return lambda: json.loads(json.dumps(document))


CANARIES = {"matmul": _matmul, "python": _python}


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The benchmarks that have a model, with its size; pytest-benchmark's own table has no room for columns."""
    rows = config.stash[MODELS]
    if not rows:
        return
    columns = ["model", "batch_size", "precision", "work", "parameters", "computed_macs"]
    columns += ["median ms", "images/s", "GFLOP/s"]
    table = [columns]
    for row in rows:
        rate = row["batch_size"] / row["seconds"]
        flops = 2 * row["computed_macs"] * rate * (3 if row["work"] == "train" else 1)
        known = [f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for name in columns[:6]]
        table.append([*known, f"{1e3 * row['seconds']:.3f}", f"{rate:,.0f}", f"{flops / 1e9:.1f}"])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    terminalreporter.section("models")
    for line in table:
        terminalreporter.write_line("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
