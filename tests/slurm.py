"""A Slurm of two nodes on this machine, whose daemons end with it: Debian's packages slurm-wlm and munge."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
CONFIGURATION = """
ClusterName=test
FirstJobId={first_job}
SlurmctldHost={host}({address})
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
NodeName=one NodeHostname={host} NodeAddr={address} Port={ports[1]} CPUs=1
NodeName=two NodeHostname={host} NodeAddr={address} Port={ports[2]} CPUs=1
PartitionName=low Nodes=one,two Default=YES PriorityTier=1 GraceTime=600
PartitionName=high Nodes=one,two PriorityTier=2 PreemptMode=OFF
"""


def lacking() -> str:
    """Why no Slurm can be started here; empty where one can."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"needs Slurm (Debian: slurm-wlm, munge): no {', '.join(missing)}"
    return "" if os.getuid() == 0 else "needs root, to start Slurm's daemons"


@contextlib.contextmanager
def cluster(folder: Path, more: str = "") -> Iterator[Path]:
    """Starts it, with ``more`` lines of configuration; yields its configuration file for SLURM_CONF."""
    host = socket.gethostname().partition(".")[0]
    for name in ("munge", "state", "one", "two"):
        (folder / name).mkdir(mode=0o755, parents=True)
    own = {"host": host, "address": socket.gethostbyname(host), "folder": folder, "ports": _free_ports(3)}
    own["first_job"] = os.getpid()  # docs/slurm.sh takes a port by it: not one of another cluster's
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**own) + more)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    files = {"key": "munge.key", "socket": "munge/socket", "pid": "munge.pid", "log": "munge.log", "seed": "munge.seed"}
    munge = [f"--{name}{'' if name == 'socket' else '-file'}={folder / file}" for name, file in files.items()]
    use = ["-D", "-f", str(folder / "slurm.conf")]
    with contextlib.ExitStack() as stack:
        stack.enter_context(_daemon(folder, "munged", "--foreground", "--force", *munge))
        wait_for((folder / "munge" / "socket").exists)
        stack.enter_context(_daemon(folder, "slurmctld", *use, "-c"))
        for node in ("one", "two"):
            stack.enter_context(_daemon(folder, "slurmd", *use, "-N", node))
        wait_for(lambda: ask(folder / "slurm.conf", "sinfo", "-h", "-p", "low", "-t", "idle", "-o", "%D") == "2")
        yield folder / "slurm.conf"
        ask(folder / "slurm.conf", "scancel", "--state=RUNNING", "--partition=low")
        ask(folder / "slurm.conf", "scancel", "--partition=low")
        wait_for(lambda: ask(folder / "slurm.conf", "squeue", "-h") == "")


def ask(configuration: Path, *command: str, **environment: str) -> str:
    """What a program of Slurm's answers on standard output."""
    own = {**os.environ, "SLURM_CONF": str(configuration), **environment}
    return subprocess.run(command, env=own, capture_output=True, text=True, check=False).stdout.strip()


def submit(configuration: Path, folder: Path, *words: str, **environment: str) -> str:
    """Submits a job from that folder; returns its number."""
    own = {**os.environ, "SLURM_CONF": str(configuration), **environment}
    command = ["sbatch", "--parsable", *words]
    told = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    return told.stdout.strip()


def wait_for(condition: Callable[[], object], seconds: float = 900) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.3)


@contextlib.contextmanager
def _daemon(folder: Path, *command: str) -> Iterator[None]:
    with (folder / "daemons.txt").open("a") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]
