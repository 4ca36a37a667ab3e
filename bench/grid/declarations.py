"""A grid's text as declarations: each key of the file read and checked by itself, before any cell is made."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from bench.grid import columns
from bench.grid.factors import (
    Change,
    Errors,
    Factor,
    Levels,
    label_of,
    label_problem,
    make_change,
    normal_name,
    parse_factors,
    short_names,
    yaml_equal,
)
from bench.grid.form import FIRST_TUNE_SEED, NAME_PATTERN, GridForm, check_form
from bench.grid.hypotheses import Hypothesis, HypothesisError, parse_hypothesis
from bench.grid.language import LAB, TOP, Language, language_of
from bench.grid.metric_words import MARGIN_RULE, WrittenMetric, read_margin, read_metrics, selections
from bench.grid.own import Run
from bench.grid.plan import Cell
from bench.grid.run_words import read_run
from bench.grid.strict_yaml import Node, Position, plain, spell
from lab.settings import suggest

RESERVED = {column.name: f"a column of the {column.kind}" for column in columns.COLUMNS if column.kind != "measure"}


@dataclass(frozen=True)
class Draft:
    """A cell, and the changes that make it from ``base``."""

    cell: Cell
    changes: tuple[Change, ...]
    beside: bool = False  # an ``include``, not part of the plan


@dataclass(frozen=True)
class Exclusion:
    """Cells whose level of each factor is among those listed."""

    when: dict[str, set[str]]
    because: str
    at: Position

    def matches(self, levels: Mapping[str, str]) -> bool:
        return all(levels[name] in wanted for name, wanted in self.when.items())


@dataclass(frozen=True)
class Sheet:
    """The declarations of a grid. ``broken`` names the keys that hold an error: what they declare is incomplete."""

    root: Node
    name: str
    question: str
    base: dict[str, Node]
    factors: tuple[Factor, ...]
    kind: str
    baseline: Levels
    seeds: tuple[int, ...]
    tune: dict[str, tuple[Change, ...]]
    tune_seeds: tuple[int, ...]
    pair: str
    untrained: str | float
    exclude: tuple[Exclusion, ...]
    include: tuple[Draft, ...]
    hypotheses: tuple[Hypothesis, ...]
    metrics: tuple[WrittenMetric, ...]
    margin: tuple[float | str, Position] | None
    run: Run | None
    language: Language
    broken: frozenset[str]
    mentioned: str  # the text of what may change a section of base

    @property
    def candidates(self) -> list[tuple[Change, ...]]:
        """Every combination of tuned values; one empty combination where nothing is tuned."""
        return list(itertools.product(*self.tune.values()))

    def at(self, key: str) -> Position:
        node = self.root.mapping.get(key, self.root)
        return node.key_at or node.at


def read_sheet(root: Node, default_name: str, errors: Errors) -> Sheet:
    """Reads every declaration; what breaks a rule is left out, added to ``errors`` and its key to ``Sheet.broken``."""
    return _Reader(root, default_name, errors).sheet()


class _Reader:
    def __init__(self, root: Node, default_name: str, errors: Errors) -> None:
        self.errors = errors
        changing = [root.mapping[key] for key in ("factors", "tune", "include") if key in root.mapping]
        self.mentioned = " ".join(spell(node, limit=None) for node in changing)
        self.broken, problems = check_form(root)
        errors += problems
        for key in self.broken & root.mapping.keys():
            root = root.replace(key, None)
        self.root = root
        self.language = language_of(root)
        self.name = str(self._value("name") or default_name)
        self.factors: dict[str, Factor] = {}

    def sheet(self) -> Sheet:
        """Reads key by key; what refers to factors is read only where every factor could be read."""
        self._check_name()
        with self._part("run"):
            run = read_run(self.root.mapping.get("run"), self.errors)
        with self._part("base"):
            base = self._base()
        with self._part("factors"):
            factors = parse_factors(self._node("factors"), self.errors, self.language)
            self.factors = {factor.name: factor for factor in factors}
        with self._part("seeds"):
            seeds = self._seeds()
        with self._part("tune"):
            tune = self._tune()
        with self._part("tune_seeds"):
            tune_seeds = self._tune_seeds(seeds)
        of_factors = self._of_factors()
        with self._part("metrics"):
            metrics = read_metrics(self.root.mapping.get("metrics"), RESERVED, self.errors)
            run = replace(run, at=selections(metrics)) if run else None
        with self._part("margin"):
            margin = self._margin()
        return Sheet(
            root=self._named_root(),
            name=self.name,
            question=" ".join(str(self._value("question")).split()),
            base=base,
            factors=tuple(self.factors.values()),
            kind=str(self._value("plan")),
            seeds=seeds,
            tune=tune,
            tune_seeds=tune_seeds,
            pair=self._value("pair"),
            untrained=self._value("untrained"),
            metrics=metrics,
            margin=margin,
            run=run,
            language=self.language,
            broken=frozenset(self.broken),
            mentioned=self.mentioned,
            **of_factors,
        )

    def _of_factors(self) -> dict[str, Any]:
        """Reads what refers to factors, by field of the sheet; nothing of it where not every factor could be read."""
        found: dict[str, Any] = {"baseline": {}, "exclude": (), "include": (), "hypotheses": ()}
        if "factors" in self.broken:
            return found
        with self._part("baseline"):
            found["baseline"] = self._baseline()
        with self._part("exclude"):
            found["exclude"] = tuple(self._exclude())
        with self._part("include"):
            found["include"] = tuple(self._include())
        with self._part("hypotheses"):
            found["hypotheses"] = tuple(self._hypotheses(list(found["include"])))
        return found

    def _named_root(self) -> Node:
        """Returns the grid with its name in it."""
        if "name" in self.root.mapping:
            return self.root
        named = {"name": Node(self.name, text=self.name), **self.root.mapping}
        return dataclasses.replace(self.root, content=named)

    @contextmanager
    def _part(self, key: str) -> Iterator[None]:
        before = len(self.errors)
        yield
        if len(self.errors) > before:
            self.broken.add(key)

    def _node(self, key: str) -> Node:
        return self.root.mapping.get(key, Node({}))

    def _value(self, key: str) -> Any:
        return plain(self.root.mapping[key]) if key in self.root.mapping else GridForm.model_fields[key].default

    def _error(self, at: Position, rule: str) -> None:
        self.errors.append((at, rule))

    def _check_name(self) -> None:
        if not re.fullmatch(NAME_PATTERN, self.name):
            rule = "names its results folder (letters, digits, _, - and .): rename it or give the grid a `name`"
            self._error(self.root.at, f"the file {self.name!r} {rule}")

    def _base(self) -> dict[str, Node]:
        base = self._node("base")
        for key, node in base.mapping.items():
            if problem := self.language.section_problem(key, node):
                self._error(node.key_at or node.at, f"base.{key}: {problem}")
            elif self.language is LAB and not isinstance(node.content, dict):
                self._error(node.at, f"base.{key}: must be a mapping of settings, got {_spelled(node)}")
        sections = {key: node for key, node in base.mapping.items() if isinstance(node.content, dict)}
        top = {key: node for key, node in base.mapping.items() if key not in sections}
        if self.language is LAB:
            return {key: node for key, node in sections.items() if key in self.language.sections}
        return ({TOP: Node(top, base.at, base.key_at)} if top else {}) | sections

    def _seeds(self) -> tuple[int, ...]:
        seeds = self._value("seeds")
        if isinstance(seeds, int):
            return tuple(range(seeds))
        for index, seed in enumerate(seeds):
            if seed in seeds[:index]:
                self._error(self._node("seeds").items[index].at, f"seeds: {seed} is repeated; seeds are distinct")
        return tuple(seeds)

    def _tune(self) -> dict[str, tuple[Change, ...]]:
        tune: dict[str, tuple[Change, ...]] = {}
        for path, node in self._node("tune").mapping.items():
            at = node.key_at or node.at
            setters = [name for name, factor in self.factors.items() if self.language.path_of(path) in factor.paths]
            if problem := self.language.path_problem(path):
                self._error(at, f"tune.{problem}")
            elif setters:
                self._error(at, f"tune.{path}: is set by the factor {setters[0]}; a tuned setting is no factor")
            else:
                name = self.language.path_of(path)
                tune[name] = tuple(make_change(path, item, at, self.language) for item in node.items)
                for index, item in enumerate(node.items):
                    if any(yaml_equal(plain(item), plain(earlier)) for earlier in node.items[:index]):
                        self._error(item.at, f"tune.{path}: {spell(item)} is repeated; candidates are distinct")
        return tune

    def _tune_seeds(self, seeds: Sequence[int]) -> tuple[int, ...]:
        if "tune_seeds" in self.root.mapping and "tune" not in self.root.mapping and "tune" not in self.broken:
            rule = "nothing is tuned; name the settings and their candidates under `tune`"
            self._error(self._node("tune_seeds").at, f"tune_seeds: {rule}")
        count = self._value("tune_seeds") if "tune" in self.root.mapping else 0
        own = (seed for seed in itertools.count(FIRST_TUNE_SEED) if seed not in seeds)
        return tuple(itertools.islice(own, count))

    def _margin(self) -> tuple[float | str, Position] | None:
        node = self.root.mapping.get("margin")
        if node is None:
            return None
        try:
            return read_margin(plain(node)), node.at
        except ValueError:
            self._error(node.at, f"margin: must be {MARGIN_RULE}, got {_spelled(node)}")
            return None

    def _factor(self, key: str, node: Node, where: str) -> Factor | None:
        factor = self.factors.get(normal_name(key))
        if factor is None:
            self._error(node.key_at or node.at, f"{where}.{key}: no such factor{suggest(key, self.factors)}")
        return factor

    def _level(self, factor: Factor, node: Node, where: str) -> str | None:
        level = factor.find(node)
        if level is None:
            got = _spelled(node)
            rule = f"no such level {got}{suggest(got, factor.levels)}"
            self._error(node.at, f"{where}.{factor.name}: {rule}")
        return level

    def _baseline(self) -> Levels:
        kind, baseline = self._value("plan"), self._node("baseline")
        levels: Levels = {}
        for key, node in baseline.mapping.items():
            if (factor := self._factor(key, node, "baseline")) and (level := self._level(factor, node, "baseline")):
                levels[factor.name] = level
        if kind == "full":
            first = {name: factor.levels[0] for name, factor in self.factors.items()}
            return levels if "baseline" in self.root.mapping or "baseline" in self.broken else first
        at = self._node("plan").at
        missing = [name for name in self.factors if name not in {normal_name(key) for key in baseline.mapping}]
        if missing and "baseline" not in self.broken:
            self._error(at, f"plan: {kind} needs a baseline level of every factor; missing: {', '.join(missing)}")
        for name, factor in self.factors.items() if kind != "one_at_a_time" else ():
            if len(factor.levels) != 2:
                rule = f"{kind} switches components of two levels, {name} has {len(factor.levels)}; see one_at_a_time"
                self._error(at, f"plan: {rule}")
        return levels

    def _exclude(self) -> list[Exclusion]:
        exclude = []
        for index, entry in enumerate(self._node("exclude").items):
            where, when = f"exclude.{index}.when", {}
            for key, node in entry.mapping["when"].mapping.items():
                if factor := self._factor(key, node, where):
                    nodes = [node] if factor.find(node) or not node.items else node.items
                    when[factor.name] = {str(self._level(factor, item, where)) for item in nodes}
            exclude.append(Exclusion(when, " ".join(str(plain(entry.mapping["because"])).split()), entry.at))
        return exclude

    def _include(self) -> list[Draft]:
        include = []
        for index, entry in enumerate(self._node("include").items):
            before, levels, parts = len(self.errors), {}, {}
            changes: list[Change] = []
            for key, node in entry.mapping.items():
                name = normal_name(key)
                label, made = self._included(f"include.{index}", name, node)
                changes += made
                parts[name] = label
                if name in self.factors:
                    levels[name] = label
            if len(self.errors) == before:
                include.append(
                    Draft(Cell(cell_label(parts, [*self.factors, *parts]), levels), tuple(changes), beside=True)
                )
        return include

    def _included(self, where: str, name: str, node: Node) -> tuple[str, list[Change]]:
        """Returns the label and the changes of one entry: a level of a factor, or any setting or section."""
        factor, at = self.factors.get(name), node.key_at or node.at
        if factor and (level := factor.find(node)):
            return level, [dataclasses.replace(change, key_at=at) for change in factor.changes_of(level)]
        if factor and not (factor.is_open and (name not in self.language.sections or node.mapping)):
            self._level(factor, node, where)
        elif problem := self.language.path_problem(name, whole=True):
            self._error(at, f"{where}.{problem}")
        elif name in self.language.sections and not node.mapping:
            self._error(node.at, f"{where}.{name}: must be a mapping of settings, got {_spelled(node)}")
        else:
            label = label_of(node)
            if problem := label_problem(label):
                self._error(node.at, f"{where}.{name}: {problem}")
            return label, [make_change(name, node, at, self.language)]
        return "", []

    def _hypotheses(self, include: Sequence[Draft]) -> list[Hypothesis]:
        levels = {name: dict.fromkeys(factor.levels) for name, factor in self.factors.items()}
        for draft in include:
            for name, level in draft.cell.levels.items():
                levels[name][level] = None
        hypotheses = []
        for index, node in enumerate(self._node("hypotheses").items):
            try:
                hypotheses.append(parse_hypothesis(str(node.content), levels))
            except HypothesisError as error:
                self._error(node.at, f"hypotheses.{index}: {error}")
        return hypotheses


def _spelled(node: Node) -> str:
    return "nothing" if node.content is None else spell(node)


def cell_label(levels: Mapping[str, str], names: Sequence[str]) -> str:
    """Labels a cell by what varies: the last part of each factor's path where it is unambiguous among ``names``."""
    short = short_names(names)
    return " ".join(f"{short[name]}={level}" for name, level in levels.items()) or "base"
