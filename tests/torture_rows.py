"""Records 4,000 made-up trials (20,000 rows) by two processes beside one that compacts, while the system fails them.

    python tests/torture_rows.py --kills 200     # minutes

Each of the three is killed with SIGKILL at random instants and started again, and one in fifty of its calls of fsync,
rename, ftruncate and open is refused with a random error (libfiu; Debian package fiu-utils). A row that was reported
as recorded must be there at every later look, and at the end every row of ``trials.csv``, ``curves.csv`` and
``correct.csv`` must be what an undisturbed process recorded; none lost, none doubled. Exits 1 otherwise.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from torture import recorded

from bench.grid.load import load_plan
from bench.grid.plan import Plan, Trial
from bench.record.outcome import Outcome
from bench.record.recorder import Recorder
from bench.record.records import Records
from bench.record.status import Status
from lab.result import Environment, Evaluation, Result

GRID = """
question: Is a row lost?
name: torture
base:
  data: {name: digits}
  model: {name: mlp, hidden: [8]}
  optimizer: {name: sgd, lr: 0.1}
  train: {epochs: 2}
factors:
  model.batch_norm: [true, false]
"""
STARTED = datetime(2026, 1, 1, tzinfo=UTC)
REFUSED = ("posix/io/sync/fsync", "posix/io/dir/rename", "posix/io/rw/ftruncate", "posix/io/oc/open")
REFUSAL = "a change was refused"
SHARE = 0.02
LONGEST = 2.0  # seconds between two kills, at most


def outcome(trial: Trial) -> Outcome:
    """How the trial ended, made up from its seed."""
    value = trial.seed / 7
    scores = {"dev_accuracy": value, "dev_loss": value}
    result = Result(
        trial.trial_id,
        "ok",
        None,
        {"test_accuracy": value, "dev_accuracy": value, "epochs": 2.0, "steps": 20},
        Environment("cpu", "cpu", 1, "", "", ""),
        "f",
        sources={"lab/trial.py": "f"},
        curve=[Evaluation(step, step / 10, value, 0.0, scores) for step in (0, 10, 20)],
        correct=trial.seed.to_bytes(4, "big"),
        num_test_images=32,
    )
    return Outcome(trial.trial_id, Status.OK, result=result)


def write(plan: Plan, folder: Path, part: int, parts: int, hurt: bool) -> None:
    """Records one part of the trials, every fifth first as failed; prints the ids of those that are on the disk."""
    records = Records(folder)
    done = {key for key, last in records.outcomes().items() if last.status == "ok"}
    recorder = Recorder(records, plan, 1, lambda _: print(REFUSAL, file=sys.stderr))
    refuse_some(plan, hurt)
    waiting: list[str] = []
    for trial in plan.trials[part::parts]:
        if trial.trial_id in done:
            continue
        if hurt and trial.seed % 5 == 0:
            recorder.ended(trial, Outcome(trial.trial_id, Status.ERROR, "made up"), STARTED)
        recorder.ended(trial, outcome(trial), STARTED)
        waiting.append(trial.trial_id)
        if recorder.flush() is None:
            print(*waiting, sep="\n", flush=True)
            waiting.clear()
    while recorder.flush() is not None:
        pass
    print(*waiting, sep="\n", flush=True)


def compact(plan: Plan, folder: Path, hurt: bool) -> None:
    """Does again and again what a driver does that ends."""
    refuse_some(plan, hurt)
    while True:
        try:
            Records(folder).compact()
        except OSError:
            print(REFUSAL, file=sys.stderr, flush=True)
        time.sleep(0.05)


def refuse_some(plan: Plan, hurt: bool) -> None:
    """From now on the system refuses some calls of this process, where it runs under libfiu."""
    with tempfile.TemporaryDirectory() as name:  # what is imported late is imported now
        recorder = Recorder(Records(Path(name)), plan, 1, print)
        recorder.ended(plan.trials[0], outcome(plan.trials[0]), STARTED)
        recorder.finish()
    enable = getattr(ctypes.CDLL(None), "fiu_enable_random", None)
    if hurt and enable is not None:
        enable.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_float]
        for call in REFUSED:
            enable(call.encode(), 1, None, 0, SHARE)
    print(flush=True)  # it has begun


class Child:
    """A process of this file, under libfiu where that is installed, with the ids that it has reported."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.words, self.output = words, folder / f"{'-'.join(words)}.txt"
        self.start()

    def start(self) -> None:
        self.size = self.output.stat().st_size if self.output.exists() else 0
        under = ["fiu-run", "-x", "-f", ""] if shutil.which("fiu-run") else []
        with self.output.open("ab") as output, self.output.with_suffix(".errors").open("ab") as errors:
            command = [*under, sys.executable, __file__, *self.words]
            self.process = subprocess.Popen(
                command, cwd=self.output.parent, stdout=output, stderr=errors, start_new_session=True
            )

    def has_begun(self) -> bool:
        return self.output.stat().st_size > self.size

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def reported(self) -> set[str]:
        """Ids on whole lines; the last may be cut off."""
        return set(self.output.read_text().split("\n")[:-1]) - {""}


