"""What a results folder holds that no report needs: found with its size, and freed beside a driver at work.

No row of any table is touched. What belongs to a trial goes only under the trial's claim, and only where the record
says, once it is claimed, that the trial has ended so: a driver that trains it meanwhile keeps it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.record.claims import Claims
from bench.record.records import Recorded, Records
from bench.record.status import Status

KINDS = {
    "checkpoints": "weights of trials that are finished",
    "logs": "logs of trials that ended ok",
    "claims": "files of claims on finished trials that nobody holds",
    "figures": "figures that the report no longer shows",
}
ENDS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Leftover:
    """A file or folder that can go; ``trial_id`` is empty where it is of no trial."""

    kind: str
    path: Path
    size: int  # bytes
    trial_id: str = ""


def find(folder: Path, kinds: Iterable[str] = tuple(KINDS)) -> list[Leftover]:
    """Finds the leftovers of one grid's results."""
    outcomes = Records(folder).outcomes()
    found = [*_of_trials(folder, outcomes), *_figures(folder / "report")]
    wanted = set(kinds)
    return [one for one in found if one.kind in wanted]


def _of_trials(folder: Path, outcomes: dict[str, Recorded]) -> Iterator[Leftover]:
    for kind, ending in (("checkpoints", ""), ("logs", ".log"), ("claims", ".lock")):
        for path in sorted((folder / kind).glob(f"*{ending}")):
            trial_id = path.name.removesuffix(ending)
            if _is_needless(kind, outcomes.get(trial_id)):
                yield Leftover(kind, path, _size(path), trial_id)


def _is_needless(kind: str, recorded: Recorded | None) -> bool:
    if recorded is None:
        return False
    return recorded.status is Status.OK if kind == "logs" else recorded.status.is_finished


def _figures(report: Path) -> Iterator[Leftover]:
    """Yields figures that the report beside them does not name: of a metric or a version that it had before."""
    try:
        shown = (report / "report.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for path in sorted(report.iterdir()):
        if path.suffix in ENDS and f"({path.stem}.png)" not in shown:
            yield Leftover("figures", path, _size(path))


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


@dataclass(frozen=True)
class _OfTrial:
    trial_id: str
    leftovers: list[Leftover]


def free(folder: Path, found: Sequence[Leftover]) -> list[Leftover]:
    """Removes the leftovers; returns those that stayed, because a process at work holds their trial or changed it."""
    by_trial: dict[str, list[Leftover]] = {}
    for one in found:
        by_trial.setdefault(one.trial_id, []).append(one)
    for one in by_trial.pop("", []):
        one.path.unlink(missing_ok=True)
    groups = [_OfTrial(*item) for item in by_trial.items()]
    claims: Claims[_OfTrial] = Claims(Records(folder), lambda _, recorded: not recorded.status.is_finished)
    stayed = {one.path: one for group in groups for one in group.leftovers}
    for group in claims.take(groups):
        recorded = claims.recorded(group.trial_id)
        for one in group.leftovers:
            if _is_needless(one.kind, recorded):
                _remove(one.path)
                del stayed[one.path]
        claims.drop(group.trial_id, finished=True)
    return list(stayed.values())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
