"""Finds what a plan costs and whether its toggles act, in a process of its own by a look at each distinct model."""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.execute.processes import CallError, OutOfMemoryError, call_in_child
from bench.execute.trainables.devices import num_cards
from bench.execute.trainables.lab import LAB
from bench.grid.plan import Plan, Trial, neighbours, run_of
from lab.imports import import_paths
from lab.limits import Memory, cores, memory
from lab.result import Inspection
from lab.settings import ModelSettings, Settings, spelled

PLENTY = 4 * 2**30  # bytes per core that leave no doubt
SMALLER = "a smaller batch_size, image size or network needs less"
MOST_NAMED = 3  # cells that a warning names
MOST_MODELS = 64  # that a run looks at before it trains; each takes about as long as a few steps


@dataclass(frozen=True)
class Prices:
    """The findings of inspection, by :func:`price_key`, for so many workers; a run takes ``start_seconds`` to start."""

    found: Mapping[str, Inspection]
    num_workers: int
    start_seconds: float = 0.0

    def of(self, settings: Settings) -> Inspection:
        return self.found[price_key(settings)]

    def seconds(self, trials: Iterable[Trial]) -> float:
        """Estimates when the last of the trials ends, the longest started first; those that would fail take no time."""
        ends = [0.0] * self.num_workers
        for seconds in sorted((self.of(trial.lab).trial_seconds for trial in trials), reverse=True):
            heapq.heapreplace(ends, ends[0] + seconds)
        return max(ends)


def price_key(settings: Settings) -> str:
    """Returns a key, equal where a step costs the same and a trial has as many: rates and schedules do not matter."""
    sections = [settings.data, settings.model, settings.train]
    return json.dumps([*(one.model_dump(mode="json") for one in sections), settings.optimizer.name], sort_keys=True)


