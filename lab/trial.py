"""One trial, from settings to a plain result."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy  # by name: user code may put another in its place

from lab import device as devices
from lab import parts, regression
from lab.checkpoint import Checkpoint
from lab.compilation import compile_network
from lab.data import Batches, Splits, load_data
from lab.data.leaks import repeated
from lab.fingerprint import source_fingerprint, sources
from lab.measure import count_parameters
from lab.metrics import CLASSIFICATION, Predictions, Scores, check_metric
from lab.optim import build_optimizer
from lab.outputs import Loss, on_logits
from lab.process import seed_generators, starting_state
from lab.progress import Diverged, Interrupted, SplitResult, TrainingProgress, Undefined
from lab.rehearsal import make_network
from lab.result import Evaluation, Identity, Result
from lab.runner import Runner
from lab.schedules import Factor, Scheduler, build_schedule
from lab.scores import named
from lab.selection import selection
from lab.settings import BUILT_IN, DataSettings, Settings, TrainSettings, parse_section

CHECKPOINT_SECONDS = 10.0  # at most so often is the state of a trial written; a shorter one is run again instead
EVAL_BATCH = 512  # images per evaluation step at most; does not change what is computed
EVAL_PIXELS = 2**22  # and pixels: at 224 x 224 it must not take more memory than training does


def run_trial(
    settings: Settings,
    *,
    device: str = "auto",
    data_dir: Path | None = None,
    checkpoint_dir: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    keep: str = "best",
    digests: Mapping[str, str] | None = None,
    on_evaluation: Callable[[Evaluation], None] = lambda point: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Trains on train, selects the epoch on dev, reads test once for that epoch.

    The status of the result is ``ok``, ``diverged`` or ``error`` (a score is undefined; neither has a test score), or
    ``interrupted``. With a ``checkpoint_dir`` the state is written there as training goes on, and a trial that was cut
    off resumes with the same numbers as if it had not been; once it ended, ``keep`` says what is left: the ``best``
    weights, ``all`` or ``none``. Raises what the network or the data set raises, and :class:`lab.data.DataError` where
    the data have other ``digests`` than these.
    """
    where = devices.resolve(device)
    total, evaluation = devices.Clock(where), devices.Clock(where)
    with starting_state(settings.seed), total.running():
        devices.configure(where)
        splits = load_data(settings.data, where, data_dir)
        splits.check_digests(digests or {})
        devices.reset_peak_memory(where)  # only the first trial of a process reads the data set
        runner = make_runner(settings, splits, where)
        num_parameters = count_parameters(runner.model)
        seed_generators(settings.seed)  # whatever was drawn to build the network
        checkpoint = Checkpoint(checkpoint_dir, checkpoint_seconds, keep, runner, source_fingerprint(settings))
        checkpoint.load()

        def evaluated(point: Evaluation) -> None:
            checkpoint.save_if_due()
            on_evaluation(point)

        ending = _train(settings, splits, runner, evaluation, evaluated, should_stop)
        if ending.status == "interrupted":
            checkpoint.save()
        else:
            checkpoint.finish()
    measures = _measures(splits, runner, ending.tested, evaluation) | {
        "parameters": num_parameters,
        "total_seconds": total.seconds,
        "peak_memory_bytes": devices.peak_memory_bytes(where),
    }
    return _result(settings, splits, runner, ending, measures)


class _Ending(NamedTuple):
    """The end of a training; ``tested`` is None where it did not come to the test split."""

    status: str
    error: str | None = None
    tested: SplitResult | None = None


def _train(
    settings: Settings,
    splits: Splits,
    runner: Runner,
    evaluation: devices.Clock,
    on_evaluation: Callable[[Evaluation], None],
    should_stop: Callable[[], bool],
) -> _Ending:
    """Trains, restores the best weights by dev and reads test with them."""
    try:
        runner.train(
            batches(settings, splits, "train"),
            batches(settings, splits, "dev"),
            settings.train.epochs,
            eval_steps=settings.train.eval_every,
            on_evaluation=on_evaluation,
            should_stop=should_stop,
        )
        runner.restore_best()
        with evaluation.running():
            tested = runner.measure(batches(settings, splits, "test"), examples=True)
        runner.check_defined("test", tested.scores)
    except Diverged as caught:
        return _Ending("diverged", str(caught))
    except Undefined as caught:
        return _Ending("error", str(caught))
    except Interrupted:
        return _Ending("interrupted", "asked to stop")
    return _Ending("ok", tested=tested)


def _measures(
    splits: Splits, runner: Runner, tested: SplitResult | None, evaluation: devices.Clock
) -> dict[str, float | int]:
    """Returns what a row holds of scores, counts and speeds, by column."""
    at = runner.progress
    found: dict[str, float | int] = scores_of(at, tested) | {
        "epochs": at.curve[-1].epoch,
        "steps": at.step,
        "forward_macs": runner.macs.forward if runner.macs else 0,
        "computed_macs": runner.macs.computed if runner.macs else 0,
        "train_seconds": at.train_seconds,
    }
    if not splits.dev.labels.is_floating_point():
        found["num_dev_images"] = len(splits.dev)
        found["dev_majority"] = float(torch.bincount(splits.dev.labels).max()) / len(splits.dev)
    if at.train_seconds:
        found["train_images_per_second"] = at.images / at.train_seconds
    if evaluation.seconds:
        found["eval_images_per_second"] = len(splits.test) / evaluation.seconds
    return found


