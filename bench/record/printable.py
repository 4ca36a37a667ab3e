"""Text of others as it can be printed: an error or a log may hold colours, titles of windows, bells and zero bytes."""

from __future__ import annotations

import re

# ECMA-48: a control sequence, an operating system command up to its end, or another escape
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Returns the text without escape sequences; of a line that was written over, a progress bar's, its last state."""
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in without_escapes(text).split("\n"))
    return "\n".join(CONTROLS.sub("", line) for line in lines)


def without_escapes(text: str) -> str:
    return ESCAPES.sub("", text) if "\x1b" in text else text
