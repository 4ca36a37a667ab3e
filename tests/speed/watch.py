"""What the live page costs beside 10,000 recorded trials and 20 events a second: memory, time, the longest frame.

Takes ten minutes. ``python tests/speed/watch.py --seconds 60`` looks for one. Frames are measured in Chromium by the
time that its main thread computes, which other work on the machine does not lengthen. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from browser import Page, browser  # noqa: E402  # it is beside the tests

from bench.grid.load import load_plan  # noqa: E402
from bench.grid.plan import Plan, Trial  # noqa: E402
from bench.record.live import Live  # noqa: E402
from bench.record.plan_file import plan_json  # noqa: E402
from bench.record.records import Records  # noqa: E402
from bench.record.status import Status  # noqa: E402
from lab.result import Evaluation  # noqa: E402

RECORDED, RATE, WORKERS, POINTS = 10_000, 20, 4, 8
GRID = """name: many
question: Which of the cells is best?
run: {{command: "echo {{flags}} --seed {{seed}}"}}
metrics:
  test_rmse: {{better: lower, unit: EUR, at: dev_rmse}}
  dev_rmse: {{better: lower, split: dev, at: best}}
factors: {{a: {levels}, b: {levels}, c: {levels}}}
baseline: {{a: 0, b: 0, c: 0}}
seeds: {seeds}
"""
TRACED = ["devtools.timeline", "disabled-by-default-devtools.timeline"]


@dataclass
class Traced:
    """What Chromium tells of each task of its threads."""

    events: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = False

    def take(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Tracing.dataCollected":
            self.events += message["params"]["value"]
        self.complete |= message.get("method") == "Tracing.tracingComplete"

    def longest(self) -> float:
        """Returns the milliseconds that the longest task of a thread with animation frames computed."""
        mains = {(one["pid"], one["tid"]) for one in self.events if one.get("name") == "FireAnimationFrame"}
        own = [one for one in self.events if (one.get("pid"), one.get("tid")) in mains and one["name"] == "RunTask"]
        return max(one.get("tdur", 0) for one in own) / 1000


def row(trial: Trial, rng: random.Random) -> dict[str, Any]:
    lost, score = rng.random() < 0.01, 5 + rng.gauss(0, 0.3)
    end = (
        {"status": "error", "error": "exit code 1"} if lost else {"status": "ok", "test_rmse": score, "dev_rmse": score}
    )
    return {"trial_id": trial.trial_id, "grid": "many", "cell": trial.cell.label, "seed": trial.seed, **end}


def curve(rng: random.Random) -> list[Evaluation]:
    return [Evaluation(n, float(n), 1.0, 0.1, {"dev_rmse": 9 - n / 3 + rng.gauss(0, 0.2)}) for n in range(POINTS)]


def fill(folder: Path, levels: int) -> Plan:
    """Makes a grid of levels to the power of three cells, and records the first trials of its plan."""
    folder.mkdir(parents=True)
    seeds = 2 * RECORDED // levels**3
    (folder / "grid.yaml").write_text(GRID.format(levels=list(range(levels)), seeds=seeds))
    plan, rng = load_plan(folder / "grid.yaml"), random.Random(0)
    (folder / "plan.json").write_text(plan_json(plan))
    records = Records(folder, plan.selecting)
    records.append(row(plan.trials[0], rng), [], curve(rng))
    with records.trials.path.open("a") as trials, records.curves.path.open("a") as curves:  # one write: no sync each
        form: dict[str, Any] = {"restval": "", "lineterminator": "\n"}
        rows = csv.DictWriter(trials, records.trials.read()[0], **form)
        points = csv.DictWriter(curves, records.curves.read()[0], **form)
        for trial in plan.trials[1:RECORDED]:
            rows.writerow(row(trial, rng))
            for one in curve(rng):
                place = {"trial_id": trial.trial_id, "step": one.step, "epoch": one.epoch, "train_loss": 1}
                points.writerow(place | one.scores)
    return plan


def drive(folder: Path, plan: Plan, seconds: float) -> None:
    """Writes events as a run with some workers does, each trial a few points long."""
    records, rng, todo = Records(folder, plan.selecting), random.Random(1), iter(plan.trials[RECORDED:])
    busy: dict[int, tuple[Trial, int]] = {}
    began = time.monotonic()
    with Live(folder, plan) as live:
        live.begin(len(plan.trials) - RECORDED, WORKERS)
        for count in range(int(seconds * RATE)):
            time.sleep(max(0.0, began + count / RATE - time.monotonic()))
            worker = count % WORKERS
            trial, step = busy.get(worker, (None, 0))
            if trial is None:
                busy[worker] = next(todo), 0
                live.started(worker, busy[worker][0])
            elif step < POINTS:
                busy[worker] = trial, step + 1
                live.evaluated(worker, curve(rng)[step])
            else:
                del busy[worker]
                records.append(row(trial, rng), [], curve(rng))
                live.ended(worker, trial.trial_id, Status.OK)


def memory(pid: int) -> float:
    """Returns the megabytes that a process holds."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def measure(levels: int, seconds: float) -> list[str]:
    """Runs a server, a driver and a browser; returns a row of the table."""
    traced, held, heaps = Traced(), [], []
    with tempfile.TemporaryDirectory() as place, browser(Path(place) / "profile", traced.take) as page:
        folder = Path(place) / "results" / "many"
        plan = fill(folder, levels)
        words = [sys.executable, "-m", "bench", "watch", "--port", "0", "--results", str(folder.parent)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=HERE.parents[1]) as server:
            assert server.stdout is not None
            (address,) = re.findall(r"http\S+", server.stdout.readline())
            _begin(page, address)
            driver = threading.Thread(target=drive, args=(folder, plan, seconds))
            driver.start()
            while driver.is_alive():
                driver.join(timeout=10)
                held.append(memory(server.pid))
                heaps.append(page.ask("performance.memory.usedJSHeapSize") / 1e6)
            used = processor_seconds(server.pid)
            judged = page.ask("document.querySelector('#section-answer .answer') !== null")
            page.send("Tracing.end")
            while not traced.complete:
                page.ask("1")
            server.terminate()
    found = f"{traced.longest():.0f} ms", f"{held[0]:.0f} to {held[-1]:.0f} MB (most {max(held):.0f})"
    return [
        f"{levels**3:,}",
        *found,
        f"{100 * used / seconds:.1f} %",
        f"{max(heaps):.1f} MB",
        "yes" if judged else "no",
    ]


def _begin(page: Page, address: str) -> None:
    page.size(1300, 1000)
    config = {"includedCategories": TRACED, "recordMode": "recordAsMuchAsPossible", "traceBufferSizeInKb": 1_000_000}
    page.send("Tracing.start", transferMode="ReportEvents", traceConfig=config)
    page.open(address)
    page.wait_for(f"document.getElementById('said').textContent.startsWith('{RECORDED:,} of')", 120)


def processor_seconds(pid: int) -> float:
    """Returns the seconds of processor time that a process has used."""
    cells = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(cells[11]) + int(cells[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="per grid, of which there are two")
    seconds = parser.parse_args().seconds
    print(f"{RECORDED:,} recorded trials, {RATE} events per second, {seconds:g} s each")
    print(
        "| cells | longest task of the page | memory of the server | its processor | the page's heap | findings shown |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for levels in (2, 10):
        print(f"| {' | '.join(measure(levels, seconds))} |", flush=True)


if __name__ == "__main__":
    main()
