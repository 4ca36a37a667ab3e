"""Factors of a grid: names, levels, what each level changes, and which combinations a plan takes.

A factor's key is one of

- a setting's dotted path with a list of values, or with labelled values (``label: value``);
- a whole section (``model``, ``optimizer``, ...) with labelled levels, or a list of levels labelled by their ``name``.
  A level with a ``name`` replaces the section whole, one without changes only what it says;
- several dotted paths with commas between them: zipped, each level a list of values, labelled by all of them;
- any other word, with labelled levels that each set several dotted paths (or whole sections) together.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.grid.language import LAB, SECTIONS_ARE, Language
from bench.grid.strict_yaml import Node, Position, plain, spell
from lab.settings import PARTS, SECTIONS, Value, did_you_mean

PLANS = ("full", "one_at_a_time", "leave_one_out", "add_one")
MAX_LABEL = 80
TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")  # what stands after them would read as another text

Errors = list[tuple[Position, str]]
Levels = dict[str, str]  # factor name -> level label


@dataclass(frozen=True)
class Change:
    """One assignment: a setting (``model.width``) or a whole section (``model``) gets ``value``."""

    path: str
    value: Value
    node: Node = field(compare=False, repr=False)
    key_at: Position = field(compare=False, repr=False)  # where the path stands

    @property
    def section(self) -> str:
        return self.path.partition(".")[0]

    @property
    def setting(self) -> str:
        """The setting's name in its section, dotted where it is a loss's or metric's; empty for the whole section."""
        return self.path.partition(".")[2]


@dataclass(frozen=True)
class Factor:
    """A factor of the question: its name and the labels of its levels, as tables and legends show them."""

    name: str
    levels: tuple[str, ...]
    changes: tuple[tuple[Change, ...], ...] = field(default=(), repr=False)  # of each level

    @property
    def is_open(self) -> bool:
        """Whether any value is a level: a single setting, or a whole section."""
        return len(self.paths) == 1 and self.name in (path := next(iter(self.paths)), path.partition(".")[2])

    @property
    def paths(self) -> set[str]:
        """The settings and whole sections that some level changes."""
        return {change.path for changes in self.changes for change in changes}

    def changes_of(self, label: str) -> tuple[Change, ...]:
        return self.changes[self.levels.index(label)]

    def find(self, node: Node) -> str | None:
        """Finds the level that ``node`` names by its label, or is by its value; None where there is none."""
        for label in () if node.mapping else (spell(node, limit=None), _list_label(self.name, node)):
            if label in self.levels:
                return label
        for level, changes in zip(self.levels, self.changes, strict=True):
            if len(changes) == 1 and yaml_equal(changes[0].value, plain(node)):
                return level
        return None


def yaml_equal(one: Value, other: Value) -> bool:
    """Compares as YAML means it: 1 is 1.0 and not true."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def normal_name(key: str) -> str:
    """Returns a factor's name as it is shown: zipped paths with one comma and one space between them."""
    return ", ".join(part.strip() for part in key.split(","))


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Shortens factors' paths to their last part where that is unambiguous: ``batch_norm`` for ``model.batch_norm``."""
    short = {name: ",".join(path.rpartition(".")[2] for path in name.split(", ")) for name in names}
    counts = Counter(short.values())
    return {name: word if counts[word] == 1 else name for name, word in short.items()}


def parse_factors(factors: Node, errors: Errors, language: Language = LAB) -> tuple[Factor, ...]:
    """Reads every factor of the mapping; what breaks a rule is left out and added to ``errors``."""
    found = [_factor(normal_name(key), node, errors, language) for key, node in factors.mapping.items()]
    good = [factor for factor in found if factor is not None]
    setters: dict[str, str] = {}
    for factor in good:
        first = {change.path: change for changes in reversed(factor.changes) for change in changes}
        for change in first.values():
            if change.path in setters:
                rule = f"{change.path} is set by the factor {setters[change.path]} already"
                errors.append((change.key_at, f"{factor.name}: {rule}"))
            elif change.setting == "name" and change.section in setters:
                rule = f"{change.path} is set by the levels of the factor {setters[change.section]}"
                errors.append((change.key_at, f"{factor.name}: {rule}"))
        setters |= dict.fromkeys(factor.paths, factor.name)
    return tuple(good)


def _factor(name: str, node: Node, errors: Errors, language: Language) -> Factor | None:
    if not isinstance(node.content, dict | list) or not node.content:
        errors.append((node.at, f"{name}: must be a list of levels, or a mapping of labels to levels, {_got(node)}"))
        return None
    at = node.key_at or node.at
    if problem := _name_problem(name, node, language):
        errors.append((at, problem))
        return None
    nodes = node.items or list(node.mapping.values())
    labels = [_list_label(name, item) for item in node.items] or list(node.mapping)
    free = language.is_free(name, node)
    given = at, language
    read = [
        (_free_level if free else _level)(name, label, item, *given) for label, item in zip(labels, nodes, strict=True)
    ]
    errors += [(item.at, rule) for rule, item in zip(read, nodes, strict=True) if isinstance(rule, str)]
    changes = tuple(changes for changes in read if not isinstance(changes, str))
    sound = _check_labels(name, labels, node, errors) and len(changes) == len(labels)
    return Factor(name, tuple(labels), changes) if sound else None


