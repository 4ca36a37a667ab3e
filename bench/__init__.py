"""The driver: grids in, trained trials, records, statistics and a report out.

From Python: :func:`load_plan` checks a grid, :func:`run` trains it, :func:`findings` answers.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

# An editable installation may be found by a hook alone, after all of `sys.path`: a `lab.py` of the working folder,
# which comes last on that path, would stand in the way of ours here and in every process that inherits the path.
if (_root := __path__[0].removesuffix(f"{os.sep}bench")) not in sys.path:
    sys.path.append(_root)

if TYPE_CHECKING:
    from bench.cli.python import Findings, Plan, Refusal, Summary, findings, load_plan, run

__all__ = ["Findings", "Plan", "Refusal", "Summary", "findings", "load_plan", "run"]


def __getattr__(name: str) -> Any:
    """Imports what a notebook uses when it is asked for: every process of a run imports this package."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("bench.cli.python"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
