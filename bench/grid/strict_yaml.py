"""YAML read strictly: plain data, no surprises, and a position for every key and value.

PyYAML splits the text; this module decides what it means. Plain scalars follow the core schema of YAML 1.2: ``1e-3`` is
a number, ``off``, ``no`` and ``1:30`` are text, ``010`` is ten. Keys are text as written. Anchors and ``<<`` work;
repeated keys, tags, several documents, huge files and aliases that unfold without end are refused.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab.settings import Value

MAX_BYTES = 1_000_000
MAX_VALUES = 100_000
MAX_DEPTH = 40

Scalar = bool | int | float | str | None


@dataclass(frozen=True, order=True)
class Position:
    """A place in a text: 1-based line and column of a file, or a ``source`` such as a command line option."""

    line: int = 1
    column: int = 1
    source: str = ""


class YamlError(ValueError):
    """The text is refused; says where and why."""

    def __init__(self, at: Position, message: str) -> None:
        self.at, self.message = at, message
        super().__init__(f"{at.line}:{at.column}: {message}")


@dataclass(frozen=True)
class Node:
    """One value of the text, with what is needed to point at it and to write it again as it was written."""

    content: Scalar | list[Node] | dict[str, Node]
    at: Position = field(default=Position(), compare=False)
    key_at: Position | None = field(default=None, compare=False)  # where its key stands, in a mapping
    text: str = ""  # a scalar as written
    flow: bool = True  # written in brackets or braces
    size: int = field(default=1, compare=False, repr=False)  # values in it, aliases unfolded
    height: int = field(default=1, compare=False, repr=False)

    @property
    def mapping(self) -> dict[str, Node]:
        """Its entries; none where it is no mapping."""
        return self.content if isinstance(self.content, dict) else {}

    @property
    def items(self) -> list[Node]:
        """Its items; none where it is no list."""
        return self.content if isinstance(self.content, list) else []

    def replace(self, key: str, value: Node | None) -> Node:
        """Returns the same mapping with one entry set, or taken out where ``value`` is None."""
        entries = {name: node for name, node in self.mapping.items() if value is not None or name != key}
        return dataclasses.replace(self, content=entries | ({key: value} if value is not None else {}))


def read(path: Path) -> Node:
    """Reads the mapping in the file at ``path``; raises :class:`YamlError`, and OSError where it can't be read."""
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise YamlError(Position(), f"the file is larger than {MAX_BYTES:,} bytes: it is no grid")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = _position_in(raw[: error.start].decode("utf-8", "replace"))
        raise YamlError(at, f"not UTF-8 text: byte 0x{raw[error.start]:02x}") from None
    root = compose(text)
    if not isinstance(root.content, dict):
        raise YamlError(root.at, f"a grid is a mapping (question: ..., base: ..., factors: ...), got {spell(root)}")
    return root


def compose(text: str, source: str = "") -> Node:
    """Composes the one value that ``text`` holds; raises :class:`YamlError` with ``source`` in its position."""
    if odd := yaml.reader.Reader.NON_PRINTABLE.search(text):
        at = dataclasses.replace(_position_in(text[: odd.start()]), source=source)
        raise YamlError(at, f"character U+{ord(odd.group()):04X} is not allowed")
    try:
        return _Composer(text, source).document()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, source) from None


def _position_in(text: str) -> Position:
    return Position(text.count("\n") + 1, len(text) - text.rfind("\n"))


def _syntax_error(error: yaml.MarkedYAMLError, text: str, source: str) -> YamlError:
    mark = error.problem_mark or error.context_mark
    at = Position(mark.line + 1, mark.column + 1, source) if mark else Position(source=source)
    line = (text.splitlines() or [""])[min(at.line, len(text.splitlines())) - 1]
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return YamlError(at, "a tab indents this line; YAML indents with spaces")
    context = f" {error.context}" if error.context else ""
    if error.context_mark and error.context_mark.line + 1 != at.line:
        context += f" that starts at line {error.context_mark.line + 1}"
    hint = "; text with `: ` in it stands in quotes" if "mapping values" in str(error.problem) else ""
    return YamlError(at, f"not valid YAML: {error.problem}{context}{hint}")


