"""The grammar of hypotheses, and what each form says as a weighted sum."""

import pytest

from bench.grid.hypotheses import Hypothesis, HypothesisError, Term, directed, parse_hypothesis
from bench.grid.metrics import lab_metrics

FACTORS = {
    "model.residual": ("true", "false"),
    "model.name": ("resnet18", "resnet34"),
    "optimizer": ("sgd", "adam", "no (momentum) on x"),
    "data.batch_size, optimizer.lr": ("64,0.05", "256,0.2"),
    "model.hidden": ("[256, 128]", "[64]"),
}


def test_a_comparison_is_a_difference_above_zero() -> None:
    text = "model.residual=true > model.residual=false on test_accuracy where model.name=resnet34"
    assert parse_hypothesis(text, FACTORS) == Hypothesis(
        text,
        "test_accuracy",
        ">",
        (
            Term(1, {"model.residual": "true", "model.name": "resnet34"}),
            Term(-1, {"model.residual": "false", "model.name": "resnet34"}),
        ),
        0.0,
    )


def test_a_threshold_is_one_mean_above_a_bound() -> None:
    found = parse_hypothesis("first_epoch_dev_accuracy > 0.9 where model.name=resnet18", FACTORS)
    assert found.metric == "first_epoch_dev_accuracy"
    assert found.terms == (Term(1, {"model.name": "resnet18"}),)
    assert found.bound == 0.9


def test_an_interaction_is_a_difference_of_differences() -> None:
    text = """
      (model.residual=true - model.residual=false where model.name=resnet34)
      > (model.residual=true - model.residual=false where model.name=resnet18) on dev_accuracy where optimizer=sgd
    """
    signs = {(term.weight, term.levels["model.residual"], term.levels["model.name"]) for term in parse(text).terms}
    assert signs == {
        (1, "true", "resnet34"),
        (-1, "false", "resnet34"),
        (-1, "true", "resnet18"),
        (1, "false", "resnet18"),
    }
    assert all(term.levels["optimizer"] == "sgd" for term in parse(text).terms)


def test_a_difference_may_have_a_least_size() -> None:
    found = parse("(model.residual=true - model.residual=false) > 0.05 on test_accuracy")
    assert [term.weight for term in found.terms] == [1, -1]
    assert found.bound == 0.05


def test_equivalence_and_levels_of_several_words() -> None:
    found = parse('optimizer="no (momentum) on x" ~ model.hidden=[256, 128] on train_seconds')
    assert found.relation == "~"
    assert found.terms[0].levels == {"optimizer": "no (momentum) on x"}
    assert found.terms[1].levels == {"model.hidden": "[256, 128]"}


def test_zipped_factors_and_conjunctions() -> None:
    found = parse("data.batch_size, optimizer.lr=64,0.05 and optimizer=sgd < 0.5 on dev_accuracy")
    assert found.terms == (Term(1, {"data.batch_size, optimizer.lr": "64,0.05", "optimizer": "sgd"}),)
    assert found.relation == "<"


