"""Finds the rows of a grid that rest on other data than a run found last. Free of torch.

A row has a digest per split. ``data.csv`` has what each run found the data of its settings to be, where it differs from
what the run before it found; rows of equal data settings and other digests are stale.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.grid.columns import DIGESTS
from bench.grid.plan import TrialSettings
from bench.record.table import Table, encode

COLUMNS = ["data", *DIGESTS]
# Data settings that say how examples are handed out, not which they are.
HANDLING = {"data.size", "data.batch_size", "data.channels", "data.augment"}

Digests = tuple[str, ...]  # of train, dev and test; empty where they are not known


def key_of(settings: TrialSettings) -> str:
    """Returns the data settings that say which examples there are, as they stand in a row."""
    return _key({name: value if isinstance(value, str) else encode(value) for name, value in settings.flat().items()})


def _key(cells: Mapping[str, str]) -> str:
    return json.dumps({name: cell for name, cell in sorted(cells.items()) if _says_which(name) and cell})


def _says_which(column: str) -> bool:
    return column.startswith("data.") and column not in HANDLING


def other_data(folder: Path, rows: Sequence[Mapping[str, str]]) -> set[str]:
    """Returns the trials, by id, whose row rests on other data than the folder's last run found.

    Where no run noted what it found, the last row of equal data settings tells. Rows without digests are not judged.
    """
    if not rows or any(column not in rows[0] for column in DIGESTS):
        return set()
    names = [name for name in rows[0] if _says_which(name)]
    found: dict[tuple[str, ...], Digests] = {}
    judged = []
    for row in rows:
        if row[DIGESTS[0]]:
            cells, digests = tuple(row[name] for name in names), tuple(row[name] for name in DIGESTS)
            found[cells] = digests
            judged.append((row["trial_id"], cells, digests))
    noted = read_data(folder)
    now = {cells: noted.get(_key(dict(zip(names, cells, strict=True))), last) for cells, last in found.items()}
    return {trial_id for trial_id, cells, digests in judged if now[cells] != digests}


def read_data(folder: Path) -> dict[str, Digests]:
    """Reads what the last run that noted it found the data to be, by their settings."""
    rows = Table(folder / "data.csv", COLUMNS).rows()
    return {row["data"]: tuple(row[name] for name in DIGESTS) for row in rows}


def note_data(folder: Path, found: Mapping[str, Digests]) -> bool:
    """Notes what a run found the data to be; returns whether that is news. Raises OSError."""
    before = read_data(folder)
    news = {key: digests for key, digests in found.items() if before.get(key) != digests}
    if news:
        folder.mkdir(parents=True, exist_ok=True)
        Table(folder / "data.csv", COLUMNS).append(
            COLUMNS, [dict(zip(COLUMNS, (key, *digests), strict=True)) for key, digests in news.items()]
        )
    return bool(news)


def described(keys: Iterable[str]) -> str:
    """Names the data sets that keys are of: ``npz my.npz and digits``."""
    sets = [json.loads(key) for key in keys]
    named = {" ".join(filter(None, (one.get("data.name"), one.get("data.path")))) for one in sets}
    return " and ".join(sorted(named))
