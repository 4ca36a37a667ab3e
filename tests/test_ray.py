"""The grid on a Ray cluster: the same rows, whatever happens to its nodes, and one message for what is wrong before."""

from __future__ import annotations

import csv
import io
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import RayCluster
from test_faults import wait_for
from torture import recorded

from bench.execute.events import Ended, Evaluated, Lost, Started
from bench.execute.job import Job
from bench.execute.processes import call_in_child
from bench.execute.ray.cluster import connect, inspect_driver, memory_of_slot, pack
from bench.execute.ray.executor import MOST_LOSSES, RayExecutor, of_memory
from bench.execute.ray.slot import NodeRequirements, unpack
from bench.execute.ray.storage import Storage

ROOT = Path(__file__).parents[1]
LOCAL = "undisturbed"
GRID = """
question: Is anything lost on a cluster?
base:
  data: {name: digits, augment: shift}
  model: {name: "nets:Net", width: 64}
  optimizer: {name: adam, lr: 0.002}
  train: {epochs: 40}
factors:
  model.norm: [true, false]
seeds: 2
"""
NETS = """
import time
from pathlib import Path

from torch import nn

class Net(nn.Sequential):
    num_steps = 0

    def __init__(self, num_classes: int, width: int = 8, norm: bool = True):
        norms = [nn.BatchNorm1d(width)] if norm else []
        super().__init__(nn.Flatten(), nn.Linear(64, width), *norms, nn.ReLU(), nn.Linear(width, num_classes))

    def forward(self, X):
        self.num_steps += self.training
        if self.num_steps > 60 and Path({slow!r}).exists():  # some checkpoints old
            time.sleep(1)
        return super().forward(X)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one works: a grid, a network of one's own, and the results of the local executor."""
    folder = tmp_path_factory.mktemp("grid")
    (folder / "torture.yaml").write_text(GRID)
    (folder / "nets.py").write_text(NETS.format(slow=str(folder / "slow")))
    done = subprocess.run(command(LOCAL, "-j", "2"), cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def command(results: str, *words: str) -> list[str]:
    words = ("--results", results, "--checkpoint", "0", "--no-time", *words)
    return [sys.executable, "-m", "bench", "run", "torture.yaml", *words]


def start(folder: Path, cluster: RayCluster, results: str, *words: str) -> subprocess.Popen[bytes]:
    on_ray = ("--executor", "ray", "--address", cluster.address, "--storage", f"stored-{results}", *words)
    with (folder / f"{results}.txt").open("ab") as output:
        return subprocess.Popen(command(results, *on_ray), cwd=folder, env=environment(), stdout=output, stderr=output)


def said(folder: Path, results: str) -> str:
    return (folder / f"{results}.txt").read_text()


def rows(folder: Path, results: str) -> list[dict[str, str]]:
    path = folder / results / "torture" / "trials.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_as_undisturbed(folder: Path, results: str) -> None:
    for table in ("trials.csv", "curves.csv"):
        found, expected = ([without_place(row) for row in recorded(folder, name, table)] for name in (results, LOCAL))
        assert found == expected
    found, expected = (
        sorted((folder / name / "torture" / "correct.csv").read_text().splitlines()) for name in (results, LOCAL)
    )
    assert found == expected


def without_place(row: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in row.items() if name not in {"node", "concurrent_trials"}}


def logs(folder: Path, results: str) -> str:
    return "".join(log.read_text() for log in folder.glob(f"{results}/torture/logs/*.log"))


# --- what may happen in a run ---------------------------------------------------------------------------------------


@pytest.fixture
def slow(folder: Path) -> Iterator[Path]:
    """While this file exists, trials go on slowly after their first checkpoints: what is to happen meanwhile does."""
    (folder / "slow").touch()
    yield folder / "slow"
    (folder / "slow").unlink(missing_ok=True)


def checkpoints(folder: Path, results: str, since: int = 0) -> int:
    """How many trials have a last state in the storage that is newer than ``since``."""
    files = (folder / f"stored-{results}" / "torture").glob("*/last.pt")
    return sum(file.stat().st_mtime_ns > since for file in files)


def test_a_driver_that_is_killed_or_stopped_and_started_again_loses_nothing(
    folder: Path, cluster: RayCluster, slow: Path
) -> None:
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 130)):
        before = time.time_ns()
        process = start(folder, cluster, "driver")
        wait_for(lambda before=before: checkpoints(folder, "driver", before) == 2)
        process.send_signal(number)
        assert process.wait() == code, said(folder, "driver")
    assert [row["status"] for row in rows(folder, "driver")] == ["interrupted"] * 2
    slow.unlink()
    assert start(folder, cluster, "driver").wait() == 0, said(folder, "driver")
    assert logs(folder, "driver").count("resumes at step") == 4  # twice each
    assert_same_as_undisturbed(folder, "driver")


