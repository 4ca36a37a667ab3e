"""Verdicts on effects and claims, with many comparisons accounted for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.stats.estimates import ALPHA, Effect, Estimate
from bench.stats.families import holm
from bench.stats.joined import Joined
from bench.stats.power import MOST_SEEDS, POWER, decision_probability, detectable_difference, seeds_for_margin

Verdict = Literal["better", "worse", "equivalent", "undecided"]
Ruling = Literal["supported", "refuted", "undecided", "below_margin"]
Relation = Literal[">", "<", "~"]
_Direction = Literal["above", "below", "equivalent", "undecided"]


@dataclass(frozen=True)
class Comparison:
    """An effect within its family: p-values after Holm's correction, and the verdict on A.

    ``detectable``: the difference that is found with 80 % power at this number of seeds. ``seeds_for_margin``, where
    undecided: how many a new run should have (:func:`bench.stats.power.seeds_for_margin`), or None. Both take the level
    of Holm's first step.
    """

    effect: Effect
    verdict: Verdict
    p_holm: float
    p_equivalence_holm: float
    margin: float | None
    detectable: float
    seeds_for_margin: int | None


@dataclass(frozen=True)
class Claim:
    """``estimate`` is above, below or (``~``) within ``margin`` of ``bound``; ``~`` without margin is a ValueError."""

    estimate: Estimate | Joined
    relation: Relation
    bound: float = 0.0
    margin: float | None = None

    def __post_init__(self) -> None:
        if self.relation == "~" and self.margin is None:
            raise ValueError("a claim with ~ needs the margin within which a difference does not matter, got none")


@dataclass(frozen=True)
class Judgement:
    """What became of a claim, and the p-values of a difference from the bound and of equivalence to it, after Holm."""

    claim: Claim
    ruling: Ruling
    p_holm: float
    p_equivalence_holm: float


def compare(
    effects: Sequence[Effect], *, margin: float | None = None, alpha: float = ALPHA, higher_is_better: bool = True
) -> list[Comparison]:
    """The verdicts of one family of effects.

    Equivalent where the interval lies within ``margin`` of 0: a difference that is real yet within it does not matter.
    Else better or worse where p is under ``alpha``, else undecided. Either question is corrected by Holm over the
    family: the chance of any false "better" or "worse" is at most alpha, and so is that of any false "equivalent".
    With one seed always undecided: its interval knows nothing of seeds.
    """
    estimates = [item.estimate for item in effects]
    better: dict[_Direction, Verdict] = {"above": "better", "below": "worse"}
    worse: dict[_Direction, Verdict] = {"above": "worse", "below": "better"}
    same: dict[_Direction, Verdict] = {"equivalent": "equivalent", "undecided": "undecided"}
    verdicts = same | (better if higher_is_better else worse)
    first_step = alpha / max(1, len(effects))
    return [
        Comparison(
            effect=item,
            verdict=verdicts[direction],
            p_holm=p,
            p_equivalence_holm=p_equivalence,
            margin=margin,
            detectable=detectable_difference(item.estimate, alpha=first_step),
            seeds_for_margin=(
                seeds_for_margin(item.estimate, margin, alpha=first_step)
                if direction == "undecided" and margin is not None
                else None
            ),
        )
        for item, (direction, p, p_equivalence) in zip(
            effects, _decide(estimates, [margin] * len(estimates), alpha), strict=True
        )
    ]


def judge(claims: Sequence[Claim], *, alpha: float = ALPHA) -> list[Judgement]:
    """Rules on a family of claims, each at its bound as an effect is at 0 in :func:`compare`.

    ``>`` is supported above the bound and refuted below it, whatever the margin; where it is above but within the
    margin it is ``below_margin``: true, and too small to matter. ``<`` likewise. ``~`` is supported where equivalent,
    refuted where above or below and not equivalent.
    """
    shifted = [claim.estimate.minus(claim.bound) for claim in claims]
    decided = _decide(shifted, [claim.margin for claim in claims], alpha)
    return [
        Judgement(claim, _ruling(claim.relation, estimate.centre, direction, p < alpha), p, p_equivalence)
        for claim, estimate, (direction, p, p_equivalence) in zip(claims, shifted, decided, strict=True)
    ]


def _ruling(relation: Relation, centre: float, direction: _Direction, differs: bool) -> Ruling:
    if direction == "undecided":
        return "undecided"
    if relation == "~":
        return "supported" if direction == "equivalent" else "refuted"
    if not differs:  # within the margin, on either side of the bound
        return "undecided"
    if (centre > 0) != (relation == ">"):
        return "refuted"
    return "below_margin" if direction == "equivalent" else "supported"


def _decide(
    estimates: Sequence[Estimate | Joined], margins: Sequence[float | None], alpha: float
) -> Iterator[tuple[_Direction, float, float]]:
    """Direction of each estimate from 0, and its corrected p-values of a difference and of equivalence."""
    pairs = list(zip(estimates, margins, strict=True))
    differs = holm([estimate.p_value() for estimate in estimates])
    agrees = holm([math.nan if margin is None else estimate.p_equivalence(margin) for estimate, margin in pairs])
    for estimate, p, p_equivalence in zip(estimates, differs, agrees, strict=True):
        direction: _Direction = "undecided"
        if estimate.is_general and p_equivalence < alpha:
            direction = "equivalent"
        elif estimate.is_general and p < alpha:
            direction = "above" if estimate.centre > 0 else "below"
        yield direction, p, p_equivalence


def explain(comparison: Comparison, *, scale: float = 100.0, unit: str = "points") -> str:
    """The verdict in a sentence; differences are shown times ``scale`` in ``unit``."""
    effect, estimate = comparison.effect, comparison.effect.estimate
    if estimate.num_seeds == 0:
        return "undecided: no seed has a result of both"
    if estimate.num_seeds == 1:
        return "undecided: one seed, and another may differ"
    if effect.thin_contexts:
        return "undecided: a result of both for one seed only, under some levels of the other factors"
    if comparison.verdict == "equivalent":
        assert comparison.margin is not None
        return f"equivalent: any difference is under {comparison.margin * scale:.3g} {unit}"
    if comparison.verdict != "undecided":
        return f"{comparison.verdict} by {abs(estimate.value) * scale:.3g} {unit}"
    if estimate.basis == "nothing":
        return "undecided: the seeds do not differ, so nothing tells the size of chance"
    seen = "identical so far" if effect.identical else f"only {comparison.detectable * scale:.2g} {unit} would show"
    return f"undecided: {seen}{_plan(comparison, scale, unit)}"


def _plan(comparison: Comparison, scale: float, unit: str) -> str:
    """The seeds of a new run that is planned for the margin; empty without a margin."""
    margin, estimate = comparison.margin, comparison.effect.estimate
    if not margin:
        return ""
    size = f"{margin * scale:.3g} {unit if margin * scale != 1 else unit.removesuffix('s')}"
    if comparison.seeds_for_margin is not None:
        return f"; to tell {size} from none, plan a new run of {comparison.seeds_for_margin} seeds"
    if estimate.image_variance > 0 and not _images_allow(estimate, margin):
        return f"; no number of seeds would show {size} on {estimate.num_images:,} test images"
    return f"; {MOST_SEEDS:,} seeds would not show {size}"


def _images_allow(estimate: Estimate, margin: float) -> bool:
    """Whether seeds without end would show a difference of the margin."""
    probability = decision_probability(
        margin,
        margin=0.0,
        seed_variance=0.0,
        image_variance=estimate.image_variance,
        num_seeds=MOST_SEEDS,
        alpha=ALPHA,
    )
    return probability >= POWER
