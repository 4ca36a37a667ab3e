"""Several runs at once on one results folder: each trial is claimed by exactly one of them.

A claim is a lock on a file, which the system drops when its owner ends, however that ends. It is taken before the
record is asked whether the trial is finished, and dropped after the trial is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from filelock import FileLock, Timeout

from bench.record.records import Recorded, Records


class Claimable(Protocol):
    """What has the id of a trial."""

    @property
    def trial_id(self) -> str: ...


Claimed = TypeVar("Claimed", bound=Claimable)


class Claims(Generic[Claimed]):
    """The claims of this process; ``elsewhere`` counts trials that another process has claimed.

    ``settled`` says whether what is recorded of a trial makes running it needless.
    """

    def __init__(self, records: Records, settled: Callable[[Claimed, Recorded], bool]) -> None:
        self._folder, self._records, self._settled = records.folder / "claims", records, settled
        records.trials.changed()
        self._recorded = records.outcomes()
        self._held: dict[str, FileLock] = {}
        self.elsewhere = 0

    def take(self, trials: Iterable[Claimed]) -> Iterator[Claimed]:
        """Yields those trials that this process may run: claimed now, and not finished by another meanwhile."""
        for trial in trials:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._path(trial.trial_id), blocking=False)
            try:
                lock.acquire()
            except Timeout:
                self.elsewhere += 1
                continue
            before = self.recorded(trial.trial_id)
            if before is not None and self._settled(trial, before):
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

    def recorded(self, trial_id: str) -> Recorded | None:
        """Returns what was recorded of a trial before this process claimed it."""
        if self._records.trials.changed():
            self._recorded = self._records.outcomes()
        return self._recorded.get(trial_id)
