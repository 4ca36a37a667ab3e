"""--set, --only and --seeds: typed and checked like the file, and the result is a grid again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.grid.load import GridError, Plan, load_plan

GRID = """\
question: Why?
base:
  data: {name: digits}
  model: {name: resnet18, width: 16}
  optimizer: {name: sgd, lr: 0.1}
  train: {epochs: 5}
factors:
  model.name: [resnet18, resnet34]
  model.residual: [true, false]
seeds: 5
baseline: {model.name: resnet18, model.residual: true}
exclude:
  - {when: {model.name: resnet34, model.residual: false}, because: hopeless}
hypotheses:
  - model.residual=true > model.residual=false on test_accuracy
  - model.name=resnet18 > model.name=resnet34 on train_seconds
"""
Change = Callable[..., Plan]


@pytest.fixture
def change(tmp_path: Path) -> Change:
    """Loads the grid with options, and again from the text of the plan: both are the same plan but for warnings."""

    def change(
        *overrides: str, only: list[str] | None = None, seeds: int | None = None, edit: Callable[[str], str] = str
    ) -> Plan:
        path = tmp_path / "grid.yaml"
        path.write_text(edit(GRID))
        plan = load_plan(path, overrides=overrides, only=only or [], seeds=seeds)
        (tmp_path / "again.yaml").write_text(plan.text)
        again = load_plan(tmp_path / "again.yaml")
        assert (again.cells, again.trials, again.factors) == (plan.cells, plan.trials, plan.factors)
        assert (again.baseline, again.hypotheses, again.excluded) == (plan.baseline, plan.hypotheses, plan.excluded)
        assert (again.name, again.document, again.text) == (plan.name, plan.document, plan.text)
        return plan

    return change


def labels(plan: Plan) -> list[str]:
    return [cell.label for cell in plan.cells]


def test_set_replaces_a_value_of_base(change: Change) -> None:
    plan = change("train.epochs=1", "train.label_smoothing=1e-1", "data.limit=null")
    assert {trial.settings.train.epochs for trial in plan.trials} == {1}
    assert {trial.settings.train.label_smoothing for trial in plan.trials} == {0.1}
    assert len(plan.cells) == 3


def test_set_with_several_values_makes_a_factor(change: Change) -> None:
    plan = change("model.width=8,16")
    assert plan.factors[-1].name == "model.width"
    assert plan.factors[-1].levels == ("8", "16")
    assert plan.baseline == {"model.name": "resnet18", "model.residual": "true", "model.width": "8"}
    assert len(plan.cells) == 6


def test_set_takes_lists_and_sections(change: Change) -> None:
    plan = change("model.name=mlp", "optimizer={name: adam, lr: 0.001, betas: [0.8, 0.9]}", "model={name: mlp}")
    assert {trial.settings.optimizer.name for trial in plan.trials} == {"adam"}
    assert {trial.settings.flat()["model.name"] for trial in plan.trials} == {"mlp"}


def test_set_replaces_the_levels_of_a_factor_and_what_was_said_of_them(change: Change) -> None:
    plan = change("model.name=resnet10,resnet18")

    assert plan.factors[0].levels == ("resnet10", "resnet18")
    assert plan.baseline["model.name"] == "resnet18"
    assert [hypothesis.metric for hypothesis in plan.hypotheses] == ["test_accuracy"]
    assert plan.excluded == ()
    [warning] = plan.warnings
    assert warning.startswith("--set model.name=resnet10,resnet18: leaves out the hypothesis 'model.name=resnet18 > ")


def test_set_with_one_value_fixes_a_factor_and_moves_the_baseline(change: Change) -> None:
    plan = change("model.residual=false")
    assert labels(plan) == ["name=resnet18 residual=false"]
    assert plan.baseline == {"model.name": "resnet18", "model.residual": "false"}
    assert "--set model.residual=false: the baseline is model.residual=false" in plan.warnings


def test_set_prunes_listed_levels_of_an_exclusion(change: Change) -> None:
    def edit(grid: str) -> str:
        return grid.replace("model.name: resnet34, model.residual: false", "model.name: [resnet18, resnet34]")

    plan = change("model.name=resnet10,resnet34", edit=edit)
    assert [excluded.cell.levels["model.name"] for excluded in plan.excluded] == ["resnet34", "resnet34"]


def test_set_picks_labelled_levels_and_adds_none(change: Change) -> None:
    def edit(grid: str) -> str:
        levels = "{thin: {name: resnet18, width: 8}, wide: {name: resnet18}, fc: {name: mlp}}"
        return grid.partition("factors:")[0] + f"factors: {{model: {levels}}}\ninclude: [{{model: wide}}]\n"

    plan = change("model=fc,thin", edit=edit)
    assert labels(plan) == ["model=fc", "model=thin"]
    with pytest.raises(GridError, match="--set model=huge: model has no level huge; there are thin, wide, fc"):
        change("model=huge", edit=edit)


def test_set_takes_new_levels_of_a_whole_section(change: Change) -> None:
    def edit(grid: str) -> str:
        return grid.partition("factors:")[0] + "factors: {optimizer: [{name: sgd, lr: 1}, {name: adam, lr: 2}]}\n"

    plan = change("optimizer={name: sgd, lr: 9},{name: momentum, lr: 8}", edit=edit)
    assert labels(plan) == ["optimizer=sgd", "optimizer=momentum"]
    assert [trial.settings.optimizer.lr for trial in plan.trials if trial.seed == 0] == [9, 8]


def test_set_of_a_setting_in_replaced_sections_still_counts(change: Change) -> None:
    def edit(grid: str) -> str:
        return grid.partition("factors:")[0] + "factors: {optimizer: [{name: sgd, lr: 1}, {name: adam, lr: 2}]}\n"

    plan = change("optimizer.lr=0.5", edit=edit)
    assert {trial.settings.optimizer.lr for trial in plan.trials} == {0.5}
    assert labels(plan) == ["optimizer=sgd lr=0.5", "optimizer=adam lr=0.5"]


def test_set_replaces_candidates(change: Change) -> None:
    plan = change("optimizer.lr=1,2,3", edit=lambda grid: grid + "tune: {optimizer.lr: [0.1, 0.2]}\n")
    assert plan.tune == {"optimizer.lr": (1, 2, 3)}


def test_set_picks_zipped_levels_by_label(change: Change) -> None:
    def edit(grid: str) -> str:
        levels = "[[64, 0.05], [256, 0.2]]"
        return grid.partition("factors:")[0] + f"factors: {{'data.batch_size, optimizer.lr': {levels}}}\n"

    plan = change("data.batch_size, optimizer.lr=256,0.2", edit=edit)
    assert labels(plan) == ["batch_size,lr=256,0.2"]


def test_only_keeps_cells_and_their_labels(change: Change) -> None:
    plan = change(only=["model.residual=true"])
    assert labels(plan) == ["name=resnet18 residual=true", "name=resnet34 residual=true"]
    assert plan.baseline == {"model.name": "resnet18", "model.residual": "true"}
    assert {excluded.because for excluded in plan.excluded} == {"--only model.residual=true", "hopeless"}


def test_only_takes_several_levels_and_combines(change: Change) -> None:
    assert len(change(only=["model.name=resnet18,resnet34"]).cells) == 3
    assert labels(change(only=["model.name=resnet34", "model.residual=true"])) == ["name=resnet34 residual=true"]


def test_only_reaches_included_cells(change: Change) -> None:
    def edit(grid: str) -> str:
        return grid.replace(", width: 16", "") + "include: [{model.name: mlp}, {train.epochs: 9}]\n"

    assert labels(change(only=["model.name=mlp"], edit=edit)) == ["name=mlp"]
    assert "epochs=9" not in labels(change(only=["model.name=resnet18"], edit=edit))


def test_only_and_set_combine(change: Change) -> None:
    plan = change("model.width=4,8", only=["model.width=8", "model.residual=false"])
    assert labels(plan) == ["name=resnet18 residual=false width=8"]


def test_seeds_counts_from_zero_and_leaves_tuning_its_own(change: Change) -> None:
    assert change(seeds=2).seeds == (0, 1)
    plan = change(seeds=1, edit=lambda grid: grid + "tune: {optimizer.lr: [0.1, 0.2]}\ntune_seeds: 2\n")
    assert (plan.seeds, plan.tune_seeds, plan.warnings) == ((0,), (10_000, 10_001), ())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.widht=8", "no such setting of resnet18; did you mean width?"),
        ("modle.width=8", "no such section 'modle'; did you mean model?"),
        ("width=8", "must be a setting's dotted path such as model.width or a section; did you mean model.width?"),
        ("train.epochs=many", "must be integer > 0, got 'many'"),
        ("model.width=8,-8", "must be integer > 0, got -8"),
        ("model.residual=maybe", "must be true or false, got 'maybe'"),
        ("model.width=8,8", "two levels are called 8"),
        ("model=lenet", "base.model: must be a mapping of settings, got lenet"),
        ("seeds=3", "replicates are no setting; they stand under `seeds` (option --seeds)"),
        ("train.epochs", "must be key=value, such as train.epochs=1"),
        ("train.epochs=", "must be key=value, such as train.epochs=1"),
        ("=1", "must be key=value, such as train.epochs=1"),
        ("train.epochs=[1", "not valid YAML: did not find expected ',' or ']' while parsing a flow sequence"),
        ("train.epochs=!!int 1", "a tag such as !!int is not allowed"),
    ],
)
def test_a_wrong_set_names_the_option(option: str, message: str, change: Change) -> None:
    with pytest.raises(GridError) as caught:
        change(option)
    [found] = caught.value.messages
    assert found.startswith(f"--set {option}: {message}")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.residual=maybe", "model.residual has no level maybe; there are true, false"),
        ("model.residul=true", "no such factor; did you mean model.residual? There are model.name, model.residual"),
        ("model.residual", "must be key=value"),
    ],
)
def test_a_wrong_only_names_the_option(option: str, message: str, change: Change) -> None:
    with pytest.raises(GridError) as caught:
        change(only=[option])
    [found] = caught.value.messages
    assert found.startswith(f"--only {option}: {message}")


def test_options_that_leave_nothing_say_so(change: Change) -> None:
    with pytest.raises(GridError, match="every cell is excluded"):
        change(only=["model.name=resnet34", "model.residual=false"])
    with pytest.raises(GridError, match="--seeds 0: seeds: must be a number of seeds"):
        change(seeds=0)


def test_all_wrong_options_come_at_once(change: Change) -> None:
    with pytest.raises(GridError) as caught:
        change("modle.width=8", "train.epochs=0", only=["model.name=mlp"])
    assert {message.split(": ")[0] for message in caught.value.messages} == {
        "--set modle.width=8",
        "--set train.epochs=0",
        "--only model.name=mlp",
    }
