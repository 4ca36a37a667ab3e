"""Which source code a result was made by. Free of torch."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import sys
from pathlib import Path

from lab.settings import Settings

# The modules of the laboratory that a trial's numbers can depend on.
TRAINING = ("data", "device", "metrics", "models", "optim", "parts", "runner", "streams", "trial")


def source_fingerprint(settings: Settings) -> str:
    """12 hex digits over :func:`sources`."""
    text = "".join(f"{name}={digest};" for name, digest in sources(settings).items())
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sources(settings: Settings) -> dict[str, str]:
    """A digest of each source file that a trial uses: the laboratory's, and those of the parts that it names."""
    named = [settings.data.name, settings.model.name, settings.optimizer.name, settings.schedule.name]
    paths = [name for name in [*named, settings.train.loss, settings.train.metric] if ":" in name]
    return _digests(tuple(sorted({path.partition(":")[0] for path in paths})), Path.cwd())


@functools.cache
def _digests(modules: tuple[str, ...], working_dir: Path) -> dict[str, str]:
    if str(working_dir) not in sys.path:
        sys.path.insert(0, str(working_dir))
    files = {f"lab/{name}.py": Path(__file__).with_name(f"{name}.py") for name in TRAINING}
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.has_location and spec.origin is not None:  # a module in C has no source
            files[module] = Path(spec.origin)
    return {name: hashlib.sha256(file.read_bytes()).hexdigest()[:12] for name, file in files.items()}
