"""Figures: what is written in them, that labels keep apart, and that the same numbers give the same file."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import seaborn as sns
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from bench.grid.metrics import lab_metrics
from bench.report import canvas, figures, labels
from bench.report.telling import file_of

TEST, DEV = lab_metrics()["test_accuracy"], lab_metrics()["dev_accuracy"]
VARIANTS = ["residual, batch_norm", "residual, no batch_norm", "no residual, batch_norm", "no residual, no batch_norm"]


def cells(accuracy: list[float], rates: list[float], panels: int = 1) -> pd.DataFrame:
    """A row per cell, four cells in each panel, five seeds in each cell."""
    table = pd.DataFrame({"test_accuracy": accuracy, "train_images_per_second": rates})
    table["cell"] = [f"cell {index}" for index in range(len(table))]
    table["column"] = [f"resnet{18 + 16 * (index // 4)}" if panels > 1 else "" for index in range(len(table))]
    table["variant"] = [VARIANTS[index % 4] for index in range(len(table))]
    table = table.assign(row="", ordered=False, n=5, planned=5, diverged=0, failed=0, test_accuracy_basis="seeds")
    for name, half in (("test_accuracy", 0.02), ("train_images_per_second", 50)):
        table[f"{name}_low"], table[f"{name}_high"] = table[name] - half, table[name] + half
    return table


def points(table: pd.DataFrame) -> pd.DataFrame:
    """A curve of three epochs to each cell's accuracy."""
    return pd.DataFrame(
        [
            {"cell": cell.cell, "epoch": epoch, "dev_accuracy": mean, "lowest": mean - 0.01, "highest": mean + 0.01}
            for cell in table[table["n"] > 0].itertuples()
            for epoch, mean in enumerate([0.1, cell.test_accuracy * 0.8, cell.test_accuracy])
        ]
    )


def dots(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"cell": cell.cell, "seed": seed, "test_accuracy": cell.test_accuracy + 0.01 * (seed - 2)}
            for cell in table.itertuples()
            for seed in range(cell.n)
        ]
    )


def without_last(table: pd.DataFrame) -> pd.DataFrame:
    """The same, but the last cell diverged in all of its trials."""
    numbers = [name for name in table if name.startswith(("test_accuracy", "train_")) and name != "test_accuracy_basis"]
    table.loc[table.index[-1], numbers] = np.nan
    table.loc[table.index[-1], ["n", "diverged"]] = (0, 5)
    return table


def texts(figure: Figure) -> list[str]:
    found = [text.get_text().replace("\n", " ").replace("\xa0", " ") for text in figure.findobj(Text)]
    return [text for text in found if text]


def labels_of(figure: Figure, wanted: list[str]) -> list[Text]:
    """The cells' labels inside axes, after a last layout."""
    figure.draw_without_rendering()
    return [
        text
        for axes in figure.axes
        for text in axes.texts
        if text.get_text().replace("\n", " ").replace("\xa0", " ") in wanted
    ]


def assert_apart(found: list[Text]) -> None:
    boxes = [Text.get_window_extent(text) for text in found]
    for one, other in itertools.combinations(boxes, 2):
        assert not (one.x0 < other.x1 and other.x0 < one.x1 and one.y0 < other.y1 and other.y0 < one.y1)


NEAR = [0.95, 0.94, 0.945, 0.1]  # three lines that end in one place


# --- places of labels -----------------------------------------------------------------------------------------------


def test_labels_that_have_room_stay_where_they_are_wanted() -> None:
    assert labels.spread([0.5, 0.1, 0.9], 0.2, 0, 1).tolist() == pytest.approx([0.5, 0.1, 0.9])


def test_labels_that_clash_are_moved_apart_about_their_middle() -> None:
    assert labels.spread([0.5, 0.5], 0.2, 0, 1).tolist() == pytest.approx([0.4, 0.6])


