"""The record: append-only CSV files that survive torn writes, new columns and hostile text."""

from __future__ import annotations

import csv
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from bench.cli import app
from bench.record.records import CURVE, Records, read_correct, read_curves, read_examples, read_trials
from bench.record.table import RecordError, Table, decode_text, encode, merged
from bench.record.timings import read_timings
from lab.result import Evaluation

COLUMNS = ["trial_id", "status", "seed", "test_accuracy"]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "trials.csv")


def row(trial_id: str, status: str = "ok", **more: object) -> dict[str, object]:
    return {"trial_id": trial_id, "status": status, **more}


def point(step: int, accuracy: float = 0.5) -> Evaluation:
    train_loss = float("nan") if step == 0 else 2.0
    return Evaluation(step, step / 10, train_loss, step * 0.1, {"dev_accuracy": accuracy, "dev_loss": 2.3})


def test_a_row_is_one_line_below_the_header(table: Table) -> None:
    table.append(COLUMNS, [row("a1", seed=0, test_accuracy=0.5)])
    table.append(COLUMNS, [row("b2", "error", seed=1)])
    assert table.path.read_text() == "trial_id,status,seed,test_accuracy\na1,ok,0,0.5\nb2,error,1,\n"


def test_values_are_written_as_yaml_writes_them_and_numbers_round_trip() -> None:
    assert [encode(v) for v in (None, True, False, 3, [1, 2], "a, b")] == ["", "true", "false", "3", "[1, 2]", "a, b"]
    for number in (0.1 + 0.2, 1e-300, 123456789.123456789):
        assert float(encode(number)) == number


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "'=1", "''@x"])
def test_text_cannot_become_a_formula_and_reads_back_as_it_was(text: str) -> None:
    assert encode(text)[0] == "'"
    assert decode_text(encode(text)) == text


def test_a_row_is_one_line_whatever_its_text(table: Table) -> None:
    text = "first\nsecond\r\nC:\\new"
    table.append(COLUMNS, [row("a1", text)])
    assert len(table.path.read_text().splitlines()) == 2
    assert table.rows()[0]["status"] == text


def test_a_negative_number_is_not_taken_for_a_formula() -> None:
    assert encode(-0.5) == "-0.5"


def test_a_column_that_the_file_lacks_is_added_and_no_row_is_lost(table: Table) -> None:
    table.append(COLUMNS, [row("a1", seed=-1, test_accuracy=0.5)])
    table.append(["trial_id", "status", "seed", "model.heads", "test_accuracy"], [row("b2", **{"model.heads": 4})])
    assert table.rows() == [
        {"trial_id": "a1", "status": "ok", "seed": "-1", "model.heads": "", "test_accuracy": "0.5"},
        {"trial_id": "b2", "status": "ok", "seed": "", "model.heads": "4", "test_accuracy": ""},
    ]


def test_a_column_that_only_the_file_has_is_kept(table: Table) -> None:
    table.append([*COLUMNS, "note"], [row("a1", note="by hand")])
    table.append(["extra", *COLUMNS], [row("b2", extra="1")])
    assert [r["note"] for r in table.rows()] == ["by hand", ""]


def test_new_columns_stand_where_their_writer_puts_them() -> None:
    assert merged(["id", "a", "old", "end"], ["id", "a", "b", "end"]) == ["id", "a", "old", "b", "end"]


def test_a_torn_last_line_is_set_aside(table: Table) -> None:
    table.append(COLUMNS, [row("a1")])
    with table.path.open("a") as file:
        file.write("b2,o")
    assert [r["trial_id"] for r in table.rows()] == ["a1"]
    table.append(COLUMNS, [row("c3")])
    assert [r["trial_id"] for r in table.rows()] == ["a1", "c3"]
    assert table.path.with_name("trials.csv.torn").read_text() == "b2,o\n"


# --- rows that cannot be read ---------------------------------------------------------------------------------------


def test_a_foreign_row_is_left_out_and_told_with_its_line(table: Table) -> None:
    table.append(COLUMNS, [row("a1")])
    with table.path.open("a") as file:
        file.write("b2,ok\n")
    table.append(COLUMNS, [row("c3")])
    assert [r["trial_id"] for r in table.rows()] == ["a1", "c3"]
    assert table.unreadable == [f"{table.path}:3: a row must have the header's 4 columns, has 2"]
    assert table.line_of(1) == f"{table.path}:4"


