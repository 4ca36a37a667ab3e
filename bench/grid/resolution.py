"""From declarations to cells with checked settings, and from a broken setting back to the line that caused it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.grid.declarations import Draft, Sheet, cell_label
from bench.grid.factors import Change, Errors, combinations
from bench.grid.language import LAB, Language
from bench.grid.metric_words import WrittenMetric, with_direction
from bench.grid.own import shown
from bench.grid.own_code import FunctionError, code_of
from bench.grid.own_command import CommandLineError
from bench.grid.plan import Cell, Excluded, TrialSettings
from bench.grid.strict_yaml import Node, Position, plain_mapping
from lab.settings import (
    SECTIONS,
    Problem,
    Settings,
    SettingsError,
    Value,
    parse_section,
    part_type,
    section_type,
)

MAX_EXPLAINED = 300  # failing experiments that are looked into: each takes milliseconds, and they repeat one another

Raw = dict[str, dict[str, Value]]


@dataclass(frozen=True)
class Resolved:
    """A cell and its settings under each candidate, for seed 0."""

    cell: Cell
    experiments: tuple[tuple[dict[str, Value], TrialSettings], ...]


def expand(sheet: Sheet) -> tuple[list[Draft], list[Excluded], list[int]]:
    """Returns the cells of the plan and beside it, those left out, and the indexes of exclusions that match none."""
    factors = {factor.name: factor for factor in sheet.factors}
    kept: list[Draft] = []
    excluded: list[Excluded] = []
    idle = set(range(len(sheet.exclude)))
    for levels in combinations(sheet.kind, sheet.factors, sheet.baseline):
        cell = Cell(cell_label(levels, [*factors]), levels)
        matching = [index for index, exclusion in enumerate(sheet.exclude) if exclusion.matches(levels)]
        idle -= set(matching)
        if matching:
            excluded.append(Excluded(cell, sheet.exclude[matching[0]].because))
        else:
            changes = (change for name, level in levels.items() for change in factors[name].changes_of(level))
            kept.append(Draft(cell, tuple(changes)))
    return [*kept, *sheet.include], excluded, sorted(idle)


def apply(base: Mapping[str, Mapping[str, Value]], changes: Sequence[Change], language: Language = LAB) -> Raw:
    """Returns ``base`` with the changes: whole sections first, then single settings, then those of a loss or metric."""
    raw = {section: dict(settings) for section, settings in base.items()}
    for change in changes:
        if not change.setting:
            assert isinstance(change.value, dict)
            kept = {} if "name" in change.value else raw.get(change.section, {})
            raw[change.section] = kept | change.value
    for change in sorted((one for one in changes if one.setting), key=lambda one: one.path.count(".")):
        part, _, own = change.setting.partition(".")
        settings = raw.setdefault(change.section, {})
        if own and language is LAB:
            settings[part] = {**_as_mapping(_part_of(settings, change.section, part)), own: change.value}
        else:
            settings[part] = _nested(settings.get(part), own.split("."), change.value) if own else change.value
    return raw


def _nested(whole: Value, path: Sequence[str], value: Value) -> Value:
    """Returns the mapping with the value at a path below it, whatever else stood on the way."""
    first, *rest = path
    old = whole if isinstance(whole, dict) else {}
    return old | {first: _nested(old.get(first), rest, value) if rest else value}


def _part_of(settings: Mapping[str, Value], section: str, part: str) -> Value:
    """Returns the loss or metric as it is set, or else the built-in one."""
    return settings.get(part, SECTIONS[section].model_fields[part].default)


def _as_mapping(part: Value) -> dict[str, Value]:
    return dict(part) if isinstance(part, dict) else {"name": part}


def takes(section: str, raw: Raw, setting: str) -> bool:
    """Tells whether the part that the section names has this setting; True where the part itself is unknown."""
    part, _, own = setting.partition(".")
    try:
        kind = section_type(section, raw.get(section, {}))
        if own:
            kind = part_type(part, _part_of(raw.get(section, {}), section, part))
            setting = own
    except SettingsError:
        return True
    return setting in kind.model_fields or kind.model_config.get("extra") == "allow"


class _Code(Protocol):
    """What the settings are of: the laboratory, or training code of one's own."""

    def parse(self, raw: Raw) -> TrialSettings: ...

    def takes(self, section: str, raw: Raw, setting: str) -> bool: ...


