"""A Ray cluster as one of the executors. Ray itself is imported only where it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.execute.executor import Executor, ExecutorKind
from bench.execute.options import Options
from bench.execute.price import needed_bytes
from bench.execute.trainables.lab import data_sections
from bench.grid.own import Run
from bench.grid.plan import Trial, run_of


def _option(metavar: str, help: str, **more: Any) -> Any:
    return field(default=None, metadata={"metavar": metavar, "help": help, **more})


@dataclass(frozen=True)
class RayOptions:
    """The options of a run on a cluster; raises ValueError without an address."""

    address: str | None = _option("ADDRESS", "Ray cluster: auto on one of its nodes, or HOST:PORT.")
    storage: str | None = _option("PLACE", "With ray: checkpoints, in a shared folder or s3://, gs://, ...")
    cpus_per_trial: float | None = _option("N", "With ray: cores per trial, and its threads; default: 1.", min=0.01)
    gpus_per_trial: float | None = _option("N", "With ray: 0.25 puts four trials on a GPU; default: 1.", min=0)

    def __post_init__(self) -> None:
        if self.address is None:
            raise ValueError(
                "--executor ray needs --address: auto on a node of a cluster, or HOST:PORT; "
                "`ray start --head` starts one"
            )

    @property
    def place(self) -> str | None:
        """The storage, a folder as an absolute path."""
        if self.storage is None or "://" in self.storage:
            return self.storage
        return str(Path(self.storage).resolve())


def make(options: Options, trials: Sequence[Trial]) -> Executor:
    """Makes the executor once the cluster, its nodes and the data sets are known to be there."""
    from bench.execute.ray.cluster import cluster_executor

    own: RayOptions = options.executor_options
    assert own.address is not None
    run, here, results = run_of(trials), Path.cwd(), options.results.resolve()
    return cluster_executor(
        own.address,
        len(trials),
        device=options.device,
        cpus=own.cpus_per_trial or 1.0,
        gpus=own.gpus_per_trial,
        num_slots=options.jobs,
        need=lambda: needed_bytes(trials, options.data_dir),
        timeout=options.timeout,
        data=[] if run is not None else data_sections(trials),
        data_dir=options.data_dir and options.data_dir.resolve(),
        storage=own.place,
        run=run,
        working_dir=here if run is not None or any(_reads_here(trial) for trial in trials) else None,
        excludes=[f"/{results.relative_to(here)}"] if here in results.parents else [],
    )


def _reads_here(trial: Trial) -> bool:
    """Tells whether the trial uses a module or a file that may lie in the working folder."""
    return any(":" in str(value) for value in trial.settings.flat().values()) or "data.path" in trial.settings.flat()


def cautions(options: Options, run: Run | None) -> list[str]:
    if run is not None:
        again = "`resume: continue` starts again, and " if run.resume == "continue" else ""
        lost = f"; {again}`--reread` finds nothing" if run.command else ""
        return [
            f"a trial's folder is removed from its node when it ends: metrics and log are brought, files are not{lost}"
        ]
    if options.executor_options.storage is not None:
        return []
    return ["without --storage a trial that is cut off starts from the beginning, and no weights are kept"]


RAY = ExecutorKind("ray", "a Ray cluster", make, RayOptions, is_here=False, cautions=cautions)
