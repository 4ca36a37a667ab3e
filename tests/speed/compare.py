"""Compares a speed run with the saved baseline: ``compare.py RUN.json [--save] [--tolerance 1.5]``.

RUN.json comes from ``pytest tests/speed --benchmark-json RUN.json``. What is compared is the fastest round of each
benchmark divided by the fastest call of its canary, so that the baseline holds on another machine. Exit code 1 where a
benchmark got slower than the tolerance allows or one of the baseline was not run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

BASELINE = Path(__file__).with_name("baseline.json")


def relative_times(run: dict[str, Any]) -> dict[str, float]:
    """For each benchmark, how many canary calls its fastest round takes."""
    found = {}
    for benchmark in run["benchmarks"]:
        name = benchmark["fullname"].removeprefix("tests/speed/")
        found[name] = benchmark["stats"]["min"] / benchmark["extra_info"]["canary_seconds"]
    return found


def compare(now: dict[str, float], before: dict[str, float], tolerance: float) -> tuple[list[str], list[str]]:
    """A line for each benchmark, the one that slowed down most first, and the names of those that failed."""
    ratios = {name: now[name] / before[name] for name in now.keys() & before.keys()}
    slower = {name for name, ratio in ratios.items() if ratio > tolerance}
    missing = before.keys() - now.keys()
    lines = [
        f"{ratio:6.2f} x {name}{'  SLOWER' if name in slower else ''}"
        for name, ratio in sorted(ratios.items(), key=lambda item: -item[1])
    ]
    lines += [f"     new {name}" for name in sorted(now.keys() - before.keys())]
    lines += [f" not run {name}" for name in sorted(missing)]
    return lines, sorted(slower | missing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="what --benchmark-json wrote")
    parser.add_argument("--save", action="store_true", help="make this run the baseline")
    parser.add_argument("--tolerance", type=float, default=1.5, help="largest ratio to the baseline [1.5]")
    options = parser.parse_args()
    now = relative_times(json.loads(options.run.read_text()))
    if options.save:
        saved = {name: float(f"{time:.4g}") for name, time in sorted(now.items())}
        BASELINE.write_text(json.dumps(saved, indent=2) + "\n")
        print(f"{len(saved)} benchmarks saved in {BASELINE}")
        return
    if not BASELINE.exists():
        sys.exit(f"{BASELINE}: no baseline yet; `make speed-baseline` on an idle machine writes one")
    lines, failed = compare(now, json.loads(BASELINE.read_text()), options.tolerance)
    print("\n".join(["time / baseline, both relative to the canary", *lines]))
    if failed:
        sys.exit(f"{len(failed)} benchmarks slower than {options.tolerance} x the baseline, or not run")


if __name__ == "__main__":
    main()
