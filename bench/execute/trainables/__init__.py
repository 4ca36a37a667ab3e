"""The trainables, which train a trial, by name: the seam for training code."""

from __future__ import annotations

from bench.execute.processes import call_in_child
from bench.execute.trainables.command import COMMAND
from bench.execute.trainables.function import FUNCTION
from bench.execute.trainables.lab import LAB
from bench.execute.trainables.trainable import Trainable
from bench.grid.own import Run

TRAINABLES: dict[str, Trainable] = {"lab": LAB, "function": FUNCTION, "command": COMMAND}
"""Trials that the laboratory trains, and those of own code. What imports torch does so when it is called."""


def devices(run: Run | None, device: str) -> list[str]:
    """Names the devices to use, one per trial at a time; raises ValueError for one that is not there."""
    return call_in_child(LAB.devices, device) if run is None else TRAINABLES[run.name].devices(device)