def test_labels_at_an_edge_are_moved_inwards() -> None:
    assert labels.spread([1.0, 0.98], 0.2, 0, 1).tolist() == pytest.approx([1.0, 0.8])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_labels_keep_their_order_and_their_distance_within_the_bounds(wanted: list[float], gap: float) -> None:
    places = labels.spread(wanted, gap, 0, 1)
    order = np.argsort(wanted, kind="stable")
    room = min(gap, 1 / max(1, len(wanted) - 1))
    assert np.diff(places[order]).min(initial=room) >= room - 1e-9
    assert places.min() >= -1e-9
    assert places.max() <= 1 + 1e-9


@pytest.mark.parametrize("panels", [1, 2])
def test_labels_at_line_ends_do_not_overlap(panels: int) -> None:
    table = cells(NEAR * panels, [1000, 2000, 1500, 1200] * panels, panels)
    found = labels_of(figures.curves(points(table), table, DEV), VARIANTS)
    assert len(found) == 4 * panels
    assert_apart(found)


@pytest.mark.parametrize("rates", [[1000.0, 1010.0, 1020.0, 1030.0], [100.0, 1000.0, 1050.0, 9000.0]])
def test_labels_of_points_do_not_overlap(rates: list[float]) -> None:
    found = labels_of(figures.trade_off(cells(NEAR, rates), TEST), VARIANTS)
    assert len(found) == 4
    assert_apart(found)


# --- what is shown --------------------------------------------------------------------------------------------------


def test_curves_are_drawn_in_percent_each_from_its_numbers() -> None:
    table = cells(NEAR, [1.0] * 4)
    (axes,) = figures.curves(points(table), table, DEV).axes
    assert axes.lines[0].get_ydata().tolist() == pytest.approx([0.1, 0.76, 0.95])
    assert axes.get_ylim() == (0, 1)
    assert axes.yaxis.get_major_formatter()(0.5, 0) == "50 %"


def test_a_cell_without_result_is_named_with_its_reason() -> None:
    table = without_last(cells(NEAR, [1000.0, 2000.0, 1500.0, 1200.0]))
    for figure in (figures.curves(points(table), table, DEV), figures.trade_off(table, TEST)):
        assert "not shown: no residual, no batch_norm (5 diverged)" in texts(figure)
    assert "n = 0, 5 diverged" in texts(figures.metric_by_cell(dots(table), table, TEST))


def test_a_line_of_fewer_seeds_than_planned_says_so() -> None:
    table = cells(NEAR, [1.0] * 4)
    table.loc[0, ["n", "diverged"]] = (3, 2)
    assert "residual, batch_norm (3 of 5)" in texts(figures.curves(points(table), table, DEV))
    assert "n = 3, 2 diverged" in texts(figures.metric_by_cell(dots(table), table, TEST))


def test_a_metric_may_be_called_as_tensorboard_calls_it() -> None:
    plain = cells(NEAR, [1000.0, 2000.0, 1500.0, 1200.0])
    names = {name: name.replace("test_accuracy", "Loss/test") for name in plain}
    table, metric = plain.rename(columns=names), replace(TEST, name="Loss/test")
    (axes,) = figures.metric_by_cell(dots(plain).rename(columns=names), table, metric).axes
    assert axes.lines[0].get_xdata().tolist() == pytest.approx([0.93, 0.97])
    assert len(labels_of(figures.trade_off(table, metric), VARIANTS)) == 4
    assert [file_of(replace(TEST, name=name)) for name in ("Loss/test", "forest")] == ["Loss_test", "forest_by_cell"]


def test_every_seed_is_a_dot_and_intervals_end_at_all_right() -> None:
    table = cells([0.99, 0.5, 0.4, 0.3], [1.0] * 4)
    (axes,) = figures.metric_by_cell(dots(table), table, TEST).axes
    assert [len(drawn.get_offsets()) for drawn in axes.collections] == [5, 5, 5, 5]
    assert axes.lines[0].get_xdata().tolist() == pytest.approx([0.97, 1.0])
    assert [label.get_text() for label in axes.get_yticklabels()] == VARIANTS


