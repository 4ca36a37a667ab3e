"""Loaded once by the server process that workers are forked from: they start with torch imported and the data read.

What is there when a worker is forked is memory that all of them share, as long as nobody writes to it. A SIGTERM to the
whole group is the driver's to handle; it must not take the server, and the workers with it.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
from pathlib import Path

from bench.execute.preload import OF_LAB, REHEARSED
from bench.execute.processes import AHEAD_VARIABLE, restore_path
from bench.execute.trainables.function import rehearse
from lab.limits import cores


def read_ahead(data_dir: str | None, sections: list[dict[str, object]]) -> None:
    """Reads the published data sets among the sections; what cannot be had is a worker's to report."""
    import torch

    from lab.data import PUBLISHED, load_data
    from lab.settings import DataSettings, parse_section

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a process that has begun threads of OpenMP must not fork
    for section in sections:
        if section["name"] in PUBLISHED:
            settings = parse_section("data", section)
            assert isinstance(settings, DataSettings)
            with contextlib.suppress(Exception):  # whatever a torn file raises, the worker that needs it says so
                load_data(settings, torch.device("cpu"), None if data_dir is None else Path(data_dir))
    torch.set_num_threads(threads)


def limit_to_quota() -> None:
    """Allows no more threads than the quota, for whoever sets no number: torch counts the machine's cores."""
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), cores()))


def import_ahead(modules: list[str]) -> None:
    """Imports modules, in the place where user code will look for them; what fails is the trial's to tell."""
    for name in modules:
        with contextlib.suppress(Exception):  # own code runs where torch is not installed
            importlib.import_module(name)


restore_path()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ahead = json.loads(os.environ.pop(AHEAD_VARIABLE, "{}"))
import_ahead([*ahead.get("modules", OF_LAB), "bench.execute.local"])
if "torch" in sys.modules:
    limit_to_quota()
if ahead.get("data"):
    read_ahead(ahead["data_dir"], ahead["data"])
if REHEARSED in sys.modules:
    rehearse()
gc.freeze()  # what was imported stays: the collection after each trial need not go through it, nor copy its pages
