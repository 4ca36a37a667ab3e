"""The parts that commands share: arguments, options, and the ways to end without an answer."""

from __future__ import annotations

import copy
import inspect
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer
from rich.console import Console
from rich.text import Text

from bench.cli import completion
from bench.record.asked import display_path

Grids = Annotated[
    list[Path],
    typer.Argument(metavar="GRID", help="Grid files.", show_default=False, autocompletion=completion.grids),
]
RecordedGrids = Annotated[
    list[Path] | None,
    typer.Argument(metavar="GRID", help="Grids; default: all that have results.", autocompletion=completion.grids),
]
Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="Folder of all results.")]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="K=V",
        help="Replace a setting; several values make it a factor.",
        autocompletion=completion.settings,
    ),
]
Only = Annotated[
    list[str],
    typer.Option(
        "--only", metavar="K=V", help="Keep only the cells with this level.", autocompletion=completion.levels
    ),
]
Device = Annotated[
    str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.", autocompletion=completion.devices)
]
DataDir = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the data sets: a torchvision root.")]
Seeds = Annotated[int | None, typer.Option("--seeds", metavar="N", min=1, help="Seeds 0 to N-1.")]


class CommandError(Exception):
    """A command that cannot be done, exit code 2; the message says why, where, and what would be allowed."""


class WriteError(Exception):
    """A result that was computed and could not be written, exit code 1."""


def terminal() -> Console:
    """The terminal, which prints text as it is: brackets and colons in labels and paths are no markup."""
    return Console(highlight=False, markup=False, emoji=False)


@contextmanager
def doing(console: Console, name: str) -> Iterator[Callable[[str], None]]:
    """In a terminal shows what is done now, and removes that at the end; elsewhere shows nothing."""
    if not console.is_terminal:
        yield lambda what: None
        return
    with console.status("") as status:
        yield lambda what: status.update(Text(f"{name}: {what}", style="dim"))


def seconds(option: str, text: str) -> float:
    """Returns ``0``, ``90``, ``90s``, ``10m`` or ``2h`` in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match:
        raise CommandError(f"{option} must be a time such as 90s, 10m or 2h, got {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def check_choice(option: str, given: str, allowed: Iterable[str]) -> None:
    """Raises :class:`CommandError` where what was given is none of what is allowed."""
    if given not in allowed:
        raise CommandError(f"{option} must be one of {', '.join(allowed)}, got {given!r}")


def program() -> str:
    """Returns how to call the command again, as it was called: ``bench`` or ``python -m bench``, by path if need be."""
    called = Path(sys.argv[0])
    if called.stem == "bench":
        return _typed(sys.argv[0], "bench")
    if called.parts[-2:] == ("bench", "__main__.py"):
        return f"{_typed(sys.executable, 'python', 'python3')} -m bench"
    return "python -m bench"  # from a notebook or a script


def _typed(path: str, *names: str) -> str:
    """Returns the first name by which a shell finds just that file, else its path as one types it here."""
    found = (name for name in names if shutil.which(name) == path)
    return next(found, None) or shlex.quote(str(display_path(Path(path))))


def grouped(**more: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Lets a command take dataclasses: each of their fields becomes an option, in a panel named by the dataclass.

    ``more`` are dataclasses that are made at run time, by the name of the parameter that takes them.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True) | more
        groups = {name: kind for name, kind in hints.items() if isinstance(kind, type) and is_dataclass(kind)}

        def call(**given: Any) -> None:
            for name, kind in groups.items():
                given[name] = kind(**{one.name: given.pop(one.name) for one in fields(kind)})
            command(**given)

        parameters = inspect.signature(command).parameters.items()
        plain = [one.replace(annotation=hints[name]) for name, one in parameters if name not in groups]
        options = [option for name, _ in parameters if name in groups for option in _options(groups[name])]
        signature = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*plain, *options)]
        call.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]  # typer reads it
        call.__annotations__ = {one.name: one.annotation for one in signature}
        call.__name__, call.__doc__ = command.__name__, command.__doc__
        return call

    return decorate


def _options(kind: type[Any]) -> Iterator[inspect.Parameter]:
    """Yields the fields of a dataclass as parameters, in the panel that its docstring names."""
    hints = get_type_hints(kind, include_extras=True)
    for one in fields(kind):
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        hint, option = get_args(hints[one.name])
        option = copy.copy(option)
        option.rich_help_panel = inspect.getdoc(kind)
        annotation = Annotated[hint, option]  # type: ignore[valid-type]  # made at run time
        yield inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
