"""What a grid means: cells, labels, trials, baselines, plans, tuning, exclusions, includes."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bench.grid.load import GridError, Plan, load_plan
from lab.settings import Section, parse_section

GRIDS = sorted(path for path in (Path(__file__).parents[1] / "grids").rglob("*.yaml") if path.parent.name != "own")
BASE = """\
question: Why?
base:
  data: {name: digits}
  model: {name: resnet18, width: 16}
  optimizer: {name: sgd, lr: 0.1}
  train: {epochs: 1}
"""
TOGGLES = "factors: {model.residual: [true, false], model.batch_norm: [true, false], data.augment: [shift, none]}\n"
BASELINE = "baseline: {model.residual: true, model.batch_norm: true, data.augment: shift}\n"

Load = Callable[..., Plan]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a grid given as text."""

    def load(text: str, name: str = "grid.yaml") -> Plan:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return load_plan(path)

    return load


def model(**raw: object) -> Section:
    return parse_section("model", raw)


def labels(plan: Plan) -> list[str]:
    return [cell.label for cell in plan.cells]


# --- trials and names -----------------------------------------------------------------------------------------------


def test_a_plan_is_every_cell_with_every_seed(load: Load) -> None:
    plan = load(BASE + "factors: {model.name: [resnet18, resnet34], optimizer.lr: [1e-3, 0.1]}\nseeds: 2\n")

    assert labels(plan) == [
        "name=resnet18 lr=1e-3",
        "name=resnet18 lr=0.1",
        "name=resnet34 lr=1e-3",
        "name=resnet34 lr=0.1",
    ]
    assert [(trial.cell.label, trial.seed) for trial in plan.trials] == list(itertools.product(labels(plan), [0, 1]))
    first = plan.trials[0]
    assert first.settings.flat()["model.name"] == "resnet18"
    assert first.settings.flat()["optimizer.lr"] == 0.001
    assert first.trial_id == first.settings.trial_id
    assert len({trial.trial_id for trial in plan.trials}) == 8
    assert (first.grid, first.tuned, first.stage) == ("grid", {}, "final")


def test_seeds_are_three_by_default_or_as_listed(load: Load) -> None:
    assert [trial.seed for trial in load(BASE).trials] == [0, 1, 2]
    assert [trial.seed for trial in load(BASE + "seeds: [7, 3]\n").trials] == [7, 3]


def test_a_grid_without_factors_is_one_cell(load: Load) -> None:
    assert labels(load(BASE)) == ["base"]


def test_the_name_is_the_path_below_grids_or_the_stem_or_as_given(load: Load) -> None:
    assert load(BASE, "mine.yaml").name == "mine"
    assert load(BASE, "grids/batch_norm.yaml").name == "batch_norm"
    assert load(BASE, "grids/full/batch_norm.yaml").name == "full-batch_norm"
    assert load(BASE + "name: other\n", "grids/full/batch_norm.yaml").name == "other"


def test_an_ambiguous_last_part_makes_labels_show_whole_paths(load: Load) -> None:
    plan = load(BASE + "factors: {data.name: [digits, mnist], model.name: [resnet18], train.epochs: [1]}\n")
    assert labels(plan)[0] == "data.name=digits model.name=resnet18 epochs=1"


# --- factors --------------------------------------------------------------------------------------------------------


def test_labelled_levels_of_a_section_replace_it_whole(load: Load) -> None:
    plan = load(BASE + "factors: {model: {thin: {name: mlp, hidden: [8]}, conv: {name: lenet}}}\nseeds: 1\n")

    assert labels(plan) == ["model=thin", "model=conv"]
    assert [trial.settings.model for trial in plan.trials] == [model(name="mlp", hidden=[8]), model(name="lenet")]


def test_a_list_of_sections_is_labelled_by_name(load: Load) -> None:
    plan = load(BASE + "factors: {optimizer: [{name: sgd, lr: 1}, {name: adam, lr: 1e-3}]}\n")
    assert plan.factors[0].levels == ("sgd", "adam")


def test_a_section_level_without_a_name_changes_only_what_it_says(load: Load) -> None:
    plan = load(BASE + "factors: {model: {thin: {width: 4}, plain: {residual: false}}}\nseeds: 1\n")

    thin, unlike = (trial.settings.model for trial in plan.trials)
    assert thin == model(name="resnet18", width=4)
    assert unlike == model(name="resnet18", width=16, residual=False)


