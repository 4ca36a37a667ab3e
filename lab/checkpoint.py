"""The state of a trial on the disk, from which a trial that was cut off resumes."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lab.runner import Runner
from lab.weights import save_weights

# What torch.load and Runner.load_state raise for a file that is torn, not ours, or of another network.
UNREADABLE = (
    OSError,
    EOFError,
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)


class Checkpoint:
    """The state of a trial on the disk: ``last.pt`` until it ends, ``best.pt`` then.

    A state that other source code wrote, or that cannot be read or does not fit, is not resumed from: the trial starts
    from the beginning, and its log says why. Where there is no room, training goes on without.
    """

    def __init__(self, folder: Path | None, seconds: float, keep: str, runner: Runner, fingerprint: str) -> None:
        self._folder, self._seconds, self._keep = folder, seconds, keep
        self._runner, self._fingerprint = runner, fingerprint
        self._saved = time.monotonic()

    def load(self) -> None:
        """Restores the state that was left, if there is one that fits."""
        if self._folder is None or not (self._folder / "last.pt").exists():
            return
        path, beginning = self._folder / "last.pt", self._runner.state()
        try:
            state = torch.load(path, map_location=self._runner.device, weights_only=True)
            if state.pop("source_fingerprint") != self._fingerprint:
                raise ValueError("other source code wrote it")
            self._runner.load_state(state)
        except UNREADABLE as error:
            self._runner.load_state(beginning, strict=False)  # some of the weights may have been restored already
            print(f"{path}: not resumed from, the trial starts from the beginning: {type(error).__name__}: {error}")
        else:
            print(f"resumes at step {self._runner.progress.step}")

    def save_if_due(self) -> None:
        if time.monotonic() - self._saved >= self._seconds:
            self.save()

    def save(self) -> None:
        self._write("last.pt", lambda: self._runner.state() | {"source_fingerprint": self._fingerprint})
        self._saved = time.monotonic()

    def finish(self) -> None:
        if self._keep != "none":
            self._write("best.pt", lambda: self._runner.best_weights)
        if self._keep == "all":
            self.save()
        else:
            self._attempt("removed", "last.pt", lambda path: path.unlink(missing_ok=True))

    def _write(self, name: str, content: Callable[[], dict[str, Any]]) -> None:
        self._attempt("written", name, lambda path: save_weights(content(), path))

    def _attempt(self, what: str, name: str, act: Callable[[Path], None]) -> None:
        if self._folder is None:
            return
        try:
            act(self._folder / name)
        except (OSError, pickle.PicklingError, TypeError, AttributeError) as error:  # of state that is no tensor
            print(f"{self._folder / name}: not {what}: {error}")
