"""Finds the devices that own code can be given, without torch."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess

KNOWN = "device must be auto, cpu, cuda, cuda:N or mps"


def cards(device: str) -> list[str]:
    """Returns the devices that trials can be spread over: each CUDA device, else the CPU; a named one is that one.

    Raises ValueError for one that is not there.
    """
    if device in ("cpu", "mps"):
        return [device]
    match = re.fullmatch(r"(auto|cuda)(?::(\d+))?", device)
    if match is None or (match[1] == "auto" and match[2]):
        raise ValueError(f"{KNOWN}, got {device!r}")
    count = num_cards()
    if match[2] is not None:
        if int(match[2]) >= count:
            raise ValueError(f"device {device}: this machine has {count} CUDA devices")
        return [device]
    if device == "cuda" and not count:
        raise ValueError("device cuda: this machine has 0 CUDA devices")
    return [f"cuda:{index}" for index in range(count)] or ["cpu"]


@functools.cache
def num_cards() -> int:
    """Counts the CUDA devices that this process may use, as the driver's own program lists them."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, check=False).stdout
    there = sum(line.startswith("GPU ") for line in listed.splitlines())
    return there if allowed is None else min(there, len([one for one in allowed.split(",") if one.strip()]))
