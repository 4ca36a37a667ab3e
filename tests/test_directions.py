"""Reports in any metric: direction, log scale and real-valued examples; expected numbers from scipy and by hand."""

from __future__ import annotations

import math
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import gmean, ttest_1samp, ttest_rel

from bench.analysis import amounts, verdicts
from bench.analysis.comparison import Comparison
from bench.analysis.findings import effect_tables
from bench.analysis.hypotheses import hypothesis_table
from bench.analysis.learning import default_target, first_reach
from bench.analysis.summaries import outcomes
from bench.analysis.tables import cell_standings, cell_table, pareto
from bench.grid.load import Plan, load_plan
from bench.grid.metrics import Metric, MetricError
from bench.record.records import ENVIRONMENT
from bench.report.numbers import differences
from bench.stats.estimates import Variant, effect, mean_squares

LOSSES = {"1": [0.50, 0.55, 0.61, 0.47], "2": [0.42, 0.44, 0.55, 0.40], "3": [0.90, 1.10, 1.00, 0.95]}
GRID = """
    name: typed
    question: Which depth?
    base: {data: {name: digits}, model: {name: mlp}, optimizer: {name: sgd, lr: 0.1}, train: {epochs: 1}}
    factors: {data.batch_size: [1, 2, 3]}
    seeds: 4
    baseline: {data.batch_size: 1}
"""


def loaded(folder: Path, more: str) -> Plan:
    path = folder / "typed.yaml"
    path.write_text(textwrap.dedent(GRID) + more)
    return load_plan(path)


def rows(plan: Plan, values: dict[str, list[float]], name: str = "test_loss") -> pd.DataFrame:
    trials = []
    for trial in plan.trials:
        value = values[trial.cell.levels["data.batch_size"]][trial.seed]
        trials.append({"trial_id": trial.trial_id, "status": "ok", "error": "", "dev_accuracy": 0.9, name: value})
    return pd.DataFrame(trials).assign(**dict.fromkeys(ENVIRONMENT, ""))


def compared(plan: Plan, values: dict[str, list[float]] = LOSSES, **more: object) -> Comparison:
    return Comparison(plan, outcomes(plan, rows(plan, values, plan.primary.name)), **more)  # type: ignore[arg-type]


def test_where_lower_is_better_the_lower_cell_is_better_and_best(tmp_path: Path) -> None:
    comparison = compared(loaded(tmp_path, "metrics: test_loss\n"))
    (effects,) = effect_tables([comparison])
    assert effects["verdict"].tolist() == ["better", "worse"]
    paired = ttest_rel(LOSSES["2"], LOSSES["1"])
    assert effects["difference"][0] == pytest.approx(np.subtract(LOSSES["2"], LOSSES["1"]).mean())
    assert effects["p"][0] == pytest.approx(paired.pvalue)
    assert effects["difference_low"][0] == pytest.approx(paired.confidence_interval().low)
    assert effects["perplexity_ratio"][0] == pytest.approx(math.exp(effects["difference"][0]))
    assert effects["sentence"][0] == "better by 0.08 nats (perplexity x 0.923)"
    cells = cell_table(comparison)
    assert cell_standings(comparison, cells)[1] == "best"


def test_a_log_scale_compares_by_ratios_of_geometric_means(tmp_path: Path) -> None:
    comparison = compared(loaded(tmp_path, "metrics: {test_loss: {scale: log, margin: 2 %}}\n"))
    (effects,) = effect_tables([comparison])
    ratios = np.log(LOSSES["2"]) - np.log(LOSSES["1"])
    ends = ttest_1samp(ratios, 0.0)
    assert effects["ratio"][0] == pytest.approx(gmean(LOSSES["2"]) / gmean(LOSSES["1"]))
    assert effects["ratio_low"][0] == pytest.approx(math.exp(ends.confidence_interval().low))
    assert effects["ratio_high"][0] == pytest.approx(math.exp(ends.confidence_interval().high))
    assert effects["p"][0] == pytest.approx(ends.pvalue)
    assert effects["sentence"][0] == "better: x 0.85"
    assert cell_table(comparison)["test_loss"].tolist() == pytest.approx([gmean(own) for own in LOSSES.values()])


def test_a_ratio_near_one_has_the_decimals_that_its_interval_needs(tmp_path: Path) -> None:
    plan = loaded(tmp_path, "metrics: {test_loss: {scale: log}}\n")
    ratios = [1.002, 1.003, 1.001, 1.002]
    near = LOSSES | {"2": np.multiply(LOSSES["1"], ratios).tolist()}
    (effects,) = effect_tables([compared(plan, near)])
    low, high = np.exp(ttest_1samp(np.log(ratios), 0.0).confidence_interval())
    shown = differences(effects[:1].assign(difference_seeds=4), plan.primary)
    assert shown.tolist() == [f"x 1.002 ({low:.3f} to {high:.3f})"]


def test_a_value_that_has_no_logarithm_is_refused_with_its_trial(tmp_path: Path) -> None:
    plan = loaded(tmp_path, "metrics: {test_loss: {scale: log}}\n")
    wrong = LOSSES | {"2": [0.4, 0.0, 0.5, 0.4]}
    with pytest.raises(MetricError, match=r"trial \w+ \(batch_size=2, seed 1\): test_loss: .* must be > 0, got 0"):
        compared(plan, wrong)