def test_speeds_far_apart_are_on_a_logarithmic_axis() -> None:
    assert figures.trade_off(cells(NEAR, [100.0, 200.0, 300.0, 900.0]), TEST).axes[0].get_xscale() == "log"
    assert figures.trade_off(cells(NEAR, [100.0, 200.0, 300.0, 400.0]), TEST).axes[0].get_xscale() == "linear"


def test_one_seed_without_interval_is_drawn() -> None:
    table = cells(NEAR, [1000.0, 2000.0, 1500.0, 1200.0]).assign(n=1, planned=1)
    bounds = [name for name in table if name.endswith(("_low", "_high"))]
    table[bounds] = np.nan
    assert "Line: mean of one seed. Band: from the lowest to the highest seed." in texts(
        figures.curves(points(table), table, DEV)
    )
    assert "n = 1" in texts(figures.metric_by_cell(dots(table), table, TEST))
    assert len(labels_of(figures.trade_off(table, TEST), VARIANTS)) == 4


def test_colours_and_shapes_tell_arms_apart_and_numbers_go_from_dark_to_light() -> None:
    looks = canvas.variant_looks(cells(NEAR, [1.0] * 4))
    assert len({color for color, _, _ in looks.values()}) == len({marker for _, marker, _ in looks.values()}) == 4
    assert len({dash for _, _, dash in looks.values()}) == 4
    ordered = cells(NEAR, [1.0] * 4).assign(ordered=True)
    grey = [
        sum(int(color[i : i + 2], 16) * w for i, w in ((1, 0.3), (3, 0.59), (5, 0.11)))
        for color, _, _ in canvas.variant_looks(ordered).values()
    ]
    assert grey == sorted(grey)
    assert min(np.diff(grey)) > 20


def test_panels_stand_in_rows_and_columns_and_wrap_where_there_is_one_row() -> None:
    table = pd.concat(
        [cells(NEAR, [1.0] * 4).assign(column=f"lr {i}", cell=lambda t, i=i: t["cell"] + f" {i}") for i in range(4)]
    )
    figure = figures.curves(points(table), table, DEV)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["lr 0", "lr 1", "lr 2", "lr 3"]
    tops = [round(axes.get_position().y1, 3) for axes in figure.axes]
    assert tops[0] == tops[1] == tops[2] > tops[3]


# --- files ----------------------------------------------------------------------------------------------------------


