"""The settings of own code, checked against what it takes: the signature of a function, or a command's placeholders."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from bench.grid.language import TOP
from bench.grid.own import OwnSettings, Run, offers, shown
from bench.grid.own_command import Command
from lab.imports import PartError, load
from lab.parts import GIVEN, SignedSettings, signed_settings
from lab.sections import Problem, SettingsError, describe_field, did_you_mean, spelled
from lab.visiting import asked, is_asked

HANDED = tuple(sorted(GIVEN["function"]))  # what the harness passes where the function asks for it


class FunctionError(ValueError):
    """The function cannot be imported, or not be called by keyword."""


class Function:
    """A function of the user's as training code: its keyword arguments are the settings."""

    def __init__(self, run: Run) -> None:
        """Reads its signature; raises :class:`FunctionError`."""
        self.run = run
        try:
            self.kind = signed_settings("function", run.function)
        except PartError as error:
            raise FunctionError(str(error)) from error
        if nameless := self.kind.signature.by_position:
            rule = f"takes {nameless[0]} by position only; settings are keyword arguments"
            raise FunctionError(f"{run.function!r}: {rule}")
        self.names = [*self.kind.model_fields]
        self.handed = set(self.kind.signature.names) & set(HANDED)
        if is_asked(loaded_with, run.function):  # while it is looked at: whoever prepares its trials wants to know
            asked(loaded_with, run.function)

    def parse(self, raw: Mapping[str, Mapping[str, Any]]) -> OwnSettings:
        """Parses the settings, checked against the signature; raises :class:`SettingsError`.

        An empty mapping is a value where the function asks for it by its name, and else a section that sets nothing.
        """
        self._checked(raw)
        asked_for = {*self.names} - {TOP}
        given = {name: dict(members) for name, members in raw.items() if members or name in asked_for}
        return OwnSettings(given, self.run)

    def takes(self, section: str, raw: Mapping[str, Any], setting: str) -> bool:
        """Tells whether a level that is off can be passed on: always, or an error says why not."""
        return True

    def arguments(self, sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Returns the keyword arguments that the settings are; raises :class:`SettingsError`."""
        return self._checked(sections).arguments()

    def call(self, sections: Mapping[str, Mapping[str, Any]], handed: Mapping[str, Any]) -> Any:
        """Calls it with the settings, and with those of ``handed`` that it asks for."""
        given = {name: handed[name] for name in sorted(self.handed)}
        return load(self.run.function)(**self.arguments(sections), **given)

    def _checked(self, sections: Mapping[str, Mapping[str, Any]]) -> SignedSettings:
        found: dict[str, Any] = {}
        paths: dict[str, str] = {}
        problems = []
        for name, path, value in offers(sections, self.names):
            if name in paths:
                rule = (
                    f"{shown(paths[name])} offers {self.run.function} the argument {name}, too; leave one of them out"
                )
                problems.append(Problem(path, rule))
            elif name in HANDED:
                problems.append(Problem(path, f"the harness gives {name} to the function; it is no setting"))
                continue
            found[name], paths[name] = value, path
        try:
            checked = self.kind.model_validate(found)
        except ValidationError as error:
            problems += [self._problem(one, paths) for one in error.errors(include_url=False)]
        if problems:
            raise SettingsError(problems)
        return checked

    def _problem(self, error: Any, paths: Mapping[str, str]) -> Problem:
        name = str(error["loc"][0])
        path, field = paths.get(name, name), self.kind.model_fields.get(name)
        match error["type"]:
            case "extra_forbidden" | "invalid_key":
                takes = f"it takes: {', '.join(self.names)}"
                rule = f"no such argument of {self.run.function}{did_you_mean(name, self.names, takes)}"
                return Problem(path, rule)
            case "missing":
                assert field is not None
                return Problem(name, f"is required by {self.run.function}: {describe_field(field)}")
            case "unfit":
                return Problem(".".join([path, *error["ctx"]["path"]]), error["ctx"]["rule"])
            case _:
                allowed = describe_field(field) if field is not None else "another value"
                return Problem(path, f"must be {allowed}, got {spelled(error['input'])}")


def loaded_with(path: str) -> list[str]:
    """Lists the modules that are there once the function at ``path`` has been imported."""
    load(path)
    return [*sys.modules]


def code_of(run: Run) -> Function | Command:
    """What checks the settings of the run's trials; raises :class:`FunctionError` or :class:`CommandLineError`."""
    return Function(run) if run.function else Command(run)
