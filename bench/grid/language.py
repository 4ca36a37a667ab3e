"""Says which words of a grid are settings: the laboratory's sections, or whatever training code of one's own takes.

Own code has free sections, and settings at top level: these stand in the section ``settings`` of a trial.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bench.grid.strict_yaml import Node, spell
from lab.settings import PART_PATHS, PARTS, SECTIONS, did_you_mean

REPLICATES = "replicates are no setting; they stand under `seeds` (option --seeds)"
SECTIONS_ARE = f"there are {', '.join(SECTIONS)}"
TOP = "settings"  # the section of settings that stand at top level
NAMED = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
HELD = {"seed": REPLICATES, "seeds": REPLICATES, "run": "is the training code, no setting"}


@dataclass(frozen=True)
class Language:
    """The laboratory's settings: every section is known, and so are the settings of what is built in."""

    sections: tuple[str, ...] = tuple(SECTIONS)

    def path_of(self, name: str) -> str:
        """Returns the dotted path that a name stands for."""
        return name

    def is_free(self, name: str, node: Node) -> bool:
        """Tells whether a factor's name is a word of the user's own, no setting and no section."""
        return "," not in name and "." not in name and name not in self.sections

    def section_problem(self, key: str, node: Node) -> str | None:
        """Returns the rule that an entry of ``base`` breaks by its key; None where it breaks none."""
        section, dot, setting = key.partition(".")
        if dot and section in SECTIONS:
            return f"is nested in base: `{section}: {{{setting}: {spell(node)}}}`"
        if key in ("seed", "seeds"):
            return REPLICATES
        if key not in SECTIONS:
            return f"no such section{did_you_mean(key, SECTIONS, SECTIONS_ARE)}"
        return None

    def path_problem(self, path: str, whole: bool = False) -> str | None:
        """Returns the rule that ``path`` breaks as a setting's dotted path (``whole``: or a section's), or None."""
        section, dot, setting = path.partition(".")
        if whole and path in SECTIONS:
            return None
        if path in ("seed", "seeds"):
            return f"{path}: {REPLICATES}"
        if path in SECTIONS:
            settings = ", ".join(f"{path}.{name}" for name in known_settings(path))
            return f"{path}: is a section; name one of its settings: {settings}"
        if dot and section in SECTIONS and setting and ("." not in setting or path.rpartition(".")[0] in PART_PATHS):
            return None
        if dot and section not in SECTIONS:
            return f"{path}: no such section {section!r}{did_you_mean(section, SECTIONS, SECTIONS_ARE)}"
        homes = [known for known in SECTIONS if path in known_settings(known)]
        near = f"; did you mean {homes[0]}.{path}?" if homes else did_you_mean(path, [*SECTIONS, *known_paths()])
        return f"{path}: must be a setting's dotted path such as model.width{' or a section' if whole else ''}{near}"


@dataclass(frozen=True)
class OwnLanguage(Language):
    """The settings of own code: any section and any setting; ``sections`` are those that the grid writes as such."""

    def path_of(self, name: str) -> str:
        return name if "." in name or name in self.sections else f"{TOP}.{name}"

    def is_free(self, name: str, node: Node) -> bool:
        """Accepts a word with labelled levels that are mappings; with other levels it is a setting at top level."""
        levels = list(node.mapping.values())
        return super().is_free(name, node) and bool(levels) and all(level.mapping for level in levels)

    def section_problem(self, key: str, node: Node) -> str | None:
        if "." in key:
            section, _, setting = key.partition(".")
            return f"is nested in base: `{section}: {{{setting}: {spell(node)}}}`"
        if key == TOP:
            return "settings at top level stand in base itself"
        problem = self.path_problem(key, whole=True)
        return problem and problem.removeprefix(f"{key}: ")

    def path_problem(self, path: str, whole: bool = False) -> str | None:
        first, *rest = path.split(".")
        if first in HELD:
            return f"{path}: {HELD[first]}"
        if path in self.sections and not whole:
            return f"{path}: is a section; name one of its settings, such as {path}.lr"
        if not all(NAMED.fullmatch(part) for part in (first, *rest)):
            return f"{path}: a setting is words of letters, digits, _ and -, joined by dots, got {path!r}"
        return None


LAB = Language()


def language_of(root: Node) -> Language:
    """Returns the language of a grid, by whether it names training code of its own."""
    return OwnLanguage(tuple(dict.fromkeys([TOP, *_own_sections(root)]))) if "run" in root.mapping else LAB


def _own_sections(root: Node) -> Iterator[str]:
    base = root.mapping.get("base", Node({})).mapping
    yield from (key for key, node in base.items() if isinstance(node.content, dict))
    for name, node in root.mapping.get("factors", Node({})).mapping.items():
        levels = [*node.mapping.values(), *node.items]
        inner = {key for level in levels for key in level.mapping}
        known = any("." in key or key in base for key in inner)
        if name not in base and inner and not known and not {",", "."} & set(name):
            yield name


def known_settings(section: str) -> dict[str, None]:
    """Returns every setting of the section's built-in parts, in the order of declaration."""
    kinds = list(dict.fromkeys(PARTS.get(section, {}).values())) or [SECTIONS[section]]
    return dict.fromkeys(name for kind in kinds for name in kind.model_fields)


def known_paths() -> list[str]:
    return [f"{section}.{name}" for section in SECTIONS for name in known_settings(section)]
