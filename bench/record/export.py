"""The record for those who look at theirs in TensorBoard or MLflow: a run for each trial, however it ended.

A run has the trial's settings, its measures, its curve by step, and what the record says of it: grid, cell, seed,
status, commit, device. Numbers that are missing or not finite are left out; the status tells why. No torch is needed.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.grid.columns import is_measure
from bench.grid.load import GridError
from bench.record.extras import installation
from bench.record.plan_file import read_plan
from bench.record.records import ENVIRONMENT, IDENTITY, read_curves, read_trials, with_todays_counts
from bench.record.status import Status

NOT_DRAWN = ("trial_id", "step", "epoch", "train_seconds")  # what a point of a curve is known by
MLFLOW_LIMITS = {"metrics": 1000, "params": 100}  # in one call
MLFLOW_TEXT = 5000  # characters of a tag

MLFLOW_STATUSES = {Status.OK: "FINISHED", Status.INTERRUPTED: "KILLED"}


class ExportError(ValueError):
    """The tool is not installed, or refuses the folder."""


@dataclass(frozen=True)
class ExportedRun:
    """A recorded trial in plain words; times in seconds, ``started`` since 1970."""

    trial_id: str
    grid: str
    name: str
    status: Status
    started: float
    ended: float
    settings: dict[str, str]
    tags: dict[str, str]
    measures: dict[str, float]
    curve: list[dict[Any, Any]]


def runs(folder: Path) -> list[ExportedRun]:
    """Reads the recorded trials of a results folder, each by its last row; raises RecordError."""
    points = read_curves(folder).groupby("trial_id")
    curves = {trial_id: curve.to_dict("records") for trial_id, curve in points}
    trials = read_trials(folder)
    if _is_of_laboratory(folder):
        trials = with_todays_counts(trials)
    return [_run(row, curves.get(row["trial_id"], [])) for row in trials.to_dict("records")]


def _is_of_laboratory(folder: Path) -> bool:
    with suppress(GridError):
        return read_plan(folder).run is None
    return False


def _run(row: Mapping[Any, Any], curve: list[dict[Any, Any]]) -> ExportedRun:
    text = {str(name): _text(value) for name, value in row.items()}
    started = 0.0
    with suppress(KeyError, ValueError):  # none is kept, or a spreadsheet wrote it in its own way
        started = datetime.fromisoformat(text["started_at"]).timestamp()
    measures = _finite({name: value for name, value in row.items() if is_measure(str(name))})
    return ExportedRun(
        trial_id=text["trial_id"],
        grid=text["grid"],
        name=f"{text['cell']} seed={text['seed']}",
        status=Status(text["status"]),
        started=started,
        ended=started + measures.get("total_seconds", 0.0),
        settings={name: value for name, value in text.items() if "." in name and value} | {"seed": text["seed"]},
        tags={name: text[name] for name in (*IDENTITY, *ENVIRONMENT) if text.get(name)},
        measures=measures,
        curve=curve,
    )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{value:.15g}"


def _drawn(point: Mapping[Any, Any]) -> dict[str, float]:
    return _finite({name: value for name, value in point.items() if name not in NOT_DRAWN})


def _finite(numbers: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(number) for name, number in numbers.items() if math.isfinite(number)}


# --- TensorBoard ----------------------------------------------------------------------------------------------------


def to_tensorboard(found: Sequence[ExportedRun], target: Path) -> None:
    """Writes an event file per run, in ``target/<grid>/<cell> seed=<seed> <trial_id>``, over one that is there."""
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    for run in found:
        for earlier in (target / run.grid).glob(f"* {run.trial_id}"):
            for file in earlier.glob("events.out.tfevents.*"):
                file.unlink()
            with suppress(OSError):  # it holds what is not ours
                earlier.rmdir()
        label = re.sub(r"[^\w .,=+-]", "_", run.name)[:150]
        writer = EventFileWriter(str(target / run.grid / f"{label} {run.trial_id}"))
        for event in _events(run):
            writer.add_event(event)
        writer.close()


def _events(run: ExportedRun) -> list[Any]:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    def scalars(time: float, step: int, numbers: Mapping[str, float], prefix: str) -> Any:
        values = [Summary.Value(tag=f"{prefix}/{name}", simple_value=number) for name, number in numbers.items()]
        return Event(wall_time=time, step=step, summary=Summary(value=values))

    columns = {name: _plain(value) for name, value in (run.settings | run.tags).items()}
    curve = [scalars(run.started + p["train_seconds"], int(p["step"]), _drawn(p), "curve") for p in run.curve]
    return [
        Event(wall_time=run.started, summary=hparams_pb(columns, run.trial_id, run.started)),
        *curve,
        scalars(run.ended, int(run.measures.get("steps", 0)), run.measures, "trial"),
    ]


def _plain(text: str) -> bool | float | str:
    """Returns a number or switch where the text is one, since the columns of hyperparameters have types."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


