"""Says of training code of the user's own what it cannot promise, and what the seeds show of that."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from bench.grid.plan import Plan
from bench.record.status import Status

FEWEST_SEEDS = 3  # over fewer, cells correlate by chance alone


def own_cautions(plan: Plan, found: pd.DataFrame) -> Iterator[str]:
    """Yields sentences on what own code leaves unknown; none of the laboratory's trials."""
    if plan.run is None:
        return
    yield (
        "own code: whether it uses its seed, gives every cell of a seed the same data order and initial values, and "
        "keeps dev and test apart, only the code itself knows"
    )
    ended = found[found["compared"] & (found["status"] == Status.OK)]
    if plan.pair == "seed" and (shared := seed_correlation(plan, ended)) is not None:
        helps = "pairing by seed takes noise out" if shared > 0 else "pairing by seed takes no noise out (`pair: none`)"
        yield f"cells correlate over seeds by {shared:.2f} on average: {helps}"
    if ended["train_digest"].isna().all() or (ended["train_digest"] == "").all():
        yield "own code did not say what its data are (`data` in what it returns): nobody knows whether they changed"


def seed_correlation(plan: Plan, ended: pd.DataFrame) -> float | None:
    """Averages the correlations of pairs of cells over seeds; None where no two have three seeds that differ."""
    matrix = ended.pivot(index="seed", columns="cell", values=plan.primary.name).astype(float)
    varying = matrix.loc[:, matrix.nunique() > 1]
    pairs = varying.corr(min_periods=FEWEST_SEEDS).to_numpy()
    values = pairs[np.triu_indices_from(pairs, 1)]
    return float(np.nanmean(values)) if np.isfinite(values).any() else None
