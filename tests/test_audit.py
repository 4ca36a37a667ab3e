"""Is the comparison fair: each inequality has its sentence, and a fair plan has none."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.analysis.audit import audit, audit_recorded
from bench.grid.load import Plan, load_plan

BASE = """
question: Is it fair?
base:
  data: {name: digits}
  model: {name: mlp}
  optimizer: {name: momentum, lr: 0.05}
  train: {epochs: 1}
seeds: 3
"""


def plan(tmp_path: Path, text: str) -> Plan:
    (tmp_path / "fair.yaml").write_text(BASE + text)
    return load_plan(tmp_path / "fair.yaml")


def test_a_fair_plan_has_no_sentence(tmp_path: Path) -> None:
    fair = plan(tmp_path, "factors: {model.batch_norm: [true, false], model.dropout: [0.0, 0.5]}")
    assert audit(fair, {cell.label: (1000 + index, 1000) for index, cell in enumerate(fair.cells)}, 100_000) == []


def test_arms_whose_size_differs_by_more_than_5_percent_are_named(tmp_path: Path) -> None:
    unequal = plan(tmp_path, "factors: {model.hidden: {wide: [64], narrow: [32]}, model.batch_norm: [true, false]}")
    sizes = {"wide": 300, "narrow": 200}
    counts = {c.label: (sizes[c.levels["model.hidden"]], 1050 if "true" in c.label else 1000) for c in unequal.cells}
    assert audit(unequal, counts) == [
        "model.hidden=wide has up to 50% more parameters than narrow: the comparison is also one of size"
    ]


def test_recorded_trials_give_the_counts(tmp_path: Path) -> None:
    unequal = plan(tmp_path, "factors: {model.batch_norm: [true, false]}")
    rows = [(cell.label, 110.0 if "true" in cell.label else 100.0, 7.0) for cell in unequal.cells for _ in range(3)]
    trials = pd.DataFrame([*rows, (unequal.cells[0].label, None, None)], columns=["cell", "parameters", "forward_macs"])
    assert audit_recorded(unequal, trials) == [
        "model.batch_norm=true has up to 10% more parameters than false: the comparison is also one of size"
    ]


def test_factors_that_always_change_together_are_confounded(tmp_path: Path) -> None:
    text = """
factors: {model.batch_norm: [true, false], data.batch_size: [32, 64]}
exclude:
  - when: {model.batch_norm: true, data.batch_size: 64}
    because: of memory
  - when: {model.batch_norm: false, data.batch_size: 32}
    because: of time
"""
    together = "model.batch_norm and data.batch_size always change together: their effects can't be told apart"
    assert audit(plan(tmp_path, text)) == [together]


def test_optimizers_at_one_rate_each_are_called_out_unless_it_is_tuned(tmp_path: Path) -> None:
    text = "factors: {optimizer: {sgd: {name: sgd, lr: 0.1}, adam: {name: adam, lr: 0.001}}}\n"
    assert [sentence[:50] for sentence in audit(plan(tmp_path, text))] == [
        "optimizers are compared at one learning rate each:"
    ]
    assert audit(plan(tmp_path, text + "tune: {optimizer.lr: [0.1, 0.01]}\n")) == []


def test_a_small_dev_set_says_what_it_can_tell(tmp_path: Path) -> None:
    text = "factors: {model.batch_norm: [true, false]}\n"
    [sentence] = audit(plan(tmp_path, text), None, 100)
    assert sentence.startswith("100 dev images and 3 seeds tell differences in dev accuracy from 0.")
    assert sentence.endswith("the margin is 0.01")
    assert audit(plan(tmp_path, text + "margin: 0.5\n"), None, 100) == []
