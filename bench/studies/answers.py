"""Single repetitions of the studies of answers: made-up trials in, what was said of them out.

Each counts what today's report says (its own functions) beside what it said before: Student's t on the seeds' means of
the trials that ended ``ok``, centred in each context, Holm over the family.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import stats

from bench.analysis.interactions import told_apart
from bench.analysis.verdicts import EstimatedHypothesis, JudgedEffect, judge_effects, judge_hypotheses
from bench.grid.metrics import Metric
from bench.grid.plan import best_candidate
from bench.stats.estimates import ALPHA, Effect, Estimate, Estimated, Floats, Variant, contrast, effect, mean
from bench.stats.families import holm, selected_level, standings
from bench.stats.joined import counting_untrained, share_contrast
from bench.stats.power import seeds_for_margin
from bench.stats.proportions import Share, p_equal_shares
from bench.stats.ratios import logarithms
from bench.studies.seeds import CHANCE, DEVIATION, LEVEL, Seeds, noise
from bench.studies.simulate import Scenario, draw

NUM_EFFECTS = 6
MARGIN = 0.01
SCORE = Metric("score", "higher", unit="%", range=(0, 1))
Counts = dict[str, float]  # shares of repetitions, in the order of the table's columns


# --- what the report says now, and what it said before --------------------------------------------------------------


def now(drawn: tuple[Floats, Floats, Floats, Floats]) -> JudgedEffect:
    """B against A: among those that both trained, and how often they train."""
    a, b, a_trained, b_trained = drawn
    both = effect(Variant(np.where(b_trained == 1, b, np.nan)), Variant(np.where(a_trained == 1, a, np.nan)))
    trained = share_contrast([b_trained, a_trained], [1, -1])
    return judge_effects([both], [replace(SCORE, margin=MARGIN)], trained=[trained])[0]


def before(a: Floats, b: Floats) -> Estimate:
    """Student's t on the seeds' means, of each value's distance from its context's mean where some are missing."""
    difference = np.atleast_2d(b - a)
    shown = np.isfinite(difference)
    kept = difference[np.ix_(shown.any(1), shown.any(0))]
    if not kept.size:
        return mean([])
    means = np.nanmean(kept, axis=1, keepdims=True)
    return mean(means.mean() + np.nanmean(kept - means, axis=0))


def covers(estimate: Estimated, truth: float) -> float:
    """1, 0, or NaN where there is no interval."""
    low, high = estimate.interval()
    return math.nan if math.isnan(low) else float(low - 1e-12 <= truth <= high + 1e-12)


# --- the studies: one repetition each -------------------------------------------------------------------------------


def difference(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """Where both trained: does the interval hold the truth, and is there a verdict with the wrong sign or none true?"""
    drawn = case.draw(rng, num_seeds)
    comparison, old = now(drawn), before(drawn.a, drawn.b)
    truth = case.where_both_trained
    return {
        "before: covers": covers(old, truth),
        "now: covers": covers(comparison.effect.estimate, truth),
        "before: false verdict": _false(old.value, old.p_value() < ALPHA, truth),
        "now: false verdict": _false(comparison.effect.estimate.value, comparison.p_holm < ALPHA, truth),
        "now: no interval": float(math.isnan(comparison.effect.estimate.low)),
    }


def _false(value: float, decided: bool, truth: float) -> float:
    return float(decided and (truth == 0 or (value > 0) != (truth > 0)))


def counting(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """Where untrained trials count at chance: t on all trials, and the joined interval."""
    a, b, a_trained, b_trained = case.draw(rng, num_seeds)
    old = before(a, b)
    new = counting_untrained([Variant(b), Variant(a)], [b_trained, a_trained], [1, -1], worth=CHANCE, best=1.0)
    low, high = new.interval()
    old_low, old_high = old.interval()
    claims = [old.p_equivalence(MARGIN) < ALPHA, new.p_equivalence(MARGIN) < ALPHA]
    return {
        "before: covers": covers(old, case.at_chance),
        "now: covers": math.nan if math.isnan(low) else float(low <= case.at_chance <= high),
        "before: equivalent": float(claims[0]),
        "now: equivalent": float(claims[1]),
        "before: width": old_high - old_low,
        "now: width": min(high, 1.0) - max(low, -1.0),
    }


def training(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """Six cells that fail alike against one baseline: is any said to train more or less often, or to be better?"""
    draws = [case.draw(rng, num_seeds) for _ in range(NUM_EFFECTS)]
    base = draws[0]
    shares = [share_contrast([drawn.b_trained, base.a_trained], [1, -1]) for drawn in draws]
    p = holm([share.p_value() for share in shares])
    old = holm([before(base.a, drawn.b).p_value() for drawn in draws])
    both = [
        effect(
            Variant(np.where(one.b_trained == 1, one.b, np.nan)), Variant(np.where(base.a_trained == 1, base.a, np.nan))
        )
        for one in draws
    ]
    return {
        "before: family": float(np.nanmin([*old, 1.0]) < ALPHA),
        "now: family, trained": float(np.nanmin([*p, 1.0]) < ALPHA),
        "now: family, difference": float(np.nanmin([*holm([one.p for one in both]), 1.0]) < ALPHA),
    }


def headline(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """B gains where it trains and fails at its worst seeds: does the answer say better, and of failures?"""
    drawn = case.draw(rng, num_seeds)
    comparison, old = now(drawn), before(drawn.a, drawn.b)
    better = comparison.overall == "better"
    return {
        "before: better, nothing of failures": float(old.p_value() < ALPHA and old.value > 0),
        "now: better, nothing of failures": float(better and not comparison.some_untrained),
        "now: better where both trained, and how often": float(better and comparison.some_untrained),
        "now: trains less often": float(comparison.trained_verdict == "worse"),
    }


def ruling(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """``B > A``, true by half a margin; and ``accuracy > 0.9`` of a cell that is half a margin above."""
    drawn = case.draw(rng, num_seeds)
    sides = contrast([Variant(drawn.b), Variant(drawn.a)], [1, -1])
    claims = judge_hypotheses([EstimatedHypothesis(sides, ">", margin=MARGIN)]) + judge_hypotheses(
        [EstimatedHypothesis(mean(drawn.b), ">", LEVEL)]
    )
    refuted = sides.p_equivalence(MARGIN) < ALPHA or (sides.p_value() < ALPHA and sides.value < 0)
    return {
        "before: refuted": float(refuted),
        "now: refuted": float(claims[0].verdict == "refuted"),
        "now: below_margin": float(claims[0].verdict == "below_margin"),
        "now: supported against the number": float(claims[1].verdict == "supported"),
        "now: refuted against the number": float(claims[1].verdict == "refuted"),
    }


def tuning(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """Five equal candidates, the best on three seeds reported: on the seeds that chose it, and on others."""
    share, truth = case.fails[1], LEVEL - case.fails[1] * (LEVEL - CHANCE)

    def candidates(count: int) -> Floats:
        failed = rng.random((5, count)) < share
        return np.where(failed, np.nan, noise(rng, case.law, 5, count) * DEVIATION + LEVEL)

    shown = candidates(num_seeds)
    old = mean(np.where(np.isnan(shown), CHANCE, shown)[np.nanargmax(np.nan_to_num(shown, nan=CHANCE).mean(1))])
    scores = [[None if math.isnan(score) else score for score in row] for row in candidates(3).tolist()]
    others = candidates(num_seeds)[best_candidate(scores, 1) or 0]
    new = mean(others)
    return {
        "before: optimism, points": 100 * (old.value - truth),
        "before: covers": covers(old, truth),
        "now: optimism, points": 100 * (new.value - LEVEL),
        "now: covers": covers(new, LEVEL),
    }


def tuned(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """Two equal cells of five equal candidates each, B's seeds four times as far apart: is one said to be better?"""
    spread = DEVIATION * np.array([1.0, 4.0])[:, None, None]

    def candidates(count: int) -> Floats:
        return np.asarray(LEVEL + spread * noise(rng, case.law, 2, 5, count))

    shown = candidates(num_seeds)
    a, b = (cell[cell.mean(1).argmax()] for cell in shown)
    chosen = [best_candidate(cell, 1) or 0 for cell in candidates(3).tolist()]
    others = candidates(num_seeds)[[0, 1], chosen]
    old, new = before(a, b), effect(Variant(others[1]), Variant(others[0]))
    return {
        "before: A better": float(old.p_value() < ALPHA and old.value < 0),
        "before: B better": float(old.p_value() < ALPHA and old.value > 0),
        "now: A better": float(new.p < ALPHA and new.estimate.value < 0),
        "now: B better": float(new.p < ALPHA and new.estimate.value > 0),
    }


