"""Text as it was written, whatever letters it has: one function for each medium that would read some as markup."""

from __future__ import annotations

import html
import re
import unicodedata

ON, OFF = "✓", "✗"
ISOLATE, END = "\u2068", "\u2069"  # Unicode's first-strong isolate, and the end of one


def versus(level: str, against: str, *, is_ratio: bool) -> str:
    """Names a difference by its two labels, in this order whatever way their letters run."""
    return f"{_isolated(level)} {'/' if is_ratio else '−'} {_isolated(against)}"


def _isolated(label: str) -> str:
    """Returns the label so that its letters turn round no sign beside it (Unicode's annex 9, isolates)."""
    runs_left = any(unicodedata.bidirectional(letter) in ("R", "AL", "AN") for letter in label)
    return f"{ISOLATE}{label}{END}" if runs_left else label


# --- Markdown -------------------------------------------------------------------------------------------------------

BREAKS = re.compile(r"[\r\n\t\v\f\x1c-\x1e\x85\u2028\u2029]+")
OUTER_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")  # within a word it is none of emphasis
LEADING = re.compile(r"^(?:(\d{1,9})(?=[.)](?:\s|$))|(?=[-+](?:\s|$))|(?==+$|-+$))")  # of a list, or under a heading


def markdown(text: str) -> str:
    """Escapes the text so that GitHub's Markdown shows it as it is: no markup, mathematics, table border or HTML."""
    plain = BREAKS.sub(" ", text).strip(" ")
    escaped = re.sub(r"[\\`*\[\]<>|#~$]", r"\\\g<0>", plain)
    escaped = OUTER_UNDERSCORE.sub(r"\\_", escaped).replace("&", "&amp;")
    return LEADING.sub(r"\1\\", escaped)


# --- LaTeX ----------------------------------------------------------------------------------------------------------

TEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}"},
    **{"<": "$<$", ">": "$>$", "|": "$|$", '"': "''", "\u00a0": "~", "\u200b": "{}"},
    **dict.fromkeys((ISOLATE, END), ""),
    **{"[": "{[}", "*": "{*}"},  # at the start of a row they would be arguments of what is before it
    **{"±": r"$\pm$", "°": r"$^\circ$", "×": r"$\times$", "÷": r"$\div$", "−": "$-$", "·": r"$\cdot$"},
    **{"–": "--", "—": "---", "…": r"\dots{}", "‘": "`", "’": "'", "“": "``", "”": "''", "µ": r"$\mu$"},
    **{"≤": r"$\leq$", "≥": r"$\geq$", "≠": r"$\neq$", "≈": r"$\approx$", "∞": r"$\infty$"},
    **{"→": r"$\rightarrow$", "←": r"$\leftarrow$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "√": r"$\surd$"},
    **{"§": r"\S{}", "£": r"\pounds{}", "©": r"\copyright{}", "¿": "?`", "¡": "!`"},
    **{"ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}"},
    **{"ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}", "å": r"\aa{}", "Å": r"\AA{}"},
    **{"½": r"$\frac{1}{2}$", "¼": r"$\frac{1}{4}$", "¾": r"$\frac{3}{4}$", "™": r"\texttrademark{}", "\u00ad": r"\-"},
    **{"®": r"\textregistered{}", "€": r"\texteuro{}", "ℓ": r"$\ell$", "∂": r"$\partial$", "∇": r"$\nabla$"},
    **{letter: f"$^{digit}$" for digit, letter in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{letter: f"$_{digit}$" for digit, letter in enumerate("₀₁₂₃₄₅₆₇₈₉")},
    **{"⁻": "$^-$", "⁺": "$^+$", "∈": r"$\in$", "∑": r"$\sum$", "′": "$'$", "↔": r"$\leftrightarrow$"},
    **{ON: r"$\checkmark$", OFF: r"$\times$"},
}
ACCENTS = {
    **{"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": "."},
    **{"\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0323": "d", "\u0327": "c", "\u0331": "b"},
}
GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (\w+)")
LATIN = {"Alpha": "A", "Beta": "B", "Epsilon": "E", "Zeta": "Z", "Eta": "H", "Iota": "I", "Kappa": "K", "Mu": "M"}
LATIN |= {"Nu": "N", "Omicron": "O", "omicron": "o", "Rho": "P", "Tau": "T", "Chi": "X"}  # TeX has no letters for them


def tex(text: str) -> str:
    """Escapes the text so that pdflatex prints it as it is; a letter that it cannot set becomes a question mark.

    Needs the package amssymb, for the check mark.
    """
    apart = re.sub("-(?=-)", "-\u200b", text)  # two would be set as one dash
    return "".join("?" if (written := _tex(letter)) is None else written for letter in _clusters(apart))


def unset(text: str) -> list[str]:
    """Returns the letters that :func:`tex` cannot write, each once."""
    return list(dict.fromkeys(letter for letter in _clusters(text) if _tex(letter) is None))


def _clusters(text: str) -> list[str]:
    """Returns the text's letters, each with the accents that combine with it; breaks as one space."""
    plain = unicodedata.normalize("NFC", BREAKS.sub(" ", text))
    return re.findall(r"[^\u0300-\u036f][\u0300-\u036f]*|[\u0300-\u036f]", plain)


def _tex(letter: str) -> str | None:
    if letter in TEX:
        return TEX[letter]
    if len(letter) == 1 and letter.isascii():
        return letter if letter.isprintable() else None
    plain, *accents = list(unicodedata.normalize("NFD", letter))
    if accents and all(accent in ACCENTS for accent in accents) and plain.isascii() and plain.isalpha():
        for accent in accents:
            plain = f"\\{ACCENTS[accent]}{{{plain}}}"
        return plain
    return _greek(letter)


def _greek(letter: str) -> str | None:
    found = GREEK.fullmatch(unicodedata.name(letter)) if "Α" <= letter <= "ω" else None
    if found is None:
        return None
    name = "LAMBDA" if found[2] == "LAMDA" else found[2]
    name = name.capitalize() if found[1] == "CAPITAL" else name.lower()
    return rf"$\mathrm{{{LATIN[name]}}}$" if name in LATIN else rf"$\{name}$"


# --- the page's charts ----------------------------------------------------------------------------------------------


def plotly(text: object) -> str:
    """Escapes the text so that Plotly, which reads a subset of HTML, shows it as it is."""
    return html.escape(BREAKS.sub(" ", str(text)), quote=False)
