"""Data sets by name: published ones, files, and whatever a callable of the user gives."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path

from lab.data.arrays import from_arrays, npz
from lab.data.folders import image_folder
from lab.data.published import DATA_DIR_VARIABLE, PUBLISHED
from lab.data.sets import DataSet
from lab.imports import as_part_error, load
from lab.parts import accepts, arguments, settings_type

READERS: dict[str, Callable[..., DataSet]] = PUBLISHED | {"npz": npz, "image_folder": image_folder}


def default_data_dir() -> Path:
    """Returns the folder named by the environment, else a cache folder of the user."""
    named = os.environ.get(DATA_DIR_VARIABLE)
    return Path(named) if named else user_cache_path("ablation-bench") / "data"


def read(name: str, root: Path, said: str = "{}") -> DataSet:
    """Reads the data set ``name``; ``said`` is its own settings as JSON. Raises :class:`DataError` if it is missing."""
    settings = json.loads(said)
    if name in READERS:
        return READERS[name](root, **settings)
    part = load(name)
    own = arguments(settings_type("data", name).model_validate({"name": name, **settings}))
    with as_part_error(f"data {name}: raised"):
        found = part(**accepts(part, {"root": root}), **own)
    return from_arrays(name, found)
