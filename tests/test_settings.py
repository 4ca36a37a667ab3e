"""Settings: checked once, complete, and with an identity of their own."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

import pydantic
import pytest

from lab.settings import (
    DATASETS,
    PARTS,
    SECTIONS,
    Settings,
    SettingsError,
    describe_field,
    did_you_mean,
    parse_section,
    timing_id,
)

RAW: dict[str, Any] = {
    "data": {"name": "digits"},
    "model": {"name": "mlp"},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "train": {"epochs": 1},
}


def changed(path: str, value: object) -> dict[str, Any]:
    """RAW with one setting changed."""
    raw = copy.deepcopy(RAW)
    section, _, key = path.partition(".")
    if key:
        raw.setdefault(section, {})[key] = value
    else:
        raw[section] = value
    return raw


def problems(raw: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        Settings.parse(raw)
    return {problem.path: problem.message for problem in caught.value.problems}


# --- what comes out -------------------------------------------------------------------------------------------------


def test_flat_holds_every_setting_with_its_default_in_the_order_of_the_sections() -> None:
    assert list(Settings.parse(RAW).flat().items()) == [
        ("data.name", "digits"),
        ("data.size", 8),
        ("data.batch_size", 64),
        ("data.dev_fraction", 0.1),
        ("data.split_seed", 0),
        ("data.limit", None),
        ("data.channels", None),
        ("data.augment", "none"),
        ("model.name", "mlp"),
        ("model.replace", {}),
        ("model.remove", []),
        ("model.hidden", [256, 128]),
        ("model.residual", False),
        ("model.batch_norm", False),
        ("model.dropout", 0.0),
        ("optimizer.name", "sgd"),
        ("optimizer.lr", 0.1),
        ("optimizer.weight_decay", 0.0),
        ("schedule.name", "constant"),
        ("train.epochs", 1),
        ("train.loss", "cross_entropy"),
        ("train.metric", "accuracy"),
        ("train.select", None),
        ("train.better", None),
        ("train.precision", "float32"),
        ("train.compile", False),
        ("train.eval_every", None),
        ("train.label_smoothing", 0.0),
        ("train.clip_norm", None),
    ]


@pytest.mark.parametrize(
    ("model", "data", "size"),
    [
        ("lenet", "digits", 32),
        ("resnet18", "mnist", 224),
        ("mlp", "digits", 8),
        ("mlp", "fashion_mnist", 28),
        ("mlp", "cifar10", 32),
    ],
)
def test_size_is_the_models_own_or_else_the_data_sets(model: str, data: str, size: int) -> None:
    raw = {**RAW, "model": {"name": model}, "data": {"name": data}}
    assert Settings.parse(raw).data.size == size


def test_a_given_size_counts() -> None:
    raw = {**RAW, "model": {"name": "resnet18"}, "data": {"name": "digits", "size": 64}}
    assert Settings.parse(raw).data.size == 64


def test_parse_leaves_its_input_alone() -> None:
    raw = copy.deepcopy(RAW)
    Settings.parse(raw)
    assert raw == RAW


def test_settings_are_frozen() -> None:
    settings = Settings.parse(RAW)
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        settings.train.epochs = 3


def test_settings_cross_json() -> None:
    settings = Settings.parse(changed("seed", 3))
    again = Settings.parse(json.loads(json.dumps(settings.model_dump())))
    assert again == settings
    assert again.trial_id == settings.trial_id


# --- identity -------------------------------------------------------------------------------------------------------


def test_trial_id_is_sha256_of_the_resolved_settings_that_are_not_off() -> None:
    resolved = {
        "data": {
            "name": "digits", "size": 8, "batch_size": 64, "dev_fraction": 0.1, "split_seed": 0, "augment": "none",
        },
        "model": {"name": "mlp", "hidden": [256, 128], "residual": False, "batch_norm": False, "dropout": 0.0},
        "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 0.0},
        "schedule": {"name": "constant"},
        "train": {
            "epochs": 1, "loss": "cross_entropy", "metric": "accuracy", "precision": "float32", "compile": False,
            "label_smoothing": 0.0,
        },
        "seed": 0,
    }  # fmt: skip
    canonical = json.dumps(resolved, sort_keys=True, separators=(",", ":")).encode()
    assert Settings.parse(RAW).trial_id == hashlib.sha256(canonical).hexdigest()[:12]


@pytest.mark.parametrize(
    ("path", "value"),
    [("data.batch_size", 64), ("data.size", 8), ("model.dropout", 0), ("schedule", {"name": "constant"}), ("seed", 0)],
)
def test_a_default_spelled_out_is_the_same_trial(path: str, value: object) -> None:
    assert Settings.parse(changed(path, value)).trial_id == Settings.parse(RAW).trial_id


def test_order_and_whole_numbers_do_not_matter() -> None:
    raw = changed("optimizer", {"lr": 1, "name": "sgd"})
    same = changed("optimizer", {"name": "sgd", "lr": 1.0})
    assert Settings.parse(dict(reversed(raw.items()))).trial_id == Settings.parse(same).trial_id


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.batch_size", 32), ("data.split_seed", 1), ("data.limit", 500), ("data.augment", "shift"),
        ("model.hidden", [128, 256]), ("model.batch_norm", True), ("optimizer.lr", 0.2), ("train.epochs", 2),
        ("schedule", {"name": "cosine"}), ("train.precision", "bfloat16"), ("seed", 1),
    ],
)  # fmt: skip
def test_every_setting_and_the_seed_make_another_trial(path: str, value: object) -> None:
    assert Settings.parse(changed(path, value)).trial_id != Settings.parse(RAW).trial_id


def test_with_seed_is_another_replicate_of_the_same_experiment() -> None:
    settings = Settings.parse(RAW)
    other = settings.with_seed(4)
    assert other.flat() == settings.flat()
    assert other == Settings.parse(changed("seed", 4))
    assert other.trial_id == Settings.parse(changed("seed", 4)).trial_id


def test_trials_share_a_timing_where_nothing_changes_the_work_of_a_step() -> None:
    timing = timing_id(Settings.parse(RAW))
    same: dict[str, Any] = {"optimizer.lr": 0.3, "seed": 5, "train.epochs": 9, "data.split_seed": 2}
    other: dict[str, Any] = {"data.batch_size": 32, "model.batch_norm": True, "train.precision": "bfloat16"}
    assert {timing_id(Settings.parse(changed(path, value))) for path, value in same.items()} == {timing}
    assert timing not in {timing_id(Settings.parse(changed(path, value))) for path, value in other.items()}


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "at", "says"),
    [
        ("model.name", "resnet81", "model.name", ["no such model 'resnet81'", "did you mean resnet18?", "import path"]),
        ("model.name", 18, "model.name", ["must be a string", "got 18"]),
        ("optimizer", {"lr": 0.1}, "optimizer.name", ["is required", "sgd, momentum"]),
        ("optimizer", {"name": "sgd"}, "optimizer.lr", ["is required", "number > 0"]),
        ("train", {}, "train.epochs", ["is required", "integer > 0"]),
        ("model.hiden", [4], "model.hiden", ["no such setting of mlp", "did you mean hidden? It takes: name, hidden"]),
        ("model.residua", True, "model.residua", ["did you mean residual? It takes: name, "]),
        ("data.batch_size", "64", "data.batch_size", ["must be integer > 0", "got '64'"]),
        ("data.batch_size", 1.5, "data.batch_size", ["must be integer > 0", "got 1.5"]),
        ("data.batch_size", True, "data.batch_size", ["must be integer > 0", "got true"]),
        ("data.batch_size", 0, "data.batch_size", ["must be integer > 0", "got 0"]),
        ("data.dev_fraction", 1.0, "data.dev_fraction", ["number > 0 and < 1", "got 1.0"]),
        ("data.augment", "flip", "data.augment", ["none or shift or flip_shift", "got 'flip'"]),
        ("model.hidden", [16, 0], "model.hidden", ["list of integer > 0", "got 0"]),
        ("model.batch_norm", 1, "model.batch_norm", ["true or false", "got 1"]),
        ("optimizer.lr", float("nan"), "optimizer.lr", ["number > 0", "got nan"]),
        ("optimizer.lr", float("inf"), "optimizer.lr", ["number > 0", "got inf"]),
        ("optimizer.lr", -0.1, "optimizer.lr", ["number > 0", "got -0.1"]),
        ("optimizer", {"name": "nesterov", "lr": 0.1, "momentum": 0.0}, "optimizer.momentum", ["number > 0 and < 1"]),
        ("optimizer", {"name": "adam", "lr": 0.1, "betas": [0.9]}, "optimizer.betas", ["list of 2 number"]),
        ("train.precision", "float16", "train.precision", ["float32 or bfloat16", "got 'float16'"]),
        ("train.loss", "nll", "train.loss", ["no such loss 'nll'", "there are cross_entropy, mse, l1, or an"]),
        ("train.loss", "cross_entropi", "train.loss", ["did you mean cross_entropy?"]),
        ("train.metric", [], "train.metric", ["must name one metric or several", "got []"]),
        ("train.metric", {"loss": "a:Loss"}, "train.metric", ["loss is built in", "`{my_loss: 'a:Loss'}`"]),
        ("train.metric", {"Top 5": "accuracy"}, "train.metric", ["lower-case letters, digits and _", "'Top 5'"]),
        ("train.select", "dev_acuracy", "train.select", ["did you mean dev_accuracy?", "dev_calibration_error"]),
        ("train.select", "test_accuracy", "train.select", ["no such score on dev 'test_accuracy'"]),
        ("train.better", "neither", "train.better", ["higher or lower or null", "got 'neither'"]),
        ("train.metric", "no_module_here:F1", "train.metric", ["no such metric", "cannot import no_module_here"]),
        ("data", {"name": "npz"}, "data.path", ["is required: string"]),
        ("seed", -1, "seed", ["must be an integer >= 0", "got -1"]),
        ("seed", True, "seed", ["must be an integer >= 0", "got true"]),
        ("optimiser", {"name": "sgd"}, "optimiser", ["no such section", "did you mean optimizer?"]),
        ("model", "lenet", "model", ["must be a mapping of settings", "got 'lenet'"]),
        ("model", {"name": "lenet", 5: 1}, "model.5", ["no such setting of lenet", "it takes: name, batch_norm"]),
    ],
)  # fmt: skip
def test_a_broken_rule_says_where_which_rule_and_what_it_got(
    path: str, value: object, at: str, says: list[str]
) -> None:
    found = problems(changed(path, value))
    assert list(found) == [at]
    for part in says:
        assert part in found[at]


def test_every_broken_rule_is_told_at_once() -> None:
    raw = changed("model.hiden", [4])
    raw["data"]["batch_size"] = 0
    raw["seed"] = "x"
    assert set(problems(raw)) == {"model.hiden", "data.batch_size", "seed"}


def test_lenet_is_refused_another_size_before_anything_runs() -> None:
    raw = {**RAW, "model": {"name": "lenet"}, "data": {"name": "digits", "size": 28}}
    assert problems(raw) == {"data.size": "must be 32 with lenet, got 28"}


def test_smoothing_is_refused_with_a_loss_that_would_not_see_it() -> None:
    raw = {**RAW, "train": {"epochs": 1, "loss": "math:hypot", "label_smoothing": 0.1}}
    assert problems(raw) == {"train.label_smoothing": "must be 0 with a loss other than cross_entropy, got 0.1"}


def test_the_error_reads_as_one_line_a_problem() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.parse({**RAW, "seed": -1, "train": {"epochs": 0}})
    assert str(caught.value).splitlines() == [
        "train.epochs: must be integer > 0, got 0",
        "seed: must be an integer >= 0, got -1",
    ]


# --- what describes them --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", PARTS)
def test_every_part_has_a_sentence_and_every_setting_a_description(section: str) -> None:
    for name, kind in PARTS[section].items():
        assert kind.__doc__, name
        assert all(field.description for field in kind.model_fields.values()), name


@pytest.mark.parametrize(
    ("section", "name", "setting", "words"),
    [
        ("data", "digits", "size", "integer > 0 or null"),
        ("data", "digits", "dev_fraction", "number > 0 and < 1"),
        ("model", "mlp", "hidden", "list of integer > 0"),
        ("model", "mlp", "residual", "true or false"),
        ("model", "resnet18", "stem", "imagenet or cifar"),
        ("optimizer", "adam", "betas", "list of 2 number >= 0 and < 1"),
        ("data", "npz", "path", "string"),
    ],
)
def test_what_a_setting_allows_is_said_in_words(section: str, name: str, setting: str, words: str) -> None:
    assert describe_field(PARTS[section][name].model_fields[setting]) == words


def test_did_you_mean_is_silent_where_nothing_is_near() -> None:
    assert did_you_mean("resnet81", PARTS["model"]) == "; did you mean resnet18?"
    assert did_you_mean("zzz", PARTS["model"]) == ""


@pytest.mark.parametrize(
    ("section", "known"), [("data", DATASETS), ("model", PARTS["model"]), ("optimizer", PARTS["optimizer"])]
)
def test_every_built_in_name_can_be_parsed(section: str, known: dict[str, Any]) -> None:
    needs = {"lr": 0.1, "path": "somewhere"}
    for name, kind in known.items():
        given = {key: value for key, value in needs.items() if key in kind.model_fields}
        assert type(parse_section(section, {"name": name, **given})) is kind


def test_sections_are_those_of_the_design() -> None:
    assert list(SECTIONS) == ["data", "model", "optimizer", "schedule", "train"]


# --- metrics --------------------------------------------------------------------------------------------------------


def test_the_default_selection_spelt_out_is_the_same_trial() -> None:
    plain, spelt = (Settings.parse(raw) for raw in (RAW, changed("train.select", "dev_accuracy")))
    assert spelt.trial_id == plain.trial_id
    assert Settings.parse(changed("train.select", "dev_loss")).trial_id != plain.trial_id


def test_a_list_of_one_metric_is_that_metric() -> None:
    assert Settings.parse(changed("train.metric", ["accuracy"])).trial_id == Settings.parse(RAW).trial_id