def test_labelled_values_of_one_setting(load: Load) -> None:
    plan = load(BASE + "factors: {model.width: {narrow: 4, wide: 32}}\nbaseline: {model.width: 32}\nseeds: 1\n")

    assert labels(plan) == ["width=narrow", "width=wide"]
    assert [trial.settings.flat()["model.width"] for trial in plan.trials] == [4, 32]
    assert plan.baseline == {"model.width": "wide"}


def test_zipped_settings_go_together(load: Load) -> None:
    text = "factors: {'data.batch_size,optimizer.lr': [[64, 0.05], [256, 0.2]]}\nseeds: 1\n"
    plan = load(BASE + text + "baseline: {'data.batch_size, optimizer.lr': [256, 0.2]}\n")

    assert plan.factors[0].name == "data.batch_size, optimizer.lr"
    assert labels(plan) == ["batch_size,lr=64,0.05", "batch_size,lr=256,0.2"]
    assert plan.baseline == {"data.batch_size, optimizer.lr": "256,0.2"}
    found = [trial.settings.flat() for trial in plan.trials]
    assert [(flat["data.batch_size"], flat["optimizer.lr"]) for flat in found] == [(64, 0.05), (256, 0.2)]


def test_a_free_factor_sets_several_settings_and_sections_together(load: Load) -> None:
    recipe = "{plain: {model.residual: false, optimizer.lr: 0.01}, modern: {optimizer: {name: adam, lr: 0.001}}}"
    plan = load(BASE + f"factors: {{recipe: {recipe}}}\nseeds: 1\n")

    plain, modern = (trial.settings for trial in plan.trials)
    assert labels(plan) == ["recipe=plain", "recipe=modern"]
    assert (plain.flat()["model.residual"], plain.flat()["optimizer.lr"]) == (False, 0.01)
    assert (modern.flat()["model.residual"], modern.optimizer) == (
        True,
        parse_section("optimizer", {"name": "adam", "lr": 0.001}),
    )


def test_single_settings_come_after_whole_sections_with_a_warning(load: Load) -> None:
    factors = "factors: {optimizer.lr: [1, 2], optimizer: {a: {name: sgd, lr: 5}, b: {name: adam}}}\nseeds: 1\n"
    plan = load(BASE + factors)

    assert [trial.settings.flat()["optimizer.lr"] for trial in plan.trials] == [1, 1, 2, 2]
    assert plan.warnings == ("optimizer.lr in the levels of optimizer gives way to the factor optimizer.lr",)


def test_an_off_level_is_dropped_where_there_is_no_such_setting(load: Load) -> None:
    base = BASE.replace(", width: 16", "")
    plan = load(
        base + "factors: {model.name: [lenet, resnet18], model.residual: [true, false]}\nseeds: 1\n"
        "exclude: [{when: {model.name: lenet, model.residual: true}, because: LeNet has no shortcut}]\n"
    )

    assert labels(plan) == ["name=lenet residual=false", "name=resnet18 residual=true", "name=resnet18 residual=false"]
    assert plan.trials[0].settings.model == model(name="lenet")
    assert "model.residual=false means absent where there is no such setting" in plan.warnings[0]


# --- baseline and plans ---------------------------------------------------------------------------------------------


def test_without_a_baseline_the_first_levels_are_it_and_a_given_one_may_omit_factors(load: Load) -> None:
    assert load(BASE + TOGGLES).baseline == {
        "model.residual": "true",
        "model.batch_norm": "true",
        "data.augment": "shift",
    }
    assert load(BASE + TOGGLES + "baseline: {model.residual: false}\n").baseline == {"model.residual": "false"}
    assert load(BASE + TOGGLES + "baseline: {}\n").baseline == {}


def test_one_at_a_time_is_the_baseline_and_each_other_level_alone(load: Load) -> None:
    plan = load(
        BASE + "factors: {model.width: [4, 8, 16], model.residual: [true, false]}\n"
        "baseline: {model.width: 8, model.residual: false}\nplan: one_at_a_time\n"
    )
    assert labels(plan) == [
        "width=8 residual=false",
        "width=4 residual=false",
        "width=16 residual=false",
        "width=8 residual=true",
    ]
    assert plan.kind == "one_at_a_time"


def test_leave_one_out_removes_one_component_at_a_time(load: Load) -> None:
    assert labels(load(BASE + TOGGLES + BASELINE + "plan: leave_one_out\n")) == [
        "residual=true batch_norm=true augment=shift",
        "residual=false batch_norm=true augment=shift",
        "residual=true batch_norm=false augment=shift",
        "residual=true batch_norm=true augment=none",
    ]