def averaged(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """B against A averaged over four settings, in the last of which it may gain 5 points more: is that said?"""
    drawn = case.draw(rng, num_seeds)
    b = drawn.b + np.array([0.0, 0.0, 0.0, case.more_in_last])[:, None]
    comparison = now(drawn._replace(b=b))
    a, b = (np.where((drawn.a_trained == 1) & (drawn.b_trained == 1), one, np.nan) for one in (drawn.a, b))
    values = np.nanmean(b - a, axis=1)
    ends = [int(values.argmin()), int(values.argmax())]
    least, greatest = ([Variant(b[[i]]), Variant(a[[i]])] for i in ends)
    said = told_apart(contrast([*greatest, *least], [1, -1, -1, 1]), len(values))
    decided = comparison.p_holm < ALPHA
    return {
        "before: decided, not a word": float(decided),
        "now: decided, not a word": float(decided and not said),
        "now: unlike effects said": float(said),
        "now: covers the average": covers(comparison.effect.estimate, case.gain + case.more_in_last / 4),
    }


def picked(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """Six effects of one seed deviation: the interval of the largest that is decided, and of all that are."""
    base = noise(rng, case.law, num_seeds)
    effects = [effect(Variant(noise(rng, case.law, num_seeds) + 1.0), Variant(base)) for _ in range(NUM_EFFECTS)]
    judged = judge_effects(effects, [SCORE] * len(effects))
    decided = [one.effect for one in judged if one.verdict != "undecided"]
    if not decided:
        return {"before: covers": math.nan, "now: missed of those told": 0.0}
    largest = max(decided, key=lambda one: abs(one.estimate.value))
    level = selected_level(len(decided), len(judged))
    missed = [not _within(one, 1.0, level) for one in decided]
    return {"before: covers": covers(largest.estimate, 1.0), "now: missed of those told": float(np.mean(missed))}


def _within(one: Effect, truth: float, level: float) -> bool:
    low, high = one.estimate.interval(level)
    return low <= truth <= high


def best(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """Six cells that are all equal: is one of them denied to be the best?"""
    cells = noise(rng, case.law, NUM_EFFECTS, num_seeds) * DEVIATION + LEVEL
    differences = {
        (i, j): contrast([Variant(cells[i]), Variant(cells[j])], [1, -1])
        for j in [int(cells.mean(1).argmax())]
        for i in range(NUM_EFFECTS)
        if i != j
    }
    old = holm([one.p_value() for one in differences.values()])
    said = standings(cells.mean(1).tolist(), lambda i, j: differences[i, j], MARGIN)
    return {"before: denied": float(min(old) < ALPHA), "now: denied": float("worse" in said)}


def equivalent(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """Five cells worse than one by a margin and a bit: is one of them said to be equivalent to the best?"""
    cells = noise(rng, case.law, NUM_EFFECTS, num_seeds) * DEVIATION / 4 + LEVEL
    cells[1:] -= 1.0001 * MARGIN
    top = int(cells.mean(1).argmax())
    said = standings(
        cells.mean(1).tolist(), lambda i, j: contrast([Variant(cells[i]), Variant(cells[j])], [1, -1]), MARGIN
    )
    false = [s == "equivalent" for i, s in enumerate(said) if (i == 0) != (top == 0)]
    return {"now: falsely equivalent": float(any(false))}


def planned(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """A new run of as many seeds as a pilot said: does it find a difference of the margin, and none where none is?"""
    pilot = effect(
        Variant(noise(rng, case.law, num_seeds) * DEVIATION), Variant(noise(rng, case.law, num_seeds) * DEVIATION)
    )
    count = seeds_for_margin(pilot.estimate, MARGIN)
    if count is None:
        return {"now: finds the margin": math.nan, "now: false verdict": math.nan, "now: seeds": math.nan}
    found = []
    for gain in (MARGIN, 0.0):
        b, a = (noise(rng, case.law, count) * DEVIATION for _ in range(2))
        found.append(effect(Variant(b + gain), Variant(a)).p < ALPHA)
    return {"now: finds the margin": float(found[0]), "now: false verdict": float(found[1]), "now: seeds": float(count)}


def peeking(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """Two equal cells looked at with 3, 5, 10 and 20 seeds until decided, which printed seeds invited; or once."""
    drawn = case.draw(rng, 20)
    looks = [effect(Variant(drawn.b[:, :count]), Variant(drawn.a[:, :count])).p < ALPHA for count in (3, 5, 10, 20)]
    return {"before: false verdict": float(any(looks)), "now: false verdict": float(looks[-1])}


def on_dev(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """``B > A on dev_accuracy`` where they are equal but for images that suit one of them: 360 dev images."""
    scenario = Scenario((0.9, 0.9), images=1.0, seeds=0.1)
    a, b = (Variant(bits.mean(1), bits) for bits in draw(rng, scenario, num_seeds, 360, scenario.accuracy))
    claims = [
        EstimatedHypothesis(contrast([Variant(b.values), Variant(a.values)], [1, -1]), ">"),
        EstimatedHypothesis(contrast([b, a], [1, -1]), ">"),
    ]
    old, new = (judge_hypotheses([claim])[0].verdict == "supported" for claim in claims)
    return {"before: false supported": float(old), "now: false supported": float(new)}


def exact_tests(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """How often A and B train in one context, A always where it never fails: three exact tests of the difference."""
    _, _, a, b = (np.asarray(one, bool)[0] for one in case.draw(rng, num_seeds))
    ab, ba = int((a & ~b).sum()), int((b & ~a).sum())
    counts = [[int(a.sum()), int(b.sum())], [int((~a).sum()), int((~b).sum())]]
    p = {
        "now, Boschloo": p_equal_shares(a, b),
        "Fisher": float(stats.fisher_exact(counts).pvalue),
        "McNemar, exact": float(stats.binomtest(min(ab, ba), ab + ba).pvalue) if ab + ba else 1.0,
    }
    return {name: float(value < ALPHA) for name, value in p.items()}


def real_outcomes(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """Losses of single examples, some of which suit A or B: differences in nats, and ratios, of equal cells."""
    hard, suits = rng.standard_normal(360), 0.5 * rng.standard_normal((2, 360))
    seeds = 0.02 * noise(rng, case.law, 2, num_seeds)
    losses = np.exp(hard + suits[:, None] + seeds[..., None] + 0.5 * rng.standard_normal((2, num_seeds, 360)) - 1)
    a, b = (Variant(table.mean(1), table) for table in losses)
    logs = [logarithms(variant) for variant in (b, a)]
    seeds_alone = [Variant(variant.values) for variant in logs]
    return {
        "before: covers": covers(contrast([Variant(b.values), Variant(a.values)], [1, -1]), 0.0),
        "now: covers, nats": covers(contrast([b, a], [1, -1]), 0.0),
        "before: covers, ratio": covers(contrast(seeds_alone, [1, -1]), 0.0),
        "now: covers, ratio": covers(contrast(logs, [1, -1]), 0.0),
    }


def power(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """A true gain of two deviations with normal seeds: is it found?"""
    drawn = case.draw(rng, num_seeds)
    return {
        "before: found": float(before(drawn.a, drawn.b).p_value() < ALPHA),
        "now: found": float(now(drawn).verdict in ("better", "equivalent")),
    }


def shares(case: Seeds, num_seeds: int, rng: np.random.Generator) -> Counts:
    """How often a cell trains: Wilson's interval before, Clopper and Pearson's now."""
    count, truth = int(rng.binomial(num_seeds, 1 - case.fails[1])), 1 - case.fails[1]
    low, high = Share(count, num_seeds).interval()
    z = 1.959964
    centre = (count + z * z / 2) / (num_seeds + z * z)
    half = z / (num_seeds + z * z) * math.sqrt(count * (num_seeds - count) / num_seeds + z * z / 4)
    return {
        "before: covers": float(centre - half <= truth <= centre + half),
        "now: covers": float(low <= truth <= high),
    }
