"""Data have an identity: a digest per split, in each row; what rests on other data is told, left out, not added to."""

from __future__ import annotations

import io
import os
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from bench.analysis.findings import gather
from bench.execute.options import Options
from bench.execute.progress import Progress
from bench.execute.run import Summary, run
from bench.grid.columns import DIGESTS
from bench.grid.load import load_plan
from bench.grid.plan import Plan
from bench.record.datasets import described, key_of, note_data, other_data, read_data
from bench.record.records import Records
from bench.record.staleness import find_stale, is_stale
from lab.data import DataError, Images, Splits, load_data
from lab.data.digests import digest
from lab.data.image_files import ImageFiles
from lab.data.loading import _splits
from lab.settings import DataSettings, Settings, parse_section
from lab.trial import identify, run_trial

CPU = torch.device("cpu")
Write = Callable[[str, str], None]


def load(**settings: Any) -> Splits:
    parsed = parse_section("data", settings)
    assert isinstance(parsed, DataSettings)
    _splits.cache_clear()
    return load_data(parsed, CPU)


# --- a digest -------------------------------------------------------------------------------------------------------


def examples(count: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(count * 48).reshape(count, 3, 4, 4).to(torch.uint8), torch.arange(count) % 5


def test_equal_examples_have_equal_digests_wherever_they_come_from() -> None:
    images, labels = examples()
    again = torch.from_numpy(np.asfortranarray(images.numpy()))
    assert digest(images, labels) == digest(again, labels.clone())
    assert len(digest(images, labels)) == 12


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y: (torch.cat([x[:-1], x[-1:] ^ 1]), y),
        lambda x, y: (torch.cat([x[:1] ^ 128, x[1:]]), y),
        lambda x, y: (x, torch.cat([y[:-1], y[-1:] + 1])),
        lambda x, y: (x.flip(0), y.flip(0)),
        lambda x, y: (x[:-1], y[:-1]),
        lambda x, y: (x.float(), y),
        lambda x, y: (x.reshape(50, 3, 2, 8), y),
        lambda x, y: (x, y.float()),
    ],
)
def test_whatever_changes_in_the_examples_changes_the_digest(change: Callable[..., tuple[Any, Any]]) -> None:
    images, labels = examples()
    assert digest(*change(images, labels)) != digest(images, labels)


def test_a_change_far_into_large_arrays_counts() -> None:
    images, labels = torch.zeros(3_000_000, dtype=torch.uint8).reshape(3000, 10, 10, 10), torch.zeros(3000).long()
    before = digest(images, labels)
    images[2999, 9, 9, 9] = 1
    assert digest(images, labels) != before


def test_the_order_of_large_pieces_counts() -> None:
    pieces = torch.arange(4).to(torch.uint8).repeat_interleave(2**17).reshape(4, 1, 2**8, 2**9)
    labels = torch.zeros(4).long()
    orders = [[0, 1, 2, 3], [1, 0, 2, 3], [0, 2, 1, 3], [3, 2, 1, 0]]
    assert len({digest(pieces[order], labels) for order in orders}) == 4


def test_a_folder_is_the_same_named_from_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = dict(load(name="image_folder", path=str(pictures(tmp_path / "here"))).digests)
    monkeypatch.chdir(tmp_path / "here")
    assert load(name="image_folder", path=".").digests == there
    assert load(name="image_folder", path="../here/").digests == there


def pictures(folder: Path) -> Path:
    for part in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            (folder / part / name).mkdir(parents=True)
            for number in range(6):
                Image.new("RGB", (6, 5), (90 * label, number, 7)).save(folder / part / name / f"{number}.png")
    return folder


def test_a_folder_of_images_is_known_by_paths_sizes_and_contents_never_by_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = pictures(tmp_path / "here")
    first = dict(load(name="image_folder", path=str(here)).digests)
    shutil.copytree(here, tmp_path / "there")
    for file in (tmp_path / "there").rglob("*.png"):
        os.utime(file, (1, 1))
    assert load(name="image_folder", path=str(tmp_path / "there")).digests == first
    monkeypatch.setattr("lab.device.fits", lambda num_bytes, device: False)
    assert load(name="image_folder", path=str(here)).digests == first, "whether they fit in memory or not"
    file = tmp_path / "there" / "test" / "dog" / "3.png"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"x")
    changed = load(name="image_folder", path=str(tmp_path / "there")).digests
    assert [name for name in first if changed[name] != first[name]] == ["test_digest"]
    file.write_bytes(content)
    file.rename(file.with_name("9.png"))
    assert load(name="image_folder", path=str(tmp_path / "there")).digests != first


