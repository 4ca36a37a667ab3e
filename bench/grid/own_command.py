"""A command as training code: its words and placeholders, and the settings of its trials as arguments. No shell."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import string
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.grid.language import TOP
from bench.grid.own import OwnSettings, Run, shown
from lab.sections import Problem, SettingsError, did_you_mean, spelled, suggest

HANDED = ("seed", "folder", "device", "settings_file")
LISTS = ("flags", "overrides")  # each a word of its own: as many arguments as there are settings left
PLAIN = re.compile(r"[A-Za-z0-9_.:/+-]*")  # text that Hydra takes without quotes


class CommandLineError(ValueError):
    """The command breaks a rule by itself."""


class Command:
    """A command line, split once, with the settings that it places."""

    def __init__(self, run: Run) -> None:
        """Raises :class:`CommandLineError`."""
        self.run = run
        try:
            self.words = shlex.split(run.command)
            self.placed = [name for word in self.words for name in _placeholders(word)]
        except ValueError as error:
            raise CommandLineError(f"{error}; braces that are meant are doubled: {{{{ }}}}") from None
        for word in self.words:
            if any(f"{{{name}}}" in word and word != f"{{{name}}}" for name in LISTS):
                raise CommandLineError(f"{word}: {{flags}} and {{overrides}} stand alone, each is several arguments")
        self._check_program()

    def _check_program(self) -> None:
        program, *rest = self.words
        if not _placeholders(program) and program_path(program) is None:
            raise CommandLineError(f"no such program, or not executable: {program}")
        script = next(iter(rest), "")
        if program.startswith("python") and script.endswith(".py") and "{" not in script and not Path(script).exists():
            raise CommandLineError(f"no such file: {script}")

    def takes(self, section: str, raw: Mapping[str, Any], setting: str) -> bool:
        """Whether a level that is off can be passed on: always, or an error says why not."""
        return True

    def parse(self, raw: Mapping[str, Mapping[str, Any]]) -> OwnSettings:
        """The settings, each of which has its place in the command; raises :class:`SettingsError`."""
        settings = OwnSettings({name: dict(members) for name, members in raw.items() if members}, self.run)
        flat = {shown(path): value for path, value in settings.flat().items()}
        problems = [Problem("run.command", rule) for rule in self._unknown(flat)]
        problems += [Problem(_canonical(path), rule) for path, rule in self._misplaced(flat)]
        if problems:
            raise SettingsError(problems)
        return settings

    def _unknown(self, flat: Mapping[str, Any]) -> Iterator[str]:
        known = [*flat, *HANDED, *LISTS]
        for name in dict.fromkeys(self.placed):
            if name not in known:
                yield f"{{{name}}} is no setting{suggest(name, known)}"
        for name in self.run.flags:
            if name not in flat:
                yield f"the setting {name} of `flags` is nowhere in the grid{did_you_mean(name, flat)}"

    def _misplaced(self, flat: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        left = self._left(flat)
        takes_all = {"overrides", "settings_file"} & set(self.placed)
        names: dict[str, str] = {}
        for path, value in left.items():
            if "flags" not in self.placed:
                if not takes_all:
                    yield path, f"has no place in the command, so it would change nothing: {{{path}}} or {{flags}}"
                continue
            name = path.rpartition(".")[2]
            if isinstance(value, bool) and path not in self.run.flags:
                spelling = f"flags: {{{path}: [--{name}, --no-{name}]}}"
                yield (
                    path,
                    f"how to spell true and false must be said: `{spelling}`, or [--{name}, null] for a bare switch",
                )
            elif not isinstance(value, bool) and path in self.run.flags:
                yield path, f"has two spellings in `flags`, so it must be true or false, got {spelled(value)}"
            elif name in names:
                yield path, f"would be --{name}, as {names[name]} is; place one of them: {{{path}}}"
            names[name] = path

    def _left(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        return {path: value for path, value in flat.items() if path not in self.placed}

    def arguments(self, settings: OwnSettings, handed: Mapping[str, str]) -> list[str]:
        """The words of one trial's command."""
        flat = {shown(path): value for path, value in settings.flat().items()}
        left = self._left(flat)
        found: list[str] = []
        for word in self.words:
            if word == "{flags}":
                found += [argument for path, value in left.items() for argument in self._flag(path, value)]
            elif word == "{overrides}":
                found += [f"{path}={hydra(value)}" for path, value in left.items()]
            else:
                found.append(filled(word, {name: text(value) for name, value in flat.items()} | dict(handed)))
        return found

    def _flag(self, path: str, value: Any) -> list[str]:
        if path in self.run.flags:
            spelling = self.run.flags[path][0 if value else 1]
            return [spelling] if spelling else []
        if value is None:
            return []
        values = [text(one) for one in value] if isinstance(value, list) else [text(value)]
        return [f"--{path.rpartition('.')[2]}", *values]


def hands_seed(run: Run) -> bool:
    """Tells whether the command is given the seed: by itself, or in the file of its settings."""
    return bool({"seed", "settings_file"} & set(Command(run).placed))


def program_path(program: str) -> str | None:
    """Where a program is: beside the Python that runs this, else on the path, else the file itself."""
    return shutil.which(program, path=search_path())


def search_path() -> str:
    """The folders that programs are looked for in: that of this Python first, so that `python` is the same one."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _canonical(path: str) -> str:
    return path if "." in path else f"{TOP}.{path}"


def _placeholders(word: str) -> list[str]:
    """The names in braces; raises ValueError where braces are not as Python's format has them."""
    found = []
    for _, name, spec, conversion in string.Formatter().parse(word):
        if name is not None and (not name or spec or conversion):
            raise ValueError(f"{word}: a placeholder is a name in braces, such as {{seed}}")
        found += [name] if name is not None else []
    return found


def filled(word: str, values: Mapping[str, str]) -> str:
    """The word with its placeholders filled in."""
    parts = ((before, name) for before, name, _, _ in string.Formatter().parse(word))
    return "".join(before + ("" if name is None else values[name]) for before, name in parts)


def text(value: Any) -> str:
    """A value as an argument: text as it is, all else as JSON writes it."""
    return value if isinstance(value, str) else json.dumps(value)


def hydra(value: Any) -> str:
    """A value as Hydra's overrides spell it."""
    if isinstance(value, str):
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return value if value and PLAIN.fullmatch(value) and not _is_literal(value) else f"'{quoted}'"
    if isinstance(value, Sequence):
        return f"[{','.join(map(hydra, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{hydra(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


def _is_literal(value: str) -> bool:
    """Whether text would be read as a number, a truth value or null."""
    try:
        float(value)
    except ValueError:
        return value.lower() in ("true", "false", "null")
    return True