def _result(
    settings: Settings, splits: Splits, runner: Runner, ending: _Ending, measures: Mapping[str, float | int]
) -> Result:
    tested = ending.tested
    return Result(
        trial_id=settings.trial_id,
        status=ending.status,
        error=ending.error,
        measures=dict(measures),
        environment=devices.environment(runner.device),
        source_fingerprint=source_fingerprint(settings),
        digests=dict(splits.digests),
        sources=sources(settings),
        curve=runner.progress.curve,
        correct=_packed(tested.correct) if tested is not None else None,
        num_test_images=len(splits.test),
        dev_correct=_packed(runner.best_correct),
        num_dev_images=len(splits.dev),
        examples=_examples(tested) if tested is not None else {},
        compile_error=runner.compile_error,
    )


def scores_of(at: TrainingProgress, tested: SplitResult | None) -> dict[str, float]:
    """Returns the scores of a row by column, as far as training came; those that are not finite are left out."""
    best, trained = at.best, at.curve[1:]
    points = {"dev": best, "first_epoch_dev": next((point for point in trained if point.epoch >= 1), None)}
    points["final_dev"] = trained[-1] if trained else None
    found = {} if tested is None else {f"test_{name}": value for name, value in tested.scores.items()}
    for start, point in points.items():
        if point is not None:
            found |= {f"{start}_{name.removeprefix('dev_')}": value for name, value in point.scores.items()}
    if best is not None:
        found["selected_epoch"] = best.epoch
    if trained:
        found["final_train_loss"] = trained[-1].train_loss
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _packed(correct: torch.Tensor | None) -> bytes | None:
    return None if correct is None else np.packbits(correct.cpu().numpy()).tobytes()


def _examples(tested: SplitResult) -> dict[str, bytes]:
    found = {"test_loss": tested.losses, "test_rmse": tested.squares}
    return {name: values.float().cpu().numpy().tobytes() for name, values in found.items() if values is not None}


def prepare(device: str, data: Sequence[Mapping[str, Any]], data_dir: Path | None = None) -> list[str]:
    """Returns the devices to use, once every data set is downloaded and readable; called before any trial.

    Raises ValueError for a device that is not there and :class:`lab.data.DataError` for a data set that cannot be had.
    """
    found = devices.worker_devices(device)
    for raw in data:
        load_data(_data_settings(raw), torch.device("cpu"), data_dir)
    return found


def identify(
    cells: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], data_dir: Path | None = None
) -> list[Identity]:
    """Reads data sets, given by their settings with those of ``train``; returns what each is.

    Raises :class:`lab.data.DataError`, and ValueError where loss or metric do not go with the labels.
    """
    found = []
    for data, train in cells:
        splits = load_data(_data_settings(data), torch.device("cpu"), data_dir)
        trained = parse_section("train", train)
        assert isinstance(trained, TrainSettings)
        check_task(trained, splits)
        found.append(Identity(dict(splits.digests), repeated(splits)))
    return found


def _data_settings(raw: Mapping[str, Any]) -> DataSettings:
    settings = parse_section("data", raw)
    assert isinstance(settings, DataSettings)
    return settings


def make_runner(settings: Settings, splits: Splits, device: torch.device) -> Runner:
    """Makes the network, optimizer, schedule, loss and metric of a trial, ready to train.

    Raises ValueError where the network cannot be trained, and whatever it raises itself.
    """
    check_task(settings.train, splits)
    in_channels, size = _input(settings, splits)
    model, macs = make_network(
        settings.model,
        settings.seed,
        in_channels=in_channels,
        num_classes=splits.num_classes,
        size=size,
        batch=lambda: next(iter(batches(settings, splits, "train")))[0],
        device=device,
        precision=settings.train.precision,
    )
    num_steps = settings.train.epochs * len(batches(settings, splits, "train"))
    optimizer = build_optimizer(settings.optimizer, model.parameters())
    runner = Runner(
        model,
        optimizer,
        make_loss(settings.train, splits.num_classes, device),
        make_scores(settings.train, splits.num_classes, is_regression=splits.is_regression),
        device,
        precision=settings.train.precision,
        clip_norm=settings.train.clip_norm,
        schedule=make_schedule(settings, optimizer, num_steps),
        num_classes=splits.num_classes,
        selection=selection(settings.train),
        example_loss=_example_loss(settings.train, splits.num_classes),
    )
    runner.macs = macs
    if settings.train.compile:
        X, _ = next(iter(batches(settings, splits, "train")))
        kind = (json.dumps(settings.model.model_dump(), default=str), X.shape[1:], settings.train.precision)
        runner.compile_error = compile_network(model, X, device, settings.train.precision, kind)
        if runner.compile_error:
            print(f"train.compile: runs uncompiled: {runner.compile_error}")
    return runner


