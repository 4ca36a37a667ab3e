"""The findings as a notebook shows them: HTML that takes letters and paper from the page around it, light or dark."""

from __future__ import annotations

import math

import pandas as pd

from bench.analysis import amounts, findings
from bench.analysis.columns import describe
from bench.report.page import templates
from bench.report.wording import effects_text, method, show

WIDTH, HEIGHT = 240, 22  # of the drawing of an interval, in pixels


class Findings(findings.Findings):
    """All that a report shows of a grid, as numbers and sentences; a notebook shows it as a page.

    ``answer`` is the verdict in words, ``coverage`` what was trained, ``cautions`` what to know of it. ``effects``,
    ``hypotheses``, ``cells``, ``learning``, ``seeds``, ``trials``, ``curves`` and the others are data frames, of which
    ``levels`` has one per factor; :meth:`columns` says what their columns hold.
    """

    def columns(self, table: str) -> pd.DataFrame:
        """Returns what each column of a table holds, as ``columns("effects")``; raises ValueError without such one."""
        found = getattr(self, table, None)
        if table == "levels" and self.levels:
            found = self.levels[0]
        if not isinstance(found, pd.DataFrame):
            names = [name for name, value in vars(self).items() if isinstance(value, pd.DataFrame)]
            raise ValueError(f"table must be levels or one of {', '.join(names)}, got {table!r}")
        return pd.DataFrame({"column": list(found.columns), "holds": [describe(table, one) for one in found.columns]})

    def _repr_html_(self) -> str:
        effects = effects_text(self.effects, self.plan.primary)
        return (
            templates()
            .get_template("notebook.html")
            .render(
                findings=self,
                plan=self.plan,
                metric=amounts.spoken(self.plan.primary),
                effects=effects.assign(verdict=self.effects["verdict"]),
                sentences=list(effects["verdict"]),
                drawings=drawings(self.effects),
                width=WIDTH,
                height=HEIGHT,
                tables=show(self),
                notes=method(self),
            )
        )


def drawings(effects: pd.DataFrame) -> list[dict[str, float] | None]:
    """Places each difference with its interval on one scale, in pixels from the left; None where there is none.

    ``zero`` is where nothing differs; the scale holds it and every interval that has two ends.
    """
    ends = effects[["difference_low", "difference", "difference_high"]].astype(float)
    known = [float(end) for end in ends.to_numpy().ravel() if math.isfinite(end)]
    low, high = min([0.0, *known]), max([0.0, *known])
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return round(6 + (WIDTH - 12) * (value - low) / span, 1)

    found: list[dict[str, float] | None] = []
    for left, middle, right in ends.itertuples(index=False):
        if math.isnan(middle):
            found.append(None)
            continue
        whole = math.isfinite(left) and math.isfinite(right)
        ends_at = (place(left), place(right)) if whole else (place(middle), place(middle))
        found.append({"low": ends_at[0], "middle": place(middle), "high": ends_at[1], "zero": place(0.0)})
    return found
