"""Figures are drawn by a process beside the one that reports, and here where there is none or it ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bench.report.drawing import drawer

REFERENCE = Path("results/reference/residual_vs_plain")
REPORTS = """
import os, signal, sys
from pathlib import Path
from bench.analysis.findings import gather
from bench.report.drawing import drawer
from bench.report.output import write_report

def report(folder, is_killed):
    told = []
    with drawer() as beside:
        if is_killed:
            os.kill(beside.process, signal.SIGKILL)
        write_report(gather(Path(folder)), told.append, beside)
    return told

said = report(sys.argv[1], False)
assert "matplotlib" not in sys.modules, "drawn here"
again = report(sys.argv[2], True)
assert sorted(again) == sorted(said), said  # two draw at once
assert "matplotlib" in sys.modules, "drawn by a process that was killed"
assert again[1] == "drawing figure 1 of 4: Dev accuracy while training", again
"""

TWIN_ENDS = """
import os
from bench.report import drawing
whole = drawing.draw
drawing.draw = lambda asked, say, part=slice(None): os._exit(3) if part.start else whole(asked, say, part)
"""


def test_a_process_beside_draws_the_same_figures_and_what_it_leaves_undrawn_is_drawn_here(tmp_path: Path) -> None:
    if not Path("/proc/self/task").is_dir():
        pytest.skip("this system does not tell how many threads a process has")
    folders = [tmp_path / name for name in ("beside", "killed")]
    for folder in folders:
        shutil.copytree(REFERENCE, folder, ignore=shutil.ignore_patterns("report"))
    words = [sys.executable, "-W", "error", "-c", REPORTS, *map(str, folders)]
    subprocess.run(words, check=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    drawn, redrawn = (
        {path.name: path.read_bytes() for path in (one / "report").glob("*.[ps][nv]g")} for one in folders
    )
    assert len(drawn) == 8
    assert drawn == redrawn


def test_figures_that_a_twin_left_undrawn_are_drawn_here(tmp_path: Path) -> None:
    shutil.copytree(REFERENCE, tmp_path / "grid", ignore=shutil.ignore_patterns("report"))
    words = [sys.executable, "-W", "error", "-c", TWIN_ENDS + REPORTS, str(tmp_path / "grid"), str(tmp_path / "grid")]
    done = subprocess.run(words, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert "AssertionError: drawn here" in done.stderr, done.stderr
    assert len([*(tmp_path / "grid" / "report").glob("*.svg")]) == 4


def test_a_process_with_threads_is_not_forked() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    with drawer() as beside:
        assert not beside.process
    done.set()
    thread.join()