def test_bytes_that_are_not_utf_8_are_left_out_and_told_with_their_line(table: Table) -> None:
    table.path.write_bytes(b"trial_id,status\na1,ok\nb2,caf\xe9\nc3,\xc3\xa9\n")
    assert [r["trial_id"] for r in table.rows()] == ["a1", "c3"]
    assert table.unreadable == [f"{table.path}:3: must be UTF-8, has byte 0xe9"]


def test_a_rewrite_keeps_what_cannot_be_read_in_a_file_beside_it(table: Table) -> None:
    table.path.write_bytes(b"trial_id,status\na1,ok\nb2,caf\xe9\nc3\n")
    table.append(["trial_id", "status", "seed"], [row("d4", seed=1)])
    assert [r["trial_id"] for r in table.rows()] == ["a1", "d4"]
    assert table.unreadable == []
    assert table.path.with_name("trials.csv.unreadable").read_bytes() == b"b2,caf\xe9\nc3\n"


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ({"test_accuracy": "tensor(0.8194)"}, "test_accuracy must be a number, got 'tensor(0.8194)'"),
        ({"dev_accuracy": "high"}, "dev_accuracy must be a number, got 'high'"),
        ({"test_mine": "[1, 2]"}, "test_mine must be a number, got '[1, 2]'"),
        ({"attempts": "twice"}, "attempts must be a number, got 'twice'"),
        ({"attempts": "inf"}, "attempts must be a finite number, got 'inf'"),
        ({"test_accuracy": "1e999"}, "test_accuracy must be a finite number, got '1e999'"),
        ({"dev_accuracy": "NaN"}, "dev_accuracy must be a number, got 'NaN'"),
        ({"test_accuracy": "1_000"}, "test_accuracy must be a number, got '1_000'"),
        ({"test_accuracy": "٣"}, "test_accuracy must be a number, got '٣'"),
        ({"seed": "1.5"}, "seed must be a whole number, got '1.5'"),
        ({"threads": "1.5"}, "threads must be a whole number, got '1.5'"),
        ({"seed": "-1"}, "seed must be a whole number, got '-1'"),
        ({"status": "fine"}, "status must be one of ok, diverged,"),
    ],
)
def test_a_row_that_cannot_be_read_counts_as_not_recorded_until_it_is_run_again(
    tmp_path: Path, cells: dict[str, str], problem: str
) -> None:
    records = Records(tmp_path)
    records.append(row("a1", dev_accuracy=0.5), [])
    records.append(row("b2", dev_accuracy=0.9) | cells, [])
    assert records.outcomes().keys() == {"a1"}
    assert len(records.unreadable) == 1
    assert records.unreadable[0].startswith(f"{tmp_path / 'trials.csv'}:3: {problem}")
    assert read_trials(tmp_path)["trial_id"].tolist() == ["a1"]
    records.append(row("b2", dev_accuracy=0.7), [])
    assert records.outcomes()["b2"].score == 0.7
    assert records.unreadable == []
    assert read_trials(tmp_path)["dev_accuracy"].tolist() == [0.5, 0.7]


