"""The main job's cells under the kernel's own limits: the same numbers on fewer workers, or out of memory, in words.

With one seed and one epoch, which takes minutes all the same: make check-all.
"""

from __future__ import annotations

import csv
import os
import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import control_groups
import pytest
from torture import NOT_COMPARED

from lab.limits import cores

pytestmark = [
    pytest.mark.places,
    pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's"),
]
GRID = Path(__file__).parents[1] / "grids" / "residual_vs_plain.yaml"
SHORT = ["--seeds", "1", "--set", "train.epochs=1"]
FULL_WIDTH = ["--set", "model.width=64", "--set", "data.size=64", "--set", "data.limit=128"]
FULL_WIDTH += ["--only", "model.batch_norm=true"]
NEED_AND_LIMIT = re.compile(r"held ([\d,]+) MiB; a control group of this process has ([\d,]+) MiB$")
GIGABYTE = 10**9
Row = dict[str, str]


def run_in(folder: Path, groups: list[Path], *words: str) -> tuple[str, list[Row]]:
    """What the run says when it starts to train, and its rows. Threads wait without spinning: tests have company."""
    command = ["-m", "bench", "run", str(GRID), "--results", str(folder), "--no-time", *SHORT, *words]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    ran = control_groups.run_in(groups, command, timeout=1500, env=environment)
    assert (ran.returncode in (0, 1), ran.stderr) == (True, ""), ran.stdout
    with (folder / "residual_vs_plain" / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return next(line for line in ran.stdout.splitlines() if line.startswith("residual_vs_plain: ")), rows


def numbers(rows: list[Row]) -> dict[str, Row]:
    """What does not differ from run to run, by trial."""
    apart = {*NOT_COMPARED, "concurrent_trials"}
    return {row["trial_id"]: {name: text for name, text in row.items() if name not in apart} for row in rows}


@pytest.fixture(scope="module")
def unlimited(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Row]]:
    """The numbers without limits, with so many threads per trial, by what else is asked for."""
    made: dict[tuple[str, ...], dict[str, Row]] = {}

    def ask(threads: str, *words: str) -> dict[str, Row]:
        key = (threads, *words)
        if key not in made:
            folder = tmp_path_factory.mktemp("unlimited")
            made[key] = numbers(run_in(folder, [], "-j", str(max(1, cores() // int(threads))), *words)[1])
        return made[key]

    return ask


def run_limited(folder: Path, controller: str, limits: dict[str, object], *words: str) -> tuple[str, list[Row]]:
    with ExitStack() as stack:
        try:
            group = stack.enter_context(control_groups.group(controller, limits))
        except OSError as error:
            pytest.skip(f"no control group can be made here: {error}")
        return run_in(folder, [group], *words)


def assert_finished_as_without_limits(rows: list[Row], unlimited: Callable[..., dict[str, Row]], *words: str) -> None:
    finished = [row for row in rows if row["status"] != "out_of_memory"]
    expected = unlimited(rows[0]["threads"] or finished[0]["threads"], *words) if finished else {}
    assert numbers(finished) == {row["trial_id"]: expected[row["trial_id"]] for row in finished}


@pytest.mark.parametrize("quota", [0.5, 1])
def test_with_a_quota_of_one_core_or_less_one_worker_finishes_all(
    tmp_path: Path, unlimited: Callable[..., dict[str, Row]], quota: float
) -> None:
    said, rows = run_limited(tmp_path, "cpu", control_groups.cpu_limits(quota))
    assert said == "residual_vs_plain: 8 trials on 1 worker"
    assert [row["status"] for row in rows] == ["ok"] * 8
    assert {row["threads"] for row in rows} == {"1"}
    assert_finished_as_without_limits(rows, unlimited)


@pytest.mark.parametrize("gigabytes", [0.7, 1, 2])
def test_with_little_memory_the_main_job_finishes_on_as_many_workers_as_that_holds(
    tmp_path: Path, unlimited: Callable[..., dict[str, Row]], gigabytes: float
) -> None:
    said, rows = run_limited(tmp_path, "memory", control_groups.memory_limits(int(gigabytes * GIGABYTE)))
    assert said.startswith("residual_vs_plain: 8 trials on ")
    assert gigabytes > 0.7 or said.endswith(" on 1 worker: memory allows no more; -j overrides")
    assert [row["status"] for row in rows] == ["ok"] * 8
    assert_finished_as_without_limits(rows, unlimited)


@pytest.mark.parametrize("gigabytes", [0.7, 2])
def test_what_does_not_fit_is_out_of_memory_with_need_and_limit_and_the_rest_finishes(
    tmp_path: Path, unlimited: Callable[..., dict[str, Row]], gigabytes: float
) -> None:
    """ResNet34 at 64 x 64 and width 64 needs some 800 MB: too much for 0.7 GB, and one at a time in 2 GB."""
    limit = int(gigabytes * GIGABYTE)
    said, rows = run_limited(tmp_path, "memory", control_groups.memory_limits(limit), *FULL_WIDTH)
    assert said == "residual_vs_plain: 4 trials on 1 worker: memory allows no more; -j overrides"
    lacking = [row for row in rows if row["status"] == "out_of_memory"]
    assert all(row["status"] == "ok" for row in rows if row not in lacking)
    assert (len(lacking) > 0, len(rows)) == (gigabytes < 1, 4)
    for row in lacking:
        need_and_limit = NEED_AND_LIMIT.search(row["error"])
        assert need_and_limit, row["error"]
        held, allowed = (int(number.replace(",", "")) for number in need_and_limit.groups())
        assert allowed == round(limit / 2**20)
        assert held > allowed / 2
    assert_finished_as_without_limits(rows, unlimited, *FULL_WIDTH)