def test_add_one_starts_with_nothing_and_ends_with_everything(load: Load) -> None:
    assert labels(load(BASE + TOGGLES + BASELINE + "plan: add_one\n")) == [
        "residual=false batch_norm=false augment=none",
        "residual=true batch_norm=false augment=none",
        "residual=false batch_norm=true augment=none",
        "residual=false batch_norm=false augment=shift",
        "residual=true batch_norm=true augment=shift",
    ]


def test_add_one_of_a_single_component_is_off_and_on(load: Load) -> None:
    text = "factors: {model.residual: [true, false]}\nbaseline: {model.residual: true}\nplan: add_one\n"
    assert labels(load(BASE + text)) == ["residual=false", "residual=true"]


# --- same experiments -----------------------------------------------------------------------------------------------


def test_cells_that_are_the_same_experiment_run_once_with_a_warning(load: Load) -> None:
    plan = load(BASE + "factors: {model.stem: {published: imagenet, other: imagenet, small: cifar}}\nseeds: 2\n")

    assert labels(plan) == ["stem=published", "stem=small"]
    assert len(plan.trials) == 4
    assert plan.warnings == ("`stem=other` is the same experiment as `stem=published`: run once, shown as the latter",)


def test_of_the_same_experiments_the_baseline_is_shown(load: Load) -> None:
    plan = load(BASE + "factors: {model.stem: {published: imagenet, other: imagenet}}\nbaseline: {model.stem: other}\n")
    assert labels(plan) == ["stem=other"]


# --- exclude and include --------------------------------------------------------------------------------------------


def test_excluded_cells_are_listed_with_their_reason(load: Load) -> None:
    plan = load(
        BASE + "factors: {model.width: [4, 8, 16], model.residual: [true, false]}\n"
        "exclude:\n  - {when: {model.width: [8, 16], model.residual: false}, because: known to fail}\n"
    )
    assert labels(plan) == [
        "width=4 residual=true",
        "width=4 residual=false",
        "width=8 residual=true",
        "width=16 residual=true",
    ]
    assert [(excluded.cell.label, excluded.because) for excluded in plan.excluded] == [
        ("width=8 residual=false", "known to fail"),
        ("width=16 residual=false", "known to fail"),
    ]


def test_a_plan_without_its_baseline_cell_says_so(load: Load) -> None:
    plan = load(
        BASE + "factors: {model.width: [4, 8], model.residual: [true, false]}\n"
        "exclude: [{when: {model.width: 4, model.residual: true}, because: x}]\n"
    )
    assert plan.warnings == ("no cell has all the levels of the baseline",)


def test_include_adds_cells_over_base_alone(load: Load) -> None:
    plan = load(
        BASE + "factors: {model: {small: {name: resnet10, width: 8}, large: {name: resnet34, width: 8}}, "
        "optimizer.lr: [0.1, 0.2]}\nseeds: 1\n"
        "include:\n  - {model: {name: mlp}}\n  - {model: small, optimizer.lr: 0.5}\n  - {train.epochs: 2}\n"
    )
    assert labels(plan)[4:] == ["model=mlp", "model=small lr=0.5", "epochs=2"]
    assert [cell.levels for cell in plan.cells[4:]] == [{"model": "mlp"}, {"model": "small", "optimizer.lr": "0.5"}, {}]
    mlp, small, longer = (trial.settings for trial in plan.trials[4:])
    assert mlp.model == model(name="mlp")
    assert (small.flat()["model.width"], small.flat()["optimizer.lr"]) == (8, 0.5)
    assert (longer.flat()["model.name"], longer.flat()["model.width"]) == ("resnet18", 16)
    assert plan.factors[0].levels == ("small", "large")


def test_an_included_section_is_itself_and_not_the_level_of_its_name(load: Load) -> None:
    factors = "factors: {optimizer: [{name: sgd, lr: 1}, {name: adam, lr: 1}], model.width: [4, 8]}\nseeds: 1\n"
    plan = load(BASE + factors + "include: [{optimizer: {name: sgd, lr: 2}}, {optimizer: {name: adam, lr: 1}}]\n")
    assert labels(plan)[4:] == ["optimizer=sgd", "optimizer=adam"]
    assert [trial.settings.optimizer.lr for trial in plan.trials[4:]] == [2, 1]

    with pytest.raises(GridError, match="`optimizer=sgd` would be two cells with other settings"):
        load(BASE + "factors: {optimizer: [{name: sgd, lr: 1}]}\ninclude: [{optimizer: {name: sgd, lr: 2}}]\n")


# --- tune -----------------------------------------------------------------------------------------------------------

TUNED = BASE + "factors: {model.residual: [true, false]}\ntune: {optimizer.lr: [0.1, 1e-2]}\nseeds: 3\n"


