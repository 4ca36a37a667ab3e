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

from bench.analysis import amounts
from bench.analysis.findings import Findings
from bench.analysis.summaries import first_epoch, position, watched
from bench.grid.factors import short_names
from bench.grid.plan import Plan
from bench.record.asked import command
from bench.record.records import ENVIRONMENT
from bench.record.status import Status
from bench.report import alternatives, charts
from bench.report.telling import MOST, MOST_IN_PANEL, has_curves, last_points, shown, telling
from bench.report.wording import cell_words, effects_text, method, show


@dataclass(frozen=True)
class Figure:
    """A chart with its heading, and in words what it shows for who cannot see it."""

    heading: str
    alternative: str
    chart: charts.Chart


def page(findings: Findings) -> str:
    """Makes the HTML of the whole report, the chart library within."""
    drawn, tables = figures(findings), show(findings)
    plan, headings = findings.plan, [word for word, _ in measured(findings.plan).values()]
    return (
        templates()
        .get_template("report.html")
        .render(
            findings=findings,
            plan=plan,
            figures=drawn,
            charts=embedded([figure.chart for figure in drawn]),
            plotly=Markup(resources.files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")),
            effects=effects_text(findings.effects, plan.primary),
            metric=amounts.spoken(plan.primary),
            secondary=[
                (amounts.spoken(one.metric), effects_text(one.effects, one.metric))
                for one in findings.secondary
                if len(one.effects)
            ],
            tables=tables,
            sources=variance_text(findings),
            columns=["trial", *varying(findings).values(), "seed", "status", *headings],
            rows=trial_rows(findings),
            notes=method(findings, tables),
            environment=environment_text(findings.found),
            command=repeating(findings),
        )
    )


def repeating(findings: Findings) -> str:
    """Returns what to type for the results and for the report of them; of pooled results, for the report."""
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
    """Writes JSON that a script element can hold, whatever the text in it."""
    text = json.dumps(value, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def figures(findings: Findings) -> list[Figure]:
    """Returns the charts there are numbers for."""
    found: list[Figure] = []
    metric, dev = findings.plan.primary, watched(findings.plan)
    cells = findings.cells.assign(words=cell_words(findings.cells)["cell"])
    name = amounts.spoken(metric)
    if findings.effects["difference"].notna().any():
        effects = telling(findings.effects, findings.effects["difference"], MOST)
        few = f" Shown: {len(effects)} of {len(findings.effects)}." if len(effects) < len(findings.effects) else ""
        said = alternatives.told(effects, metric) + few
        found.append(Figure(f"Effects on {name}", said, charts.forest(effects, metric)))
    if not cells["n"].any():
        return found
    if has_curves(findings):
        here, others = shown(cells, last_points(findings.curves, cells, dev.name), labelled=True)
        here = here[here["cell"].isin(findings.curves["cell"])]
        said, heading = alternatives.curves(findings.curves, here, dev, metric), f"{amounts.spoken(dev)} while training"
        chart = charts.curves(findings.curves, here, dev, position(findings.plan))
        found.append(Figure(amounts.capital(heading), said + others, chart))
    means = None if findings.variance is None else findings.variance.cell_means
    if means is not None:
        lines = telling(means, means.mean(axis=1), MOST_IN_PANEL)
        heading = f"Interaction of {means.index.name} and {means.columns.name}"
        found.append(Figure(heading, alternatives.interaction(lines, metric), charts.interaction(lines, metric)))
    for cost, chart in charts.trade_offs(cells, metric).items():
        heading = f"{amounts.capital(name)} against {charts.COSTS[cost][0]}"
        found.append(Figure(heading, alternatives.trade_off(cells, metric, cost), chart))
    return found


def variance_text(findings: Findings) -> list[tuple[str, str]]:
    """Lists source and share of the variance of each line of the analysis of variance."""
    if findings.variance is None:
        return []
    return [(source.name, f"{100 * source.share:.1f} %") for source in findings.variance.sources]


def varying(findings: Findings) -> dict[str, str]:
    """Returns what is not the same in all trials, by column, with a heading for each: factors first, then settings.

    A factor that sets several settings at once, or whose level has a name of its own, is shown by that name.
    """
    trials, factors = findings.trials, [factor.name for factor in findings.plan.factors]
    set_by = {path for factor in factors for path in (factor, *factor.split(", "))}
    others = [name for name in trials.columns if "." in name and name not in set_by]
    others = [name for name in others if trials[name].nunique(dropna=False) > 1 and not _follows(findings, name)]
    return short_names([*factors, *others])


def _follows(findings: Findings, name: str) -> bool:
    """Tells whether a setting has one value in each cell: a level set it."""
    if name in findings.plan.tune:
        return False
    return bool((findings.trials.groupby("cell")[name].nunique(dropna=False) == 1).all())


def measured(plan: Plan) -> dict[str, tuple[str, str]]:
    """Returns the numbers that the table of trials shows: their columns, with a heading and a form for each."""
    first = first_epoch(plan, plan.primary)
    found = {one.name: (amounts.spoken(one), ".4f" if one.is_share else ".5g") for one in (plan.primary, watched(plan))}
    found |= {first.name: ("first epoch", ".4f" if first.is_share else ".5g")} if first else {}
    return found | {"epochs": ("epochs", ".0f"), "total_seconds": ("seconds", ".1f")}


def trial_rows(findings: Findings) -> list[dict[str, Any]]:
    """Makes a row per recorded trial of the grid: its cells as text, and what its log says where it failed."""
    names, numbered = varying(findings), measured(findings.plan)
    cells = dict(zip(findings.found["trial_id"], findings.found["cell"], strict=True))  # as they are called now
    levels, rows = {cell.label: cell.levels for cell in findings.plan.cells}, []
    for row in findings.trials[findings.trials["trial_id"].isin(cells)].to_dict("records"):
        cell = cells[row["trial_id"]]
        settings = [str(levels[cell].get(name, row.get(name, cell))) for name in names]
        numbers = [(row.get(name), form) for name, (_, form) in numbered.items()]  # no column where none ended
        measures = ["" if pd.isna(number) else f"{number:{form}}" for number, form in numbers]
        identity = [str(row["trial_id"]), *settings, f"{row['seed']:.0f}"]
        log = "" if row["status"] == Status.OK else _log(findings, str(row["trial_id"]), row["error"])
        rows.append({"before": identity, "status": row["status"], "after": measures, "log": log})
    return rows


def _log(findings: Findings, trial_id: str, error: Any) -> str:
    paths = [folder / "logs" / f"{trial_id}.log" for folder in (findings.folder, *findings.others)]
    text = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in paths if path.exists())
    return "\n".join(part for part in ("" if pd.isna(error) else str(error), text[-20_000:]) if part) or "no log"


def environment_text(found: pd.DataFrame) -> list[tuple[str, str]]:
    """Says what the trials ran on: each property with its values."""
    ended = found[found["status"] == Status.OK]
    values: list[tuple[str, Sequence[Any]]] = [
        (name, list(ended[name].dropna().unique())) for name in ENVIRONMENT if name != "started_at"
    ]
    return [(name, ", ".join(_plain(value) for value in known)) for name, known in values if known and known != [""]]


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
