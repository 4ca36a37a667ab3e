"""The executors that there are, by name."""

from __future__ import annotations

from bench.execute.executor import ExecutorKind
from bench.execute.inline import INLINE
from bench.execute.local import LOCAL
from bench.execute.ray.kind import RAY

EXECUTORS: dict[str, ExecutorKind] = {kind.name: kind for kind in (LOCAL, INLINE, RAY)}
