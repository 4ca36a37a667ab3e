"""Where people run it: containers and jobs with little memory, few cores, and folders that are not as on a laptop."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import CompletedProcess

import control_groups
import pytest
from filelock import FileLock
from rich.console import Console

from bench.execute.price import workers_by_memory
from bench.execute.progress import Progress
from bench.execute.trainables.lab import LAB
from bench.grid.load import load_plan
from lab.limits import Memory
from lab.result import Inspection

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="control groups and namespaces are Linux's")
Ran = CompletedProcess[str]
ROOT = Path(__file__).parents[1]
SECONDS = 500  # for a command that takes a few where nothing else runs

NETS = """
    import os, time
    from pathlib import Path
    import torch
    from torch import nn

    def wait_until(condition):
        until = time.monotonic() + 200
        while not condition() and time.monotonic() < until:
            time.sleep(0.01)

    def started():
        return [path.name.partition("-")[2] for path in Path().glob("here-*")]

    def holds_or_is_gone(process):
        return Path(f"held-{process}").exists() or not Path(f"/proc/{process}").exists()

    class Holds(nn.Module):
        '''Waits until two trials are under way, then holds memory until both do, or the system has ended one.'''
        def __init__(self, num_classes: int, size: int, mebibytes: int):
            super().__init__()
            self.fc = nn.Linear(size * size, num_classes)
            self.mebibytes = mebibytes
        def forward(self, X):
            if self.training:
                Path(f"here-{os.getpid()}").touch()
                wait_until(lambda: len(started()) >= 2)
                held = torch.ones(self.mebibytes * 2**18)
                Path(f"held-{os.getpid()}").touch()
                wait_until(lambda: all(map(holds_or_is_gone, started())))
            return self.fc(X.flatten(1))

    class HoldsPerImage(Holds):
        def forward(self, X):
            held = torch.ones(len(X) * self.mebibytes * 2**18)
            return self.fc(X.flatten(1))
"""
GRID = """
    question: Does the rate matter?
    base:
      data: {name: digits, limit: 100, batch_size: 100}
      model: {name: "nets:Holds", mebibytes: %d}
      optimizer: {name: sgd}
      train: {epochs: 1}
    factors: {optimizer.lr: [0.1, 0.2]}
    baseline: {optimizer.lr: 0.1}
    seeds: 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(textwrap.dedent(NETS))
    return tmp_path


def run_limited(folder: Path, held: int, limit: int) -> tuple[Ran, list[dict[str, str]]]:
    """Two workers that each hold so many MiB, in a control group of so many; with the rows that they leave."""
    (folder / "grid.yaml").write_text(textwrap.dedent(GRID % held))
    words = ["-m", "bench", "run", "grid.yaml", "-j", "2", "--no-time"]
    with limited(limit) as group:
        ran = control_groups.run_in([group], words, cwd=folder, timeout=SECONDS)
    return ran, recorded(folder)


@contextmanager
def limited(mebibytes: int) -> Iterator[Path]:
    """A control group of so much memory; skips where none can be made."""
    with ExitStack() as stack:
        try:
            group = stack.enter_context(control_groups.group("memory", control_groups.memory_limits(mebibytes * 2**20)))
        except OSError as error:
            pytest.skip(f"no control group can be made here: {error}")
        yield group


