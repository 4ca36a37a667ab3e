"""The page of refusals quotes what the code says, and has what it says of users' code and data."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "refusals.md"
OTHERS = ("Expected more than 1 value per channel when training",)  # of torch
FILLED = re.compile(r"\b[A-Z_]+\b|\.\.\.|'\w+'|\binteger\b|\bnumber$")  # what the code fills in


def rows() -> list[list[str]]:
    """The rows of the page's tables: message, why, remedy."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


QUOTED = [quoted for row in rows() for quoted in re.findall(r"`([^`]+)`", row[0])]
MESSAGES = [quoted for quoted in QUOTED if len(quoted.split()) >= 3]  # `by SIGNAL` is a part of one


@cache
def literals() -> str:
    """All text of the code, word by word; what is filled in is no word."""
    found = []
    for path in [*ROOT.glob("lab/**/*.py"), *ROOT.glob("bench/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "§" for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(" ".join(words(text)) for text in found)


def words(text: str) -> list[str]:
    return re.sub(r"[:,;().'\"]+", " ", text).split()


def fragments(message: str) -> list[str]:
    """Three words in a row, or two long ones, which tell a message from others."""
    said = words(FILLED.sub("§", message))
    runs = [said[start : start + size] for size in (2, 3) for start in range(len(said) - size + 1)]
    return [" ".join(run) for run in runs if len(run) == 3 or len("".join(run).replace("§", "")) >= 9]


@pytest.mark.parametrize("message", [message for message in MESSAGES if message not in OTHERS])
def test_each_message_on_the_page_is_one_of_the_code(message: str) -> None:
    known = f" {literals()} ".replace("\n", " \n ")
    assert any(f" {fragment} " in known for fragment in fragments(message)), fragments(message)


# Raised at those who call the laboratory from Python, or caught by us.
OF_PYTHON = (
    "module 'lab' has no attribute",
    "other source code wrote it",  # a checkpoint is not resumed from
    "it must be iterable again",  # of a loader given to the Runner
    "up to step",  # the status `diverged`
    "which is no plain value",
    "cannot be written as plain values",
    "must be plain values",
    "no such section",
    "{0} has no {1}",  # of modules and attributes, with what was meant
    "device must be auto",  # an option, with what is allowed
    "or an import path package.module:attribute",  # a misspelt part, with those that there are
)
OF_RULES = ("must be §, got §", "must be § with §, got §", "data §: § must be §, got §")  # that are made elsewhere
SPEAK_OF_USERS = ("lab/**/*.py", "bench/execute/trainables/*.py", "bench/grid/own_*.py")


def refusals() -> Iterator[tuple[str, list[str]]]:
    """Yields where the code refuses what users' code and data do, and the texts of which its message is made."""
    for path in sorted(path for pattern in SPEAK_OF_USERS for path in ROOT.glob(pattern)):
        module = ast.parse(path.read_text(encoding="utf-8"))
        for function in (part for part in ast.walk(module) if isinstance(part, ast.FunctionDef)):
            for node in (part for part in ast.walk(function) if isinstance(part, ast.Raise)):
                if isinstance(node.exc, ast.Call):
                    said = node.exc, *said_before([*module.body, *ast.walk(function)], node)
                    if texts := [text for part in said for text in texts_of(part)]:
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", texts


def said_before(parts: list[ast.AST], node: ast.Raise) -> list[ast.expr]:
    """What the variables in a message were last set to above it."""
    names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    last: dict[str, ast.expr] = {}
    for part in parts:
        if isinstance(part, ast.Assign) and part.lineno < node.lineno and isinstance(part.targets[0], ast.Name):
            name = part.targets[0].id
            if name in names and (name not in last or last[name].lineno < part.lineno):
                last[name] = part.value
    return list(last.values())


def texts_of(expression: ast.AST) -> list[str]:
    """The texts of at least three words in an expression."""
    parts = [part for part in ast.walk(expression) if isinstance(part, ast.JoinedStr | ast.Constant)]
    inner = {id(one) for part in parts if isinstance(part, ast.JoinedStr) for one in part.values}
    texts = []
    for part in parts:
        values = part.values if isinstance(part, ast.JoinedStr) else [] if id(part) in inner else [part]
        said = [str(one.value) if isinstance(one, ast.Constant) else "§" for one in values]
        texts.append("".join(said))
    return [text for text in texts if len(words(text.replace("§", ""))) >= 3]


def test_each_refusal_of_what_users_code_and_data_do_stands_on_the_page() -> None:
    """Whoever adds one writes its row: message, why, remedy."""
    page = [set(fragments(message)) for message in MESSAGES]
    known = {fragment for fragment in set().union(*page) if "§" not in fragment}
    found = dict(refusals())
    assert len(found) > 90
    missing = {
        place: texts
        for place, texts in found.items()
        if not any(f" {fragment} " in f" {' '.join(words(text))} " for text in texts for fragment in known)
        and not any(apart.format("§", "§") in text for text in texts for apart in OF_PYTHON)
        and not set(texts) <= {*OF_RULES}
    }
    assert not missing, "docs/refusals.md lacks a row for these"


def test_a_message_that_the_code_does_not_have_is_found() -> None:
    known = literals()
    assert not any(fragment in known for fragment in fragments("the moon must be full, got HALF"))


def test_no_message_is_there_twice_and_each_has_reason_and_remedy() -> None:
    assert len(set(MESSAGES)) == len(MESSAGES)
    assert all(len(row) == 3 and all(row) for row in rows())
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert all(above.startswith("|") for above, line in itertools.pairwise(lines) if line.startswith("| `"))


def test_the_readme_leads_to_the_page() -> None:
    assert "docs/refusals.md" in (ROOT / "README.md").read_text(encoding="utf-8")
