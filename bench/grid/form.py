"""The outer form of a grid: its keys and their types, with the words that errors and the JSON Schema share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.grid.factors import MAX_LABEL
from bench.grid.strict_yaml import Node, Position, plain, spell
from lab.settings import suggest

MAX_SEEDS = 10_000
FIRST_TUNE_SEED = 10_000
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
Count = Annotated[int, Field(gt=0, le=MAX_SEEDS)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Exclusion(_Form):
    """Cells that are left out, and why."""

    when: Annotated[dict[str, Any], Field(min_length=1)] = Field(
        description="a mapping of factors to a level or a list of levels"
    )
    because: Annotated[str, Field(pattern=r"\S")] = Field(description="why these cells are left out, as text")


class GridForm(_Form):
    """A question, and the trials that answer it."""

    name: Annotated[str, Field(pattern=f"^{NAME_PATTERN}$", max_length=MAX_LABEL)] | None = Field(
        None, description="letters, digits, _, - and .: the results folder; default: the file's path below `grids`"
    )
    question: Annotated[str, Field(pattern=r"\S")] = Field(description="what the grid asks, as text")
    run: dict[str, Any] | None = Field(
        None,
        description="training code of your own: {function: package.module:function}, or {command: ..., flags: ..., "
        "resume: ..., code: ...}; default: the laboratory",
    )
    base: dict[str, Any] = Field({}, description="a mapping of sections to settings, the same in every trial")
    factors: dict[str, Any] = Field({}, description="a mapping of factors to their levels")
    plan: Literal["full", "one_at_a_time", "leave_one_out", "add_one"] = Field(
        "full", description="full, one_at_a_time, leave_one_out or add_one"
    )
    baseline: dict[str, Any] | None = Field(
        None, description="a mapping of factors to the level that others are compared with; default: the first of each"
    )
    seeds: Count | Annotated[list[Seed], Field(min_length=1, max_length=MAX_SEEDS)] = Field(
        3, description=f"a number of seeds from 1 to {MAX_SEEDS}, or a list of distinct integers >= 0"
    )
    tune: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {}, description="a mapping of settings to the list of candidates that every cell tries; the best on dev counts"
    )
    tune_seeds: Count = Field(
        3, description=f"the number of seeds that tuning uses: its own, from {FIRST_TUNE_SEED} on, never the grid's"
    )
    pair: Literal["seed", "none"] = Field(
        "seed", description="seed, where a seed means the same in every cell, or none: cells are compared unpaired"
    )
    untrained: Literal["apart", "chance"] | float | int = Field(
        "apart",
        description="apart: how often trials train is a question of its own; chance or a number: what an untrained "
        "trial counts as in the first metric",
    )
    exclude: list[Exclusion] = Field([], description="a list of {when: ..., because: ...}")
    include: list[dict[str, Any]] = Field([], description="a list of cells beside the plan, each a mapping over base")
    hypotheses: list[str] = Field(
        [], description="a list of texts such as `A=x > A=y on test_accuracy where B=z`, judged in the report"
    )
    metrics: Any = Field(
        None,
        description="a metric's name, a list of names, or a mapping of names to {better: ..., scale: ..., unit: ..., "
        "range: ..., margin: ..., split: ..., at: ...}; the first is what the cells are compared by",
    )
    margin: Any = Field(
        None,
        description="differences in the first metric under it count as equivalent: a number in its unit, or N % on a "
        "log scale; default: 0.01 of an accuracy, else none",
    )


def check_form(root: Node) -> tuple[set[str], list[tuple[Position, str]]]:
    """Finds the top-level keys whose form is wrong, and every broken rule with the position it is broken at."""
    try:
        GridForm.model_validate(plain(root))
    except ValidationError as error:
        found = {_problem(root, one["loc"], one["type"]) for one in error.errors(include_url=False)}
        return {str(one["loc"][0]) for one in error.errors()}, sorted(found)
    return set(), []


def _problem(root: Node, loc: tuple[int | str, ...], kind: str) -> tuple[Position, str]:
    path: list[str] = []
    node = root
    for step in loc:
        inner = node.items[step] if isinstance(step, int) and node.items else node.mapping.get(str(step))
        if inner is None:
            break
        path.append(str(step))
        node = inner
    form: type[_Form] = Exclusion if loc[0] == "exclude" and len(loc) > 2 else GridForm
    if kind == "missing":
        where = ".".join([*path, str(loc[-1])])
        return node.at, f"{where}: is required: {form.model_fields[str(loc[-1])].description}"
    where = ".".join(path)
    if kind == "extra_forbidden":
        return node.key_at or node.at, f"{where}: no such key{suggest(path[-1], form.model_fields)}"
    return node.at, f"{where}: must be {_allowed(path)}, got {_got(node)}"


def _allowed(path: list[str]) -> str:
    match path:
        case ["tune", _]:
            return "a list of candidates"
        case ["hypotheses", _]:
            return "text"
        case ["exclude", _]:
            return "a mapping {when: ..., because: ...}"
        case ["exclude", _, key, *_]:
            return str(Exclusion.model_fields[key].description)
        case ["include", _]:
            return "a mapping of settings or factors to values"
        case [key, *_]:
            return str(GridForm.model_fields[key].description)
    raise AssertionError("a problem stands somewhere")


def _got(node: Node) -> str:
    return "nothing" if node.content in (None, "") else spell(node)
