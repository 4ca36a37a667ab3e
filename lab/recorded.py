"""Settings as a record keeps them: plain data that come back without the code of the user's parts. Free of torch."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Self

from pydantic import PrivateAttr

from lab.sections import SECTIONS, Section, Value
from lab.settings import PART_PATHS, PARTS, Settings, digest, identifying, section_type


def plain_settings(settings: Settings) -> dict[str, Any]:
    """Returns the settings but for the seed, as JSON holds them.

    ``silent`` names those that are no part of the trial's id; ``parts`` holds loss and metric with their own settings.
    """
    raw: dict[str, Any] = {}
    silent = []
    for name in SECTIONS:
        section = getattr(settings, name)
        raw[name] = dict(section)
        loud = identifying(section)
        silent += [f"{name}.{setting}" for setting in raw[name] if setting not in loud]
    flat = settings.flat()
    parts = {path: {key: flat[key] for key in flat if f"{key}.".startswith(f"{path}.")} for path in PART_PATHS}
    return raw | {"silent": silent, "parts": parts}


class RecordedSettings(Settings):
    """Settings from a record: the same trials, whatever has become of the modules that the settings name."""

    _silent: frozenset[str] = PrivateAttr(default=frozenset())
    _parts: dict[str, dict[str, Value]] = PrivateAttr(default_factory=dict)

    @classmethod
    def restored(cls, raw: Mapping[str, Any], seed: int) -> Self:
        """Returns what :func:`plain_settings` gave."""
        sections = {name: _kind(name, raw[name]).model_construct(**raw[name]) for name in SECTIONS}
        made = cls.model_construct(None, seed=seed, **sections)
        made._silent, made._parts = frozenset(raw["silent"]), raw["parts"]
        return made

    def flat(self) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for section in SECTIONS:
            for name, value in getattr(self, section):
                path = f"{section}.{name}"
                found |= self._parts.get(path, {path: value})
        return found

    @property
    def trial_id(self) -> str:
        return digest({section: self._loud(section) for section in SECTIONS}, self.seed)

    def _loud(self, section: str) -> dict[str, Any]:
        return {name: value for name, value in getattr(self, section) if f"{section}.{name}" not in self._silent}


def _kind(section: str, raw: Mapping[str, Any]) -> type[Section]:
    """Returns the class of a built-in part's settings; of a user's, whose signature nobody asks, one that takes any."""
    if raw.get("name") in PARTS.get(section, {}):
        return section_type(section, raw)
    return OPEN[section]


OPEN: dict[str, type[Section]] = {
    name: types.new_class(f"Recorded{kind.__name__}", (kind,), {"extra": "allow"}) for name, kind in SECTIONS.items()
}
