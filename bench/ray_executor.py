"""The grid on a Ray cluster: Ray places, transports and knows the nodes; here stands only what a trial needs.

A slot is an actor that holds the resources of one trial and runs a :class:`bench.executors.LocalExecutor` of one worker
on its node: whatever holds there (failures as outcomes, time limits, stopping, a warm worker) holds here. Its events
stream back to the driver, who alone writes records. Ray is imported only where it is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import platform
import re
import socket
import sys
import tempfile
import time
import zipfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from filelock import FileLock

from bench.executors import (
    POLL_SECONDS,
    STOP_SECONDS,
    Ended,
    Evaluated,
    Event,
    Executor,
    LocalExecutor,
    Lost,
    Started,
    call_in_child,
)
from bench.storage import Storage
from bench.worker import Job, Outcome
from lab.result import Evaluation

START_SECONDS = 60  # so long may nodes take to say that they are ready, before the first trial
GROW_SECONDS = 3  # how long a node that joined may go unnoticed
GRACE_SECONDS = STOP_SECONDS + 7  # after a request to stop: for the last checkpoint to reach the storage
MOST_LOSSES = 3  # a trial whose slots were lost so often is an error: it may be what kills them
LOG_BYTES = 2**20  # of a trial's log, its end is brought to the driver
# What a built-in data set consists of, in a torchvision root.
DATA_FILES = {
    "mnist": ["MNIST"],
    "fashion_mnist": ["FashionMNIST"],
    "kmnist": ["KMNIST"],
    "emnist": ["EMNIST"],
    "cifar10": ["cifar-10-batches-py"],
    "cifar100": ["cifar-100-python"],
    "svhn": ["train_32x32.mat", "test_32x32.mat"],
}


@dataclass(frozen=True)
class Place:
    """Where a slot is, as the columns of a row, and why it cannot be used, if it cannot."""

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
class Needs:
    """What every node must have, and how a slot there is made: plain data that crosses to it."""

    device: str
    threads: int
    timeout: float | None
    data: tuple[Mapping[str, Any], ...] = ()  # data sets, as settings
    data_dir: Path | None = None
    sent: tuple[str, Any] | None = None  # digest of the packed data sets, and where Ray keeps them
    storage: str | None = None
    token: str = ""  # of the storage, as the driver sees it
    torch_version: str = ""


# --- on a node ------------------------------------------------------------------------------------------------------


class Slot:
    """The actor: one trial at a time, in a worker process on its node."""

    def __init__(self, needs: Needs) -> None:
        import ray

        self._needs, self._data_dir = needs, needs.data_dir
        self._storage: Storage | None = None
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._node = ray.get_runtime_context().get_node_id()[:12]
        # Worker processes are spared what Ray's own main module imports.
        if hasattr(main := sys.modules["__main__"], "__file__"):
            del main.__file__

    def ready(self) -> Place:
        """Makes the node's data set folder and checks that a trial can run; a problem is told in words."""
        place = Place(self._node, socket.gethostname())
        try:
            device = self._prepare()
        except (ValueError, OSError) as error:
            return replace(place, problem=f"node {place.name}: {error}")
        self._executor = self._make_executor(device)
        self._events = self._executor.run(iter(self._jobs.get, None))
        return replace(place, device=device)

    def _prepare(self) -> str:
        needs = self._needs
        if needs.storage is not None:
            self._storage = Storage(needs.storage)
            if self._storage.token() != needs.token:
                raise ValueError(f"--storage {needs.storage} is another folder here than at the driver")
        if needs.sent is not None:
            self._data_dir = unpack(*needs.sent)
        version, devices = call_in_child(
            __name__, "inspect_node", needs.device, [dict(data) for data in needs.data], self._data_dir
        )
        if without_build(version) != without_build(needs.torch_version):
            raise ValueError(f"has torch {version}, the driver {needs.torch_version}: they must be the same")
        return str(devices[0])

    def _make_executor(self, device: str) -> Executor:
        return LocalExecutor([device], self._needs.threads, self._needs.timeout)

    def run(self, job: Job) -> Iterator[Evaluation | tuple[Outcome, str]]:
        """Its evaluations, then its outcome with its log; nothing where it was asked to stop before."""
        with tempfile.TemporaryDirectory(prefix="ablation-bench-") as scratch:
            yield from self._run_in(Path(scratch), job)

    def _run_in(self, folder: Path, job: Job) -> Iterator[Evaluation | tuple[Outcome, str]]:
        trial, checkpoints = f"{job.folder.name}/{job.trial_id}", folder / "checkpoints" / job.trial_id
        notes = self._carry("fetch", trial, checkpoints)
        self._jobs.put(replace(job, folder=folder, data_dir=self._data_dir, working_dir=Path.cwd()))
        for event in self._events:
            if not isinstance(event, Started):
                notes += self._carry("store", trial, checkpoints)
            if isinstance(event, Evaluated):
                yield event.point
            if isinstance(event, Ended):
                yield event.outcome, notes + end_of(folder / "logs" / f"{job.trial_id}.log")
                return

    def _carry(self, way: str, trial: str, folder: Path) -> str:
        """Checkpoints from or to the storage, if there is one; a failure does not end the trial, it is noted."""
        if self._storage is None:
            return ""
        try:
            getattr(self._storage, way)(trial, folder)
        except OSError as error:
            return f"{self._storage.address}: checkpoint not carried ({way}): {error}\n"
        return ""

    def stop(self) -> None:
        self._executor.stop()


