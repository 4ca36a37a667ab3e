"""Decides what the process that workers are forked from imports ahead: what many trials would each import again."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from bench.grid.own import Run
from lab.fingerprint import imported_by

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
    """What import statements of the function's module name, and of the user's modules that it imports, wherever."""
    named = [name for name in imported_by([path.partition(":")[0]], Path.cwd()) if name.partition(".")[0] in FORK_WELL]
    has_torch = "torch" in sys.modules or "torch" in named  # it is there once the function has been imported
    return [*OF_FUNCTIONS, *(WITH_TORCH if has_torch else ()), *named]
