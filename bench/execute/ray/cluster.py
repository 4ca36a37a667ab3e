"""The way to a Ray cluster: what is checked before the first trial, and what is sent to every node once.

Ray is imported only where it is used: without it, all but ``--executor ray`` works.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import platform
import re
import socket
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.execute.preload import modules_ahead
from bench.execute.price import PLENTY
from bench.execute.processes import call_in_child
from bench.execute.ray.executor import RayExecutor
from bench.execute.ray.slot import NodeRequirements
from bench.execute.ray.storage import Storage
from bench.grid.own import Run
from bench.record.extras import installation

# What a built-in data set consists of, in a torchvision root.
DATA_FILES = {
    "mnist": ["MNIST"],
    "fashion_mnist": ["FashionMNIST"],
    "kmnist": ["KMNIST"],
    "emnist": ["EMNIST"],
    "cifar10": ["cifar-10-batches-py"],
    "cifar100": ["cifar-100-python"],
    "svhn": ["train_32x32.mat", "test_32x32.mat"],
}


def connect(address: str, working_dir: Path | None, excludes: Sequence[str] = ()) -> None:
    """Joins the cluster as a driver; our packages, and the user's ``working_dir`` if given, go to every node once.

    Raises ValueError where Ray is not installed, there is no cluster at the address, or its versions are others.
    """
    try:
        import ray
    except ImportError:
        how = installation("ray") or "pip install ray"
        raise ValueError(f"--executor ray needs Ray, here and on every node: {how}") from None
    _probe(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
    code: dict[str, Any] = {
        "py_modules": [str(Path(__file__).parents[3] / package) for package in ("bench", "lab")],
        "excludes": ["__pycache__", *excludes],
    }
    if working_dir is not None:
        code["working_dir"] = str(working_dir)
    ray.shutdown()  # of the grid before this one
    try:
        ray.init(address=address, runtime_env=code, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        versions = f"Ray {ray.__version__}, Python {platform.python_version()}"
        raise ValueError(
            f"--address {address}: cannot be used by {versions}: {' '.join(str(error).split())}"
        ) from error


def _probe(address: str) -> None:
    """Raises ValueError where nobody listens: Ray itself would ask again for minutes."""
    if address == "auto":
        return
    match = re.fullmatch(r"([^:/]+|\[[^]]+\]):(\d+)", address)
    if match is None:
        raise ValueError(f"--address must be auto, on a node of the cluster, or HOST:PORT, got {address!r}")
    try:
        socket.create_connection((match[1].strip("[]"), int(match[2])), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"--address {address}: no Ray cluster answers there ({error}); `ray start --head` starts one and tells "
            "its address"
        ) from None


def cluster_executor(
    address: str,
    num_jobs: int,
    *,
    device: str = "auto",
    cpus: float = 1.0,
    gpus: float | None = None,
    num_slots: int | None = None,
    need: Callable[[], int | None] = lambda: None,
    timeout: float | None = None,
    data: Sequence[Mapping[str, Any]] = (),
    data_dir: Path | None = None,
    storage: str | None = None,
    run: Run | None = None,
    working_dir: Path | None = None,
    excludes: Sequence[str] = (),
) -> RayExecutor:
    """Makes an executor on the cluster at ``address``, its nodes checked; raises ValueError with what is wrong.

    The driver has read the data sets: what Ray's nodes lack of the built-in ones is sent to them. ``gpus`` per trial:
    by default one where the cluster has any and the device is not the CPU. ``run`` is own code: it needs no data sets.
    ``need`` tells the bytes that a trial needs; it is asked where nodes are short of memory, and not with cards, nor
    where ``num_slots`` says how many trials run at once.
    """
    connect(address, working_dir, excludes)
    import ray

    if gpus is None:
        gpus = 1.0 if device != "cpu" and ray.cluster_resources().get("GPU") else 0.0
    device = ("cuda" if gpus else "cpu") if device == "auto" else device
    torch_version, packed = "", b""
    if run is None:
        torch_version, root = call_in_child(inspect_driver, data_dir)
        packed = pack(data, root)
    requirements = NodeRequirements(
        device,
        max(1, int(cpus)),
        timeout,
        tuple(data),
        data_dir,
        (hashlib.sha256(packed).hexdigest()[:16], [ray.put(packed)]) if packed else None,
        storage,
        Storage(storage).token() if storage else "",
        torch_version,
        "" if run is None else run.name,
        tuple(modules_ahead([run])),
    )
    memory = memory_of_slot(cpus, need) if not gpus and num_slots is None else {}
    executor = RayExecutor(requirements, {"CPU": cpus, "GPU": gpus, **memory}, num_slots)
    executor.start(num_jobs)
    return executor


def memory_of_slot(cpus: float, need: Callable[[], int | None]) -> dict[str, float]:
    """Returns what a slot is to hold of Ray's resource memory, where nodes do not have plenty for each trial.

    No more than the largest node has: one trial at a time may fit all the same.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= cpus]
    if all(node.get("memory", 0) >= PLENTY * node["CPU"] / cpus for node in nodes) or not (needed := need()):
        return {}
    return {"memory": min(needed, max(node.get("memory", 0) for node in nodes))}


def inspect_driver(data_dir: Path | None) -> tuple[str, Path]:
    """Finds torch's version, a plain string, and the built-in data sets, in a process that may import torch."""
    import torch

    from lab.data import default_data_dir

    return str(torch.__version__), data_dir or default_data_dir()


def pack(data: Sequence[Mapping[str, Any]], root: Path) -> bytes:
    """Packs the built-in data sets' files under ``root`` into a zip file; empty where nothing is to be sent."""
    files = [
        file
        for settings in data
        for name in DATA_FILES.get(settings["name"], [])
        for file in sorted([root / name, *(root / name).rglob("*")])
        if file.is_file()
    ]
    if not files:
        return b""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in dict.fromkeys(files):
            archive.writestr(zipfile.ZipInfo(str(file.relative_to(root))), file.read_bytes())  # no times: same digest
    return whole.getvalue()
