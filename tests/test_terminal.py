"""The report in a terminal: it fits a screen, breaks no word, explains what it shows; ``--full`` has all tables."""

from __future__ import annotations

import io
import shutil
import textwrap
from pathlib import Path

import pytest
from rich.console import Console
from test_report import OPTIMIZERS, Trial, optimizer, record
from typer.testing import CliRunner

from bench.analysis.findings import Findings, gather
from bench.cli import app
from bench.report import canvas, output, telling
from bench.report.drawing import Drawer
from bench.report.terminal import print_report

REFERENCE = Path(__file__).parents[1] / "results" / "reference" / "residual_vs_plain"
MANY = """
    name: many
    question: Which rate?
    base:
      data: {name: digits}
      model: {name: lenet}
      optimizer: {name: momentum, lr: 0.1}
      train: {epochs: 2}
    factors:
      optimizer.lr: [%s]
    seeds: 5
"""


def printed(findings: Findings, width: int = 80, *, full: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_report(console, findings, full=full)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def main_job() -> Findings:
    return gather(REFERENCE)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """A grid of 28 levels, whose higher rates are clearly worse."""
    folder = tmp_path_factory.mktemp("results") / "many"
    grid = MANY % ", ".join(f"0.{level:02d}" for level in range(10, 38))
    record(folder, grid, lambda trial: ("ok", 0.95 if trial.cell.levels["optimizer.lr"] < "0.35" else 0.2, 9000.0))
    return gather(folder)


# --- brief ----------------------------------------------------------------------------------------------------------


def test_the_main_job_fits_a_screen_with_answer_coverage_effects_and_where_the_rest_is(tmp_path: Path) -> None:
    shutil.copytree(REFERENCE, tmp_path / "residual_vs_plain", ignore=shutil.ignore_patterns("report"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telling, "titles", lambda findings: {})
        done = CliRunner().invoke(app, ["report", "--results", str(tmp_path)], env={"COLUMNS": "80"})
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert sum(1 + (len(line) - 1) // 80 for line in lines if line) + lines.count("") <= 50  # as a terminal wraps them
    text = " ".join(done.output.split())
    assert "4 of 6 hypotheses supported, 2 undecided" in text
    assert text.count("supported model.") + text.count("supported trained") + text.count("supported (model.") == 4
    assert "+40.0 points (-1.6 to 73.8), p = 0.051, 5 seeds; trains 4/10 vs 0/10" in text
    assert "38 of 40 trials; 2 diverged" in text
    assert "model.name resnet34 − resnet18 -33.1 ± 8.8 0.001 worse" in text
    assert (
        "trains 10/20 vs 14/20, p = 0.095; an average of effects that differ with the other factors, -54.5 to -11.7"
        in text
    )
    assert "trains less often: 4/20 vs 20/20, p = 0.024; known in 1 of 4 combinations of the other factors" in text
    assert "all tables: --full; page, figures, LaTeX, Markdown and CSV:" in text


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_console_and_the_content_is_the_same(main_job: Findings, width: int) -> None:
    text = printed(main_job, width)
    assert max(map(len, text.splitlines())) <= width
    wide = printed(main_job, 200)
    for part in (lambda said: said.split("warning")[0], lambda said: said.split("effects on")[1]):
        same, other = (" ".join(part(said).replace("─", "").split()) for said in (text, wide))
        assert same == other


def test_a_very_narrow_console_gets_it_too(main_job: Findings) -> None:
    assert max(map(len, printed(main_job, 40).splitlines())) <= 40


def test_where_there_are_very_many_effects_those_decided_and_the_largest_stay(many: Findings) -> None:
    text = printed(many)
    assert len(text.splitlines()) <= 50
    decided = many.effects[many.effects["overall"] == "worse"]
    assert len(decided) == 3
    for level in decided["level"]:
        assert f"optimizer.lr  {level} − 0.10" in text
    shown = text.count(" − 0.10")
    assert f"and {27 - shown} more: {27 - shown} undecided" in text


def test_notes_explain_what_is_shown_and_nothing_else(many: Findings, main_job: Findings) -> None:
    explained, other = printed(main_job), " ".join(printed(many).split())
    assert "trains: how many of all trials ended above chance on dev" in explained
    for word in ("trains:", "hypothes", "learning", "images/s", "Equivalent"):
        assert word not in other
    assert "±: half the 95 % interval over" in other
    assert "by Holm over 27 effects; decided under 0.05" in other


def test_a_warning_about_speeds_stands_where_speeds_are_shown(main_job: Findings) -> None:
    assert "no speeds are shown" not in printed(main_job)
    assert "no speeds are shown" in printed(main_job, full=True)


# --- full -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
def test_a_full_report_breaks_no_name_inside_a_word(main_job: Findings, width: int) -> None:
    lines = printed(main_job, width, full=True).splitlines()
    assert max(map(len, lines)) <= width
    words = {word for line in lines for word in line.replace(",", " ").replace(";", " ").replace(":", " ").split()}
    names = {"resnet18", "resnet34", "residual", "batch_norm", "model.name", "model.residual", "model.batch_norm"}
    cut = {name[:end] for name in names for end in range(5, len(name))} - names - {"model", "batch", "resnet"}
    assert not words & cut


def test_a_long_word_breaks_at_its_joints_where_there_is_no_room_for_it(tmp_path: Path) -> None:
    name = "momentum_with_a_label/that+says.all-of-its_settings,in_one_word_of_many_or_more"
    record(tmp_path / "optimizers", OPTIMIZERS.replace("momentum: {", f"'{name}': {{"), one_seed)
    lines = printed(gather(tmp_path / "optimizers"), full=True).splitlines()
    assert max(map(len, lines)) <= 80
    table = lines[lines.index("optimizer") + 1 :]
    pieces = [line.split("  ")[0].strip() for line in table[: table.index("")]]
    (start,) = [index for index, piece in enumerate(pieces) if piece.startswith("momentum_")]
    end = next(index for index in range(start, len(pieces)) if pieces[index].endswith("more"))
    assert "".join(pieces[start : end + 1]) == name
    assert all(piece[-1] in "_/+.-," for piece in pieces[start:end])


def one_seed(trial: Trial) -> tuple[str, float, float]:
    return ("diverged", 0.0, 1.0) if "momentum" in trial.cell.levels["optimizer"] else optimizer(trial)


# --- files ----------------------------------------------------------------------------------------------------------


def test_tables_and_page_are_there_before_a_figure_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "optimizers"
    record(folder, OPTIMIZERS, optimizer)
    (folder / "report").mkdir()
    (folder / "report" / "forest.pdf").write_text("of an earlier report")
    (folder / "report" / "mine.pdf").write_text("the user's own")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(canvas, "save", interrupted)
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        output.write_report(gather(folder), told.append, Drawer(is_forked=False))
    names = {path.name for path in (folder / "report").iterdir()}
    assert {"index.html", "report.md", "table.tex", "table.md", "cells.csv", "effects.csv", "mine.pdf"} <= names
    assert "forest.pdf" not in names
    assert told == ["writing tables and page", "drawing figure 1 of 4: Dev accuracy while training"]


def test_pdf_is_for_papers(tmp_path: Path) -> None:
    record(tmp_path / "optimizers", textwrap.dedent(OPTIMIZERS), optimizer)
    output.write_report(gather(tmp_path / "optimizers"))
    ends = {path.suffix for path in (tmp_path / "optimizers" / "report").iterdir()}
    assert {".png", ".svg"} <= ends
    assert ".pdf" not in ends
