"""The command line, ``python -m bench``."""

from bench.cli.commands import main

__all__ = ["main"]