def parse(text: str) -> Hypothesis:
    return parse_hypothesis(text, FACTORS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected FACTOR=LEVEL, a metric or a number, got the end"),
        ("steps", "expected >, <, ~ or beats, got 'the end'"),
        ("steps = 3", "expected >, <, ~ or beats, got '='"),
        ("steps >= 3", "expected >, <, ~ or beats, got '>='"),
        ("steps > many", "expected FACTOR=LEVEL or a number, got 'many'"),
        ("steps > nan", "expected FACTOR=LEVEL or a number, got 'nan'"),
        ("steps > optimizer=sgd", "steps is compared with a number"),
        ("optimizer=sgd > optimizer=adam", "expected the metric, as in `on test_accuracy`, got the end"),
        ("optimizer=sgd beats 0.9 on test_accuracy", "beats compares levels"),
        ("test_accuracy beats 0.9", "beats compares levels"),
        ("optimizer=sgd > optimizer=sgd on steps", "both sides are the same"),
        ("(optimizer=sgd - optimizer=sgd) > 1 on steps", "both sides of a difference are the same"),
        ("(optimizer=sgd > 1 on steps", "expected a difference, as in `(A=x - A=y)`, got '>'"),
        ("(optimizer=sgd - optimizer=adam > 1 on steps", "expected a closing parenthesis, got '>'"),
        (
            "optimiser=sgd > 1 on steps",
            "no such factor 'optimiser'; did you mean optimizer? There are model.residual,",
        ),
        ("optimizer=adan > 1 on steps", "optimizer has no level 'adan'; did you mean adam? There are sgd, adam, no "),
        ("optimizer=sgd and optimizer=adam > 1 on steps", "optimizer can't be sgd and adam at once"),
        ("steps > 1 where", "expected FACTOR=LEVEL, a metric or a number, got the end"),
        ("steps > 1 where sgd", "expected FACTOR=LEVEL, got 'sgd'"),
        ("steps > 1 where optimizer=sgd on steps", "'on steps' is left over"),
    ],
)
def test_what_is_no_hypothesis_says_why(text: str, message: str) -> None:
    with pytest.raises(HypothesisError) as caught:
        parse(text)
    assert str(caught.value).startswith(message)


def test_strata_compare_like_with_like() -> None:
    product = {
        f"{name} {residual}": {"model.name": name, "model.residual": residual}
        for name in ("resnet18", "resnet34")
        for residual in ("true", "false")
    }
    effect = parse("model.residual=true > model.residual=false on test_accuracy")
    assert effect.strata(product) == [
        (("resnet18 true",), ("resnet18 false",)),
        (("resnet34 true",), ("resnet34 false",)),
    ]

    del product["resnet34 false"]
    assert effect.strata(product) == [(("resnet18 true",), ("resnet18 false",))]

    level = parse("steps > 1 where model.residual=true")
    assert level.strata(product) == [(("resnet18 true",),), (("resnet34 true",),)]


def test_an_interaction_has_no_stratum_where_one_of_its_four_cells_is_missing() -> None:
    cells = {
        "a": {"model.name": "resnet18", "model.residual": "true"},
        "b": {"model.name": "resnet18", "model.residual": "false"},
        "c": {"model.name": "resnet34", "model.residual": "true"},
    }
    text = """(model.residual=true - model.residual=false where model.name=resnet34)
      > (model.residual=true - model.residual=false where model.name=resnet18) on steps"""
    assert parse(text).strata(cells) == []
    cells["d"] = {"model.name": "resnet34", "model.residual": "false"}
    assert parse(text).strata(cells) == [(("c",), ("d",), ("a",), ("b",))]


def on(metric: str, relation: str = "beats") -> Hypothesis:
    return directed(parse(f"optimizer=sgd {relation} optimizer=adam on {metric}"), lab_metrics())


@pytest.mark.parametrize(
    ("metric", "relation"),
    [("test_accuracy", ">"), ("test_loss", "<"), ("dev_calibration_error", "<"), ("train_images_per_second", ">")],
)
def test_to_beat_is_to_be_better_in_the_direction_of_the_metric(metric: str, relation: str) -> None:
    assert on(metric).relation == relation
    assert on(metric).terms == (Term(1, {"optimizer": "sgd"}), Term(-1, {"optimizer": "adam"}))


def test_greater_and_less_stay_numeric_whatever_is_better() -> None:
    assert (on("test_loss", ">").relation, on("test_loss", "<").relation) == (">", "<")


@pytest.mark.parametrize(
    ("metric", "rule"),
    [
        ("accuracy", "no such metric 'accuracy'; did you mean"),
        ("step", "no such metric 'step'; did you mean steps?"),
        ("selected_epoch", "nothing beats on selected_epoch: neither direction of it is better; write > or <"),
    ],
)
def test_a_metric_that_is_none_or_has_no_direction_is_refused(metric: str, rule: str) -> None:
    with pytest.raises(HypothesisError, match=rule):
        on(metric)
