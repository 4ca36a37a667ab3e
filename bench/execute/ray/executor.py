"""The executor of a Ray cluster. Ray places, transports and knows the nodes; here stands only what a trial needs.

A slot (:mod:`bench.execute.ray.slot`) is an actor that holds the resources of one trial. Its events stream back to
the driver, who alone writes records. Ray is imported only where it is used.
"""

from __future__ import annotations

import contextlib
import math
import re
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.execute.events import Ended, Evaluated, Event, Lost, Started
from bench.execute.executor import POLL_SECONDS, STOP_SECONDS
from bench.execute.job import Job
from bench.execute.ray.slot import NodeRequirements, SlotActor, SlotLocation
from bench.record.outcome import Outcome
from bench.record.status import Status
from lab.result import Evaluation

START_SECONDS = 60  # so long may nodes take to say that they are ready, before the first trial
OTHERS_SECONDS = 20  # so long are the others waited for when the first is
GROW_SECONDS = 3  # how long a node that joined may go unnoticed
HEAD_SECONDS = 40  # how long the cluster's head may be silent: after 60, Ray would end this process
GRACE_SECONDS = STOP_SECONDS + 7  # after a request to stop: for the last checkpoint to reach the storage
MOST_LOSSES = 3  # a trial whose slots were lost so often is an error: it may be what kills them


@dataclass
class _Slot:
    """An actor as the driver sees it: ``answer`` is what it is waited for."""

    actor: Any
    answer: Any = None  # its location while it starts, its events while it runs a trial
    location: SlotLocation | None = None
    job: Job | None = None
    crowded: bool = False  # another slot has been busy since its trial began

    @property
    def idle(self) -> bool:
        return self.location is not None and self.location.problem is None and self.job is None


