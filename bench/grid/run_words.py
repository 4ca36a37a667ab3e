"""The word ``run`` of a grid: its keys and their forms, each error at its place."""

from __future__ import annotations

import re
from typing import Any

from bench.grid.factors import Errors
from bench.grid.own import Run
from bench.grid.strict_yaml import Node, plain, spell
from lab.settings import suggest

OF_COMMAND = ("flags", "read", "resume", "code")
KEYS = ("function", "command", *OF_COMMAND)
READERS = ("csv", "json", "jsonl", "tensorboard", "stdout")
READ_RULE = f"a mapping of one of {', '.join(READERS)} to a file (stdout: to a pattern), and of `step` to a name"


def read_run(node: Node | None, errors: Errors) -> Run | None:
    """Reads ``run``; what breaks a rule is added to ``errors``."""
    if node is None:
        return None
    before = len(errors)
    for key, value in node.mapping.items():
        at = value.key_at or value.at
        if key not in KEYS:
            errors.append((at, f"run.{key}: no such key{suggest(key, KEYS)}"))
        elif problem := _problem(key, plain(value)):
            errors.append((value.at, f"run.{key}: must be {problem}, got {spell(value)}"))
        elif key in OF_COMMAND and "command" not in node.mapping:
            errors.append((at, f"run.{key}: goes with a command"))
    if len(errors) == before and ("function" in node.mapping) == ("command" in node.mapping):
        errors.append((node.at, "run: says what is run: one of `function` and `command`"))
    return Run.restored(plain(node)) if len(errors) == before else None  # type: ignore[arg-type]  # its form was checked


def _problem(key: str, value: Any) -> str | None:
    match key:
        case "function":
            fits = isinstance(value, str) and value.count(":") == 1 and all(value.split(":"))
            if fits and value.startswith("__main__:"):
                return "a function of a module's file: what a script or a notebook's cells define no worker can import"
            return None if fits else "an import path package.module:function"
        case "command":
            return None if isinstance(value, str) and value.strip() else "a text, such as python train.py {flags}"
        case "resume":
            return None if value in ("restart", "continue") else "restart or continue"
        case "code":
            fits = isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)
            return None if fits else "a list of files and patterns such as src/**/*.py"
        case "flags":
            fits = isinstance(value, dict) and all(_is_spelling(one) for one in value.values())
            return (
                None
                if fits
                else "a mapping of settings to two spellings, of true and of false: [--norm, --no-norm], or null"
            )
    return _read_problem(value)


def _is_spelling(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(one is None or isinstance(one, str) for one in value)


def _read_problem(value: Any) -> str | None:
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        return READ_RULE
    if len([key for key in value if key in READERS]) != 1 or value.keys() - {*READERS, "step"}:
        return READ_RULE
    if "stdout" in value:
        try:
            names = re.compile(value["stdout"]).groupindex
        except re.error as error:
            return f"a pattern of Python's re ({error})"
        return None if set(names) - {"step"} else "a pattern that names metrics: rmse=(?P<test_rmse>[0-9.]+)"
    return None
