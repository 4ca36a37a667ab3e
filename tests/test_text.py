"""Text on its way out: what was written is what is shown, in every medium, whatever its letters."""

from __future__ import annotations

import html
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from test_findings import findings
from test_page import CHROMIUM, opened

from bench.analysis.findings import Findings
from bench.cli import app
from bench.cli.spelling import spelling
from bench.grid.load import Trial, load_plan
from bench.report import figures
from bench.report.escapes import markdown, plotly, tex, unset, versus
from bench.report.lettering import fallbacks, lettered, notes
from bench.report.output import write_report
from bench.report.page import page
from bench.report.paper import latex
from bench.report.telling import letters

LABELS = [
    *[
        "$x_1",
        "pay $5 or $6_7",
        "a|b",
        "<script>x</script>",
        "<b>bold</b> &amp;",
        "100 % _it_ & #1",
        "-1",
        "--x",
        "@home",
    ],
    *[
        'é, ü; "q"',
        "it's",
        "1e5",
        "007",
        "[bold]red[/]",
        ":smile: `code`",
        "{a}~^\\n",
        "\\frac{a}{b}",
        "*x*",
        "[0.5mm]",
    ],
    *["卷积 層", "שלום", "مرحبا", "n\u0303 и x\u0301", "😀", "α → Ω ≤ 3²", "%{x}", "1. one", "- two"],
]
QUESTION = "Which of $x_1$ & <b>y</b> | 100% _z_ </script> [bold] 卷积 is best?"


def hostile() -> str:
    grid = {
        "name": "hostile",
        "question": QUESTION,
        "base": {
            "data": {"name": "digits", "limit": 200},
            "model": {"name": "mlp", "hidden": [8]},
            "optimizer": {"name": "momentum", "lr": 0.05},
            "train": {"epochs": 1},
        },
        "factors": {"model.hidden": {label: [4 + index] for index, label in enumerate(LABELS)}},
        "seeds": 3,
    }
    return yaml.safe_dump(grid, allow_unicode=True, sort_keys=False)


def value(trial: Trial) -> float:
    return 0.5 + 0.01 * LABELS.index(trial.cell.levels["model.hidden"]) + 0.003 * trial.seed


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return findings(tmp_path_factory.mktemp("hostile"), hostile(), value, alone=True)


# --- figures --------------------------------------------------------------------------------------------------------


def drawn_texts(found: Findings) -> Iterator[str]:
    metric = found.plan.primary
    with lettered(letters(found.plan)):
        for figure in (figures.metric_by_cell(found.seeds, found.cells, metric), figures.forest(found.effects, metric)):
            for text in figure.findobj(Text):
                assert not (text.get_text() and text.get_parse_math())
                yield text.get_text()


def test_figures_draw_every_label_as_it_is_written(found: Findings) -> None:
    drawn = set(drawn_texts(found))
    assert set(found.cells["variant"]) <= drawn
    assert {"pay $5 or $6_7", "$x_1", "卷积 層", "<script>x</script>"} <= set(found.cells["variant"])


@pytest.mark.parametrize("label", ["שלום", "مرحبا", "model 5 שלום"])
def test_letters_that_run_to_the_left_turn_no_difference_round(label: str) -> None:
    """Without isolates "LABEL − off" would be drawn as "off − LABEL", which is another claim."""
    assert versus(label, "off", is_ratio=False) == f"\u2068{label}\u2069 − off"
    assert versus("off", label, is_ratio=True) == f"off / \u2068{label}\u2069"
    assert tex(versus(label, "off", is_ratio=False)) == f"{tex(label)} $-$ off"
    figure = Figure(figsize=(6, 1))
    figure.text(0, 0.5, versus(label, "M", is_ratio=False), fontsize=20)
    turned = Figure(figsize=(6, 1))
    turned.text(0, 0.5, f"{label} − M", fontsize=20)
    first, other = (_columns(one) for one in (figure, turned))
    assert (first == other) is (label[0] == "m")  # where the first letter runs to the right, nothing was turned


