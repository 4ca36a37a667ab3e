"""``timings.csv``: each distinct model, batch size and precision of a grid, timed alone on the device."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.execute.processes import call_in_child
from bench.execute.trainables.lab import LAB
from bench.grid.plan import Plan
from bench.record.table import Table, encoded, last_of
from bench.record.timings import read_timings
from lab.limits import cores
from lab.result import Environment, Timing
from lab.settings import Settings, timing_id

TIMED = [name for name in Timing.__dataclass_fields__ if name not in ("timing_id", "environment")]
ENVIRONMENT = list(Environment.__dataclass_fields__)
COLUMNS = ["timing_id", "model", "precision", "optimizer", *TIMED, *ENVIRONMENT, "measured_at"]
SAME = ("timing_id", "device", "device_name", "threads", "torch_version", "hostname")


def untimed(plan: Plan, folder: Path, *, force: bool = False) -> dict[str, Settings]:
    """Returns what the plan holds and ``timings.csv`` lacks, by ``timing_id``; with ``force``, all that it holds."""
    distinct = {timing_id(trial.lab): trial.lab for trial in plan.trials if plan.run is None}
    known = set() if force else {row["timing_id"] for row in read_timings(folder)}
    return {key: settings for key, settings in distinct.items() if key not in known}


def time_models(
    wanted: Mapping[str, Settings],
    folder: Path,
    *,
    device: str = "auto",
    data_dir: Path | None = None,
    seconds: float | None = None,
) -> list[dict[str, Any]]:
    """Times models and records them; nothing else may run on the machine meanwhile. Returns the rows added.

    With ``seconds`` it takes no longer, and leaves out the models that do not fit and those without a steady machine.
    A row replaces the one of the same model on the same device. Raises OSError or ValueError where timing fails.
    """
    raw = [settings.model_dump() for settings in wanted.values()]
    until = None if seconds is None else time.time() + seconds
    timings: list[Timing] = call_in_child(LAB.time, raw, device, cores(), data_dir, until)
    if not timings:
        return []
    rows = [_row(timing, wanted[timing.timing_id]) for timing in timings]
    folder.mkdir(parents=True, exist_ok=True)
    added = [encoded(row) for row in rows]
    Table(folder / "timings.csv").rewrite(lambda before: last_of(SAME, [*before, *added]), COLUMNS)
    return rows


def _row(timing: Timing, settings: Settings) -> dict[str, Any]:
    return {
        **{name: value for name, value in vars(timing).items() if name != "environment"},
        **asdict(timing.environment),
        "model": settings.model.name,
        "precision": settings.train.precision,
        "optimizer": settings.optimizer.name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
