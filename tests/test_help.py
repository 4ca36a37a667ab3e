"""The help of every command, and options that another replaces."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.cli.options import CommandError, program
from bench.cli.run import TrialOptions, _rerun
from bench.execute.options import Rerun

COMMANDS = [command.name or "" for command in app.registered_commands]


def help_of(*words: str, columns: int = 80) -> str:
    done = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": str(columns), "TERMINAL_WIDTH": str(columns)})
    assert done.exit_code == 0
    return done.output


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_names_values_and_no_types_of_python(command: str, columns: int) -> None:
    lines = help_of(*command.split(), columns=columns).splitlines()
    words = " ".join(lines).replace("<grid>", "")
    assert not re.search(r"<\w+(\[\w+\])?>|\b(str|bool|int|Path|TEXT|INTEGER)\b", words)
    assert "`" not in words
    assert max(map(len, lines)) <= columns


def test_the_overview_names_every_command_under_a_heading() -> None:
    text = help_of()
    assert "Commands ─" not in text
    for command in COMMANDS:
        assert re.search(rf"│ {command} ", text), command


def test_the_help_of_run_says_rerun_and_not_what_it_replaces() -> None:
    text = help_of("run")
    assert "--rerun" in text
    assert not re.search(r"--(force|stale|retry|no-retry)\b", text)


@pytest.mark.parametrize(
    ("given", "rerun"),
    [
        ({}, Rerun.FAILED),
        ({"rerun": "missing"}, Rerun.MISSING),
        ({"rerun": "all"}, Rerun.ALL),
        ({"retry": False}, Rerun.MISSING),
        ({"stale": True}, Rerun.STALE),
        ({"force": True}, Rerun.ALL),
        ({"force": True, "retry": False}, Rerun.ALL),
    ],
)
def test_the_options_that_rerun_replaces_still_work(given: dict[str, object], rerun: Rerun) -> None:
    assert _rerun(TrialOptions(**given)) is rerun  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rerun": "old"}, "--rerun must be one of missing, failed, stale, all, got 'old'"),
        ({"rerun": "stale", "force": True}, "--rerun replaces --force: give it alone"),
        ({"stale": True, "retry": False}, "--stale includes what failed"),
    ],
)
def test_what_contradicts_itself_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        _rerun(TrialOptions(**given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("called", "python", "path", "said"),
    [
        ("venv/bin/bench", "venv/bin/python", "venv/bin", "bench"),
        ("venv/bin/bench", "venv/bin/python", "", "venv/bin/bench"),
        ("bench/__main__.py", "venv/bin/python", "venv/bin", "python -m bench"),
        ("bench/__main__.py", "venv/bin/python3", "venv/bin", "python3 -m bench"),
        ("bench/__main__.py", "venv/bin/python", "", "venv/bin/python -m bench"),
        ("ipykernel_launcher.py", "venv/bin/python", "", "python -m bench"),
    ],
)
def test_hints_call_the_command_as_it_was_called_and_by_its_path_where_a_shell_finds_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str, python: str, path: str, said: str
) -> None:
    for name in ("bench", "python", "python3"):
        place = tmp_path / "venv" / "bin" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / path) if path else "/usr/bin")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / called)])
    monkeypatch.setattr(sys, "executable", str(tmp_path / python))
    assert program() == said
