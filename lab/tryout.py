"""Tries parts before anything trains: what the settings of a loss, a schedule, ... break shows on a few numbers.

Parts of packages do what their settings say: they are made and used as a trial would. Of a user's own only those that
settings reach are made; what they return is checked where a trial asks for it. What no trial shows is asked of all:
whether a metric forgets at its reset what was added before, and whether a loss is a sum.
"""

from __future__ import annotations

import functools
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lab import device as devices
from lab.data import Splits, load_data
from lab.imports import is_users, load, own_name, told
from lab.metrics import Scores, check_metric, source_of
from lab.optim import build_optimizer, needs_closure
from lab.outputs import Loss, logits_of, tensors_of
from lab.parts import make_part, parse_part
from lab.process import starting_state
from lab.returned import ReturnedError, finite, mean_loss, name_of, with_gradient
from lab.schedules import Factor, Scheduler
from lab.scores import named
from lab.sections import BASES, Part, Problem, Section, SettingsError, part_name, spelled
from lab.settings import BUILT_IN, Settings, parse_section
from lab.trial import batches, make_loss, make_runner, make_schedule

MOST_STEPS = 10_000  # of a schedule; one of torch's takes some 10 us
MOST_EXAMPLES = 256


@dataclass(frozen=True)
class _Sample:
    """The numbers that parts are tried on: made up, or those of the network itself."""

    parameters: Sequence[nn.Parameter]
    outputs: Any
    labels: Tensor
    evaluated: Iterable[tuple[Tensor, Tensor]]  # logits and labels


def doubts(raw: Iterable[Mapping[str, Any]], data_dir: Path | None) -> list[int]:
    """Returns the indices of those settings (plain data) of which a part fails on numbers that are made up."""
    found = []
    for index, one in enumerate(raw):
        settings = Settings.parse(one)
        splits = load_data(settings.data, torch.device("cpu"), data_dir)
        with starting_state(settings.seed):
            if _fault(settings, splits, _made_up(splits)) is not None:
                found.append(index)
    return found


def fault(raw: Mapping[str, Any], device: str, data_dir: Path | None) -> Problem | None:
    """Returns what fails of a part with the network and data of the trial; None where nothing does.

    Raises what the network or the data raise.
    """
    settings, where = Settings.parse(raw), devices.resolve(device)
    with starting_state(settings.seed):
        devices.configure(where)
        splits = load_data(settings.data, where, data_dir)
        return _fault(settings, splits, _real(settings, splits, where))


# --- what parts are tried on ----------------------------------------------------------------------------------------


def _made_up(splits: Splits) -> _Sample:
    size = splits.num_classes
    num = min(2 * size, MOST_EXAMPLES)
    parameters = list(nn.Linear(2, size).parameters())
    for one in parameters:
        one.grad = torch.ones_like(one)
    labels = torch.randn(num, size) if splits.is_regression else torch.arange(num) % size
    right = labels if splits.is_regression else 5 * nn.functional.one_hot(labels, size)
    evaluated = [(torch.randn(num, size) + factor * right, labels) for factor in (1, 0)]  # one batch well, one badly
    return _Sample(parameters, torch.randn(num, size, requires_grad=True), labels, evaluated)


def _real(settings: Settings, splits: Splits, device: torch.device) -> _Sample:
    """Makes the network of the trial, built-in parts in place of those that are tried; takes a batch's gradients."""
    train = {"loss": "mse", "metric": "rmse"} if splits.is_regression else {"loss": "cross_entropy"}
    plain = {"metric": "accuracy", "select": None, "better": None, "label_smoothing": 0.0, "compile": False} | train
    neutral = settings.model_copy(
        update={
            "optimizer": parse_section("optimizer", {"name": "sgd", "lr": 0.1}),
            "schedule": parse_section("schedule", {}),
            "train": settings.train.model_copy(update=plain),
        }
    )
    runner = make_runner(neutral, splits, device)
    X, y = next(iter(batches(settings, splits, "train")))
    runner.model.train()
    runner.gradients(X, y)
    y = devices.transfer(y, device)
    outputs = runner.model(runner.moved(X))

    def evaluated() -> Iterator[tuple[Tensor, Tensor]]:
        runner.model.eval()
        with torch.no_grad():
            for X, y in batches(settings, splits, "dev"):
                output = runner.model(runner.moved(X))
                yield logits_of(output, len(y), splits.num_classes), devices.transfer(y, device)

    return _Sample(list(runner.model.parameters()), outputs, y, evaluated())


