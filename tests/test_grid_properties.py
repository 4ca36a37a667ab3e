"""Whatever stands in a grid: a plan or a GridError, never anything else; and a plan's text is the same plan."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.grid.factors import PLANS
from bench.grid.hypotheses import HypothesisError, parse_hypothesis
from bench.grid.load import GridError, Plan, load_plan
from bench.grid.strict_yaml import Node, dump

OWN = Path(__file__).parents[1] / "grids"
GRIDS = [path.read_text() for path in sorted(OWN.rglob("*.yaml")) if path.parent.name != "own"]
PLACE = re.compile(r".*grid\.yaml:\d+:\d+: .|--(set|only|seeds) .*: .", re.DOTALL)
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("properties") / "grid.yaml"


def load(
    path: Path, text: str | bytes, overrides: list[str] | None = None, only: list[str] | None = None
) -> Plan | None:
    """The plan, or None for a refusal, whose messages must each say where."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        return load_plan(path, overrides=overrides or [], only=only or [])
    except GridError as error:
        messages = error.messages
    assert messages
    assert all(PLACE.match(message) for message in messages), messages
    return None


def check_text(path: Path, plan: Plan) -> None:
    path.write_text(plan.text, encoding="utf-8")
    again = load_plan(path)
    assert (again.cells, again.trials, again.hypotheses) == (plan.cells, plan.trials, plan.hypotheses)
    assert (again.excluded, again.baseline, again.text) == (plan.excluded, plan.baseline, plan.text)


# --- random grids ---------------------------------------------------------------------------------------------------

LEVELS: dict[str, list[Any]] = {
    "model.name": ["resnet10", "resnet18", "resnet34", "lenet"],
    "model.residual": [True, False],
    "model.batch_norm": [True, False],
    "model.stem": ["imagenet", "cifar"],
    "model.width": [4, 8, 16],
    "optimizer.lr": [0.1, 1, 1e-3],
    "data.augment": ["none", "shift"],
    "data.batch_size, train.epochs": [[8, 1], [16, 2], [32, 4]],
    "optimizer": [{"name": "sgd", "lr": 0.1}, {"name": "adam", "lr": 0.01}, {"name": "momentum", "lr": 1}],
    "schedule": [{"name": "constant"}, {"name": "cosine", "warmup": 0.1}],
    "recipe": [{"train.clip_norm": 1}, {"train.clip_norm": None, "data.size": 32}],
}
junk = st.sampled_from(
    [True, None, 0, -1, 2**70, 0.5, "", "none", "true", "a=b", "a, b", "a: b", "model", "model.name", "resnet18", "<<"]
) | st.text(max_size=4)
values = st.recursive(
    junk,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*LEVELS, "name", "lr", "seed", ".", "a"]) | st.text(max_size=3), inner, max_size=3
        )
    ),
    max_leaves=5,
)


@st.composite
def sound(draw: st.DrawFn) -> dict[str, Any]:
    """A grid that is right, but for an exclusion or a model without some setting now and then."""
    keys = draw(st.lists(st.sampled_from(list(LEVELS)), unique=True, max_size=3))
    chosen = {key: draw(st.lists(st.sampled_from(LEVELS[key]), min_size=2, max_size=3, unique_by=str)) for key in keys}
    names = {key: [chr(97 + index) for index in range(len(levels))] for key, levels in chosen.items()}
    factors = {key: dict(zip(names[key], levels, strict=True)) for key, levels in chosen.items()}
    some = st.fixed_dictionaries({}, optional={key: st.sampled_from(labels) for key, labels in names.items()})
    grid: dict[str, Any] = {
        "question": "Why?",
        "base": {
            "data": {"name": "digits"},
            "model": {"name": "resnet18", **draw(st.sampled_from([{}, {}, {"width": 8}]))},
            "optimizer": {"name": "sgd", "lr": 0.5},
            "train": {"epochs": 1},
        },
        "factors": factors,
        "baseline": {key: draw(st.sampled_from(labels)) for key, labels in names.items()},
        "plan": draw(st.sampled_from(["full", "full", *PLANS])),
        "seeds": draw(st.sampled_from([1, 2, [5, 3, 8]])),
    }
    if not {"optimizer.lr", "recipe"} & factors.keys() and draw(st.booleans()):
        grid["tune"] = {"optimizer.lr": draw(st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=1, unique=True))}
        grid |= draw(st.sampled_from([{}, {"tune_seeds": 1}]))
    if when := draw(some):
        grid["exclude"] = [{"when": when, "because": "slow"}]
    if beside := draw(some):
        grid["include"] = [beside]
    if keys:
        one, two = names[keys[0]][:2]
        grid["hypotheses"] = [f"{keys[0]}={one} > {keys[0]}={two} on test_accuracy", f"steps > 3 where {keys[0]}={one}"]
    return grid


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in nested plain data."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    return [found for key, item in list(items) for found in [(value, key), *places(item)]]