def batches(settings: Settings, splits: Splits, part: str) -> Batches:
    """Returns the batches of ``train`` (shuffled, augmented), ``dev`` or ``test`` (as they stand)."""
    size = _size(settings, splits)
    if part == "train":
        data = settings.data
        order = {"order": settings.seed, "augment": data.augment}
        return Batches(splits.train, splits, batch_size=data.batch_size, size=size, **order)  # type: ignore[arg-type]
    images = {"dev": splits.dev, "test": splits.test}[part]
    batch_size = max(1, min(EVAL_BATCH, EVAL_PIXELS // size**splits.dims))
    return Batches(images, splits, batch_size=batch_size, size=size)


def make_schedule(settings: Settings, optimizer: torch.optim.Optimizer, num_steps: int) -> Factor | Scheduler | None:
    """Makes the training's schedule; raises ValueError for a plateau that would take what gets better for worse."""
    made = build_schedule(settings.schedule, optimizer, num_steps=num_steps, num_epochs=settings.train.epochs)
    selecting = selection(settings.train)
    if isinstance(made, Scheduler) and made.watches_score and selecting.better == "lower":
        rule = f"max watches {selecting.name}, of which lower is better; with min it watches dev_loss"
        raise ValueError(f"schedule.mode: {rule}")
    return made


def make_loss(train: TrainSettings, num_classes: int, device: torch.device) -> Loss:
    """Makes the loss on the device; raises ValueError for one with parameters of its own, which nothing would train."""
    if train.loss == "cross_entropy":
        return on_logits(functools.partial(cross_entropy, label_smoothing=train.label_smoothing), num_classes)
    if regression.is_loss(train.loss):
        return on_logits(regression.mean_error(str(train.loss)), num_classes)
    loss = parts.make_part("loss", train.loss, {"num_classes": num_classes})
    if isinstance(loss, torch.nn.Module):
        loss.to(device)
        if learned := [name for name, parameter in loss.named_parameters() if parameter.requires_grad]:
            raise ValueError(f"train.loss: has parameters of its own, which no optimizer trains: {', '.join(learned)}")
    return loss


def make_scores(train: TrainSettings, num_classes: int, *, is_regression: bool = False) -> Scores:
    """Makes what is computed of each split: the built-in scores, and the user's metrics."""
    own = {name: part for name, part in named(train.metric).items() if part not in BUILT_IN["metric"]}
    made = {name: parts.make_part("metric", part, {"num_classes": num_classes}) for name, part in own.items()}
    found = {name: check_metric(metric, name) for name, metric in made.items()}
    return Scores(found, regression.Errors() if is_regression else Predictions())


def check_task(train: TrainSettings, splits: Splits) -> None:
    """Raises ValueError where loss or metric are of classes and the labels float targets, or the other way round."""
    labels = f"float targets (N, {splits.num_classes})" if splits.is_regression else "classes"
    of_targets, of_classes = {*regression.LOSSES, "rmse", "mae"}, {"cross_entropy", *CLASSIFICATION}
    wrong, right = (of_classes, of_targets) if splits.is_regression else (of_targets, of_classes)
    for what, named_parts in (("loss", [train.loss]), ("metric", [*named(train.metric).values()])):
        for part in named_parts:
            if isinstance(part, str) and part in wrong:
                ways = [name for name in BUILT_IN[what] if name in right]
                rule = f"{part} does not go with these labels, which are {labels}"
                whole = splits.is_regression and bool((splits.train.labels % 1 == 0).all())
                cast = "; as they are whole numbers, .astype(int) makes them classes" if whole else ""
                raise ValueError(f"train.{what}: {rule}: {' or '.join(ways)} does, or one of your own{cast}")
    if train.loss == "cross_entropy" and bool((splits.train.labels == splits.train.labels[0]).all()):
        rule = "all training labels are one class, so that every network that says so is right"
        raise ValueError(f"train.loss: {rule}: give data with two classes or more, or name a loss of your own")


def _example_loss(train: TrainSettings, num_classes: int) -> Loss | None:
    """Returns the loss of each example where its mean is the loss of the batch; None for a loss of the user's."""
    if regression.is_loss(train.loss):
        return on_logits(regression.example_error(str(train.loss)), num_classes)
    if train.loss != "cross_entropy":
        return None
    each = functools.partial(cross_entropy, label_smoothing=train.label_smoothing, reduction="none")
    return on_logits(each, num_classes)


def _input(settings: Settings, splits: Splits) -> tuple[int, int]:
    """Returns what a network is told of its input: channels (or features) and side (of signals their length, else 1).

    To an mlp, which flattens them, signals are as many features.
    """
    channels, size = splits.in_channels, _size(settings, splits)
    return (channels * size, 1) if settings.model.name == "mlp" and splits.dims == 1 else (channels, size)


def _size(settings: Settings, splits: Splits) -> int:
    return settings.data.size or (splits.train.images.shape[-1] if splits.dims else 1)