def inspect_node(device: str, data: Sequence[Mapping[str, Any]], data_dir: Path | None) -> tuple[str, list[str]]:
    """In a process that may import torch: its version, and the devices here; ValueError says what is missing."""
    try:
        import torch

        from lab.trial import prepare
    except ImportError as error:
        raise ValueError(f"{error}: ablation-bench and what it needs must be installed there") from error
    return torch.__version__, prepare(device, data, data_dir)


def without_build(version: str) -> str:
    """``2.13.0+cpu`` without ``+cpu``."""
    return version.partition("+")[0]


def end_of(log: Path) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LOG_BYTES))
        return file.read().decode(errors="replace")


# --- data sets ------------------------------------------------------------------------------------------------------


def pack(data: Sequence[Mapping[str, Any]], root: Path) -> bytes:
    """The built-in data sets' files under ``root`` as a zip file; empty where nothing is to be sent."""
    files = [
        file
        for settings in data
        for name in DATA_FILES.get(settings["name"], [])
        for file in sorted([root / name, *(root / name).rglob("*")])
        if file.is_file()
    ]
    if not files:
        return b""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in dict.fromkeys(files):
            archive.writestr(zipfile.ZipInfo(str(file.relative_to(root))), file.read_bytes())  # no times: same digest
    return whole.getvalue()


def unpack(digest: str, reference: Any) -> Path:
    """The folder of the data sets on this node; the first slot that asks fetches and unpacks them."""
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


# --- the driver -----------------------------------------------------------------------------------------------------


@dataclass
class _Slot:
    """An actor as the driver sees it: ``answer`` is what it is waited for."""

    actor: Any
    answer: Any = None  # its place while it starts, its events while it runs a trial
    place: Place | None = None
    job: Job | None = None

    @property
    def idle(self) -> bool:
        return self.place is not None and self.place.problem is None and self.job is None