def recorded(folder: Path) -> list[dict[str, str]]:
    with (folder / "results/grid/trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_trials_that_do_not_fit_beside_each_other_run_one_after_the_other(folder: Path) -> None:
    ran, rows = run_limited(folder, held=500, limit=1000)
    assert (ran.returncode, ran.stderr, [row["status"] for row in rows]) == (0, "", ["ok", "ok"])
    assert "is tried again alone, after the others: out of memory: the system ended the process" in ran.stdout


def test_a_trial_that_does_not_fit_alone_is_out_of_memory_with_need_and_limit(folder: Path) -> None:
    ran, rows = run_limited(folder, held=1500, limit=1000)
    assert (ran.returncode, [row["status"] for row in rows]) == (1, ["out_of_memory"] * 2)
    for row in rows:
        assert row["error"].startswith("out of memory: the system ended the process when it held ")
        assert row["error"].endswith(" MiB; a control group of this process has 1,000 MiB")


def test_the_price_names_the_batch_size_that_would_fit(folder: Path) -> None:
    """Of 100, 50 and 25 images that take 8 MiB each beside some 250 MiB, in 600 MiB."""
    (folder / "grid.yaml").write_text(textwrap.dedent(GRID % 8).replace("nets:Holds", "nets:HoldsPerImage"))
    words = ["-m", "bench", "run", "grid.yaml", "--dry-run", "--price"]
    with limited(600) as group:
        ran = control_groups.run_in([group], words, cwd=folder, timeout=SECONDS)
    told = " ".join(ran.stdout.split())
    need = r"( when it held \d+ MiB)?"  # a look may be over before anyone could ask
    limit = "; a control group of this process has 600 MiB; batch_size 25 fits"
    assert ran.returncode == 1
    assert re.search(f"would fail: lr=0.1: out of memory: the system ended the process{need}{limit}", told), ran.stdout


HUNGRY = """
import json, os, sys, time
def run(mebibytes, seed):
    held = []
    for _ in range(mebibytes // 10):  # so slowly that whoever looks now and then sees most of it
        held.append(bytearray(10 * 2**20))
        time.sleep(0.02)
    return {"loss": 10 * len(held)}
if __name__ == "__main__":
    with open(os.environ["BENCH_METRICS"], "w") as file:
        json.dump(run(int(sys.argv[1]), 0), file)
"""
OWN_GRID = """
question: Does it fit?
metrics: {loss: {better: lower}}
factors: {mebibytes: [10, 900]}
baseline: {mebibytes: 10}
seeds: 1
"""
CODE = {
    "command": "command: 'python hungry.py {mebibytes}'",
    "script": "command: 'sh hungry.sh {mebibytes}'",
    "function": "function: hungry:run",
}


@pytest.mark.parametrize("code", CODE)
def test_own_code_that_does_not_fit_is_out_of_memory_with_need_and_limit(tmp_path: Path, code: str) -> None:
    (tmp_path / "hungry.py").write_text(HUNGRY)
    (tmp_path / "hungry.sh").write_text('python hungry.py "$1"; exit $?')  # its shell ends with 128 + 9
    (tmp_path / "grid.yaml").write_text(f"run: {{{CODE[code]}}}\n{OWN_GRID}")
    with limited(600) as group:
        ran = control_groups.run_in(
            [group], ["-m", "bench", "run", "grid.yaml", "-j", "1"], cwd=tmp_path, timeout=SECONDS
        )
    assert ran.stderr == ""
    fits, lacks = sorted(recorded(tmp_path), key=lambda row: row["status"])
    assert (fits["cell"], fits["status"], lacks["cell"]) == ("mebibytes=10", "ok", "mebibytes=900")
    need_and_limit = r" when it held (\d+) MiB; a control group of this process has 600 MiB"
    who = "process" if code == "function" else "command"
    need = re.fullmatch(f"out of memory: the system ended the {who}{need_and_limit}", lacks["error"])
    assert need, lacks["error"]
    assert 300 < int(need[1]) <= 600


# --- folders --------------------------------------------------------------------------------------------------------

TINY = """
    question: Does the rate matter?
    base:
      data: {name: digits, limit: 100, batch_size: 50}
      model: {name: mlp, hidden: [8]}
      optimizer: {name: sgd}
      train: {epochs: 1}
    factors: {optimizer.lr: [0.1, 0.2]}
    baseline: {optimizer.lr: 0.1}
    seeds: 1
"""
RUN = ["-m", "bench", "run", "grid.yaml", "--no-time", "-j", "2"]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "grid.yaml").write_text(textwrap.dedent(TINY))
    return tmp_path


def run(folder: Path, words: list[str], **environment: str) -> Ran:
    own = {"PYTHONPATH": str(ROOT), **os.environ, **environment}
    return subprocess.run(words, cwd=folder, env=own, capture_output=True, text=True, check=False, timeout=SECONDS)


