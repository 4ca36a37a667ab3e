"""Proves the statistics on made-up trials whose truth is known: ``python -m bench.studies.simulate coverage``.

Variant g at seed s gets image i right where

    level[g] + difficulty[i] + image[g, i] + seed[g, s] + noise[g, s, i] > 0,    all normal, noise with deviation 1

so images are hard or easy for all variants and seeds (deviation 2), may suit one of them, and seeds may be lucky. The
sum is normal, so ``level`` can make the accuracy over all images and seeds what the scenario says.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Annotated, TypeVar

import numpy as np
import typer
from numpy.typing import NDArray
from scipy import special

from bench.stats.estimates import ALPHA, Floats, Variant, contrast, mean_squares
from bench.stats.families import holm
from lab.limits import cores

DIFFICULTY = 2.0
NUM_ARMS = 6  # of a family, all compared with one baseline
# Noise is drawn as one of so many equally likely quantiles, in a fifth of the time of a normal: 16 random bits each.
NOISE = special.ndtri((np.arange(2**16) + 0.5) / 2**16).astype(np.float32)
SIZES = [(num_seeds, num_images) for num_images in (360, 10_000) for num_seeds in (3, 5, 10)]
# Of each process: one thread, since there are as many processes as cores; and what is freed is kept, or half of the
# time would go into getting the same pages from the system again.
PROCESS = {"OMP_NUM_THREADS": "1", "MALLOC_TOP_PAD_": str(2**26)}
Interval = tuple[float, float]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Scenario:
    """Accuracies of A and B, and the deviations of what suits a variant: images, and seeds."""

    accuracy: tuple[float, float]
    images: float
    seeds: float

    @property
    def truth(self) -> float:
        return self.accuracy[1] - self.accuracy[0]

    def __str__(self) -> str:
        a, b = self.accuracy
        varying = [word for word, size in (("images", self.images), ("seeds", self.seeds)) for _ in range(size > 0)]
        strong = "strong " if self.images > 0.5 else ""
        return f"{a:g} and {b:g}: {strong}{' and '.join(varying) or 'chance alone'}"


EFFECTS = [(0.0, 0.0), (0.0, 0.1), (0.5, 0.1), (1.0, 0.0), (1.0, 0.4)]  # deviations of images and seeds
NULL = [Scenario((accuracy, accuracy), *effects) for accuracy in (0.9, 0.97) for effects in EFFECTS]
IN_FAMILIES = [NULL[0], NULL[2], NULL[4], NULL[5], NULL[7]]
BOOTSTRAPPED = [NULL[0], NULL[2], NULL[7]]
DIFFERENT = [Scenario((0.9, 0.92), 0.5, 0.1), Scenario((0.97, 0.98), 0.5, 0.1)]


def draw(
    rng: np.random.Generator, scenario: Scenario, num_seeds: int, num_images: int, accuracies: Sequence[float]
) -> list[NDArray[np.bool_]]:
    """Draws which images (S, I) each variant gets right; they have these accuracies and share the test set."""
    spread = math.sqrt(1 + DIFFICULTY**2 + scenario.images**2 + scenario.seeds**2)

    def normal(deviation: float, *shape: int) -> NDArray[np.float32] | float:
        return np.float32(deviation) * rng.standard_normal(shape, dtype=np.float32) if deviation else 0.0

    difficulty = normal(DIFFICULTY, num_images)
    variants = []
    for accuracy in accuracies:
        level = float(special.ndtri(accuracy)) * spread
        threshold = level + difficulty + normal(scenario.images, num_images) + normal(scenario.seeds, num_seeds, 1)
        variants.append(noise(rng, num_seeds, num_images) < threshold)
    return variants


def noise(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    size = math.prod(shape)
    bits = rng.bit_generator.random_raw(-(-size // 4)).view(np.uint16)[:size]
    return NOISE.take(bits, mode="clip").reshape(shape)


# --- intervals that compete -----------------------------------------------------------------------------------------


def ours(a: Variant, b: Variant) -> Interval:
    """Computes the interval that the report shows."""
    return contrast([b, a], [1, -1]).interval()


def paired_t(a: Variant, b: Variant) -> Interval:
    """Student's t on the seeds' differences."""
    return contrast([Variant(b.values), Variant(a.values)], [1, -1]).interval()


def satterthwaite(a: Variant, b: Variant) -> Interval:
    """Returns the same variance with the degrees of freedom of Hillis (2007)."""
    assert a.examples is not None
    assert b.examples is not None
    difference = np.subtract(b.examples, a.examples, dtype=float)
    variance, seed_part = _variance(*mean_squares(difference), difference.size)
    df = (len(difference) - 1) * (variance / seed_part) ** 2 if seed_part > 0 else math.inf
    half = -special.stdtrit(min(df, 1e9), ALPHA / 2) * math.sqrt(variance)
    return float(difference.mean() - half), float(difference.mean() + half)


def bootstraps(
    a: NDArray[np.bool_], b: NDArray[np.bool_], rng: np.random.Generator, resamples: int = 999
) -> tuple[Interval, Interval]:
    """Two-way bootstrap over seeds and images (Owen 2007, Annals of Applied Statistics 1:386): percentiles, and t.

    Images with the same outcomes at all seeds are drawn together, which changes nothing but the time it takes.
    """
    difference = np.subtract(b, a, dtype=float)
    (num_seeds, num_images), center = difference.shape, float(difference.mean())
    patterns, counts = np.unique(difference, axis=1, return_counts=True)
    seeds = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), resamples)
    images = rng.multinomial(num_images, counts / num_images, resamples)
    seed_means, image_means = images @ patterns.T / num_images, seeds @ patterns / num_seeds
    means = (seeds * seed_means).sum(1) / num_seeds
    rows = num_images * (seeds * np.square(seed_means - means[:, None])).sum(1)
    columns = num_seeds * (images * np.square(image_means - means[:, None])).sum(1)
    total = ((seeds @ np.square(patterns)) * images).sum(1) - difference.size * np.square(means)
    df_rows, df_columns = num_seeds - 1, num_images - 1
    rest = (total - rows - columns) / (df_rows * df_columns)
    variances, _ = _variance(rows / df_rows, columns / df_columns, rest, difference.size)
    deviation = math.sqrt(float(_variance(*mean_squares(difference), difference.size)[0]))
    statistics = (means - center) / np.sqrt(np.maximum(variances, 1e-12))
    low, high = np.quantile(statistics, [ALPHA / 2, 1 - ALPHA / 2])
    percentiles = np.quantile(means, [ALPHA / 2, 1 - ALPHA / 2])
    return (float(percentiles[0]), float(percentiles[1])), (center - high * deviation, center - low * deviation)


def _variant(bits: NDArray[np.bool_]) -> Variant:
    return Variant(bits.mean(1), bits)


def _variance(rows: Floats | float, columns: Floats | float, rest: Floats | float, size: int) -> tuple[Floats, Floats]:
    """Returns the variance of the mean, and the part that seeds make."""
    return (rows + np.maximum(columns - rest, 0.0)) / size, np.asarray(rows) / size


METHODS: dict[str, Callable[[Variant, Variant], Interval]] = {
    "this report": ours,
    "Satterthwaite": satterthwaite,
    "paired t": paired_t,
}


# --- what they cover ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """One place of the tables: its own random stream, so that the order of tasks does not matter."""

    scenario: Scenario
    num_seeds: int
    num_images: int
    repetitions: int
    seed: tuple[int, ...]


def coverage(task: Task) -> dict[str, float]:
    """Returns the share of repetitions in which each method's interval holds the truth."""
    rng = np.random.Generator(np.random.SFC64(task.seed))
    covered: Counter[str] = Counter()
    for _ in range(task.repetitions):
        a, b = map(_variant, draw(rng, task.scenario, task.num_seeds, task.num_images, task.scenario.accuracy))
        covered.update(name for name, method in METHODS.items() if _holds(method(a, b), task.scenario.truth))
    return {name: covered[name] / task.repetitions for name in METHODS}


