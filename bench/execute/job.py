"""One trial to run, as an executor gets it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.grid.metrics import Metric
from bench.grid.own import Run
from lab.imports import import_paths


@dataclass(frozen=True)
class Job:
    """A trial as plain data, and what cannot change its result."""

    trial_id: str
    settings: dict[str, Any]
    folder: Path  # the results folder of the grid
    data_dir: Path | None = None
    checkpoint_seconds: float = 10.0
    keep: str = "best"  # checkpoints once it has ended: best, all or none
    working_dir: Path = Path()  # where relative paths start and import paths are looked for
    is_fresh: bool = False  # what an earlier attempt left of it is removed first
    digests: dict[str, str] = field(default_factory=dict)  # of its data, as the run found them
    run: Run | None = None  # training code of the user's own; None: the laboratory
    timeout: float | None = None  # seconds, of a command: it is asked to end before it is killed
    metrics: tuple[Metric, ...] = ()  # that such code is to report, the primary one first

    @property
    def trainable(self) -> str:
        """A name of bench.execute.trainables.TRAINABLES."""
        return "lab" if self.run is None else self.run.name

    @property
    def late_seconds(self) -> float:
        """How long it may take beyond the time limit: a command is asked to end first, and ended by its worker."""
        return 15.0 if self.trainable == "command" else 0.0

    @property
    def runs_user_code(self) -> bool:
        return self.trainable == "function" or (self.run is None and any(import_paths(self.settings)))
