"""What the README shows of the reference results is what their reports say."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.studies.reference import claims, counted_claims, with_block, with_results

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "reference"


def test_the_readme_says_what_the_reference_results_say() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_results(readme, RESULTS) == readme, "python -m bench.studies.reference --no-run writes it"


def test_each_claim_is_counted_once() -> None:
    counts = [int(word) for row in counted_claims(RESULTS) for word in row.split(" | ")[1:4]]
    rulings = [row.split("**")[1] for row in claims(RESULTS)]
    assert sum(counts) == len([ruling for ruling in rulings if ruling != "below_margin"])
    assert sum(counts[::3]) == rulings.count("supported")


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="must have the lines <!-- claims -->"):
        with_block("# no table\n", "claims", "")
