"""Decides what the process that workers are forked from imports ahead: what many trials would each import again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bench.grid.own import Run
from bench.grid.own_code import loaded_with
from lab.fingerprint import imported_by
from lab.visiting import asked, is_asked

OF_LAB = ("torch._dynamo", "lab.trial")  # the first: the first optimizer of a process imports it
REHEARSED = "threadpoolctl"  # once it is there, what a trial of a function does for the first time is done ahead
OF_FUNCTIONS = ("numpy", "numpy.random", "bench.grid.own_code", REHEARSED)
WITH_TORCH = ("torch._dynamo", "lab.process")
# Packages that start nothing when they are imported, so that a process may be forked after it.
FORK_WELL = {"numpy", "scipy", "pandas", "sklearn", "matplotlib", "torch", "torchvision", "lightning", "transformers"}


def modules_ahead(runs: Iterable[Run | None]) -> list[str]:
    """Lists the modules for trials of these training codes; None is the laboratory."""
    found: dict[str, None] = {}
    for run in runs:
        found |= dict.fromkeys(OF_LAB if run is None else _of_function(run.function) if run.function else ())
    return list(found)


def _of_function(path: str) -> list[str]:
    """What was there once the function had been imported, and what import statements of the user's modules name."""
    seen = [name for name in asked(loaded_with, path) if name.count(".") < 2] if is_asked(loaded_with, path) else []
    named = [*seen, *imported_by([path.partition(":")[0]], Path.cwd())]
    found = [name for name in named if name.partition(".")[0] in FORK_WELL and "._" not in name]
    return [*OF_FUNCTIONS, *(WITH_TORCH if "torch" in found else ()), *found]
