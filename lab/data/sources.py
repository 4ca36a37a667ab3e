"""Data sets by name: published ones, files, and whatever a callable of the user gives."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from lab.data.arrays import from_arrays, npz
from lab.data.folders import image_folder
from lab.data.published import DATA_DIR_VARIABLE, PUBLISHED
from lab.data.sets import DataSet
from lab.imports import load, told

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
    part = load(name)
    given: dict[str, Any] = {"root": root} if "root" in inspect.signature(part).parameters else {}
    with told(f"data {name}: raised"):
        found = part(**settings, **given)
    return from_arrays(name, found)