def test_what_is_infinite_of_a_trial_that_failed_is_no_number(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.append(row("a1", status="diverged", dev_accuracy=float("inf"), seed=0), [])
    assert records.outcomes()["a1"].score is None
    assert read_trials(tmp_path)["dev_accuracy"].isna().tolist() == [True]


def test_points_without_a_step_are_left_out_and_infinite_scores_are_no_numbers(tmp_path: Path) -> None:
    head = "trial_id,step,epoch,dev_accuracy,dev_loss,train_loss,train_seconds"
    rows = ["a1,0,0,0.1,2,nan,0", "a1,inf,1,0.2,2,2,1", "a1,1.5,1,0.2,2,2,1", "a1,9,2,0.3,inf,2,2", "a1,,3,0.4,2,2,2"]
    (tmp_path / "curves.csv").write_text("\n".join([head, *rows, ""]))
    unreadable: list[str] = []
    curves = read_curves(tmp_path, unreadable)
    assert curves["step"].tolist() == [0, 9]
    assert curves["dev_loss"].isna().tolist() == [False, True]
    assert [one.rpartition("must be ")[2] for one in unreadable] == [
        "a whole number, got 'inf'",
        "a whole number, got '1.5'",
    ]


def test_outcomes_of_examples_that_cannot_be_read_are_left_out_and_told(tmp_path: Path) -> None:
    folder = tmp_path / "examples"
    folder.mkdir()
    for name, values in (("a1", np.zeros(3, np.float32)), ("b2", np.array(["x"])), ("c3", np.zeros((2, 2)))):
        np.savez(folder / f"{name}.npz", test_loss=values)
    (folder / "d4.npz").write_bytes((folder / "a1.npz").read_bytes()[:90])
    (folder / "e5.npz").write_bytes(b"")
    unreadable: list[str] = []
    assert read_examples(tmp_path, unreadable=unreadable).keys() == {"a1"}
    assert [Path(one.partition(":")[0]).stem for one in unreadable] == ["b2", "c3", "d4", "e5"]


def test_a_model_whose_timing_cannot_be_read_is_left_out_and_told(tmp_path: Path) -> None:
    head = "timing_id,reliable," + ",".join(f"train_images_per_second{end}" for end in ("_low", "", "_high"))
    rows = ["a1,true,90.0,100.0,110.0", "b2,true,90.0,fast,110.0", "c3,true,,100.0,110.0", "d4,true"]
    (tmp_path / "timings.csv").write_text("\n".join([head, *rows, ""]))
    unreadable: list[str] = []
    assert [one["timing_id"] for one in read_timings(tmp_path, unreadable)] == ["a1"]
    assert sorted(one.removeprefix(f"{tmp_path / 'timings.csv'}:") for one in unreadable) == [
        "3: train_images_per_second must be a number, got 'fast'",
        "4: train_images_per_second_low must be a number, got ''",
        "5: a row must have the header's 5 columns, has 2",
    ]


def test_a_trial_whose_row_and_curve_were_edited_is_shown_with_what_is_wrong(tmp_path: Path) -> None:
    records = Records(tmp_path / "grid")
    records.folder.mkdir()
    records.append(row("a1", status="fine", cell="", dev_accuracy=0.5), [], [point(0), point(10)])
    curves = records.curves.path
    curves.write_text(curves.read_text().replace("a1,0,", "a1,zero,"))
    done = CliRunner().invoke(app, ["show", "a1", "--results", str(tmp_path)], env={"COLUMNS": "400"})
    assert done.exit_code == 0
    assert "trials.csv:2: status must be one of ok, diverged" in done.output
    assert "the row counts as not recorded" in done.output


@pytest.mark.parametrize("content", [b"", b"trial_id,sta", b"\n"])
def test_a_file_whose_header_was_not_written_holds_no_rows(table: Table, content: bytes) -> None:
    table.path.write_bytes(content)
    ours = Table(table.path, ["trial_id", "status"])
    assert ours.rows() == []
    ours.append(["trial_id", "status"], [row("a1")])
    assert ours.rows() == [row("a1")]


def test_a_result_without_its_selecting_score_is_run_again(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.append(row("a1", dev_accuracy=""), [])
    assert records.outcomes() == {}
    assert records.unreadable == [f"{tmp_path / 'trials.csv'}:2: dev_accuracy must be a number, got ''"]


def test_a_last_row_that_cannot_be_read_is_not_answered_by_an_earlier_one(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.append(row("a1", dev_accuracy=0.5), [])
    records.append(row("a1", dev_accuracy="?"), [])
    assert records.outcomes() == {}
    assert read_trials(tmp_path).empty


def test_points_and_bits_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    head = "trial_id,step,epoch,dev_accuracy,dev_loss,train_loss,train_seconds"
    (tmp_path / "curves.csv").write_text(f"{head}\na1,0,0,0.1,2,nan,0\na1,5,1,tensor(1),2,2,1\na1,9,2,0.3,2,2,2\n")
    assert read_curves(tmp_path)["dev_accuracy"].tolist() == [0.1, 0.3]
    (tmp_path / "correct.csv").write_text("trial_id,num_images,correct\na1,9,?\nb2,many,AA==\nc3,3,oA==\n")
    assert {key: bits.tolist() for key, bits in read_correct(tmp_path).items()} == {"c3": [True, False, True]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("trials.csv", "trial_id;status\na1;ok\n", r"trials\.csv:1: the header must have trial_id, status, has"),
        ("curves.csv", "step\n1\n", r"curves\.csv:1: the header must have trial_id, epoch, train_loss"),
        ("sources.csv", "file,digest\n", r"sources\.csv:1: the header must have source_fingerprint"),
    ],
)
def test_a_file_with_another_header_is_not_ours(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RecordError, match=message):
        {
            "trials.csv": lambda: Records(tmp_path).outcomes(),
            "curves.csv": lambda: read_curves(tmp_path),
            "sources.csv": lambda: Records(tmp_path).digests(),
        }[name]()


def test_what_a_spreadsheet_saved_is_read_and_appended_to(table: Table) -> None:
    table.path.write_bytes(b"\xef\xbb\xbftrial_id,status\r\na1,ok\r\n")
    table.append(["trial_id", "status"], [row("b2", "error")])
    assert table.rows() == [row("a1"), row("b2", "error")]
    table.append(["trial_id", "status", "seed"], [row("c3", seed=1)])
    assert [r["seed"] for r in table.rows()] == ["", "", "1"]


def test_a_curve_without_its_beginning_is_kept(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.append(row("a1"), [], [point(10), point(20)])
    records.append(row("a1"), [], [point(0), point(10)])
    records.compact()
    assert [r["step"] for r in records.curves.rows()] == ["0", "10"]
    records.append(row("b2"), [], [point(10)])
    records.compact()
    assert [r["trial_id"] for r in records.curves.rows()] == ["a1", "a1", "b2"]


def test_what_a_fingerprint_is_of_is_written_once(tmp_path: Path) -> None:
    for records in (Records(tmp_path), Records(tmp_path)):
        for trial_id in "ab":
            record = row(trial_id, source_fingerprint="f1")
            records.append(record, [], sources={"lab/models.py": "d1", "my_nets.py": "d2"})
    assert len(records.sources.rows()) == 2
    assert records.digests() == {"f1": {"lab/models.py": "d1", "my_nets.py": "d2"}}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1, max_size=4),
    cut=st.integers(0, 400),
)
def test_whatever_the_text_and_wherever_it_is_torn_what_was_whole_stays_whole(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], cut: int
) -> None:
    table = Table(tmp_path_factory.mktemp("records") / "trials.csv")
    ends = []
    for index, text in enumerate(texts):
        table.append(["trial_id", "error"], [{"trial_id": str(index), "error": text}])
        ends.append(table.path.stat().st_size)
    assert [r["error"] for r in table.rows()] == texts
    header = len("trial_id,error\n")
    size = max(header, min(cut, ends[-1]))
    with table.path.open("rb+") as file:
        file.truncate(size)
    table.append(["trial_id", "error"], [{"trial_id": "last", "error": "x"}])
    whole = sum(end <= size for end in ends)
    with table.path.open(newline="", encoding="utf-8") as file:
        found = [cells[0] for cells in csv.reader(file)][1:]
    assert found[:whole] == [str(i) for i in range(whole)]
    assert found[-1] == "last"


