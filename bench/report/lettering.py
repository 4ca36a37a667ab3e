"""Fonts for the letters of figures: what Matplotlib's own font lacks is looked for among the installed ones."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from bench.grid.plan import Plan
from bench.report.telling import letters

OWN = "DejaVu Sans"  # comes with Matplotlib


@cache
def fallbacks(wanted: str) -> tuple[tuple[str, ...], str]:
    """Finds the installed families with wanted letters that Matplotlib's font lacks, and the letters that none has."""
    lacking = {letter for letter in wanted if not unicodedata.combining(letter)} - _letters(_own())
    families: list[str] = []
    for entry in font_manager.fontManager.ttflist if lacking else ():
        if entry.style == "normal" and "Last Resort" not in entry.name and lacking & (has := _letters(entry.fname)):
            families.append(entry.name)
            lacking -= has
    return tuple(families), "".join(sorted(lacking))


@contextmanager
def lettered(wanted: str) -> Iterator[None]:
    """Figures drawn within find a font for each letter that is wanted, if one is installed."""
    families, _ = fallbacks(wanted)
    with mpl.rc_context({"font.family": ["sans-serif", *families]}):
        yield


def notes(plan: Plan) -> list[str]:
    """Returns a sentence on the letters for which no font is installed."""
    _, lacking = fallbacks(letters(plan))
    if not lacking:
        return []
    return [
        f"no font that is installed here has {' '.join(lacking)}: figures show boxes instead, the page shows the "
        "letters; a font such as Noto Sans CJK fixes the figures"
    ]


def _own() -> str:
    return font_manager.findfont(OWN)


def _letters(path: str) -> set[str]:
    """Returns the letters in the font file; nothing where Matplotlib cannot read it, as with coloured emoji."""
    try:
        codes: Iterable[int] = FT2Font(path).get_charmap()
    except (RuntimeError, OSError):
        return set()
    return set(map(chr, codes))
