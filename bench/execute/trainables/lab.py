"""Trials that the laboratory trains. What imports torch does so when it is called: the driver itself need not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.execute.job import Job
from bench.grid.plan import Trial
from bench.record.outcome import Outcome
from bench.record.status import Status
from lab.result import Evaluation, Identity, Inspection, Timing
from lab.sections import Problem


@dataclass(frozen=True)
class LabTrainable:
    """The laboratory as training code. Its methods can be called in another process."""

    def run(
        self,
        job: Job,
        device: str,
        on_evaluation: Callable[[Evaluation], None],
        should_stop: Callable[[], bool],
    ) -> Outcome:
        """Trains, selects the epoch on dev and reads test once; raises what network or data raise."""
        from lab.fingerprint import started_in
        from lab.process import starting_state
        from lab.settings import Settings
        from lab.trial import run_trial

        # before user code is imported: what that changes is the trial's
        with started_in(job.working_dir.resolve()), starting_state(job.settings["seed"]):
            result = run_trial(
                Settings.parse(job.settings),
                device=device,
                data_dir=job.data_dir,
                checkpoint_dir=job.folder / "checkpoints" / job.trial_id,
                checkpoint_seconds=job.checkpoint_seconds,
                keep=job.keep,
                digests=job.digests,
                on_evaluation=on_evaluation,
                should_stop=should_stop,
            )
        return Outcome(job.trial_id, Status(result.status), result.error, result)

    def devices(self, device: str) -> list[str]:
        """Names the devices to use, one per trial at a time; raises ValueError for one that is not there."""
        from lab.device import worker_devices

        return worker_devices(device)

    def identify(
        self,
        cells: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
        data_dir: Path | None,
        tried: Sequence[Mapping[str, Any]] = (),
    ) -> tuple[list[Identity], list[int]]:
        """Reads the data of cells (their sections data and train) and tells what they are.

        Then the parts of ``tried`` settings are tried on numbers that are made up: the second are indices of those that
        fail. Raises ValueError where data cannot be had, or loss or metric do not go with their labels.
        """
        from lab.trial import identify

        found = identify(cells, data_dir)
        if not tried:
            return found, []
        from lab.tryout import doubts

        return found, doubts(tried, data_dir)

    def fault(self, settings: Mapping[str, Any], device: str, data_dir: Path | None) -> Problem | None:
        """Tries the parts with the network and the data of the settings; returns what fails, if anything does."""
        from lab.tryout import fault

        return fault(settings, device, data_dir)

    def inspect(
        self, settings: Mapping[str, Any], device: str, data_dir: Path | None, threads: int, price: bool
    ) -> list[Inspection]:
        """Looks at each model by a step; with ``price`` it is timed, too."""
        from lab.inspection import inspect_all

        return inspect_all(settings, device, data_dir, threads, price)

    def time(
        self,
        settings: Sequence[Mapping[str, Any]],
        device: str,
        threads: int,
        data_dir: Path | None,
        until: float | None = None,
    ) -> list[Timing]:
        """Times each model alone on the device; those that fit, if it is to end by the time of day ``until``."""
        from lab.timing import time_settings

        return time_settings(settings, device, threads, data_dir, until=until)


LAB = LabTrainable()


def data_sections(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """Returns the distinct data settings of the trials, as plain data."""
    return list({json.dumps(dumped): dumped for dumped in (one.lab.data.model_dump() for one in trials)}.values())
