"""Hypotheses of a grid: read and checked here, judged by the statistics.

Each is one line over factor levels and one numeric column of ``trials.csv``:

    model.residual=true > model.residual=false on test_accuracy where model.name=resnet34
    optimizer=adam ~ optimizer=momentum on dev_accuracy
    optimizer=adam beats optimizer=momentum on test_loss where model=resnet18
    first_epoch_dev_accuracy > 0.9 where model=resnet18
    (model.residual=true - model.residual=false where model.name=resnet34)
      > (model.residual=true - model.residual=false where model.name=resnet18) on dev_accuracy

In full, with ``>``, ``<`` or ``~`` (equal within the metric's margin) as the relation. ``>`` and ``<`` compare numbers;
``beats`` is the one of them that is better by the direction of the metric:

    hypothesis := (side ("beats" side | relation (side | NUMBER)) "on" METRIC | METRIC relation NUMBER) ["where" levels]
    side       := levels | "(" levels "-" levels ["where" levels] ")"
    levels     := FACTOR=LEVEL {"and" FACTOR=LEVEL}

Words stand apart by spaces. A level that holds a parenthesis or one of these words stands in double quotes.

Whatever its form, a hypothesis says that a weighted sum of mean results is above, below or near a bound.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from bench.grid.metrics import Metric
from lab.settings import suggest

Relation = Literal[">", "<", "~"]
Factors = Mapping[str, Collection[str]]  # name -> levels


class HypothesisError(ValueError):
    """The text is no hypothesis over these factors; says the rule."""


@dataclass(frozen=True)
class Term:
    """The mean over the trials whose cell has these levels, times ``weight``."""

    weight: int
    levels: dict[str, str]


@dataclass(frozen=True)
class Hypothesis:
    """The sum of ``terms`` over the column ``metric`` is above, below or (within the margin) near ``bound``.

    ``A > B`` has the terms +A, -B and the bound 0; ``(A - B) > (C - D)`` has +A, -B, -C, +D; ``METRIC > 0.9`` has one.
    ``A beats B`` is read as ``A > B``, and :func:`directed` turns it where lower values of the metric are better.
    """

    text: str
    metric: str
    relation: Relation
    terms: tuple[Term, ...]
    bound: float = 0.0
    beats: bool = False

    def strata(self, cells: Mapping[str, Mapping[str, str]]) -> list[tuple[tuple[str, ...], ...]]:
        """Groups cells (label -> levels) that differ only in what the terms name: per stratum, the labels of each term.

        Only strata where every term has a cell: like is compared with like, also in a plan that is no full product.
        """
        named = {name for term in self.terms for name in term.levels}
        strata: dict[tuple[tuple[str, str], ...], list[tuple[str, ...]]] = {}
        for index, term in enumerate(self.terms):
            for label, levels in cells.items():
                if term.levels.items() <= levels.items():
                    rest = tuple((name, level) for name, level in levels.items() if name not in named)
                    found = strata.setdefault(rest, [()] * len(self.terms))
                    found[index] = (*found[index], label)
        return [tuple(found) for found in strata.values() if all(found)]


def parse_hypothesis(text: str, factors: Factors) -> Hypothesis:
    """Reads one hypothesis; raises :class:`HypothesisError` for its form, a factor or a level."""
    return _Parser(text, factors).hypothesis()


def directed(hypothesis: Hypothesis, metrics: Mapping[str, Metric]) -> Hypothesis:
    """Puts the hypothesis in numbers: ``beats`` is ``>`` or ``<``; raises :class:`HypothesisError` for its metric."""
    name = hypothesis.metric
    if name not in metrics:
        raise HypothesisError(f"no such metric {name!r}{suggest(name, metrics)}")
    if not hypothesis.beats:
        return hypothesis
    if metrics[name].better == "neither":
        raise HypothesisError(f"nothing beats on {name}: neither direction of it is better; write > or <")
    return replace(hypothesis, relation=">" if metrics[name].better == "higher" else "<")


_WORD = re.compile(r'[()]|(?:[^\s()"]|"[^"]*")+|"')
_KEYWORDS = {"(", ")", ">", "<", "~", ">=", "<=", "=", "==", "-", "beats", "on", "where", "and"}
_FORMS = (
    "`A=x > A=y on METRIC where B=z`, `A=x beats A=y on METRIC`, `METRIC > NUMBER where A=x` "
    "or `(A=x - A=y) > (...) on METRIC`"
)


class _Parser:
    """Recursive descent over the words of one hypothesis."""

    def __init__(self, text: str, factors: Factors) -> None:
        self._text, self._factors = " ".join(text.split()), factors
        self._words = _WORD.findall(text)

    def hypothesis(self) -> Hypothesis:
        threshold = self._words[:1] != ["("] and "=" not in self._ahead()
        metric = self._take() if threshold else ""
        left = [Term(1, {})] if threshold else self._side()
        beats = self._peek() == "beats"
        relation = self._relation()
        number = self._words[:1] != ["("] and "=" not in self._ahead()
        if beats and (threshold or number):
            raise HypothesisError(f"beats compares levels, and with a number there are > and <; the forms are {_FORMS}")
        bound = self._number() if number else 0.0
        right = [] if number else self._side()
        if threshold and right:
            raise HypothesisError(f"{metric} is compared with a number; the forms are {_FORMS}")
        if not threshold:
            self._expect("on", "the metric, as in `on test_accuracy`")
            metric = self._take()
        where = self._where()
        if self._words:
            raise HypothesisError(f"{' '.join(self._words)!r} is left over; the forms are {_FORMS}")
        if left == right:
            raise HypothesisError("both sides are the same")
        terms = left + [Term(-term.weight, term.levels) for term in right]
        joined = tuple(Term(term.weight, self._join(term.levels, where)) for term in terms)
        return Hypothesis(self._text, metric, relation, joined, bound, beats)

    def _side(self) -> list[Term]:
        if self._peek() != "(":
            return [Term(1, self._levels())]
        self._words.pop(0)
        plus = self._levels()
        self._expect("-", "a difference, as in `(A=x - A=y)`")
        minus = self._levels()
        where = self._where()
        self._expect(")", "a closing parenthesis")
        if plus == minus:
            raise HypothesisError("both sides of a difference are the same")
        return [Term(1, self._join(plus, where)), Term(-1, self._join(minus, where))]

    def _number(self) -> float:
        words = self._take()
        try:
            number = float(words)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise HypothesisError(f"expected FACTOR=LEVEL or a number, got {words!r}; the forms are {_FORMS}")
        return number

    def _relation(self) -> Relation:
        match self._peek():
            case ">" | "<" | "~" as relation:
                self._words.pop(0)
                return relation
            case "beats":
                self._words.pop(0)
                return ">"
            case word:
                raise HypothesisError(f"expected >, <, ~ or beats, got {word or 'the end'!r}; the forms are {_FORMS}")

    def _where(self) -> dict[str, str]:
        if self._peek() != "where":
            return {}
        self._words.pop(0)
        return self._levels()

    def _levels(self) -> dict[str, str]:
        levels = self._level()
        while self._peek() == "and":
            self._words.pop(0)
            levels = self._join(levels, self._level())
        return levels

    def _level(self) -> dict[str, str]:
        name, equals, level = (part.strip() for part in self._take().partition("="))
        if not equals:
            raise HypothesisError(f"expected FACTOR=LEVEL, got {name!r}; the forms are {_FORMS}")
        if name not in self._factors:
            raise HypothesisError(f"no such factor {name!r}{suggest(name, self._factors)}")
        if level not in self._factors[name]:
            levels = self._factors[name]
            raise HypothesisError(f"{name} has no level {level!r}{suggest(level, levels)}")
        return {name: level}

    def _join(self, one: dict[str, str], other: dict[str, str]) -> dict[str, str]:
        for name in one.keys() & other.keys():
            if one[name] != other[name]:
                raise HypothesisError(f"{name} can't be {one[name]} and {other[name]} at once")
        return one | other

    def _peek(self) -> str:
        return self._words[0] if self._words else ""

    def _ahead(self) -> str:
        """Returns the words up to the next keyword, as they stand."""
        return " ".join(itertools.takewhile(lambda word: word not in _KEYWORDS, self._words))

    def _take(self) -> str:
        taken = self._ahead()
        if not taken:
            self._expect("", "FACTOR=LEVEL, a metric or a number")
        while self._words and self._words[0] not in _KEYWORDS:
            self._words.pop(0)
        return taken.replace('"', "")

    def _expect(self, word: str, meaning: str) -> None:
        if not self._words or self._words[0] != word:
            got = repr(self._words[0]) if self._words else "the end"
            raise HypothesisError(f"expected {meaning}, got {got}; the forms are {_FORMS}")
        self._words.pop(0)
