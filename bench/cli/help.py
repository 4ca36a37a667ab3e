"""How ``--help`` reads: each option with the word for its value, no names of Python types, paragraphs of any width."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


def _without_types(params: list[Any]) -> list[Any]:
    """Takes from each parameter what would name a type of Python; flags have no value."""
    for param in params:
        if param.param_type_name == "argument":
            param.display_type_rich = _nothing  # its name says it
        elif param.is_flag and param.metavar is None:
            param.metavar = ""
    return params


def _nothing(ctx: object) -> None:
    """Shows no type."""


class Group(TyperGroup):
    """All commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))


class Command(TyperCommand):
    """A command whose help names values (``N``, ``DIR``, ``GRID``) and no types of Python."""

    def get_params(self, ctx: Any) -> list[Any]:
        params = _without_types(super().get_params(ctx))
        *options, help_option = [one for one in params if one.param_type_name == "option"]
        if options and all(one.rich_help_panel for one in options):
            help_option.rich_help_panel = options[-1].rich_help_panel  # not alone in a panel of its own
        return params


def add(app: typer.Typer, panel: str, *commands: Callable[..., None], **named: Callable[..., None]) -> None:
    """Adds functions as commands of one panel; a docstring is the help, a paragraph per paragraph."""
    for name, command in ({one.__name__: one for one in commands} | named).items():
        paragraphs = (inspect.getdoc(command) or "").split("\n\n")
        text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs).replace("`", "")
        app.command(name=name, cls=Command, help=text, rich_help_panel=panel)(command)
