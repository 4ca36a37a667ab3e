"""A Python function of the user's as training code: its keyword arguments are the settings, its answer the metrics."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.execute.job import Job
from bench.execute.trainables.devices import cards
from bench.execute.trainables.reported import Extras, Reported, Stream, environment, number_of, numbers, origin, outcome
from bench.grid.own import Run
from bench.grid.own_code import Function
from bench.record.outcome import Outcome
from bench.record.status import Status
from lab.imports import load
from lab.result import Evaluation

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

BESIDE = ("examples", "ids", "data")  # what a function may return beside numbers


class Stopped(BaseException):  # no error: user code that catches errors must let it pass
    """The run is to stop: raised where the function reports."""


@dataclass
class Report:
    """``report(step=3, dev_rmse=1.2)``: a point of the curve, a sign of life, a place to stop."""

    reported: Reported
    tell: Stream
    should_stop: Callable[[], bool]

    def __call__(self, values: Mapping[str, Any] | None = None, /, *, step: int | None = None, **named: Any) -> None:
        given = {**(values or {}), **named}
        for name, value in given.items():
            if not isinstance(value, Mapping) and number_of(value) is None:
                raise TypeError(f"report: {name} must be a number, got {type(value).__name__}")
        if step is not None and (number_of(step) is None or step != int(step) or step < 0):
            raise ValueError(f"report: step must be an integer >= 0, got {step!r}")
        self.tell(self.reported.add(numbers(given), None if step is None else int(step)))
        if self.should_stop():
            raise Stopped


@dataclass(frozen=True)
class FunctionTrainable:
    """Calls the function in the process that it is asked in."""

    def run(
        self,
        job: Job,
        device: str,
        on_evaluation: Callable[[Evaluation], None],
        should_stop: Callable[[], bool],
    ) -> Outcome:
        """Raises what the function raises."""
        assert job.run is not None
        sections = dict(job.settings)
        seed, folder = sections.pop("seed"), job.folder / "files" / job.trial_id
        threads = int(os.environ.get("OMP_NUM_THREADS") or 1)
        has_torch = "torch" in sys.modules
        with starting_state(seed, threads):
            load(job.run.function)
            if "torch" in sys.modules and not has_torch:  # it came with the function
                seed_torch(seed)
            function = Function(job.run)
            if "folder" in function.handed:
                folder.mkdir(parents=True, exist_ok=True)
            reported = Reported()
            report = Report(reported, Stream(on_evaluation), should_stop)
            handed = {"seed": seed, "device": device, "folder": folder, "report": report, "should_stop": should_stop}
            try:
                returned = function.call(sections, handed)
            except Stopped:
                return Outcome(job.trial_id, Status.INTERRUPTED, "asked to stop")
        extras = _take(returned, job.metrics[0].name, reported)
        if should_stop() and returned is None:
            return Outcome(job.trial_id, Status.INTERRUPTED, "asked to stop")
        return outcome(job, reported, origin(job, device, threads, reported), extras)

    def devices(self, device: str) -> list[str]:
        """Names the devices to use, one per trial at a time; raises ValueError for one that is not there."""
        return cards(device)


def _take(returned: Any, primary: str, reported: Reported) -> Extras:
    """Adds what the function returned to what it reported; raises TypeError where that is no number or mapping."""
    if returned is None:
        return Extras()
    if not isinstance(returned, Mapping):
        number = number_of(returned)
        if number is None:
            raise TypeError(f"a training function returns a number or a mapping, got {type(returned).__name__}")
        reported.add({primary: number})
        return Extras()
    reported.add(numbers({name: value for name, value in returned.items() if name not in BESIDE}))
    return Extras(_examples(returned), _digest(returned.get("data")))


def _examples(returned: Mapping[str, Any]) -> dict[str, bytes]:
    """Per-example outcomes by metric, in the order of ``ids`` where these are given, so that trials agree on it."""
    import numpy as np

    found, ids = returned.get("examples") or {}, returned.get("ids")
    order = None if ids is None else np.argsort(np.asarray(ids, dtype=str), kind="stable")
    examples = {}
    for name, values in found.items():
        array = np.asarray(values, np.float32)
        if array.ndim != 1 or (order is not None and len(order) != len(array)):
            rule = "must be one number per example, as many as there are ids"
            raise ValueError(f"examples.{name}: {rule}, got an array of shape {array.shape}")
        examples[str(name)] = (array if order is None else array[order]).tobytes()
    return examples


def _digest(data: Any) -> str:
    """Returns what the data are: 12 hex digits of a text of any length."""
    return "" if data is None else hashlib.sha256(str(data).encode()).hexdigest()[:12]


@functools.cache
def pools() -> ThreadpoolController:
    """Finds the thread pools of the libraries that are loaded by now; of a later one the environment tells the size."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def rehearse() -> None:
    """Does what takes long the first time, so that trials that are forked from this process find it done."""
    environment("cpu", 1)
    with starting_state(0, 1):
        Function(Run(function=f"{__name__}:starting_state"))


@contextmanager
def starting_state(seed: int, threads: int) -> Iterator[None]:
    """The state that a trial of that seed starts from, torch's where that is there already."""
    with pools().limit(limits=threads):
        if "torch" in sys.modules:
            from lab.process import starting_state as of_torch

            with of_torch(seed):
                yield
        else:
            import numpy as np

            random.seed(_derived(seed, "python"))
            np.random.seed(_derived(seed, "numpy") % 2**32)
            yield


def seed_torch(seed: int) -> None:
    """Seeds torch, too; what the function's modules set of it on import stays."""
    from lab.process import seed_generators

    seed_generators(seed)


def _derived(seed: int, name: str) -> int:
    """As :func:`lab.streams.derive`, which needs torch."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1


FUNCTION = FunctionTrainable()
