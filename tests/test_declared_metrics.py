"""The word ``metrics`` of a grid: what is asked about, and what each number means."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.grid.columns import COLUMNS
from bench.grid.load import GridError, load_plan
from bench.grid.metrics import Metric, MetricError, lab_metrics
from bench.grid.plan import Plan, best_candidate
from bench.grid.schema import grid_schema
from lab.scores import Score, ScoreError, declared, named, snake_case

BASE = """question: Why?
base:
  data: {name: digits}
  model: {name: mlp}
  optimizer: {name: sgd, lr: 0.1}
  train: {epochs: 1METRIC}
factors: {model.batch_norm: [true, false]}
"""
SCORES = """
class Nll:
    better = "lower"

class MinusNll:
    better = "higher"
    unit = "nats"

class Silent:
    pass

class Torch:
    higher_is_better = False

class Level:
    better = "neither"

class Typo:
    better = "up"

class Backwards:
    better = "lower"
    range = [1, 0]
"""
Load = Callable[..., Plan]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Reads a grid whose ``train.metric`` is ``metric``, with more lines; ``my_scores`` is importable."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_scores.py").write_text(SCORES)

    def read(more: str = "", metric: str = "") -> Plan:
        train = f", metric: {metric}" if metric else ""
        (tmp_path / "grid.yaml").write_text(BASE.replace("METRIC", train) + more)
        return load_plan(tmp_path / "grid.yaml")

    yield read
    sys.modules.pop("my_scores", None)


def refusal(load: Load, more: str = "", metric: str = "") -> str:
    with pytest.raises(GridError) as caught:
        load(more, metric)
    assert len(caught.value.messages) == 1
    return caught.value.messages[0].partition("grid.yaml:")[2]


# --- what is asked about --------------------------------------------------------------------------------------------


def test_without_metrics_a_grid_is_about_test_accuracy_within_a_point(load: Load) -> None:
    plan = load()
    assert plan.metrics == (Metric("test_accuracy", "higher", unit="%", range=(0.0, 1.0), margin=0.01),)
    assert (plan.primary.name, plan.selecting, plan.margin) == ("test_accuracy", "dev_accuracy", 0.01)


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("metrics: test_loss\n", ["test_loss"]),
        ("metrics: [test_loss, train_seconds]\n", ["test_loss", "train_seconds"]),
        ("metrics: {test_macro_f1: {margin: 0.02}, parameters: {}}\n", ["test_macro_f1", "parameters"]),
    ],
)
def test_a_name_a_list_or_a_mapping_asks_for_metrics_the_first_is_primary(
    load: Load, word: str, names: list[str]
) -> None:
    plan = load(word)
    assert [metric.name for metric in plan.metrics] == names
    assert plan.primary.name == names[0]


def test_asking_for_other_metrics_renames_no_trial(load: Load) -> None:
    asked, plain = load("metrics: [test_loss, dev_macro_f1]\n"), load()
    assert [trial.trial_id for trial in asked.trials] == [trial.trial_id for trial in plain.trials]


def test_what_is_built_in_declares_itself(load: Load) -> None:
    measures = load().measures
    better = {name: (metric.better, metric.scale, metric.unit) for name, metric in measures.items()}
    assert better["test_loss"] == ("lower", "linear", "nats")
    assert better["dev_calibration_error"] == ("lower", "linear", "%")
    assert better["train_images_per_second"] == ("higher", "log", "images/s")
    assert better["peak_memory_bytes"] == ("lower", "log", "bytes")
    assert better["selected_epoch"] == ("neither", "linear", "")
    scores = [metric for name, metric in measures.items() if "dev_" in name and metric.better != "neither"]
    assert [metric.split for metric in scores] == ["dev"] * 12


def test_options_say_what_is_not_declared_and_margins_are_the_metrics_own(load: Load) -> None:
    plan = load("metrics: {test_loss: {scale: log, margin: 2 %, range: [0, null]}, test_accuracy: {margin: 0.005}}\n")
    assert plan.primary == Metric("test_loss", "lower", "log", "nats", (0, None), 0.02)
    assert plan.primary.tolerance == pytest.approx(math.log(1.02))
    assert plan.metrics[1].margin == 0.005


def test_the_margin_of_the_grid_is_that_of_the_primary_metric(load: Load) -> None:
    plan = load("metrics: [test_loss, test_accuracy]\nmargin: 1.5\n")
    assert [metric.margin for metric in plan.metrics] == [1.5, 0.01]
    assert load("metrics: train_seconds\nmargin: 5 %\n").margin == 0.05


# --- a user's own ---------------------------------------------------------------------------------------------------


def test_a_users_metric_is_what_the_grid_is_about_and_selects(load: Load) -> None:
    plan = load(metric='"my_scores:Nll"')
    assert plan.primary == Metric("test_nll", "lower")
    assert (plan.selecting, plan.margin) == ("dev_nll", 0.0)
    assert {"test_nll", "dev_nll", "first_epoch_dev_nll", "test_accuracy"} <= plan.measures.keys()


def test_several_metrics_are_named_by_class_or_key(load: Load) -> None:
    several = load(metric='["my_scores:Nll", "my_scores:MinusNll"]')
    assert (several.primary.name, several.measures["dev_minus_nll"].unit) == ("test_nll", "nats")
    assert load(metric='{likelihood: "my_scores:MinusNll"}').selecting == "dev_likelihood"


def test_another_score_on_dev_can_select(load: Load) -> None:
    plan = load(metric='"my_scores:Nll", select: dev_loss')
    assert (plan.primary.name, plan.selecting) == ("test_nll", "dev_loss")


def test_torchmetrics_direction_counts(load: Load) -> None:
    assert load(metric='"my_scores:Torch"').primary == Metric("test_torch", "lower")


def test_a_direction_that_nobody_declared_is_refused_with_the_line_to_add(load: Load) -> None:
    message = refusal(load, metric='"my_scores:Silent"')
    assert message.startswith(
        "6:30: train.metric: my_scores:Silent does not say which direction is better; add the line"
    )
    assert '`better = "lower"`' in message
    assert "`metrics: {test_silent: {better: lower}}`" in message


@pytest.mark.parametrize("name", ["test_silent", "dev_silent"])
def test_the_grid_may_declare_the_direction_for_a_class_that_says_none(load: Load, name: str) -> None:
    plan = load(f"metrics: {{{name}: {{better: lower}}}}\n", '"my_scores:Silent"')
    assert (plan.primary.name, plan.primary.better, plan.selecting) == (name, "lower", "dev_silent")
    assert {trial.settings.train.better for trial in plan.trials} == {"lower"}


def test_cells_with_different_metrics_need_to_be_told_what_they_are_compared_by(load: Load) -> None:
    factor = 'metrics: test_accuracy\ninclude: [{train.metric: "my_scores:Nll"}]\n'
    assert load(factor).primary.name == "test_accuracy"
    message = refusal(load, factor.partition("\n")[2])
    assert "the trials have different ones, test_accuracy, test_nll; say which is compared" in message


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("metrics:\n", "8:9: metrics: must be a metric's name, a list of names, or a mapping of names to"),
        ("metrics: 3\n", "8:10: metrics: must be a metric's name"),
        ("metrics: [test_loss, [x]]\n", "8:10: metrics: must be a metric's name"),
        ("metrics: test_acc\n", "8:1: metrics.test_acc: the trials report no such number; did you mean"),
        ("metrics: [test_loss, test_loss]\n", "8:22: metrics.test_loss: is repeated"),
        ("metrics: {seed: {better: lower}}\n", "8:11: metrics.seed: is the name of a column of the identity"),
        ("metrics: {threads: {}}\n", "8:11: metrics.threads: is the name of a column of the environment"),
        ("metrics: {model.width: {better: lower}}\n", "8:11: metrics.model.width: is the name of a setting, no metric"),
        ("metrics: {test loss: {}}\n", "8:11: metrics.test loss: a metric's name is one word"),
        ("metrics: {test_loss: lower}\n", "8:22: metrics.test_loss: must be a mapping such as {better: lower}"),
        ("metrics: {test_loss: {bettr: lower}}\n", "8:23: metrics.test_loss.bettr: no such option; did you"),
        ("metrics: {test_loss: {better: up}}\n", "8:31: metrics.test_loss.better: must be higher, lower or"),
        ("metrics: {test_loss: {better: higher}}\n", "8:31: metrics.test_loss.better: is higher here, but"),
        ("metrics: {test_loss: {scale: exp}}\n", "8:30: metrics.test_loss.scale: must be linear or log, got exp"),
        ("metrics: {test_loss: {range: [1, 0]}}\n", "8:30: metrics.test_loss.range: must be two numbers, the"),
        ("metrics: {test_loss: {range: [0, .inf]}}\n", "8:30: metrics.test_loss.range: must be two numbers"),
        ("metrics: {test_loss: {unit: 3}}\n", "8:29: metrics.test_loss.unit: must be a short text, got 3"),
        ("metrics: {test_loss: {split: dev}}\n", "8:30: metrics.test_loss.split: test_loss is of test"),
        ("metrics: {test_loss: {at: last}}\n", "8:27: metrics.test_loss.at: trials are read at the epoch with"),
        ("metrics: {test_loss: {margin: 0}}\n", "8:31: metrics.test_loss.margin: must be a number > 0 in the metric's"),
        ("metrics: {test_loss: {margin: 2 %}}\n", "8:31: metrics.test_loss.margin: must be a number in the"),
        ("metrics: {train_seconds: {margin: 2}}\n", "8:35: metrics.train_seconds.margin: must be a share such as 2 %"),
        ("margin: 2 %\n", "8:9: margin: must be a number in the metric's unit, N % is for a log scale: test_accuracy"),
        ("margin: true\n", "8:9: margin: must be a number > 0"),
        ("hypotheses: [test_nll < 1]\n", "8:14: hypotheses.0: no such metric 'test_nll'; did you mean test_loss?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_where_it_stands(load: Load, more: str, message: str) -> None:
    assert refusal(load, more).startswith(message)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            '"my_scores:Typo"',
            "6:30: train.metric: my_scores:Typo: better must be one of higher, lower, neither, is 'up'",
        ),
        ('"my_scores:Backwards"', "6:30: train.metric: my_scores:Backwards: range must be two numbers"),
        ('"my_scores:Level"', "6:3: train.select: dev_level cannot select an epoch: neither direction of it is better"),
        ('"my_scores:Nll", better: higher', "6:55: train.better: is for a metric that does not say it itself"),
        ('["my_scores:Nll", "my_scores:Nll"]', "6:30: train.metric: must name one metric or several"),
    ],
)
def test_what_a_class_declares_wrongly_is_said_at_its_path(load: Load, metric: str, message: str) -> None:
    assert refusal(load, metric=metric).startswith(message)


# --- a metric's arithmetic ------------------------------------------------------------------------------------------


def test_the_scale_says_how_values_are_compared() -> None:
    seconds = lab_metrics()["train_seconds"]
    assert seconds.compared(np.array([1.0, math.e, np.nan])).tolist()[:2] == [0.0, 1.0]
    with pytest.raises(MetricError, match="train_seconds: a value on a log scale must be > 0, got 0"):
        seconds.compared(np.array([1.0, 0.0]))
    assert lab_metrics()["test_accuracy"].compared(np.array([0.0, 0.5])).tolist() == [0.0, 0.5]


def test_better_is_higher_lower_or_neither() -> None:
    loss, accuracy, epoch = (lab_metrics()[name] for name in ("test_loss", "test_accuracy", "selected_epoch"))
    assert [metric.is_better(1, 2) for metric in (loss, accuracy, epoch)] == [True, False, False]
    assert [metric.word(-0.1) for metric in (loss, accuracy, epoch)] == ["better", "worse", "lower"]


def test_shares_are_shown_in_per_cent_and_points_and_recorded_as_they_are() -> None:
    accuracy, loss = lab_metrics()["test_accuracy"], lab_metrics()["test_loss"]
    assert (accuracy.factor, accuracy.difference_unit, loss.factor, loss.difference_unit) == (100, "points", 1, "nats")
    per_cent = Metric("acc", "higher", unit="%", range=(0, 100))  # recorded in per cent
    assert (per_cent.factor, per_cent.difference_unit) == (1, "points")


def test_a_value_that_is_not_finite_or_out_of_range_breaks_a_rule() -> None:
    accuracy = lab_metrics()["test_accuracy"]
    assert accuracy.problem(1.0) is None
    assert accuracy.problem(1.5) == "test_accuracy must lie in [0, 1], got 1.5"
    assert accuracy.problem(math.nan) == "test_accuracy must be a finite number, got nan"


def test_names_of_classes() -> None:
    names = ["MulticlassF1Score", "AUROC", "Top5Accuracy", "NLLLoss", "nll", "F1"]
    assert [snake_case(name) for name in names] == [
        "multiclass_f1_score", "auroc", "top5_accuracy", "nll_loss", "nll", "f1",
    ]  # fmt: skip
    assert named("torchmetrics.classification:MulticlassF1Score") == {
        "multiclass_f1_score": "torchmetrics.classification:MulticlassF1Score"
    }


def test_a_class_without_any_word_declares_nothing() -> None:
    assert declared(object) == Score(None)
    with pytest.raises(ScoreError, match="unit must be text, is 3"):
        declared(type("M", (), {"better": "lower", "unit": 3}))


# --- tuning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "sign", "best"),
    [
        ([[0.9, 0.6], [0.7, 0.9]], 1, 1),
        ([[0.9, 0.6], [0.7, 0.9]], -1, 0),
        ([[-0.4, -0.5], [-0.2, -0.3]], 1, 1),  # a negative score: the least negative one
        ([[0.99, None], [0.5, 0.5]], 1, 1),  # fewest failures first
        ([[0.1, None], [0.5, 0.5]], -1, 1),
        ([[None, None], [None, 0.2]], 1, 1),
        ([[None], [None]], 1, None),
        ([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]], 1, 0),  # equal whatever the order of seeds: the earlier one
        ([[0.3, 0.2, 0.1], [0.1, 0.2, 0.3]], 1, 0),
    ],
)
def test_the_best_candidate(scores: list[list[float | None]], sign: int, best: int | None) -> None:
    assert best_candidate(scores, sign) == best


# --- columns and schema ---------------------------------------------------------------------------------------------


def test_every_measure_is_a_column_and_a_metric() -> None:
    assert [column.name for column in COLUMNS if column.kind == "measure"] == list(lab_metrics())
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)


def test_an_editors_schema_knows_the_words(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="compares with an independent validator")
    validator = jsonschema.Draft7Validator(grid_schema())
    base = json.loads('{"question": "Why?", "base": {"train": {"epochs": 1}}}')

    def is_valid(more: dict[str, object]) -> bool:
        return bool(validator.is_valid(base | more))

    assert is_valid({"metrics": "test_loss"})
    assert is_valid({"metrics": {"f1": {"better": "higher", "range": [0, 1], "unit": "%"}}, "margin": 0.1})
    assert is_valid({"metrics": ["a", "b"], "margin": "2 %"})
    assert not is_valid({"metrics": {"f1": {"better": "up"}}})
    assert not is_valid({"metrics": {"f1": {"bettr": "lower"}}})
    assert not is_valid({"margin": "2 points"})