_LOADER: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


class _Composer:
    """Builds nodes from PyYAML's events, and counts what aliases unfold to."""

    def __init__(self, text: str, source: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        self._source = source
        self._anchors: dict[str, Node] = {}
        self._num_values = 0

    def document(self) -> Node:
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise YamlError(Position(source=self._source), "the file is empty")
        root = self._node(next(self._events), depth=1)
        next(self._events)
        if not isinstance(event := next(self._events), yaml.StreamEndEvent):
            raise YamlError(self._at(event), "a second document starts here; a grid is one document")
        return root

    def _at(self, event: Any) -> Position:
        return Position(event.start_mark.line + 1, event.start_mark.column + 1, self._source)

    def _node(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            node = self._aliased(event)
        elif event.tag:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise YamlError(self._at(event), f"a tag such as {tag} is not allowed: a grid is plain data")
        elif isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._list(event, depth)
        else:
            node = self._mapping(event, depth)
        self._num_values += node.size if isinstance(event, yaml.AliasEvent) else 1
        if self._num_values > MAX_VALUES:
            raise YamlError(self._at(event), f"more than {MAX_VALUES:,} values, aliases unfolded: it is no grid")
        if depth + node.height - 1 > MAX_DEPTH:
            raise YamlError(self._at(event), f"nested deeper than {MAX_DEPTH} levels")
        if not isinstance(event, yaml.AliasEvent) and event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _aliased(self, event: yaml.AliasEvent) -> Node:
        if event.anchor not in self._anchors:
            raise YamlError(self._at(event), f"*{event.anchor} stands for nothing: no &{event.anchor} ends before it")
        return self._anchors[event.anchor]

    def _scalar(self, event: yaml.ScalarEvent) -> Node:
        plain = event.style is None or event.style == ""  # quotes and blocks make text
        try:
            content = core_scalar(event.value) if plain and event.implicit[0] else event.value
        except ValueError as error:
            raise YamlError(self._at(event), str(error)) from None
        return Node(content, self._at(event), text="null" if content is None else event.value)

    def _list(self, event: yaml.SequenceStartEvent, depth: int) -> Node:
        self._check_depth(event, depth)
        items = []
        while not isinstance(following := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(following, depth + 1))
        return self._collection(event, items, items)

    def _mapping(self, event: yaml.MappingStartEvent, depth: int) -> Node:
        self._check_depth(event, depth)
        entries: dict[str, Node] = {}
        merge: Node | None = None
        while not isinstance(key_event := next(self._events), yaml.MappingEndEvent):
            key_at = self._at(key_event)
            if not isinstance(key_event, yaml.ScalarEvent) or key_event.tag or not key_event.value:
                raise YamlError(key_at, "a key must be plain text")
            key = key_event.value
            if first := entries.get(key) or (merge if key == "<<" else None):
                line = (first.key_at or first.at).line
                raise YamlError(key_at, f"{key} is repeated: it stands at line {line} already")
            value = self._node(next(self._events), depth + 1)
            if key == "<<" and key_event.implicit[0]:
                merge = value
            else:
                entries[key] = dataclasses.replace(value, key_at=key_at)
        entries = self._inherited(merge) | entries if merge else entries
        return self._collection(event, entries, list(entries.values()))

    def _inherited(self, merge: Node) -> dict[str, Node]:
        """Returns the entries that ``<<`` stands for; of several mappings the earlier one wins."""
        inherited: dict[str, Node] = {}
        for source in reversed(merge.items if isinstance(merge.content, list) else [merge]):
            if not isinstance(source.content, dict):
                raise YamlError(merge.at, f"<< takes a mapping or a list of mappings, got {spell(source)}")
            inherited |= source.content
        return inherited

    def _check_depth(self, event: Any, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise YamlError(self._at(event), f"nested deeper than {MAX_DEPTH} levels")

    def _collection(self, event: Any, content: list[Node] | dict[str, Node], children: Sequence[Node]) -> Node:
        size = 1 + sum(child.size for child in children)
        height = 1 + max((child.height for child in children), default=0)
        return Node(content, self._at(event), flow=bool(event.flow_style), size=size, height=height)


_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def core_scalar(text: str) -> Scalar:
    """Reads an unquoted scalar (YAML 1.2.2, section 10.3.2); raises ValueError for integers beyond 64 bits."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        number = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)) if len(text) < 100 else 2**64
        if abs(number) >= 2**63:
            raise ValueError(f"an integer must fit in 64 bits, got {_short(text)}")
        return number
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _SPECIAL.fullmatch(text) else text


def unquoted(text: str, at: Position) -> Node:
    """Returns the scalar that ``text`` means where it stands without quotes; text itself where that is refused."""
    try:
        content = core_scalar(text)
    except ValueError:
        content = text
    return Node(content, at, text=text)


def plain(node: Node) -> Value:
    """Returns the value as plain Python data."""
    if isinstance(node.content, dict):
        return {key: plain(value) for key, value in node.content.items()}
    return [plain(item) for item in node.content] if isinstance(node.content, list) else node.content


def plain_mapping(node: Node) -> dict[str, Value]:
    """Returns the entries of a mapping as plain Python data."""
    return {key: plain(value) for key, value in node.mapping.items()}


def spell(node: Node, limit: int | None = 60) -> str:
    """Returns the value as one line of YAML, numbers as they were written, cut at ``limit`` characters."""
    if isinstance(node.content, dict):
        text = "{" + ", ".join(f"{key}: {spell(value, limit)}" for key, value in node.content.items()) + "}"
    elif isinstance(node.content, list):
        text = "[" + ", ".join(spell(item, limit) for item in node.content) + "]"
    else:
        text = node.text or "''"
    return text if limit is None else _short(text, limit)


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


class _Dumper(yaml.SafeDumper):
    """Quotes what the core schema of YAML 1.2 would read as something else than text."""


_Dumper.yaml_implicit_resolvers = {
    None: [
        ("tag:yaml.org,2002:null", re.compile("(~|null|Null|NULL|)$")),
        ("tag:yaml.org,2002:bool", re.compile("(true|True|TRUE|false|False|FALSE)$")),
        ("tag:yaml.org,2002:int", re.compile(f"({_INTEGER.pattern})$", re.ASCII)),
        ("tag:yaml.org,2002:float", re.compile(f"({_FLOAT.pattern}|{_SPECIAL.pattern})$", re.ASCII)),
    ]
}


def dump(node: Node) -> str:
    """Returns the text that :func:`compose` reads as the same value, with numbers as they were written."""
    return yaml.serialize(_serializable(node), Dumper=_Dumper, allow_unicode=True, width=120)


def _serializable(node: Node) -> yaml.Node:
    if isinstance(node.content, dict):
        pairs = [(_text_node(key), _serializable(value)) for key, value in node.content.items()]
        return yaml.MappingNode("tag:yaml.org,2002:map", pairs, flow_style=node.flow)
    if isinstance(node.content, list):
        items = [_serializable(item) for item in node.content]
        return yaml.SequenceNode("tag:yaml.org,2002:seq", items, flow_style=node.flow)
    if isinstance(node.content, str):
        return _text_node(node.content)
    kind = {bool: "bool", int: "int", float: "float", type(None): "null"}[type(node.content)]
    return yaml.ScalarNode(f"tag:yaml.org,2002:{kind}", node.text)


def _text_node(text: str) -> yaml.ScalarNode:
    odd = text.splitlines() != [text] or not text.isprintable()  # the emitter folds exotic line breaks in other styles
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style='"' if text and (odd or text == "<<") else None)
