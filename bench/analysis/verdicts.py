"""Verdicts on effects and hypotheses, with many comparisons accounted for."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.analysis import amounts
from bench.grid.hypotheses import Relation
from bench.grid.metrics import Better, Metric
from bench.stats.estimates import ALPHA, Effect, Estimate, Estimated
from bench.stats.families import holm
from bench.stats.joined import Joined
from bench.stats.power import MOST_SEEDS, POWER, decision_probability, detectable_difference, seeds_for_margin

Verdict = Literal["better", "worse", "higher", "lower", "equivalent", "undecided"]
HypothesisVerdict = Literal["supported", "refuted", "undecided", "below_margin"]

SMALL_P = 0.001
DECIDED = ("better", "worse", "higher", "lower")
_Direction = Literal["above", "below", "equivalent", "undecided"]


@dataclass(frozen=True)
class JudgedEffect:
    """An effect within its family: p-values after Holm's correction, and the verdict on A.

    The effect is among pairs that both trained; ``trained`` is how often A trains less how often B does, with a verdict
    and a p-value in a family of its own. ``detectable``: the difference that is found with 80 % power at this number of
    seeds. ``seeds_for_margin``, where undecided: how many a new run should have
    (:func:`bench.stats.power.seeds_for_margin`), or None. Both take the level of Holm's first step.
    """

    effect: Effect
    verdict: Verdict
    p_holm: float
    p_equivalence_holm: float
    metric: Metric
    first_step: float  # the level of Holm's first step
    trained: Joined | None = None
    trained_verdict: Verdict = "undecided"
    p_trained_holm: float = math.nan

    @property
    def margin(self) -> float | None:
        return self.metric.tolerance

    @functools.cached_property
    def detectable(self) -> float:
        return detectable_difference(self.effect.estimate, alpha=self.first_step)

    @functools.cached_property
    def seeds_for_margin(self) -> int | None:
        if self.verdict != "undecided" or self.margin is None:
            return None
        return seeds_for_margin(self.effect.estimate, self.margin, alpha=self.first_step)

    @property
    def some_untrained(self) -> bool:
        return self.trained is not None and any(part.share.count < part.share.total for part in self.trained.parts)

    @property
    def overall(self) -> Verdict:
        """The verdict that a headline may say: undecided where the two questions are decided in opposite ways.

        Where only how often they train is decided, that is it, whatever the difference of those that trained.
        """
        if {self.verdict, self.trained_verdict} == {"better", "worse"}:
            return "undecided"
        return self.trained_verdict if self.trained_verdict != "undecided" else self.verdict


@dataclass(frozen=True)
class EstimatedHypothesis:
    """``estimate`` is above, below or (``~``) within ``margin`` of ``bound``; ``~`` without margin is a ValueError."""

    estimate: Estimated
    relation: Relation
    bound: float = 0.0
    margin: float | None = None

    def __post_init__(self) -> None:
        if self.relation == "~" and self.margin is None:
            raise ValueError("a hypothesis with ~ needs the margin within which a difference does not matter, got none")


@dataclass(frozen=True)
class JudgedHypothesis:
    """The verdict on a hypothesis, and the p-values of a difference from the bound, before and after Holm."""

    hypothesis: EstimatedHypothesis
    verdict: HypothesisVerdict
    p: float
    p_holm: float
    p_equivalence_holm: float


def judge_effects(
    effects: Sequence[Effect],
    metrics: Sequence[Metric],
    *,
    trained: Sequence[Joined | None] | None = None,
    alpha: float = ALPHA,
) -> list[JudgedEffect]:
    """Judges one family of effects, and another: how often both sides ``trained``, where that is known.

    ``metrics`` has the metric of each effect: its margin, and which direction is better. Equivalent where the interval
    lies within the margin of 0: a difference that is real yet within it does not matter.
    Else better or worse where p is under ``alpha`` (higher or lower, where neither direction is better), else
    undecided. Either question is corrected by Holm over the family: the chance of any false "better" or "worse" is at
    most alpha, and so is that of any false "equivalent".
    With one seed always undecided: its interval knows nothing of seeds.
    """
    estimates = [item.estimate for item in effects]
    decided = _decide(estimates, [metric.tolerance for metric in metrics], alpha)
    shares = list(trained) if trained is not None else [None] * len(estimates)
    p_shares = holm([math.nan if share is None else share.p_value() for share in shares])
    return [
        JudgedEffect(
            effect=item,
            verdict=_verdict(direction, metric.better),
            p_holm=p,
            p_equivalence_holm=p_equivalence,
            metric=metric,
            first_step=alpha / len(effects),
            trained=share,
            trained_verdict=_trains(share, p_share, alpha),
            p_trained_holm=p_share,
        )
        for item, metric, (direction, p, p_equivalence), share, p_share in zip(
            effects, metrics, decided, shares, p_shares, strict=True
        )
    ]


def _verdict(direction: _Direction, better: Better) -> Verdict:
    if direction == "equivalent" or direction == "undecided":
        return direction
    if better == "neither":
        return "higher" if direction == "above" else "lower"
    return "better" if (direction == "above") == (better == "higher") else "worse"


def _trains(share: Joined | None, p: float, alpha: float) -> Verdict:
    if share is None or not p < alpha:
        return "undecided"
    return "better" if share.value > 0 else "worse"


def judge_hypotheses(hypotheses: Sequence[EstimatedHypothesis], *, alpha: float = ALPHA) -> list[JudgedHypothesis]:
    """Rules on a family of hypotheses, each at its bound as an effect is at 0 in :func:`judge_effects`.

    ``>`` is supported above the bound and refuted below it, whatever the margin; where it is above but within the
    margin it is ``below_margin``: true, and too small to matter. ``<`` likewise. ``~`` is supported where equivalent,
    refuted where above or below and not equivalent.
    """
    shifted = [hypothesis.estimate.minus(hypothesis.bound) for hypothesis in hypotheses]
    decided = _decide(shifted, [hypothesis.margin for hypothesis in hypotheses], alpha)
    return [
        JudgedHypothesis(
            hypothesis,
            _hypothesis_verdict(hypothesis.relation, estimate.centre, direction, p < alpha),
            estimate.p_value(),
            p,
            near,
        )
        for hypothesis, estimate, (direction, p, near) in zip(hypotheses, shifted, decided, strict=True)
    ]


def _hypothesis_verdict(relation: Relation, centre: float, direction: _Direction, differs: bool) -> HypothesisVerdict:
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
    estimates: Sequence[Estimated], margins: Sequence[float | None], alpha: float
) -> Iterator[tuple[_Direction, float, float]]:
    """Yields the direction of each estimate from 0, and its corrected p-values of a difference and of equivalence."""
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


def explain(comparison: JudgedEffect) -> str:
    """Returns the verdict in a sentence, in the unit of its metric.

    Where some trials did not train it says both: the difference among those that did, and how often each side trains.
    """
    sentence, trains = _explain_difference(comparison), explain_training(comparison)
    if not trains:
        return sentence
    verdict, colon, rest = sentence.partition(":")
    counted = not isinstance(comparison.effect.estimate, Estimate)
    both = "" if counted or comparison.effect.pairs == 0 else " where both trained"
    return f"{verdict}{both}{colon}{rest}; {trains}"


def explain_training(comparison: JudgedEffect) -> str:
    """Returns ``trains in 18 of 30 against 30 of 30, p < 0.001``; empty where all trained or nothing is known of it."""
    if comparison.trained is None or not comparison.some_untrained:
        return ""
    p = p_both(comparison.trained.p_value(), comparison.p_trained_holm)
    return f"trains in {trained_counts(comparison)}, {p}"


def trained_counts(comparison: JudgedEffect) -> str:
    """Returns ``18 of 30 against 30 of 30``; empty where nothing is known of it."""
    parts = () if comparison.trained is None else comparison.trained.parts
    return " against ".join(f"{part.share.count} of {part.share.total}" for part in parts)


def _explain_difference(comparison: JudgedEffect) -> str:
    effect, estimate, metric = comparison.effect, comparison.effect.estimate, comparison.metric
    if estimate.num_seeds == 0:
        none = "trained on both sides" if comparison.some_untrained else "has a result of both"
        return f"undecided: no seed {none}"
    if estimate.num_seeds == 1:
        return "undecided: one seed, and another may differ"
    if effect.thin_contexts:
        return "undecided: a result of both for one seed only, under some levels of the other factors"
    if comparison.verdict == "equivalent":
        assert comparison.margin is not None
        return f"equivalent: any difference is under {amounts.within(metric, comparison.margin)}"
    if comparison.verdict != "undecided":
        by = ":" if metric.scale == "log" else " by"
        said = amounts.size(metric, estimate.value) + amounts.perplexity(metric, estimate.value)
        return f"{comparison.verdict}{by} {said}"
    if estimate.basis == "nothing":
        return "undecided: the seeds do not differ, so nothing tells the size of chance"
    if not isinstance(estimate, Estimate):
        interval = amounts.ends(metric, *estimate.interval(), sign="+")
        return f"undecided: with untrained trials counted, from {interval} {metric.difference_unit}".rstrip()
    return f"undecided: {'identical so far' if effect.identical else _hidden(comparison)}{_plan(comparison)}"


def _hidden(comparison: JudgedEffect) -> str:
    """Says which differences these seeds could not have shown: all, where the metric has no room for larger ones."""
    metric, (low, high) = comparison.metric, comparison.metric.range
    if metric.scale == "linear" and low is not None and high is not None and comparison.detectable > high - low:
        return "no difference would show"
    return f"less than {amounts.size(metric, comparison.detectable, '2')} would not show"


def p_both(p: float, corrected: float) -> str:
    """Says ``p = 0.029, corrected 0.115``: the p of the contrast, the same wherever it stands, and of its family."""
    one, other = p_text(p), p_text(corrected)
    return f"p {one}" if one == other else f"p {one}, corrected {other.removeprefix('= ')}"


def p_text(p: float) -> str:
    """Returns ``= 0.032``, or ``< 0.001``; ``unknown`` where nothing tells the size of chance."""
    return "unknown" if math.isnan(p) else f"< {SMALL_P}" if p < SMALL_P else f"= {p:.3f}"


def _plan(comparison: JudgedEffect) -> str:
    """Returns the seeds of a new run that is planned for the margin; empty without a margin."""
    margin, estimate = comparison.margin, comparison.effect.estimate
    if not margin:
        return ""
    size = amounts.within(comparison.metric, margin)
    if comparison.seeds_for_margin is not None:
        return f"; to tell {size} from none, plan a new run of {comparison.seeds_for_margin} seeds"
    if isinstance(estimate, Estimate) and estimate.image_variance > 0 and not _images_allow(estimate, margin):
        examples = "images" if comparison.metric.is_share else "examples"
        return f"; no number of seeds would show {size} on {estimate.num_images:,} test {examples}"
    return f"; {MOST_SEEDS:,} seeds would not show {size}"


def _images_allow(estimate: Estimate, margin: float) -> bool:
    """Tells whether seeds without end would show a difference of the margin."""
    probability = decision_probability(
        margin,
        margin=0.0,
        seed_variance=0.0,
        image_variance=estimate.image_variance,
        num_seeds=MOST_SEEDS,
        alpha=ALPHA,
    )
    return probability >= POWER