def test_every_cell_gets_the_same_candidates_on_seeds_that_are_not_reported(load: Load) -> None:
    plan = load(TUNED)

    expected = itertools.product(["residual=true", "residual=false"], [0.1, 0.01], [10_000, 10_001, 10_002])
    assert [(t.cell.label, t.tuned["optimizer.lr"], t.seed) for t in plan.trials] == list(expected)
    assert all(trial.settings.flat()["optimizer.lr"] == trial.tuned["optimizer.lr"] for trial in plan.trials)
    assert {trial.stage for trial in plan.trials} == {"tune"}
    assert plan.tune == {"optimizer.lr": (0.1, 0.01)}
    final = plan.final_trials({trial.trial_id: 1.0 for trial in plan.trials})
    assert {trial.seed for trial in final} == {0, 1, 2}


def test_a_grid_that_asks_for_a_tuning_seed_itself_gets_others(load: Load) -> None:
    plan = load(TUNED.replace("seeds: 3", "seeds: [10000, 7]") + "tune_seeds: 2\n")
    assert (plan.seeds, plan.tune_seeds) == ((10_000, 7), (10_001, 10_002))


def test_several_tuned_settings_are_tried_in_every_combination(load: Load) -> None:
    plan = load(BASE + "tune: {optimizer.lr: [0.1, 1], data.batch_size: [8, 16, 32]}\nseeds: 1\n")
    assert len({(trial.tuned["optimizer.lr"], trial.tuned["data.batch_size"]) for trial in plan.trials}) == 6


def test_the_best_mean_on_dev_wins_and_only_it_gets_the_grids_seeds(load: Load) -> None:
    plan = load(TUNED + "tune_seeds: 2\n")
    assert len(plan.trials) == 2 * 2 * 2
    # with shortcuts: means 0.75 and 0.70; without: means 0.4 and 0.6
    dev = [0.9, 0.6, 0.7, 0.7, 0.4, 0.4, 0.5, 0.7]
    accuracies = {trial.trial_id: value for trial, value in zip(plan.trials, dev, strict=True)}

    winners = {label: trial.tuned for label, trial in plan.winners(accuracies).items()}
    final = plan.final_trials(accuracies)

    assert winners == {"residual=true": {"optimizer.lr": 0.1}, "residual=false": {"optimizer.lr": 0.01}}
    assert [(t.cell.label, t.tuned["optimizer.lr"], t.seed, t.stage) for t in final] == [
        *(("residual=true", 0.1, seed, "final") for seed in range(3)),
        *(("residual=false", 0.01, seed, "final") for seed in range(3)),
    ]
    assert [trial.trial_id for trial in final] == [trial.settings.trial_id for trial in final]
    assert not {trial.trial_id for trial in final} & accuracies.keys()


def test_the_words_for_pairing_and_for_untrained_trials(load: Load) -> None:
    assert (load(BASE).pair, load(BASE).untrained) == ("seed", "apart")
    plan = load(BASE + "pair: none\nuntrained: 0.25\n")
    assert (plan.pair, plan.untrained) == ("none", 0.25)
    assert load(BASE + "untrained: chance\n").untrained == "chance"


def test_trained_is_a_metric_of_hypotheses(load: Load) -> None:
    texts = "factors: {model.width: [4, 8]}\nhypotheses:\n"
    texts += "  - model.width=8 beats model.width=4 on trained\n  - trained > 0.9 where model.width=8\n"
    first, second = load(BASE + texts).hypotheses
    assert (first.metric, first.relation, second.metric, second.bound) == ("trained", ">", "trained", 0.9)


def test_a_cell_waits_for_all_its_candidates(load: Load) -> None:
    plan = load(TUNED + "tune_seeds: 2\n")
    ended = {trial.trial_id: 0.5 for trial in plan.trials[:-1]}
    assert plan.winners(ended).keys() == {"residual=true"}


def test_a_failed_trial_counts_as_zero_and_ties_go_to_the_earlier_candidate(load: Load) -> None:
    plan = load(TUNED + "tune_seeds: 2\n")
    accuracies: dict[str, float | None] = dict(
        zip((trial.trial_id for trial in plan.trials), [0.99, None, 0.5, 0.5, None, None, None, None], strict=True)
    )
    assert {label: trial.tuned for label, trial in plan.winners(accuracies).items()} == {
        "residual=true": {"optimizer.lr": 0.01}  # 0.5 on both seeds beats 0.99 on one of two
    }
    assert plan.winners({trial.trial_id: 0.5 for trial in plan.trials})["residual=true"].tuned == {"optimizer.lr": 0.1}


