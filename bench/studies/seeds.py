"""Made-up trials by seed, whose truth is known: laws of chance, seeds that fail, results that are missing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from bench.stats.estimates import Floats

Law = Literal["normal", "t3", "log-normal"]

CHANCE, LEVEL, DEVIATION = 0.10, 0.90, 0.01  # accuracy of an untrained network, and of a trained one over seeds


def noise(rng: np.random.Generator, law: Law, *shape: int) -> Floats:
    """Draws noise, centred, of deviation 1: normal, Student's t with 3 degrees, or minus a log-normal of shape 1."""
    if law == "normal":
        return rng.standard_normal(shape)
    if law == "t3":
        return rng.standard_t(3, shape) / np.sqrt(3)
    drawn = np.exp(rng.standard_normal(shape))
    return -(drawn - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)


class Drawn(NamedTuple):
    """Accuracies of A and B (C, S), NaN without one; and whether they trained: 1, 0, or NaN without a result."""

    a: Floats
    b: Floats
    a_trained: Floats
    b_trained: Floats


@dataclass(frozen=True)
class Seeds:
    """Two cells over contexts and seeds: B is ``gain`` better where it trains.

    ``fails``: the share of trials of A and of B that end at chance; with ``informative`` they diverge, at the worst
    seeds. ``missing``: the share without a result. Seeds are shared: half of a cell's variance is the seed's own. With
    ``only_b`` it is B's noise that has the law, and A hardly varies. ``correlation``: of what makes A and B fail at one
    seed. ``more_in_last``: what a study lets B gain beside that in the last context.
    """

    name: str
    law: Law = "normal"
    gain: float = 0.0
    fails: tuple[float, float] = (0.0, 0.0)
    informative: bool = False
    missing: float = 0.0
    contexts: int = 1
    only_b: bool = False
    correlation: float = 0.0
    more_in_last: float = 0.0

    def draw(self, rng: np.random.Generator, num_seeds: int) -> Drawn:
        shape = (self.contexts, num_seeds)
        shared = noise(rng, "normal", 1, num_seeds)
        calm = 0.1 if self.only_b else 1.0  # A's deviation, and that of what the seeds share
        own = [calm * noise(rng, "normal" if self.only_b else self.law, *shape), noise(rng, self.law, *shape)]
        values, trained = [], []
        bad_luck = [rng.standard_normal(shape) for _ in range(3)]
        for one, gain, share, sign in zip(own, (0.0, self.gain), self.fails, (1.0, -1.0), strict=True):
            common = bad_luck[2] * (sign if self.correlation < 0 else 1.0) * math.sqrt(abs(self.correlation))
            luck = common + bad_luck[int(sign < 0)] * math.sqrt(1 - abs(self.correlation))
            failed = (one if self.informative else luck) < special.ndtri(share)
            at_chance = np.nan if self.informative else CHANCE + DEVIATION * rng.standard_normal(shape)
            value = np.where(failed, at_chance, LEVEL + gain + DEVIATION * math.sqrt(0.5) * (calm * shared + one))
            lost = rng.random(shape) < self.missing
            values.append(np.where(lost, np.nan, value))
            trained.append(np.where(lost, np.nan, 1.0 - failed))
        return Drawn(values[0], values[1], trained[0], trained[1])

    @property
    def where_both_trained(self) -> float:
        """The true difference of B and A among pairs that both trained."""
        if not self.informative:
            return self.gain
        spared = [_density(special.ndtri(share)) / (1 - share) for share in self.fails]
        return self.gain + DEVIATION * math.sqrt(0.5) * (spared[1] - spared[0])

    @property
    def at_chance(self) -> float:
        """The true difference where untrained trials count at chance."""
        a, b = (1 - share for share in self.fails)
        return b * (LEVEL + self.gain - CHANCE) - a * (LEVEL - CHANCE)


def _density(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
