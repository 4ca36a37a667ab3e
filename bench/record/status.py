"""The statuses of a trial; the record holds the words."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    OK = "ok"
    DIVERGED = "diverged"
    ERROR = "error"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"
    MISSING = "missing"  # not recorded: never a row's status

    @property
    def is_finished(self) -> bool:
        """Whether running the trial again would give the same."""
        return self in (Status.OK, Status.DIVERGED)

    @property
    def is_failed(self) -> bool:
        """Whether the trial ended without a result."""
        return self in (Status.ERROR, Status.OUT_OF_MEMORY, Status.TIMED_OUT)

    @property
    def rank(self) -> int:
        """The rank by which one of two rows of a trial counts, the lower: it ended well, then it ended."""
        return 0 if self is Status.OK else 1 if self.has_ended else 2

    @property
    def has_ended(self) -> bool:
        return self.is_finished or self.is_failed


FINISHED = frozenset(status for status in Status if status.is_finished)
FAILED = frozenset(status for status in Status if status.is_failed)
NOT_ENDED = frozenset(status for status in Status if not status.has_ended)