@dataclass
class RayExecutor:
    """Slots on a cluster that is connected to; each holds ``resources`` (of Ray: CPU, GPU, and memory in bytes).

    There are as many as the cluster's nodes have room for, counted again as it runs, or ``num_slots``: then those
    that find no room wait for a node to join, as an autoscaler's do. A trial for which memory runs out beside others is
    tried again alone, once they have ended: only that counts.
    """

    requirements: NodeRequirements
    resources: Mapping[str, float]
    num_slots: int | None = None
    slot: type[SlotActor] = SlotActor
    now: Callable[[], float] = time.monotonic
    _slots: dict[int, _Slot] = field(default_factory=dict)
    _num_made: int = 0
    _grown: float = -math.inf
    _silent_since: float | None = None  # the cluster's head
    _given_back: deque[Job] = field(default_factory=deque)
    _again: list[Job] = field(default_factory=list)  # memory ran out for them, and they were not alone
    _alone: set[str] = field(default_factory=set)  # the trials that are tried again so
    _losses: Counter[str] = field(default_factory=Counter)
    _jobs: Iterator[Job] = field(default_factory=lambda: iter(()))
    _exhausted: bool = False
    _stopping: bool = False
    _deadline: float = math.inf

    @property
    def num_workers(self) -> int:
        return max(1, sum(slot.location is None or slot.location.problem is None for slot in self._slots.values()))

    def start(self, num_jobs: int) -> None:
        """Starts the first slots, no more than there are jobs; raises ValueError where cluster or node cannot serve."""
        import ray

        room = self._room()
        if not room:
            asked = ", ".join(f"{self.resources[name]:g} {name}" for name in ("CPU", "GPU"))
            raise ValueError(
                f"--executor ray: no node of the cluster has what a trial asks for ({asked}); it has {_total()}. "
                "With an autoscaler, --jobs says how many trials at once to ask for"
            )
        self._make(min(room, num_jobs))
        deadline = self.now() + START_SECONDS
        problems: dict[str, None] = {}
        while (starting := [slot for slot in self._slots.values() if slot.location is None]) and self.now() < deadline:
            ray.wait([slot.answer for slot in starting], timeout=POLL_SECONDS)
            for slot in starting:
                if ray.wait([slot.answer], timeout=0)[0]:
                    slot.location = _location(slot)
                    problems |= {slot.location.problem: None} if slot.location.problem else {}
                    deadline = min(deadline, self.now() + OTHERS_SECONDS)
        if problems:
            self.close()
            raise ValueError("\n".join(f"--executor ray: {problem}" for problem in problems))

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        self._jobs, self._exhausted = iter(jobs), False
        try:
            while True:
                for index, slot in [*self._slots.items()]:
                    if slot.idle and (job := self._next_job()) is not None:
                        yield self._assign(index, slot, job)
                busy = any(slot.job for slot in self._slots.values())
                if not busy and (self._stopping or (self._exhausted and not self._given_back and not self._again)):
                    return
                self._grow()
                self._forward_stop()
                for index in self._answering():
                    yield from self._receive(index, self._slots[index])
        finally:
            self._given_back.clear()
            self._again.clear()
            for index, slot in [*self._slots.items()]:
                if slot.job is not None:  # the others stay warm for what is run next
                    _kill(slot)
                    del self._slots[index]

    def stop(self) -> None:
        """Asks the trials under way to end after their current step; what has not after some seconds is killed.

        Called by a signal handler: Ray itself is only called by the loop, which notices.
        """
        self._stopping = True

    # --- jobs -------------------------------------------------------------------------------------------------------

    def _next_job(self) -> Job | None:
        busy = [slot.job for slot in self._slots.values() if slot.job is not None]
        if self._stopping or any(job.trial_id in self._alone for job in busy):
            return None
        if self._again and not busy:
            self._alone.add(self._again[0].trial_id)
            return self._again.pop(0)
        if self._given_back:
            return self._given_back.popleft()
        job = None if self._exhausted else next(self._jobs, None)
        self._exhausted = job is None
        return job

    def _assign(self, index: int, slot: _Slot, job: Job) -> Started:
        assert slot.location is not None
        others = [other for other in self._slots.values() if other.job is not None]
        for one in others:
            one.crowded = True
        slot.crowded = bool(others)
        slot.job, slot.answer = job, slot.actor.run.options(num_returns="streaming").remote(job)
        return Started(job.trial_id, index, slot.location.name)

    def _receive(self, index: int, slot: _Slot) -> Iterator[Event]:
        """Yields what a slot that answered has to say."""
        import ray

        if slot.location is None:
            slot.location = _location(slot)
            if slot.location.problem:
                yield Lost(index, f"{slot.location.problem}; no trial is given to it")
            return
        job = slot.job
        assert job is not None
        try:
            message: Evaluation | tuple[Outcome, str] = ray.get(next(slot.answer))
        except StopIteration:
            yield self._end(index, slot, Outcome(job.trial_id, Status.INTERRUPTED, "asked to stop"))
            return
        except ray.exceptions.OutOfMemoryError as error:  # of its node: Ray ended the slot
            _kill(slot)
            del self._slots[index]
            yield self._run_out(index, slot, Outcome(job.trial_id, Status.OUT_OF_MEMORY, of_memory(error)))
            return
        except ray.exceptions.RayError as error:
            yield from self._lose(index, slot, job, _first_line(error))
            return
        if isinstance(message, Evaluation):
            yield Evaluated(job.trial_id, index, message)
            return
        outcome, log = message
        _append(job.folder / "logs" / f"{job.trial_id}.log", log)
        if outcome.status is Status.INTERRUPTED and not self._stopping:  # its node is about to go, and told it so
            yield from self._lose(index, slot, job, "asked to stop")
        elif outcome.status is Status.OUT_OF_MEMORY:
            yield self._run_out(index, slot, outcome)
        else:
            yield self._end(index, slot, outcome)

    def _end(self, index: int, slot: _Slot, outcome: Outcome) -> Ended:
        assert slot.location is not None
        slot.job, slot.answer = None, None
        return Ended(index, replace(outcome, node_columns=slot.location.columns))

    def _run_out(self, index: int, slot: _Slot, outcome: Outcome) -> Ended | Lost:
        """Ends a trial for which memory ran out, or keeps it to be tried once more, when no other runs."""
        job, ended = slot.job, self._end(index, slot, outcome)
        if job is None or not slot.crowded or self._stopping:
            return ended
        self._again.append(replace(job, is_fresh=False))
        return Lost(index, f"trial {job.trial_id} is tried again alone, after the others: {outcome.error}")

    def _lose(self, index: int, slot: _Slot, job: Job, why: str) -> Iterator[Event]:
        """Gives the trial of a slot that is gone to another, which resumes from the storage's checkpoint."""
        assert slot.location is not None
        del self._slots[index]
        _kill(slot)
        self._losses[job.trial_id] += 1
        lost = f"the slot on node {slot.location.name} was lost ({why})"
        if self._stopping:
            yield Ended(index, Outcome(job.trial_id, Status.INTERRUPTED, lost, node_columns=slot.location.columns))
        elif self._losses[job.trial_id] == MOST_LOSSES:
            error = f"{lost}, the {MOST_LOSSES}. one with this trial"
            yield Ended(index, Outcome(job.trial_id, Status.ERROR, error, node_columns=slot.location.columns))
        else:
            self._given_back.append(replace(job, is_fresh=False))  # what this attempt stored is worth keeping
            yield Lost(index, f"{lost}: trial {job.trial_id} goes to another")

    # --- slots ------------------------------------------------------------------------------------------------------

    def _room(self) -> int:
        """Counts the slots that the cluster's nodes can hold."""
        import ray

        if self.num_slots is not None:
            return self.num_slots
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        asked = [(name, amount) for name, amount in self.resources.items() if amount]
        return sum(min(math.floor(node.get(name, 0) / amount + 1e-9) for name, amount in asked) for node in nodes)

    def _make(self, count: int) -> None:
        import ray

        actor: Any = ray.remote(self.slot).options(
            num_cpus=self.resources["CPU"],
            num_gpus=self.resources["GPU"],
            memory=self.resources.get("memory"),
            max_concurrency=2,
        )
        for _ in range(count):
            handle = actor.remote(self.requirements)
            self._slots[self._num_made] = _Slot(handle, handle.ready.remote())
            self._num_made += 1

    def _grow(self) -> None:
        """Starts slots on nodes that joined, where there is a trial that waits for one.

        That trial is taken in hand here: whichever slot is free first gets it.
        """
        if self._stopping or self.now() - self._grown < GROW_SECONDS:
            return
        self._grown = self.now()
        if not self._hears_head():
            return
        missing = self._room() - len(self._slots)
        if missing > 0 and (job := self._next_job()) is not None:
            self._given_back.appendleft(job)
            self._make(missing)

    def _hears_head(self) -> bool:
        """Tells whether the cluster's head answers; raises ValueError where it has not for long.

        Asked for its nodes, Ray would wait for a head that is gone, and no signal would be handled meanwhile. It goes
        first where Slurm ends all of a job's processes at a time.
        """
        address = _head()
        if _answers(address):
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = self.now()
        elif self.now() - self._silent_since > HEAD_SECONDS:
            raise ValueError(
                f"--executor ray: the head of the cluster, {address}, is gone; trials that ended are recorded: run it "
                "again to resume the others"
            )
        return self._silent_since is None

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
        """Returns the slots that have something to say, waiting a moment for the first."""
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

    def close(self) -> None:
        """Gives all slots back to the cluster; they go with the driver, too."""
        for slot in self._slots.values():
            _kill(slot)
        self._slots = {}