@dataclass
class RayExecutor:
    """Slots on a cluster that is connected to; each holds ``resources`` (of Ray: CPU, GPU).

    There are as many as the cluster's nodes have room for, counted again as it runs, or ``num_slots``: then those
    that find no room wait for a node to join, as an autoscaler's do.
    """

    needs: Needs
    resources: Mapping[str, float]
    num_slots: int | None = None
    slot: type[Slot] = Slot
    now: Callable[[], float] = time.monotonic
    _slots: dict[int, _Slot] = field(default_factory=dict)
    _num_made: int = 0
    _grown: float = -math.inf
    _given_back: deque[Job] = field(default_factory=deque)
    _losses: Counter[str] = field(default_factory=Counter)
    _jobs: Iterator[Job] = field(default_factory=lambda: iter(()))
    _exhausted: bool = False
    _stopping: bool = False
    _deadline: float = math.inf

    @property
    def num_workers(self) -> int:
        return max(1, sum(slot.place is None or slot.place.problem is None for slot in self._slots.values()))

    def start(self, num_jobs: int) -> None:
        """The first slots, no more than there are jobs; raises ValueError where the cluster or a node cannot serve."""
        import ray

        room = self._room()
        if not room:
            asked = ", ".join(f"{amount:g} {name}" for name, amount in self.resources.items())
            raise ValueError(
                f"--executor ray: no node of the cluster has what a trial asks for ({asked}); it has {_total()}. "
                "With an autoscaler, --jobs says how many trials at once to ask for"
            )
        self._make(min(room, num_jobs))
        deadline = self.now() + START_SECONDS
        problems: dict[str, None] = {}
        while (starting := [slot for slot in self._slots.values() if slot.place is None]) and self.now() < deadline:
            ray.wait([slot.answer for slot in starting], timeout=POLL_SECONDS)
            for slot in starting:
                if ray.wait([slot.answer], timeout=0)[0]:
                    slot.place = _place(slot)
                    problems |= {slot.place.problem: None} if slot.place.problem else {}
        if problems:
            self._shut_down()
            raise ValueError("\n".join(f"--executor ray: {problem}" for problem in problems))

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        self._jobs, self._exhausted = iter(jobs), False
        try:
            while True:
                for index, slot in [*self._slots.items()]:
                    if slot.idle and (job := self._next_job()) is not None:
                        yield self._assign(index, slot, job)
                busy = any(slot.job for slot in self._slots.values())
                if not busy and (self._stopping or (self._exhausted and not self._given_back)):
                    return
                self._grow()
                self._forward_stop()
                for index in self._answering():
                    yield from self._receive(index, self._slots[index])
        finally:
            self._shut_down()

    def stop(self) -> None:
        """Asks the trials under way to end after their current step; what has not after some seconds is killed.

        Called by a signal handler: Ray itself is only called by the loop, which notices.
        """
        self._stopping = True

    # --- jobs -------------------------------------------------------------------------------------------------------

    def _next_job(self) -> Job | None:
        if self._stopping:
            return None
        if self._given_back:
            return self._given_back.popleft()
        job = None if self._exhausted else next(self._jobs, None)
        self._exhausted = job is None
        return job

    def _assign(self, index: int, slot: _Slot, job: Job) -> Started:
        assert slot.place is not None
        slot.job, slot.answer = job, slot.actor.run.options(num_returns="streaming").remote(job)
        return Started(job.trial_id, index, slot.place.name)

    def _receive(self, index: int, slot: _Slot) -> Iterator[Event]:
        """What a slot that answered has to say."""
        import ray

        if slot.place is None:
            slot.place = _place(slot)
            if slot.place.problem:
                yield Lost(index, f"{slot.place.problem}; no trial is given to it")
            return
        job = slot.job
        assert job is not None
        try:
            message: Evaluation | tuple[Outcome, str] = ray.get(next(slot.answer))
        except StopIteration:
            yield self._end(index, slot, Outcome(job.trial_id, "interrupted", "asked to stop"))
            return
        except ray.exceptions.RayError as error:
            yield from self._lose(index, slot, job, _first_line(error))
            return
        if isinstance(message, Evaluation):
            yield Evaluated(job.trial_id, index, message)
            return
        outcome, log = message
        _append(job.folder / "logs" / f"{job.trial_id}.log", log)
        if outcome.status == "interrupted" and not self._stopping:  # its node is about to go, and told it so
            yield from self._lose(index, slot, job, "asked to stop")
        else:
            yield self._end(index, slot, outcome)

    def _end(self, index: int, slot: _Slot, outcome: Outcome) -> Ended:
        assert slot.place is not None
        slot.job, slot.answer = None, None
        return Ended(index, replace(outcome, where=slot.place.columns))

    def _lose(self, index: int, slot: _Slot, job: Job, why: str) -> Iterator[Event]:
        """A slot that is gone: its trial goes to another, which goes on from the storage's checkpoint."""
        assert slot.place is not None
        del self._slots[index]
        _kill(slot)
        self._losses[job.trial_id] += 1
        lost = f"the slot on node {slot.place.name} was lost ({why})"
        if self._stopping:
            yield Ended(index, Outcome(job.trial_id, "interrupted", lost, where=slot.place.columns))
        elif self._losses[job.trial_id] == MOST_LOSSES:
            error = f"{lost}, the {MOST_LOSSES}. one with this trial"
            yield Ended(index, Outcome(job.trial_id, "error", error, where=slot.place.columns))
        else:
            self._given_back.append(job)
            yield Lost(index, f"{lost}: trial {job.trial_id} goes to another")

    # --- slots ------------------------------------------------------------------------------------------------------

    def _room(self) -> int:
        """How many slots the cluster's nodes can hold."""
        import ray

        if self.num_slots is not None:
            return self.num_slots
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        asked = [(name, amount) for name, amount in self.resources.items() if amount]
        return sum(min(math.floor(node.get(name, 0) / amount + 1e-9) for name, amount in asked) for node in nodes)

    def _make(self, count: int) -> None:
        import ray

        actor = ray.remote(self.slot).options(
            num_cpus=self.resources["CPU"], num_gpus=self.resources["GPU"], max_concurrency=2
        )
        for _ in range(count):
            handle = actor.remote(self.needs)
            self._slots[self._num_made] = _Slot(handle, handle.ready.remote())
            self._num_made += 1

    def _grow(self) -> None:
        """Slots for nodes that joined, where there is a trial that waits for one.

        That trial is taken in hand here: whichever slot is free first gets it.
        """
        if self._stopping or self.now() - self._grown < GROW_SECONDS:
            return
        self._grown = self.now()
        missing = self._room() - len(self._slots)
        if missing > 0 and (self._given_back or (job := self._next_job()) is not None):
            if not self._given_back:
                self._given_back.append(job)
            self._make(missing)

    def _forward_stop(self) -> None:
        if not self._stopping:
            return
        if self._deadline == math.inf:
            self._deadline = self.now() + GRACE_SECONDS
            for slot in self._slots.values():
                if slot.job is not None:
                    slot.actor.stop.remote()
        elif self.now() > self._deadline:
            for slot in self._slots.values():
                if slot.job is not None:
                    _kill(slot)

    def _answering(self) -> list[int]:
        """The slots that have something to say, waiting a moment for the first."""
        import ray

        awaited = {
            slot.answer: index for index, slot in self._slots.items() if slot.answer is not None and _waits(slot)
        }
        if not awaited:
            time.sleep(POLL_SECONDS)
            return []
        answers = list(awaited)
        ready, _ = ray.wait(answers, num_returns=len(answers), timeout=0, fetch_local=False)
        if not ready:
            ready, _ = ray.wait(answers, num_returns=1, timeout=POLL_SECONDS, fetch_local=False)
        return [awaited[answer] for answer in ready]

    def _shut_down(self) -> None:
        for slot in self._slots.values():
            _kill(slot)
        self._slots, self._grown, self._given_back = {}, -math.inf, deque()


