"""Several runs at once on one results folder: each trial is claimed by exactly one of them.

A claim is a lock on a file, which the system drops when its owner ends, however that ends. It is taken before the
record is asked whether the trial is finished, and dropped after the trial is recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from bench.plan import Trial
from bench.records import Records


class Claims:
    """The claims of this process; ``elsewhere`` counts trials that another process has claimed.

    ``finished`` are the statuses of a record that make running the trial needless.
    """

    def __init__(self, records: Records, finished: Collection[str]) -> None:
        self._folder, self._records, self._finished = records.folder / "claims", records, finished
        self._done: set[str] = set()
        self._held: dict[str, FileLock] = {}
        self.elsewhere = 0

    def take(self, trials: Iterable[Trial]) -> Iterator[Trial]:
        """Those trials that this process may run: claimed now, and not finished by another meanwhile."""
        for trial in trials:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._path(trial.trial_id), blocking=False)
            try:
                lock.acquire()
            except Timeout:
                self.elsewhere += 1
                continue
            if self._finished_elsewhere(trial.trial_id):
                lock.release()
                continue
            self._held[trial.trial_id] = lock
            yield trial

    def drop(self, trial_id: str, *, finished: bool) -> None:
        """Gives the claim up. Its file goes only with a finished trial: whoever has it open then finds the record."""
        if finished:
            self._path(trial_id).unlink(missing_ok=True)
        self._held.pop(trial_id).release()

    def _path(self, trial_id: str) -> Path:
        return self._folder / f"{trial_id}.lock"

    def _finished_elsewhere(self, trial_id: str) -> bool:
        if self._records.trials.changed():
            outcomes = self._records.outcomes().items()
            self._done |= {other for other, (status, _) in outcomes if status in self._finished}
        return trial_id in self._done
