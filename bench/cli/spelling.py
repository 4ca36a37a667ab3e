"""Standard output whose encoding has too few letters: what it lacks is spelt, never an error."""

from __future__ import annotations

import codecs
import io
import json
import sys

PLAIN = {"±": "+-", "−": "-", "–": "-", "…": "...", "×": "x", "°": "o", "✓": "yes", "✗": "no", "•": "*", "’": "'"}


def spelling() -> None:
    """Lets standard output and standard error spell what they lack."""
    codecs.register_error("spell", spell)
    codecs.register_error("spell_json", spell_json)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spell")


def spell(error: UnicodeError) -> tuple[str, int]:
    """Our own signs in plain letters, others by their code."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    letters = [PLAIN.get(letter, letter.encode("ascii", "backslashreplace").decode()) for letter in lacking]
    return "".join(letters), error.end


def spell_json(error: UnicodeError) -> tuple[str, int]:
    """As JSON escapes letters, so that its reader gets the very ones back."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


SPELT = {"json": "spell_json", "markdown": "xmlcharrefreplace"}  # other formats of ``report`` as the terminal


def write(text: str, form: str) -> None:
    """Writes ``text``, which is in the format ``form``, to standard output."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, SPELT.get(form, "spell")).decode(encoding))
