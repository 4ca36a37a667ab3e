"""Runs trials on a node of a Ray cluster, in an actor for one at a time. Ray is imported only where it is used.

It holds the resources of one trial and runs a :class:`bench.execute.local.LocalExecutor` of one worker: whatever
holds there (failures as outcomes, time limits, stopping, a warm worker) holds here.
"""

from __future__ import annotations

import io
import os
import socket
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from filelock import FileLock

from bench.execute.events import Ended, Evaluated, Started
from bench.execute.executor import Executor
from bench.execute.job import Job
from bench.execute.local import LocalExecutor
from bench.execute.preload import OF_LAB
from bench.execute.processes import call_in_child, warm_up
from bench.execute.ray.storage import Storage
from bench.execute.trainables import TRAINABLES
from bench.record.outcome import Outcome
from lab.result import Evaluation

LOG_BYTES = 2**20  # of a trial's log, its end is brought to the driver


@dataclass(frozen=True)
class SlotLocation:
    """The location of a slot, as the columns of a row, and why it cannot be used, if it cannot."""

    node: str
    hostname: str
    device: str = ""
    problem: str | None = None

    @property
    def name(self) -> str:
        return f"{self.hostname} {self.node[:6]}"

    @property
    def columns(self) -> dict[str, str]:
        return {"node": self.node, "hostname": self.hostname, "device": self.device}


@dataclass(frozen=True)
class NodeRequirements:
    """The requirements on every node, and the settings of a slot there: plain data that crosses to it."""

    device: str
    threads: int
    timeout: float | None
    data: tuple[Mapping[str, Any], ...] = ()  # data sets, as settings
    data_dir: Path | None = None
    sent: tuple[str, Any] | None = None  # digest of the packed data sets, and where Ray keeps them
    storage: str | None = None
    token: str = ""  # of the storage, as the driver sees it
    torch_version: str = ""
    own: str = ""  # the trainable of own code: a node needs no torch for it
    ahead: tuple[str, ...] = OF_LAB  # modules that the node's server process imports


class SlotActor:
    """A Ray actor that runs one trial at a time, in a worker process on its node."""

    def __init__(self, requirements: NodeRequirements) -> None:
        import ray

        self._requirements, self._data_dir = requirements, requirements.data_dir
        self._storage: Storage | None = None
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._node = ray.get_runtime_context().get_node_id()[:12]
        # Worker processes are spared what Ray's own main module imports.
        if hasattr(main := sys.modules["__main__"], "__file__"):
            del main.__file__

    def ready(self) -> SlotLocation:
        """Makes the node's data set folder and checks that a trial can run; a problem is told in words."""
        location = SlotLocation(self._node, socket.gethostname())
        try:
            device = self._prepare()
        except (ValueError, OSError) as error:
            return replace(location, problem=f"node {location.name}: {error}")
        self._executor = self._make_executor(device)
        self._events = self._executor.run(iter(self._jobs.get, None))
        return replace(location, device=device)

    def _prepare(self) -> str:
        requirements = self._requirements
        if requirements.storage is not None:
            self._storage = Storage(requirements.storage)
            if self._storage.token() != requirements.token:
                raise ValueError(f"--storage {requirements.storage} is another folder here than at the driver")
        if requirements.sent is not None:
            self._data_dir = unpack(*requirements.sent)
        warm_up(requirements.ahead)
        if requirements.own:
            return TRAINABLES[requirements.own].devices(requirements.device)[0]
        version, devices = call_in_child(
            inspect_node, requirements.device, [dict(data) for data in requirements.data], self._data_dir
        )
        if without_build(version) != without_build(requirements.torch_version):
            raise ValueError(f"has torch {version}, the driver {requirements.torch_version}: they must be the same")
        return str(devices[0])

    def _make_executor(self, device: str) -> Executor:
        return LocalExecutor([device], self._requirements.threads, self._requirements.timeout)

    def run(self, job: Job) -> Iterator[Evaluation | tuple[Outcome, str]]:
        """Yields a job's evaluations, then its outcome with its log; nothing where it was asked to stop before."""
        with tempfile.TemporaryDirectory(prefix="ablation-bench-") as scratch:
            yield from self._run_in(Path(scratch), job)

    def _run_in(self, folder: Path, job: Job) -> Iterator[Evaluation | tuple[Outcome, str]]:
        trial, checkpoints = f"{job.folder.name}/{job.trial_id}", folder / "checkpoints" / job.trial_id
        notes = self._carry("forget", trial) if job.is_fresh else self._carry("fetch", trial, checkpoints)
        self._jobs.put(replace(job, folder=folder, data_dir=self._data_dir, working_dir=Path.cwd()))
        for event in self._events:
            if not isinstance(event, Started):
                notes += self._carry("store", trial, checkpoints)
            if isinstance(event, Evaluated):
                yield event.point
            if isinstance(event, Ended):
                yield event.outcome, notes + end_of(folder / "logs" / f"{job.trial_id}.log")
                return

    def _carry(self, way: str, trial: str, *folder: Path) -> str:
        """Checkpoints from or to the storage, if there is one; a failure does not end the trial, it is noted."""
        if self._storage is None:
            return ""
        try:
            getattr(self._storage, way)(trial, *folder)
        except OSError as error:
            return f"{self._storage.address}: checkpoint not carried ({way}): {error}\n"
        return ""

    def stop(self) -> None:
        self._executor.stop()


def inspect_node(device: str, data: Sequence[Mapping[str, Any]], data_dir: Path | None) -> tuple[str, list[str]]:
    """Finds torch's version and the devices, where torch may be imported; ValueError says what is missing."""
    try:
        import torch

        from lab.trial import prepare
    except ImportError as error:
        raise ValueError(
            f"lacks what a trial needs ({error}): install this package there as at the driver, pip install '.[ray]'"
        ) from error
    return str(torch.__version__), prepare(device, data, data_dir)


def without_build(version: str) -> str:
    """Returns ``2.13.0+cpu`` without ``+cpu``."""
    return version.partition("+")[0]


def end_of(log: Path) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LOG_BYTES))
        return file.read().decode(errors="replace")


def unpack(digest: str, reference: Any) -> Path:
    """Returns the folder of the data sets on this node; the first slot that asks fetches and unpacks them."""
    folder = Path(tempfile.gettempdir()) / f"ablation-bench-data-{os.getuid()}" / digest
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            import ray

            aside = folder.with_suffix(".part")
            with zipfile.ZipFile(io.BytesIO(ray.get(reference[0]))) as archive:
                archive.extractall(aside)
            aside.rename(folder)
    return folder
