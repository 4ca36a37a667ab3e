"""The outcome of a trial, whoever ran it."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.record.printable import printable
from bench.record.status import Status
from lab.result import Result


@dataclass(frozen=True)
class Outcome:
    """The end of a trial: with a result, or with a status and an error in words."""

    trial_id: str
    status: Status
    error: str | None = None
    result: Result | None = None
    stops_run: bool = False  # no trial of the run can do better: a declared metric is not reported
    node_columns: dict[str, str] = field(default_factory=dict)  # of the row, on a cluster: node, hostname and device

    def __post_init__(self) -> None:
        if self.error is not None:
            object.__setattr__(self, "error", printable(self.error))
