"""Training as anyone writes it with torch alone: what a trial of the same settings must come to, number by number.

Only the initial values, and which examples are in which split, are taken from the laboratory.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import any_code
import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn import functional as F

from lab.data import Splits, load_data
from lab.process import seed_generators, starting_state
from lab.settings import Settings, TrainSettings
from lab.trial import batches, make_runner

CPU = torch.device("cpu")
BUILT_IN = {"sgd": "SGD", "momentum": "SGD", "nesterov": "SGD", "rmsprop": "RMSprop", "adam": "Adam", "adamw": "AdamW"}


@dataclass
class Trained:
    """What came of it: of each evaluation on dev, and of test with the weights that were best there."""

    losses: list[float] = field(default_factory=list)  # of training, since the evaluation before
    points: list[dict[str, float]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    best: int = 0
    weights: dict[str, Any] = field(default_factory=dict)
    tested: dict[str, float] = field(default_factory=dict)

    @property
    def is_sound(self) -> bool:
        """Whether every loss was a finite number."""
        return all(map(math.isfinite, [*self.losses[1:], *(point["loss"] for point in self.points[1:])]))


def trained(settings: Settings) -> Trained:
    """Trains, keeps the best weights by dev, and tests them."""
    train, found = settings.train, Trained()
    with starting_state(settings.seed):
        splits = load_data(settings.data, CPU, None)
        model = make_runner(settings, splits, CPU).model
        loss, optimizer = make_loss(train.loss, train.label_smoothing), make_optimizer(settings, model)
        rates = [group["lr"] for group in optimizer.param_groups]
        per_epoch = math.ceil(len(splits.train) / settings.data.batch_size)
        per_epoch -= len(splits.train) % settings.data.batch_size == 1 and per_epoch > 1
        number = train.epochs * per_epoch
        scheduler, factor = make_schedule(settings, optimizer, number)
        seed_generators(settings.seed)
        watches = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
        step, sums, per = 0, [], getattr(settings.schedule, "per", "epoch")

        def evaluate() -> None:
            found.losses.append(float(torch.stack(sums).sum()) / len(sums) if sums else math.nan)
            found.points.append(scored(model, splits, "dev", loss, settings))
            found.steps.append(step)
            sums.clear()
            if is_better(found, train):
                found.best, found.weights = len(found.points) - 1, copy.deepcopy(model.state_dict())
            if watches and step:
                scheduler.step(found.points[-1]["loss"])

        evaluate()
        for epoch in range(train.epochs):
            model.train()
            for X, y in shuffled(settings, splits, epoch):
                for group, rate in zip(optimizer.param_groups, rates, strict=True) if factor else ():
                    group["lr"] = rate * factor(step)
                sums.append(stepped(model, optimizer, loss, X, y, settings))
                step += 1
                if scheduler is not None and per == "step" and not watches:
                    scheduler.step()
                if train.eval_every and step % train.eval_every == 0 and step < number:
                    evaluate()
                    model.train()
                if not found.is_sound:
                    return found
            if scheduler is not None and per == "epoch" and not watches:
                scheduler.step()
            if not train.eval_every or step == number:
                evaluate()
        model.load_state_dict(found.weights)
        found.tested = scored(model, splits, "test", loss, settings)
    return found


def stepped(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss: Any, X: Tensor, y: Tensor, settings: Settings
) -> Tensor:
    """One step; returns the loss before it."""
    before: list[Tensor] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.train.precision == "bfloat16"):
            value = loss(model(X), y)
        value.backward()
        if settings.train.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), settings.train.clip_norm)
        before.append(value.detach().reshape(()).float())
        return value

    if "LBFGS" in settings.optimizer.name:
        optimizer.step(closure)
    else:
        closure()
        optimizer.step()
    return before[0]


@torch.no_grad()
def scored(model: nn.Module, splits: Splits, split: str, loss: Any, settings: Settings) -> dict[str, float]:
    model.eval()
    ((X, y),) = batches(settings, splits, split)
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.train.precision == "bfloat16"):
        output = model(X)
        logits = any_code.logits_in(output).clone()
        value = float(loss(output, y.clone()))
    if y.is_floating_point():
        error = (logits.float().reshape(y.shape) - y).double()
        return {"loss": value, "rmse": float(error.square().mean().sqrt()), "mae": float(error.abs().mean())}
    predicted, sure = logits.argmax(1), logits.float().log_softmax(1).amax(1).exp().numpy()
    right = (predicted == y).numpy()
    bins = np.ceil(sure * 15).clip(1)
    gaps = [abs((right[bins == one] - sure[bins == one]).sum()) for one in range(1, 16)]
    metrics = settings.train.metric if isinstance(settings.train.metric, list) else [settings.train.metric]
    k = next((one["k"] for one in metrics if isinstance(one, dict) and "k" in one), 1)
    top = logits.topk(min(k, logits.shape[1])).indices == y[:, None]
    return {
        "loss": value,
        "accuracy": right.mean(),
        "top_k": int(top.sum()) / len(y),
        "macro_f1": f1_score(y, predicted, average="macro"),
        "calibration_error": sum(gaps) / len(y),
    }


def is_better(found: Trained, settings: TrainSettings) -> bool:
    """Whether the last evaluation is the best so far, by the score that selects."""
    metric = settings.metric[0] if isinstance(settings.metric, list) else settings.metric
    name = (settings.select or "").removeprefix("dev_") or metric
    if ":" in str(name):
        name = "top_k" if "k" in name else ""  # a score that is always the same
    sign = -1 if name in ("loss", "rmse", "mae", "calibration_error") else 1
    values = [sign * point[name] if name else 0.25 for point in found.points]
    return len(values) == 1 or values[-1] > max(values[:-1])


def shuffled(settings: Settings, splits: Splits, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an epoch: in the order of its stream, each image moved as its stream says, then normalised."""
    data, images = settings.data, splits.train.images
    order = torch.randperm(len(splits.train), generator=stream(settings.seed, "order", epoch))
    if data.augment != "none":
        images = augmented(images, data.augment, stream(settings.seed, "augment", epoch))
    prepare = batches(settings, splits, "train").prepare  # resized as dev is
    parts = order.split(data.batch_size)
    for part in parts[:-1] if len(parts[-1]) == 1 < min(len(parts), data.batch_size) else parts:
        X = prepare(images[part])
        yield X, splits.train.labels[part]


