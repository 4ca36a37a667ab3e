"""The driver at scale: trials that only sleep, through the same loop, record and progress as real ones.

    python -m bench.studies.scale --trials 10000 --slots 200 --seconds 1    # slots are threads of this process
    python -m bench.studies.scale --trials 600 --slots 8 --seconds 0.2 --address auto  # slots are actors of a cluster

Prints a row of the table in docs/cluster.md. Nothing is trained: what is measured is planning, placing, streaming of
evaluations, and the record's three synced files.
"""

from __future__ import annotations

import argparse
import io
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import Queue

from rich.console import Console

from bench.execute.events import Ended, Evaluated, Event, Started
from bench.execute.executor import Executor
from bench.execute.job import Job
from bench.execute.options import Options
from bench.execute.progress import Progress
from bench.execute.ray.cluster import connect
from bench.execute.ray.executor import RayExecutor
from bench.execute.ray.slot import NodeRequirements, SlotActor
from bench.execute.run import run
from bench.grid.load import load_plan
from bench.record.outcome import Outcome
from bench.record.records import MEASURES
from bench.record.status import Status
from lab.result import Environment, Evaluation, Result

EVALUATIONS = 3  # per trial
NUM_TEST_IMAGES = 10_000
CORES = 0.01  # of Ray, a sleeping trial


class SleepExecutor:
    """Runs one job after the other by sleeping; ``timeout`` is how long."""

    num_workers = 1

    def __init__(self, seconds: float) -> None:
        self._seconds, self._stopping = seconds, threading.Event()

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        for job in jobs:
            yield Started(job.trial_id, 0)
            curve = []
            for index in range(EVALUATIONS):
                self._stopping.wait(self._seconds / EVALUATIONS)
                curve.append(
                    Evaluation(index, float(index), 1.0, self._seconds, {"dev_accuracy": 0.5, "dev_loss": 1.0})
                )
                yield Evaluated(job.trial_id, 0, curve[-1])
            yield Ended(0, Outcome(job.trial_id, Status.OK, result=_result(job.trial_id, curve)))

    def stop(self) -> None:
        self._stopping.set()


def _result(trial_id: str, curve: list[Evaluation]) -> Result:
    environment = Environment("cpu", "none", 1, "none", "none", "none")
    return Result(
        trial_id,
        "ok",
        None,
        measures=dict.fromkeys(MEASURES, 0.5) | {"steps": EVALUATIONS},
        environment=environment,
        source_fingerprint="none",
        curve=curve,
        correct=bytes(NUM_TEST_IMAGES // 8),
        num_test_images=NUM_TEST_IMAGES,
    )


class SleepSlot(SlotActor):
    """A slot on a cluster whose trials sleep for as long as its ``timeout``; its process never loads torch."""

    def _prepare(self) -> str:
        return "cpu"

    def _make_executor(self, device: str) -> Executor:
        assert self._requirements.timeout is not None
        return SleepExecutor(self._requirements.timeout)


class ThreadExecutor:
    """Slots as threads: what is left of the driver's work where there is no Ray."""

    def __init__(self, num_workers: int, seconds: float) -> None:
        self.num_workers, self._seconds = num_workers, seconds

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        waiting, events = iter(jobs), Queue[tuple[int, Event]]()
        queues = [Queue[Job | None]() for _ in range(self.num_workers)]

        def serve(index: int) -> None:
            taken = iter(queues[index].get, None)
            for event in SleepExecutor(self._seconds).run(job for job in taken if job is not None):
                events.put((index, event))

        threads = [threading.Thread(target=serve, args=(index,), daemon=True) for index in range(self.num_workers)]
        busy = 0
        for index, thread in enumerate(threads):
            thread.start()
            job = next(waiting, None)
            queues[index].put(job)
            busy += job is not None
        while busy:
            index, event = events.get()
            match event:
                case Started(trial_id, _):
                    yield Started(trial_id, index, f"node {index // 8}")  # as if 8 slots made a node
                case Evaluated(trial_id, _, point):
                    yield Evaluated(trial_id, index, point)
                case Ended(_, outcome):
                    yield Ended(index, outcome)
                    job = next(waiting, None)
                    queues[index].put(job)
                    busy -= job is None

    def stop(self) -> None:
        raise KeyboardInterrupt


def grid(num_trials: int) -> str:
    return f"""
question: What does the driver cost?
base:
  data: {{name: digits}}
  model: {{name: mlp}}
  optimizer: {{name: sgd, lr: 0.1}}
  train: {{epochs: 1}}
factors:
  model.residual: [true, false]
  model.batch_norm: [true, false]
seeds: {num_trials // 4}
"""


def cluster_slots(address: str, num_slots: int, seconds: float) -> RayExecutor:
    connect(address, None)
    executor = RayExecutor(NodeRequirements("cpu", 1, seconds), {"CPU": CORES, "GPU": 0.0}, num_slots, slot=SleepSlot)
    executor.start(num_slots)
    return executor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=2.0, help="that a trial sleeps")
    parser.add_argument("--address", help="of a Ray cluster; without it, slots are threads")
    parser.add_argument("--terminal", action="store_true", help="draw the live progress of a terminal")
    asked = parser.parse_args()
    executor: Executor = (
        cluster_slots(asked.address, asked.slots, asked.seconds)
        if asked.address
        else ThreadExecutor(asked.slots, asked.seconds)
    )
    with tempfile.TemporaryDirectory() as name:
        (path := Path(name) / "scale.yaml").write_text(grid(asked.trials))
        began = time.monotonic()
        plan = load_plan(path)
        planned = time.monotonic()
        before, cpu = memory(), time.process_time()
        progress = Progress(Console(file=io.StringIO(), force_terminal=asked.terminal, width=120), [])
        summary = run(plan, Options(results=Path(name)), progress, make=lambda options, trials: executor)
        seconds, cpu = time.monotonic() - planned, time.process_time() - cpu
        size = sum(file.stat().st_size for file in (Path(name) / "scale").glob("*.csv"))
    if summary.statuses[Status.OK] != len(plan.trials):
        sys.exit(f"not all trials were recorded: {dict(summary.statuses)}")
    num_trials = len(plan.trials)
    idle = seconds * asked.slots / num_trials - asked.seconds
    print(
        f"| {'Ray actors' if asked.address else 'threads'} | {num_trials} | {asked.slots} | {asked.seconds:g} s "
        f"| {num_trials / seconds:.0f} | {idle * 1e3:.0f} ms | {cpu / num_trials * 1e3:.1f} ms "
        f"| {before:.0f} to {memory():.0f} MB | {planned - began:.1f} s | {size / 2**20:.0f} MB |"
    )


def memory() -> float:
    """Returns the most that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
