"""The page: one file in which no text acts as markup, and which works in a browser without a network."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from markupsafe import escape
from test_findings import GRID, accuracy, findings

from bench import charts
from bench.findings import Findings
from bench.grid import Trial
from bench.page import embedded, figures, page
from bench.tables import pareto

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


def test_every_chart_says_in_words_what_it_shows(found: Findings) -> None:
    drawn = figures(found)
    assert drawn[0].alternative.startswith("model.residual=false: worse by 28.6 points; model.batch_norm=false: undec")
    assert page(found).count('role="img"') == len(drawn)


def test_the_forest_has_the_effects_in_points(found: Findings) -> None:
    trace = charts.forest(found.effects)["data"][0]
    assert trace["y"] == ["model.residual: false − true", "model.batch_norm: false − true"]
    assert trace["x"][0] == pytest.approx(-28.75 + 0.1875)  # means of the cells; the seed that only one has is high


def test_the_front_holds_the_cells_that_no_other_beats_in_both() -> None:
    cells = pd.DataFrame({"cell": list("abcde"), "test_accuracy": [0.5, 0.9, 0.8, 0.9, None], "cost": [1, 3, 2, 4, 0]})
    assert pareto(cells, "cost", low_is_good=True)["cell"].tolist() == ["a", "c", "b"]
    assert pareto(cells, "cost", low_is_good=False)["cell"].tolist() == ["d"]


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
});
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_in_a_browser_charts_are_drawn_and_trials_are_sorted_and_sifted(found: Findings, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    file = tmp_path / "index.html"
    file.write_text(page(found).replace("</head>", PROBE + "</head>", 1))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [CHROMIUM, *options, "--virtual-time-budget=5000", "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    state = dict(re.findall(r'data-(\w+)="([^"]*)"', re.findall(r"<body[^>]*>", done.stdout)[-1]))
    best = found.trials["test_accuracy"].max()
    assert state == {"top": f"{best:.4f}", "shown": "1 of 16", "charts": "true"}