def stream(seed: int, *names: object) -> torch.Generator:
    """The numbers that the seed and a name give."""
    text = "/".join(map(str, (seed, *names)))
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1)


def augmented(images: Tensor, how: str, random: torch.Generator) -> Tensor:
    """Moves each image, zeros coming in, and mirrors it."""
    reach = max(1, images.shape[-1] // 8)
    shifts = torch.randint(-reach, reach + 1, (len(images), 2), generator=random)
    flips = torch.randint(0, 2, (len(images), 1), generator=random)
    moved = torch.zeros_like(images)
    height, width = images.shape[2:]
    for image, target, (down, right), flip in zip(images, moved, shifts.tolist(), flips, strict=True):
        for row in range(max(0, down), min(height, height + down)):
            for column in range(max(0, right), min(width, width + right)):
                target[:, row, column] = image[:, row - down, column - right]
        if flip and how == "flip_shift":
            target.copy_(target.flip(-1))
    return moved


def make_loss(part: Any, smoothing: float) -> Callable[[Any, Tensor], Tensor]:
    if part == "cross_entropy":
        return lambda output, y: F.cross_entropy(any_code.logits_in(output), y, label_smoothing=smoothing)
    if part in ("mse", "l1"):
        kind = F.mse_loss if part == "mse" else F.l1_loss
        return lambda output, y: kind(any_code.logits_in(output).reshape(y.shape), y)
    own = {"name": part} if isinstance(part, str) else dict(part)
    made = getattr(any_code, own.pop("name").partition(":")[2])
    return made(**own) if isinstance(made, type) else lambda output, y: made(output, y, **own)


def make_optimizer(settings: Settings, model: nn.Module) -> torch.optim.Optimizer:
    own = {name: value for name, value in settings.optimizer if name != "name"}
    name, parameters = settings.optimizer.name, list(model.parameters())
    if name == "nesterov":
        own["nesterov"] = True
    if (
        name in BUILT_IN
        and name != "rmsprop"
        and all(one.dtype in (torch.float32, torch.float64) for one in parameters)
    ):
        own["fused"] = True  # to the last bit; in other types torch's fused kernels are wrong
    kind = BUILT_IN.get(name, name.partition(":")[2])
    optimizer: torch.optim.Optimizer = getattr(torch.optim, kind)(parameters, **own)
    if kind == "SGD" and own.get("momentum"):  # torch's fused kernel fails at parameters that have no gradient yet
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def make_schedule(settings: Settings, optimizer: torch.optim.Optimizer, number: int) -> tuple[Any, Any]:
    """A scheduler of torch's, or a factor by step."""
    own = {key: value for key, value in settings.schedule if key not in ("name", "per")}
    name = settings.schedule.name
    if ":" in name:
        kind = getattr(torch.optim.lr_scheduler, name.partition(":")[2])
        if "OneCycle" in name:
            own["total_steps"] = number
        return kind(optimizer, **own), None
    match name:
        case "step":
            return None, lambda t: 0.1 ** ((t >= number / 2) + (t >= number * 3 / 4))
        case "warmup":
            rise = min(round(0.1 * number), number - 1)
            return None, lambda t: min(1, (t + 1) / (rise + 1))
        case "cosine":
            rise = min(round(own["warmup"] * number), number - 1)
            low, length = own["final"], max(1, number - 1 - rise)
            return (
                None,
                lambda t: (
                    (t + 1) / (rise + 1)
                    if t < rise
                    else low + (1 - low) * (1 + math.cos(math.pi * (t - rise) / length)) / 2
                ),
            )
        case "one_cycle":
            rise = min(round(0.3 * number), number - 1)
            fall = max(1, number - 1 - rise)
            return None, lambda t: 0.04 + 0.96 * t / rise if t < rise else 1 - (t - rise) / fall
    return None, None