# --- MLflow ---------------------------------------------------------------------------------------------------------


def to_mlflow(found: Sequence[ExportedRun], target: Path) -> None:
    """Writes an experiment per grid to the database ``target/mlflow.db``; a run there is kept unless it changed."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # an export tells nobody of itself
    import alembic  # noqa: F401  # with sqlalchemy what mlflow-skinny lacks for a database
    import sqlalchemy  # noqa: F401
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    database = target.resolve() / "mlflow.db"
    if set("?#%") & set(str(database)):
        raise ExportError(f"{database}: ?, # and % have a meaning in a database's address: name another folder")
    target.mkdir(parents=True, exist_ok=True)
    try:
        client = MlflowClient(tracking_uri=f"sqlite:///{database}")
        for run in found:
            _log(client, run, target.resolve() / "artifacts")
    except MlflowException as error:
        raise ExportError(f"{database}: {error}") from error


def _log(client: Any, run: ExportedRun, artifacts: Path) -> None:
    from mlflow.entities import Metric, Param

    experiment = client.get_experiment_by_name(run.grid)
    number = experiment.experiment_id if experiment else _new_experiment(client, run.grid, artifacts)
    tags = {name: value[:MLFLOW_TEXT] for name, value in run.tags.items()}
    for earlier in client.search_runs([number], f"tags.trial_id = '{run.trial_id}'"):
        if earlier.info.status != "RUNNING" and tags.items() <= earlier.data.tags.items():
            return
        client.delete_run(earlier.info.run_id)
    steps, ended = int(run.measures.get("steps", 0)), _milliseconds(run.ended)
    metrics = [Metric(name, value, ended, steps) for name, value in run.measures.items()]
    for point in run.curve:
        time, step = _milliseconds(run.started + point["train_seconds"]), int(point["step"])
        values = _drawn(point)
        metrics += [Metric(f"curve/{name}", value, time, step) for name, value in values.items()]
    params = [Param(name, value) for name, value in run.settings.items()]
    everything: dict[str, list[Any]] = {"metrics": metrics, "params": params}
    run_id = client.create_run(number, _milliseconds(run.started), tags, run.name).info.run_id
    for what, limit in MLFLOW_LIMITS.items():
        for start in range(0, len(everything[what]), limit):
            client.log_batch(run_id, **{what: everything[what][start : start + limit]})
    client.set_terminated(run_id, MLFLOW_STATUSES.get(run.status, "FAILED"), ended)


def _new_experiment(client: Any, grid: str, artifacts: Path) -> str:
    return client.create_experiment(grid, artifact_location=(artifacts / grid).as_uri())


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


# --- both -----------------------------------------------------------------------------------------------------------

TOOLS: dict[str, Callable[[Sequence[ExportedRun], Path], None]] = {"tensorboard": to_tensorboard, "mlflow": to_mlflow}


def look(tool: str, target: Path) -> str:
    """Returns what to type to see the runs."""
    if tool == "mlflow":
        return shlex.join(["mlflow", "ui", "--backend-store-uri", f"sqlite:///{target}/mlflow.db"])
    return shlex.join(["tensorboard", "--logdir", str(target)])


def export(folders: Sequence[Path], tool: str, target: Path) -> int:
    """Writes what the results folders record for ``tool``; returns the number of runs. Raises :class:`ExportError`."""
    found = [run for folder in folders for run in runs(folder)]
    try:
        TOOLS[tool](found, target)
    except ModuleNotFoundError as error:
        how = installation(tool) or f"pip install {error.name}"
        raise ExportError(f"--to {tool}: needs the package {error.name}: {how}") from error
    return len(found)
