"""Executors: every trial comes back, however it ended; one suite for all of them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.execute import processes
from bench.execute.events import Ended, Evaluated, Event, Lost, Started
from bench.execute.executor import Executor
from bench.execute.inline import InlineExecutor
from bench.execute.job import Job
from bench.execute.local import LocalExecutor
from bench.execute.processes import CallError, call_in_child
from bench.execute.ray.cluster import connect, inspect_driver
from bench.execute.ray.executor import RayExecutor
from bench.execute.ray.slot import NodeRequirements
from bench.execute.trainables.lab import LAB
from bench.record.outcome import Outcome
from lab.memory import release_memory
from lab.settings import Settings

NETS = """
    import os, resource, signal, sys, time
    from pathlib import Path
    import torch
    from torch import nn

    class Linear(nn.Module):
        def __init__(self, num_classes: int, size: int):
            super().__init__()
            self.fc = nn.Linear(size * size, num_classes)
        def forward(self, X):
            return self.fc(X.flatten(1))

    class Raises(Linear):
        def forward(self, X):
            print("about to fail")
            raise RuntimeError("no such luck")

    class Prints(Linear):
        def forward(self, X):
            print("x" * 10_000)
            os.system("echo from a child process")
            return super().forward(X)

    class Nan(Linear):
        def forward(self, X):
            return super().forward(X) * float("nan")

    class OutOfMemory(Linear):
        def forward(self, X):
            return torch.empty(10**15)

    class HostOutOfMemory(Linear):
        def forward(self, X):
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            soft, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, hard))
            try:
                return [torch.ones(2**22) for _ in range(1000)]
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    class Quits(Linear):
        def forward(self, X):
            sys.exit("had enough")

    class Hangs(Linear):
        def forward(self, X):
            if self.training:
                time.sleep(600)
            return super().forward(X)

    class Slow(Linear):
        def forward(self, X):
            time.sleep(0.02)
            return super().forward(X)

    class Exits(Linear):
        def forward(self, X):
            os._exit(3)

    class Killed(Linear):
        def forward(self, X):
            os.kill(os.getpid(), signal.SIGKILL)

    class KilledByNumber(Linear):
        def forward(self, X):
            os.kill(os.getpid(), signal.SIGRTMIN + 6)

    class ForksAndDies(Linear):
        def forward(self, X):
            if os.fork() == 0:
                time.sleep(5)  # holds the worker's end of the connection meanwhile
            os._exit(3)

    class ForksAndForgets(Linear):
        def forward(self, X):
            if os.fork() == 0 and self.training:
                raise RuntimeError("in the child process")  # else it goes on as if it were the worker
            return super().forward(X)

    class Forks(Linear):
        def forward(self, X):
            if os.fork() == 0:
                os._exit(0)
            os.wait()
            return super().forward(X)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets.py").write_text(textwrap.dedent(NETS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def job(folder: Path) -> Callable[..., Job]:
    def make(net: str = "nets:Linear", seed: int = 0, epochs: int = 1) -> Job:
        raw: dict[str, Any] = {
            "data": {"name": "digits"},
            "model": {"name": net},
            "optimizer": {"name": "sgd", "lr": 0.1},
            "train": {"epochs": epochs},
            "seed": seed,
        }
        if ":" not in net:
            raw["model"]["hidden"] = [16]
        trial_id = f"{net.split(':')[-1]}-{seed}"
        Settings.parse(raw)
        return Job(trial_id, raw, folder, working_dir=folder)

    return make


def outcomes(events: Iterator[Event]) -> dict[str, Outcome]:
    return {event.outcome.trial_id: event.outcome for event in events if isinstance(event, Ended)}


class RayExecutors:
    """Executors on the cluster; their slots stay warm for the next test that asks for the same."""

    def __init__(self) -> None:
        self._last: tuple[object, RayExecutor] | None = None

    def __call__(self, num_workers: int = 2, timeout: float | None = None) -> RayExecutor:
        asked = (num_workers, timeout)
        if self._last is None or self._last[0] != asked or self._last[1]._stopping:
            if self._last is not None:
                self._last[1].close()
            version = call_in_child(inspect_driver, None)[0]
            requirements = NodeRequirements("cpu", threads=1, timeout=timeout, torch_version=version)
            self._last = asked, RayExecutor(requirements, {"CPU": 1.0, "GPU": 0.0}, num_slots=num_workers)
            self._last[1].start(num_workers)
        return self._last[1]


@pytest.fixture(scope="module")
def ray_executors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayExecutors]:
    cluster = request.getfixturevalue("cluster")  # skips where Ray is missing
    folder = tmp_path_factory.mktemp("code")
    (folder / "nets.py").write_text(textwrap.dedent(NETS))
    connect(cluster.address, folder)
    yield RayExecutors()
    import ray

    ray.shutdown()


Workers = Callable[..., Executor]  # (num_workers=2, timeout=None)


@pytest.fixture(params=["local", "ray"])
def workers(request: pytest.FixtureRequest) -> Workers:
    """Makes an executor whose workers are processes."""
    if request.param == "ray":
        return request.getfixturevalue("ray_executors")  # type: ignore[no-any-return]  # pytest does not know
    return lambda num_workers=2, timeout=None: LocalExecutor(["cpu"] * num_workers, threads=1, timeout=timeout)


