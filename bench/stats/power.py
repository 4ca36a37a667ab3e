"""Find what a number of seeds and test images can show: before there are results, and for a new run after some."""

from __future__ import annotations

import bisect
import functools
import math

import numpy as np
from scipy import optimize, special

from bench.stats.estimates import ALPHA, Estimate, Estimated, Floats, critical_value

POWER = 0.8
CONFIDENCE = 0.8  # that the deviation of seeds is under the bound that a new run is planned with
MOST_SEEDS = 1_000  # beyond this, "more seeds" is no advice


def decision_probability(
    truth: float, *, margin: float, seed_variance: float, image_variance: float, num_seeds: int, alpha: float
) -> float:
    """Returns the probability that the interval excludes 0 or lies within ``margin`` of it.

    ``seed_variance`` is that of one seed's difference. Integrates over the distribution of the estimated seed variance;
    with no image variance and no margin it is the power of Student's t-test.
    """
    df = num_seeds - 1
    true_seeds = seed_variance / num_seeds
    seeds = true_seeds * _estimated_variances(df)
    variance = seeds + image_variance
    half = critical_value(alpha, df, seeds / variance) * np.sqrt(variance)
    deviation = math.sqrt(true_seeds + image_variance)
    apart = special.ndtr((truth - half) / deviation) + special.ndtr((-truth - half) / deviation)
    room = np.maximum(margin - half, 0.0)  # an estimate this near 0 is equivalent
    within = special.ndtr((room - truth) / deviation) - special.ndtr((-room - truth) / deviation)
    return float(np.where(room >= half, 1.0, apart + within).mean())


@functools.cache
def _estimated_variances(df: int) -> Floats:
    """Returns what an estimated variance of 1 comes to, at the middles of 1,000 equally likely parts."""
    return special.gammaincinv(df / 2, (np.arange(1000) + 0.5) / 1000) * 2 / df if df else np.zeros(1)


def detectable_difference(estimate: Estimated, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """Finds the true difference told from 0 with this power at ``estimate``'s seeds and test set; NaN if unknown."""
    if not isinstance(estimate, Estimate) or not estimate.is_general or estimate.basis == "exact":
        return math.nan
    return _detectable(*_variances(estimate), estimate.num_seeds, alpha, power)


def seeds_for_margin(
    estimate: Estimated, margin: float, *, alpha: float = ALPHA, power: float = POWER, confidence: float = CONFIDENCE
) -> int | None:
    """Plans the seeds of a new run that tells a difference of ``margin`` from none with this power, whichever is true.

    Planned for the margin, never for the difference that was seen, and with an upper bound of the seeds' deviation
    (Browne 1995, Statistics in Medicine 14:1933): a few seeds show too small a one half of the time. None where nothing
    is known of seeds, or more than 1,000 would be needed, as where the test set is too small.
    """
    if not isinstance(estimate, Estimate) or not estimate.is_general or estimate.basis == "exact" or margin <= 0:
        return None
    seed_variance, image_variance = _variances(estimate)
    bound = seed_variance * estimate.df / float(special.chdtri(estimate.df, confidence))

    def probability(truth: float, within: float, num_seeds: int) -> float:
        return decision_probability(
            truth,
            margin=within,
            seed_variance=bound,
            image_variance=image_variance,
            num_seeds=num_seeds,
            alpha=alpha,
        )

    def decides(num_seeds: int) -> bool:
        different = probability(margin, 0.0, num_seeds)
        return different >= power and probability(0.0, margin, num_seeds) >= power + alpha  # alpha: falsely different

    candidates = range(2, MOST_SEEDS + 1)
    index = bisect.bisect_left(candidates, True, key=decides)
    return candidates[index] if index < len(candidates) else None


def planned_difference(
    num_seeds: int,
    num_images: int,
    accuracy: float,
    *,
    disagreement: float = 0.4,
    image_share: float = 0.4,
    seed_deviation: float = 0.003,
    alpha: float = ALPHA,
    power: float = POWER,
) -> float:
    """Predicts the difference in accuracy that ``num_seeds`` on ``num_images`` will tell from 0, before any result.

    Two networks of one accuracy disagree on 2 p (1 - p) of the images if their errors are independent, and on
    ``disagreement`` of that here; ``image_share`` of it comes back with every seed. ``seed_deviation`` is that of the
    true difference over seeds. The defaults are round numbers near those of small networks on digits. One seed counts
    the test set only. Raises ValueError for an accuracy that is not between 0 and 1.
    """
    if not 0 < accuracy < 1:
        raise ValueError(f"the assumed accuracy must be between 0 and 1, got {accuracy}")
    per_image = disagreement * 2 * accuracy * (1 - accuracy) / num_images
    if num_seeds == 1:
        return _detectable(0.0, per_image, 1, alpha, power)
    seed_variance = seed_deviation**2 + (1 - image_share) * per_image
    return _detectable(seed_variance, image_share * per_image, num_seeds, alpha, power)


def _variances(estimate: Estimate) -> tuple[float, float]:
    """Returns the variances of one seed's difference, and of the test set."""
    return estimate.seed_variance * estimate.num_seeds, max(0.0, estimate.image_variance)


def _detectable(seed_variance: float, image_variance: float, num_seeds: int, alpha: float, power: float) -> float:
    def shortfall(truth: float) -> float:
        return power - decision_probability(
            truth,
            margin=0.0,
            seed_variance=seed_variance,
            image_variance=image_variance,
            num_seeds=num_seeds,
            alpha=alpha,
        )

    upper = math.sqrt(seed_variance / num_seeds + image_variance)
    while shortfall(upper) > 0:
        upper *= 2
    return float(optimize.brentq(shortfall, 0.0, upper, rtol=1e-6))
