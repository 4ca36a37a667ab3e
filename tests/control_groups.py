"""Control groups for tests: real ones where root may make them, and files that look like them where not.

A real group is made below the one that the tests run in, so that whatever limits these limits it, too; it is removed
at the end.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


def own_group(controller: str) -> Path | None:
    """The folder of this process's group of version 1, or of version 2 where that has the controller."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        root = GROUPS / controller if controller in names.split(",") else GROUPS if not names else None
        folder = root and root / path.lstrip("/")
        if folder and folder.is_dir() and (names or controller in (folder / "cgroup.subtree_control").read_text()):
            return folder
    return None


@contextlib.contextmanager
def group(controller: str, limits: Mapping[str, object]) -> Iterator[Path]:
    """A real group with these limits; raises OSError where it cannot be made."""
    parent = own_group(controller)
    if parent is None:
        raise OSError(f"no control group for {controller} of which this process could make one below")
    folder = parent / f"ablation-bench-test-{os.getpid()}"
    folder.mkdir()
    try:
        for name, value in limits.items():
            (folder / name).write_text(str(value))
        yield folder
    finally:
        for _ in range(200):  # what ran in it is gone a moment after it was waited for
            with contextlib.suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.05)


def cpu_limits(num_cores: float) -> dict[str, object]:
    quota = int(num_cores * 100_000)
    parent = own_group("cpu")
    if parent is not None and (parent / "cpu.cfs_period_us").exists():
        return {"cpu.cfs_period_us": 100_000, "cpu.cfs_quota_us": quota}
    return {"cpu.max": f"{quota} 100000"}


def memory_limits(num_bytes: int) -> dict[str, object]:
    parent = own_group("memory")
    version_1 = parent is not None and (parent / "memory.limit_in_bytes").exists()
    return {"memory.limit_in_bytes" if version_1 else "memory.max": num_bytes}


def run_in(groups: Sequence[Path], command: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Runs a Python command in the groups, and whatever it starts."""
    enter = "import os, sys\nfor group in sys.argv[1].split(':'): open(group + '/cgroup.procs', 'w').write('0')\n"
    enter += "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    words = [sys.executable, "-c", enter, ":".join(map(str, groups)), *command]
    return subprocess.run(words, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