def bootstrap_coverage(task: Task) -> dict[str, float]:
    """Returns the same for the bootstraps, which take up to forty times as long."""
    rng = np.random.Generator(np.random.SFC64(task.seed))
    covered: Counter[str] = Counter()
    names = ["bootstrap, percentiles", "bootstrap, t"]
    for _ in range(task.repetitions):
        a, b = draw(rng, task.scenario, task.num_seeds, task.num_images, task.scenario.accuracy)
        intervals = zip(names, bootstraps(a, b, rng), strict=True)
        covered.update(name for name, interval in intervals if _holds(interval, task.scenario.truth))
    return {name: covered[name] / task.repetitions for name in names}


def family_error(task: Task) -> float:
    """Returns the share of families, all without a difference, in which Holm's correction leaves any p under 0.05."""
    rng = np.random.Generator(np.random.SFC64(task.seed))
    errors = 0
    for _ in range(task.repetitions):
        accuracies = [task.scenario.accuracy[0]] * (1 + NUM_ARMS)
        baseline, *variants = map(_variant, draw(rng, task.scenario, task.num_seeds, task.num_images, accuracies))
        errors += min(holm([contrast([variant, baseline], [1, -1]).p_value() for variant in variants])) < ALPHA
    return errors / task.repetitions


def _holds(interval: Interval, truth: float) -> bool:
    rounding = 1e-9
    return interval[0] - rounding <= truth <= interval[1] + rounding


