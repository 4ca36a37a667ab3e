"""Cores and memory that this process may use: from files made by hand as the kernel writes them, and from real ones."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import control_groups
import pytest

from lab.limits import cores, kills, memory, whole_memory

MEMINFO = {"meminfo": "MemTotal:       8388608 kB\nMemFree: 1 kB\nMemAvailable:   4194304 kB\n"}
V1 = {"self/cgroup": "4:memory:/a/b\n2:cpu,cpuacct:/a/b\n0::/\n"}
V2 = {"self/cgroup": "0::/a/b\n"}
NONE = 9223372036854771712  # how version 1 says that there is no limit
GIB = 2**30


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def system(folder: Path, proc: Mapping[str, str], groups: Mapping[str, object]) -> tuple[Path, Path]:
    """Folders that stand for /proc and /sys/fs/cgroup."""
    for root, files in (("proc", proc), ("cgroup", groups)):
        for name, text in files.items():
            path = folder / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(text).rstrip() + "\n")
    return folder / "proc", folder / "cgroup"


def v1_quota(folder: str, quota: int, period: int = 100_000) -> dict[str, object]:
    return {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": period}


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("proc", "groups", "expected"),
    [
        ({}, {}, 8),
        (V2, {"a/b/cpu.max": "max 100000", "a/cpu.max": "max 100000"}, 8),
        (V2, {"a/b/cpu.max": "50000 100000"}, 1),
        (V2, {"a/b/cpu.max": "max 100000", "a/cpu.max": "250000 100000"}, 3),
        (V2, {"a/b/cpu.max": "6400000 100000"}, 8),
        (V2, {"cpu.max": "200000 100000"}, 2),  # a container: its own group is the root, the path is the host's
        (V1, v1_quota("cpu/a/b", -1), 8),
        (V1, v1_quota("cpu/a/b", 100_000), 1),
        (V1, {**v1_quota("cpu/a/b", -1), **v1_quota("cpu/a", 150_000)}, 2),
        (V1, v1_quota("cpu", 400_000), 4),
        ({"self/cgroup": "0::/../../other\n"}, {"cpu.max": "100000 100000"}, 1),  # the path leads out of the mount
        ({"self/cgroup": "2:cpu:/a\n0::/\n"}, {**v1_quota("cpu/a", 300_000), "unified/cgroup.procs": ""}, 3),
    ],
)
def test_cores_are_the_affinity_or_the_least_quota_on_the_way_up(
    tmp_path: Path, proc: Mapping[str, str], groups: Mapping[str, object], expected: int
) -> None:
    assert cores(*system(tmp_path, proc, groups)) == expected


def v2_memory(folder: str, limit: object, used: int, cache: int = 0) -> dict[str, object]:
    stat = f"anon 1\nactive_file {cache // 4}\ninactive_file {cache - cache // 4}"
    return {f"{folder}memory.max": limit, f"{folder}memory.current": used, f"{folder}memory.stat": stat}


def v1_memory(folder: str, limit: int, used: int, cache: int = 0) -> dict[str, object]:
    stat = f"inactive_file 0\ntotal_active_file 0\ntotal_inactive_file {cache}"
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    return {f"memory{folder}/{name}": text for name, text in zip(names, (limit, used, stat), strict=True)}


@pytest.mark.parametrize(
    ("proc", "groups", "limit", "free"),
    [
        (MEMINFO, {}, 8, 4),
        (MEMINFO | V2, v2_memory("a/b/", "max", GIB), 8, 4),
        (MEMINFO | V2, v2_memory("a/b/", 2 * GIB, GIB), 2, 1),
        (MEMINFO | V2, v2_memory("a/b/", 2 * GIB, GIB, cache=GIB // 2), 2, 1.5),  # a cache makes room
        (MEMINFO | V2, {**v2_memory("a/b/", "max", GIB), **v2_memory("a/", 3 * GIB, 2 * GIB)}, 3, 1),
        (MEMINFO | V2, v2_memory("", 2 * GIB, 3 * GIB), 2, 0),  # the limit was lowered
        (MEMINFO | V2, v2_memory("a/b/", 16 * GIB, GIB), 8, 4),
        (MEMINFO | V1, v1_memory("/a/b", NONE, GIB), 8, 4),
        (MEMINFO | V1, v1_memory("/a/b", 2 * GIB, GIB, cache=GIB // 2), 2, 1.5),
        (MEMINFO | V1, {**v1_memory("/a/b", NONE, GIB), **v1_memory("", 2 * GIB, GIB)}, 2, 1),
    ],
)
def test_free_memory_is_the_least_of_the_machine_and_each_group(
    tmp_path: Path, proc: Mapping[str, str], groups: Mapping[str, object], limit: float, free: float
) -> None:
    places = system(tmp_path, proc, groups)
    found = memory(*places)
    assert found is not None
    assert (found.limit / GIB, found.free / GIB) == (limit, free)
    assert whole_memory(*places) == limit * GIB


def test_a_system_that_does_not_say_has_no_limit_that_we_know(tmp_path: Path) -> None:
    assert memory(tmp_path, tmp_path) is None
    assert whole_memory(tmp_path, tmp_path) is None
    assert kills(tmp_path, tmp_path) == 0


def test_a_limit_is_told_with_who_sets_it(tmp_path: Path) -> None:
    places = system(tmp_path, MEMINFO | V2, v2_memory("a/", 900 * 2**20, 0))
    assert str(memory(*places)) == "a control group of this process has 900 MiB"


@pytest.mark.parametrize(
    ("proc", "groups"),
    [
        ({"vmstat": "nr_free_pages 5\noom_kill 3"}, {}),
        (V2, {"a/b/memory.events": "low 0\noom 9\noom_kill 3\noom_group_kill 0"}),
        (V1, {"memory/a/b/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3"}),
    ],
)
def test_what_the_system_killed_for_memory_is_counted(
    tmp_path: Path, proc: Mapping[str, str], groups: Mapping[str, object]
) -> None:
    assert kills(*system(tmp_path, proc, groups)) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
@pytest.mark.parametrize(("quota", "expected"), [(0.5, 1), (1, 1)])
def test_the_quota_of_a_real_control_group_is_seen(quota: float, expected: int) -> None:
    try:
        with control_groups.group("cpu", control_groups.cpu_limits(quota)) as group:
            told = control_groups.run_in([group], ["-c", "from lab.limits import cores; print(cores())"])
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    assert (told.stdout, told.stderr) == (f"{expected}\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_the_memory_of_a_real_control_group_is_seen_and_its_kills_are_counted() -> None:
    program = (
        "import subprocess, sys; from lab.limits import kills, memory; before = kills()\n"
        "hungry = [sys.executable, '-c', 'bytearray(200 * 2**20)']\n"
        "print(memory().limit, subprocess.run(hungry).returncode, kills() > before)"
    )
    try:
        with control_groups.group("memory", control_groups.memory_limits(100 * 2**20)) as group:
            told = control_groups.run_in([group], ["-c", program])
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    assert (told.stdout, told.stderr) == (f"{100 * 2**20} -9 True\n", "")
