"""What an annotation takes of YAML's plain values, what the part receives, and how equal values are written alike."""

from __future__ import annotations

import dataclasses
import enum
import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from lab.annotations import Kind, Unfit, annotation_like, same_value


class Mode(enum.Enum):
    FAST = 1
    SLOW = "slow"


class Swapped(enum.Enum):
    A = "B"
    B = "A"


class Pair(NamedTuple):
    height: int
    width: int = 2


@dataclasses.dataclass(frozen=True)
class Inner:
    depth: int = 3


@dataclasses.dataclass
class Options:
    width: int = 4
    drop: float | None = 0.5
    mode: Mode = Mode.FAST
    pair: tuple[int, int] = (1, 2)
    inner: Inner = dataclasses.field(default_factory=Inner)
    act: Callable[[float], float] = math.tanh

    def __post_init__(self) -> None:
        if self.width == 13:
            raise ValueError("width must not be 13")


@pytest.mark.parametrize(
    ("annotation", "plain", "received", "written"),
    [
        (tuple[int, ...], [1, 2], (1, 2), [1, 2]),
        (tuple[int, tuple[str, float]], [1, ["a", 2]], (1, ("a", 2.0)), [1, ["a", 2.0]]),
        (list[Mode], ["FAST", "slow"], [Mode.FAST, Mode.SLOW], ["FAST", "SLOW"]),
        (Mode, 1, Mode.FAST, "FAST"),
        (Mode, "SLOW", Mode.SLOW, "SLOW"),
        (Mode | None, None, None, None),
        (Literal["a", 1], "a", "a", "a"),
        (Optional[float], 2, 2.0, 2.0),  # noqa: UP045  # as users write it
        (Path, "a//b", Path("a/b"), "a/b"),
        (Sequence[float], [1, 2], [1.0, 2.0], [1.0, 2.0]),
        (Iterable[int], [3, 1], [3, 1], [3, 1]),
        (set[str], ["b", "a"], {"a", "b"}, ["a", "b"]),
        (dict[str, float], {"x": 1}, {"x": 1.0}, {"x": 1.0}),
        (Pair, [3], Pair(3, 2), [3, 2]),
        (numbers.Real, 3, 3, 3),
        (Annotated[int, Field(gt=0)], 3, 3, 3),
        (Options, {}, Options(), {}),
        (Options, {"width": 8, "drop": None}, Options(8, None), {"width": 8, "drop": None}),
        (Options, {"width": 8, "drop": 0.5}, Options(8), {"width": 8}),
        (
            Options,
            {"mode": "slow", "pair": [3, 4]},
            Options(mode=Mode.SLOW, pair=(3, 4)),
            {"mode": "SLOW", "pair": [3, 4]},
        ),
        (Options, {"inner": {"depth": 5}}, Options(inner=Inner(5)), {"inner": {"depth": 5}}),
        (float, math.inf, math.inf, math.inf),
        (dict, {"of": math.inf}, {"of": math.inf}, {"of": math.inf}),
        (Any, {"drop": None, "of": []}, {"drop": None, "of": []}, {"drop": None, "of": []}),
    ],
)
def test_a_value_arrives_as_the_annotation_says_and_is_written_in_one_form(
    annotation: Any, plain: Any, received: Any, written: Any
) -> None:
    kind = Kind(annotation)
    value = kind.read(plain)
    assert value == received
    assert type(value) is type(received)
    assert kind.settle(plain) == written
    assert kind.read(written) == received


@pytest.mark.parametrize(
    ("annotation", "plain", "path", "says"),
    [
        (int, "8", (), "must be integer, got '8'"),
        (int, True, (), "must be integer, got true"),
        (int, 8.0, (), "must be integer, got 8.0"),
        (float, "1e-3", (), "must be number, got '1e-3'"),
        (bool, 1, (), "must be true or false, got 1"),
        (str, 8, (), "must be string, got 8"),
        (str, None, (), "must be string, got null"),
        (tuple[int, int], [1, 2, 3], (), "must be list of 2 integer, got [1, 2, 3]"),
        (tuple[int, ...], [1, "2"], (), "must be list of integer, got '2'"),
        (tuple[int, ...], "12", (), "must be list of integer, got '12'"),
        (Mode, "fast", (), "must be FAST or SLOW, got 'fast'"),
        (Mode, True, (), "must be FAST or SLOW, got true"),
        (Swapped, "A", (), "must be A or B, got 'A'"),  # the name of one, the value of the other
        (Literal["a", "b"], "c", (), "must be a or b, got 'c'"),
        (Callable[[int], float], "math:sqrt", (), "must be callable, got 'math:sqrt'"),
        (type[int], "int", (), "must be class, got 'int'"),
        (int | list[int], "x", (), "must be integer or list of integer, got 'x'"),
        (Annotated[int, Field(gt=0)], 0, (), "must be integer > 0, got 0"),
        (Options, 3, (), "must be mapping of width, drop, mode, pair, inner, act, got 3"),
        (Options, {"wdth": 3}, ("wdth",), "no such field of Options; did you mean width?"),
        (Options, {"width": "8"}, ("width",), "must be integer, got '8'"),
        (Options, {"inner": {"depth": None}}, ("inner", "depth"), "must be integer, got null"),
        (Options, {"act": "math:sin"}, ("act",), "must be callable, got 'math:sin'"),
        (Options, {"width": 13}, (), "Options: width must not be 13"),
        (Any, object, (), "must be any value, got <class 'object'>"),
    ],
)
def test_what_an_annotation_cannot_take_is_refused(
    annotation: Any, plain: Any, path: tuple[str, ...], says: str
) -> None:
    with pytest.raises(Unfit) as caught:
        Kind(annotation).read(plain)
    assert (caught.value.path, caught.value.rule) == (path, says)


class Layer(NamedTuple):
    width: int
    norm: Callable[[float], float] = math.tanh


@pytest.mark.parametrize(
    ("annotation", "plain"), [(Callable[[int], int], False), (type[int], False), (list[Layer], False), (int, True)]
)
def test_what_yaml_cannot_write_is_known(annotation: Any, plain: bool) -> None:
    assert Kind(annotation).is_plain is plain


@pytest.mark.parametrize(
    ("default", "plain", "received"),
    [
        ((2, 2), [3, 3], (3, 3)),
        (((1, 2), (3, 4)), [[5, 6]], ((5, 6),)),
        (((1, 2), (3, 4)), "x", "x"),
        (Pair(1), [3, 4], Pair(3, 4)),
        (Mode.FAST, "SLOW", Mode.SLOW),
        (Inner(), {"depth": 2}, Inner(2)),
        (Path("a"), "b", Path("b")),
        (3, "as it is", "as it is"),
        ([1], [2], [2]),
    ],
)
def test_a_default_says_what_its_parameter_takes_where_nothing_else_does(
    default: Any, plain: Any, received: Any
) -> None:
    value = Kind(annotation_like(default)).read(plain)
    assert value == received
    assert type(value) is type(received)


TEXT = st.text(st.characters(codec="utf-8"))
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)))
def test_any_plain_value_arrives_as_it_was_written(plain: Any) -> None:
    assert same_value(Kind(Any).settle(plain), plain)


def test_values_are_the_same_where_no_part_could_tell_them_apart() -> None:
    assert same_value({"a": 1, "b": [None]}, {"b": [None], "a": 1})
    assert not any(
        [same_value(1, 1.0), same_value(1, True), same_value(None, []), same_value([], {}), same_value({"a": None}, {})]
    )
