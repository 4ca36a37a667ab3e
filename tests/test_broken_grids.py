"""Every way to write a wrong grid that we could think of: each ends in its one message, within a second."""

import time
from pathlib import Path

import pytest

from bench.grid.load import GridError, load_plan

BASE = """\
question: Why?
base:
  data: {name: digits}
  model: {name: resnet18, width: 16}
  optimizer: {name: sgd, lr: 0.1}
  train: {epochs: 1}
"""
WIDTHS = "factors: {model.width: [8, 16]}\n"
TOGGLE = "factors: {model.residual: [true, false]}\n"
TWO = "factors: {model.width: [8, 16], model.residual: [true, false]}\n"


def base(old: str, new: str) -> str:
    assert old in BASE
    return BASE.replace(old, new)


# What is wrong: the grid, and how its one message begins (after the file's name). The base has six lines.
BROKEN: dict[str, tuple[str | bytes, str]] = {
    # the text
    "empty": ("", "1:1: the file is empty"),
    "only a comment": ("# nothing\n", "1:1: the file is empty"),
    "not UTF-8": (b"question: caf\xe9\n", "1:14: not UTF-8 text: byte 0xe9"),
    "a control character": ("question: a\x00b\n", "1:12: character U+0000 is not allowed"),
    "too large": ("#" * 1_000_001, "1:1: the file is larger than 1,000,000 bytes"),
    "a list": ("- question\n", "1:1: a grid is a mapping (question: ..., base: ..., factors: ...), got [question]"),
    "a tab": ("base:\n\tmodel: {}\n", "2:1: a tab indents this line; YAML indents with spaces"),
    "a bracket left open": (BASE + "factors: {model.width: [8, 16\n", "8:1: not valid YAML: did not find expected"),
    "a quote left open": ("question: 'Why\n", "2:1: not valid YAML: found unexpected end of stream"),
    "a colon in the question": (
        "question: Why: because\n",
        "1:14: not valid YAML: mapping values are not allowed in this context; text with `: ` in it stands in quotes",
    ),
    "two documents": (BASE + "---\nquestion: x\n", "7:1: a second document starts here"),
    "a repeated key": (BASE + "question: Again?\n", "7:1: question is repeated: it stands at line 1 already"),
    "a repeated setting": (base("width: 16", "width: 16, width: 8"), "4:38: width is repeated: it stands at line 4"),
    "a key that is no text": (BASE + "? [a]\n: 1\n", "7:3: a key must be plain text"),
    "a tag": (BASE + "margin: !!python/name:os.system\n", "7:9: a tag such as !!python/name:os.system is not allowed"),
    "an unknown alias": (BASE + "factors: *x\n", "7:10: *x stands for nothing: no &x ends before it"),
    "an alias of itself": (BASE + "factors: &x {a: *x}\n", "7:17: *x stands for nothing: no &x ends before it"),
    "a merge of a number": (BASE + "factors: {<<: 3}\n", "7:15: << takes a mapping or a list of mappings, got 3"),
    "an expansion bomb": (
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "".join(f"{k}: &{k} [{','.join([f'*{j}'] * 9)}]\n" for j, k in zip("abcdef", "bcdefg", strict=True)),
        "6:8: more than 100,000 values, aliases unfolded",
    ),
    "deep nesting": ("a: " + "[" * 100_000, "1:43: nested deeper than 40 levels"),
    "a huge integer": (BASE + "seeds: 99999999999999999999\n", "7:8: an integer must fit in 64 bits"),
    # the keys
    "no question": (BASE.partition("\n")[2], "1:1: question: is required: what the grid asks, as text"),
    "an empty question": (base("Why?", ""), "1:10: question: must be what the grid asks, as text, got nothing"),
    "an unknown key": (BASE + "facotrs: {}\n", "7:1: facotrs: no such key; did you mean factors? There are name, "),
    "a bad name": (BASE + "name: ../up\n", "7:7: name: must be letters, digits, _, - and ."),
    "a margin of two": (
        BASE + "margin: 2\n",
        "7:9: margin: must be under 1, test_accuracy lies between 0 and 1, got 2",
    ),
    # base
    "base without a value": ("question: Why?\nbase:\n", "2:6: base: must be a mapping of sections to settings"),
    "a misspelt section": (base("model:", "modle:"), "4:3: base.modle: no such section; did you mean model?"),
    "a section that is a word": (
        base("{name: digits}", "digits"),
        "3:9: base.data: must be a mapping of settings, got digits",
    ),
    "a misspelt setting": (
        base("width", "widht"),
        "4:27: model.widht: no such setting of resnet18; did you mean width?",
    ),
    "a misspelt model": (
        base("resnet18", "resnet81"),
        "4:17: model.name: no such model 'resnet81'; did you mean resnet18?",
    ),
    "a misspelt data set": (base("digits", "digit"), "3:16: data.name: no such data set 'digit'; did you mean digits?"),
    "an import path to nowhere": (
        base("resnet18, width: 16", "'no_such:Net'"),
        "4:17: model.name: no such model: 'no_such:Net'",
    ),
    "a word for a number": (base("epochs: 1", "epochs: one"), "6:19: train.epochs: must be integer > 0, got"),
    "a fraction of an epoch": (base("epochs: 1", "epochs: 1.5"), "6:19: train.epochs: must be integer > 0, got 1.5"),
    "a quoted number": (base("lr: 0.1", "lr: '0.1'"), "5:30: optimizer.lr: must be number > 0, got '0.1'"),
    "a negative rate": (base("lr: 0.1", "lr: -1"), "5:30: optimizer.lr: must be number > 0, got -1"),
    "an infinite rate": (base("lr: 0.1", "lr: .inf"), "5:30: optimizer.lr: must be number > 0, got inf"),
    "off for false": (base("width: 16", "residual: off"), "4:37: model.residual: must be true or false, got 'off'"),
    "a missing rate": (base(", lr: 0.1", ""), "5:3: optimizer.lr: is required: number > 0"),
    "a missing section": (base("  train: {epochs: 1}\n", ""), "2:1: train.epochs: is required: integer > 0"),
    "a dotted path in base": (
        BASE + "  model.width: 8\n",
        "7:3: base.model.width: is nested in base: `model: {width: 8}`",
    ),
    "a seed in base": (BASE + "  seed: 1\n", "7:3: base.seed: replicates are no setting; they stand under `seeds`"),
    "a fault of an anchor, used twice": (
        "question: Why?\nbase:\n  data: &d {name: digits, batch: 3}\n  model: {name: lenet}\n"
        "  optimizer: {name: sgd, lr: 1}\n  train: {epochs: 1}\n"
        "factors: {data: {few: {<<: *d, limit: 50}, more: {<<: *d, limit: 500}}}\n",
        "3:27: data.batch: no such setting of digits; did you mean batch_size?",
    ),
    # factors
    "factors without a value": (
        BASE + "factors:\n",
        "7:9: factors: must be a mapping of factors to their levels, got nothing",
    ),
    "a factor with one value": (
        BASE + "factors: {model.residual: true}\n",
        "7:27: model.residual: must be a list of levels, or a mapping of labels to levels, got true",
    ),
    "a factor without levels": (
        BASE + "factors: {model.residual: []}\n",
        "7:27: model.residual: must be a list of levels, or a mapping of labels to levels, got []",
    ),
    "a factor without its section": (
        BASE + "factors: {residual: [true, false]}\n",
        "7:11: residual: must be a setting's dotted path such as model.width; did you mean model.residual?",
    ),
    "a misspelt factor": (
        BASE + "factors: {model.residul: [true, false]}\n",
        "7:11: model.residul: no such setting of resnet18; did you mean residual?",
    ),
    "a misspelt factor's section": (
        BASE + "factors: {modle.residual: [true, false]}\n",
        "7:11: modle.residual: no such section 'modle'; did you mean model?",
    ),
    "a factor of seeds": (BASE + "factors: {seed: [1, 2]}\n", "7:11: seed: replicates are no setting"),
    "a wrong level": (
        BASE + "factors: {model.residual: [true, maybe]}\n",
        "7:34: model.residual: must be true or false, got 'maybe'",
    ),
    "a wrong level beside a sound factor": (
        BASE + "factors: {model.width: [8, 16, 32], model.stem: [cifar, imagnet]}\n",
        "7:57: model.stem: must be imagenet or cifar, got 'imagnet'",
    ),
    "a level twice": (BASE + "factors: {model.width: [8, 8]}\n", "7:28: model.width: two levels are called 8"),
    "models by name under the section": (
        BASE + "factors: {model: {small: lenet, large: {name: resnet34}}}\n",
        "7:26: model: a level of a whole section is a mapping of its settings, got lenet; for names alone the factor "
        "is model.name",
    ),
    "two levels with one name": (
        BASE + "factors: {model: [{name: lenet}, {name: lenet, batch_norm: true}]}\n",
        "7:34: model: two levels are called lenet; labels (`label: level`) tell them apart",
    ),
    "a label with an equals sign": (
        BASE + "factors: {model: {'a=b': {name: lenet}}}\n",
        "7:19: model: a label is 1 to 80 characters on one line without `=`, got 'a=b'",
    ),
    "a label that turns the letters after it round": (
        BASE + 'factors: {model: {"a\\u202eb": {name: lenet}}}\n',
        "7:19: model: a label is 1 to 80 characters on one line without `=` and without Unicode's marks that turn "
        "other letters round, got 'a\\u202eb'",
    ),
    "a setting that another level's optimizer has": (
        BASE + "factors: {optimizer: {a: {name: adam, lr: 1}, b: {name: sgd, lr: 1, betas: [0.9, 0.99]}}}\n",
        "7:69: optimizer.betas: no such setting of sgd",
    ),
    "a level that lacks its rate": (
        BASE + "factors: {optimizer: {a: {name: adam}, b: {name: sgd, lr: 1}}}\n",
        "7:33: optimizer.lr: is required: number > 0",
    ),
    "a model that lacks a setting of base": (
        BASE + "factors: {model.name: [resnet18, lenet]}\n",
        "7:34: model.width: no such setting of lenet; it takes: name, batch_norm",
    ),
    "a toggle that one model lacks": (
        base(", width: 16", "") + "factors: {model.name: [resnet18, lenet], model.residual: [true, false]}\n",
        "7:42: model.residual: no such setting of lenet",
    ),
    "a toggle that no model has": (
        base("resnet18, width: 16", "lenet") + "factors: {model.residual: [false]}\n",
        "7:11: model.residual: no such setting in any cell",
    ),
    "zipped levels of unlike length": (
        BASE + "factors: {'data.batch_size, optimizer.lr': [[64, 0.1], [32]]}\n",
        "7:56: data.batch_size, optimizer.lr: level 32 must be a list of 2 values",
    ),
    "a zipped word": (
        BASE + "factors: {'data.batch_size, lr': [[64, 0.1], [32, 0.2]]}\n",
        "7:11: lr: must be a setting's dotted path such as model.width; did you mean optimizer.lr?",
    ),
    "a recipe with an undotted setting": (
        BASE + "factors: {recipe: {small: {width: 8}}}\n",
        "7:27: recipe: level small: width: must be a setting's dotted path such as model.width or a section",
    ),
    "a recipe that is a list": (
        BASE + "factors: {recipe: [1, 2]}\n",
        "7:11: recipe: must be a setting's dotted path such as model.width; a factor of any other name has labelled",
    ),
    "a recipe with a word for a section": (
        BASE + "factors: {recipe: {small: {model: lenet}}}\n",
        "7:27: recipe: level small: model must be a mapping of settings, got lenet",
    ),
    "a misspelt section of levels": (
        BASE + "factors: {modle: {small: {name: lenet}}}\n",
        "7:26: modle: no such section; did you mean model?",
    ),
    "a setting of two factors": (
        BASE + "factors: {optimizer.lr: [1, 2], recipe: {a: {optimizer.lr: 3}, b: {optimizer.lr: 4}}}\n",
        "7:46: recipe: optimizer.lr is set by the factor optimizer.lr already",
    ),
    "a section and its name as factors": (
        BASE + "factors: {model: [{name: lenet}, {name: mlp}], model.name: [lenet, mlp]}\n",
        "7:48: model.name: model.name is set by the levels of the factor model",
    ),
    "a billion trials": (
        BASE + "factors:\n" + "".join(f"  model.s{i}: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n" for i in range(9)),
        "7:1: 1,000,000,000 cells x 1 candidates x 3 seeds are 3,000,000,000 trials; a grid has at most 100,000",
    ),
    # seeds
    "no seeds": (BASE + "seeds: 0\n", "7:8: seeds: must be a number of seeds from 1 to 10000, or a list of distinct"),
    "seeds in words": (BASE + "seeds: many\n", "7:8: seeds: must be a number of seeds"),
    "a negative seed": (BASE + "seeds: [1, -2]\n", "7:8: seeds: must be a number of seeds"),
    "a repeated seed": (BASE + "seeds: [1, 2, 1]\n", "7:15: seeds: 1 is repeated; seeds are distinct"),
    # plan and baseline
    "a misspelt plan": (
        BASE + "plan: one_at_time\n",
        "7:7: plan: must be full, one_at_a_time, leave_one_out or add_one, got one_at_time",
    ),
    "a plan without its baseline": (
        BASE + TOGGLE + "plan: one_at_a_time\n",
        "8:7: plan: one_at_a_time needs a baseline level of every factor; missing: model.residual",
    ),
    "leave one out of three": (
        BASE + "factors: {model.width: [8, 16, 32]}\nbaseline: {model.width: 8}\nplan: leave_one_out\n",
        "9:7: plan: leave_one_out switches components of two levels, model.width has 3",
    ),
    "a baseline of no factor": (
        BASE + WIDTHS + "baseline: {model.widht: 8}\n",
        "8:12: baseline.model.widht: no such factor; did you mean model.width?",
    ),
    "a baseline of no level": (
        BASE + WIDTHS + "baseline: {model.width: 9}\n",
        "8:25: baseline.model.width: no such level 9; there are 8, 16",
    ),
    "a number for a toggle in the baseline": (
        BASE + TOGGLE + "baseline: {model.residual: 1}\n",
        "8:28: baseline.model.residual: no such level 1; there are true, false",
    ),
    # tune
    "one candidate, not listed": (
        BASE + "tune: {optimizer.lr: 0.1}\n",
        "7:22: tune.optimizer.lr: must be a list of candidates",
    ),
    "a tuned section": (
        BASE + "tune: {optimizer: [1]}\n",
        "7:8: tune.optimizer: is a section; name one of its settings",
    ),
    "a misspelt tuned setting": (
        BASE + "tune: {optimizer.lrr: [0.1]}\n",
        "7:8: optimizer.lrr: no such setting of sgd; did you mean lr?",
    ),
    "a tuned factor": (
        BASE + WIDTHS + "tune: {model.width: [8, 16]}\n",
        "8:8: tune.model.width: is set by the factor model.width; a tuned setting is no factor",
    ),
    "a tuned setting that one cell lacks": (
        BASE + "factors: {optimizer: {a: {name: adam, lr: 1}, b: {name: sgd, lr: 1}}}\n"
        "tune: {optimizer.eps: [0.1, 0.01]}\n",
        "8:8: optimizer.eps: no such setting of sgd",
    ),
    "a wrong candidate": (
        BASE + "tune: {optimizer.lr: [0.1, fast]}\n",
        "7:28: optimizer.lr: must be number > 0, got 'fast'",
    ),
    "a candidate twice": (BASE + "tune: {optimizer.lr: [0.1, 1e-1]}\n", "7:28: tune.optimizer.lr: 1e-1 is repeated"),
    "tuning seeds without tuning": (BASE + "tune_seeds: 2\n", "7:13: tune_seeds: nothing is tuned"),
    "no tuning seeds": (BASE + "tune: {optimizer.lr: [0.1, 1]}\ntune_seeds: 0\n", "8:13: tune_seeds: must be"),
    # untrained and pair
    "untrained by another word": (BASE + "untrained: zero\n", "7:12: untrained: must be"),
    "chance of what is no accuracy": (
        BASE + "metrics: test_loss\nuntrained: chance\n",
        "8:1: untrained: chance is known of test_accuracy alone; give the number that an untrained trial counts as in",
    ),
    "paired by another word": (BASE + "pair: fold\n", "7:7: pair: must be"),
    # exclude
    "an exclusion without a reason": (
        BASE + WIDTHS + "exclude: [{when: {model.width: 8}}]\n",
        "8:11: exclude.0.because: is required: why these cells are left out, as text",
    ),
    "an exclusion of no factor": (
        BASE + WIDTHS + "exclude: [{when: {model.widht: 8}, because: slow}]\n",
        "8:19: exclude.0.when.model.widht: no such factor; did you mean model.width?",
    ),
    "an exclusion of no level": (
        BASE + WIDTHS + "exclude: [{when: {model.width: [8, 9]}, because: slow}]\n",
        "8:36: exclude.0.when.model.width: no such level 9; there are 8, 16",
    ),
    "an exclusion that matches nothing": (
        BASE + TWO + "baseline: {model.width: 8, model.residual: true}\nplan: one_at_a_time\n"
        "exclude: [{when: {model.width: 16, model.residual: false}, because: slow}]\n",
        "10:11: exclude.0: matches no cell of the plan",
    ),
    "everything excluded": (
        BASE + WIDTHS + "exclude: [{when: {model.width: [8, 16]}, because: slow}]\n",
        "8:11: every cell is excluded: nothing is left to run",
    ),
    # include
    "an include that is no list": (BASE + "include: {model.name: mlp}\n", "7:10: include: must be a list of cells"),
    "an include of no setting": (
        BASE + "include: [{modelname: mlp}]\n",
        "7:12: include.0.modelname: must be a setting's dotted path such as model.width or a section",
    ),
    "an include that lacks a setting of base": (
        BASE + "include: [{model.name: lenet}]\n",
        "7:24: model.width: no such setting of lenet",
    ),
    "an include of no level": (
        BASE + "factors: {recipe: {a: {model.width: 8}, b: {model.width: 4}}}\ninclude: [{recipe: c}]\n",
        "8:20: include.0.recipe: no such level c; there are a, b",
    ),
    # hypotheses
    "a hypothesis that is a number": (BASE + "hypotheses: [5]\n", "7:14: hypotheses.0: must be text, got 5"),
    "a hypothesis of no factor": (
        BASE + TOGGLE + "hypotheses: [model.residul=true > model.residual=false on test_accuracy]\n",
        "8:14: hypotheses.0: no such factor 'model.residul'; did you mean model.residual?",
    ),
    "a hypothesis of no metric": (
        BASE + TOGGLE + "hypotheses: [model.residual=true > model.residual=false on test_acc]\n",
        "8:14: hypotheses.0: no such metric 'test_acc'; did you mean test_accuracy?",
    ),
}


