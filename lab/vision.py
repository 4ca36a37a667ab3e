"""The import of torchvision, which not every pairing with torch survives."""

from __future__ import annotations

import importlib
import re
from types import ModuleType

import torch


def import_torchvision() -> ModuleType:
    """Imports torchvision, beside a CPU-only torch as well.

    PyPI's torchvision wheel is built for the CUDA torch. Beside a CPU-only torch its compiled detection operators do
    not load, and the import fails where it describes them, though data sets, models and transforms do not need them.
    Each operator named by that failure is declared, without an implementation, and the import tried again.
    """
    while True:
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            missing = re.search(r"operator (torchvision::\w+) does not exist", str(error))
            if missing is None:
                raise
            torch.library.define(missing[1], "(Tensor x) -> Tensor")  # fails itself where it is already declared