def in_namespace(folder: Path, mounts: str, words: list[str], **environment: str) -> Ran:
    """Runs a command where these shell commands have mounted something else; skips where nobody may."""
    if run(folder, ["unshare", "--mount", "true"]).returncode:
        pytest.skip("no namespace of mounts can be made here")
    return run(
        folder,
        ["unshare", "--mount", "bash", "-ec", f'cd "$0"\n{mounts}\nexec "$@"', str(folder), *words],
        **environment,
    )


def test_a_temporary_folder_with_a_name_too_long_for_a_socket_does(tiny: Path) -> None:
    long = tiny / ("x" * 120)
    long.mkdir()
    ran = run(tiny, [sys.executable, *RUN], TMPDIR=str(long))
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_temporary_folder_that_is_missing_does(tiny: Path) -> None:
    ran = run(tiny, [sys.executable, *RUN], TMPDIR=str(tiny / "nowhere"))
    assert (ran.returncode, ran.stderr) == (0, "")


def test_no_temporary_folder_at_all_is_refused_in_words(tiny: Path) -> None:
    nowhere = "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/nowhere']\n"
    program = f"{nowhere}import sys; sys.argv = ['bench', *{RUN[2:]}]\nfrom bench.cli import main; main()"
    ran = run(tiny, [sys.executable, "-c", program])
    message = "no folder for temporary files can be written to; set TMPDIR to one: "
    assert (ran.returncode, ran.stderr.startswith(message), ran.stderr.count("\n")) == (2, True, 1)


@pytest.mark.parametrize(("error", "code"), [("ENOLCK", 37), ("EOPNOTSUPP", 95)])
def test_a_file_system_without_locks_is_refused_in_words(tiny: Path, error: str, code: int) -> None:
    lockless = f"import fcntl, errno\ndef flock(*_): raise OSError({code}, 'no locks')\nfcntl.flock = flock\n"
    program = f"{lockless}import sys; sys.argv = ['bench', *{RUN[2:]}]\nfrom bench.cli import main; main()"
    ran = run(tiny, [sys.executable, "-c", program])
    told = f"results/grid: cannot be written: [Errno {code}] no locks"
    hint = "; its file system has no locks: name a folder on another with --results\n"
    assert (ran.returncode, ran.stderr) == (1, told + hint)


STALE = "import bench.record.table as table\ntable.LOCK_SECONDS = 0.3\n"


def test_a_lock_that_outlived_whoever_held_it_is_named(tiny: Path) -> None:
    """As where another host died that held it: nobody here can tell."""
    folder = tiny / "results" / "grid"
    folder.mkdir(parents=True)
    program = f"{STALE}import sys; sys.argv = ['bench', *{RUN[2:]}]\nfrom bench.cli import main; main()"
    with FileLock(folder / ".trials.csv.lock"):
        ran = run(tiny, [sys.executable, "-c", program])
    lock = f"The file lock '{folder}/.trials.csv.lock' could not be acquired."
    rule = " It was held for 0.3 seconds; where no process uses this folder any more, remove it"
    told = f"results/grid: some results could not be written: {lock}{rule}; run it again to get them\n"
    assert (ran.returncode, ran.stderr) == (1, told)


def test_claims_that_outlived_whoever_held_them_are_named(tiny: Path) -> None:
    claims = tiny / "results" / "grid" / "claims"
    claims.mkdir(parents=True)
    first, second = load_plan(tiny / "grid.yaml").trials
    with FileLock(claims / f"{first.trial_id}.lock"):
        ran = run(tiny, [sys.executable, *RUN])
    left = "1 trials are left to another process, which is running them (if none is, remove results/grid/claims)"
    assert (ran.returncode, ran.stderr, left in " ".join(ran.stdout.split())) == (0, "", True)
    assert [row["trial_id"] for row in recorded(tiny)] == [second.trial_id]


