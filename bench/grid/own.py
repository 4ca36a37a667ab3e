"""Training code of the user's own: what a grid's ``run`` names, and the settings of its trials.

    run: {function: my_project.train:run}
    run: {command: "python train.py --seed {seed} --out {folder} {flags}"}

Settings stand in free sections or at top level. Those that the grid leaves out are left to the code, so the settings of
a trial are those that the grid gives; with what is run they are its identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from bench.grid.language import TOP
from lab.settings import Value, digest


@dataclass(frozen=True)
class Run:
    """What is run: the import path of a function, or a command with its placeholders; the rest is a command's."""

    function: str = ""
    command: str = ""
    flags: Mapping[str, list[str | None]] = field(default_factory=dict)  # a boolean's two spellings, true first
    read: Mapping[str, str] = field(default_factory=dict)  # where metrics are, beside $BENCH_METRICS
    resume: str = "restart"  # or continue: the folder is kept
    code: tuple[str, ...] = ()  # what makes a result stale
    at: Mapping[str, str] = field(default_factory=dict)  # by metric, the step whose value counts; it does so, too

    @property
    def name(self) -> str:
        """The name of the trainable that runs it."""
        return "function" if self.function else "command"

    @property
    def identity(self) -> dict[str, Any]:
        """What tells its trials from those of other code."""
        return {name: value for name, value in self.plain().items() if name not in ("resume", "code", "at")}

    def plain(self) -> dict[str, Any]:
        """As JSON holds it, what is not given left out; :meth:`restored` gives it back."""
        given = vars(self) | {"code": list(self.code)}
        return {name: value for name, value in given.items() if value and (name, value) != ("resume", "restart")}

    @classmethod
    def restored(cls, raw: Mapping[str, Any]) -> Self:
        return cls(**{**raw, "code": tuple(raw.get("code", ()))})

    def sources(self, working_dir: Path | None = None) -> dict[str, str]:
        """A digest of each source file of the user's that it runs, found and named from the working folder."""
        from bench.grid.own_sources import sources_of_run

        return sources_of_run(self.function, self.command, self.code, working_dir or Path.cwd())

    def selection(self) -> dict[str, str]:
        """A digest of which steps' values count, if a metric says so, named as a source file would be."""
        return {"metrics (at)": digest({"at": dict(self.at)}, 0)} if self.at else {}


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

    @property
    def output_id(self) -> str:
        """The same without how its metrics are read: trials that agree in it leave the same output."""
        run = {name: value for name, value in self.run.identity.items() if name != "read"}
        return digest({**self.sections, "run": run}, self.seed)

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
