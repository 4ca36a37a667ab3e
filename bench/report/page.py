"""The page of a report: one file that needs no other and no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench.analysis.findings import Findings
from bench.record.asked import command
from bench.record.records import ENVIRONMENT
from bench.record.status import Status
from bench.report import charts
from bench.report.telling import shown
from bench.report.wording import effects_text, method, show

MEASURED = {
    "test_accuracy": "test accuracy",
    "dev_accuracy": "dev accuracy",
    "first_epoch_dev_accuracy": "first epoch",
    "epochs": "epochs",
    "total_seconds": "seconds",
}
PLACES = {"test_accuracy": 4, "dev_accuracy": 4, "first_epoch_dev_accuracy": 4, "epochs": 0, "total_seconds": 1}


@dataclass(frozen=True)
class Figure:
    """A chart with its heading, and in words what it shows for who cannot see it."""

    heading: str
    alternative: str
    chart: charts.Chart


def page(findings: Findings) -> str:
    """HTML of the whole report, the chart library within."""
    drawn = figures(findings)
    plan = findings.plan
    return (
        templates()
        .get_template("report.html")
        .render(
            findings=findings,
            plan=plan,
            figures=drawn,
            charts=embedded([figure.chart for figure in drawn]),
            plotly=Markup(resources.files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")),
            effects=effects_text(findings.effects),
            tables=show(findings),
            sources=variance_text(findings),
            columns=["trial", "cell", *varying(findings), "seed", "status", *MEASURED.values()],
            rows=trial_rows(findings),
            notes=method(findings),
            environment=environment_text(findings.found),
            command=repeating(findings),
        )
    )


def repeating(findings: Findings) -> str:
    """What to type for the results and for the report of them; of pooled results, for the report."""
    results = [folder.parent for folder in (findings.folder, *findings.others)]
    asked = findings.plan.asked
    verbs = ["report"] if findings.others else ["run", "report"]
    return " && ".join(command(verb, asked, results) for verb in verbs)


def templates() -> Environment:
    return Environment(
        loader=PackageLoader("bench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def embedded(value: object) -> Markup:
    """JSON that a script element can hold, whatever the text in it."""
    text = json.dumps(value, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def figures(findings: Findings) -> list[Figure]:
    """The charts there are numbers for."""
    found: list[Figure] = []
    if findings.effects["difference"].notna().any():
        said = "; ".join(f"{row.factor}={row.level}: {row.sentence}" for row in findings.effects.itertuples())
        said = f"Hollow: undecided. {said}."
        found.append(Figure("Effects on test accuracy", said, charts.forest(findings.effects)))
    if not findings.cells["n"].any():
        return found
    if len(findings.curves):
        said = "Dev accuracy by epoch and cell; the last values are close to the test accuracies in the table of cells."
        cells, others = shown(findings.cells)
        found.append(Figure("Dev accuracy while training", said + others, charts.curves(findings.curves, cells)))
    variance = findings.variance
    if variance is not None and variance.strongest is not None and variance.cell_means is not None:
        pair = " and ".join(variance.strongest)
        said = f"Mean test accuracy by {pair}, the pair whose interaction explains most. Parallel: no interaction."
        found.append(Figure(f"Interaction of {pair}", said, charts.interaction(variance.cell_means)))
    for chart in charts.trade_offs(findings.cells):
        cost = chart["layout"]["xaxis"]["title"]["text"]
        said = (
            f"Test accuracy of each cell against {cost}; the dotted front joins the cells that no other beats in both."
        )
        found.append(Figure(f"Test accuracy against {cost}", said, chart))
    return found


def variance_text(findings: Findings) -> list[tuple[str, str]]:
    """Source and share of the variance of each line of the analysis of variance."""
    if findings.variance is None:
        return []
    return [(source.name, f"{100 * source.share:.1f} %") for source in findings.variance.sources]


def varying(findings: Findings) -> list[str]:
    """The settings, by dotted path, that are not the same in all trials."""
    trials = findings.trials
    return [name for name in trials.columns if "." in name and trials[name].nunique(dropna=False) > 1]


def trial_rows(findings: Findings) -> list[dict[str, Any]]:
    """A row a recorded trial of the grid: its cells as text, and what its log says where it failed."""
    names = varying(findings)
    trials = findings.trials[findings.trials["trial_id"].isin(findings.found["trial_id"])]
    rows = []
    for row in trials.to_dict("records"):
        settings = [str(row[name]) for name in names]
        measures = ["" if pd.isna(row[name]) else f"{row[name]:.{PLACES[name]}f}" for name in MEASURED]
        identity = [str(row["trial_id"]), str(row["cell"]), *settings, f"{row['seed']:.0f}"]
        log = "" if row["status"] == Status.OK else _log(findings, str(row["trial_id"]), row["error"])
        rows.append({"before": identity, "status": row["status"], "after": measures, "log": log})
    return rows


def _log(findings: Findings, trial_id: str, error: Any) -> str:
    paths = [folder / "logs" / f"{trial_id}.log" for folder in (findings.folder, *findings.others)]
    text = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in paths if path.exists())
    return "\n".join(part for part in ("" if pd.isna(error) else str(error), text[-20_000:]) if part) or "no log"


def environment_text(found: pd.DataFrame) -> list[tuple[str, str]]:
    """What the trials ran on: each property with its values."""
    ended = found[found["status"] == Status.OK]
    values: list[tuple[str, Sequence[Any]]] = [
        (name, list(ended[name].dropna().unique())) for name in ENVIRONMENT if name != "started_at"
    ]
    return [(name, ", ".join(_plain(value) for value in known)) for name, known in values if known and known != [""]]


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
