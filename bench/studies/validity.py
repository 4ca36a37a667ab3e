"""Proves the answers where seeds fail, on made-up trials whose truth is known: ``python -m bench.studies.validity``.

:mod:`bench.studies.answers` has one repetition of each study; here they are repeated over cases and numbers of seeds.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer

from bench.studies import answers
from bench.studies.seeds import Seeds
from bench.studies.simulate import PROCESS
from lab.limits import cores

SIZES = (3, 5, 10)

NORMAL, T3, LOG = Seeds("normal"), Seeds("t3", law="t3"), Seeds("log-normal, both cells", law="log-normal")
ONE_SKEWED = Seeds("log-normal, and the other cell calm", law="log-normal", only_b=True)
LAWS = [NORMAL, T3, LOG, ONE_SKEWED]
MISSING = [
    Seeds(f"{100 * share:.0f} % missing at random, {contexts} contexts", missing=share, contexts=contexts)
    for share in (0.3, 0.5)
    for contexts in (2, 4)
]
ONE_CELL = [Seeds(f"at chance in B, q = {q}", fails=(0.0, q)) for q in (0.1, 0.2, 0.4)]
BOTH_CELLS = [Seeds(f"at chance in both, q = {q}", fails=(q, q)) for q in (0.1, 0.2, 0.4)]
INFORMATIVE = [Seeds(f"B diverges at its worst {100 * q:.0f} %", fails=(0.0, q), informative=True) for q in (0.2, 0.4)]
GAINING = [Seeds("B gains 2 points, diverges at its worst 20 %", gain=0.02, fails=(0.0, 0.2), informative=True)]
TRAINING = [
    Seeds(f"{1 - a:.0%} and {1 - b:.0%} train, correlation {rho:g}".replace("%", " %"), fails=(a, b), correlation=rho)
    for a, b in ((0.1, 0.1), (0.4, 0.4), (0.0, 0.4), (0.0, 0.8))
    for rho in (-0.5, 0.0, 0.5)
]
AVERAGED = [
    Seeds("gains 1 point everywhere", gain=0.01, contexts=4),
    Seeds("gains nothing, but 5 points under one setting", contexts=4, more_in_last=0.05),
    Seeds("loses 2 points, but gains 3 under one setting", gain=-0.02, contexts=4, more_in_last=0.05),
]
HALF = Seeds("B gains half a margin", gain=answers.MARGIN / 2)


@dataclass(frozen=True)
class Study:
    title: str
    once: Callable[[Seeds, int, np.random.Generator], answers.Counts]
    cases: Sequence[Seeds]
    sizes: Sequence[int] = SIZES


STUDIES = [
    Study(
        "The difference where both trained", answers.difference, [*LAWS, *MISSING, *ONE_CELL, *BOTH_CELLS, *INFORMATIVE]
    ),
    Study("The difference with the untrained at chance", answers.counting, [NORMAL, *ONE_CELL, *BOTH_CELLS]),
    Study("Families of six without a difference", answers.training, [NORMAL, T3, *BOTH_CELLS]),
    Study("The headline", answers.headline, GAINING),
    Study("Rulings", answers.ruling, [HALF], (3, 5, 10, 30)),
    Study("Tuning", answers.tuning, [NORMAL, Seeds("candidates fail, q = 0.2", fails=(0.0, 0.2))]),
    Study("What is told because it is decided", answers.picked, [NORMAL]),
    Study("The best of six equal cells", answers.best, [NORMAL, T3]),
    Study("One best of six", answers.equivalent, [NORMAL]),
    Study("A planned run", answers.planned, [NORMAL], (3, 5)),
    Study("Looking again", answers.peeking, [NORMAL], (20,)),
    Study("Hypotheses on dev", answers.on_dev, [NORMAL]),
    Study("Power: a gain of 1.6 points", answers.power, [Seeds("normal", gain=0.016)]),
    Study("How often a cell trains", answers.shares, [NORMAL, *ONE_CELL]),
    Study("Losses of single examples", answers.real_outcomes, [NORMAL, T3]),
    Study("Exact tests of how often they train", answers.exact_tests, TRAINING),
    Study("Tuning of two equal cells, one of them noisy", answers.tuned, [NORMAL, T3]),
    Study("An average over four settings", answers.averaged, AVERAGED),
]


@dataclass(frozen=True)
class Task:
    """One row of a table: its own random stream, so that the order of tasks does not matter."""

    study: int
    case: int
    num_seeds: int
    repetitions: int
    seed: int


def repeat(task: Task) -> dict[str, tuple[float, float]]:
    """Mean of each count over repetitions, and its Monte Carlo error; NaN counts nowhere."""
    study = STUDIES[task.study]
    rng = np.random.default_rng((task.seed, task.study, task.case, task.num_seeds))
    rows = [study.once(study.cases[task.case], task.num_seeds, rng) for _ in range(task.repetitions)]
    found = {}
    for name in rows[0].keys() | rows[-1].keys():
        values = np.array([row.get(name, math.nan) for row in rows])
        known = values[np.isfinite(values)]
        error = float(known.std() / math.sqrt(len(known))) if len(known) else math.nan
        found[name] = (float(known.mean()) if len(known) else math.nan, error)
    return {name: found[name] for name in rows[0]}


def tasks(repetitions: int, seed: int) -> list[Task]:
    return [
        Task(number, index, size, repetitions, seed)
        for number, study in enumerate(STUDIES)
        for index in range(len(study.cases))
        for size in study.sizes
    ]


def table(study: Study, rows: Sequence[tuple[Task, dict[str, tuple[float, float]]]]) -> Iterator[str]:
    """A study in Markdown: a row per case and number of seeds, in per cent with the Monte Carlo error."""
    names = list(rows[0][1])
    yield f"### {study.title}\n"
    yield f"| %, ± one Monte Carlo error | n | {' | '.join(names)} |"
    yield "| --- " * (2 + len(names)) + "|"
    for task, found in rows:
        cells = [_cell(name, *found[name]) for name in names]
        yield f"| {study.cases[task.case].name} | {task.num_seeds} | {' | '.join(cells)} |"


def _cell(name: str, value: float, error: float) -> str:
    if math.isnan(value):
        return "–"
    scale = 1.0 if "points" in name or "seeds" in name else 100.0
    return f"{scale * value:.1f} ± {scale * error:.1f}"


def main(
    repetitions: Annotated[int, typer.Option(help="of each row")] = 4_000,
    seed: Annotated[int, typer.Option(help="of the random numbers")] = 0,
    jobs: Annotated[int, typer.Option("-j", help="processes")] = cores(),
) -> None:
    """Prints, as Markdown, what the report's answers are worth where seeds fail, are missing or are skewed."""
    os.environ |= PROCESS
    start, todo = time.perf_counter(), tasks(repetitions, seed)
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        found = list(zip(todo, pool.map(repeat, todo), strict=True))
    for number, study in enumerate(STUDIES):
        print("\n".join(table(study, [pair for pair in found if pair[0].study == number])), end="\n\n")
    print(f"{repetitions:,} repetitions of each row, {time.perf_counter() - start:.0f} s with {jobs} processes")


if __name__ == "__main__":
    typer.run(main)