def test_lock_files_stand_for_locks_where_the_system_lacks_the_call(tiny: Path) -> None:
    lockless = "import fcntl, errno\ndef flock(*_): raise OSError(errno.ENOSYS, 'no call')\nfcntl.flock = flock\n"
    program = f"{lockless}import sys, warnings; warnings.simplefilter('ignore'); sys.argv = ['bench', *{RUN[2:]}]\n"
    ran = run(tiny, [sys.executable, "-c", f"{program}from bench.cli import main; main()"])
    assert (ran.returncode, [row["status"] for row in recorded(tiny)]) == (0, ["ok", "ok"])


def test_image_files_stream_through_shared_memory_that_is_too_small_for_one_batch(tiny: Path) -> None:
    program = """
        import numpy as np, torch
        from pathlib import Path
        from PIL import Image
        from lab.data import image_files
        for index in range(64):
            Image.fromarray(np.full((64, 64, 3), index, np.uint8)).save(f"{index}.png")
        image_files.WORTH_A_PROCESS = 1
        torch.set_num_threads(2)
        files = image_files.ImageFiles(".", [f"{index}.png" for index in range(64)], 64, 64)
        batches = list(files.read(torch.arange(64).split(32)))
        print([tuple(batch.shape) for batch in batches], torch.cat(batches)[:, 0, 0, 0].tolist() == list(range(64)))
    """
    mounts = "mount -t tmpfs -o size=64k none /dev/shm"
    ran = in_namespace(tiny, mounts, [sys.executable, "-c", textwrap.dedent(program)])
    assert (ran.stdout, ran.stderr) == ("[(32, 3, 64, 64), (32, 3, 64, 64)] True\n", "")