def append_many(folder: Path, name: str) -> None:
    table = Table(folder / "trials.csv")
    for index in range(25):
        table.append(COLUMNS, [row(f"{name}{index}", seed=index)])


def test_writers_in_several_processes_never_mix_their_lines(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append_many, args=(tmp_path, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    rows = Table(tmp_path / "trials.csv").rows()
    assert sorted(r["trial_id"] for r in rows) == sorted(f"{name}{i}" for name in "ab" for i in range(25))


def test_a_trial_has_its_row_its_curve_and_a_bit_a_test_image(tmp_path: Path) -> None:
    correct = np.array([True, False, True, True, False, True, True, True, False, True])
    record = row("a1", seed=0, test_accuracy=0.7, **{"model.name": "lenet"})
    Records(tmp_path).append(record, ["model.name"], [point(0), point(10)], np.packbits(correct).tobytes(), 10)
    trials = read_trials(tmp_path)
    assert trials.loc[0, "test_accuracy"] == 0.7
    assert list(trials.columns[:7]) == ["trial_id", "grid", "cell", "status", "error", "seed", "model.name"]
    curves = read_curves(tmp_path)
    assert list(curves.columns) == [*CURVE[:3], "dev_accuracy", "dev_loss", *CURVE[3:]]
    assert curves["step"].tolist() == [0, 10]
    assert np.array_equal(read_correct(tmp_path)["a1"], correct)


def test_of_a_trial_that_was_tried_again_the_last_attempt_counts(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.append(row("a1", "error", attempts=1), [], [point(0), point(10), point(20)])
    records.append(row("b2", dev_accuracy=0.5), [], [point(0)])
    records.append(row("a1", "ok", dev_accuracy=0.9, attempts=2), [], [point(0, 0.9), point(10, 0.9)])
    for _ in range(2):
        assert records.outcomes() == {"a1": ("ok", 0.9, 2, "", False), "b2": ("ok", 0.5, 1, "", False)}
        assert len(read_trials(tmp_path)) == 2
        curves = read_curves(tmp_path)
        assert curves[curves["trial_id"] == "a1"]["dev_accuracy"].tolist() == [0.9, 0.9]
        records.compact()
    assert len(records.trials.rows()) == 2
    assert len(records.curves.rows()) == 3
