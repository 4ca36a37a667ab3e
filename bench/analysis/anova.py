"""Share out the variance among factors and pairs of factors: factorial analysis of variance, without tests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from bench.stats.estimates import Floats

if TYPE_CHECKING:
    import pandas as pd
from scipy.linalg import lstsq

ROUNDING = 1e-9  # far below the share of one trial in its group, which is the least that an indicator varies by


@dataclass(frozen=True)
class Source:
    """A line of the analysis of variance. ``share``: of the total sum of squares (eta squared); ``omega_squared``: the
    same for the population. F is NaN where there is no error to compare with, as for the error itself. There is no p:
    shares describe this grid, and its questions are tested by their contrasts, once each.

    ``term`` is one factor, two, or empty; ``name`` also says "interactions of three or more", "seed", "error".
    """

    name: str
    term: tuple[str, ...]
    sum_squares: float
    df: int
    f: float
    share: float
    omega_squared: float


@dataclass(frozen=True)
class VarianceAnalysis:
    """``strongest``: the pair of factors whose interaction explains most; ``cell_means`` (rows, columns): its levels.

    ``notes`` say what is missing or can't be told apart.
    """

    sources: tuple[Source, ...]
    num_trials: int
    notes: tuple[str, ...]
    strongest: tuple[str, str] | None
    cell_means: pd.DataFrame | None


def analyse_variance(
    trials: pd.DataFrame, response: str, factors: Sequence[str], *, seed: str | None = "seed"
) -> VarianceAnalysis:
    """Estimates the main effects and pairwise interactions of ``factors`` (columns of levels), with seeds as blocks.

    Type II sums of squares: each term is adjusted for all that do not contain it, so unbalanced grids are fine, and in
    a balanced one the shares add to 1. Ranks give the degrees of freedom, so that empty cells cost an interaction some
    of its own, or all, which the notes say. The error is the spread within cells: seeds are the only chance here, the
    test set stays as it is. Raises ValueError where no factor or no result varies.
    """
    table = trials[trials[response].notna()]
    varying = [name for name in factors if table[name].nunique() > 1]
    if not varying:
        raise ValueError(f"an analysis of variance needs a factor with two levels, got none in {', '.join(factors)}")
    if table[response].nunique() < 2:
        raise ValueError(f"an analysis of variance needs results that differ, got one value of {response}")
    design = _Design(table, table[response].to_numpy(float))
    block: list[tuple[str, ...]] = [(seed,)] if seed is not None and table[seed].nunique() > 1 else []
    terms: list[tuple[str, ...]] = [*combinations(varying, 1), *combinations(varying, 2)]
    cells = tuple(varying)
    rows: list[tuple[str, tuple[str, ...], float, int]] = [
        (" × ".join(term), term, *design.gain([t for t in terms if not set(term) <= set(t)] + block, term))
        for term in terms
    ]
    rows.append(("interactions of three or more", (), *design.gain([*terms, *block], cells)))
    rows += [("seed", (), *design.gain([cells], seeds)) for seeds in block]
    error = design.residual([cells, *block])
    sources = [design.source(name, term, squares, df, error) for name, term, squares, df in rows if df]
    sources.append(Source("error", (), *error, math.nan, error[0] / design.total, math.nan))
    pair = max((item for item in sources if len(item.term) == 2), key=lambda item: item.share, default=None)
    return VarianceAnalysis(
        sources=tuple(sources),
        num_trials=len(table),
        notes=tuple(_notes(trials, table, factors, {term: df for _, term, _, df in rows if term}, error[1])),
        strongest=(pair.term[0], pair.term[1]) if pair else None,
        cell_means=_cell_means(table, response, *pair.term) if pair else None,
    )


def _cell_means(table: pd.DataFrame, response: str, rows: str, columns: str) -> pd.DataFrame:
    return table.pivot_table(values=response, index=rows, columns=columns, sort=False, observed=True)


class _Design:
    """Least squares on indicator columns of terms; ranks count what the data can tell apart."""

    def __init__(self, table: pd.DataFrame, response: Floats) -> None:
        self._table = table
        self._response = response - response.mean()
        self.total = float(np.square(self._response).sum())
        self._known: dict[tuple[str, ...], np.ndarray] = {}

    def residual(self, terms: Sequence[tuple[str, ...]]) -> tuple[float, int]:
        """Returns the sum of squares, and degrees of freedom, that the terms (and a constant) leave.

        The term with the most levels is taken out of all others by subtracting its means (Frisch and Waugh 1933,
        Econometrica 1:387), so that a thousand seeds are no thousand columns.
        """
        codes = sorted(map(self._codes, terms), key=np.max) or [np.zeros(len(self._response), int)]
        *small, large = codes
        indicators = [np.eye(code.max() + 1)[code] for code in small]
        columns = _less_means(np.column_stack([self._response, *indicators]), large)
        response, design = columns[:, 0], columns[:, 1:]
        design[np.abs(design) < ROUNDING] = 0  # what the large term holds entirely must not count for a rank
        rounding = float(np.finfo(float).eps) * max(design.shape)
        solution, _, rank, _ = lstsq(design, response, cond=rounding, lapack_driver="gelsy")  # QR: some times faster
        squares = float(np.square(response - design @ solution).sum())
        return squares, len(self._response) - int(rank) - int(large.max() + 1)

    def gain(self, others: Sequence[tuple[str, ...]], term: tuple[str, ...]) -> tuple[float, int]:
        """Returns the sum of squares and degrees of freedom that ``term`` takes from what the others leave."""
        (before, df_before), (after, df_after) = self.residual(others), self.residual([*others, term])
        return max(0.0, before - after), df_before - df_after

    def source(self, name: str, term: tuple[str, ...], squares: float, df: int, error: tuple[float, int]) -> Source:
        share, (error_squares, error_df) = squares / self.total, error
        if error_df == 0:
            return Source(name, term, squares, df, math.nan, share, math.nan)
        error_mean = error_squares / error_df
        f = squares / df / error_mean if error_mean > 0 else math.inf
        omega = max(0.0, (squares - df * error_mean) / (self.total + error_mean))
        return Source(name, term, squares, df, f, share, omega)

    def _codes(self, term: tuple[str, ...]) -> np.ndarray:
        """Numbers the combination of levels of each trial, from 0."""
        if term not in self._known:
            self._known[term] = self._table.groupby(list(term), observed=True, dropna=False).ngroup().to_numpy()
        return self._known[term]


def _less_means(columns: Floats, codes: np.ndarray) -> Floats:
    """Returns each column less its mean over the rows of the same code."""
    counts = np.bincount(codes)
    means = np.stack([np.bincount(codes, weights=column) / counts for column in columns.T], axis=1)
    return columns - means[codes]


def _notes(
    trials: pd.DataFrame,
    table: pd.DataFrame,
    factors: Sequence[str],
    found: Mapping[tuple[str, ...], int],
    error_df: int,
) -> Iterator[str]:
    if len(table) < len(trials):
        yield f"{len(trials) - len(table)} of {len(trials)} trials have no result and are left out"
    levels = {name: int(table[name].nunique()) for name in factors}
    yield from (f"{name} has one level among the results" for name in factors if levels[name] < 2)
    for term, df in found.items():
        full = math.prod(levels[name] - 1 for name in term)
        if df == 0:
            yield f"{' × '.join(term)} can't be told apart from the rest: the results do not cross its levels"
        elif df < full:
            yield f"{' × '.join(term)} rests on {df} of {full} degrees of freedom: some combinations have no result"
    if error_df == 0:
        yield "no cell has two results: nothing tells the size of chance, so there is no F"
