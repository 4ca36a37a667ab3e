"""Tables for a paper and output for scripts: what stands in them, and that no text in them acts as markup."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from test_findings import GRID, findings

from bench.analysis.findings import Findings, gather
from bench.report.paper import FORMATS, ablation, caption, latex, markdown, paper_markdown, tex

HOSTILE = GRID.replace("What matters?", "'Is 100% of $x_1$ & <b>#1</b> | \\input{x} ~^ `code` {a}?'")


@pytest.fixture
def found(tmp_path: Path) -> Findings:
    """With shortcuts 0.8, without 0.5, and one trial diverged."""

    def value(trial: object) -> float | None:
        from bench.grid.load import Trial

        assert isinstance(trial, Trial)
        if trial.seed == 3 and trial.cell.label == "residual=false batch_norm=false":
            return None
        spread = 0.01 * ((trial.seed * (2 if "norm=true" in trial.cell.label else 3)) % 4)
        return (0.8 if "residual=true" in trial.cell.label else 0.5 + 0.01 * trial.seed) + spread

    return findings(tmp_path, HOSTILE, value)


def test_the_table_has_check_marks_and_counts_what_failed(found: Findings) -> None:
    table = ablation(found)
    assert table["residual"].tolist() == ["✓", "✓", "✗", "✗"]
    assert table["batch_norm"].tolist() == ["✓", "✗", "✓", "✗"]
    assert table["n"].tolist() == ["4", "4", "4", "3/4"]
    assert table["difference"][0] == "baseline"
    assert table["difference"][2].startswith("−28.5")  # 0.5 and the mean of 0, 0.01, 0.02, 0.03, less 0.8


def test_the_best_is_bold_and_what_is_not_told_apart_has_another_mark(found: Findings) -> None:
    lines = paper_markdown(found).splitlines()[2:6]
    assert ["**" in line for line in lines] == [False, True, False, False]
    assert ["°" in line for line in lines] == [True, False, False, False]
    assert latex(found).count(r"\textbf{") == latex(found).count(r"$^\circ$ ") == 1


def test_the_caption_says_what_the_numbers_rest_on(found: Findings) -> None:
    said = caption(found)
    for part in ("over seeds, 4 seeds per cell", "15 of 16 trials; 1 diverged", "Hardware: EPYC."):
        assert part in said


def test_text_of_the_grid_is_no_markup_in_latex_and_markdown(found: Findings) -> None:
    assert r"100\% of \$x\_1\$ \& $<$b$>$\#1$<$/b$>$ $|$ \textbackslash{}input\{x\}" in latex(found)
    assert r"\<b\>\#1\</b\> \| \\input{x} \~^ \`code\`" in paper_markdown(found)
    assert markdown("a|b\nc") == "a\\|b c"
    assert tex("å ж") == r"\aa{} ?"


def latex_finds(*files: str) -> bool:
    """Whether pdflatex is installed, with these files of its packages."""
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    return subprocess.run(["kpsewhich", *files], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not latex_finds("booktabs.sty", "amssymb.sty"), reason="needs pdflatex with booktabs and amssymb")
def test_the_table_compiles(found: Findings, tmp_path: Path) -> None:
    (tmp_path / "table.tex").write_text(latex(found))
    document = r"\documentclass{article}\usepackage{booktabs,amssymb}\begin{document}\input{table}\end{document}"
    (tmp_path / "paper.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_scripts_get_numbers_of_all_grids(found: Findings) -> None:
    both = [found, gather(found.folder)]
    table = pd.read_csv(io.StringIO(FORMATS["csv"](both)))
    assert table["grid"].tolist() == ["typed"] * 8
    assert table["n"].tolist() == [4, 4, 4, 3] * 2
    first, _ = json.loads(FORMATS["json"](both))
    assert first["answer"] == found.answer
    assert first["cells"][0]["difference"] is None  # the baseline has none
    assert first["effects"][0]["verdict"] == "worse"
    assert FORMATS["latex"](both).count(r"\begin{table}") == 2