@dataclass(frozen=True)
class _Lab:
    metrics: Sequence[WrittenMetric]

    def parse(self, raw: Raw) -> TrialSettings:
        return with_direction(Settings.parse(raw), self.metrics)

    def takes(self, section: str, raw: Raw, setting: str) -> bool:
        return takes(section, raw, setting)


class Resolver:
    """Checks the settings of drafts, and traces what is wrong to where it stands."""

    def __init__(self, sheet: Sheet, drafts: Sequence[Draft], errors: Errors, warnings: list[str]) -> None:
        self.sheet, self.drafts, self.errors, self.warnings = sheet, drafts, errors, warnings
        self.base = {section: plain_mapping(node) for section, node in sheet.base.items()}
        self.code: _Code = _Lab(sheet.metrics)
        self.known: dict[str, bool] = {}  # path -> whether the part of some cell has such a setting

    def resolve(self) -> list[Resolved]:
        """Returns every draft with its settings; empty, with every cause in ``errors``, where some break rules."""
        candidates = self.sheet.candidates
        if self.sheet.run is not None:
            try:
                self.code = code_of(self.sheet.run)
            except (FunctionError, CommandLineError) as error:
                self.errors.append((self.sheet.at("run"), f"run.{self.sheet.run.name}: {error}"))
                return []
        dropped: dict[str, tuple[Change, Cell]] = {}
        resolved = []
        try:
            for draft in self.drafts:
                experiments = []
                for candidate in candidates:
                    raw, absent = self._raw(draft, candidate)
                    settings = self.code.parse(raw)
                    experiments.append(({change.path: change.value for change in candidate}, settings))
                    for change in absent:
                        dropped.setdefault(change.path, (change, draft.cell))
                resolved.append(Resolved(draft.cell, tuple(experiments)))
        except SettingsError:
            self._explain()
            return []
        for path, (change, cell) in dropped.items():
            if not self._is_taken(change.section, change.setting):
                self.errors.append((change.key_at, f"{path}: no such setting in any cell"))
            word = "false" if change.value is False else "null"
            self.warnings.append(f"{path}={word} means absent where there is no such setting, as in {cell.label}")
        return resolved

    def cause(self, problem: Problem, draft: Draft, candidate: Sequence[Change]) -> tuple[Position, str]:
        """Finds where what is wrong with a cell under a candidate was named last, and the message."""
        raw, _ = self._raw(draft, candidate)
        return self._cause(problem, raw, [*draft.changes, *candidate])

    def _apply(self, changes: Sequence[Change]) -> Raw:
        return apply(self.base, changes, self.sheet.language)

    def _raw(self, draft: Draft, candidate: Sequence[Change]) -> tuple[Raw, list[Change]]:
        """Returns raw settings, and the levels ``false`` or ``null`` dropped as the part has no such setting."""
        raw = self._apply([*draft.changes, *candidate])
        off = [change for change in draft.changes if change.setting and (change.value is False or change.value is None)]
        absent = [
            change for change in off if not draft.beside and not self.code.takes(change.section, raw, change.setting)
        ]
        if absent:
            raw = self._apply([change for change in [*draft.changes, *candidate] if change not in absent])
        return raw, absent

    def _explain(self) -> None:
        """Adds every cause to ``errors``, once for each place and setting."""
        found: dict[tuple[Position, str], str] = {}
        for raw, changes, problems in itertools.islice(self._failures(), MAX_EXPLAINED):
            for problem in problems:
                at, message = self._cause(problem, raw, changes)
                found.setdefault((at, problem.path), message)
        self.errors += [(at, message) for (at, _), message in found.items()]

    def _failures(self) -> Iterator[tuple[Raw, list[Change], list[Problem]]]:
        """Finds what is wrong with each cell, nearest to the first one first: there each level's own faults show."""
        first = self.drafts[0].cell.levels.items()
        for draft in sorted(self.drafts, key=lambda draft: len(draft.cell.levels.items() - first)):
            for candidate in self.sheet.candidates:
                raw, _ = self._raw(draft, candidate)
                try:
                    self.code.parse(raw)
                except SettingsError as error:
                    yield raw, [*draft.changes, *candidate], error.problems

    def _is_taken(self, section: str, setting: str) -> bool:
        """Tells whether the part of some cell has this setting."""
        path = f"{section}.{setting}"
        if path not in self.known:
            raws = (self._apply(draft.changes) for draft in self.drafts)
            self.known[path] = any(self.code.takes(section, raw, setting) for raw in raws)
        return self.known[path]

    def _cause(self, problem: Problem, raw: Raw, changes: Sequence[Change]) -> tuple[Position, str]:
        """Finds where the setting, or else the part that lacks it, was named last, and the message."""
        section, setting, inner = _place(problem, changes)
        if section == "run":
            return self.sheet.at("run"), str(problem)
        unknown = not self.code.takes(section, raw, setting)
        at_key = unknown or problem.message.startswith(
            ("no such setting of", "no such field of", "no such argument of")
        )
        part = setting.rpartition(".")[0]  # train.loss of train.loss.gamma
        namer = _last(changes, section, part or "name")
        setter = _last(changes, section, setting)
        message = shown(str(problem)) if self.sheet.language is not LAB else str(problem)
        if setter is not None:
            if unknown and namer not in (None, setter) and self._is_taken(section, setting):
                owner = f"{section}.{part}" if part else section
                message += f"; leave those cells out (`exclude`), or set it in labelled levels of `{owner}`"
            return _position(setter, setting, inner, at_key=at_key), message
        if setting in self.base.get(section, {}) and setting in raw[section]:
            if unknown and namer is not None and self._is_taken(section, setting):
                message += f"; it stands in base.{section}, which a labelled level of `{section}` would replace whole"
                return _position(namer, "name", (), at_key=False), message
            return _position_in_base(self.sheet, section, setting, inner, at_key=at_key), message
        toucher = namer or next((change for change in reversed(changes) if change.section == section), None)
        if toucher is not None:
            return _position(toucher, "name", (), at_key=False), message
        return _position_in_base(self.sheet, section, setting, (), at_key=True), message


