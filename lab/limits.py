"""Finds what this process may use of the machine: cores and memory, as affinity and control groups leave them.

Control groups nest, and a limit holds for all below it: each is read from the process's own group up to the root. A
container sees its own group as the root, or finds under ``/proc/self/cgroup`` a path that only the host has: what is
not there is left out. joblib counts cores likewise, of the root alone: a Slurm step or a systemd service has its quota
further down.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC, GROUPS, SHARED = Path("/proc"), Path("/sys/fs/cgroup"), Path("/dev/shm")
NO_LIMIT = 2**60  # version 1 writes a number near 2**63 where there is no limit


@dataclass(frozen=True)
class Memory:
    """Says how many bytes there are and how many are free, and of what: the machine or a control group."""

    limit: int
    free: int
    of: str

    def __str__(self) -> str:
        return f"{self.of} has {mebibytes(self.limit)}"


def mebibytes(num_bytes: float) -> str:
    """Writes ``900 MiB``, or ``12.5 GiB`` from 10 GiB on."""
    return f"{num_bytes / 2**20:,.0f} MiB" if num_bytes < 10 * 2**30 else f"{num_bytes / 2**30:,.1f} GiB"


def cores(proc: Path = PROC, groups: Path = GROUPS) -> int:
    """Counts the cores that this process may use: its affinity, or the least quota of its groups, rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _quotas(proc, groups))]))


def _quotas(proc: Path, groups: Path) -> Iterator[float]:
    for folder in _folders("cpu", proc, groups):
        quota, period = [*_words(folder / "cpu.max"), "", ""][:2]
        if not quota:
            quota, period = ("".join(_words(folder / f"cpu.cfs_{what}_us")) for what in ("quota", "period"))
        if quota.isdigit() and period.isdigit() and int(quota) and int(period):  # "max" and -1 are none
            yield int(quota) / int(period)


def memory(proc: Path = PROC, groups: Path = GROUPS) -> Memory | None:
    """Finds where the least is free: the machine or a group of this process; None where the system does not say."""
    return min(_memories(proc, groups), key=lambda one: one.free, default=None)


def whole_memory(proc: Path = PROC, groups: Path = GROUPS) -> int | None:
    """Returns the bytes that this process may use at most, whatever is in use; None where the system does not say."""
    return min((one.limit for one in _memories(proc, groups)), default=None)


def _memories(proc: Path, groups: Path) -> Iterator[Memory]:
    machine = _counts(proc / "meminfo")
    if "MemTotal" in machine:
        total = machine["MemTotal"] * 1024
        yield Memory(total, machine.get("MemAvailable", total // 1024) * 1024, "the machine")
    for folder in _folders("memory", proc, groups):
        found = _group_memory(folder, groups)
        if found is not None:
            yield found


def _group_memory(folder: Path, groups: Path) -> Memory | None:
    """Reads the limit of a control group, and what is free under it: the cache of files makes room when needed."""
    for limit_name, used_name, prefix in (
        ("memory.max", "memory.current", ""),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    ):
        limit, used = (" ".join(_words(folder / name)) for name in (limit_name, used_name))
        if limit.isdigit() and used.isdigit() and int(limit) < NO_LIMIT:
            stat = _counts(folder / "memory.stat")
            cache = sum(stat.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))
            free = max(0, int(limit) - max(0, int(used) - cache))
            return Memory(int(limit), free, "a control group of this process")
    return None


def kills(proc: Path = PROC, groups: Path = GROUPS) -> int:
    """Counts the processes that the system has killed for want of memory, on the machine and in this process's groups.

    A container may not see what the machine counts, nor the machine what an old container counts: where the sum has
    grown, one of them saw a kill.
    """
    counted = _counts(proc / "vmstat").get("oom_kill", 0)
    for folder in _folders("memory", proc, groups):
        for name in ("memory.events", "memory.oom_control"):
            counted += _counts(folder / name).get("oom_kill", 0)
    return counted


def has_shared_memory(num_bytes: int, folder: Path = SHARED) -> bool:
    """Tells whether each trial that may run at once can share so many bytes; a container often has 64 MB in all."""
    return not folder.is_dir() or num_bytes * cores() <= shutil.disk_usage(folder).free


def peak_bytes(process: int | str = "self", proc: Path = PROC) -> int | None:
    """Returns the most memory that a process has held, in bytes; None where the system does not say, or it is gone."""
    peak = _counts(proc / str(process) / "status").get("VmHWM")
    return None if peak is None else peak * 1024


def _folders(controller: str, proc: Path, groups: Path) -> Iterator[Path]:
    """Yields the folders of this process's control groups for a controller: from its own up to the root."""
    paths = [line.split(":", 2) for line in _text(proc / "self/cgroup").splitlines()]
    for root, path in [
        *((groups / controller, path) for _, names, path in paths if controller in names.split(",")),
        *((place, path) for _, names, path in paths if not names for place in (groups, groups / "unified")),
    ]:
        inner = Path(path.lstrip("/"))
        for part in (inner, *inner.parents) if ".." not in inner.parts else (Path(),):
            if (root / part).is_dir():
                yield root / part


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _counts(path: Path) -> dict[str, int]:
    """The lines ``name 12`` and ``name: 12 kB`` of a file, by name."""
    pairs = (line.split() for line in _text(path).splitlines())
    return {one[0].rstrip(":"): int(one[1]) for one in pairs if len(one) > 1 and one[1].isdigit()}


def _text(path: Path) -> str:
    """Reads a file of the system; nothing where it is not there, or not for us to read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
