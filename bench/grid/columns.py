"""The columns of a row of ``trials.csv``: the one list that record, hypotheses, tables and export read.

Between identity and measures a row has its settings, by their dotted paths. A trial has the measures that it reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.grid.metrics import lab_metrics

Kind = Literal["identity", "measure", "environment", "attempt"]


@dataclass(frozen=True)
class Column:
    """``source``: whether the trial's place in the plan, what it reported, its machine or the driver tells it."""

    name: str
    kind: Kind
    source: Literal["plan", "result", "machine", "driver"]
    is_number: bool = False


COMPILE_ERROR = "compile_error"  # why a network that was to be compiled ran as it is
ATTEMPTS = "attempts"  # how often this code has tried the trial, those not counted that were interrupted
DIGESTS = ("train_digest", "dev_digest", "test_digest")  # what the data are, per split

COLUMNS = (
    *(Column(name, "identity", "plan") for name in ("trial_id", "grid", "cell")),
    *(Column(name, "identity", "result") for name in ("status", "error")),
    Column("seed", "identity", "plan", is_number=True),
    *(Column(name, "measure", "result", is_number=True) for name in lab_metrics()),
    Column("device", "environment", "machine"),
    Column("device_name", "environment", "machine"),
    Column("threads", "environment", "machine", is_number=True),
    Column("concurrent_trials", "environment", "driver", is_number=True),
    Column("precision", "environment", "plan"),
    *(Column(name, "environment", "machine") for name in ("torch_version", "python_version")),
    *(Column(name, "environment", "driver") for name in ("git_commit", "git_dirty")),
    *(Column(name, "environment", "result") for name in ("source_fingerprint", "hostname", "started_at", "node")),
    *(Column(name, "environment", "result") for name in DIGESTS),
    Column(ATTEMPTS, "attempt", "driver", is_number=True),
    Column(COMPILE_ERROR, "attempt", "result"),
)


KNOWN = {column.name for column in COLUMNS}
MEASURE_NAMES = {column.name for column in COLUMNS if column.kind == "measure"}
NUMBERS = {column.name for column in COLUMNS if column.is_number}


def is_measure(name: str) -> bool:
    """Tells whether a column holds what a trial measured: one of the list, or any without a dot."""
    return name in MEASURE_NAMES or ("." not in name and name not in KNOWN)


def is_number(name: str) -> bool:
    """Tells whether a column holds numbers."""
    return name in NUMBERS or is_measure(name)


def names(*kinds: Kind) -> list[str]:
    """Returns the columns of these kinds, in the order of the file."""
    return [column.name for column in COLUMNS if column.kind in kinds]