@pytest.fixture(params=["inline", "local", "ray"])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "ray":
        return request.getfixturevalue("ray_executors")()  # type: ignore[no-any-return]  # pytest does not know
    return InlineExecutor("cpu", 1) if request.param == "inline" else LocalExecutor(["cpu", "cpu"], threads=1)


def test_each_job_starts_is_evaluated_and_ends(executor: Executor, job: Callable[..., Job]) -> None:
    events = list(executor.run([job("mlp", seed) for seed in range(3)]))
    for seed in range(3):
        own = [e for e in events if (e.outcome.trial_id if isinstance(e, Ended) else e.trial_id) == f"mlp-{seed}"]
        assert [type(e) for e in own] == [Started, Evaluated, Evaluated, Ended]
        assert own[-1].outcome.status == "ok"  # type: ignore[union-attr]  # the last one is Ended


def test_a_failure_is_an_outcome_and_the_others_go_on(
    executor: Executor, job: Callable[..., Job], folder: Path
) -> None:
    kinds = ("Raises", "Quits", "Nan", "OutOfMemory", "HostOutOfMemory", "Forks", "ForksAndForgets", "Linear")
    nets = [f"nets:{kind}" for kind in kinds]
    found = outcomes(executor.run([job(net) for net in nets]))
    assert {name: outcome.status for name, outcome in found.items()} == {
        "Raises-0": "error",
        "Quits-0": "error",
        "Nan-0": "diverged",
        "OutOfMemory-0": "out_of_memory",
        "HostOutOfMemory-0": "out_of_memory",
        "Forks-0": "ok",
        "ForksAndForgets-0": "ok",
        "Linear-0": "ok",
    }
    assert found["Raises-0"].error == "RuntimeError: no such luck (nets.py, line 17, in forward)"
    assert found["Quits-0"].error == "SystemExit: had enough (nets.py, line 45, in forward)"
    if isinstance(
        executor, InlineExecutor | LocalExecutor
    ):  # on a cluster weights go to the storage, and there is none
        assert [path.name for path in (folder / "checkpoints" / "Nan-0").iterdir()] == ["best.pt"]
    assert len(found["Nan-0"].result.curve) == 2  # type: ignore[union-attr]  # it has one
    log = (folder / "logs" / "Raises-0.log").read_text()
    assert "about to fail" in log
    assert "Traceback" in log


def test_an_executor_does_not_change_the_numbers(workers: Workers, job: Callable[..., Job]) -> None:
    jobs = [job("mlp", seed) for seed in range(2)]
    results = []
    for executor in (InlineExecutor("cpu", 1), LocalExecutor(["cpu"], 1), workers()):
        found = outcomes(executor.run(jobs))
        results.append([[p.scores["dev_loss"] for p in found[j.trial_id].result.curve] for j in jobs])  # type: ignore[union-attr]
    assert results[0] == results[1] == results[2]


def test_the_event_of_an_ended_trial_is_taken_before_its_worker_goes_on(
    executor: Executor, job: Callable[..., Job]
) -> None:
    busy: set[int] = set()
    for event in executor.run([job("mlp", seed) for seed in range(4)]):
        if isinstance(event, Started):
            assert event.worker not in busy
            busy.add(event.worker)
        elif isinstance(event, Ended):
            busy.remove(event.worker)


@pytest.mark.parametrize(
    ("net", "error"),
    [
        ("nets:Exits", "the worker process ended by itself with exit code 3"),
        ("nets:Killed", "the worker process was ended by SIGKILL, as the system does when memory runs out"),
        ("nets:KilledByNumber", "the worker process was ended by signal 40"),
        ("nets:ForksAndDies", "the worker process ended by itself with exit code 3"),
    ],
)
def test_a_worker_that_dies_is_an_outcome_and_another_takes_over(
    workers: Workers, job: Callable[..., Job], net: str, error: str
) -> None:
    found = outcomes(workers(1).run([job(net), job("mlp")]))
    assert (found[job(net).trial_id].status, found[job(net).trial_id].error) == ("error", error)
    assert found["mlp-0"].status == "ok"


