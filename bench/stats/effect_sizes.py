"""Effect sizes: a difference beside the spread of seeds, whatever its unit."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special


def standardised(values: NDArray[np.float64], rest: float = 0.0) -> tuple[float, float]:
    """Returns Hedges' g of the paired differences (S,), and the probability that one more difference is above 0.

    The second is Student's predictive distribution (Gelman et al., Bayesian Data Analysis, 3rd ed., section 3.2).
    ``rest`` is their variance where they agree by rounding.
    """
    n = values.size
    if n < 2:
        return math.nan, math.nan
    variance = float(values.var(ddof=1))
    variance = variance if variance >= 1e-20 else rest
    if variance < 1e-20:
        return math.nan, math.nan
    size = float(values.mean()) / math.sqrt(variance)
    wins = float(special.stdtr(n - 1, size / math.sqrt(1 + 1 / n)))
    return (size * hedges_factor(n - 1) if n > 2 else math.nan), wins


def hedges_factor(df: int) -> float:
    """Corrects a standardised mean for small samples, df >= 2 (Hedges 1981, J. Educational Statistics 6:107)."""
    return math.exp(special.gammaln(df / 2) - special.gammaln((df - 1) / 2)) / math.sqrt(df / 2)
