"""The events by which executors report on the trials that they run."""

from __future__ import annotations

from dataclasses import dataclass

from bench.record.outcome import Outcome
from lab.result import Evaluation


@dataclass(frozen=True)
class Started:
    trial_id: str
    worker: int
    node: str = ""  # of a cluster: its name


@dataclass(frozen=True)
class Evaluated:
    trial_id: str
    worker: int
    point: Evaluation


@dataclass(frozen=True)
class Ended:
    worker: int
    outcome: Outcome


@dataclass(frozen=True)
class Lost:
    """A worker's trial ended without an outcome, and why: its node is gone, or its memory. It starts again later."""

    worker: int
    why: str


Event = Started | Evaluated | Ended | Lost