def test_a_node_that_joins_gets_a_trial_and_when_it_dies_another_goes_on_with_it(
    folder: Path, cluster: RayCluster, slow: Path
) -> None:
    process = start(folder, cluster, "nodes")
    wait_for(lambda: checkpoints(folder, "nodes") == 2)
    cluster.tell("add")
    wait_for(lambda: checkpoints(folder, "nodes") == 3)
    cluster.tell("kill")
    wait_for(lambda: "was lost" in said(folder, "nodes"))
    slow.unlink()
    assert process.wait() == 0, said(folder, "nodes")
    assert "resumes at step" in logs(folder, "nodes")
    assert_same_as_undisturbed(folder, "nodes")
    found = rows(folder, "nodes")
    assert {row["device"] for row in found} == {"cpu"}
    assert len({row["node"] for row in found}) == 2
    assert all(row["hostname"] and row["node"][:6] in said(folder, "nodes") for row in found)
    assert len([*folder.glob("stored-nodes/torture/*/best.pt")]) == 4
    assert checkpoints(folder, "nodes") == 0


@pytest.fixture
def connected(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Connects to it; its nodes are waited for as long as they take."""
    for name in ("START_SECONDS", "OTHERS_SECONDS"):
        monkeypatch.setattr(f"bench.execute.ray.executor.{name}", 600)
    connect(cluster.address, None)
    yield
    import ray

    ray.shutdown()


def make_executor(requirements: NodeRequirements, num_slots: int | None = None) -> RayExecutor:
    return RayExecutor(requirements, {"CPU": 1.0, "GPU": 0.0}, num_slots)


def make_job(folder: Path, seed: int = 0, epochs: int = 1, data: str = "digits") -> Job:
    settings = {
        "data": {"name": data},
        "model": {"name": "mlp", "hidden": [8]},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "train": {"epochs": epochs},
        "seed": seed,
    }
    return Job(f"trial-{seed}", settings, folder)


def requirements(**more: object) -> NodeRequirements:
    version = call_in_child(inspect_driver, None)[0]
    return NodeRequirements(**{"device": "cpu", "threads": 1, "timeout": None, "torch_version": version, **more})  # type: ignore[arg-type]


@pytest.mark.usefixtures("connected")
def test_a_slot_that_dies_is_replaced_and_a_trial_whose_slots_die_again_and_again_is_an_error(tmp_path: Path) -> None:
    import ray

    executor = make_executor(requirements(), num_slots=1)
    executor.start(1)
    events = []
    for event in executor.run([make_job(tmp_path, seed=0, epochs=10**6), make_job(tmp_path, seed=1)]):
        events.append(event)
        if isinstance(event, Started) and event.trial_id == "trial-0":
            ray.kill(executor._slots[event.worker].actor)
    executor.close()
    told = [type(event) for event in events if not isinstance(event, Evaluated)]  # it may get so far before it dies
    assert told[:5] == [Started, Lost, Started, Lost, Started]
    ended = {event.outcome.trial_id: event.outcome for event in events if isinstance(event, Ended)}
    assert ended["trial-0"].status == "error"
    assert f"{MOST_LOSSES}. one with this trial" in str(ended["trial-0"].error)
    assert ended["trial-1"].status == "ok"
    assert set(ended["trial-0"].node_columns) == {"node", "hostname", "device"}


class ClosedPort:
    """Stands for the head of a cluster that is gone: nobody listens, and asking Ray for its nodes fails the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setattr("bench.execute.ray.executor._head", lambda: self.address)
        monkeypatch.setattr(RayExecutor, "_room", lambda _: pytest.fail("would wait for a head that is gone"))


def test_a_head_that_is_gone_is_not_waited_for_and_after_a_while_that_is_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head = ClosedPort(monkeypatch)
    clock = itertools.count(0, 15)
    executor = RayExecutor(NodeRequirements("cpu", 1, None), {"CPU": 1.0}, now=lambda: float(next(clock)))
    executor._grow()
    assert executor._silent_since is not None
    with pytest.raises(ValueError, match=f"the head of the cluster, {head.address}, is gone; .* run it again"):
        executor._grow()


def test_a_head_that_answers_again_is_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    ClosedPort(monkeypatch)
    executor = RayExecutor(NodeRequirements("cpu", 1, None), {"CPU": 1.0})
    executor._grow()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        monkeypatch.setattr("bench.execute.ray.executor._head", lambda: address)
        assert executor._hears_head()
    assert executor._silent_since is None


@pytest.mark.usefixtures("connected")
def test_built_in_data_sets_are_sent_to_nodes_that_lack_them(tmp_path: Path) -> None:
    import ray

    raw = tmp_path / "mine" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        pixels, labels = random.integers(0, 255, (count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10
        header = bytes([0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 28, 0, 0, 0, 28])
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, count]) + labels.tobytes())
    packed = pack([{"name": "mnist"}, {"name": "digits"}], tmp_path / "mine")
    assert len(zipfile.ZipFile(io.BytesIO(packed)).namelist()) == 4
    digest = f"test-{os.getpid()}"
    executor = make_executor(requirements(data=({"name": "mnist"},), sent=(digest, [ray.put(packed)])), num_slots=1)
    executor.start(1)
    (end,) = [event for event in executor.run([make_job(tmp_path, data="mnist")]) if isinstance(event, Ended)]
    executor.close()
    assert end.outcome.status == "ok", end.outcome.error
    assert (unpack(digest, None) / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").exists()


# --- what is wrong before the first trial ---------------------------------------------------------------------------


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"torch_version": "1.13.0"}, "has torch .*, the driver 1.13.0: they must be the same"),
        ({"data": ({"name": "npz", "path": "none.npz"},)}, "data.path: none.npz: cannot be read"),
        ({"storage": "/proc/none", "token": "x"}, "--storage /proc/none: cannot be written"),
        ({"device": "cuda:9"}, "device cuda:9: this machine has 0 CUDA devices"),
    ],
)
def test_what_a_node_lacks_is_one_message(needs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"--executor ray: node .*: {message}") as caught:
        make_executor(requirements(**needs), num_slots=1).start(1)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.usefixtures("connected")