def test_memory_that_runs_out_in_a_process_that_ran_a_trial_before_is_tried_once_more_in_a_fresh_one(
    job: Callable[..., Job],
) -> None:
    enormous = job("mlp", 1)
    enormous.settings["model"]["hidden"] = [10**13]
    events = list(LocalExecutor(["cpu"], threads=1).run([job("mlp", 0), enormous]))
    assert [type(event) for event in events if not isinstance(event, Evaluated)] == [
        *(Started, Ended),
        *(Started, Lost, Started, Ended),
    ]
    assert [event.outcome.status for event in events if isinstance(event, Ended)] == ["ok", "out_of_memory"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system gets memory back otherwise")
def test_what_an_ended_trial_held_goes_back_to_the_system() -> None:
    blocks = [bytes(100_000) for _ in range(1000)]  # 100 MB in pieces
    del blocks[:-1]  # the last one lies above them all
    before = resident_bytes()
    release_memory()
    assert resident_bytes() < before - 50_000_000


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_trial_that_hangs_is_timed_out(workers: Workers, job: Callable[..., Job]) -> None:
    found = outcomes(workers(1, timeout=3).run([job("nets:Hangs"), job("mlp")]))
    assert (found["Hangs-0"].status, found["Hangs-0"].error) == ("timed_out", "ran longer than 3 seconds")
    assert found["mlp-0"].status == "ok"


def test_stop_interrupts_what_is_under_way_and_starts_nothing_more(executor: Executor, job: Callable[..., Job]) -> None:
    jobs = [job("nets:Slow", seed, epochs=1000) for seed in range(4)]
    timer = threading.Timer(5, executor.stop)
    timer.start()
    start = time.monotonic()
    found = outcomes(executor.run(jobs))
    timer.join()
    assert time.monotonic() - start < 30
    assert {outcome.status for outcome in found.values()} == {"interrupted"}
    assert len(found) == executor.num_workers


def test_a_trial_that_does_not_end_when_asked_is_ended(
    job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.execute.local.STOP_SECONDS", 0.2)
    executor = LocalExecutor(["cpu"], threads=1)
    run = executor.run([job("nets:Hangs")])
    assert isinstance(next(run), Started)
    executor.stop()
    (outcome,) = outcomes(run).values()
    assert (outcome.status, outcome.error) == ("interrupted", "asked to stop, and was ended")


def test_no_worker_outlives_the_run(job: Callable[..., Job]) -> None:
    executor = LocalExecutor(["cpu", "cpu"], threads=1)
    run = executor.run([job("nets:Slow", seed, epochs=1000) for seed in range(2)])
    next(run)
    next(run)
    processes = [worker.process for worker in executor._workers]
    run.close()  # type: ignore[attr-defined]  # a generator
    assert [process.is_alive() for process in processes] == [False, False]


def test_what_a_check_in_a_child_process_refuses_is_raised_here() -> None:
    assert call_in_child(LAB.devices, "cpu") == ["cpu"]
    with pytest.raises(ValueError, match="device must be auto, cpu"):
        call_in_child(LAB.devices, "tpu")
    with pytest.raises(ValueError, match=r"none\.npz: cannot be read"):
        call_in_child(LAB.identify, [({"name": "npz", "path": "none.npz"}, {"epochs": 1})], None)


def test_a_check_that_kills_its_process_is_an_error() -> None:
    with pytest.raises(CallError, match="exit code 7"):
        call_in_child(os._exit, 7)


def test_a_check_that_hangs_is_an_error() -> None:
    with pytest.raises(CallError, match=r"ran longer than 0\.5 seconds"):
        call_in_child(time.sleep, 600, timeout=0.5)


def test_this_process_is_not_a_worker() -> None:
    assert os.getpid() != call_in_child(os.getpid)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_no_trial_fails_of_its_log(executor: Executor, job: Callable[..., Job], folder: Path) -> None:
    (folder / "logs").mkdir()
    for name in ("Prints-0", "Raises-0"):
        (folder / "logs" / f"{name}.log").symlink_to("/dev/full")
    (folder / "logs" / "mlp-0.log").mkdir()  # cannot be opened
    found = outcomes(executor.run([job(net) for net in ("nets:Prints", "nets:Raises", "mlp")]))
    assert {name: outcome.status for name, outcome in found.items()} == {
        "Prints-0": "ok",
        "Raises-0": "error",
        "mlp-0": "ok",
    }
    assert str(found["Raises-0"].error).startswith("RuntimeError: no such luck")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are not forked")
def test_workers_find_published_data_read_and_what_is_missing_is_theirs_to_report(tmp_path: Path) -> None:
    """In a process of its own: the server process is started once."""
    (tmp_path / "look.py").write_text(
        "from lab.data.loading import _splits\n"
        "def held(): return _splits.cache_info().currsize\n"
        "def load(name):\n"
        "    import torch; from lab.data import load_data; from lab.settings import parse_section\n"
        "    return load_data(parse_section('data', {'name': name}), torch.device('cpu')).num_classes\n"
    )
    script = (
        "import look\nfrom pathlib import Path\nfrom bench.execute.processes import call_in_child, warm_up\n"
        "warm_up(['torch'], [{'name': 'digits'}, {'name': 'svhn'}, {'name': 'look:none'}], Path('nowhere'))\n"
        "print([call_in_child(look.held) for _ in range(2)])\n"
        "try:\n    call_in_child(look.load, 'svhn')\nexcept ValueError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    held, error = done.stdout.splitlines()
    assert held == "[1, 1]", "one data set, there before any worker asked for it"
    assert error.startswith("SVHN is not in ")


def test_a_process_that_is_gone_while_its_own_are_looked_for_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: Path, pattern: str) -> Iterator[Path]:
        raise FileNotFoundError(path)

    process = processes.context().Process(target=time.sleep, args=(60,))
    processes.start(process)
    monkeypatch.setattr(Path, "glob", gone)
    processes.end(process)
    assert not process.is_alive()
