"""The plan as a person reads it: cells, trials, what is done, what is left out, and on demand its price."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.analysis.audit import audit
from bench.execute.own_price import SECONDS, OwnPrice
from bench.execute.price import Prices, without_effect
from bench.execute.progress import duration
from bench.grid.plan import Plan, Trial
from bench.record.staleness import Staleness
from lab.settings import spelled


def show_plan(
    plan: Plan,
    missing: Collection[Trial],
    console: Console,
    prices: Prices | None = None,
    stale: Staleness | None = None,
) -> int:
    """Prints the plan, with its price if given; returns the exit code: 1 where a cell would fail, else 0."""
    changed = stale.changed if stale is not None else {}
    console.print(Text(plan.question, style="bold"))
    console.print(_cells(plan, missing, changed))
    for path, values in plan.tune.items():
        console.print(Text(f"tuned in every cell: {path} in {spelled(list(values))[1:-1]}"))
    for because, labels in _excluded(plan).items():
        console.print(Text(f"excluded, {because}: {'; '.join(labels)}"))
    _print_total(plan, missing, console)
    if changed:
        console.print(Text(f"{stale}; `run --rerun stale` trains them again"))
    warnings = list(plan.warnings)
    failing = False
    if prices is not None:
        failing = _print_prices(plan, missing, prices, console)
        warnings += _findings(plan, prices)
    for warning in warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))
    return int(failing)


def _cells(plan: Plan, missing: Collection[Trial], stale: Collection[str]) -> Table:
    trials = Counter(trial.cell.label for trial in plan.trials)
    known = {trial.trial_id for trial in plan.trials}
    left = Counter(trial.cell.label for trial in missing if trial.trial_id in known)
    outdated = Counter(trial.cell.label for trial in plan.trials if trial.trial_id in stale)
    candidates: dict[str, set[str]] = defaultdict(set)
    seeds: dict[str, set[int]] = defaultdict(set)
    for trial in plan.trials:
        candidates[trial.cell.label].add(repr(trial.tuned))
        seeds[trial.cell.label].add(trial.seed)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for factor in plan.factors:
        table.add_column(factor.name, overflow="fold")
    for name in [*(["candidates"] if plan.tune else []), "seeds", "trials", "recorded", *(["stale"] if stale else [])]:
        table.add_column(name, justify="right", no_wrap=True)
    for cell in plan.cells:
        label = cell.label
        counts = [len(candidates[label])] * bool(plan.tune)
        counts += [len(seeds[label]), trials[label], trials[label] - left[label]]
        counts += [outdated[label]] * bool(stale)
        levels = [Text(cell.levels.get(factor.name, "")) for factor in plan.factors]
        table.add_row(*levels, *map(str, counts))
    return table


def _excluded(plan: Plan) -> dict[str, list[str]]:
    """Labels of the cells that are left out, by reason."""
    reasons: dict[str, list[str]] = {}
    for excluded in plan.excluded:
        reasons.setdefault(excluded.because, []).append(excluded.cell.label)
    return reasons


def _print_total(plan: Plan, missing: Collection[Trial], console: Console) -> None:
    known = {trial.trial_id for trial in plan.trials}
    left = sum(trial.trial_id in known for trial in missing)
    recorded = len(plan.trials) - left
    console.print(f"{len(plan.cells)} cells, {len(plan.trials)} trials: {recorded} recorded, {left} to run")
    final = [seed for seed in plan.seeds if seed not in plan.tune_seeds]
    if plan.tune and final:
        console.print(
            f"then the winner of each cell on {len(final)} seeds of their own: {len(final) * len(plan.cells)} trials"
        )


def _print_prices(plan: Plan, missing: Collection[Trial], prices: Prices, console: Console) -> bool:
    """Prints a line per cell: the dearest of its candidates, or what it would fail of; returns whether one would."""
    errors: dict[str, str] = {}
    dearest: dict[str, Trial] = {}
    for trial in plan.trials:
        label = trial.cell.label
        found = prices.of(trial.lab)
        if found.error:
            errors.setdefault(label, found.error)
        elif label not in dearest or found.trial_seconds > prices.of(dearest[label].lab).trial_seconds:
            dearest[label] = trial
    if dearest:
        console.print(_price_table(plan, prices, dearest))
        _show_estimate(prices, [trial for trial in missing if not prices.of(trial.lab).error], console)
    for label, error in errors.items():
        console.print(Text(f"would fail: {label or plan.name}: {error}", style="red"))
    return bool(errors)


def _price_table(plan: Plan, prices: Prices, dearest: Mapping[str, Trial]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("cell", overflow="fold")
    for name in ("parameters", "MACs", "memory", "per trial"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, trial in dearest.items():
        found = prices.of(trial.lab)
        memory = "" if found.peak_memory_bytes is None else f"{found.peak_memory_bytes / 2**20:,.0f} MiB"
        seconds = found.trial_seconds
        time = f"{seconds:.2g} s" if seconds < 10 else duration(seconds)
        table.add_row(Text(label or plan.name), f"{found.parameters:,}", f"{found.forward_macs:,}", memory, time)
    return table


def _show_estimate(prices: Prices, trials: Collection[Trial], console: Console) -> None:
    workers = f"{prices.num_workers} at once"
    console.print(f"estimated: {duration(prices.seconds(trials))} for the {len(trials)} trials to run, {workers}")
    if trials:
        start = f"and {duration(prices.start_seconds)} to start" if prices.start_seconds >= 1 else "besides"
        console.print(f"{start}; timing each model afterwards takes at most as long again, with --no-time nothing")


def show_own_price(plan: Plan, missing: Collection[Trial], price: OwnPrice, console: Console) -> int:
    """Prints what running the baseline three times showed; returns the exit code: 1 where it failed, else 0."""

    def say(sentence: str, style: str = "") -> None:
        console.print(Text(sentence, style=style), soft_wrap=True)

    seed, label = price.trial.seed, price.trial.cell.label or plan.name
    say(f"priced by {label}: twice at seed {seed}, the first kept as its trial, once at {price.other_seed}")
    if price.error:
        say(f"would fail: {label}: {price.error}", style="red")
        return 1
    declared = [metric.name for metric in plan.metrics]
    more = [name for name in price.first if name not in declared and name != SECONDS]
    found = ", ".join(f"{name} {price.first[name]:.6g}" for name in declared if name in price.first)
    say(f"metrics found: {found}" + (f"; undeclared: {', '.join(more)}" if more else ""))
    say(f"deterministic: {_repeated(price, declared)}")
    acts = price.seed_acts
    say(f"the seed acts: {'cannot be told, no number is repeated' if acts is None else _yes(acts)}")
    if acts is False:
        same = f"seeds {seed} and {price.other_seed} give the same numbers: more seeds would be copies of one run"
        say(f"warning: {same}", style="yellow")
    total = duration(price.seconds * len(missing) / price.num_workers)
    say(f"per trial: {price.seconds:.3g} s")
    say(f"estimated: {total} for the {len(missing)} trials to run, {price.num_workers} at once")
    return 0


def _repeated(price: OwnPrice, declared: Sequence[str]) -> str:
    """Says whether two runs of one seed agree, or about which metrics they do not."""
    differing = [f"{name} {price.first[name]!r} and {price.again.get(name)!r}" for name in price.differing(declared)]
    return f"no, two runs of seed {price.trial.seed} differ: {', '.join(differing)}" if differing else "yes"


def _yes(true: bool) -> str:
    return "yes" if true else "no"


def _findings(plan: Plan, prices: Prices) -> list[str]:
    """Toggles without effect, and what the audit says."""
    by_cell = {trial.cell.label: prices.of(trial.lab) for trial in reversed(plan.trials)}
    counts = {label: (found.parameters, found.forward_macs) for label, found in by_cell.items()}
    num_dev_images = min((found.num_dev_images for found in by_cell.values() if not found.error), default=None)
    return without_effect(plan, by_cell) + audit(plan, counts, num_dev_images)