def torture(folder: Path, kills: int, choose: random.Random) -> tuple[Counter[str], int]:
    """Runs the three to the writers' end; returns what was done, and how many reported rows were missing at a look."""
    writers = [Child(folder, "write", str(part)) for part in range(2)]
    children, tally, missing = [*writers, Child(folder, "compact")], Counter[str](), 0
    while any(writer.process.returncode != 0 for writer in writers) and tally["crashes"] < 10:
        time.sleep(choose.uniform(0.0, LONGEST))
        reported = set[str]().union(*(writer.reported() for writer in writers))
        missing = max(missing, len(reported - Records(folder / "tortured" / "torture").outcomes().keys()))
        victim = choose.choice(children)
        if tally["kills"] < kills and victim.process.poll() is None and victim.has_begun():
            victim.kill()
            tally["kills"] += 1
        for child in children:
            if child.process.poll() not in (None, 0):
                tally["crashes"] += child.process.returncode > 0
                child.start()
        print(f"\r{tally['kills']} kills, {len(reported)} trials", end="", file=sys.stderr, flush=True)
    children[-1].kill()
    return tally, missing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "torture.yaml").write_text(f"{GRID}seeds: {arguments.trials // 2}\n")
        with (folder / "undisturbed.txt").open("w") as output:
            subprocess.run([sys.executable, __file__, "undisturbed"], cwd=folder, stdout=output, check=True)
        tally, missing = torture(folder, arguments.kills, random.Random(arguments.seed))
        Records(folder / "tortured" / "torture").compact()
        rows = lost = doubled = changed = 0
        for table in ("trials.csv", "curves.csv", "correct.csv"):
            expected, found = (Counter(map(str, recorded(folder, one, table))) for one in ("undisturbed", "tortured"))
            ids = [{row["trial_id"] for row in recorded(folder, one, table)} for one in ("undisturbed", "tortured")]
            rows, lost = rows + expected.total(), lost + len(ids[0] - ids[1])
            doubled += found.total() - len(found)
            changed += (expected - found).total() + len(found - expected)
        errors = "".join(path.read_text() for path in folder.glob("*.errors"))
    if not shutil.which("fiu-run"):
        print("fiu-run is not installed (Debian package fiu-utils): no call was refused, processes were killed only")
    print(errors.replace(f"{REFUSAL}\n", "")[-3000:], file=sys.stderr)
    took = f"{tally['crashes']} crashes in {time.monotonic() - began:.0f} s"
    print(f"{rows} rows, {tally['kills']} kills, {errors.count(REFUSAL)} changes refused, {took}")
    print(f"rows missing at a look: {missing}; lost: {lost}, doubled: {doubled}, changed: {changed}")
    return 1 if missing or lost or doubled or changed or tally["crashes"] else 0


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in ("write", "compact", "undisturbed"):
        plan = load_plan(Path("torture.yaml"))
        match sys.argv[1:]:
            case ["write", part]:
                write(plan, Path("tortured/torture"), int(part), 2, hurt=True)
            case ["compact"]:
                compact(plan, Path("tortured/torture"), hurt=True)
            case _:
                write(plan, Path("undisturbed/torture"), 0, 1, hurt=False)
        sys.exit()
    sys.exit(main())
