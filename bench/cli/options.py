"""What commands share: arguments, options, and the ways to end without an answer."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

Grids = Annotated[list[Path], typer.Argument(metavar="GRID", help="Grid files.", show_default=False)]
RecordedGrids = Annotated[
    list[Path] | None, typer.Argument(metavar="GRID", help="Grids; default: all that have results.")
]
Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="Folder of all results.")]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="K=V", help="Replace a setting; several values make it a factor.")
]
Only = Annotated[list[str], typer.Option("--only", metavar="K=V", help="Keep only the cells with this level.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")]
DataDir = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the data sets: a torchvision root.")]
Seeds = Annotated[int | None, typer.Option("--seeds", metavar="N", min=1, help="Seeds 0 to N-1.")]


class Refused(Exception):  # noqa: N818  # a message and exit code 2, not an error of ours
    """What was asked for cannot be done; the message says why, where, and what would be allowed."""


class Unrecorded(Exception):  # noqa: N818  # likewise, with exit code 1
    """Something that was computed could not be written."""


def seconds(option: str, text: str) -> float:
    """``0``, ``90``, ``90s``, ``10m`` or ``2h`` in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match:
        raise Refused(f"{option} must be a time such as 90s, 10m or 2h, got {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def python() -> str:
    """What to type for the Python that runs this."""
    return "python" if shutil.which("python") == sys.executable else sys.executable
