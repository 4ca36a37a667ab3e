"""A time budget of a run: no trial starts that is not expected to end in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from bench.grid.plan import Trial


class Budget:
    """So many ``seconds`` from now on; ``left`` counts the trials that were not started.

    A trial is expected to take as long as the longest of its cell that ended in this run, or else its ``price``. One
    that is too long is left out and the next one asked: short trials fill what is left. What runs is not cut off.
    """

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._deadline = now, now() + seconds
        self._longest: dict[str, float] = {}
        self.price: Callable[[Trial], float] = lambda trial: 0.0
        self.left = 0

    def affordable(self, trials: Iterable[Trial]) -> Iterator[Trial]:
        """Yields those that are expected to end in time, asked one by one as each is about to start."""
        for trial in trials:
            if self._now() + self._expected(trial) <= self._deadline:
                yield trial
            else:
                self.left += 1

    def ended(self, trial: Trial, seconds: float) -> None:
        label = trial.cell.label
        self._longest[label] = max(seconds, self._longest.get(label, 0.0))

    def _expected(self, trial: Trial) -> float:
        measured = self._longest.get(trial.cell.label)
        return self.price(trial) if measured is None else measured
