"""``--set``, ``--only`` and ``--seeds``: a grid rewritten before it is read, so that the result is a grid again.

- ``--set K=V`` replaces the values of a setting wherever they stand: the levels of a factor, the candidates of a tuned
  setting, or the value in ``base``. Several values (``K=V,V``) make a setting of ``base`` a factor.
- ``--only K=V`` keeps the cells with this level (or ``V,V``: one of these); the others are excluded.
- ``--seeds N`` is ``seeds: N``.

What the grid says about levels that ``--set`` took away (in ``baseline``, ``exclude``, ``include``, ``hypotheses``)
goes with them; a warning names what matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.grid.factors import Errors, Factor, label_of, normal_name, parse_factors, yaml_equal
from bench.grid.hypotheses import HypothesisError, parse_hypothesis
from bench.grid.language import LAB, TOP, language_of
from bench.grid.strict_yaml import Node, Position, YamlError, compose, plain, spell, unquoted
from lab.settings import SECTIONS, suggest


def apply_overrides(
    root: Node, overrides: Sequence[str], only: Sequence[str], seeds: int | None, errors: Errors, warnings: list[str]
) -> Node:
    """Returns the grid with the options applied; an option that breaks a rule is left out and added to ``errors``."""
    for flag, options, apply in (("--set", overrides, _set), ("--only", only, _only)):
        for option in options:
            source = f"{flag} {option}"
            values = _values(option, source, errors)
            if values is not None:
                root = apply(root, option.partition("=")[0].strip(), values, Position(source=source), errors, warnings)
    if seeds is not None:
        source = f"--seeds {seeds}"
        root = root.replace("seeds", compose(str(seeds), source))
    return root


def _values(option: str, source: str, errors: Errors) -> list[Node] | None:
    key, equals, text = option.partition("=")
    if not key.strip() or not equals or not text.strip():
        errors.append((Position(source=source), "must be key=value, such as train.epochs=1"))
        return None
    try:
        return compose(f"[{text}]", source).items
    except YamlError as error:
        errors.append((error.at, error.message))
        return None


def _factors(root: Node) -> dict[str, Factor]:
    return {
        factor.name: factor for factor in parse_factors(root.mapping.get("factors", Node({})), [], language_of(root))
    }


def _set(root: Node, key: str, values: list[Node], at: Position, errors: Errors, warnings: list[str]) -> Node:
    factors = _factors(root)
    name = normal_name(key)
    if name in factors:
        return _set_factor(root, factors[name], values, at, errors, warnings)
    tune = root.mapping.get("tune", Node({}))
    if key in tune.mapping:
        return root.replace("tune", tune.replace(key, _keyed(Node(values, at), at)))
    language = language_of(root)
    if problem := language.path_problem(key, whole=True):
        errors.append((at, problem.removeprefix(f"{key}: ")))
        return root
    setters = [factor for factor in factors.values() if language.path_of(key) in factor.paths]
    if setters:
        errors.append((at, f"is set by the levels of {setters[0].name}: {', '.join(setters[0].levels)}"))
        return root
    section, _, setting = language.path_of(key).partition(".")
    replaced = setting and any(section in factor.paths for factor in factors.values())
    if len(values) > 1 or replaced:
        return _add_factor(root, key, values, at)
    base = root.mapping.get("base", Node({}, flow=False))
    value = _keyed(values[0], at)
    if section == TOP:
        return root.replace("base", base.replace(setting, value))
    whole = base.mapping.get(section, Node({}))
    if language is not LAB:
        return root.replace("base", base.replace(section, _nested(whole, setting.split("."), value)))
    part, _, own = setting.partition(".")
    if own:  # of a loss or metric, which may stand there as its name alone
        old = whole.mapping.get(part, unquoted(str(SECTIONS[section].model_fields[part].default), at))
        setting, value = part, (old if old.mapping else Node({"name": old}, old.at, old.key_at)).replace(own, value)
    return root.replace("base", base.replace(section, whole.replace(setting, value) if setting else value))


def _nested(whole: Node, path: list[str], value: Node) -> Node:
    """Returns the mapping with the value at a path below it; the value itself where there is no path."""
    first, *rest = path
    if not first:
        return value
    return whole.replace(first, _nested(whole.mapping.get(first, Node({})), rest, value) if rest else value)


def _keyed(node: Node, at: Position) -> Node:
    """Returns the same value as if its key stood in the option."""
    return Node(node.content, node.at, at, node.text, node.flow)


def _add_factor(root: Node, key: str, values: list[Node], at: Position) -> Node:
    factors = root.mapping.get("factors", Node({}, flow=False))
    root = root.replace("factors", factors.replace(key, _keyed(Node(values, at), at)))
    baseline = root.mapping.get("baseline")
    return root if baseline is None else root.replace("baseline", baseline.replace(key, values[0]))


def _set_factor(
    root: Node, factor: Factor, values: list[Node], at: Position, errors: Errors, warnings: list[str]
) -> Node:
    """Returns the factor with other levels: known ones by label or value, new ones where any value is a level."""
    factors = root.mapping["factors"]
    key = next(key for key in factors.mapping if normal_name(key) == factor.name)
    old = factors.mapping[key]
    old_nodes = dict(zip(factor.levels, old.mapping.values() or old.items, strict=True))
    whole = factor.find(Node(values)) if "," in factor.name else None
    found = {whole: old_nodes[whole]} if whole else {}
    for value in [] if whole else values:
        label = factor.find(value)
        if label is None and not (factor.is_open and (factor.name not in language_of(root).sections or value.mapping)):
            errors.append((at, f"{factor.name} has no level {spell(value)}; there are {', '.join(factor.levels)}"))
            return root
        if (label or label_of(value)) in found:
            errors.append((at, f"{label or label_of(value)} is repeated; levels are distinct"))
            return root
        found[label or label_of(value)] = old_nodes[label] if label else value
    content: list[Node] | dict[str, Node] = list(found.values())
    if isinstance(old.content, dict):
        content = {label: _keyed(node, node.key_at or at) for label, node in found.items()}
    root = root.replace("factors", factors.replace(key, _keyed(Node(content, at), at)))
    gone = [label for label in factor.levels if label not in found]
    return _forget(root, factor, gone, next(iter(found)), at, warnings) if gone else root


def _forget(root: Node, factor: Factor, gone: list[str], first: str, at: Position, warnings: list[str]) -> Node:
    """Takes out what the grid says about levels that are gone; ``first`` is the new baseline level where it is one."""

    def names_gone(node: Node) -> bool:
        return factor.find(node) in gone

    def names_gone_label(node: Node) -> bool:
        label = factor.find(node)
        is_value = factor.is_open and label and yaml_equal(factor.changes_of(label)[0].value, plain(node))
        return label in gone and not is_value

    baseline = root.mapping.get("baseline", Node({}))
    for key, value in baseline.mapping.items():
        if normal_name(key) == factor.name and names_gone(value):
            root = root.replace("baseline", baseline.replace(key, unquoted(first, at)))
            warnings.append(f"{at.source}: the baseline is {factor.name}={first}")
    root = _rewrite(root, "exclude", lambda entry: _without_levels(entry, factor, names_gone))
    root = _filter(root, "include", lambda entry: not any(map(names_gone_label, _named(entry, factor))))

    def holds(entry: Node) -> bool:
        levels = {known.name: [*known.levels] for known in _factors(root).values()} | {factor.name: factor.levels}
        try:
            terms = parse_hypothesis(str(entry.content), levels).terms
        except HypothesisError:  # said when the grid is read
            return True
        kept = not any(term.levels.get(factor.name) in gone for term in terms)
        if not kept:
            warnings.append(f"{at.source}: leaves out the hypothesis {' '.join(str(entry.content).split())!r}")
        return kept

    return _filter(root, "hypotheses", holds)


def _without_levels(entry: Node, factor: Factor, names_gone: Callable[[Node], bool]) -> Node | None:
    """Returns the exclusion without the levels that are gone; None where it asks for nothing else."""
    when = entry.mapping.get("when", Node({}))
    for key, value in when.mapping.items():
        if normal_name(key) == factor.name:
            left = [item for item in value.items if not names_gone(item)]
            if names_gone(value) or (value.items and not left):
                return None
            if value.items:
                when = when.replace(key, Node(left, value.at, value.key_at))
    return entry.replace("when", when) if when.mapping else entry


def _rewrite(root: Node, key: str, change: Callable[[Node], Node | None]) -> Node:
    """Returns the grid with each entry of a list changed, or left out where ``change`` gives None."""
    old = root.mapping.get(key)
    if old is None:
        return root
    changed = [new for entry in old.items if (new := change(entry)) is not None]
    return root.replace(key, Node(changed, old.at, old.key_at, flow=old.flow) if changed else None)


def without_items(root: Node, key: str, indexes: Sequence[int]) -> Node:
    """Returns the grid without some entries of a list."""
    gone = [root.mapping[key].items[index] for index in indexes]
    return _filter(root, key, lambda entry: not any(entry is one for one in gone)) if gone else root


def _filter(root: Node, key: str, keep: Callable[[Node], bool]) -> Node:
    return _rewrite(root, key, lambda entry: entry if keep(entry) else None)


def _only(root: Node, key: str, values: list[Node], at: Position, errors: Errors, warnings: list[str]) -> Node:
    factors = _factors(root)
    name = normal_name(key)
    if name not in factors:
        errors.append((at, f"no such factor{suggest(name, factors)}"))
        return root
    factor = factors[name]
    include = root.mapping.get("include", Node([]))
    beside = [factor.find(node) or label_of(node) for entry in include.items for node in _named(entry, factor)]
    known = dict.fromkeys([*factor.levels, *beside])
    whole = factor.find(Node(values))
    wanted = [whole] if whole else [factor.find(value) or label_of(value) for value in values]
    if unknown := [label for label in wanted if label not in known]:
        errors.append((at, f"{name} has no level {unknown[0]}{suggest(unknown[0], known)}"))
        return root
    root = _filter(
        root,
        "include",
        lambda entry: any((factor.find(node) or label_of(node)) in wanted for node in _named(entry, factor)),
    )
    others = [unquoted(label, at) for label in factor.levels if label not in wanted]
    if not others:
        return root
    when = Node({"when": Node({name: Node(others, at, at)}, at, at), "because": Node(at.source, at, at, at.source)}, at)
    exclude = root.mapping.get("exclude", Node([], at, at, flow=False))
    return root.replace("exclude", Node([*exclude.items, when], exclude.at, exclude.key_at, flow=exclude.flow))


def _named(entry: Node, factor: Factor) -> list[Node]:
    return [value for key, value in entry.mapping.items() if normal_name(key) == factor.name]