def price_plan(plan: Plan, device: str, jobs: int | None, data_dir: Path | None) -> Prices:
    """Takes one real step of each distinct cell and candidate; raises ValueError where the device is not there."""
    began = time.monotonic()
    devices = call_in_child(LAB.devices, device)  # which waits for the server of processes: a run does, too
    started = time.monotonic() - began
    num_workers = jobs or at_once(devices)
    distinct = {price_key(trial.lab): trial.lab for trial in plan.trials}
    found = _inspect(distinct, devices[0], data_dir, max(1, cores() // num_workers), price=True)
    if jobs is None:
        num_workers = min(num_workers, _beside_each_other(found.values(), memory()) or num_workers)
    return Prices(found, num_workers, started + sum(one.setup_seconds for one in found.values()))


def at_once(devices: Sequence[str]) -> int:
    """Counts the trials that run at once where memory allows: one per core, or one per card."""
    return cores() if devices == ["cpu"] else len(devices)


def workers_by_memory(trials: Sequence[Trial], device: str, data_dir: Path | None) -> int | None:
    """Counts the trials that memory allows at once; None where cores or cards are the fewer, or nobody can tell.

    So many as the largest fits into what is free on this machine, by a look at each distinct model. Where there is
    plenty for each core and card it is not asked: looking takes time.
    """
    room = memory()
    if run_of(trials) is not None or room is None or room.free >= PLENTY * max(cores(), num_cards()):
        return None
    devices = call_in_child(LAB.devices, device)
    distinct = {model_key(trial.lab): trial.lab for trial in trials}
    if at_once(devices) == 1 or len(distinct) > MOST_MODELS:
        return None
    try:
        found = _inspect(distinct, devices[0], data_dir, 1, price=False)
    except CallError:  # the run says of which trial
        return None
    allowed = _beside_each_other(found.values(), room)
    return allowed if allowed is not None and allowed < at_once(devices) else None


def needed_bytes(trials: Sequence[Trial], data_dir: Path | None) -> int | None:
    """Returns what the process that trains the largest network on a CPU needs, by a look at each distinct model here.

    None where nobody can tell: own code, very many models, or one that does not fit here.
    """
    if run_of(trials) is not None:
        return None
    distinct = {model_key(trial.lab): trial.lab for trial in trials}
    if len(distinct) > MOST_MODELS:
        return None
    try:
        found = _inspect(distinct, "cpu", data_dir, 1, price=False).values()
    except CallError:  # the run says of which trial
        return None
    return None if any(one.out_of_memory for one in found) else max(one.host_memory_bytes or 0 for one in found)


def _beside_each_other(found: Collection[Inspection], room: Memory | None) -> int | None:
    """Counts how often the largest fits into what is free, once at least; None where nobody can tell."""
    if any(one.out_of_memory for one in found):
        return 1
    largest = max((one.host_memory_bytes or 0 for one in found), default=0)
    return max(1, room.free // largest) if room is not None and largest else None


def _inspect(
    distinct: Mapping[str, Settings],
    device: str,
    data_dir: Path | None,
    threads: int,
    *,
    price: bool,
    timeout: float | None = None,
) -> dict[str, Inspection]:
    """Inspects settings by key: what names user code in a process of its own, the rest in one."""
    raw = {key: settings.model_dump() for key, settings in distinct.items()}
    built_in = {key: one for key, one in raw.items() if not any(import_paths(one))}
    given = (device, data_dir and data_dir.resolve(), threads, price)

    def look(at: Mapping[str, Any]) -> list[Inspection]:
        try:
            return call_in_child(LAB.inspect, at, *given, timeout=timeout)
        except OutOfMemoryError as error:
            if len(at) > 1:  # which one it is of
                return [found for key, one in at.items() for found in look({key: one})]
            return [Inspection(key, error=str(error), out_of_memory=True) for key in at]

    looks = [*([built_in] if built_in else []), *({key: one} for key, one in raw.items() if key not in built_in)]
    found = {one.key: one for at in looks for one in look(at)}
    for number, one in enumerate([one for one in found.values() if one.out_of_memory]):
        hint = _what_fits(raw[one.key], look) if price and number < MOST_NAMED else SMALLER
        found[one.key] = replace(one, error=f"{one.error}; {hint}")
    return found


def _what_fits(raw: Mapping[str, Any], look: Callable[[Mapping[str, Any]], list[Inspection]]) -> str:
    """Says which batch size fits where that of these settings does not, by looks at its half, its quarter, ..."""
    size = raw["data"]["batch_size"] // 2
    while size:
        [found] = look({"": {**raw, "data": {**raw["data"], "batch_size": size}}})
        if not found.out_of_memory:
            return SMALLER if found.error else f"batch_size {size} fits"
        size //= 2
    return "no batch_size fits: a smaller image size or network needs less"


# --- does the toggle do anything ------------------------------------------------------------------------------------


def model_key(settings: Settings) -> str:
    """Returns a key, equal where the network and the images that it is asked about are the same."""
    return json.dumps([settings.data.model_dump(mode="json"), settings.model.model_dump(mode="json")], sort_keys=True)


@dataclass(frozen=True)
class ModelChecks:
    """The findings of a look at the models before a run: warnings, and multiply-accumulates per image by cell label."""

    warnings: list[str]
    macs: dict[str, int] = field(default_factory=dict)


def check_models(plan: Plan, device: str, data_dir: Path | None, timeout: float | None = None) -> ModelChecks:
    """Finds toggles without effect and models that fail; not where all cells have one model, nor at very many.

    Where a network ends or stops the process that looks, the run is to say which one.
    """
    if plan.run is not None or not any(
        path.partition(".")[0] == "model" for factor in plan.factors for path in factor.paths
    ):
        return ModelChecks([])
    distinct = {model_key(one): one for one in sorted((trial.lab for trial in plan.trials), key=_training)}
    if len(distinct) > MOST_MODELS:
        many = f"{len(distinct)} distinct models, more than {MOST_MODELS}"
        return ModelChecks([f"{many}: not checked whether each toggle does anything; --dry-run --price does"])
    try:
        found = _inspect(distinct, device, data_dir, 1, price=False, timeout=timeout)
    except CallError as error:
        return ModelChecks([f"not checked whether each toggle does anything: {error}"])
    by_cell = {trial.cell.label: found[model_key(trial.lab)] for trial in plan.trials}
    failing = _failing({label: inspection.error for label, inspection in by_cell.items() if inspection.error})
    macs = {label: inspection.forward_macs for label, inspection in by_cell.items()}
    return ModelChecks([*failing, *_shares(by_cell), *without_effect(plan, by_cell)], macs)


def _training(settings: Settings) -> str:
    """Orders trials of one model by how it is trained, so that models that differ in a level are asked alike."""
    return json.dumps(settings.model_dump(mode="json", exclude={"data", "model"}), sort_keys=True)


def _failing(errors: Mapping[str, str]) -> list[str]:
    """Returns a sentence per error, with the cells that it is of."""
    return [
        f"a model would fail: {error}{_where([label for label, found in errors.items() if found == error])}"
        for error in dict.fromkeys(errors.values())
    ]


def _shares(inspections: Mapping[str, Inspection]) -> list[str]:
    """Returns a sentence where networks give probabilities to a loss that makes them of logits itself."""
    cells = [label for label, found in inspections.items() if found.gives_shares]
    rule = (
        "the outputs are probabilities, as after a softmax; cross_entropy takes logits, and takes their softmax again"
    )
    return [f"{rule}: leave it out{_where(cells)}"] if cells else []


def without_effect(plan: Plan, inspections: Mapping[str, Inspection]) -> list[str]:
    """Returns a sentence per factor, two levels and model where cells that differ in them alone train the same network.

    ``inspections`` are by the cells' labels. The same: the same outputs, and the same gradients of a training step.
    """
    first = {trial.cell.label: trial.lab for trial in reversed(plan.trials)}
    alike: dict[tuple[str, str], list[str]] = {}
    for name, one, other in neighbours(plan.cells):
        a, b = first[one.label], first[other.label]
        same = inspections[one.label].signature == inspections[other.label].signature != ""
        if same and a.data == b.data and a.model != b.model:
            levels = f"{one.levels[name]} and {other.levels[name]} give the same outputs and gradients"
            rest = " ".join(f"{factor}={level}" for factor, level in one.levels.items() if factor != name)
            what = f"{name} has no effect on the first step of {_described(a.model, b.model)}"
            alike.setdefault((what, levels), []).append(rest)
    return [f"{what}: {levels}{_where(cells)}" for (what, levels), cells in alike.items()]


def _where(cells: Sequence[str]) -> str:
    """Returns `` with batch_norm=false; and 2 more`` of the cells' other levels."""
    named = [cell for cell in cells if cell][:MOST_NAMED]
    more = len(cells) - len(named)
    return f", with {'; '.join(named)}" + (f"; and {more} more" if more else "") if named else ""


def _described(one: ModelSettings, other: ModelSettings) -> str:
    """Returns ``mlp with hidden [256, 128]``: what both have, leaving out what is switched off."""
    both = {key: value for key, value in one if dict(other).get(key) == value and key != "name"}
    words = [f"{key} {spelled(value)}" for key, value in both.items() if value]
    return one.name + (f" with {', '.join(words)}" if words else "")
