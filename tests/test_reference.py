"""The README's table of claims is what the reports of the reference results say."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.studies.reference import claims, with_claims

ROOT = Path(__file__).parents[1]


def test_the_readme_says_what_the_reference_results_say() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_claims(readme, list(claims(ROOT / "results" / "reference"))) == readme, "make reference writes it"


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="around its table of claims"):
        with_claims("# no table\n", [])
