"""One trial to run, as an executor gets it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    trainable: str = "lab"  # a name of bench.execute.trainables.TRAINABLES

    @property
    def runs_user_code(self) -> bool:
        return any(import_paths(self.settings))
