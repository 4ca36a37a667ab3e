"""Processes beside the driver: how they start, a call in one, and how they end with whatever they started."""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import signal
import site
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from lab.imports import as_part_error, import_paths
from lab.limits import kills, mebibytes, memory, peak_bytes

AHEAD_VARIABLE = "BENCH_WARM_AHEAD"  # what the server process imports and reads ahead: modules, data, data_dir
# A socket's name has at most 107 bytes (unix(7)), and multiprocessing adds /pymp-abcdefgh/listener-abcdefgh.
MOST_SOCKET_FOLDER, SHORT_FOLDERS = 74, ("/tmp", "/var/tmp", f"/run/user/{getattr(os, 'getuid', int)()}", "/dev/shm")
LOOK_SECONDS = 0.2  # between two looks at what a process holds
SERVER_GONE = 255  # the exit code of a process whose server process ended before it could tell
PATH_VARIABLE = "BENCH_PATH_BEFORE"  # what the server process puts back in its environment

T = TypeVar("T")


def context() -> Any:
    """Says how processes start: forked from a server that has imported torch, where the system allows; else afresh."""
    _place_sockets()
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["bench.execute.warm"])
    with _allowed():
        _start_tracker()
        with _own_path(), _equal_hashes():
            multiprocessing.forkserver.ensure_running()
    return found


def _start_tracker() -> None:
    """Starts the process that removes what killed workers leave in shared memory; of that it says nothing."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (before, "ignore:resource_tracker:UserWarning")))
    try:
        multiprocessing.resource_tracker.ensure_running()
    finally:
        _put_back({"PYTHONWARNINGS": before})


def start(process: BaseProcess) -> None:
    """Starts a process; raises ValueError where the system allows no more."""
    with _equal_hashes(), _allowed():
        process.start()


@contextlib.contextmanager
def _allowed() -> Iterator[None]:
    """Says what is short where a process cannot be started, in this one or in the server, which ends of it."""
    try:
        yield
    except (EOFError, BlockingIOError, ConnectionError) as error:
        raise ValueError(
            "no process could be started: the system allows this user (ulimit -u) or container (its limit of pids, "
            "which counts threads) no more; -j sets fewer workers"
        ) from error


def _place_sockets() -> None:
    """Has sockets of multiprocessing lie in a folder whose name is short enough for one, whatever TMPDIR says."""
    before = tempfile.tempdir
    try:
        if len(os.fsencode(tempfile.gettempdir())) > MOST_SOCKET_FOLDER:
            tempfile.tempdir = next(filter(_is_writable, SHORT_FOLDERS), before)
        multiprocessing.util.get_temp_dir()  # made once; the processes that start from here have the same
    finally:
        tempfile.tempdir = before


def _is_writable(folder: str) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


@contextlib.contextmanager
def _own_path() -> Iterator[None]:
    """A Python that starts meanwhile finds this project, and looks in no working folder; the server undoes it."""
    root = str(Path(__file__).parents[2])
    before = {name: os.environ.get(name) for name in ("PYTHONSAFEPATH", "PYTHONPATH")}
    os.environ["PYTHONSAFEPATH"] = "1"
    if root not in site.getsitepackages():
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, before["PYTHONPATH"])))
    os.environ[PATH_VARIABLE] = json.dumps(before)
    try:
        yield
    finally:
        restore_path()


@contextlib.contextmanager
def _equal_hashes() -> Iterator[None]:
    """A Python that starts meanwhile, and those that it starts, hash text alike: a set of names has one order."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "0"
    try:
        yield
    finally:
        _put_back({"PYTHONHASHSEED": before})


def restore_path() -> None:
    """Puts the environment back as it was before a Python was started with a path of our own."""
    _put_back(json.loads(os.environ.pop(PATH_VARIABLE, "{}")))


