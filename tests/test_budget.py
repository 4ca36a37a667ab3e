"""A budget: no trial starts that is not expected to end in it."""

from __future__ import annotations

from collections.abc import Callable

from bench.execute.budget import Budget
from bench.grid.plan import Cell, Trial
from lab.settings import Settings


def test_trials_start_while_they_fit_and_short_ones_fill_what_is_left(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    small, large = Cell("size=small", {"size": "small"}), Cell("size=large", {"size": "large"})
    trials = [Trial(f"{n}", "grid", cell, n, settings) for n, cell in enumerate([small, large, large, small, small])]
    clock = [100.0]
    budget = Budget(60, now=lambda: clock[0])
    budget.price = lambda trial: 5.0 if trial.cell is small else 30.0
    started = []
    for trial in budget.affordable(trials):
        started.append(trial.trial_id)
        took = 10.0 if trial.cell is small else 35.0  # longer than its price
        clock[0] += took
        budget.ended(trial, took)
    # small 10 -> 10; large 35 -> 45; the next large is now known to take 35 > 15; small 10 -> 55; small 10 > 5
    assert started == ["0", "1", "3"]
    assert budget.left == 2


def test_nothing_starts_after_the_deadline_even_if_it_takes_no_time(make_settings: Callable[..., Settings]) -> None:
    clock = [0.0]
    budget = Budget(1, now=lambda: clock[0])
    trial = Trial("0", "grid", Cell("", {}), 0, make_settings())
    assert list(budget.affordable([trial])) == [trial]
    clock[0] = 1.5
    assert list(budget.affordable([trial])) == []
