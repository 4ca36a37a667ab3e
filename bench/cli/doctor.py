"""``bench doctor``: what :mod:`bench.execute.health` finds, and whether the main job can run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.cli.options import DataDir, Device, Results, doing, terminal
from bench.execute import health
from bench.execute.health import Check, State


def doctor(device: Device = "auto", results: Results = Path("results"), data_dir: DataDir = None) -> None:
    """Check what this machine has for trials: versions, devices, cores, memory, data sets, extras, the results folder.

    The exit code is 0 if the main job (grids/residual_vs_plain.yaml, on digits) can run here, 1 if it cannot.
    """
    console = terminal()
    looks: dict[str, Callable[[], Iterator[Check]]] = {
        "versions": health.versions,
        "machine": lambda: health.machine(device),
        "data sets": lambda: health.data_sets(data_dir),
        "extras": health.extras,
        "results": lambda: health.folders(results),
        "main job": lambda: health.main_job(device, data_dir),
    }
    wrong = False
    for title, look in looks.items():
        with doing(console, "doctor") as say:
            say(title)
            found = list(look())
        wrong = wrong or any(check.state is State.WRONG for check in found)
        _print(console, title, found)
    told = "the main job cannot run here: see what is wrong above" if wrong else "the main job can run here"
    console.print(Text(told, style="bold red" if wrong else "bold green"))
    raise typer.Exit(int(wrong))


def _print(console: Console, title: str, found: list[Check]) -> None:
    styles = {State.HERE: "green", State.MISSING: "yellow", State.WRONG: "red"}
    console.print(Text(title, style="bold"))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for check in found:
        table.add_row(Text(f"  {check.state}", style=styles[check.state]), Text(check.name), Text(check.told))
    console.print(table)
