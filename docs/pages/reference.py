"""The reference: commands, grid language, settings and columns as the code has them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from pydantic.fields import FieldInfo

from bench.analysis.columns import FILES, OWN, TABLES, describe
from bench.cli import app
from bench.grid import hypotheses, load
from bench.grid.columns import COLUMNS
from bench.grid.form import GridForm
from bench.grid.metrics import lab_metrics
from bench.grid.schema import grid_schema
from bench.record.records import CORRECT, CURVE, DEV_CORRECT, SOURCES
from lab.settings import PARTS, SECTIONS, Section, TrainSettings, describe_field


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown; what would end a cell is escaped."""
    lines = [head, ["---"] * len(head), *([_escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _escaped(cell: str) -> str:
    """Keeps the cell on its line and whole: no bar ends it, and what stands in braces is code, not its attributes."""
    parts = re.split(r"(`[^`]*`)", cell.replace("|", "\\|").replace("\n", " "))
    return "".join(part if part.startswith("`") else re.sub(r"\{[^{}]*\}", r"`\g<0>`", part) for part in parts)


def code(text: object) -> str:
    return f"`{text}`" if str(text) else ""


def plain(docstring: str) -> str:
    """Returns a docstring as Markdown: roles and double backticks become code."""
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", docstring).replace("``", "`")


# --- commands -------------------------------------------------------------------------------------------------------


def commands() -> str:
    """Every command with its arguments and options, as typer has them."""
    group: Any = typer.main.get_command(app)
    parts = [
        "# Commands",
        "`python -m bench COMMAND`, or `bench COMMAND`. Exit codes: 0 all done, 1 some trial failed, 2 a wrong "
        "command, grid or data, 130 interrupted.",
    ]
    for name, command in group.commands.items():
        if not command.hidden:
            parts += list(_command(name, command))
    return "\n\n".join(parts) + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    context = command.make_context(name, [], resilient_parsing=True)
    yield f"## {name}"
    usage = " ".join(["bench", name, *command.collect_usage_pieces(context)])
    yield f"    {re.sub('[{}]', '', usage)}"
    yield plain(command.help or "").strip()
    panels: dict[str, list[list[str]]] = {}
    for one in command.params:
        if getattr(one, "hidden", False) or one.name == "help":
            continue
        panel = getattr(one, "rich_help_panel", None) or (
            "Arguments" if one.param_type_name == "argument" else "Options"
        )
        panels.setdefault(panel, []).append([_names(one), _default(one), getattr(one, "help", None) or ""])
    for panel, rows in panels.items():
        yield f"**{panel}**"
        yield table(["argument" if panel == "Arguments" else "option", "default", "meaning"], rows)


def _names(one: Any) -> str:
    if one.param_type_name == "argument":
        return code(one.metavar or one.human_readable_name)
    names = ", ".join(sorted((*one.opts, *one.secondary_opts), key=len))
    value = "" if getattr(one, "is_flag", False) else f" {one.metavar or one.type.name.upper()}"
    return code(names + value)


def _default(one: Any) -> str:
    if one.required:
        return "required"
    default = one.default() if callable(one.default) else one.default
    if default in (None, False, True, [], ()) or getattr(one, "is_flag", False):
        return ""
    return code(" ".join(map(str, default)) if isinstance(default, list | tuple) else default)


# --- the grid language ----------------------------------------------------------------------------------------------


def grid() -> str:
    """The words of a grid, from the form that checks it."""
    properties = grid_schema()["properties"]
    rows = [[code(name), _default_of(field), field.description or ""] for name, field in GridForm.model_fields.items()]
    run = properties["run"]["properties"]
    metric = next(one for one in properties["metrics"]["anyOf"] if one.get("type") == "object")["additionalProperties"]
    grammar = plain(hypotheses.__doc__ or "").partition("\n\n")[2].partition("\n\nWhatever")[0]
    rules = plain(load.__doc__ or "").partition("Beyond:\n")[2].strip()
    return (
        "\n\n".join(
            [
                "# The grid language",
                "A grid is one YAML file: strict YAML, in which a repeated key, a tab or a number that would be "
                "read as something else is an error with its line and column. An editor completes and checks it with "
                "the [schema](../schema.json) (`python -m bench schema`). A wrong word is answered with the rule, what "
                "stood there, and what is allowed: [refusals](../refusals.md).",
                "## Words",
                table(["word", "default", "what it says"], rows),
                "## Rules",
                rules,
                "## `run`: your own code",
                table(["word", "what it says"], [[code(key), one.get("description", "")] for key, one in run.items()]),
                "[Your own training code](../your_code.md) has examples.",
                "## `metrics`: options of one",
                table(
                    ["word", "what it says"],
                    [[code(key), one["description"]] for key, one in metric["properties"].items()],
                ),
                "Metrics of the laboratory: " + ", ".join(code(name) for name in lab_metrics()) + ".",
                "## `hypotheses`",
                grammar,
            ]
        )
        + "\n"
    )


def schema() -> str:
    return json.dumps(grid_schema(), indent=2)


def _default_of(field: FieldInfo) -> str:
    return "required" if field.is_required() else code(_yaml(field.default))


def _yaml(value: Any) -> str:
    return json.dumps(value) if value in (None, True, False) or isinstance(value, list | tuple | dict) else str(value)


# --- settings -------------------------------------------------------------------------------------------------------


def settings() -> str:
    """Each part of the laboratory with its settings and defaults."""
    parts = [
        "# Settings",
        "What the laboratory takes below `base`, as a level or in `tune`, by the path `section.name`; `python -m bench "
        "list PART` prints the same, also of [your own parts](../your_parts.md).",
    ]
    for section, known in PARTS.items():
        parts += [f"## {section}", _settings(SECTIONS[section], set())]
        for name, kind in known.items():
            said = plain((kind.__doc__ or "").strip().splitlines()[0]) if kind.__doc__ else ""
            parts += [f"### {section}: {name}", said, _settings(kind, set(SECTIONS[section].model_fields))]
    parts += ["## train", _settings(TrainSettings, set())]
    return "\n\n".join(part for part in parts if part) + "\n"


def _settings(kind: type[Section], skip: set[str]) -> str:
    rows = [
        [code(name), _default_of(field), plain(describe_field(field)), plain(field.description or "")]
        for name, field in kind.model_fields.items()
        if name not in skip
    ]
    return table(["setting", "default", "values", "meaning"], rows) if rows else ""


# --- columns --------------------------------------------------------------------------------------------------------


def files() -> str:
    """Each file of a results folder with its columns, and the tables of the findings."""
    parts = [
        "# Files and tables",
        "`results/<grid>/` holds all that is known of a grid. The tables of a report are files below `report/` and, in "
        "Python, data frames of [`bench.findings`](python.md), by the name in parentheses; "
        '`findings.columns("effects")` says the same there.',
        table(
            ["beside the tables", "holds"],
            [
                ["`grid.yaml`, `plan.json`", "the grid as it was last asked for; its cells, ids and settings"],
                ["`asked.json`", "which file it is of, and the options of the last run"],
                ["`checkpoints/`, `logs/`", "weights and output, by `trial_id`"],
                ["`examples/<trial_id>.npz`", "what each test example gave, float32, by metric"],
                ["`report/index.html`", "the page: one file that needs no other"],
                ["`report/report.md`, `table.md`, `table.tex`", "all tables in Markdown; the table of a paper"],
            ],
        ),
    ]
    file_of = {name: file for file, name in FILES.items()}
    for name in TABLES:
        file = file_of.get(name)
        heading = f"`{file}`" if file else "in Python alone"
        own = "" if name in ("evaluations", "correct", "sources", "data", "timings") else f" (`{name}`)"
        parts += [f"## {heading}{own}", TABLES[name].capitalize() + ".", table(["column", "holds"], _columns(name))]
    return "\n\n".join(parts) + "\n"


def _columns(name: str) -> list[list[str]]:
    """The columns of a table: those that the code lists, and those of a recorded grid."""
    return [[code(column), describe(name, column)] for column in dict.fromkeys(_names_of(name))]


def _names_of(name: str) -> Iterator[str]:
    listed = {
        "trials": [column.name for column in COLUMNS],
        "evaluations": [*CURVE[:3], "dev_loss", "dev_accuracy", *CURVE[3:]],
        "correct": [*CORRECT, *DEV_CORRECT],
        "sources": SOURCES,
    }
    if name in listed:
        yield from listed[name]
    elif name == "data":
        yield from OWN["data"]
    elif name == "timings":
        from bench.execute import timing

        yield from timing.COLUMNS
    else:
        found = _recorded()
        frame = found.levels[0] if name == "levels" else getattr(found, name)
        yield from frame.columns


def _recorded() -> Any:
    import bench

    return bench.findings(Path("results/reference/residual_vs_plain"))