# --- trying ---------------------------------------------------------------------------------------------------------


def _fault(settings: Settings, splits: Splits, sample: _Sample) -> Problem | None:
    try:
        warnings.simplefilter("ignore")  # within starting_state, which puts the filters back
        _try_rates(settings, splits, sample)
        _try_loss(settings, splits, sample)
        _try_metrics(settings, splits, sample)
    except SettingsError as error:
        return error.problems[0]
    return None


def _try_rates(settings: Settings, splits: Splits, sample: _Sample) -> None:
    """Makes optimizer and schedule, takes a step of the one and those of a whole training of the other."""
    optimizing, scheduling = (_Tried(name, getattr(settings, name)) for name in ("optimizer", "schedule"))
    is_scheduled = scheduling.is_tried and not optimizing.is_own
    if not (optimizing.is_tried or is_scheduled):
        return
    with optimizing.blamed():
        optimizer = build_optimizer(settings.optimizer, sample.parameters)
        if not optimizing.is_own:
            _step(optimizer)
    if is_scheduled:
        num_steps = settings.train.epochs * len(batches(settings, splits, "train"))
        with scheduling.blamed():
            schedule = make_schedule(settings, optimizer, num_steps)
            _step(optimizer)  # torch warns of a schedule that is stepped first
            if not scheduling.is_own:
                _run(schedule, num_steps, settings.train.epochs)


def _step(optimizer: torch.optim.Optimizer) -> None:
    optimizer.step((lambda: 0.0) if needs_closure(optimizer) else None)