def test_a_node_where_torch_is_not_installed_is_named(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")")
    cluster.tell(f"add PYTHONPATH={tmp_path}")
    message = r"node .+: lacks what a trial needs \(No module named 'torch'\): install this package there"
    try:
        with pytest.raises(ValueError, match=message) as caught:
            make_executor(requirements(), num_slots=3).start(3)
    finally:
        cluster.tell("kill")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.usefixtures("connected")
def test_more_than_any_node_has_is_one_message() -> None:
    executor = RayExecutor(requirements(), {"CPU": 1.0, "GPU": 2.0})
    with pytest.raises(ValueError, match=r"no node of the cluster has what a trial asks for \(1 CPU, 2 GPU\); it has"):
        executor.start(1)


@pytest.mark.usefixtures("connected")
def test_a_node_holds_as_many_slots_as_its_memory_does() -> None:
    import ray

    wait_for(lambda: sum(node["Alive"] for node in ray.nodes()) == 3)  # one that another test killed is gone
    memory = min(node["Resources"]["memory"] for node in ray.nodes() if node["Resources"].get("CPU"))
    executor = RayExecutor(requirements(), {"CPU": 0.25, "GPU": 0.0, "memory": memory * 0.6})
    executor.start(8)
    assert executor.num_workers == 2  # a node each; by cores they would be eight
    executor.close()


