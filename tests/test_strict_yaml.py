"""Scalars as YAML 1.2's core schema has them, positions of everything, and nothing but plain data."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.grid.strict_yaml import MAX_BYTES, MAX_DEPTH, Node, Position, YamlError, compose, dump, plain, read, spell


@pytest.mark.parametrize(
    ("text", "value"),
    [  # YAML 1.2.2, section 10.3.2, and what YAML 1.1 makes of the others
        ("1e-3", 0.001),
        ("12e03", 12000.0),
        ("-2E+05", -200000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("off", "off"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-7", -7),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("'1e-3'", "1e-3"),
        ('"true"', "true"),
        ("٣", "٣"),  # an Arabic three is text
    ],
)
def test_plain_scalars_follow_the_core_schema(text: str, value: object) -> None:
    found = plain(compose(f"x: {text}"))

    assert found == {"x": value}
    assert isinstance(found, dict)
    assert type(found["x"]) is type(value)


def test_nan_is_a_number() -> None:
    found = compose(".nan").content
    assert isinstance(found, float)
    assert math.isnan(found)


def test_keys_are_text_as_written() -> None:
    assert plain(compose("{18: a, true: b, 1e-3: c, 'x y': d}")) == {"18": "a", "true": "b", "1e-3": "c", "x y": "d"}


def test_every_key_and_value_has_its_position() -> None:
    root = compose("base:\n  model: {näme: mlp, hidden: [256, 128]}\n")
    model = root.mapping["base"].mapping["model"]

    assert model.key_at == Position(2, 3)
    assert model.at == Position(2, 10)
    assert (model.mapping["näme"].key_at, model.mapping["näme"].at) == (Position(2, 11), Position(2, 17))
    assert [item.at for item in model.mapping["hidden"].items] == [Position(2, 31), Position(2, 36)]


def test_aliases_and_merges_keep_the_position_where_the_value_is_written() -> None:
    root = compose("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n")

    assert plain(root) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}
    assert root.mapping["b"].mapping["x"].key_at == Position(1, 8)
    assert root.mapping["b"].mapping["y"].key_at == Position(2, 13)
    assert root.mapping["c"].key_at == Position(3, 1)


def test_of_several_merged_mappings_the_earlier_wins() -> None:
    text = "a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}\nd: {<<: [*b, *a]}\n"
    found = plain(compose(text))

    assert isinstance(found, dict)
    assert found["c"] == {"x": 1, "y": 2}
    assert found["d"] == {"x": 2, "y": 2}


def test_a_quoted_merge_sign_is_a_key_like_any_other() -> None:
    assert plain(compose("a: {'<<': 1}")) == {"a": {"<<": 1}}
    with pytest.raises(YamlError, match="<< is repeated: it stands at line 1 already"):
        compose("a: {<<: {b: 1}, <<: {c: 1}}")


def test_aliases_are_separate_data() -> None:
    found: Any = plain(compose("a: &a [1]\nb: *a\n"))
    found["a"].append(2)
    assert found["b"] == [1]


def test_aliases_can_not_nest_deeper_than_text() -> None:
    links = "".join(f"a{n + 1}: &a{n + 1} [*a{n}]\n" for n in range(MAX_DEPTH))
    with pytest.raises(YamlError, match="nested deeper than 40 levels"):
        compose("a0: &a0 [1]\n" + links)


def test_a_source_goes_into_the_position_of_an_error() -> None:
    with pytest.raises(YamlError) as caught:
        compose("[1", source="--set a=[1")
    assert caught.value.at.source == "--set a=[1"


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert plain(read(tmp_path / "a.yaml")) == {"a": 1}


def test_a_file_as_large_as_allowed_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"a: 1\n#" + b"x" * (MAX_BYTES - 6))
    assert plain(read(tmp_path / "a.yaml")) == {"a": 1}


def test_values_are_spelt_on_one_line_as_they_were_written() -> None:
    assert spell(compose("x: [1e-3, {a: off, b: }]\ny: |\n  text")) == "{x: [1e-3, {a: off, b: null}], y: text}"
    assert spell(compose("[" + "1, " * 40 + "1]"), limit=10) == "[1, 1, ..."


def test_dumping_keeps_spellings_and_quotes_what_would_change() -> None:
    text = "a: 1e-3\nb: '1e-3'\nc: ['true', true, '~', null, off]\nd: ''\n"
    assert dump(compose(text)) == "a: 1e-3\nb: '1e-3'\nc: ['true', true, '~', null, off]\nd: ''\n"


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1), inner, max_size=4),
    max_leaves=12,
)


def node(value: Any) -> Node:
    if isinstance(value, dict):
        return Node({key: node(item) for key, item in value.items()}, flow=len(value) % 2 == 0)
    if isinstance(value, list):
        return Node([node(item) for item in value], flow=len(value) % 2 == 0)
    words = {None: "null", math.inf: ".inf", -math.inf: "-.inf"}
    text = str(value).lower() if isinstance(value, bool) else words.get(value, str(value))
    return Node(value, text=text)


@given(values)
def test_what_is_dumped_is_read_back_the_same(value: Any) -> None:
    assert repr(plain(compose(dump(node({"root": value}))))) == repr({"root": value})


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"#%@`,?~ \n\t0159.e<")))
def test_any_text_is_a_value_or_a_yaml_error(text: str) -> None:
    try:
        root = compose(text)
    except YamlError as error:
        root = Node(None, error.at, text="null")
    assert min(root.at.line, root.at.column) >= 1
    assert repr(plain(compose(dump(root)))) == repr(plain(root))