def _run(schedule: Factor | Scheduler | None, num_steps: int, num_epochs: int) -> None:
    """Takes the steps of a training, each epoch with an evaluation after it."""
    for step in range(min(num_steps, MOST_STEPS)):
        if isinstance(schedule, Scheduler):
            schedule.step_done()
            if (step + 1) % (num_steps // num_epochs) == 0:
                schedule.epoch_done()
                schedule.evaluated(1.0, 1.0)
        elif schedule is not None:
            finite(schedule(step), schedule, f" at step {step}")


def _try_loss(settings: Settings, splits: Splits, sample: _Sample) -> None:
    """Makes the loss, computes it, and asks whether it is a sum, which no batch of one size shows."""
    if settings.train.loss in BUILT_IN["loss"]:
        return
    tried = _Tried("train.loss", parse_part("loss", settings.train.loss))
    make = functools.partial(make_loss, settings.train, splits.num_classes, sample.labels.device)
    if tried.is_tried:
        with tried.blamed():
            make()
    if not tried.is_own:
        with tried.blamed():
            loss = make()
            value = mean_loss(loss(sample.outputs, sample.labels), loss)
            with_gradient(value, loss, tensors_of(sample.outputs))
    summed = ""
    with suppress(Exception):  # of ones own code the trial tells
        summed = _summed(make(), sample)
    with tried.blamed():
        if summed:
            raise ReturnedError(summed)


def _summed(loss: Loss, sample: _Sample) -> str:
    """Says where a loss is twice as large of a batch and the same batch again."""
    outputs = sample.outputs.detach()
    once, twice = (float(loss(torch.cat([outputs] * num), torch.cat([sample.labels] * num))) for num in (1, 2))
    if not once or not math.isclose(twice, 2 * once, rel_tol=1e-4):
        return ""
    rule = "must return the mean loss of the batch, returned the sum over it"
    return f"{name_of(loss)} {rule}: dev_loss and the steps would grow with the batch size"


def _try_metrics(settings: Settings, splits: Splits, sample: _Sample) -> None:
    """Makes each metric, computes it of what is evaluated, and resets it in between."""
    own = {name: part for name, part in named(settings.train.metric).items() if part not in BUILT_IN["metric"]}
    evaluated = list(sample.evaluated) if own else []
    for name, part in own.items():
        tried = _Tried("train.metric", parse_part("metric", part))
        make = functools.partial(_make_scores, name, part, splits.num_classes, sample.labels.device)
        if tried.is_tried:
            with tried.blamed():
                make()
        if not tried.is_own:
            with tried.blamed():
                _value(make(), evaluated)
        kept = ""
        with suppress(Exception):  # of ones own code the trial tells
            kept = _kept(make, evaluated)
        with tried.blamed():
            if kept:
                raise ReturnedError(kept)


def _make_scores(name: str, part: Part, num_classes: int, device: torch.device) -> Scores:
    scores = Scores({name: check_metric(make_part("metric", part, {"num_classes": num_classes}), name)})
    scores.to(device)
    return scores


@torch.no_grad()
def _value(scores: Scores, evaluated: Iterable[tuple[Tensor, Tensor]]) -> float:
    scores.reset()
    for logits, labels in evaluated:
        scores.update(logits, labels)
    return next(iter(scores.values().values()))


def _kept(make: Callable[[], Scores], evaluated: Sequence[tuple[Tensor, Tensor]]) -> str:
    """Says where a metric that was reset gives what a new one gives of earlier batches and later ones together."""
    (half, *rest), several = evaluated, len(evaluated) > 1
    first = [half] if several else [(half[0][::2], half[1][::2])]
    second = rest if several else [(half[0][1::2], half[1][1::2])]
    scores = make()
    _value(scores, first)
    found, right = _value(scores, second), _value(make(), second)
    if found == right or found != _value(make(), [*first, *second]):
        return ""
    metric = next(iter(scores.metrics.values()))
    rule = (
        f"must forget what was added before: {source_of(metric)} gives {found:g} of what a new one gives {right:g} of"
    )
    return f"{name_of(type(metric))}.reset() {rule}"


class _Tried:
    """A part by the path of its setting, and what is tried of it."""

    def __init__(self, path: str, settings: Section) -> None:
        self._path, self._name = path, part_name(dict(settings))
        fields = type(settings).model_fields
        self._required = {name for name, one in fields.items() if one.is_required()}
        defaults = {name: one.default for name, one in fields.items() if not one.is_required()}
        given = {name: value for name, value in settings if name != "name"}
        self._given = {name: value for name, value in given.items() if name not in defaults or value != defaults[name]}
        self._own = self._given.keys() - BASES[path.rpartition(".")[2]].model_fields.keys()
        self.is_built_in = ":" not in self._name
        self.is_own = not self.is_built_in and _is_own(self._name)
        self.is_tried = not self.is_built_in and (bool(self._own) or not self.is_own)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Turns what is raised meanwhile into a :class:`SettingsError` at the setting that it is about."""
        try:
            yield
        except (Exception, SystemExit) as error:  # whatever it raises is the finding
            words = " ".join((str(error) if isinstance(error, ReturnedError) else told(error)).split())
            path, _, rule = words.removeprefix("ValueError: ").partition(": ")
            if path.startswith(f"{self._path}."):  # a rule of ours, which names the setting
                raise SettingsError([Problem(path, rule)]) from error
            said = ", ".join(f"{name} {spelled(value)}" for name, value in self._given.items())
            whose = f"{self._name}{f' with {said}' if said else ''}"
            verb = ":" if isinstance(error, ReturnedError) else " fails when it is tried:"
            raise SettingsError([Problem(self._culprit(words), f"{whose}{verb} {words}")]) from error

    def _culprit(self, words: str) -> str:
        """Returns the path of the setting that the words name first, or of the only one, if required; else the part."""
        places = {name: place for name in self._own if (place := _place(name, words)) is not None}
        if places:
            return f"{self._path}.{min(places, key=places.__getitem__)}"
        if len(self._own) == 1 and self._own <= self._required:
            return f"{self._path}.{next(iter(self._own))}"
        return self._path if self._path.startswith("train.") else f"{self._path}.name"


def _place(setting: str, words: str) -> int | None:
    """Returns where the words name a setting, as ``total steps``, ``beta`` or ``epsilon``; None where they do not."""
    found = re.search(rf"\b{re.sub('_', '[_ ]', setting.rstrip('s'))}", words, re.IGNORECASE)
    return found.start() if found else None


def _is_own(path: str) -> bool:
    """Tells whether a part is of a file of the working folder."""
    load(path)
    module = sys.modules[own_name(path.partition(":")[0], Path.cwd())]
    return is_users(vars(module), Path.cwd())
