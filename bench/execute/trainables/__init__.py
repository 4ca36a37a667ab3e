"""The trainables, which train a trial, by name: the seam for training code."""

from __future__ import annotations

from bench.execute.trainables.lab import LAB
from bench.execute.trainables.trainable import Trainable

TRAINABLES: dict[str, Trainable] = {"lab": LAB}
