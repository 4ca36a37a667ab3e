"""Which source code a trial is made by: the laboratory's and the parts that it names, or training code of one's own."""

from __future__ import annotations

from bench.grid.own import OwnSettings
from bench.grid.plan import TrialSettings
from lab import fingerprint
from lab.settings import Settings


def sources(settings: TrialSettings) -> dict[str, str]:
    """Returns a digest of each source file that a trial uses."""
    if isinstance(settings, OwnSettings):
        return settings.run.sources() | settings.run.selection()
    assert isinstance(settings, Settings)
    return fingerprint.sources(settings)


def source_fingerprint(settings: TrialSettings) -> str:
    """Returns 12 hex digits over :func:`sources`."""
    return fingerprint.fingerprint(sources(settings))