def test_losses_of_single_examples_give_the_interval_of_the_two_way_layout(tmp_path: Path) -> None:
    plan, rng = loaded(tmp_path, "metrics: test_loss\n"), np.random.default_rng(0)
    image = rng.gamma(2.0, 0.3, 40)
    drawn = {level: image * int(level) + rng.gamma(2.0, 0.1, (4, 40)) for level in LOSSES}
    examples = {t.trial_id: drawn[t.cell.levels["data.batch_size"]][t.seed] for t in plan.trials}
    values = {level: table.mean(1).tolist() for level, table in drawn.items()}
    (effects,) = effect_tables([compared(plan, values, examples={"test_loss": examples})])
    seeds, images, rest = mean_squares(drawn["2"] - drawn["1"])
    width = effects["difference_high"][0] - effects["difference_low"][0]
    assert effects["basis"][0] == "seeds and test set"
    assert width == pytest.approx(2 * _critical(seeds, images, rest) * math.sqrt((seeds + images - rest) / 160))
    logs = loaded(tmp_path, "metrics: {test_loss: {scale: log}}\n")
    (ratios,) = effect_tables([compared(logs, values, examples={"test_loss": examples})])
    assert ratios["basis"][0] == "seeds and test set"
    assert ratios["difference"][0] == pytest.approx(np.mean(np.log(values["2"]) - np.log(values["1"])))


def _critical(seeds: float, images: float, rest: float) -> float:
    from bench.stats.estimates import critical_value

    return float(critical_value(0.05, 3, seeds / (seeds + images - rest)))


def test_hypotheses_know_the_direction_and_say_the_unit(tmp_path: Path) -> None:
    asked = "metrics: test_loss\nhypotheses:\n  - data.batch_size=2 beats data.batch_size=3 on test_loss\n"
    asked += "  - test_loss < 0.6 where data.batch_size=2\n"
    table = hypothesis_table(compared(loaded(tmp_path, asked)))
    assert table["ruling"].tolist() == ["supported", "supported"]
    assert table["evidence"][0].startswith("difference -0.535 nats (95 %: ")
    assert table["evidence"][1].startswith("mean 0.4525 nats (95 %: ")
    table = hypothesis_table(
        compared(loaded(tmp_path, asked.replace("test_loss\nhyp", "{test_loss: {scale: log}}\nhyp")))
    )
    assert table["evidence"][0].startswith("ratio x 0.46 (95 %: ")
    assert table["estimate"].tolist() == pytest.approx([gmean(LOSSES["2"]) / gmean(LOSSES["3"]), gmean(LOSSES["2"])])


def test_secondary_metrics_are_a_family_of_their_own(tmp_path: Path) -> None:
    plan = loaded(tmp_path, "metrics: [test_loss, test_macro_f1]\n")
    trials = rows(plan, LOSSES).assign(test_macro_f1=lambda own: 1 - own["test_loss"] / 2)
    found = outcomes(plan, trials)
    (first,) = effect_tables([Comparison(plan, found)])
    (second,) = effect_tables([Comparison(plan, found, metric=plan.metrics[1])])
    assert first["p_holm"].tolist() == pytest.approx(second["p_holm"].tolist())  # of two effects, not of four
    assert second["verdict"].tolist() == first["verdict"].tolist()  # the direction of each is its own
    assert second["sentence"][0] == "better by 4 points"


def test_where_neither_direction_is_better_a_verdict_says_higher_or_lower() -> None:
    metric, steps = Metric("entropy", "neither", unit="bits"), np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    rise, fall = (effect(Variant(value + steps), Variant(np.zeros(5))) for value in (9.0, -9.0))
    judged = verdicts.judge_effects([rise, fall], [metric, metric])
    assert [one.verdict for one in judged] == ["higher", "lower"]
    assert verdicts.explain(judged[0]) == "higher by 9 bits"
    cells = pd.DataFrame({"entropy": [1.0, 2.0], "cost": [1, 2]})
    assert pareto(cells, metric, "cost", low_is_good=True).empty
    front = pareto(cells, replace(metric, better="lower"), "cost", low_is_good=True)
    assert front["entropy"].tolist() == [1.0]


def test_a_target_is_reached_from_the_better_side(tmp_path: Path) -> None:
    plan = loaded(tmp_path, "metrics: test_loss\n")
    found = outcomes(plan, rows(plan, LOSSES).assign(final_dev_loss=0.3))
    curves = pd.DataFrame({"trial_id": [t.trial_id for t in plan.trials], "step": 0, "dev_loss": 2.3})
    assert default_target(plan, found, curves) == pytest.approx(2.3 - 0.95 * 2.0)
    assert first_reach([0, 10, 20], [2.3, 1.0, 0.3], 0.4, sign=-1) == 20


@pytest.mark.parametrize(
    ("log_ratio", "text"),
    [(math.log(0.934), "0.934"), (math.log(1.0042), "1.0042"), (math.log(12.34), "12.3"), (0.0, "1.00")],
)
def test_ratios_show_two_digits_of_what_tells_them_from_one(log_ratio: float, text: str) -> None:
    assert amounts.ratio(log_ratio) == text