@pytest.mark.parametrize(
    ("gibibytes", "needed", "expected"),
    [(16, None, {}), (12, 2, {"memory": 2 * 2**30}), (1, 2, {"memory": 2**30}), (12, None, {})],
)
def test_slots_hold_memory_where_nodes_lack_plenty_for_each(
    gibibytes: int, needed: int | None, expected: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a node of four cores, which has plenty from 4 GiB for each on; beside a head that runs no trial."""
    pytest.importorskip("ray", reason="needs the extra ray")
    nodes = [{"CPU": 4.0, "memory": gibibytes * 2.0**30}, {"memory": 2.0**30}]
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": one} for one in nodes])
    assert memory_of_slot(1.0, lambda: needed and needed * 2**30) == expected


def test_nobody_looks_at_what_trials_need_where_nodes_have_plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"CPU": 4.0, "memory": 2.0**34}}])
    assert memory_of_slot(1.0, lambda: pytest.fail("looked")) == {}


def test_a_node_that_ran_out_of_memory_is_told_with_what_was_used_and_what_there_is() -> None:
    """As Ray 2.60 tells it, on several lines with advice."""
    told = "1 worker(s) were killed due to the node running low on memory. "
    told += "Memory on the node (IP: 192.0.2.2, ID: f4f2) was 4.23GB used / 23.54GB limit (0.179536)\n"
    told += "OOM kill reason: Memory usage 4338458624B exceeded threshold of 4246455040B (16.8% of 25276518400B limit)"
    used = "its processes held 4.23GB; it has 23.54GB"
    assert of_memory(Exception(told)) == f"out of memory: Ray ended the slot, for its node ran low: {used}"


def refused(folder: Path, *words: str) -> str:
    done = subprocess.run(command("refused", *words), cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--address", "auto"], "--address goes with --executor ray, got --executor local"),
        (["--gpus-per-trial", "0.25"], "--gpus-per-trial goes with --executor ray"),
        (["--executor", "ray"], "--executor ray needs --address: auto on a node of a cluster, or HOST:PORT"),
    ],
)
def test_options_of_a_cluster_go_with_ray(
    tmp_path: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torture.yaml").write_text(GRID)
    assert message in refused(tmp_path, *words)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster answers there .*; `ray start --head` starts one"),
        ("nowhere", "must be auto, on a node of the cluster, or HOST:PORT, got 'nowhere'"),
        ("ray://127.0.0.1:10001", "must be auto, on a node of the cluster, or HOST:PORT"),
    ],
)
def test_an_address_without_a_cluster_is_one_message(address: str, message: str) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    with pytest.raises(ValueError, match=message):
        connect(address, None)


def test_versions_that_differ_are_one_message(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.__version__", "2.9.0")
    with pytest.raises(ValueError, match=r"cannot be used by Ray 2.9.0, Python .*: Version mismatch"):
        connect(cluster.address, None)


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"needs Ray, here and on every node: pip install '?ray"):
        connect("auto", None)


# --- a Slurm job, with stand-ins for Slurm and Ray --------------------------------------------------------------------

STAND_INS = {
    "srun": 'while [ "$1" != ray ]; do shift; done; exec "$@"',
    "scontrol": '[ "$1" = show ] && printf "one\\ntwo\\nthree\\n"',
    "squeue": "[ -e cancelled ] && echo COMPLETING || echo RUNNING",
    "ray": '[ "$1" = status ] || exec sleep 60; touch starting; [ ! -e slow ]',
    "python": 'trap "sleep 0.5; exit 130" TERM; until [ "$(grep -c ^srun said)" = 2 ]; do sleep 0.05; done; '
    "[ -e ends ] && exit 0; touch started; while :; do sleep 0.1; done",
}


@pytest.fixture
def slurm_job(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts docs/slurm.sh in a folder where files of these names lie, which tell the stand-ins what to do."""
    for name, body in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\necho {name} $* >> said\n{body}\n")
        (tmp_path / name).chmod(0o755)
    variables = {"NODELIST": "[one-three]", "ID": "7"}
    job = {f"SLURM_JOB_{name}": value for name, value in variables.items()}
    job |= {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_CPUS_PER_TASK": "4", "SLURM_NNODES": "3"}

    def start(*files: str, path: str = f"{tmp_path}:{os.environ['PATH']}") -> subprocess.Popen[bytes]:
        for name in files:
            (tmp_path / name).touch()
        words = [shutil.which("bash") or "bash", str(ROOT / "docs" / "slurm.sh"), "grid.yaml", "--seeds", "1"]
        environment = {**os.environ, **job, "PATH": path}
        with (tmp_path / "errors").open("w") as errors:
            return subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=errors)

    return start


@pytest.mark.parametrize(("ends", "code"), [(True, 0), (False, 130)])
def test_a_slurm_job_runs_the_grid_on_its_nodes_and_is_queued_again_where_it_is_cut_off(
    ends: bool, code: int, tmp_path: Path, slurm_job: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = slurm_job("ends") if ends else slurm_job()
    if not ends:
        wait_for((tmp_path / "started").exists)
        process.terminate()  # as Slurm's --signal=B:TERM
    assert process.wait() == code
    told = (tmp_path / "said").read_text()
    assert re.search("srun --cpus-per-task=4 --nodes=1 --ntasks=1 --nodelist=one .* ray start --head", told)
    assert re.search("srun --cpus-per-task=4 --nodes=2 --ntasks=2 --exclude=one .* ray start --address=", told)
    assert re.search(
        rf"python -m bench run grid.yaml --seeds 1 --executor ray --address \S+:20007 --storage {tmp_path}/checkpoints",
        told,
    )
    assert ("scontrol requeue 7" in told) == (not ends)


def test_a_slurm_job_that_is_cut_off_while_ray_starts_is_queued_again_without_a_run(
    tmp_path: Path, slurm_job: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = slurm_job("slow")
    wait_for((tmp_path / "starting").exists)
    process.terminate()
    assert process.wait() == 143
    told = (tmp_path / "said").read_text()
    assert ("scontrol requeue 7" in told, "python -m bench" in told) == (True, False)


def test_a_slurm_job_that_is_cancelled_is_not_queued_again(
    tmp_path: Path, slurm_job: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = slurm_job("cancelled")
    wait_for((tmp_path / "started").exists)
    process.terminate()  # from the nodes, which Slurm ends
    assert process.wait() == 130
    assert "scontrol requeue" not in (tmp_path / "said").read_text()


def test_a_slurm_job_without_ray_says_so_at_once(
    tmp_path: Path, slurm_job: Callable[..., subprocess.Popen[bytes]]
) -> None:
    (tmp_path / "ray").unlink()
    process = slurm_job(path=str(tmp_path))
    assert process.wait() == 2
    told = (tmp_path / "errors").read_text()
    assert told == "ray: not found; submit the job from the environment that has it\n"


# --- storage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["folder", "memory://checkpoints"])
def test_a_storage_keeps_what_the_folder_holds(tmp_path: Path, address: str, make_dir: Callable[[str], Path]) -> None:
    storage = Storage(str(tmp_path / address) if address == "folder" else address)
    here, there = make_dir("here"), make_dir("there")
    (here / "last.pt").write_text("step 1")
    storage.store("grid/trial", here)
    (here / "last.pt").write_text("step 2")
    os.utime(here / "last.pt", ns=(1, 1))
    storage.store("grid/trial", here)
    storage.fetch("grid/trial", there)
    assert (there / "last.pt").read_text() == "step 2"
    (there / "last.pt").unlink()
    (there / "best.pt").write_text("weights")
    storage.store("grid/trial", there)
    storage.fetch("grid/trial", other := make_dir("other"))
    assert not [*other.iterdir()]
    storage.forget("grid/trial")
    assert storage.token() == storage.token()


def test_a_storage_of_an_unknown_kind_is_one_message() -> None:
    with pytest.raises(ValueError, match="--storage nosuch://x: cannot be used: Protocol not known: nosuch"):
        Storage("nosuch://x")


@pytest.fixture
def make_dir(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        (tmp_path / name).mkdir()
        return tmp_path / name

    return make