def test_contents_count_up_to_a_gigabyte_and_sizes_beyond(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ImageFiles(str(tmp_path), [str(tmp_path / name) for name in ("a", "b")], 5, 6)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes(100))
    labels = torch.zeros(2).long()
    monkeypatch.setattr("lab.data.digests.CONTENTS", 150)
    before = digest(files, labels)
    (tmp_path / "b").write_bytes(bytes(99) + b"x")
    assert digest(files, labels) == before
    (tmp_path / "b").write_bytes(bytes(101))
    assert digest(files, labels) != before
    (tmp_path / "b").write_bytes(bytes(100))
    (tmp_path / "a").write_bytes(bytes(99) + b"x")
    assert digest(files, labels) != before


def test_each_split_has_a_digest_of_its_own() -> None:
    digits, other = load(name="digits"), load(name="digits", split_seed=1)
    assert set(digits.digests) == set(DIGESTS)
    assert len(set(digits.digests.values())) == 3
    assert digits.digests["test_digest"] == other.digests["test_digest"]
    assert digits.digests["dev_digest"] != other.digests["dev_digest"]
    handled = load(name="digits", size=16, batch_size=7, augment="shift", channels=3)
    assert handled.digests == digits.digests


# --- a trial --------------------------------------------------------------------------------------------------------


def test_a_trial_tells_the_digests_of_its_data_and_stops_where_they_are_others(
    make_settings: Callable[..., Settings],
) -> None:
    settings = make_settings()
    (found,) = identify([(settings.data.model_dump(), settings.train.model_dump())])
    known = found.digests
    assert run_trial(settings, device="cpu", digests=known).digests == known
    with pytest.raises(DataError, match="the data are not repeatable: test of this process and"):
        run_trial(settings, device="cpu", digests=known | {"test_digest": "0"})


# --- the record -----------------------------------------------------------------------------------------------------

GRID = """
    question: Does BatchNorm help?
    base:
      data: {name: digits, limit: 100}
      model: {name: mlp, hidden: [8]}
      optimizer: {name: sgd, lr: 0.1}
      train: {epochs: 1}
    factors:
      model.batch_norm: [true, false]
    seeds: 3
"""
OLD, NEW = ("a", "b", "c"), ("a", "b", "d")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "grid.yaml").write_text(textwrap.dedent(GRID))
    return load_plan(tmp_path / "grid.yaml")


def record(folder: Path, plan: Plan, digests: list[tuple[str, ...] | None]) -> None:
    """A row per trial of the plan, on data with these digests."""
    from lab.fingerprint import source_fingerprint

    for trial, found in zip(plan.trials, digests, strict=False):
        settings = trial.settings.flat()
        row = {"trial_id": trial.trial_id, "cell": trial.cell.label, "seed": trial.seed, "status": "ok", **settings}
        row |= {"test_accuracy": 0.5, "dev_accuracy": 0.99, "source_fingerprint": source_fingerprint(trial.settings)}
        row |= dict(zip(DIGESTS, found or (), strict=False))
        Records(folder).append(row, list(settings), correct=b"\xf0", num_images=8)


def test_what_a_run_finds_is_noted_once_and_is_news_where_it_changed(tmp_path: Path, plan: Plan) -> None:
    key = key_of(plan.trials[0].settings)
    assert note_data(tmp_path, {key: OLD})
    assert not note_data(tmp_path, {key: OLD})
    assert note_data(tmp_path, {key: NEW})
    assert read_data(tmp_path) == {key: NEW}
    assert described([key]) == "digits"


