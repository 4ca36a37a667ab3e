"""The page of refusals quotes what the code says: each message there occurs in the source."""

from __future__ import annotations

import ast
import re
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


MESSAGES = [re.findall(r"`([^`]+)`", row[0])[0] for row in rows()]


@cache
def literals() -> str:
    """All text of the code, word by word; what is filled in is no word."""
    found = []
    for path in [*ROOT.glob("lab/**/*.py"), *ROOT.glob("bench/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "§" for part in node.values))
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


def test_a_message_that_the_code_does_not_have_is_found() -> None:
    known = literals()
    assert not any(fragment in known for fragment in fragments("the moon must be full, got HALF"))


def test_no_message_is_there_twice_and_each_has_reason_and_remedy() -> None:
    assert len(set(MESSAGES)) == len(MESSAGES)
    assert all(len(row) == 3 and all(row) for row in rows())


def test_the_readme_leads_to_the_page() -> None:
    assert "docs/refusals.md" in (ROOT / "README.md").read_text(encoding="utf-8")