def _head() -> str:
    """Returns the address, HOST:PORT, of the cluster's head."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def _waits(slot: _Slot) -> bool:
    """Tells whether the slot starts or runs a trial; a refused one stays, so that Ray puts no other in its place."""
    return slot.location is None or slot.job is not None


def _location(slot: _Slot) -> SlotLocation:
    import ray

    try:
        location: SlotLocation = ray.get(slot.answer)
    except ray.exceptions.RayError as error:
        location = SlotLocation("", "", problem=_not_started(str(error), _first_line(error)))
    slot.answer = None
    return location


def _not_started(text: str, line: str) -> str:
    """Says why an actor did not come to be, with its node, of which Ray tells the address."""
    where = re.search(r"\bip=([^,)\s]+)", text)
    return f"{f'node {where[1]}' if where else 'a node'}: a slot did not start: {line}"


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
    """Cuts an error of Ray to its first line: its messages go on with advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    module = [line for line in lines if re.match(r"\w+Error: ", line)]
    return (module or lines or [type(error).__name__])[0][:300]


def of_memory(error: BaseException) -> str:
    """Says that a node ran out of memory, with what was used and what there is, as Ray tells it."""
    told = re.search(r"Memory on the node [^\n]*? was (\S+) used / (\S+) limit", str(error))
    room = f": its processes held {told[1]}; it has {told[2]}" if told else f": {_first_line(error)}"
    return f"out of memory: Ray ended the slot, for its node ran low{room}"


def _total() -> str:
    import ray

    total = ray.cluster_resources()
    return f"{total.get('CPU', 0):g} CPU and {total.get('GPU', 0):g} GPU on {len(ray.nodes())} nodes"