def test_settings_that_hand_examples_out_do_not_say_which_they_are(make_settings: Callable[..., Settings]) -> None:
    def key(**data: object) -> str:
        return key_of(make_settings({f"data.{name}": value for name, value in data.items()}))

    assert key(batch_size=7) == key(size=16) == key(augment="shift") == key(channels=3) == key()
    assert len({key(), key(limit=99), key(split_seed=2), key(dev_fraction=0.3)}) == 4


def test_rows_on_other_data_than_the_last_run_found_are_stale(tmp_path: Path, plan: Plan) -> None:
    record(tmp_path, plan, [OLD, OLD, None, NEW])
    note_data(tmp_path, {key_of(plan.trials[0].settings): NEW})
    records = Records(tmp_path)
    found = find_stale(plan, records)
    assert found.other_data == tuple(trial.trial_id for trial in plan.trials[:2])
    assert found.changed == {}, "their source code is the same"
    outcomes = records.outcomes()
    stale = [is_stale(trial, outcomes[trial.trial_id]) for trial in plan.trials[:4]]
    assert stale == [True, True, False, False], "a row without a digest stays valid"


def test_where_no_run_noted_its_data_the_last_row_tells(tmp_path: Path, plan: Plan) -> None:
    record(tmp_path, plan, [OLD, NEW, NEW])
    assert find_stale(plan, Records(tmp_path)).other_data == (plan.trials[0].trial_id,)


def test_rows_of_other_data_settings_are_none_of_it(tmp_path: Path, plan: Plan) -> None:
    record(tmp_path, plan, [OLD, OLD])
    note_data(tmp_path, {key_of(plan.trials[0].settings).replace("100", "200"): NEW})
    assert find_stale(plan, Records(tmp_path)).other_data == ()


def test_a_report_leaves_results_on_other_data_out_and_counts_them(tmp_path: Path, plan: Plan) -> None:
    record(tmp_path, plan, [OLD, OLD, OLD, OLD, NEW, NEW])
    findings = gather(tmp_path, plan)
    assert set(findings.trials["trial_id"]) == {trial.trial_id for trial in plan.trials[4:]}
    said = "4 results on other data than the last run found are left out"
    assert f"{said}; `bench run GRID --rerun stale` trains them again" in findings.cautions
    assert findings.coverage.startswith("2 of 6 trials")


def test_folders_of_other_data_do_not_pool(tmp_path: Path, plan: Plan) -> None:
    for name, digests in (("one", [OLD, None]), ("two", [None, NEW, OLD])):
        (tmp_path / name).mkdir()
        shutil.copy(tmp_path / "grid.yaml", tmp_path / name)
        record(tmp_path / name, plan, digests)
    note_data(tmp_path / "one", {key_of(plan.trials[0].settings): OLD})
    found = gather(tmp_path / "one", plan, others=[tmp_path / "two"])
    assert set(found.trials["trial_id"]) == {plan.trials[index].trial_id for index in (0, 1, 2)}


def test_test_images_are_paired_only_where_their_digests_agree(tmp_path: Path) -> None:
    grid = textwrap.dedent(GRID).replace("model.batch_norm: [true, false]", "data.split_seed: [0, 1]")
    (tmp_path / "grid.yaml").write_text(grid)
    plan = load_plan(tmp_path / "grid.yaml")

    def are_paired(digests: list[tuple[str, ...] | None]) -> bool:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        record(folder, plan, digests)
        return "test set" in gather(folder, plan).effects["basis"].iloc[0]

    same, other = [("a", "b", "c")] * 3, [("x", "y", "c")] * 3
    assert are_paired([*same, *other])
    assert are_paired([*same, None, None, None])
    assert not are_paired([*same, *[("x", "y", "z")] * 3])


def test_old_rows_without_digests_are_judged_by_nothing() -> None:
    assert other_data(Path("nowhere"), [{"trial_id": "a", "data.name": "digits"}]) == set()
    assert other_data(Path("nowhere"), []) == set()


def test_splits_that_were_made_by_hand_have_no_digest_to_differ() -> None:
    images = Images(torch.zeros(4, 1, 2, 2), torch.zeros(4).long())
    Splits(images, images, images, 2, torch.zeros(1, 1, 1), torch.ones(1, 1, 1)).check_digests({})


