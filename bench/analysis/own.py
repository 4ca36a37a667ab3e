"""Says of training code of the user's own what it cannot promise, and what the seeds show of that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from bench.grid.metrics import Metric
from bench.grid.plan import Plan, neighbours
from bench.record.status import Status
from bench.stats.ratios import outcomes_of

FEWEST_SEEDS = 3  # over fewer, cells correlate by chance alone


def own_cautions(plan: Plan, found: pd.DataFrame) -> Iterator[str]:
    """Yields sentences on what own code leaves unknown; none of the laboratory's trials."""
    if plan.run is None:
        return
    yield (
        "own code: it is up to the code to use its seed, to give every cell of a seed the same data order and initial "
        "values, and to keep dev and test apart"
    )
    ended = found[found["compared"] & (found["status"] == Status.OK)]
    if plan.pair == "seed" and (shared := seed_correlation(plan, ended)) is not None:
        helps = "pairing by seed removes noise" if shared > 0 else "pairing by seed removes no noise (`pair: none`)"
        yield f"cells correlate over seeds by {shared:.2f} on average: {helps}"
    yield from without_effect(plan, ended)
    if ended["train_digest"].isna().all() or (ended["train_digest"] == "").all():
        yield "own code did not say what its data are (`data` in what it returns): a change would go unnoticed"


def without_effect(plan: Plan, ended: pd.DataFrame) -> Iterator[str]:
    """Yields a sentence per factor and two levels where every trial gave the same as that of its seed beside it."""
    matrix = ended.pivot(index="seed", columns="cell", values=plan.primary.name).astype(float)
    by_cell = {cell: column.tolist() for cell, column in matrix.items()}
    same: dict[tuple[str, str, str], bool] = {}
    for name, one, other in neighbours(plan.cells):
        key = name, one.levels[name], other.levels[name]
        if same.get(key, True) and one.label in by_cell and other.label in by_cell:
            same[key] = are_alike(by_cell[one.label], by_cell[other.label])
    for (name, level, further), alike in same.items():
        if alike:
            yield f"{name} changes nothing: {level} and {further} gave the same in every seed; does the code use it?"


def are_alike(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tells whether two seeds at least have a value (not NaN) in both, and all of those the same in both."""
    shared = 0
    for a, b in zip(one, other, strict=True):
        if a == b:
            shared += 1
        elif not (math.isnan(a) or math.isnan(b)):
            return False
    return shared > 1


def own_outcomes(metric: Metric, ended: pd.DataFrame, examples: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outcomes of single examples by trial, on the metric's scale, of trials whose value they are of."""
    found = {}
    for key, value in zip(ended["trial_id"], ended[metric.name], strict=True):
        outcomes = outcomes_of(value, examples[key], log=metric.scale == "log") if key in examples else None
        if outcomes is not None:
            found[key] = outcomes
    return found


def example_cautions(
    plan: Plan, found: pd.DataFrame, examples: Mapping[str, Mapping[str, np.ndarray]]
) -> Iterator[str]:
    """Yields a sentence per metric whose examples are not what its values are made of."""
    ended = found[found["compared"] & (found["status"] == Status.OK)]
    for name, by_trial in examples.items():
        trials = ended[ended["trial_id"].isin(by_trial.keys())]
        left = len(trials) - len(own_outcomes(plan.measures[name], trials, by_trial))
        if left:
            rule = f"their mean is neither {name} nor, of a root of a mean, its square"
            yield f"outcomes of single examples of {name} are left out in {left} trials: {rule}"


def seed_correlation(plan: Plan, ended: pd.DataFrame) -> float | None:
    """Averages the correlations of pairs of cells over seeds; None where no two have three seeds that differ."""
    matrix = ended.pivot(index="seed", columns="cell", values=plan.primary.name).astype(float)
    varying = matrix.loc[:, matrix.nunique() > 1]
    pairs = varying.corr(min_periods=FEWEST_SEEDS).to_numpy()
    values = pairs[np.triu_indices_from(pairs, 1)]
    return float(np.nanmean(values)) if np.isfinite(values).any() else None
