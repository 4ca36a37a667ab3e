"""The protocol of training code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bench.execute.job import Job
from bench.record.outcome import Outcome
from lab.result import Evaluation


class Trainable(Protocol):
    """Runs one trial, in whatever process it is called. What it raises becomes the trial's outcome.

    Where it can, it also has ``identify`` (what the data are), asked before any trial, ``inspect`` (what a model costs)
    and ``time`` (a model alone on the device); what it lacks is left out, and said.
    """

    def run(
        self,
        job: Job,
        device: str,
        on_evaluation: Callable[[Evaluation], None],
        should_stop: Callable[[], bool],
    ) -> Outcome: ...

    def devices(self, device: str) -> list[str]: ...
