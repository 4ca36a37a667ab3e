"""Training code of the user's own: what a grid's ``run`` names, and the settings of its trials.

    run: {function: my_project.train:run}

Settings stand in free sections or at top level. Those that the grid leaves out are left to the code, so the settings of
a trial are those that the grid gives; with what is run they are its identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from bench.grid.factors import Errors
from bench.grid.language import TOP
from bench.grid.strict_yaml import Node, plain, spell
from lab.settings import Value, did_you_mean, digest

WAYS = ("function",)


@dataclass(frozen=True)
class Run:
    """What is run: the import path of a function."""

    function: str = ""

    @property
    def name(self) -> str:
        """The name of the trainable that runs it."""
        return "function"

    @property
    def identity(self) -> dict[str, Any]:
        """What tells its trials from those of other code."""
        return {"function": self.function}

    def plain(self) -> dict[str, Any]:
        """As JSON holds it; :meth:`restored` gives it back."""
        return {"function": self.function}

    @classmethod
    def restored(cls, raw: Mapping[str, Any]) -> Self:
        return cls(**raw)

    def sources(self) -> dict[str, str]:
        """A digest of each source file of the user's that it runs."""
        from lab.fingerprint import sources_of

        return sources_of([self.function.partition(":")[0]], Path.cwd())


@dataclass(frozen=True)
class OwnSettings:
    """The settings of a trial of own code by section, as the grid gives them; the section ``settings`` is top level."""

    sections: Mapping[str, Mapping[str, Any]] = field(hash=False)
    run: Run = field(hash=False)
    seed: int = 0

    @property
    def trial_id(self) -> str:
        """12 hex digits of sha256 over the settings, what is run, and the seed."""
        return digest({**self.sections, "run": self.run.identity}, self.seed)

    def with_seed(self, seed: int) -> OwnSettings:
        """Returns the same experiment, another replicate."""
        return replace(self, seed=seed)

    def flat(self) -> dict[str, Value]:
        """Returns every setting but the seed by its dotted path."""
        return dict(_flat("", self.sections))

    def model_dump(self) -> dict[str, Any]:
        """Returns the settings and the seed as plain data."""
        return {**{name: dict(members) for name, members in self.sections.items()}, "seed": self.seed}


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping) or (path and not value):
        yield path, value
        return
    for name, inner in value.items():
        yield from _flat(f"{path}.{name}" if path else name, inner)


def shown(path: str) -> str:
    """Returns a setting's path as a grid writes it."""
    return path.removeprefix(f"{TOP}.")


# --- the word `run` -------------------------------------------------------------------------------------------------


def read_run(node: Node | None, errors: Errors) -> Run | None:
    """Reads ``run``; what breaks a rule is added to ``errors``."""
    if node is None:
        return None
    for key, value in node.mapping.items():
        if key not in WAYS:
            errors.append(
                (value.key_at or value.at, f"run.{key}: no such key{did_you_mean(key, WAYS)}; {_there_are()}")
            )
            return None
    function = node.mapping.get("function")
    if function is None:
        errors.append((node.at, f"run: must say what is run; {_there_are()}"))
        return None
    path = plain(function)
    if not isinstance(path, str) or path.count(":") != 1 or not all(path.split(":")):
        rule = f"must be an import path package.module:function, got {spell(function)}"
        errors.append((function.at, f"run.function: {rule}"))
        return None
    return Run(function=path)


def _there_are() -> str:
    return f"there are {', '.join(WAYS)}"


# --- which argument a setting is ------------------------------------------------------------------------------------


def offers(sections: Mapping[str, Mapping[str, Any]], asked: Sequence[str]) -> Iterator[tuple[str, str, Any]]:
    """Yields each argument that the settings offer to a function that asks for these: its name, the path, the value.

    A section is one argument where the function asks for it by its name; else each of its settings is one.
    """
    for section, members in sections.items():
        if section != TOP and section in asked:
            yield section, section, members
        else:
            yield from ((name, f"{section}.{name}", value) for name, value in members.items())
