"""Hypotheses of a grid and the verdicts on them, with the estimate that each rests on, in words."""

from __future__ import annotations

import math

import pandas as pd

from bench.analysis import amounts, verdicts
from bench.analysis.comparison import NOT_OF_TRAINED, SPEEDS, Comparison
from bench.analysis.verdicts import p_both, p_text
from bench.grid.hypotheses import Hypothesis
from bench.grid.metrics import TRAINED, Metric
from bench.stats.estimates import Estimated
from bench.stats.joined import Joined


def hypothesis_table(comparison: Comparison) -> pd.DataFrame:
    """Makes a row per hypothesis: ``ruling`` (supported, refuted, undecided), its estimate, and that in words."""
    plan = comparison.plan
    estimated = []
    for hypothesis in plan.hypotheses:
        estimate, margin = comparison.contrast(hypothesis), _margin(comparison, hypothesis)
        estimated.append(verdicts.EstimatedHypothesis(estimate, hypothesis.relation, hypothesis.bound, margin))
    rows = [
        _row(comparison, hypothesis, item)
        for hypothesis, item in zip(plan.hypotheses, verdicts.judge_hypotheses(estimated), strict=True)
    ]
    return pd.DataFrame(rows, columns=HYPOTHESIS)


HYPOTHESIS = ["hypothesis", "ruling", "evidence", "short", "metric", "estimate", "low", "high", "p", "p_holm", "scale"]


def _row(comparison: Comparison, hypothesis: Hypothesis, item: verdicts.JudgedHypothesis) -> dict[str, object]:
    """Makes a row; on a log scale the estimate and its ends are a ratio, or a geometric mean."""
    metric, estimate = comparison.scaled(hypothesis), item.hypothesis.estimate
    is_difference, trained = len(hypothesis.terms) > 1, comparison.trains_in(hypothesis)
    said = evidence(metric, item, is_difference=is_difference)
    return {
        "hypothesis": hypothesis.text,
        "ruling": item.verdict,
        "evidence": said + _training(comparison, hypothesis),
        "short": short_evidence(metric, item, trained, is_difference=is_difference),
        "metric": hypothesis.metric,
        "estimate": amounts.shown(metric, estimate.value),
        "low": amounts.shown(metric, estimate.low),
        "high": amounts.shown(metric, estimate.high),
        "p": item.p,
        "p_holm": item.p_holm,
        "scale": metric.scale,
    }


def _margin(comparison: Comparison, hypothesis: Hypothesis) -> float | None:
    """Returns the margin within which sides are equal; None against a number: above it by little is above it.

    A metric without a margin of its own takes the primary's, as a share of its typical size.
    """
    if hypothesis.relation != "~" and (len(hypothesis.terms) == 1 or hypothesis.bound != 0):
        return None
    primary, metric = comparison.plan.primary, comparison.scaled(hypothesis)
    if metric.name == primary.name:
        return primary.tolerance or 0.0
    share = primary.margin or 0.0 if primary.is_share or primary.scale == "log" else 0.0
    if (metric.name.endswith("accuracy") or metric.name == TRAINED.name) and primary.is_share:
        return share
    if metric.tolerance is not None:
        return metric.tolerance
    margin = math.log1p(share) if metric.scale == "log" else share * comparison.typical(metric.name)
    return 0.0 if math.isnan(margin) else margin


def _training(comparison: Comparison, hypothesis: Hypothesis) -> str:
    """Says how often the sides of a hypothesis about how good they are train, where some of their trials did not."""
    if hypothesis.metric == TRAINED.name or hypothesis.metric in NOT_OF_TRAINED:
        return ""
    trains = counts_of(comparison.trains_in(hypothesis))
    return f"; of those that trained: {trains}" if trains else ""


def counts_of(trained: Joined, *, always: bool = False) -> str:
    """Returns ``18 of 30 against 30 of 30``; empty where all trained, unless it is to be said always."""
    shares = [part.share for part in trained.parts]
    if not always and all(share.count == share.total for share in shares):
        return ""
    return (" against " if len(shares) == 2 else ", ").join(f"{share.count} of {share.total}" for share in shares)


def evidence(metric: Metric, item: verdicts.JudgedHypothesis, *, is_difference: bool) -> str:
    """Returns ``difference +12.3 points (95 %: 8.1 to 16.5), p < 0.001, 5 seeds``."""
    estimate = item.hypothesis.estimate
    if estimate.num_seeds == 0:
        reason = "timed alone" if metric.name in SPEEDS else "with a result on every side"
        return f"no trials {reason}"
    text, interval = _amount(metric, estimate, is_difference=is_difference)
    if metric.name == TRAINED.name and isinstance(estimate, Joined):
        what = text if is_difference else text.replace("mean", "share", 1)
        text = f"trains in {counts_of(estimate, always=True)}: {what}"
    if estimate.basis == "exact":
        return f"{text}, exact"
    seeds = f"{estimate.num_seeds} seed{'s' * (estimate.num_seeds > 1)}"
    if math.isnan(estimate.low):
        return f"{text}, no interval, {seeds}"
    if "dev_" in metric.name and estimate.basis == "seeds" and metric.name != TRAINED.name:
        seeds += ", on this dev set"
    return f"{text} (95 %: {interval}), {p_both(item.p, item.p_holm)}, {seeds}"


def short_evidence(metric: Metric, item: verdicts.JudgedHypothesis, trained: Joined, *, is_difference: bool) -> str:
    """Returns ``+12.3 points (8.1 to 16.5), p = 0.029, 5 seeds; trains 9/10 vs 5/10``: p is the corrected one."""
    estimate = item.hypothesis.estimate
    if estimate.num_seeds == 0:
        return evidence(metric, item, is_difference=is_difference)
    text, interval = _amount(metric, estimate, is_difference=is_difference)
    said = text.removeprefix("difference ")
    if metric.name == TRAINED.name:
        said = said.replace("mean", "share", 1)
    if estimate.basis == "exact":
        return f"{said}, exact"
    if not math.isnan(estimate.low):
        said += f" ({interval}), p {p_text(item.p_holm)}"
    said += f", {estimate.num_seeds} seed{'s' * (estimate.num_seeds > 1)}"
    between = " vs " if len(trained.parts) == 2 else ", "
    counts = between.join(f"{part.share.count}/{part.share.total}" for part in trained.parts)
    return f"{said}; trains {counts}" if counts_of(trained, always=metric.name == TRAINED.name) else said


def _amount(metric: Metric, estimate: Estimated, *, is_difference: bool) -> tuple[str, str]:
    """Returns the estimate in words, and its interval: a difference or ratio, or a mean in the metric's unit."""
    form = ".1f" if metric.is_share else "4"
    low, high = estimate.interval()
    if not is_difference:
        ends = [metric.factor * amounts.shown(metric, end) for end in (estimate.value, low, high)]
        mean, *around = (amounts.number(end, form) for end in ends)
        what = "geometric mean" if metric.scale == "log" else "mean"
        return f"{what} {mean} {metric.unit}".rstrip(), " to ".join(around)
    interval = amounts.ends(metric, low, high, form)
    if metric.scale == "log":
        return f"ratio {amounts.size(metric, estimate.value)}", interval
    return f"difference {amounts.signed(metric, estimate.value, form)}", interval