def test_there_are_at_least_forty() -> None:
    assert len(BROKEN) >= 40


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_grid_gives_its_one_message(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, expected = BROKEN[name]
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    start = time.process_time()

    with pytest.raises(GridError) as caught:
        load_plan(Path("grid.yaml"))

    assert time.process_time() - start < 1
    [message] = caught.value.messages
    assert message.startswith(f"grid.yaml:{expected}")


def test_all_errors_of_a_file_come_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    grid = base("width", "widht").replace("epochs: 1", "epochs: 1.5")
    grid += "factors: {data.batch_size: [0, 8, 16, -1]}\nfoo: 1\nseeds: x\nhypotheses: [steps]\n"
    Path("grid.yaml").write_text(grid)

    with pytest.raises(GridError) as caught:
        load_plan(Path("grid.yaml"))

    expected = ["4:27: model.widht", "6:19: train.epochs", "7:29: data.batch_size", "7:39: data.batch_size"]
    expected += ["8:1: foo", "9:8: seeds", "10:14: hypotheses.0"]
    assert len(caught.value.messages) == len(expected)
    for message, start in zip(caught.value.messages, expected, strict=True):
        assert message.startswith(f"grid.yaml:{start}: ")


def test_a_fault_of_base_is_said_once_and_not_once_a_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    grid = (
        base("width", "widht") + "factors: {model.name: [resnet10, resnet18, resnet34], optimizer.lr: [1, 2, 3, 4]}\n"
    )
    Path("grid.yaml").write_text(grid)

    with pytest.raises(GridError) as caught:
        load_plan(Path("grid.yaml"))

    [message] = caught.value.messages
    assert message.startswith("grid.yaml:4:27: model.widht: no such setting of resnet10; did you mean width?")


def test_sections_that_no_factor_touches_are_checked_beside_a_broken_factor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(base("epochs", "epoch") + "factors: {model.width: []}\n")

    with pytest.raises(GridError) as caught:
        load_plan(Path("grid.yaml"))

    starts = [message.split(": ")[0] + ": " + message.split(": ")[1] for message in caught.value.messages]
    assert starts == [
        "grid.yaml:6:3: train.epochs",
        "grid.yaml:6:11: train.epoch",
        "grid.yaml:7:24: model.width",
    ]


def test_a_missing_file_names_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("batch_norm.yaml").touch()

    with pytest.raises(GridError) as missing:
        load_plan(Path("batchnorm.yaml"))
    with pytest.raises(GridError) as folder:
        load_plan(tmp_path)

    assert missing.value.messages == [
        "batchnorm.yaml: no such file; did you mean batch_norm.yaml? There are batch_norm.yaml"
    ]
    assert folder.value.messages == [
        f"{tmp_path}: is a folder, a grid is a YAML file; in it there are {tmp_path}/batch_norm.yaml"
    ]


def test_a_file_name_that_makes_no_folder_asks_for_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my grid.yaml").write_text(BASE)
    with pytest.raises(GridError, match="the file 'my grid' names its results folder"):
        load_plan(Path("my grid.yaml"))

    Path("my grid.yaml").write_text(BASE + "name: mine\n")
    assert load_plan(Path("my grid.yaml")).name == "mine"
