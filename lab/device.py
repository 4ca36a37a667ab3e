"""The one module that knows devices, clocks and memory."""

from __future__ import annotations

import contextlib
import functools
import platform
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from lab.limits import peak_bytes, whole_memory
from lab.result import Environment


def resolve(name: str | torch.device = "auto") -> torch.device:
    """Finds a device: ``auto`` takes CUDA, then MPS, then the CPU; raises ValueError for one that is not there."""
    if name == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device mps: not available on this machine")
    return device


def worker_devices(name: str = "auto") -> list[str]:
    """Names the devices that trials can be spread over: each CUDA device, else the one there is; a named one alone."""
    device = resolve(name)
    if device.type == "cuda" and device.index is None:
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [str(device)]


def configure(device: torch.device) -> None:
    """Settles how the device computes: TF32 products and deterministic convolutions on CUDA."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.deterministic = True  # the same numbers in every run: no autotuning between algorithms
        torch.backends.cudnn.benchmark = False
        if device.index is not None:
            torch.cuda.set_device(device)


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Returns the context of a forward pass in ``float32`` or ``bfloat16``; weights stay float32."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def network_format(device: torch.device, network: nn.Module) -> torch.memory_format:
    """Weights are laid out channels last on CUDA alone: on a CPU their gradients do not come so, and are copied."""
    last = device.type == "cuda" and _takes_any_layout(network)
    return torch.channels_last if last else torch.contiguous_format


def memory_format(device: torch.device, precision: str, network: nn.Module) -> torch.memory_format:
    """Chooses channels last where convolutions are faster so: on CUDA, and in bfloat16 on a CPU.

    A network of the user's own gets images as plain PyTorch lays them out.
    Measured on one thread of a CPU with torch's own convolutions: ResNet18 in float32 8 % slower with channels last, in
    bfloat16 3 % faster, LeNet in bfloat16 34 % faster.
    """
    faster = device.type == "cuda" or (device.type == "cpu" and precision == "bfloat16")
    return torch.channels_last if faster and _takes_any_layout(network) else torch.contiguous_format


def _takes_any_layout(network: nn.Module) -> bool:
    """Tells whether it is of a package that is known to: others may ask for a ``view`` that only one layout has."""
    return type(network).__module__.partition(".")[0] in ("lab", "torchvision")


def lay_out(images: Tensor) -> Tensor:
    """Lays images ``(N, C, H, W)`` out for a convolution of ours: on a CPU channels last where ``H W`` is 16 or more.

    Measured on two threads of a CPU at 32 x 32: so LeNet and ResNet18 train 1.2 times as fast as with images as they
    come, ResNet18 1.1 times if smaller images are channels last too. On other devices images stay as they are.
    """
    if images.device.type != "cpu":
        return images
    large = images.shape[2] * images.shape[3] >= 16
    return images.to(memory_format=torch.channels_last if large else torch.contiguous_format)


def transfer(tensor: Tensor, device: torch.device, layout: torch.memory_format = torch.preserve_format) -> Tensor:
    """Copies the tensor to the device without waiting; images ``(N, C, H, W)`` in that layout."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # the copy of pageable memory would wait for the device
    return tensor.to(device, non_blocking=True, memory_format=layout if tensor.ndim == 4 else torch.preserve_format)


@dataclass
class Clock:
    """Seconds spent inside ``running()``, with the device idle at both ends."""

    device: torch.device
    now: Callable[[], float] = time.perf_counter
    seconds: float = field(default=0.0)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        synchronize(self.device)
        start = self.now()
        try:
            yield
        finally:
            synchronize(self.device)
            self.seconds += self.now() - start


def fits(num_bytes: int, device: torch.device) -> bool:
    """Tells whether a data set can be kept there: in a third of a card's memory, in an eighth of the host's.

    Shares of the whole, not of what is free: the answer must not depend on what else runs there. Each worker process
    may keep its own. Where the system does not say how much there is, it fits.
    """
    if device.type == "cuda":
        return num_bytes <= torch.cuda.mem_get_info(device)[1] / 3
    whole = whole_memory()
    return whole is None or num_bytes <= whole / 8


def reset_peak_memory(device: torch.device) -> None:
    """Restarts the high-water mark of :func:`peak_memory_bytes`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        with contextlib.suppress(OSError):  # some containers forbid it; the mark is then the process's own
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes(device: torch.device) -> int:
    """Returns the most memory held since the reset: allocated on a CUDA device, resident in this process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if (resident := peak_bytes()) is not None:
        return resident
    import resource  # not there on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB elsewhere


@functools.cache
def device_name(device: torch.device) -> str:
    """Returns the name that the maker gave the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def environment(device: torch.device) -> Environment:
    return Environment(
        device=str(device),
        device_name=device_name(device),
        threads=torch.get_num_threads(),
        torch_version=str(torch.__version__),  # torch's own type of string would import torch where it is read
        python_version=platform.python_version(),
        hostname=socket.gethostname(),
    )
