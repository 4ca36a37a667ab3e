"""The studies of the answers: their truth is true, and a seeded hundredth of them holds what the documentation says."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.studies.seeds import Seeds, noise
from bench.studies.validity import STUDIES, Study, Task, main, repeat


@pytest.mark.parametrize("law", ["normal", "t3", "log-normal"])
def test_noise_is_centred_and_of_deviation_one(law: str) -> None:
    drawn = noise(np.random.default_rng(0), law, 400_000)  # type: ignore[arg-type]
    assert drawn.mean() == pytest.approx(0, abs=0.01)
    assert drawn.std() == pytest.approx(1, abs=0.08)


def test_the_truth_of_a_case_is_what_many_seeds_show() -> None:
    case = Seeds("informative", gain=0.02, fails=(0.1, 0.2), informative=True)
    drawn = case.draw(np.random.default_rng(0), 400_000)
    assert np.nanmean(drawn.b - drawn.a) == pytest.approx(case.where_both_trained, abs=1e-4)
    case = Seeds("at chance", gain=0.02, fails=(0.1, 0.2))
    drawn = case.draw(np.random.default_rng(0), 400_000)
    assert (drawn.b - drawn.a).mean() == pytest.approx(case.at_chance, abs=2e-3)
    assert drawn.b_trained.mean() == pytest.approx(0.8, abs=0.005)


def found(title: str, case: str, num_seeds: int, repetitions: int = 100) -> dict[str, float]:
    number, study = next((i, study) for i, study in enumerate(STUDIES) if study.title == title)
    index = next(i for i, one in enumerate(study.cases) if one.name == case)
    shares = repeat(Task(number, index, num_seeds, repetitions, seed=0))
    return {name: value for name, (value, _) in shares.items()}


def test_where_seeds_fail_the_difference_holds_the_truth_and_before_did_not() -> None:
    for case in ("at chance in B, q = 0.2", "50 % missing at random, 4 contexts"):
        rates = found("The difference where both trained", case, 10, 200)
        assert rates["now: covers"] > 0.9
        assert rates["now: false verdict"] < 0.1
    assert rates["before: false verdict"] > 4 * rates["now: false verdict"]  # with half missing at random


def test_counting_the_untrained_at_chance_is_wide_enough() -> None:
    rates = found("The difference with the untrained at chance", "at chance in B, q = 0.1", 5)
    assert rates["before: covers"] < 0.7
    assert rates["now: covers"] > 0.93


def test_families_keep_their_level_where_seeds_fail() -> None:
    rates = found("Families of six without a difference", "at chance in both, q = 0.2", 5)
    assert max(rates["now: family, trained"], rates["now: family, difference"]) < 0.12


def test_what_is_true_is_not_refuted() -> None:
    rates = found("Rulings", "B gains half a margin", 30)
    assert rates["before: refuted"] > 0.5
    assert rates["now: refuted"] == 0
    assert rates["now: below_margin"] > 0.4


def test_seeds_that_chose_do_not_report() -> None:
    rates = found("Tuning", "candidates fail, q = 0.2", 5)
    assert rates["before: optimism, points"] > 10
    assert abs(rates["now: optimism, points"]) < 0.3


def test_a_noisy_cell_is_not_better_for_having_had_more_luck_in_tuning() -> None:
    rates = found("Tuning of two equal cells, one of them noisy", "normal", 5, 300)
    assert rates["before: B better"] > 0.05
    assert rates["now: A better"] + rates["now: B better"] < 0.09


def test_an_average_over_unlike_effects_says_so_and_one_over_like_effects_seldom() -> None:
    opposite = found("An average over four settings", "loses 2 points, but gains 3 under one setting", 5)
    assert opposite["before: decided, not a word"] > 0.5
    assert opposite["now: decided, not a word"] < 0.1
    assert found("An average over four settings", "gains 1 point everywhere", 5)["now: unlike effects said"] < 0.1


def test_a_planned_run_finds_the_margin_as_often_as_it_says() -> None:
    rates = found("A planned run", "normal", 3)
    assert rates["now: finds the margin"] > 0.7


def test_what_is_told_for_being_decided_is_missed_seldom() -> None:
    rates = found("What is told because it is decided", "normal", 3, 30)
    assert rates["now: missed of those told"] < 0.2


def test_the_command_prints_a_table_per_study(monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    from bench.studies import validity

    few = [Study(study.title, study.once, study.cases[:1], study.sizes[:1]) for study in STUDIES[:2]]
    monkeypatch.setattr(validity, "STUDIES", few)
    monkeypatch.setattr(validity, "ProcessPoolExecutor", lambda *args: InOneProcess())
    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, ["--repetitions", "2", "-j", "1"])
    assert result.exit_code == 0, result.output
    assert result.output.count("### ") == 2
    assert "2 repetitions of each row" in result.output


class InOneProcess:
    """Maps where it stands, so that the studies of the test are those that run."""

    def __enter__(self) -> InOneProcess:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    map = staticmethod(map)
