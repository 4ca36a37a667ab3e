"""Where a command leaves its metrics: every format as programs really write it, while it runs and at the end."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bench.execute.trainables.readers import Csv, Json, JsonLines, Output, TensorBoard, make_readers
from bench.execute.trainables.reported import Reported

tensorboard = pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs the extra tensorboard")


def all_of(reader: Any) -> Reported:
    reported = Reported()
    reader.read(reported, is_last=False)
    reader.read(reported, is_last=True)
    return reported


def test_json_lines_are_read_as_they_come_and_a_torn_line_waits(tmp_path: Path) -> None:
    path, reported = tmp_path / "m.jsonl", Reported()
    reader = JsonLines(path)
    reader.read(reported, is_last=False)
    path.write_text('{"step": 1, "a": 2.0, "text": "x"}\n{"step": 2, "a"')
    point = reader.read(reported, is_last=False)
    assert point is not None
    assert (point.step, point.scores) == (1, {"a": 2.0})
    with path.open("a") as file:
        file.write(': 3}\n{"b": {"c": 4}}')
    reader.read(reported, is_last=True)
    assert reported.points == {1: {"a": 2.0}, 2: {"a": 3.0}}
    assert reported.final == {"b/c": 4.0}


def test_a_csv_may_have_train_and_dev_on_separate_rows_empty_cells_and_no_step(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("epoch,step,train_loss,val_loss\n0,10,0.5,\n0,10,,0.25\n1,20,0.125,\n")
    assert all_of(Csv(path)).points == {
        10: {"epoch": 0.0, "train_loss": 0.5, "val_loss": 0.25},
        20: {"epoch": 1.0, "train_loss": 0.125},
    }
    assert list(all_of(Csv(path, "epoch")).points) == [0, 1]
    path.write_text("loss,name\n3,a\n1,b\n")
    assert all_of(Csv(path)).points == {0: {"loss": 3.0}, 1: {"loss": 1.0}}
    with pytest.raises(ValueError, match=r"m.csv: there is no column epohc; there are loss, name"):
        all_of(Csv(path, "epohc"))


def test_json_holds_final_values_and_rows(tmp_path: Path) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_text('{"best": 0.5, "log_history": [{"step": 5, "loss": 2.0}, {"step": 5, "eval_loss": 1.0}]}')
    reported = all_of(Json(path, "step"))
    assert reported.final == {"best": 0.5}
    assert reported.points == {5: {"loss": 2.0, "eval_loss": 1.0}}


def test_output_is_read_by_a_pattern_across_pieces_and_progress_bars() -> None:
    (_, reader) = make_readers({"stdout": r"ep (?P<step>\d+): acc (?P<acc>[\d.]+)"}, Path("none"), {})
    assert isinstance(reader, Output)
    reported = Reported()
    for piece in (b"ep 1: a", b"cc 0.5\rep 2: acc 0.25\nnoise\n", b"ep 3: acc 0.125"):
        reader.feed(piece)
        reader.read(reported, is_last=False)
    reader.read(reported, is_last=True)
    assert reported.points == {1: {"acc": 0.5}, 2: {"acc": 0.25}, 3: {"acc": 0.125}}


def test_a_file_that_is_written_anew_is_read_from_its_start(tmp_path: Path) -> None:
    """As Lightning writes its CSV again with every new column, and others rename a new file over the old one."""
    table, lines, reported = tmp_path / "m.csv", tmp_path / "m.jsonl", Reported()
    readers = [Csv(table), JsonLines(lines)]
    for text, more in [
        ("step,loss\n1,8\n", '{"step": 1, "acc": 0.1}\n'),
        ("step,acc,loss\n1,,8\n2,0.5,4\n", '{"step": 2, "acc": 0.2}\n{"step": 3, "acc": 0.3}\n'),
        ("step,acc,loss\n1,,8\n2,0.5,4\n3,0.75,2", '{"step": 4, "acc": 0.4}\n'),
    ]:
        for path, content in ((table, text), (lines, more)):
            (tmp_path / "new").write_text(content)
            (tmp_path / "new").replace(path)
        for reader in readers:
            reader.read(reported, is_last=False)
    for reader in readers:
        reader.read(reported, is_last=True)
    assert reported.points == {
        1: {"loss": 8.0, "acc": 0.1},
        2: {"acc": 0.2, "loss": 4.0},
        3: {"acc": 0.75, "loss": 2.0},
        4: {"acc": 0.4},
    }


def test_a_point_came_when_it_was_first_read(tmp_path: Path) -> None:
    path, reported = tmp_path / "m.csv", Reported()
    reader = Csv(path)
    path.write_text("step,loss\n1,8\n")
    reader.read(reported, is_last=False)
    first = reported.seconds[1]
    with path.open("a") as file:
        file.write("2,4\n")
    reader.read(reported, is_last=True)
    assert reported.seconds[1] == first < reported.seconds[2]


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("\ufeffstep;Val Acc;loss\n1;0,5;-1,5e3\n", {1: {"Val_Acc": 0.5, "loss": -1500.0}}),
        ("step\tnote\tloss\n1\ta,b\t0.5\n", {1: {"loss": 0.5}}),
        (
            "                  epoch,    metrics/mAP50(B),   val.loss\n     3,   0.25,   1e-3\n",
            {3: {"epoch": 3.0, "metrics/mAP50_B_": 0.25, "val/loss": 0.001}},
        ),
        ('step,note,loss\r\n1,"two\nlines, ""quoted""",0.5\r\n2,,0.25\r\n', {1: {"loss": 0.5}, 2: {"loss": 0.25}}),
        ("step,loss\n1,4\nstep,acc,loss\n2,0.5,3\n", {1: {"loss": 4.0}, 2: {"acc": 0.5, "loss": 3.0}}),
        ("step,loss\n1,4\n2,nan\n\n3,inf,\n", {1: {"loss": 4.0}, 2: {"loss": None}, 3: {"loss": math.inf}}),
        ("step,loss,loss\n1,4,4\n", {1: {"loss": 4.0}}),
        ("step,loss\n1,\0\xff4\n2,\x003\n", {1: {}, 2: {"loss": 3.0}}),
    ],
)
def test_a_csv_of_many_kinds(tmp_path: Path, text: str, points: dict[int, dict[str, float | None]]) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(text.encode())
    found = all_of(Csv(path)).points
    plain = {
        step: {name: value if value == value else None for name, value in at.items()} for step, at in found.items()
    }
    assert plain == points


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "step,loss\n1,4\n2,0.5,3\n", "m.csv:3: 3 cells below 2 columns, so which is which nobody knows"),
        ("m.csv", "step,loss,loss\n1,4,5\n", "m.csv:2: two columns are called loss, and hold 4.0 and 5.0"),
        ("m.csv", f"step,note\n1,{'x' * 200_000}\n", "m.csv:2: no CSV: field larger than field limit"),
        ("m.csv", "epoch,loss\n0.5,4\n", "epoch must be an integer >= 0, got 0.5"),
        ("m.json", "0.93", "m.json: must be a mapping or a list of rows, got 0.93"),
        ("m.json", '{"acc": 0.9', "m.json: no JSON: Expecting ',' delimiter"),
        ("m.json", "[" * 100_000, "m.json: no JSON: "),
        ("m.jsonl", '{"acc": 1}\n[2]\n', "m.jsonl:2: must be a JSON mapping, got b'[2]'"),
        ("m.jsonl", '{"acc": 1}\n\x00\xff\n', "m.jsonl:2: must be a JSON mapping, got b'\\x00\\xc3\\xbf'"),
    ],
)
def test_a_file_that_cannot_be_read_rightly_is_refused_in_words(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_bytes(text.encode())
    (_, reader) = make_readers({name.partition(".")[2]: str(tmp_path / name)}, tmp_path / "none", {})
    with pytest.raises(ValueError, match=re.escape(message)):
        all_of(reader)


@pytest.mark.parametrize(
    ("text", "points", "final"),
    [
        ('{"loss": [4, 2], "acc": [0.5, NaN], "test_acc": 0.75}', {0: [4, 0.5], 1: [2, None]}, {"test_acc": 0.75}),
        ('{"history": {"epoch": [1, 2], "loss": [4, 2]}}', {1: [1, 4], 2: [2, 2]}, {}),
        ('{"hidden": [64, 32], "loss": [3], "names": ["a"], "best": Infinity}', {}, {"best": math.inf}),
    ],
)
def test_lists_in_json_are_columns(
    tmp_path: Path, text: str, points: dict[int, list[float | None]], final: dict[str, float]
) -> None:
    path = tmp_path / "history.json"
    path.write_text(text)
    reported = all_of(Json(path))
    found = {step: [value if value == value else None for value in at.values()] for step, at in reported.points.items()}
    assert (found, reported.final) == (points, final)


def by_pattern(pattern: str, *pieces: bytes) -> Reported:
    (_, reader) = make_readers({"stdout": pattern}, Path("none"), {})
    assert isinstance(reader, Output)
    reported = Reported()
    for piece in pieces:
        reader.feed(piece)
        reader.read(reported, is_last=False)
    reader.read(reported, is_last=True)
    return reported


def test_a_value_on_a_line_without_a_step_belongs_to_the_step_before_it() -> None:
    pattern = r"Train Epoch: (?P<step>\d+) .* Loss: (?P<loss>[\d.]+)|Test: (?P<acc>\d+)%|End: (?P<best>\d+)"
    text = b"Train Epoch: 1 (0%) Loss: 4\nTrain Epoch: 1 (50%) Loss: 3\n\nTest: 60%\n"
    reported = by_pattern(pattern, text, b"Train Epoch: 2 (0%) Loss: 2\nTest: 70%", b"\nEnd: 70")
    assert reported.points == {1: {"loss": 3.0, "acc": 60.0}, 2: {"loss": 2.0, "acc": 70.0}}
    assert reported.final == {"best": 70.0}


def test_values_before_a_step_and_several_at_one_step() -> None:
    text = b"acc 10\nep 1\nacc 50\nacc 60\nep 2\nacc 70\n"
    reported = by_pattern(r"ep (?P<step>\d+)|acc (?P<acc>\d+)", text)
    assert reported.points == {0: {"acc": 10.0}, 1: {"acc": 60.0}, 2: {"acc": 70.0}}
    reported = by_pattern(r"ep (?P<step>\d+)|acc (?P<acc>\d+)", text.removeprefix(b"acc 10\n"))
    assert reported.points == {1: {"acc": 60.0}, 2: {"acc": 70.0}}


def test_of_values_without_any_step_the_last_one_is_final() -> None:
    reported = by_pattern(r"loss (?P<loss>[\d.]+)", b"loss 4\nloss 2\nloss 1\n")
    assert (reported.points, reported.final, reported.repeated) == ({}, {"loss": 1.0}, {"loss"})


def test_colours_letters_in_two_pieces_and_bytes_that_are_no_text_do_not_hide_a_line() -> None:
    coloured = "\x1b[1;32mgenauigkeit\x1b[0m über alles: \x1b[K0.5\n".encode()
    middle = coloured.index("ü".encode()) + 1
    found = by_pattern(r"genauigkeit über alles: (?P<acc>[\d.]+)", b"\xff\0\n" + coloured[:middle], coloured[middle:])
    assert found.final == {"acc": 0.5}


def events_of(folder: Path, tag: str, values: Iterable[float]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary as Scalars
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    for step, value in enumerate(values):
        scalar = Scalars.Value(tag=tag, simple_value=value)
        writer.add_event(Event(step=step, summary=Scalars(value=[scalar])))
    writer.close()


@tensorboard
def test_events_of_tensorboard_are_read_whole(tmp_path: Path) -> None:
    events_of(tmp_path / "inner", "dev/loss", (step / 4 for step in range(2000)))
    points = all_of(TensorBoard(tmp_path)).points
    assert len(points) == 2000
    assert points[8] == {"dev/loss": 2.0}


@tensorboard
def test_a_tag_that_two_folders_have_is_called_by_the_folder_too(tmp_path: Path) -> None:
    events_of(tmp_path / "train", "epoch_loss", [4.0])
    reader, reported = TensorBoard(tmp_path), Reported()
    assert reader.read(reported, is_last=False) is not None  # a sign of life
    events_of(tmp_path / "validation", "epoch_loss", [5.0])
    events_of(tmp_path / "validation", "epoch_acc", [0.5])
    reader.read(reported, is_last=True)
    assert reported.points == {0: {"train/epoch_loss": 4.0, "validation/epoch_loss": 5.0, "epoch_acc": 0.5}}
