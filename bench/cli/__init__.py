"""The command line, a file per group of commands.

Exit codes: 0 all done, 1 some trial failed, 2 a wrong command, grid or data, 130 interrupted.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import TextIO, cast

import typer

from bench.cli import completion
from bench.cli.clean import clean
from bench.cli.doctor import doctor
from bench.cli.help import Group, add
from bench.cli.look import list_parts
from bench.cli.measure import time, verify
from bench.cli.options import CommandError, WriteError
from bench.cli.report import export, report
from bench.cli.run import run
from bench.cli.show import show
from bench.cli.spelling import spelling
from bench.cli.start import new, schema
from bench.cli.streams import Output, open_closed
from bench.cli.watch import watch
from bench.grid.load import GridError

app = typer.Typer(
    name="bench",
    cls=Group,
    help="Ablations and benchmarks: a YAML grid in; trained trials, tables and figures out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
add(app, "A grid from start to answer", new, run, watch, report)
add(app, "What there is", doctor, schema, list=list_parts)
add(app, "Recorded trials", show, verify, time, export, clean)


def main() -> None:
    """Runs the command, and ends with its exit code, whatever user code left running in this process.

    A command that is done, and could not print what it had to, ends with exit code 1.
    """
    open_closed()
    spelling()
    output = None if sys.stdout is None else Output(sys.stdout)
    sys.stdout = cast(TextIO, output)
    try:
        _run()
    except SystemExit as ended:
        if output is not None:
            output.flush()
            ended.code = ended.code or int(output.error is not None)
        if threading.active_count() > 1 or multiprocessing.active_children():
            _end_now(ended.code)
        raise


def _end_now(code: object) -> None:
    """Ends the process: threads and pools that user code started on import would hold it."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # one that was closed from the start is none
        stream.flush()
    for process in multiprocessing.active_children():
        process.kill()
    if code is None or isinstance(code, int):
        os._exit(code or 0)


def _name() -> str:
    """Returns what to call the command; what shells complete is the installed script."""
    asked = any(word in ("--install-completion", "--show-completion") for word in sys.argv[1:2])
    return "bench" if asked or completion.is_asked() or Path(sys.argv[0]).stem == "bench" else "python -m bench"


def _run() -> None:
    """Runs the command; a refusal is its message on standard error and exit code 2."""
    from bench.record.printable import printable
    from bench.record.table import RecordError

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    script = sys.modules["__main__"]
    if Path(getattr(script, "__file__", None) or "").stem == "bench":  # the command: no worker needs to run it
        del script.__file__
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        message = f"no folder for temporary files can be written to; set TMPDIR to one: {error.strerror}"
        print(message, file=sys.stderr)
        sys.exit(2)
    try:
        with completion.as_shell_reads():
            app(prog_name=_name())
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if error.filename is None and not isinstance(error, BlockingIOError):
            raise
        where = (
            "no process could be started" if error.filename is None else f"{error.filename}: cannot be written or read"
        )
        print(f"{where}: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    except (CommandError, GridError, RecordError) as error:
        messages = error.messages if isinstance(error, GridError) else [str(error)]
        for message in messages:
            print(printable(message), file=sys.stderr)
        sys.exit(2)
    except WriteError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