# --- a run ----------------------------------------------------------------------------------------------------------

UNSEEDED = """
    import numpy as np

    def drawn(how: str):
        labels = np.arange(60) % 3
        images = np.zeros((60, 4, 4), np.uint8)
        images[np.arange(60), labels] = np.arange(60)[:, None]
        match how:
            case "generator":
                order = np.random.default_rng().permutation(60)
            case "python":
                import random
                order = np.array(random.sample(range(60), 60))
            case "torch":
                import torch
                order = torch.randperm(60).numpy()
            case "process":
                import os
                order = np.roll(np.arange(60), os.getpid() % 59 + 1)
            case _:
                order = np.random.default_rng(7).permutation(60)
        images, labels = images[order], labels[order]
        train = dict(train_images=images[:45], train_labels=labels[:45])
        return train | dict(test_images=images[45:], test_labels=labels[45:])
"""


def plan_on(folder: Path, data: str, seeds: int = 2) -> Plan:
    grid = textwrap.dedent(GRID).replace("{name: digits, limit: 100}", data).replace("seeds: 3", f"seeds: {seeds}")
    (folder / "grid.yaml").write_text(grid)
    return load_plan(folder / "grid.yaml")


def train(plan: Plan, **changes: Any) -> Summary:
    options = Options(**{"results": Path("results"), "device": "cpu", "executor": "inline", "jobs": 1, **changes})
    return run(plan, options, Progress(Console(file=io.StringIO()), ["bench"]))


@pytest.mark.parametrize("how", ["generator", "python", "torch", "process"])
def test_data_that_are_drawn_without_a_seed_stop_a_trial_before_it_trains(
    tmp_path: Path, workshop: Write, how: str
) -> None:
    workshop("my_data", textwrap.dedent(UNSEEDED))
    plan = plan_on(tmp_path, f'{{name: "my_data:drawn", how: {how}}}', seeds=1)
    assert train(plan).statuses == {"error": 2}
    rows = Records(Path("results") / plan.name).trials.rows()
    assert all(row["error"].startswith("DataError: the data are not repeatable: train, dev, test of") for row in rows)
    assert all(row["test_accuracy"] == "" for row in rows)


def test_data_that_are_drawn_with_a_seed_train(tmp_path: Path, workshop: Write) -> None:
    workshop("my_data", textwrap.dedent(UNSEEDED))
    plan = plan_on(tmp_path, '{name: "my_data:drawn", how: seeded}', seeds=1)
    assert train(plan).statuses == {"ok": 2}
    rows = Records(Path("results") / plan.name).trials.rows()
    assert len({tuple(row[name] for name in DIGESTS) for row in rows}) == 1
    assert all(len(rows[0][name]) == 12 for name in DIGESTS)


def write_noise(path: str, noise: float) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = random.normal(0, noise, (90, 4, 4)).astype(np.float32)
    images[np.arange(90), labels, 0] += 1
    parts = {"train_images": images[:60], "train_labels": labels[:60]}
    np.savez(path, **parts, test_images=images[60:], test_labels=labels[60:])


def test_data_that_are_put_back_make_their_results_valid_again(tmp_path: Path, workshop: Write) -> None:
    plan, more = (plan_on(tmp_path, "{name: npz, path: my.npz}", seeds) for seeds in (1, 2))
    write_noise("my.npz", 2)
    train(plan)
    write_noise("my.npz", 0.1)
    _splits.cache_clear()
    with pytest.raises(ValueError, match="rest on other data"):
        train(more)
    write_noise("my.npz", 2)
    _splits.cache_clear()
    assert train(more).statuses == {"ok": 2}
    assert len(gather(Path("results") / plan.name, more).trials) == 4


def test_a_setting_tells_two_versions_of_data_apart(tmp_path: Path, workshop: Write) -> None:
    one = plan_on(tmp_path, "{name: npz, path: my.npz}", 1)
    write_noise("my.npz", 2)
    train(one)
    write_noise("other.npz", 0.1)
    both = plan_on(tmp_path, "{name: npz, path: other.npz}", 1)
    assert train(both).statuses == {"ok": 2}
    assert len(Records(Path("results") / one.name).trials.rows()) == 4
