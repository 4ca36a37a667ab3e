"""What a command leaves when it comes to its end: enough to read its metrics again without running it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.execute.job import Job
from bench.execute.trainables.readers import Output, make_readers
from bench.execute.trainables.reported import Origin, Reported, outcome
from bench.grid.own import OwnSettings, Run
from bench.record.outcome import Outcome
from bench.record.status import Status
from lab.result import Environment

ENDED = "ended.json"
FILES = "files"  # the folder of the trials' own folders


@dataclass(frozen=True)
class Kept:
    """The output of one command that ended by itself with exit code 0, in ``folder``."""

    folder: Path
    run: Run
    settings: Mapping[str, Any]
    origin: Origin
    log: tuple[int, int]  # first and last byte of its output in the trial's log
    seconds_at: Mapping[str, float] = field(default_factory=dict)  # when a point of the curve came, by step

    @property
    def output_id(self) -> str:
        sections = {name: members for name, members in self.settings.items() if name != "seed"}
        return OwnSettings(sections, self.run, self.settings["seed"]).output_id

    def write(self) -> None:
        """Writes what :func:`kept_outputs` reads."""
        plain = {"run": self.run.plain(), "settings": self.settings, "log": self.log, "seconds_at": self.seconds_at}
        (self.folder / ENDED).write_text(json.dumps(plain | asdict(self.origin), ensure_ascii=False), encoding="utf-8")

    def read(self, job: Job) -> Outcome:
        """Reads its metrics as the job's declarations say, into the outcome of the job's trial."""
        assert job.run is not None
        reported = Reported()
        try:
            for reader in make_readers(job.run.read, self.folder / "metrics.jsonl", {"folder": self.folder}):
                if isinstance(reader, Output):
                    reader.feed(self._output())
                reader.read(reported, is_last=True)
        except ValueError as error:
            return Outcome(job.trial_id, Status.ERROR, f"ValueError: {error}")
        reported.seconds = {step: self.seconds_at.get(str(step), self.origin.seconds) for step in reported.seconds}
        return outcome(job, reported, self.origin)

    def _output(self) -> bytes:
        first, last = self.log
        with (self.folder.parents[1] / "logs" / f"{self.folder.name}.log").open("rb") as file:
            file.seek(first)
            return file.read(last - first)


def kept_outputs(results: Path) -> dict[str, Kept]:
    """Returns the outputs that a results folder keeps, by ``output_id``, of several the newest."""
    files = sorted(results.glob(f"{FILES}/*/{ENDED}"), key=lambda path: path.stat().st_mtime)
    found = (_restored(path) for path in files)
    return {kept.output_id: kept for kept in found if kept is not None}


def _restored(path: Path) -> Kept | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        made = Origin(Environment(**raw["environment"]), raw["sources"], raw["seconds"])
        return Kept(path.parent, Run.restored(raw["run"]), raw["settings"], made, tuple(raw["log"]), raw["seconds_at"])
    except (OSError, ValueError, LookupError, TypeError):  # torn, or the user's own: nothing that can be read again
        return None