def test_equal_scores_tie_in_whatever_order_the_seeds_come(load: Load) -> None:
    plan = load(TUNED + "tune_seeds: 3\n")
    # 0.1 + 0.2 + 0.3 is 0.6000000000000001 in floats, 0.3 + 0.2 + 0.1 is 0.6: the earlier candidate wins both ways
    for first, second in (([0.1, 0.2, 0.3], [0.3, 0.2, 0.1]), ([0.3, 0.2, 0.1], [0.1, 0.2, 0.3])):
        accuracies = dict(zip((t.trial_id for t in plan.trials), [*first, *second] * 2, strict=True))
        assert {trial.tuned["optimizer.lr"] for trial in plan.winners(accuracies).values()} == {0.1}


def test_tuning_that_merges_cells_is_refused(load: Load) -> None:
    base = BASE.replace("name: resnet18, width: 16", "name: lenet")
    with pytest.raises(GridError, match="is the same experiment as") as caught:
        load(base + "factors: {data.size: [null, 32]}\ntune: {model.name: [lenet, resnet18]}\n")
    assert "tune: `size=32` with model.name=" in str(caught.value)


# --- hypotheses, margin, document -----------------------------------------------------------------------------------


def test_hypotheses_are_parsed_over_factors_and_included_levels(load: Load) -> None:
    plan = load(
        BASE.replace(", width: 16", "") + "factors: {model.name: [resnet18, resnet34]}\ninclude: [{model.name: mlp}]\n"
        "hypotheses: [model.name=resnet18 > model.name=mlp on test_accuracy]\nmargin: 0.02\n"
    )
    assert [term.levels for term in plan.hypotheses[0].terms] == [{"model.name": "resnet18"}, {"model.name": "mlp"}]
    assert plan.margin == 0.02


def test_a_hypothesis_that_no_cells_can_answer_is_called_out(load: Load) -> None:
    hypothesis = "model.residual=false > model.residual=true on steps where model.batch_norm=false"
    plan = load(BASE + TOGGLES + BASELINE + f"plan: leave_one_out\nhypotheses: [{hypothesis}]\n")
    assert plan.warnings == (f"`{hypothesis}` can't be judged: no cells of the plan differ in just that",)


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: "-".join(path.parts[-2:]))
def test_every_shipped_grid_loads_is_short_and_comes_back_from_its_own_text(path: Path, tmp_path: Path) -> None:
    plan = load_plan(path)

    lines = path.read_text().splitlines()
    header = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    assert 15 <= len(lines) <= 40
    assert header[0].startswith("# yaml-language-server: $schema=")
    assert any(line.startswith("# Cost: ") for line in header)
    assert any(line.startswith("# Claimed") for line in header)
    assert not plan.warnings
    assert plan.hypotheses
    assert plan.trials
    copy = tmp_path / "grid.yaml"
    copy.write_text(plan.text)
    assert load_plan(copy) == plan


def test_there_are_no_two_shipped_grids_of_one_name() -> None:
    assert len(GRIDS) >= 9
    assert len({load_plan(path).name for path in GRIDS}) == len(GRIDS)


def test_the_main_grid_is_the_designs() -> None:
    plan = load_plan(next(path for path in GRIDS if path.parts[-2:] == ("grids", "residual_vs_plain.yaml")))
    assert (len(plan.cells), len(plan.trials)) == (8, 40)
    assert labels(plan)[0] == "name=resnet18 residual=true batch_norm=true"


def test_document_is_plain_data_that_is_the_same_grid(load: Load) -> None:
    plan = load(TUNED)
    again = load(yaml.safe_dump(plan.document), "copy.yaml")
    assert again.document == plan.document
    assert [trial.trial_id for trial in again.trials] == [trial.trial_id for trial in plan.trials]


# --- speed ----------------------------------------------------------------------------------------------------------


def test_a_thousand_cells_of_ten_seeds_plan_within_two_seconds_without_torch(tmp_path: Path) -> None:
    levels = [[4 * n for n in range(1, 11)], [n / 100 for n in range(1, 11)], [2**n for n in range(10)]]
    paths = ["model.width", "optimizer.lr", "data.batch_size"]
    factors = "".join(f"  {path}: {values}\n" for path, values in zip(paths, levels, strict=True))
    (tmp_path / "big.yaml").write_text(f"{BASE}factors:\n{factors}seeds: 10\n")
    code = (
        "import sys; from pathlib import Path; from bench.grid.load import load_plan\n"
        "plan = load_plan(Path('big.yaml')); print(len(plan.cells), len(plan.trials), 'torch' in sys.modules)"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[1])}
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert done.stdout.split() == ["1000", "10000", "False"], done.stderr
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 2