def _put_back(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def warm_up(modules: Sequence[str], data: Sequence[Mapping[str, Any]] = (), data_dir: Path | None = None) -> None:
    """Starts the server process, which imports modules and reads data sets ahead; returns at once.

    Where there is one already, or the system allows none, workers import and read what they need themselves.
    """
    ahead = {"modules": list(modules), "data": list(data), "data_dir": data_dir and str(data_dir.resolve())}
    os.environ[AHEAD_VARIABLE] = json.dumps(ahead)
    context()
    del os.environ[AHEAD_VARIABLE]


def limit_threads(threads: int) -> None:
    """How many threads a trial may use in this process, and in those that it starts."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)


class CallError(ValueError):
    """A call in another process gave no answer: the process died, took too long, or could not read what it needs."""


class OutOfMemoryError(CallError):
    """A call in another process gave no answer: memory ran out."""


def call_in_child(function: Callable[..., T], *args: Any, timeout: float | None = None) -> T:
    """Calls a function in a process that may import torch; its ValueError is raised here.

    Raises :class:`CallError` where it raises OSError, dies, or takes longer than ``timeout`` seconds.
    """
    before = kills()
    receiver, sender = context().Pipe(duplex=False)
    process = context().Process(target=_call, args=(sender, Path.cwd(), function, args))
    start(process)
    sender.close()
    peak, end_at = 0, math.inf if timeout is None else time.monotonic() + timeout
    try:
        while not wait([receiver, process.sentinel], min(LOOK_SECONDS, max(0, end_at - time.monotonic()))):
            peak = max(peak, peak_bytes(process.pid) or 0)
            if time.monotonic() > end_at:
                raise CallError(f"ran longer than {timeout:g} seconds")
        if not receiver.poll():  # it died, and what it forked holds its end of the pipe
            raise EOFError
        value = receiver.recv()
    except EOFError:
        process.join()
        if ran_out(process.exitcode, before):
            raise OutOfMemoryError(out_of_memory(peak)) from None
        raise CallError(death(process.exitcode)) from None
    finally:
        end(process)
    if isinstance(value, Exception):
        raise value
    return value


def _silence() -> None:
    """Discards what user code prints while it is looked at: the trial's log has it."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123  # a device, not a path
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)


def _call(sender: Connection, working_dir: Path, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    end_with_parent()
    be_killed_first()
    lead_group()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.chdir(working_dir)
    runs_user_code = any(import_paths(args))
    if runs_user_code:
        _silence()
    told = as_part_error("user code", passing=(ValueError, OSError)) if runs_user_code else contextlib.nullcontext()
    try:
        with told:
            answer = function(*args)
    except ValueError as error:
        answer = type(error)(str(error))
    except OSError as error:
        answer = CallError(str(error))
    with contextlib.suppress(BrokenPipeError):  # the driver was stopped meanwhile
        sender.send(answer)


def ran_out(exitcode: int | None, kills_before: int) -> bool:
    """Tells whether the system ended a process for want of memory: its counters have grown since ``kills_before``.

    Where it ended the server process instead, and all workers with that, multiprocessing reports an exit code of 255.
    """
    return exitcode in (-signal.SIGKILL, SERVER_GONE) and kills() > kills_before


def out_of_memory(peak: int | None, what: str = "the process") -> str:
    """Says that the system ended a process for want of memory, what that held at most, and what there is."""
    held = f" when it held {mebibytes(peak)}" if peak else ""
    room = memory()
    return f"out of memory: the system ended {what}{held}" + (f"; {room}" if room is not None else "")


def held_bytes(process: int) -> int:
    """Returns the most memory that a process and those that it started, and that still run, have held, in bytes."""
    return (peak_bytes(process) or 0) + sum(map(held_bytes, _children(process)))


def _children(process: int) -> list[int]:
    """Lists the processes that a process started and that still run; none where the system keeps no such list."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # it is gone
        for file in Path(f"/proc/{process}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # that thread is gone
                found += map(int, file.read_text().split())
    return found


def be_killed_first() -> None:
    """Where the system can: when memory runs out, it ends this process, not the driver nor the server of the others."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        names = {number.value: number.name for number in signal.Signals}
        name = names.get(-exitcode, f"signal {-exitcode}")
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"the worker process was ended by {name}{hint}"
    return f"the worker process ended by itself with exit code {exitcode}"


def end_with_parent() -> None:
    """Has the system kill this process, where it can, when the one that it was forked from ends, however that ends.

    The server process ends when the driver does, so no worker goes on training for a driver that is gone.
    """
    server: Any = vars(multiprocessing.forkserver)["_forkserver"]
    if server._forkserver_alive_fd is not None:  # handed to each process that is forked: while one has it, it lives
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


def lead_group() -> None:
    """Makes this process lead a group, where the system has such: what it starts belongs to it, and ends with it.

    What leaves the group is found by its parents, as long as they live.
    """
    if hasattr(os, "setsid"):
        os.setsid()


def end(process: BaseProcess) -> None:
    """Kills a process, and whatever it started where it leads a group; returns once it is gone."""
    kill(process)
    process.join()


def kill(process: BaseProcess) -> None:
    """Begins to :func:`end` a process; whoever joins it waits until it is gone."""
    if hasattr(os, "killpg") and process.pid is not None:
        started = _children(process.pid)
        for one in started:  # it grows meanwhile
            started += _children(one)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # no such group, or all of it ended
            os.killpg(process.pid, signal.SIGKILL)
        for one in started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGKILL)
    process.kill()