@st.composite
def spoilt(draw: st.DrawFn) -> dict[str, Any]:
    """A sound grid with up to three values replaced, taken away, or put under another key."""
    grid = copy.deepcopy(draw(sound()))
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(places(grid) or [(grid, "question")]))
        value = container.pop(key) if isinstance(container, dict) else container[key]
        how = draw(st.sampled_from(["replace", "take", "rename"]))
        if isinstance(container, list) or how == "replace":
            container[key] = draw(values)
        elif how == "rename":
            container[draw(st.sampled_from([*LEVELS, "name", "seeds", f"{key}s"]) | st.text(max_size=3))] = value
    return grid


options = st.lists(
    st.tuples(
        st.sampled_from([*LEVELS, "train.epochs", "model", "seeds", "model.widht", ""]),
        st.sampled_from(["a", "b", "a,b", "1", "true", "lenet", "0.1,0.2", "[1", "{name: sgd, lr: 3}", "null", ""]),
    ).map("=".join),
    max_size=2,
)


def node(value: Any) -> Node:
    if isinstance(value, dict):
        return Node({str(key): node(item) for key, item in value.items()}, flow=False)
    if isinstance(value, list):
        return Node([node(item) for item in value])
    return Node(value, text="null" if value is None else str(value).lower() if isinstance(value, bool) else str(value))


@settings(QUICK, max_examples=300)
@given(sound(), options, options)
def test_a_sound_grid_is_a_plan_that_its_text_repeats(
    path: Path, grid: dict[str, Any], overrides: list[str], only: list[str]
) -> None:
    plan = load(path, dump(node(grid)), overrides, only)
    if plan is not None:
        check_text(path, plan)


@settings(QUICK, max_examples=500)
@given(spoilt())
def test_a_spoilt_grid_is_a_plan_or_refused(path: Path, grid: dict[str, Any]) -> None:
    load(path, dump(node(grid)))


# --- mutated grids --------------------------------------------------------------------------------------------------

snippets = st.sampled_from(
    [
        *"{}[]:,-#&*!|>'\"%@`?~\t\n =.019aeE",
        "\n  ",
        ": ",
        "- ",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "null",
        "true",
        "1e9",
        "\x85",
    ]
) | st.sampled_from(
    ["model", "model.name", "optimizer.lr: [1]", "lenet", "seeds: 2", "plan: add_one", "tune:", "question"]
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A shipped grid after one to four edits: something cut, put in, or a line moved or doubled."""
    text = draw(st.sampled_from(GRIDS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        lines = text.splitlines(keepends=True)
        match draw(st.sampled_from(["cut", "put", "replace", "double", "move"])):
            case "cut":
                text = text[:start] + text[start + draw(st.integers(1, 30)) :]
            case "put":
                text = text[:start] + draw(snippets) + text[start:]
            case "replace":
                text = text[:start] + draw(snippets) + text[start + draw(st.integers(1, 6)) :]
            case "double" if lines:
                lines.insert(start % len(lines), lines[start % len(lines)])
                text = "".join(lines)
            case "move" if lines:
                line = lines.pop(start % len(lines))
                lines.insert(draw(st.integers(0, len(lines))), line)
                text = "".join(lines)
    return text


@settings(QUICK, max_examples=600)
@given(mutated())
def test_a_mutated_grid_is_a_plan_or_refused(path: Path, text: str) -> None:
    load(path, text)


@settings(QUICK, max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_plan_or_refused(path: Path, raw: bytes) -> None:
    load(path, raw)


words = st.sampled_from(
    ["model.name=lenet", "model.residual=true", "model.residual=false", "recipe=a", "steps", "test_accuracy", "0.9"]
) | st.sampled_from([*'><~-()"', "on", "where", "and", "x"])


@settings(QUICK, max_examples=400)
@given(st.lists(words, max_size=12).map(" ".join))
def test_any_words_are_a_hypothesis_or_refused(text: str) -> None:
    factors = {"model.name": ["lenet"], "model.residual": ["true", "false"], "recipe": ["a"]}
    try:
        found = parse_hypothesis(text, factors)
    except HypothesisError:
        return
    assert parse_hypothesis(found.text, factors) == found
    assert found.terms
