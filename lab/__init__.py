"""The laboratory: models, data, optimizers and the Runner. Knows nothing of ``bench``; usable from a notebook."""

from __future__ import annotations

import importlib
from typing import Any

# Loaded on first use, so that checking settings does not cost an import of torch.
_HOMES = {
    "Accuracy": "lab.metrics",
    "Problem": "lab.settings",
    "Result": "lab.result",
    "Runner": "lab.runner",
    "Settings": "lab.settings",
    "SettingsError": "lab.settings",
    "build_model": "lab.networks",
    "build_optimizer": "lab.optim",
    "load_data": "lab.data",
    "run_trial": "lab.trial",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lab' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
