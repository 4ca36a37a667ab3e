"""Verdicts: what decides them, and how many comparisons change them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.weightstats import ttost_paired

from bench.analysis import verdicts
from bench.analysis.verdicts import (
    EstimatedHypothesis,
    HypothesisVerdict,
    JudgedEffect,
    Verdict,
    explain,
    judge_hypotheses,
)
from bench.grid.hypotheses import Relation
from bench.grid.metrics import Metric
from bench.stats.estimates import Effect, Estimate, Variant, effect, exact, mean
from bench.stats.joined import Joined, share_contrast

STEPS = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])  # deviation sqrt(2.5), so a mean of five has the error 0.70711
T_4 = 2.776445  # Student's 97.5 % point with 4 degrees of freedom: the interval is the mean +- 1.96324


SHARE = Metric("score", "higher", unit="%", range=(0, 1))
PLAIN = Metric("score", "higher", unit="points")


def compare(
    effects: list[Effect],
    *,
    metric: Metric = SHARE,
    margin: float | None = None,
    trained: list[Joined | None] | None = None,
) -> list[JudgedEffect]:
    """The verdicts of a family in one metric."""
    return verdicts.judge_effects(effects, [replace(metric, margin=margin)] * len(effects), trained=trained)


def difference(value: float, spread: float = 1.0) -> Effect:
    return effect(Variant(value + spread * STEPS), Variant(np.zeros(5)))


@pytest.mark.parametrize(
    ("value", "margin", "verdict"),
    [
        (1.97, None, "better"),
        (-1.97, None, "worse"),
        (1.96, None, "undecided"),
        (0.0, None, "undecided"),
        (0.0, 1.97, "equivalent"),
        (0.0, 1.96, "undecided"),
        (2.5, 4.47, "equivalent"),  # real, and too small to matter
        (2.5, 4.46, "better"),
    ],
)
def test_a_verdict_is_where_the_interval_lies(value: float, margin: float | None, verdict: Verdict) -> None:
    assert compare([difference(value)], margin=margin)[0].verdict == verdict


def test_where_less_is_better_the_lower_arm_is() -> None:
    assert compare([difference(-3)], metric=replace(PLAIN, better="lower"))[0].verdict == "better"
    assert compare([difference(3)], metric=replace(PLAIN, better="lower"))[0].verdict == "worse"


def test_a_family_asks_more_of_each_effect() -> None:
    alone = compare([difference(2.1)])[0]
    assert alone.verdict == "better"
    first, *_ = compare([difference(2.1), difference(0.1), difference(0.2)])
    assert first.verdict == "undecided"
    assert first.p_holm == pytest.approx(3 * alone.p_holm)


def test_equivalence_is_two_one_sided_tests_at_half_the_level() -> None:
    comparison = compare([difference(0.3)], margin=2.0)[0]
    larger, _, _ = ttost_paired(0.3 + STEPS, np.zeros(5), -2.0, 2.0)
    assert comparison.p_equivalence_holm == pytest.approx(2 * larger)


def test_beyond_the_margin_nothing_speaks_for_equivalence() -> None:
    assert compare([difference(2.5)], margin=2.0)[0].p_equivalence_holm == 1


def test_one_seed_decides_nothing() -> None:
    right = np.ones((1, 1000), bool)
    comparison = compare([effect(Variant([1.0], right), Variant([0.0], ~right))], margin=0.01)[0]
    assert comparison.effect.p < 1e-10
    assert comparison.verdict == "undecided"
    assert comparison.seeds_for_margin is None
    assert explain(comparison) == "undecided: one seed, and another may differ"


def test_identical_arms_are_equivalent_where_the_test_set_can_show_it() -> None:
    right = np.ones((3, 1000), bool)
    identical = effect(Variant(right.mean(1), right), Variant(right.mean(1), right))
    # One image more for each variant: an interval of +- 1.96 sqrt(2) / 1,002 = 0.00277.
    assert compare([identical], margin=0.0028)[0].verdict == "equivalent"
    assert compare([identical], margin=0.0027)[0].verdict == "undecided"
    words = "undecided: identical so far; no number of seeds would show 0.27 points on 1,000 test images"
    assert explain(compare([identical], margin=0.0027)[0]) == words


def test_a_new_run_is_planned_only_where_undecided_and_only_for_a_margin() -> None:
    assert compare([difference(3)], margin=1.0)[0].seeds_for_margin is None
    assert compare([difference(1.5)])[0].seeds_for_margin is None
    planned = compare([difference(1.5)], margin=1.0)[0].seeds_for_margin
    assert planned is not None
    assert planned > 5


@pytest.mark.parametrize(
    ("estimated", "margin", "sentence"),
    [
        (difference(0.03, 0.01), None, "better by 3 points"),
        (difference(-0.03, 0.01), None, "worse by 3 points"),
        (difference(0.001, 0.001), 0.005, "equivalent: any difference is under 0.5 points"),
        (difference(0.0, 0.01), None, "undecided: less than 2.7 points would not show"),
        (difference(0.0, 0.4), None, "undecided: no difference would show"),  # only one of more than 100 points
        (
            difference(0.0, 0.01),
            0.0001,
            "undecided: less than 2.7 points would not show; 1,000 seeds would not show 0.01 points",
        ),
        (difference(0.0, 0.0), None, "undecided: the seeds do not differ, so nothing tells the size of chance"),
        (effect(Variant([math.nan]), Variant([0.5])), None, "undecided: no seed has a result of both"),
    ],
)
def test_verdicts_in_words(estimated: Effect, margin: float | None, sentence: str) -> None:
    assert explain(compare([estimated], margin=margin)[0]) == sentence


@pytest.mark.parametrize(
    ("value", "relation", "margin", "verdict"),
    [
        (7.0, ">", None, "supported"),
        (3.0, ">", None, "refuted"),
        (5.5, ">", None, "undecided"),
        (5.0, ">", 2.0, "undecided"),  # within the margin on either side: nothing says that it is not above
        (7.0, ">", 4.0, "below_margin"),  # true, and smaller than the margin
        (3.0, ">", 4.0, "refuted"),  # the other way, however little
        (3.0, "<", None, "supported"),
        (7.0, "<", None, "refuted"),
        (3.0, "<", 4.0, "below_margin"),
        (5.0, "~", 2.0, "supported"),
        (8.0, "~", 2.0, "refuted"),
        (6.0, "~", 2.0, "undecided"),
    ],
)
def test_hypotheses_about_a_bound_of_five(
    value: float, relation: Relation, margin: float | None, verdict: HypothesisVerdict
) -> None:
    judgement = judge_hypotheses([EstimatedHypothesis(mean(value + STEPS), relation, bound=5.0, margin=margin)])[0]
    assert judgement.verdict == verdict


def test_hypotheses_are_a_family() -> None:
    hypotheses = [EstimatedHypothesis(mean(value + STEPS), ">") for value in (2.1, 0.1, 0.2)]
    assert judge_hypotheses(hypotheses[:1])[0].verdict == "supported"
    assert judge_hypotheses(hypotheses)[0].verdict == "undecided"


def test_what_is_exact_is_ruled_on_without_seeds() -> None:
    parameters = exact([61_706])
    above, below, near = judge_hypotheses(
        [
            EstimatedHypothesis(parameters, ">", 60_000),
            EstimatedHypothesis(parameters, "<", 60_000),
            EstimatedHypothesis(parameters, "~", 60_000, margin=2_000),
        ]
    )
    assert (above.verdict, below.verdict, near.verdict) == ("supported", "refuted", "supported")


def test_a_hypothesis_of_equality_needs_a_margin() -> None:
    estimate: Estimate = mean(STEPS)
    with pytest.raises(ValueError, match="margin"):
        EstimatedHypothesis(estimate, "~")


# --- how often both sides train -------------------------------------------------------------------------------------


def shares(a: list[int], b: list[int]) -> Joined:
    return share_contrast([np.array(a, float), np.array(b, float)], [1, -1])


def test_the_difference_and_how_often_they_train_are_two_questions() -> None:
    often, seldom = [1] * 10, [1, 1, 1, 0, 0, 0, 0, 1, 0, 0]
    gain = effect(Variant(np.append(3 + STEPS, [np.nan] * 5)), Variant(np.zeros(10)))
    first = compare([gain], metric=PLAIN, trained=[shares(seldom, often)])[0]
    assert (first.verdict, first.trained_verdict, first.overall) == ("better", "worse", "undecided")
    words = "better by 3 points where both trained; trains in 4 of 10 against 10 of 10, p = 0.004"
    assert explain(first) == words
    both = compare([gain], metric=PLAIN, trained=[shares(often, seldom)])[0]
    assert both.overall == "better"
    assert compare([difference(0.0)], trained=[shares(often, seldom)])[0].overall == "better"


def test_each_question_has_a_family_of_its_own() -> None:
    often, seldom = shares([1] * 5, [0] * 5), shares([1] * 5, [1] * 5)
    first, second = compare([difference(3), difference(0)], trained=[often, seldom])
    assert first.p_trained_holm == pytest.approx(2 * often.p_value())
    assert second.p_trained_holm == 1
    assert first.p_holm == compare([difference(3), difference(0)])[0].p_holm


def test_where_all_trained_nothing_is_said_of_it() -> None:
    assert (
        explain(compare([difference(3)], metric=PLAIN, trained=[shares([1] * 5, [1] * 5)])[0]) == "better by 3 points"
    )


def test_where_no_pair_trained_only_how_often_is_left() -> None:
    nothing = effect(Variant(np.full(5, np.nan)), Variant(np.zeros(5)))
    said = explain(compare([nothing], trained=[shares([0] * 5, [1] * 5)])[0])
    assert said == "undecided: no seed trained on both sides; trains in 0 of 5 against 5 of 5, p = 0.002"
