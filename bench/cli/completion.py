"""Completion in the shell: grids, their factors and levels, settings, trials, names; free of torch and of user code."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "_BENCH_COMPLETE"  # set by the script that `bench --show-completion` prints
MOST_FOLDERS = 500  # looked into for grids
MOST_TRIALS = 200
DEVICES = ("auto", "cpu", "cuda", "mps")


def is_asked() -> bool:
    """Tells whether a shell asks for completions."""
    return VARIABLE in os.environ


@contextmanager
def as_shell_reads() -> Iterator[None]:
    """Hands bash what it reads: it cuts words at each ``=``, and puts what comes back after the last one."""
    if os.environ.get(VARIABLE) != "complete_bash":
        yield
        return
    typed = _join_words()
    answer = typed.partition("=")[2] if typed.startswith("--") else typed
    cut = answer.rfind("=") + 1
    shell = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()) as found:
        try:
            yield
        finally:
            lines = [shlex.quote(line[cut:]) for line in found.getvalue().splitlines()]
            print("\n".join(lines), file=shell)


def _join_words() -> str:
    """Puts together again what bash cut, as other shells hand it over; returns the word that is typed."""
    joined: list[str] = []
    place, cuts = int(os.environ["COMP_CWORD"]), 0
    for index, word in enumerate(os.environ["COMP_WORDS"].split("\n")):
        if joined and word and (word == "=" or joined[-1].endswith("=")):
            joined[-1] += word
            cuts += index <= place
        else:
            joined.append(word)
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(joined), str(place - cuts)
    return joined[place - cuts] if place - cuts < len(joined) else ""


def grids(incomplete: str) -> list[str]:
    """Returns the grid files below the folder that is typed, however deep, so that no folder has to be completed."""
    return list(_grids(incomplete))


def _grids(incomplete: str) -> Iterator[str]:
    folder = incomplete[: incomplete.rfind("/") + 1]
    for num_folders, (place, names, files) in enumerate(os.walk(folder or ".")):
        if num_folders == MOST_FOLDERS:
            return
        names[:] = [] if "trials.csv" in files else sorted(one for one in names if not one.startswith((".", "__")))
        path = os.path.relpath(place, folder or ".")
        start = folder if path == "." else f"{folder}{path}/"
        for name in sorted(files):
            if f"{start}{name}".startswith(incomplete) and name.endswith((".yaml", ".yml")) and _is_grid(place, name):
                yield f"{start}{name}"


def _is_grid(folder: str, name: str) -> bool:
    """Tells whether a file reads like a grid: a question stands at its margin."""
    try:
        lines = Path(folder, name).read_bytes()[:20_000].splitlines()
    except OSError:
        return False
    return any(line.startswith((b"question:", b"factors:")) for line in lines)


def levels(incomplete: str) -> list[str]:
    """Returns ``FACTOR=LEVEL`` for the grids of the command; after a comma another level."""
    return _assignments(incomplete, {name: found for grid in _named_grids() for name, found in _factors(grid).items()})


def settings(incomplete: str) -> list[str]:
    """Returns the same, and the values of ``base`` as they stand."""
    known: dict[str, Sequence[str]] = {}
    for grid in _named_grids():
        known |= _base(grid) | _factors(grid)
    return _assignments(incomplete, known)


def trials(incomplete: str) -> list[str]:
    """Returns the ids of recorded trials that begin so, the last ones first."""
    words, place = _words(), Path("results")
    if "--results" in words[:-1]:
        place = Path(words[words.index("--results") + 1])
    found: dict[str, None] = {}
    for path in sorted(place.glob("*/trials.csv")):
        for line in reversed(path.read_text(encoding="utf-8", errors="replace").splitlines()[1:]):
            trial_id = line.partition(",")[0]
            if trial_id.startswith(incomplete) and len(trial_id) == 12 and len(found) < MOST_TRIALS:
                found[trial_id] = None
    return list(found)


def parts(incomplete: str) -> list[str]:
    """Returns the names of built-in parts, sections, and the word for shipped grids."""
    from lab.settings import PARTS, SECTIONS

    return _beginning(incomplete, [*(name for known in PARTS.values() for name in known), *SECTIONS, "grids"])


def shipped(incomplete: str) -> list[str]:
    from bench.grid.shipped import shipped as known

    return _beginning(incomplete, known())


def executors(incomplete: str) -> list[str]:
    from bench.execute.executors import EXECUTORS

    return _beginning(incomplete, EXECUTORS)


def formats(incomplete: str) -> list[str]:
    from bench.report.paper import FORMATS

    return _beginning(incomplete, ("table", *FORMATS))


def reruns(incomplete: str) -> list[str]:
    from bench.execute.options import Rerun

    return _beginning(incomplete, list(Rerun))


def leftovers(incomplete: str) -> list[str]:
    from bench.record.leftovers import KINDS

    return _beginning(incomplete, KINDS)


def devices(incomplete: str) -> list[str]:
    return _beginning(incomplete, DEVICES)


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _assignments(incomplete: str, known: dict[str, Sequence[str]]) -> list[str]:
    """Returns each ``NAME=VALUE``, and after a comma each further value."""
    before, comma, _ = incomplete.rpartition(",")
    name, _, given = before.partition("=")
    if comma:
        values = [value for value in known.get(name, ()) if value not in given.split(",")]
        return _beginning(incomplete, [f"{before},{value}" for value in values])
    return _beginning(incomplete, [f"{name}={value}" for name, values in known.items() for value in values])


def _words() -> list[str]:
    text = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    try:
        return shlex.split(text)
    except ValueError:  # a quote that is still open
        return text.split()


def _named_grids() -> list[Path]:
    return [path for path in map(Path, _words()[1:]) if path.suffix in (".yaml", ".yml") and path.is_file()]


def _factors(grid: Path) -> dict[str, Sequence[str]]:
    from bench.grid.factors import parse_factors
    from bench.grid.language import language_of
    from bench.grid.strict_yaml import Node, YamlError, read

    try:
        root = read(grid)
    except (OSError, YamlError):
        return {}
    return {one.name: one.levels for one in parse_factors(root.mapping.get("factors", Node({})), [], language_of(root))}


def _base(grid: Path) -> dict[str, Sequence[str]]:
    from bench.grid.strict_yaml import Node, YamlError, read, spell

    def leaves(node: Node, path: str) -> Iterator[tuple[str, list[str]]]:
        for key, value in node.mapping.items():
            if value.mapping:
                yield from leaves(value, f"{path}{key}.")
            elif not value.items:
                yield f"{path}{key}", [spell(value)]

    try:
        return dict(leaves(read(grid).mapping.get("base", Node({})), ""))
    except (OSError, YamlError):
        return {}