def _name_problem(name: str, node: Node, language: Language) -> str | None:
    if language.is_free(name, node):
        problem = language.path_problem(name) if isinstance(node.content, list) else None
        return f"{problem}; a factor of any other name has labelled levels" if problem else None
    paths = name.split(", ")
    return next((problem for path in paths if (problem := language.path_problem(path, whole=len(paths) == 1))), None)


def _list_label(name: str, node: Node) -> str:
    return ",".join(label_of(item) for item in node.items) if "," in name else label_of(node)


def label_of(node: Node) -> str:
    """Returns a value as tables show it: a section by its name, all else as it was written."""
    own_name = node.mapping.get("name")
    return spell(own_name or node, limit=None)


def _level(name: str, label: str, node: Node, at: Position, language: Language) -> tuple[Change, ...] | str:
    """Returns what the level changes, or the rule that it breaks."""
    paths = name.split(", ")
    if len(paths) > 1 and len(node.items) != len(paths):
        return f"{name}: level {label} must be a list of {len(paths)} values, one for each of {name}, {_got(node)}"
    if len(paths) > 1:
        return tuple(make_change(path, item, at, language) for path, item in zip(paths, node.items, strict=True))
    if name in language.sections and not isinstance(node.content, dict):
        hint = f"; for names alone the factor is {name}.name" if name in PARTS else ""
        return f"{name}: a level of a whole section is a mapping of its settings, {_got(node)}{hint}"
    return (make_change(name, node, at, language),)


def _free_level(name: str, label: str, node: Node, at: Position, language: Language) -> tuple[Change, ...] | str:
    near = did_you_mean(name, SECTIONS) if language is LAB else ""
    if not node.mapping:
        return f"{name}: level {label} must set dotted paths, such as {{model.width: 8}}, {_got(node)}{near}"
    for key, value in node.mapping.items():
        if problem := language.path_problem(key, whole=True):
            return f"{name}: no such section{near}; {SECTIONS_ARE}" if near else f"{name}: level {label}: {problem}"
        if key in language.sections and not isinstance(value.content, dict):
            return f"{name}: level {label}: {key} must be a mapping of settings, {_got(value)}"
    given = [(key, value, value.key_at or value.at) for key, value in node.mapping.items()]
    return tuple(make_change(*one, language) for one in given)


def make_change(path: str, node: Node, key_at: Position, language: Language = LAB) -> Change:
    return Change(language.path_of(path), plain(node), node, key_at)


def _check_labels(name: str, labels: Sequence[str], node: Node, errors: Errors) -> bool:
    nodes = list(node.mapping.values()) or node.items
    for index, (label, item) in enumerate(zip(labels, nodes, strict=True)):
        at = item.at if isinstance(node.content, list) else item.key_at or item.at
        if label in labels[:index]:
            errors.append((at, f"{name}: two levels are called {label}; labels (`label: level`) tell them apart"))
        elif problem := label_problem(label):
            errors.append((at, f"{name}: {problem}; give the level a label (`label: level`)"))
        else:
            continue
        return False
    return True


def label_problem(label: str) -> str | None:
    """Returns the rule that a level's label breaks; None where it breaks none."""
    turned = "" if not TURNING.search(label) else " and without Unicode's marks that turn other letters round"
    odd = re.search(r"[=\x00-\x1f\x7f\x85\u2028\u2029]", label)
    if label.strip() and len(label) <= MAX_LABEL and not odd and not turned:
        return None
    return f"a label is 1 to {MAX_LABEL} characters on one line without `=`{turned}, got {label[:MAX_LABEL]!r}"


def _got(node: Node) -> str:
    return f"got {'nothing' if node.content is None else spell(node)}"


def num_combinations(plan: str, factors: Sequence[Factor]) -> int:
    """Counts the combinations that :func:`combinations` yields."""
    counts = [len(factor.levels) for factor in factors]
    if plan == "full":
        total = 1
        for count in counts:
            total *= count
        return total
    return 1 + sum(count - 1 for count in counts) + (plan == "add_one" and len(factors) > 1)


def combinations(plan: str, factors: Sequence[Factor], baseline: Mapping[str, str]) -> Iterator[Levels]:
    """Yields each factor's level, for every cell of the plan; all but ``full`` need a baseline level of every factor.

    ``full`` is the product. ``one_at_a_time`` is the baseline, then each other level of each factor alone.
    ``leave_one_out`` is the same for factors of two levels: everything as in the baseline, one component switched.
    ``add_one`` starts from the opposite of the baseline, then switches one component at a time to its baseline level,
    and ends with the baseline itself.
    """
    if plan == "full":
        for levels in itertools.product(*(factor.levels for factor in factors)):
            yield dict(zip((factor.name for factor in factors), levels, strict=True))
        return
    own = {factor.name: baseline[factor.name] for factor in factors}
    others = {factor.name: [level for level in factor.levels if level != own[factor.name]] for factor in factors}
    if plan == "add_one":
        nothing = {name: levels[0] for name, levels in others.items()}
        yield nothing
        yield from (nothing | {name: own[name]} for name in own if len(own) > 1)
        yield own
    else:
        yield own
        yield from (own | {name: level} for name, levels in others.items() for level in levels)
