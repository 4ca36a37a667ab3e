"""The options of a run that cannot change a result."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Rerun(StrEnum):
    """What a run trains of a plan; each includes those before it."""

    MISSING = "missing"  # what has no result, or was interrupted
    FAILED = "failed"
    STALE = "stale"  # what other source code finished, or rests on other data
    ALL = "all"

    def includes(self, other: Rerun) -> bool:
        order = list(Rerun)
        return order.index(other) <= order.index(self)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Says where, how many at once, how long, and what to do about trials that are recorded already."""

    results: Path = Path("results")
    data_dir: Path | None = None
    device: str = "auto"
    jobs: int | None = None  # trials at once; by default one per card, or one per core
    executor: str = "local"  # a name of bench.execute.executors.EXECUTORS
    executor_options: Any = None  # of the executor's own kind
    timeout: float | None = None  # seconds per trial
    budget: float | None = None  # seconds in which whatever starts is expected to end
    checkpoint: float = 10.0  # seconds between two checkpoints of a trial
    keep: str = "best"  # checkpoints of an ended trial: best, all or none
    fail_fast: bool = False
    trial: str | None = None  # only this one
    rerun: Rerun = Rerun.FAILED
    attempts: int = 3  # a trial that failed so often is left alone, unless all are rerun