def test_code_and_home_that_are_read_only_do_for_another_user(tiny: Path) -> None:
    """As user nobody, whose HOME is root's; of a Python that lives there, that alone is left in it."""
    if os.getuid():
        pytest.skip("needs root, to be another user")
    home, base = Path.home(), Path(sys.base_prefix)
    for package in ("bench", "lab"):  # whoever may read the clone
        shutil.copytree(ROOT / package, tiny / "code" / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("venv", "base", "work"):
        (tiny / name).mkdir()
    (tiny / "work").chmod(0o777)
    mounts = ["chmod -R a+rX code", "mount --bind code code", "mount -o remount,bind,ro code"]
    mounts += [f"mount --bind {sys.prefix} venv", "mount -o remount,bind,ro venv"]
    if base.is_relative_to(home):
        mounts += [f"mount --bind {base} base", f"mount -t tmpfs -o mode=755 none {home}"]
        mounts += [f"mkdir -p {base}", f"mount --bind base {base}", f"mount -o remount,ro {home}"]
    # Where that user may go: another pytest that starts meanwhile shuts the folder of all their folders.
    mounts += [
        "mount -t tmpfs -o mode=755 none /mnt",
        "mkdir /mnt/here",
        f"mount --rbind {tiny} /mnt/here",
        "cd /mnt/here",
    ]
    tiny.chmod(0o755)
    python = Path("/mnt/here/venv", Path(sys.executable).relative_to(sys.prefix))
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-ec", 'cd work; exec "$@"', "-"]
    words += [str(python), *RUN]
    words[words.index("grid.yaml")] = "../grid.yaml"
    ran = in_namespace(tiny, "\n".join(mounts), words, HOME=str(home), PYTHONPATH="/mnt/here/code")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [row["status"] for row in recorded(tiny / "work")] == ["ok", "ok"]


# --- streams, names and numbers of processes -------------------------------------------------------------------------

FUNCTION = """
    question: Does the width matter?
    run: {function: "train:run"}
    metrics: {loss: {better: lower}}
    factors: {width: [1, 2]}
    baseline: {width: 1}
    seeds: 1
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "grid.yaml").write_text(textwrap.dedent(FUNCTION))
    (tmp_path / "train.py").write_text("def run(width, *, seed): return {'loss': width}\n")
    return tmp_path


FULL = "standard output cannot be written: No space left on device; the command goes on\n"


@pytest.mark.parametrize(
    ("redirections", "code", "told"),
    [("> /dev/full", 1, FULL), ("| head -n 1", 0, ""), ("<&- >&-", 0, ""), ("<&- 2>&-", 0, "")],
)
def test_streams_that_are_closed_or_take_no_more_cost_no_result(
    own: Path, redirections: str, code: int, told: str
) -> None:
    ran = run(own, ["bash", "-c", f'"$@" {redirections}', "-", sys.executable, *RUN])
    assert (ran.returncode, ran.stderr) == (code, told)
    assert [row["status"] for row in recorded(own)] == ["ok", "ok"]


def test_output_that_takes_no_more_is_told_by_the_exit_code_of_a_report(own: Path) -> None:
    run(own, [sys.executable, *RUN])
    ran = run(own, ["bash", "-c", '"$@" > /dev/full', "-", sys.executable, "-m", "bench", "report", "grid.yaml"])
    assert (ran.returncode, ran.stderr) == (1, FULL)


def test_a_folder_whose_name_is_no_text_is_told_in_what_letters_there_are(own: Path) -> None:
    results = os.fsdecode("a \n é".encode() + b"\xff")
    for command in (RUN, ["-m", "bench", "report", "grid.yaml"]):
        ran = run(own, [sys.executable, *command, "--results", results], PYTHONIOENCODING="ascii")
        assert (ran.returncode, ran.stderr) == (0, "")
    assert r"\xe9\udcff/grid/report" in ran.stdout
    assert (own / results / "grid" / "report" / "index.html").is_file()


def test_a_limit_of_processes_is_one_message(own: Path) -> None:
    """Of four: the command, the process that reads its code, the server of workers and one that it needs."""
    with ExitStack() as stack:
        try:
            group = stack.enter_context(control_groups.group("pids", {"pids.max": 4}))
        except OSError as error:
            pytest.skip(f"no control group can be made here: {error}")
        ran = control_groups.run_in([group], RUN, cwd=own, timeout=SECONDS)
    limit = "the system allows this user (ulimit -u) or container (its limit of pids, which counts threads) no more"
    assert ran.returncode == 2
    assert ran.stderr.endswith(f"no process could be started: {limit}; -j sets fewer workers\n")


# --- so many workers as memory allows -------------------------------------------------------------------------------


@pytest.mark.parametrize(("free", "expected"), [(1, 1), (2**30 * 3 // 2, None), (2**40, None)])
def test_workers_are_so_many_as_the_largest_network_fits_into_free_memory(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, free: int, expected: int | None
) -> None:
    """A look at a small network takes some 300 MiB, most of it torch."""
    monkeypatch.setattr("bench.execute.price.memory", lambda: Memory(2**40, free, "the machine"))
    monkeypatch.setattr("bench.execute.price.cores", lambda: 2)
    assert workers_by_memory(load_plan(tiny / "grid.yaml").trials, "cpu", None) == expected


def test_the_first_line_says_why_there_are_no_more_workers(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = load_plan(tiny / "grid.yaml")
    Progress(Console(width=120), []).begin(plan, plan.trials, 1, "memory allows no more; -j overrides")
    assert capsys.readouterr().out == "grid: 2 trials on 1 worker: memory allows no more; -j overrides\n"


@pytest.mark.parametrize(("gibibytes", "expected"), [(7, 3), (9, None)])
def test_where_there_are_cards_the_memory_of_the_host_counts_too(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, gibibytes: int, expected: int | None
) -> None:
    """Stands in for four cards, and for a look at a network for which the host needs 2 GiB."""

    def answer(function: Callable[..., object], *args: object, timeout: float | None = None) -> object:
        if function == LAB.devices:
            return [f"cuda:{index}" for index in range(4)]
        looked_at: dict[str, object] = args[0]  # type: ignore[assignment]  # what is asked first
        return [Inspection(key, peak_memory_bytes=2**33, host_memory_bytes=2**31) for key in looked_at]

    monkeypatch.setattr("bench.execute.price.call_in_child", answer)
    monkeypatch.setattr("bench.execute.price.num_cards", lambda: 4)
    monkeypatch.setattr("bench.execute.price.memory", lambda: Memory(2**40, gibibytes * 2**30, "the machine"))
    assert workers_by_memory(load_plan(tiny / "grid.yaml").trials, "auto", None) == expected