def _waits(slot: _Slot) -> bool:
    """Whether the slot starts or runs a trial; one that was refused stays, so that Ray puts no other in its place."""
    return slot.place is None or slot.job is not None


def _place(slot: _Slot) -> Place:
    import ray

    try:
        place: Place = ray.get(slot.answer)
    except ray.exceptions.RayError as error:
        place = Place("", "", problem=f"a slot did not start: {_first_line(error)}")
    slot.answer = None
    return place


def _kill(slot: _Slot) -> None:
    import ray

    with contextlib.suppress(ray.exceptions.RayError):
        ray.kill(slot.actor)


def _append(log: Path, text: str) -> None:
    if text:
        with contextlib.suppress(OSError):  # a full disk is told where the record cannot be written
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a", encoding="utf-8") as file:
                file.write(text)


def _first_line(error: BaseException) -> str:
    """An error of Ray in a line: its messages go on with advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    module = [line for line in lines if re.match(r"\w+Error: ", line)]
    return (module or lines or [type(error).__name__])[0][:300]


def _total() -> str:
    import ray

    total = ray.cluster_resources()
    return f"{total.get('CPU', 0):g} CPU and {total.get('GPU', 0):g} GPU on {len(ray.nodes())} nodes"


# --- the cluster ----------------------------------------------------------------------------------------------------


def connect(address: str, working_dir: Path | None, excludes: Sequence[str] = ()) -> None:
    """Joins the cluster as a driver; our packages, and the user's ``working_dir`` if given, go to every node once.

    Raises ValueError where Ray is not installed, there is no cluster at the address, or its versions are others.
    """
    try:
        import ray
    except ImportError:
        raise ValueError(
            "--executor ray needs Ray, here and on every node: pip install 'ablation-bench[ray]'"
        ) from None
    _probe(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
    package = Path(__file__).parent
    code: dict[str, Any] = {
        "py_modules": [str(package), str(package.with_name("lab"))],
        "excludes": ["__pycache__", *excludes],
    }
    if working_dir is not None:
        code["working_dir"] = str(working_dir)
    ray.shutdown()  # of the grid before this one
    try:
        ray.init(address=address, runtime_env=code, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        versions = f"Ray {ray.__version__}, Python {platform.python_version()}"
        raise ValueError(
            f"--address {address}: cannot be used by {versions}: {' '.join(str(error).split())}"
        ) from error


def _probe(address: str) -> None:
    """Raises ValueError where nobody listens: Ray itself would ask again for minutes."""
    if address == "auto":
        return
    match = re.fullmatch(r"([^:/]+|\[[^]]+\]):(\d+)", address)
    if match is None:
        raise ValueError(f"--address must be auto, on a node of the cluster, or HOST:PORT, got {address!r}")
    try:
        socket.create_connection((match[1].strip("[]"), int(match[2])), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"--address {address}: no Ray cluster answers there ({error}); `ray start --head` starts one and tells "
            "its address"
        ) from None


def cluster_executor(
    address: str,
    num_jobs: int,
    *,
    device: str = "auto",
    cpus: float = 1.0,
    gpus: float | None = None,
    num_slots: int | None = None,
    timeout: float | None = None,
    data: Sequence[Mapping[str, Any]] = (),
    data_dir: Path | None = None,
    storage: str | None = None,
    working_dir: Path | None = None,
    excludes: Sequence[str] = (),
) -> RayExecutor:
    """An executor on the cluster at ``address``, its nodes checked; raises ValueError with what is wrong.

    The driver has read the data sets: what Ray's nodes lack of the built-in ones is sent to them. ``gpus`` a trial:
    by default one where the cluster has any and the device is not the CPU.
    """
    connect(address, working_dir, excludes)
    import ray

    if gpus is None:
        gpus = 1.0 if device != "cpu" and ray.cluster_resources().get("GPU") else 0.0
    device = ("cuda" if gpus else "cpu") if device == "auto" else device
    torch_version, root = call_in_child(__name__, "inspect_driver", data_dir)
    packed = pack(data, root)
    needs = Needs(
        device,
        max(1, int(cpus)),
        timeout,
        tuple(data),
        data_dir,
        (hashlib.sha256(packed).hexdigest()[:16], [ray.put(packed)]) if packed else None,
        storage,
        Storage(storage).token() if storage else "",
        torch_version,
    )
    executor = RayExecutor(needs, {"CPU": cpus, "GPU": gpus}, num_slots)
    executor.start(num_jobs)
    return executor


def inspect_driver(data_dir: Path | None) -> tuple[str, Path]:
    """In a process that may import torch: its version, and where built-in data sets are."""
    import torch

    from lab.data import default_data_dir

    return torch.__version__, data_dir or default_data_dir()
