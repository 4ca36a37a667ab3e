"""``bench watch``: a page that is live while trials run."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import CommandError, RecordedGrids, Results, program
from bench.grid.load import name_and_text
from bench.grid.plan import Asked
from bench.record.extras import installation, missing


def watch(
    grids: RecordedGrids = None,
    results: Results = Path("results"),
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="N", min=0, max=65535, help="Default: 8765, or any free one; 0: any free one."),
    ] = None,
    show_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve a local page, live while trials run and after: progress, curves, failures, verdicts.

    It only reads the files of the results folder, so it can run before, beside or after `run`, on any machine that
    sees the folder. It listens on this machine alone, and answers only at the address that it prints; from another
    machine, forward the port: `ssh -L 8765:127.0.0.1:8765 HOST`. Ctrl-C ends it. Needs the extra `watch`.
    """
    if lacking := missing("watch"):
        raise CommandError(f"watch needs {', '.join(lacking)}: {installation('watch')}")
    from bench.watch.board import Board
    from bench.watch.server import listen, serve

    if not results.is_dir():
        raise CommandError(f"{results}: no such folder; {program()} run GRID makes it, --results names another")
    names = [_name(grid) for grid in grids or []]
    try:
        listening = listen(port)
    except OSError as error:
        raise CommandError(
            f"--port {port} cannot be listened on: {error.strerror}; 0 takes any that is free"
        ) from error
    token, where = secrets.token_urlsafe(24), listening.getsockname()[1]
    address = f"http://127.0.0.1:{where}/?token={token}"
    print(f"watching {', '.join(names) or 'all grids'} in {results}: {address}", flush=True)
    print(f"from another machine: ssh -L {where}:127.0.0.1:{where} HOST; Ctrl-C ends it", flush=True)
    if show_page:
        typer.launch(address)
    serve(Board(results, names), token, listening)


def _name(grid: Path) -> str:
    """Returns the name of a grid's results folder; raises :class:`GridError` where there is no such grid."""
    return name_and_text(Asked(grid))[0]
