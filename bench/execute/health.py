"""Whether this machine can run the main job, what is missing for more, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module, metadata
from pathlib import Path

from bench.record.extras import DISTRIBUTION, declared, installation
from lab.limits import cores, mebibytes, memory

MAIN_JOB = "residual_vs_plain"
PURPOSES = {
    "ray": "a grid on a cluster",
    "watch": "a live page while trials run",
    "tensorboard": "export to TensorBoard",
    "mlflow": "export to MLflow",
}
# Where torchvision keeps each published data set below its root; the others come with scikit-learn.
PLACES = {
    "mnist": "MNIST/raw/train-images-idx3-ubyte",
    "fashion_mnist": "FashionMNIST/raw/train-images-idx3-ubyte",
    "kmnist": "KMNIST/raw/train-images-idx3-ubyte",
    "emnist": "EMNIST/raw",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "svhn": "train_32x32.mat",
}
TRY_LOCK = """
import sys
from filelock import FileLock, Timeout
try:
    FileLock(sys.argv[1], blocking=False).acquire()
except Timeout:
    sys.exit(3)
"""


class State(StrEnum):
    """``missing``: for something else than the main job, which ``wrong`` forbids."""

    HERE = "ok"
    MISSING = "missing"
    WRONG = "wrong"


@dataclass(frozen=True)
class Check:
    """``told``: what was found, and where it is not as it should be, what to do."""

    name: str
    state: State
    told: str


def versions() -> Iterator[Check]:
    """Looks at Python, the harness and the packages that it cannot do without; torch must import."""
    yield Check(
        "Python", State.HERE, f"{platform.python_version()} on {platform.platform(terse=True)}: {sys.executable}"
    )
    yield Check(DISTRIBUTION, State.HERE, _version(DISTRIBUTION) or "run from its sources, not installed")
    fitting = []
    for requirement in (one for one in declared() if one.marker is None or one.marker.evaluate({"extra": ""})):
        found = _version(requirement.name)
        if found and requirement.specifier.contains(found, prereleases=True):
            fitting.append(f"{requirement.name} {found}")
        else:
            told = f"{found or 'not installed'}: pip install '{requirement}'"
            yield Check(requirement.name, State.WRONG, told)
    yield Check("packages", State.HERE, ", ".join(fitting))
    try:
        import_module("torch")
    except Exception as error:  # noqa: BLE001  # whatever a broken installation raises is the finding
        yield Check("import torch", State.WRONG, f"{type(error).__name__}: {error}")


def _version(name: str) -> str:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return ""


def machine(device: str) -> Iterator[Check]:
    """Looks at cores and memory, as affinity and control groups leave them, and at each device of torch."""
    allowed, there = cores(), os.cpu_count() or 1
    cut = f" of {there}: affinity or a control group allows no more" if allowed < there else ""
    yield Check("cores", State.HERE, f"{allowed}{cut}")
    if (found := memory()) is not None:
        told = f"{mebibytes(found.free)} free of {mebibytes(found.limit)}, by what {found.of} allows"
        yield Check("memory", State.HERE, told)
    try:
        yield from _devices(device)
    except Exception as error:  # noqa: BLE001  # whatever a driver or a broken torch raises is the finding
        yield Check("device", State.WRONG, f"{type(error).__name__}: {error}")


def _devices(asked: str) -> Iterator[Check]:
    import torch

    from lab.device import device_name, resolve, worker_devices

    for name in worker_devices(asked):
        device = resolve(name)
        told = device_name(device)
        if device.type == "cuda":
            free, whole = torch.cuda.mem_get_info(device)
            told += f", {mebibytes(free)} free of {mebibytes(whole)}; CUDA {torch.version.cuda}"
        yield Check(f"device {name}", State.HERE, told)
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = f"torch is built for CUDA {built}, and finds no GPU or driver" if built else "this torch is built without"
        yield Check("CUDA", State.MISSING, why)


def data_sets(data_dir: Path | None) -> Iterator[Check]:
    """Looks for each published data set, without reading those that are not small."""
    from lab.data.published import DATA_DIR_VARIABLE, DEBIAN_FASHION_MNIST, PUBLISHED
    from lab.data.sources import default_data_dir

    root = data_dir or default_data_dir()
    bundled = [name for name in PUBLISHED if name not in PLACES]
    for name in bundled:
        try:
            PUBLISHED[name](root)
        except Exception as error:  # noqa: BLE001  # whatever a broken installation raises is the finding
            yield Check(name, State.WRONG, f"comes with scikit-learn, and cannot be read: {error}")
            return
    yield Check(", ".join(bundled), State.HERE, "with scikit-learn")
    here = [name for name, place in PLACES.items() if (root / place).exists()]
    if here:
        yield Check(", ".join(here), State.HERE, str(root))
    if "fashion_mnist" not in here and DEBIAN_FASHION_MNIST.exists():
        here.append("fashion_mnist")
        yield Check("fashion_mnist", State.HERE, str(DEBIAN_FASHION_MNIST))
    if absent := [name for name in PLACES if name not in here]:
        ways = f"downloaded into {root} when a grid first asks; or name a torchvision root: --data-dir, "
        yield Check(", ".join(absent), State.MISSING, f"{ways}{DATA_DIR_VARIABLE}")


def extras() -> Iterator[Check]:
    """Looks for the packages of each extra, without importing them."""
    for extra, purpose in PURPOSES.items():
        how = installation(extra)
        yield Check(extra, State.MISSING if how else State.HERE, f"{purpose}: {how}" if how else purpose)


def folders(results: Path) -> Iterator[Check]:
    """Writes, replaces and locks a file where results go, leaving nothing there, and looks at what room there is."""
    there = next(folder for folder in (results.absolute(), *results.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=there) as name:
            probe = Path(name) / "probe.csv"
            probe.with_suffix(".new").write_text("written")
            probe.with_suffix(".new").replace(probe)
            locks = _locks_hold(probe.with_suffix(".lock"))
    except OSError as error:
        yield Check(str(results), State.WRONG, f"cannot be written: {error.strerror}; --results names another folder")
        return
    yield Check(str(results), State.HERE, f"can be written; {mebibytes(shutil.disk_usage(there).free)} free")
    if locks:
        yield Check("locks", State.WRONG, f"{locks}; --results names a folder on a file system that has locks")
    else:
        yield Check("locks", State.HERE, "hold between processes")


def _locks_hold(path: Path) -> str:
    """Says why a lock does not hold another process off; nothing where it does."""
    from filelock import FileLock

    try:
        with FileLock(path, blocking=False):
            other = subprocess.run([sys.executable, "-c", TRY_LOCK, str(path)], check=False, capture_output=True)
    except (OSError, NotImplementedError) as error:
        return f"there are none: {error}"
    return "" if other.returncode == 3 else "a second process took a lock that was held"


def main_job(device: str, data_dir: Path | None) -> Iterator[Check]:
    """Makes every model of the main job on its data, in a process of its own, as `run` does before it trains."""
    from bench.execute.price import check_models
    from bench.grid.load import load_plan
    from bench.grid.shipped import find

    try:
        warnings = check_models(load_plan(find(MAIN_JOB)), device, data_dir).warnings
    except (ValueError, OSError) as error:
        yield Check(MAIN_JOB, State.WRONG, str(error))
        return
    for warning in warnings:
        yield Check(MAIN_JOB, State.WRONG, warning)
    if not warnings:
        yield Check(MAIN_JOB, State.HERE, "its models and data are made as `run` makes them")
