"""What every test stands on: one thread, no network, no data folder of the user, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from lab.settings import Settings

hypothesis.settings.register_profile("fixed", derandomize=True)  # the same examples in every run: no luck
hypothesis.settings.load_profile("fixed")

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, here and in worker processes


@pytest.fixture(autouse=True)
def _one_thread_one_seed() -> None:
    """The same start for each test, without an import of torch for those that do not need it."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder that is looked in by default: empty, not the user's."""
    folder = tmp_path / "data"
    monkeypatch.setenv("LAB_DATA_DIR", str(folder))
    return folder


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what starts a cluster, before the marks are selected by."""
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cluster)


class RayCluster:
    """A cluster of tests/cluster.py: a head without cores and two nodes of one core each."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("cluster.py")), "2"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.address = self._read()
        assert self.address, "the cluster did not start: python tests/cluster.py 2 says why"

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self, words: str) -> None:
        """``add``, ``add VARIABLE=VALUE`` or ``kill``: the node that was added last."""
        assert self._process.stdin is not None
        print(words, file=self._process.stdin, flush=True)
        assert self._read() == "done"

    def close(self) -> None:
        self._process.communicate("quit\n", timeout=300)


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayCluster]:
    pytest.importorskip("ray", reason="needs the extra ray")
    cluster = RayCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def make_settings() -> Callable[..., Settings]:
    """Settings of a trial that takes a fraction of a second; arguments change it by dotted path."""

    def make(changes: dict[str, Any] | None = None) -> Settings:
        raw: dict[str, Any] = {
            "data": {"name": "digits", "limit": 200, "batch_size": 32},
            "model": {"name": "mlp", "hidden": [16]},
            "optimizer": {"name": "momentum", "lr": 0.05},
            "schedule": {},
            "train": {"epochs": 2},
        }
        for path, value in (changes or {}).items():
            section, _, key = path.partition(".")
            if key == "name":
                raw[section] = {k: v for k, v in raw[section].items() if section == "data" and k != "name"}
            if key:
                raw[section][key] = value
            else:
                raw[section] = value
        return Settings.parse(raw)

    return make


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """A working folder of one's own: call it with a module's name and source, and import paths find it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(module: str, source: str) -> None:
        (tmp_path / f"{module}.py").write_text(source)

    yield write
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]
