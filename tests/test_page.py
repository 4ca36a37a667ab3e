"""The page: one file in which no text acts as markup, and which works in a browser without a network."""

from __future__ import annotations

import importlib.resources
import importlib.util
import math
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
from bench.grid.metrics import Metric, lab_metrics
from bench.report import alternatives, charts
from bench.report.overview import overview, overview_page
from bench.report.page import embedded, figures, page, trial_rows, varying
from bench.report.telling import titles

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
    said = "model.residual=false: worse by 28.8 points where both trained; trains in 7 of 8"
    assert drawn[0].alternative.startswith(said)
    assert page(found).count('role="group"') == page(found).count("<figcaption") == len(drawn)


@pytest.mark.parametrize(("steps", "has_figure"), [([500], False), ([250, 500], True)])
def test_curves_of_one_point_each_are_no_figure(found: Findings, steps: list[int], has_figure: bool) -> None:
    rows = [
        {"cell": cell, "step": step, "epoch": step / 250, "n": 3, "dev_accuracy": 0.5, "lowest": 0.4, "highest": 0.6}
        for cell in found.cells["cell"]
        for step in steps
    ]
    drawn = replace(found, curves=pd.DataFrame(rows))
    assert any("while training" in figure.heading for figure in figures(drawn)) is has_figure
    assert ("curves" in titles(drawn)) is has_figure


CELLS = pd.DataFrame(
    {
        "cell": ["a", "b"],
        "words": ["with it", "without"],
        "variant": ["with it", "without"],
        "column": ["", ""],
        "row": ["", ""],
        "is_baseline": [True, False],
        "test_accuracy": [0.958, 0.7],
        "test_accuracy_low": [0.94, 0.68],
        "test_accuracy_high": [0.97, 0.72],
        "parameters_low": [2000, 61_706],
    }
)
POINTS = pd.DataFrame({"cell": ["a", "a", "b", "b"], "epoch": [0, 1, 0, 1], "dev_accuracy": [0.1, 0.828, 0.2, 0.71]})
POINTS = POINTS.assign(lowest=POINTS["dev_accuracy"], highest=POINTS["dev_accuracy"])


def test_the_words_for_curves_say_from_where_to_where_and_how_far_from_test_they_end() -> None:
    said = alternatives.curves(POINTS, CELLS, lab_metrics()["dev_accuracy"], TEST)
    assert "with it: 10.0 % to 82.8 %; without: 20.0 % to 71.0 %." in said
    assert "differ from theirs by up to 13.0 points (with it: 82.8 % here, 95.8 % on test)" in said


def test_the_words_for_an_interaction_give_the_means_along_each_line() -> None:
    means = pd.DataFrame([[0.8, 0.5], [0.7, 0.75]], index=["18", "34"], columns=["true", "false"])
    said = alternatives.interaction(means.rename_axis("depth").rename_axis(columns="residual"), TEST)
    assert "depth=18: 80.0 % at true, 50.0 % at false; depth=34: 70.0 % at true, 75.0 % at false" in said


def test_the_words_for_a_cost_name_its_ends_and_the_front() -> None:
    said = alternatives.trade_off(CELLS, TEST, "parameters_low")
    assert said.startswith("From with it at 2,000 with 95.8 % to without at 61,706 with 70.0 %, in parameters.")
    assert said.endswith("which no other beats in both: with it (higher is better).")


def test_curves_are_small_multiples_whose_colours_belong_to_the_variant() -> None:
    cells = pd.concat([CELLS.assign(column="deep"), CELLS.assign(column="wide", cell=["c", "d"])])
    points = pd.concat([POINTS, POINTS.assign(cell=POINTS["cell"].map({"a": "c", "b": "d"}))])
    chart = charts.curves(points, cells, lab_metrics()["dev_accuracy"])
    assert [panel["title"] for panel in chart["panels"]] == ["deep", "wide"]
    assert [item["name"] for item in chart["legend"]] == ["with it", "without"]
    colors = [[trace["line"]["color"] for trace in panel["data"][1::2]] for panel in chart["panels"]]
    assert colors[0] == colors[1] == [item["color"] for item in chart["legend"]]
    ranges = [panel["layout"]["yaxis"]["range"] for panel in chart["panels"]]
    assert ranges[0] == ranges[1]


def test_the_trials_show_the_levels_of_their_cell_and_no_label_that_repeats_them(found: Findings) -> None:
    assert list(varying(found).values()) == ["residual", "batch_norm"]
    first = trial_rows(found)[0]["before"]
    assert first == [found.trials["trial_id"].iloc[0], "true", "true", "0"]


def test_the_forest_has_the_effects_in_points_and_tells_better_from_worse(found: Findings) -> None:
    (panel,) = charts.forest(found.effects, TEST)["panels"]
    (trace,), written = panel["data"], [one["text"] for one in panel["layout"]["annotations"]]
    assert written[:2] == ["model.residual: false − true: worse", "model.batch_norm: false − true: undecided"]
    assert trace["marker"]["symbol"] == ["diamond", "diamond-open"]
    assert trace["marker"]["color"] == ["--bad", "--muted"]
    assert trace["x"][0] == pytest.approx(-28.75)  # the mean over the cells of their means
    assert written[2:] == ["← worse", "better →"]


def test_where_lower_is_better_the_left_side_of_the_forest_is_the_better_one(found: Findings) -> None:
    loss = lab_metrics()["test_loss"]
    written = charts.forest(found.effects.assign(verdict="better"), loss)["panels"][0]["layout"]["annotations"]
    assert [one["text"] for one in written[2:]] == ["← better", "worse →"]


def test_a_ratio_is_drawn_on_a_log_axis_with_plain_numbers_and_its_margin(found: Findings) -> None:
    rmse = Metric("test_rmse", "lower", scale="log", margin=0.02)
    effects = found.effects.assign(difference=[0.4, -0.2], difference_low=[0.3, -0.3], difference_high=[0.5, -0.1])
    (panel,) = charts.forest(effects, rmse)["panels"]
    axis, band = panel["layout"]["xaxis"], panel["layout"]["shapes"][0]
    assert panel["data"][0]["x"] == pytest.approx([math.exp(0.4), math.exp(-0.2)])
    assert axis["type"] == "log"
    assert "1" in axis["ticktext"]
    assert (band["x0"], band["x1"]) == pytest.approx((1 / 1.02, 1.02))


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
  document.body.dataset.legends = document.querySelectorAll(".legend, .modebar").length;
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
    drawn = {"charts": "true", "toggled": "2,1", "legends": "0"}
    assert state == {"top": f"{best:.4f}", "shown": "1 of 16", **drawn}


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.skipif(importlib.util.find_spec("axe_core_python") is None, reason="axe-core-python is not installed")
@pytest.mark.parametrize("which", ["report", "overview"])
def test_the_accessibility_audit_finds_nothing_serious(found: Findings, tmp_path: Path, which: str) -> None:
    axe = importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    text = page(found) if which == "report" else overview_page(overview([found, found], tmp_path))
    state = opened(text.replace("</head>", f"<script>{axe}</script>{AUDIT}</head>", 1), tmp_path)
    assert state == {"violations": "", "passes": "true"}
