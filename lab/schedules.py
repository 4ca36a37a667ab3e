"""Learning-rate schedules by name, and schedulers of torch's kind. Free of torch until one is made.

A built-in schedule, or a user's that asks for ``num_steps``, gives a pure function from a step ``t`` in ``0 .. N-1`` to
the learning rate of that step as a share of its peak. One that asks for ``optimizer``, as those of
``torch.optim.lr_scheduler`` do, changes the optimizer's rates itself.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lab.imports import load
from lab.parts import accepts, arguments, watches_dev
from lab.sections import Fraction, PositiveFloat, ScheduleSettings

if TYPE_CHECKING:
    from torch.optim import Optimizer

Factor = Callable[[int], float]
Rising = Annotated[Fraction, Field(description="share of the training spent rising")]
Last = Annotated[Fraction, Field(description="last learning rate as a share of the peak")]


def constant(num_steps: int) -> Factor:
    """The learning rate as it is, all along."""
    return lambda t: 1.0


def step(
    num_steps: int,
    *,
    milestones: Annotated[Sequence[Fraction], Field(description="shares of the whole training")] = (0.5, 0.75),
    gamma: Annotated[PositiveFloat, Field(description="factor at each milestone")] = 0.1,
) -> Factor:
    """Multiplied by ``gamma`` after each of ``milestones``.

    ``gamma ^ k`` where ``k`` counts the milestones ``m <= t / N``: those that the ``t`` steps done have reached.
    """
    return lambda t: gamma ** sum(t / num_steps >= milestone for milestone in milestones)


def warmup(num_steps: int, *, warmup: Rising = 0.1) -> Factor:
    """Linear rise to the peak, then constant (Goyal et al. 2017).

    ``min(1, (t+1) / (W+1))`` with ``W = round(warmup N)``: never zero, and at the peak from ``t = W`` on.
    """
    rise = _rise(num_steps, warmup)
    return lambda t: min(1.0, (t + 1) / (rise + 1))


def cosine(
    num_steps: int,
    *,
    warmup: Annotated[Fraction, Field(description="share of the training spent rising linearly to the peak")] = 0.0,
    final: Last = 0.0,
) -> Factor:
    """Half a cosine from the peak to ``final`` (Loshchilov and Hutter 2017, without restarts).

    Rises as ``warmup`` does, then ``final + (1-final) (1 + cos(pi (t-W) / (N-1-W))) / 2``: at last ``final``.
    """
    rise = _rise(num_steps, warmup)
    fall = max(1, num_steps - 1 - rise)

    def factor(t: int) -> float:
        if t < rise:
            return (t + 1) / (rise + 1)
        return final + (1 - final) * (1 + math.cos(math.pi * (t - rise) / fall)) / 2

    return factor


def one_cycle(
    num_steps: int,
    *,
    warmup: Rising = 0.3,
    initial: Annotated[Fraction, Field(description="first learning rate as a share of the peak")] = 0.04,
    final: Last = 0.0,
) -> Factor:
    """Linear rise to the peak, linear fall to ``final`` (Smith 2018).

    Straight lines through ``initial`` at ``t = 0``, 1 at ``t = W = round(warmup N)``, ``final`` at ``t = N-1``.
    """
    rise = _rise(num_steps, warmup)
    fall = max(1, num_steps - 1 - rise)

    def factor(t: int) -> float:
        if t < rise:
            return initial + (1 - initial) * t / rise
        return 1 - (1 - final) * (t - rise) / fall

    return factor


def _rise(num_steps: int, warmup: float) -> int:
    """Steps below the peak; at most all but one, so that every training reaches it."""
    return min(round(warmup * num_steps), num_steps - 1)


SCHEDULES: dict[str, Callable[..., Factor]] = {
    "constant": constant,
    "step": step,
    "cosine": cosine,
    "one_cycle": one_cycle,
    "warmup": warmup,
}


class Scheduler:
    """A scheduler of torch's kind: counts steps or epochs, or steps by what each evaluation on dev gave.

    One that watches dev is given the loss, or the selecting score where its ``mode`` is ``max``.
    """

    def __init__(self, scheduler: Any, per: str) -> None:
        self._scheduler, self._per = scheduler, per
        self._watches_dev = watches_dev(scheduler)

    def step_done(self) -> None:
        if self._per == "step" and not self._watches_dev:
            self._scheduler.step()

    def epoch_done(self) -> None:
        if self._per == "epoch" and not self._watches_dev:
            self._scheduler.step()

    @property
    def watches_score(self) -> bool:
        return self._watches_dev and getattr(self._scheduler, "mode", "min") == "max"

    def evaluated(self, dev_loss: float, dev_score: float) -> None:
        if self._watches_dev:
            self._scheduler.step(dev_score if self.watches_score else dev_loss)

    def state_dict(self) -> dict[str, Any]:
        return self._scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._scheduler.load_state_dict(state)


def build_schedule(
    settings: ScheduleSettings, optimizer: Optimizer, *, num_steps: int, num_epochs: int
) -> Factor | Scheduler | None:
    """Builds a schedule: a pure function from a step to a share of the peak, or a scheduler; None if constant.

    ``settings.name`` is a built-in schedule, or ``callable(num_steps, **settings)`` or ``callable(optimizer,
    **settings)`` at an import path. Where torch's one-cycle schedule is not told its length, it is the training's.
    Raises ValueError where an import path gives no schedule.
    """
    if settings.name == "constant":
        return None
    make = SCHEDULES[settings.name] if settings.name in SCHEDULES else load(settings.name)
    own = arguments(settings)
    per = getattr(settings, "per", "epoch")
    names = inspect.signature(make).parameters.keys()
    if "total_steps" in names and own.keys().isdisjoint({"total_steps", "epochs", "steps_per_epoch"}):
        own["total_steps"] = num_steps if per == "step" else num_epochs
    made = make(**accepts(make, {"num_steps": num_steps, "optimizer": optimizer}), **own)
    if "optimizer" not in names:
        if not callable(made):
            rule = f"must return a function from a step to a share of the peak, returned {made!r}"
            raise ValueError(f"schedule.name {settings.name!r}: {rule}")
        return made
    if lacking := [name for name in ("step", "state_dict", "load_state_dict") if not hasattr(made, name)]:
        rule = f"must return a scheduler such as those of torch.optim.lr_scheduler, {made!r} has no {lacking[0]}"
        raise ValueError(f"schedule.name {settings.name!r}: {rule}")
    return Scheduler(made, per)