# --- tables ---------------------------------------------------------------------------------------------------------


def _tasks(scenarios: Sequence[Scenario], repetitions: int, *seed: int) -> list[Task]:
    return [
        Task(scenario, *size, repetitions, (*seed, row, column))
        for row, scenario in enumerate(scenarios)
        for column, size in enumerate(SIZES)
    ]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for line in [header, ["---"] * len(header), *rows]:
        yield f"| {' | '.join(line)} |"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _grid(title: str, scenarios: Sequence[Scenario], shares: Sequence[float]) -> Iterator[str]:
    columns = len(SIZES)
    rows = [
        [str(scenario), *map(_percent, shares[columns * row : columns * (row + 1)])]
        for row, scenario in enumerate(scenarios)
    ]
    yield from _markdown([title, *(f"n = {seeds}, {images:,}" for seeds, images in SIZES)], rows)


def _ranges(tasks: Sequence[Task], shares: Sequence[dict[str, float]]) -> Iterator[str]:
    """Yields each method's least and greatest coverage over the scenarios, for each size."""
    rows = []
    for name in shares[0]:
        row = [name]
        for size in SIZES:
            pairs = zip(tasks, shares, strict=True)
            here = [share[name] for task, share in pairs if (task.num_seeds, task.num_images) == size]
            row.append(f"{_percent(min(here))} to {_percent(max(here))}")
        rows.append(row)
    header = ["%, least to greatest over scenarios", *(f"n = {seeds}, {images:,}" for seeds, images in SIZES)]
    yield from _markdown(header, rows)


def _title(text: str) -> None:
    print(f"\n{text}\n")


def _rows(lines: Iterator[str]) -> None:
    print("\n".join(lines), flush=True)


app = typer.Typer(add_completion=False, help=__doc__)


@app.callback()
def _command() -> None:
    """Simulations that check the statistics."""


@app.command("coverage")
def print_coverage(
    repetitions: Annotated[int, typer.Option(help="trials of each interval, at each place of the table")] = 10_000,
    families: Annotated[int, typer.Option(help="families at each place")] = 5_000,
    bootstrap_repetitions: Annotated[int, typer.Option(help="trials of each bootstrap interval")] = 500,
    seed: Annotated[int, typer.Option(help="of the random numbers")] = 0,
    jobs: Annotated[int, typer.Option("-j", help="processes")] = cores(),
) -> None:
    """Prints, as Markdown, what 95 % intervals cover and how often a family without differences shows one."""
    os.environ |= PROCESS
    scenarios = NULL + DIFFERENT
    tasks = _tasks(scenarios, repetitions, seed, 0)
    bootstrap_tasks = _tasks(BOOTSTRAPPED, bootstrap_repetitions, seed, 1)
    family_tasks = _tasks(IN_FAMILIES, families, seed, 2)
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        shares = _followed("intervals", pool.map(coverage, tasks), len(tasks))
        _title(f"Coverage of 95 % intervals: {len(scenarios)} scenarios with {repetitions:,} repetitions each")
        _rows(_ranges(tasks, shares))
        _title("Coverage of this report's 95 % intervals, in %, by scenario")
        _rows(_grid("accuracies: what varies", scenarios, [share["this report"] for share in shares]))
        errors = _followed("families", pool.map(family_error, family_tasks), len(family_tasks))
        _title(
            f"Families of {NUM_ARMS} comparisons without a difference in which one is found, in %, {families:,} each"
        )
        _rows(_grid("accuracies: what varies", IN_FAMILIES, errors))
        shares = _followed("bootstraps", pool.map(bootstrap_coverage, bootstrap_tasks), len(bootstrap_tasks))
        _title(f"Coverage of bootstraps: {len(BOOTSTRAPPED)} scenarios with {bootstrap_repetitions:,} repetitions each")
        _rows(_ranges(bootstrap_tasks, shares))


def _followed(what: str, results: Iterator[Result], count: int) -> list[Result]:
    """Yields the results, each place of the table told on standard error when it is done."""
    start, done = time.perf_counter(), []
    for result in results:
        done.append(result)
        print(f"{what}: {len(done)} of {count} places, {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return done


if __name__ == "__main__":
    app()