def _place(problem: Problem, changes: Sequence[Change]) -> tuple[str, str, Sequence[str]]:
    """Finds the section, the setting (dotted where a change sets one of a loss or metric) and the path in its value."""
    section, *inner = problem.path.split(".")
    nested = ".".join(inner[:2])
    if len(inner) > 1 and any(change.path == f"{section}.{nested}" for change in changes):
        return section, nested, inner[2:]
    return section, "".join(inner[:1]), inner[1:]


def _inside(node: Node, path: Sequence[str]) -> Node:
    """Returns the value at ``path`` inside the node, as far as it is there."""
    for name in path:
        if name not in node.mapping:
            break
        node = node.mapping[name]
    return node


def _last(changes: Sequence[Change], section: str, setting: str) -> Change | None:
    """Returns the change that had the last word on a setting: single settings come after whole sections."""
    for change in reversed(changes):
        if change.path == f"{section}.{setting}":
            return change
    for change in reversed(changes):
        if change.path == section and setting in change.node.mapping:
            return change
    return None


def _position(change: Change, setting: str, inner: Sequence[str], *, at_key: bool) -> Position:
    whole = change.node if change.setting else change.node.mapping.get(setting, change.node)
    node = _inside(whole, inner)
    own_key = change.key_at if change.setting and node is whole else node.key_at
    return own_key if at_key and own_key else node.at


def _position_in_base(sheet: Sheet, section: str, setting: str, inner: Sequence[str], *, at_key: bool) -> Position:
    """Finds where base gives the setting, or else its section, or else base itself."""
    if section not in sheet.base:
        return sheet.at("base")
    whole = sheet.base[section]
    entry = whole.mapping.get(setting)
    if entry is None:
        return whole.key_at or whole.at
    entry = _inside(entry, inner)
    return entry.key_at if at_key and entry.key_at else entry.at


def check_untouched(sheet: Sheet, errors: Errors) -> None:
    """Checks those sections of ``base`` that nothing else mentions, where an error keeps cells from being made."""
    for section in SECTIONS if sheet.language is LAB else ():
        if section in sheet.mentioned or ("base" in sheet.broken and section not in sheet.base):
            continue
        raw = {section: plain_mapping(sheet.base[section]) if section in sheet.base else {}}
        try:
            parse_section(section, raw[section])
        except SettingsError as error:
            for problem in error.problems:
                setting, *inner = problem.path.split(".")[1:]
                at_key = not takes(section, raw, setting)
                errors.append((_position_in_base(sheet, section, setting, inner, at_key=at_key), str(problem)))
