"""Data sets by name: published ones, files, and whatever a callable of the user gives."""

from __future__ import annotations

import inspect
import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from lab import parts
from lab.data.arrays import from_arrays, npz
from lab.data.errors import DataError
from lab.data.folders import image_folder
from lab.data.published import DATA_DIR_VARIABLE, PUBLISHED
from lab.data.sets import DataSet

READERS: dict[str, Callable[..., DataSet]] = PUBLISHED | {"npz": npz, "image_folder": image_folder}


def default_data_dir() -> Path:
    """The folder named by the environment, else a cache folder of the user."""
    named = os.environ.get(DATA_DIR_VARIABLE)
    return Path(named) if named else user_cache_path("ablation-bench") / "data"


def read(name: str, root: Path, own: str = "{}") -> DataSet:
    """The data set ``name``; ``own`` is its own settings as JSON. Raises :class:`DataError` where it is missing."""
    settings = json.loads(own)
    if name in READERS:
        return READERS[name](root, **settings)
    part = parts.load(name)
    given: dict[str, Any] = {"root": root} if "root" in inspect.signature(part).parameters else {}
    try:
        found = part(**settings, **given)
    except Exception as error:  # a user's code may raise anything, and it is the user's to mend
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"data {name}: raised {reason} ({where.filename}:{where.lineno}, {where.name})") from error
    return from_arrays(name, found)
