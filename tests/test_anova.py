"""Analysis of variance: a published example, statsmodels where the grid is whole, and words where it is not."""

import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from bench.analysis.anova import Source, VarianceAnalysis, analyse_variance

# Length of teeth by supplement and dose (Crampton 1947); the analysis is that of R's aov(len ~ supp * factor(dose)).
TEETH = {
    ("VC", "0.5"): [4.2, 11.5, 7.3, 5.8, 6.4, 10.0, 11.2, 11.2, 5.2, 7.0],
    ("VC", "1"): [16.5, 16.5, 15.2, 17.3, 22.5, 17.3, 13.6, 14.5, 18.8, 15.5],
    ("VC", "2"): [23.6, 18.5, 33.9, 25.5, 26.4, 32.5, 26.7, 21.5, 23.3, 29.5],
    ("OJ", "0.5"): [15.2, 21.5, 17.6, 9.7, 14.5, 10.0, 8.2, 9.4, 16.5, 9.7],
    ("OJ", "1"): [19.7, 23.3, 23.6, 26.4, 20.0, 25.2, 25.8, 21.2, 14.5, 27.3],
    ("OJ", "2"): [25.5, 26.4, 22.4, 24.5, 24.8, 30.9, 26.4, 27.3, 29.4, 23.0],
}


def grid(*, seeds: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [(a, b, c, seed) for a in "xyz" for b in "pq" for c in "uv" for seed in range(seeds)]
    table = pd.DataFrame(rows, columns=["model.a", "model.b", "c", "seed"])
    boost = (table["model.a"] == "x") & (table["model.b"] == "q")
    return table.assign(accuracy=0.8 + 0.05 * boost + 0.02 * rng.standard_normal(len(table)))


def source(analysis: VarianceAnalysis, name: str) -> Source:
    return next(item for item in analysis.sources if item.name == name)


def test_the_published_analysis_of_tooth_growth() -> None:
    rows = [(supplement, dose, length) for (supplement, dose), lengths in TEETH.items() for length in lengths]
    table = pd.DataFrame(rows, columns=["supplement", "dose", "length"])
    analysis = analyse_variance(table, "length", ["supplement", "dose"], seed=None)
    published = {"supplement": (205.4, 1, 15.572), "dose": (2426.4, 2, 92.0), "supplement × dose": (108.3, 2, 4.107)}
    for name, (squares, df, f) in published.items():
        found = source(analysis, name)
        assert (found.sum_squares, found.df, found.f) == pytest.approx((squares, df, f), rel=5e-4)
    error = source(analysis, "error")
    assert (error.sum_squares, error.df) == pytest.approx((712.1, 54), rel=1e-4)
    assert source(analysis, "dose").share == pytest.approx(2426.4 / 3452.2, rel=1e-4)
    assert source(analysis, "dose").omega_squared == pytest.approx((2426.4 - 2 * 13.187) / (3452.2 + 13.187), rel=1e-3)
    assert analysis.notes == ()


def test_unbalanced_grids_have_type_two_sums_of_squares() -> None:
    table = grid().query("c == 'u'").drop(index=[0, 13, 25])
    analysis = analyse_variance(table, "accuracy", ["model.a", "model.b"])
    renamed = table.rename(columns={"model.a": "a", "model.b": "b"})
    published = anova_lm(ols("accuracy ~ C(a) * C(b) + C(seed)", renamed).fit(), typ=2)
    names = {"model.a": "C(a)", "model.b": "C(b)", "model.a × model.b": "C(a):C(b)", "seed": "C(seed)"}
    for ours, theirs in names.items():
        found = source(analysis, ours)
        assert (found.sum_squares, found.df) == pytest.approx(tuple(published.loc[theirs, ["sum_sq", "df"]]))
        assert found.f == pytest.approx(published.loc[theirs, "F"])
    assert source(analysis, "error").sum_squares == pytest.approx(published.loc["Residual", "sum_sq"])


def test_shares_of_a_whole_grid_add_to_one() -> None:
    analysis = analyse_variance(grid(), "accuracy", ["model.a", "model.b", "c"])
    assert sum(item.share for item in analysis.sources) == pytest.approx(1)
    assert sum(item.df for item in analysis.sources) == 3 * 2 * 2 * 3 - 1
    assert source(analysis, "interactions of three or more").df == 2


def test_the_strongest_pair_comes_with_its_cell_means() -> None:
    table = grid()
    analysis = analyse_variance(table, "accuracy", ["model.a", "model.b", "c"])
    assert analysis.strongest == ("model.a", "model.b")
    assert analysis.cell_means is not None
    rows = table[(table["model.a"] == "x") & (table["model.b"] == "q")]
    assert analysis.cell_means.loc["x", "q"] == pytest.approx(rows["accuracy"].mean())


def test_an_empty_cell_costs_its_interaction_a_degree_of_freedom_and_is_told() -> None:
    table = grid()
    table = table[(table["model.a"] != "x") | (table["model.b"] != "p")]
    analysis = analyse_variance(table, "accuracy", ["model.a", "model.b"])
    assert source(analysis, "model.a × model.b").df == 1
    assert analysis.notes == ("model.a × model.b rests on 1 of 2 degrees of freedom: some combinations have no result",)


def test_a_grid_around_a_baseline_has_no_interactions() -> None:
    table = grid()
    around = table[(table["c"] == "u") & ((table["model.a"] == "x") | (table["model.b"] == "p"))]
    analysis = analyse_variance(around[around["model.a"] != "z"], "accuracy", ["model.a", "model.b", "c"])
    assert [item.name for item in analysis.sources] == ["model.a", "model.b", "seed", "error"]
    assert (analysis.strongest, analysis.cell_means) == (None, None)
    assert "c has one level among the results" in analysis.notes
    assert any("model.a × model.b can't be told apart" in note for note in analysis.notes)


def test_one_seed_gives_shares_alone() -> None:
    analysis = analyse_variance(grid(seeds=1), "accuracy", ["model.a", "model.b", "c"])
    assert all(math.isnan(item.f) for item in analysis.sources)
    assert sum(item.share for item in analysis.sources) == pytest.approx(1)
    assert analysis.notes == ("no cell has two results: nothing tells the size of chance, so there is no F",)


def test_failed_trials_are_counted_among_the_notes() -> None:
    table = grid()
    table.loc[[2, 5], "accuracy"] = math.nan
    analysis = analyse_variance(table, "accuracy", ["model.a", "model.b", "c"])
    assert analysis.num_trials == 34
    assert analysis.notes == ("2 of 36 trials have no result and are left out",)


def test_where_nothing_varies_it_is_refused() -> None:
    table = grid()
    with pytest.raises(ValueError, match="factor with two levels"):
        analyse_variance(table[table["c"] == "u"], "accuracy", ["c"])
    with pytest.raises(ValueError, match="results that differ"):
        analyse_variance(table.assign(accuracy=0.5), "accuracy", ["c"])
