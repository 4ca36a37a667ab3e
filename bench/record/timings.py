"""Reads ``timings.csv``: models timed alone on a device."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from bench.record.records import number
from bench.record.table import Table
from lab.result import Timing

NUMBERS = [field.name for field in fields(Timing) if field.type in ("int", "float")]


def read_timings(folder: Path, unreadable: list[str] | None = None) -> list[dict[str, str]]:
    """Returns the rows as text, without those in which no number stands where one belongs; each model's last.

    Of those it adds to ``unreadable`` where they stand, and why. Earlier versions had fewer columns.
    """
    table, found = Table(folder / "timings.csv", ["timing_id", "reliable"]), []
    wrong = []
    for index, row in enumerate(table.rows()):
        try:
            for name in NUMBERS:
                if number(name, row.get(name, "")) is None and name.startswith("train_images"):
                    raise ValueError(f"{name} must be a number, got ''")
        except ValueError as error:
            wrong.append(f"{table.line_of(index)}: {error}")
        else:
            found.append(row)
    if unreadable is not None:
        unreadable += [*table.unreadable, *wrong]
    return found