def _columns(figure: Figure) -> list[int]:
    """Where there is ink, from left to right."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    ink = np.asarray(canvas.buffer_rgba())[..., 0].min(axis=0) < 128
    return [int(column) for column in np.flatnonzero(ink)]


def test_letters_without_a_font_are_said(found: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    notes(found.plan)  # finds the font of all that is drawn, which no list is needed for afterwards
    monkeypatch.setattr("matplotlib.font_manager.fontManager.ttflist", [])
    fallbacks.cache_clear()
    (said,) = notes(found.plan)
    fallbacks.cache_clear()
    assert said.startswith("no font that is installed here has 卷 層 積 😀: figures show boxes") or "卷" in said


def test_a_report_of_such_labels_is_written_without_a_warning(found: Findings) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        target = write_report(found)
    text = (target / "report.md").read_text(encoding="utf-8")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert any("卷积 層" in line for line in tables)


# --- Markdown -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "escaped"),
    [
        ("100 % _it_ & #1", r"100 % \_it\_ &amp; \#1"),
        ("batch_norm", "batch_norm"),
        ("pay $5 or $6_7", r"pay \$5 or \$6_7"),
        ("a|b\nc", r"a\|b c"),
        ("- two", r"\- two"),
        ("1. one", r"1\. one"),
        ("-1", "-1"),
        ("===", r"\==="),
        ("1.5", "1.5"),
    ],
)
def test_markdown_shows_text_as_it_is(written: str, escaped: str) -> None:
    assert markdown(written) == escaped


# --- LaTeX ----------------------------------------------------------------------------------------------------------


def test_accents_and_greek_survive_in_latex() -> None:
    assert tex("é ü ñ Å ß") == r"\'{e} \"{u} \~{n} \AA{} \ss{}"
    assert tex("n\u0303") == r"\~{n}"
    assert tex("α Ω λ") == r"$\alpha$ $\Omega$ $\lambda$"
    assert tex("--x") == "-{}-x"
    assert tex("[0.5mm]") == "{[}0.5mm]"
    assert tex("CO₂ 10⁻³ ½ soft\u00adhyphen") == r"CO$_2$ 10$^-$$^3$ $\frac{1}{2}$ soft\-hyphen"
    assert (tex("卷 😀 é"), unset("卷 😀 é 卷")) == (r"? ? \'{e}", ["卷", "😀"])


def test_letters_that_pdflatex_lacks_are_said_in_a_comment(found: Findings) -> None:
    said = latex(found).splitlines()[1]
    assert said.startswith("% pdflatex cannot set these, which are question marks: 卷 (U+5377)")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_the_table_of_such_labels_compiles(found: Findings, tmp_path: Path) -> None:
    if subprocess.run(["kpsewhich", "booktabs.sty", "amssymb.sty"], capture_output=True, check=False).returncode:
        pytest.skip("needs booktabs and amssymb")
    (tmp_path / "table.tex").write_text(latex(found), encoding="utf-8")
    document = r"\documentclass{article}\usepackage{booktabs,amssymb}\begin{document}\input{table}\end{document}"
    (tmp_path / "paper.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "paper.log").read_text(errors="replace")


# --- the page -------------------------------------------------------------------------------------------------------

PROBE = """
<script>
addEventListener("error", event => document.body.dataset.error = event.message);
addEventListener("load", () => {
  const wanted = LABELS.map(label => label.replace(/\\n/g, " "));
  const drawn = new Set([...document.querySelectorAll("fieldset label, .annotation-text")].map(one => one.textContent));
  const found = wanted.filter(label => [...drawn].some(text => text.includes(label)));
  document.body.dataset.lost = wanted.filter(label => !found.includes(label)).join(" ; ");
});
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_charts_of_the_page_show_every_label_as_it_is_written(found: Findings, tmp_path: Path) -> None:
    labels = json.dumps(LABELS[1:]).replace("<", "\\u003c")  # the first is the baseline
    state = opened(page(found).replace("</head>", PROBE.replace("LABELS", labels) + "</head>", 1), tmp_path)
    assert state == {"lost": ""}


def test_plotly_shows_markup_as_text() -> None:
    assert plotly("<b>x</b> &amp;\ny") == "&lt;b&gt;x&lt;/b&gt; &amp;amp; y"
    assert html.unescape(plotly(QUESTION)) == QUESTION


# --- standard output ------------------------------------------------------------------------------------------------

COMMANDS = [
    *[["run", "hostile.yaml", "--dry-run"], ["report", "--full"], ["list"], ["show", "TRIAL"]],
    *[["report", "--format", form] for form in ("csv", "json", "markdown", "latex")],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoded")
    (folder / "hostile.yaml").write_text(hostile(), encoding="utf-8")
    (folder / "results" / "hostile").mkdir(parents=True)
    findings(folder / "results" / "hostile", hostile(), value)
    return folder


def said(words: list[str], encoding: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a command prints on a standard output of that encoding, in which it must be valid."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        spelling()
        app(words, standalone_mode=False)
        out.flush()
    return out.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_fails_for_an_encoding(
    folder: Path, words: list[str], encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    trial = load_plan(Path("hostile.yaml")).trials[0].trial_id
    text = said([trial if word == "TRIAL" else word for word in words], encoding, monkeypatch)
    if words[0] in ("run", "report") and words[-1] != "latex":
        assert any(spelt in text for spelt in ("é", r"\xe9", r"\u00e9", "&#233;"))


def test_json_and_markdown_lose_nothing_in_ascii(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (object_,) = json.loads(said(["report", "--format", "json"], "ascii", monkeypatch))
    assert object_["question"] == QUESTION
    assert {cell["cell"] for cell in object_["cells"]} == {f"hidden={label}" for label in LABELS}
    assert "卷积 層" in html.unescape(said(["report", "--format", "markdown"], "ascii", monkeypatch))


def test_the_command_itself_spells_what_its_output_lacks(folder: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "bench", "run", "hostile.yaml", "--dry-run"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u5377\u79ef \u5c64" in done.stdout


def test_brackets_in_names_are_no_markup(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    app(["report"], standalone_mode=False)
    assert "[bold]red[/]" in capsys.readouterr().out
