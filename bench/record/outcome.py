"""How a trial ended, whoever ran it."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.record.status import Status
from lab.result import Result


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: with a result, or with a status and an error in words."""

    trial_id: str
    status: Status
    error: str | None = None
    result: Result | None = None
    stops_run: bool = False  # no trial of the run can do better: a declared metric is not reported
    where: dict[str, str] = field(default_factory=dict)  # columns of the row: on a cluster node, hostname and device
