"""The page: one file in which no text acts as markup, and which works in a browser without a network."""

from __future__ import annotations

import importlib.resources
import importlib.util
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from markupsafe import escape
from test_findings import GRID, accuracy, findings

from bench.analysis.findings import Findings
from bench.analysis.tables import pareto
from bench.grid.load import Trial
from bench.grid.metrics import lab_metrics
from bench.report import charts
from bench.report.overview import overview, overview_page
from bench.report.page import embedded, figures, page, trial_rows

TEST = lab_metrics()["test_accuracy"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = GRID.replace("What matters?", "Does <script>alert(1)</script> matter?")


def value(trial: Trial) -> float | None:
    return None if (trial.seed, trial.cell.label) == (3, "residual=false batch_norm=false") else accuracy(trial)


@pytest.fixture
def found(tmp_path: Path) -> Findings:
    logs = tmp_path / "logs"
    logs.mkdir()
    findings(tmp_path, HOSTILE, value)
    (tmp_path / "trials.csv").unlink()
    made = findings(tmp_path, HOSTILE, value)
    lost = made.found.loc[made.found["status"] == "diverged", "trial_id"].item()
    (logs / f"{lost}.log").write_text("Traceback: </pre><img src=x onerror=alert(2)>")
    return made


def test_the_page_is_one_small_file_with_the_answer_first(found: Findings) -> None:
    text = page(found)
    assert len(text.encode()) < 6_000_000
    own = text.split("<script>")[0]
    assert not re.search(r"(src|href)=\"(?!data:)", own)
    order = [own.index(part) for part in ('class="answer"', "Effects and verdicts", "Trials</h2>", "The grid</h2>")]
    assert order == sorted(order)
    assert str(escape(found.answer)) in own


def test_text_of_the_grid_and_of_logs_is_escaped(found: Findings) -> None:
    text = page(found)
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "&lt;/pre&gt;&lt;img src=x onerror=alert(2)&gt;" in text
    assert embedded(["</script>&"]) == '["\\u003c/script\\u003e\\u0026"]'


def test_trials_that_all_failed_leave_no_column_of_the_metric_and_still_have_rows(found: Findings) -> None:
    failed = replace(found, trials=found.trials.drop(columns="test_accuracy").assign(status="error"))
    rows = trial_rows(failed)
    assert len(rows) == len(found.trials)
    assert {row["after"][0] for row in rows} == {""}
    assert all(row["log"] for row in rows)


def test_every_chart_says_in_words_what_it_shows(found: Findings) -> None:
    drawn = figures(found)
    said = "Hollow: undecided. model.residual=false: worse by 28.8 points where both trained; trains in 7 of 8"
    assert drawn[0].alternative.startswith(said)
    assert page(found).count('role="group"') == page(found).count("<figcaption") == len(drawn)


def test_the_forest_has_the_effects_in_points(found: Findings) -> None:
    trace = charts.forest(found.effects, TEST)["data"][0]
    assert trace["y"] == ["model.residual: false − true", "model.batch_norm: false − true"]
    assert trace["marker"]["symbol"] == ["diamond", "diamond-open"]  # the second is undecided
    assert trace["x"][0] == pytest.approx(-28.75)  # the mean over the cells of their means


def test_the_front_holds_the_cells_that_no_other_beats_in_both() -> None:
    cells = pd.DataFrame({"cell": list("abcde"), "test_accuracy": [0.5, 0.9, 0.8, 0.9, None], "cost": [1, 3, 2, 4, 0]})
    assert pareto(cells, TEST, "cost", low_is_good=True)["cell"].tolist() == ["a", "c", "b"]
    assert pareto(cells, TEST, "cost", low_is_good=False)["cell"].tolist() == ["d"]


PROBE = """
<script>
addEventListener("error", event => document.body.dataset.error = event.message);
addEventListener("load", () => {
  const body = document.querySelector("#trials tbody"), heads = [...document.querySelectorAll("#trials th")];
  const column = heads.findIndex(head => head.textContent === "test accuracy");
  heads[column].firstChild.click(); heads[column].firstChild.click();
  document.body.dataset.top = body.rows[0].cells[column].textContent;
  const box = document.getElementById("filter");
  box.value = "diverged"; box.dispatchEvent(new Event("input"));
  document.body.dataset.shown = document.getElementById("count").textContent;
  document.body.dataset.charts = document.querySelectorAll(".main-svg").length > 0;
  const set = document.querySelector("fieldset"), chart = set.parentElement;
  const drawn = () => chart.querySelectorAll(".scatterlayer .trace").length;
  const boxes = set.querySelectorAll("input[type=checkbox]"), before = drawn();
  boxes[0].click();
  document.body.dataset.toggled = [boxes.length, before - drawn()];
});
</script>
"""
AUDIT = """
<script>
addEventListener("load", () => axe.run().then(result => {
  const bad = result.violations.filter(found => ["serious", "critical"].includes(found.impact));
  document.body.dataset.violations = bad.map(found => found.id + ": " + found.nodes[0].html.slice(0, 80)).join("; ");
  document.body.dataset.passes = result.passes.length > 10;
}));
</script>
"""


def opened(text: str, folder: Path) -> dict[str, str]:
    """What a page, opened in Chromium without a network, leaves in its body's ``data-`` attributes."""
    assert CHROMIUM is not None
    file = folder / "index.html"
    file.write_text(text)
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command = [CHROMIUM, *options, "--virtual-time-budget=10000", "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return dict(re.findall(r'data-(\w+)="([^"]*)"', re.findall(r"<body[^>]*>", done.stdout)[-1]))


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_in_a_browser_charts_are_drawn_and_trials_are_sorted_and_sifted(found: Findings, tmp_path: Path) -> None:
    state = opened(page(found).replace("</head>", PROBE + "</head>", 1), tmp_path)
    best = found.trials["test_accuracy"].max()
    assert state == {"top": f"{best:.4f}", "shown": "1 of 16", "charts": "true", "toggled": "2,1"}


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.skipif(importlib.util.find_spec("axe_core_python") is None, reason="axe-core-python is not installed")
@pytest.mark.parametrize("which", ["report", "overview"])
def test_the_accessibility_audit_finds_nothing_serious(found: Findings, tmp_path: Path, which: str) -> None:
    axe = importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    text = page(found) if which == "report" else overview_page(overview([found, found], tmp_path))
    state = opened(text.replace("</head>", f"<script>{axe}</script>{AUDIT}</head>", 1), tmp_path)
    assert state == {"violations": "", "passes": "true"}
