"""Checkpoints apart from any node: a folder that all nodes share, or any address that fsspec knows (s3://, gs://)."""

from __future__ import annotations

import uuid
from pathlib import Path

NAMES = ("last.pt", "best.pt")
TOKEN = ".ablation-bench"


class Storage:
    """The checkpoints at ``address``, as ``<address>/<grid>/<trial_id>/last.pt``.

    Raises ValueError for an address that cannot be used; OSError where reading or writing fails later.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        self.address = address
        try:
            self._files, self._root = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise ValueError(f"--storage {address}: cannot be used: {error}") from error
        self._stamps: dict[Path, int] = {}

    def token(self) -> str:
        """Returns what the storage is known by, written there once; raises ValueError where it cannot be."""
        path = f"{self._root}/{TOKEN}"
        try:
            if not self._files.exists(path):
                self._files.makedirs(self._root, exist_ok=True)
                self._files.pipe_file(path, uuid.uuid4().hex.encode())
            found: bytes = self._files.cat_file(path)
        except OSError as error:
            raise ValueError(f"--storage {self.address}: cannot be written: {error}") from error
        return found.decode()

    def fetch(self, trial: str, folder: Path) -> None:
        """Brings the last state of ``trial`` (``<grid>/<trial_id>``) into ``folder``, if there is one."""
        source = f"{self._root}/{trial}/last.pt"
        if self._files.exists(source):
            folder.mkdir(parents=True, exist_ok=True)
            self._files.get_file(source, str(folder / "last.pt"))
            self._stamps[folder / "last.pt"] = (folder / "last.pt").stat().st_mtime_ns

    def store(self, trial: str, folder: Path) -> None:
        """Makes what is stored of ``trial`` like ``folder``; what did not change there is left alone.

        A file is written aside, then moved: a node that is lost meanwhile leaves the old state whole.
        """
        for name in NAMES:
            path, target = folder / name, f"{self._root}/{trial}/{name}"
            stamp = path.stat().st_mtime_ns if path.exists() else 0
            if stamp == self._stamps.get(path, 0):
                continue
            if stamp:
                self._files.makedirs(f"{self._root}/{trial}", exist_ok=True)
                self._files.put_file(str(path), f"{target}.part")
                self._files.mv(f"{target}.part", target)
            elif self._files.exists(target):
                self._files.rm_file(target)
            self._stamps[path] = stamp

    def forget(self, trial: str) -> None:
        """Removes what is stored of ``trial``."""
        if self._files.exists(f"{self._root}/{trial}"):
            self._files.rm(f"{self._root}/{trial}", recursive=True)