def test_the_same_numbers_give_the_same_files_and_no_figure_stays_open(tmp_path: Path) -> None:
    for name in ("one", "two"):
        table = cells(NEAR, [1000.0, 2000.0, 1500.0, 1200.0])
        canvas.save(figures.metric_by_cell(dots(table), table, TEST), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    pyplot = sys.modules.get("matplotlib.pyplot")  # which drawing does without
    assert pyplot is None or pyplot.get_fignums() == []


def test_the_forest_names_each_effect_and_its_verdict_and_hollow_is_undecided() -> None:
    effects = pd.DataFrame(
        [("model.residual", "false", "true", -0.3, "worse"), ("model.batch_norm", "false", "true", 0.01, "undecided")],
        columns=["factor", "level", "against", "difference", "verdict"],
    )
    effects = effects.assign(difference_low=effects["difference"] - 0.02, difference_high=effects["difference"] + 0.02)
    (axes,) = figures.forest(effects, TEST).axes
    assert axes.get_yticklabels()[0].get_text() == "model.residual:\nfalse − true"
    assert [text.get_text() for text in axes.texts] == ["worse", "undecided"]
    points = [line for line in axes.lines if line.get_marker() == "D"]
    assert [float(np.asarray(line.get_xdata())[0]) for line in points] == pytest.approx([-30, 1])
    assert [line.get_markerfacecolor() for line in points] == [canvas.OKABE_ITO[0], "white"]


def test_the_interaction_has_a_line_a_level_labelled_at_its_end() -> None:
    means = pd.DataFrame([[0.9, 0.8], [0.7, np.nan]], index=["resnet18", "resnet34"], columns=["true", "false"])
    means.index.name, means.columns.name = "model.name", "model.residual"
    (axes,) = figures.interaction(means, TEST).axes
    assert len(axes.lines) == 2
    assert [text.get_text() for text in axes.texts] == ["resnet18", "resnet34"]
    assert axes.texts[1].xy[0] == 0  # the last of its results


@pytest.mark.parametrize(("columns", "inches"), [(1, 3.3), (2, 6.9)])
def test_figures_for_a_paper_are_as_wide_as_its_columns_in_letters_of_8_points(columns: int, inches: float) -> None:
    table = cells(NEAR * 2, [1000.0, 2000.0, 1500.0, 1200.0] * 2, panels=2)
    drawn = [
        figures.curves(points(table), table, DEV, columns),
        figures.metric_by_cell(dots(table), table, TEST, columns),
    ]
    for figure in [*drawn, figures.trade_off(table, TEST, columns)]:
        assert figure.get_figwidth() == inches
        figure.draw_without_rendering()
        shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        assert 7 <= min(text.get_fontsize() for text in shown) <= max(text.get_fontsize() for text in shown) <= 8.4
        assert figure.get_tightbbox().width <= inches + 0.01  # nothing is cut off
    assert len({axes.get_subplotspec().colspan.start for axes in drawn[0].axes}) == columns


LONG = ["wide_resnet_with_squeeze_and_excitation_" * 2, "eighty letters, in four levels of twenty each, " * 2, "short"]


@pytest.mark.parametrize("columns", [0, 1, 2])
def test_the_longest_labels_leave_a_figure_whole(columns: int) -> None:
    table = cells([0.5, 0.6, 0.7], [1000.0, 2000.0, 1500.0]).assign(variant=LONG)
    effects = pd.DataFrame({"factor": "model.width", "level": LONG, "against": LONG[0], "verdict": "undecided"})
    effects = effects.assign(difference=0.1, difference_low=-0.1, difference_high=0.2)
    for figure in (figures.metric_by_cell(dots(table), table, TEST, columns), figures.forest(effects, TEST, columns)):
        figure.draw_without_rendering()  # a layout that finds no room would warn
        assert figure.get_tightbbox().width <= figure.get_figwidth() + 0.02
        assert figure.axes[0].get_position().width > 0.1


def test_headings_of_panels_stand_beside_each_other() -> None:
    table = cells(NEAR * 2, [1000.0, 2000.0, 1500.0, 1200.0] * 2, panels=2)
    table["column"] = [f"{'a facet whose name is longer than a panel is wide, ' * 2}{name}" for name in table["column"]]
    for figure in (figures.curves(points(table), table, DEV), figures.metric_by_cell(dots(table), table, TEST)):
        figure.draw_without_rendering()
        boxes = [axes.title.get_window_extent() for axes in figure.axes]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_the_style_is_seaborns_white_grid() -> None:
    wanted = sns.axes_style("whitegrid")
    del wanted["image.cmap"]  # no figure has an image
    assert wanted == canvas.WHITE_GRID


@pytest.mark.parametrize("columns", [0, 1, 2])
def test_a_figure_that_is_settled_has_its_axes_where_a_draw_puts_them(columns: int) -> None:
    table = cells([0.9, 0.8, 0.7, 0.6], [900, 700, 500, 300])
    settled, drawn = (figures.metric_by_cell(dots(table), table, TEST, columns) for _ in range(2))
    with canvas.style(columns):
        canvas.settle(settled)
        drawn.draw_without_rendering()
    for one, other in zip(settled.axes, drawn.axes, strict=True):
        np.testing.assert_allclose(one.get_position().bounds, other.get_position().bounds)
