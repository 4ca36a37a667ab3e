"""The optional packages, by the extra that asks for them, and what to type for those that are missing."""

from __future__ import annotations

import importlib.util
import shlex
from contextlib import suppress
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "ablation-bench"
EXTRAS = {  # the package that each module comes with
    "ray": {"ray": "ray"},
    "watch": {"starlette": "starlette", "uvicorn": "uvicorn", "sse_starlette": "sse-starlette"},
    "tensorboard": {"tensorboard": "tensorboard"},
    "mlflow": {"mlflow": "mlflow-skinny", "sqlalchemy": "sqlalchemy", "alembic": "alembic"},
}


def declared() -> list[Requirement]:
    """Returns what the harness and its extras ask for; none where it runs from sources that are not installed."""
    from packaging.requirements import Requirement  # here: `--help` and completion need none

    with suppress(metadata.PackageNotFoundError):
        return list(map(Requirement, metadata.requires(DISTRIBUTION) or []))
    return []


def missing(extra: str) -> list[str]:
    """Returns the packages of an extra that are not installed, by the names that pip knows; imports none."""
    return [package for name, package in EXTRAS[extra].items() if importlib.util.find_spec(name) is None]


def installation(extra: str) -> str:
    """Returns the ``pip install`` of what an extra lacks here; nothing where all is there.

    It names packages, not ``ablation-bench[extra]``, which pip would look for elsewhere where this is not installed.
    """
    ranges = {one.name: f"{one.name}{one.specifier}" for one in declared()}
    lacking = [ranges.get(package, package) for package in missing(extra)]
    return f"pip install {shlex.join(lacking)}" if lacking else ""
