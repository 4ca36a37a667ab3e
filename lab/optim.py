"""Optimizers and learning-rate schedules by name.

A step ``d_t`` is what is added to the weights. The source of these experiments writes momentum as
``d_t = rho d_(t-1) - lr g_t``, RMSprop as ``d_t = -lr g_t / sqrt(G_t + eps)`` with
``G_t = beta G_(t-1) + (1-beta) g_t^2``, and Adam as ``d_t = -lr M^_t / sqrt(G^_t + eps)`` with bias-corrected means.
torch differs in two points:

- RMSprop and Adam divide by ``sqrt(G) + eps`` instead. torch's step is the source's times a factor between
  ``1 - eps / sqrt(G)`` and ``1 + eps / (2 G)``: no difference while ``G`` is far above ``eps``, and at most
  ``1 / sqrt(eps)`` where the gradients vanish.
- Momentum multiplies the whole sum of gradients by the learning rate of the current step: no difference while the
  learning rate is constant, and with a schedule a new rate counts for the past gradients too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from lab.parts import accepts, load
from lab.settings import OptimizerSettings, ScheduleSettings

Parameters = Iterable[nn.Parameter]
Factor = Callable[[int], float]

# Where torch updates all parameters in one kernel. RMSprop has none: torch groups its operations where that pays.
FUSED_DEVICES = {"cpu", "cuda", "mps"}


def fused(kind: Callable[..., Optimizer], params: Parameters, **settings: Any) -> Optimizer:
    """The optimizer with its fused kernel where torch has one for these parameters."""
    params = list(params)
    supported = all(p.is_floating_point() and p.device.type in FUSED_DEVICES for p in params)
    return kind(params, fused=supported or None, **settings)


def _at_rest(optimizer: Optimizer) -> Optimizer:
    """Starts a parameter's momentum at zero, where torch would copy its first gradient: the same step.

    torch's fused kernel needs the momentum of all parameters or of none, and some may have their first gradient later.
    """
    late = [parameter for group in optimizer.param_groups for parameter in group["params"] if group["momentum"]]

    def start(optimizer: Optimizer, args: object, kwargs: object) -> None:
        for parameter in [one for one in late if one.grad is not None]:
            optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
        late[:] = [one for one in late if one.grad is None]

    optimizer.register_step_pre_hook(start)
    return optimizer


def sgd(params: Parameters, lr: float, *, weight_decay: float = 0.0) -> Optimizer:
    """``d_t = -lr g_t``."""
    return fused(SGD, params, lr=lr, weight_decay=weight_decay)


def momentum(params: Parameters, lr: float, *, weight_decay: float = 0.0, momentum: float = 0.9) -> Optimizer:
    """``d_t = rho d_(t-1) - lr g_t`` (Polyak 1964)."""
    return _at_rest(fused(SGD, params, lr=lr, weight_decay=weight_decay, momentum=momentum))


def nesterov(params: Parameters, lr: float, *, weight_decay: float = 0.0, momentum: float = 0.9) -> Optimizer:
    """``d_t = rho d_(t-1) - lr g(w + rho d_(t-1))`` (Sutskever et al. 2013); torch's weights are the ``w + rho d``."""
    return _at_rest(fused(SGD, params, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=True))


def rmsprop(
    params: Parameters,
    lr: float,
    *,
    weight_decay: float = 0.0,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
) -> Optimizer:
    """``d_t = rho d_(t-1) - lr g_t / (sqrt(G_t) + eps)``, where ``alpha`` is beta (Tieleman and Hinton 2012)."""
    return RMSprop(params, lr, weight_decay=weight_decay, alpha=alpha, eps=eps, momentum=momentum)


def adam(
    params: Parameters,
    lr: float,
    *,
    weight_decay: float = 0.0,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Optimizer:
    """``d_t = -lr M^_t / (sqrt(G^_t) + eps)``, both means corrected for their start at zero (Kingma and Ba 2015)."""
    return fused(Adam, params, lr=lr, weight_decay=weight_decay, betas=tuple(betas), eps=eps)


def adamw(
    params: Parameters,
    lr: float,
    *,
    weight_decay: float = 0.01,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Optimizer:
    """Adam on the bare gradient, less ``lr weight_decay w`` (Loshchilov and Hutter 2019)."""
    return fused(AdamW, params, lr=lr, weight_decay=weight_decay, betas=tuple(betas), eps=eps)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
}


def build_optimizer(settings: OptimizerSettings, parameters: Parameters) -> Optimizer:
    """The optimizer of ``settings.name``: a built-in one, or ``callable(params, lr=..., **own)`` at an import path.

    Raises ValueError where an import path gives no optimizer.
    """
    make = OPTIMIZERS[settings.name] if settings.name in OPTIMIZERS else load(settings.name)
    optimizer = make(parameters, **settings.model_dump(exclude={"name"}))
    if not isinstance(optimizer, Optimizer):
        rule = "must return a torch.optim.Optimizer"
        raise ValueError(f"optimizer.name {settings.name!r}: {rule}, returned {optimizer!r}")
    return optimizer


# --- schedules ------------------------------------------------------------------------------------------------------
# Each gives the pure function from a step t in 0 .. N-1 to the learning rate of that step as a share of its peak.


def constant(num_steps: int) -> Factor:
    """``1``."""
    return lambda t: 1.0


def step(num_steps: int, *, milestones: Sequence[float] = (0.5, 0.75), gamma: float = 0.1) -> Factor:
    """``gamma ^ k`` where ``k`` counts the milestones ``m <= t / N``: those that the ``t`` steps done have reached."""
    return lambda t: gamma ** sum(t / num_steps >= milestone for milestone in milestones)


def warmup(num_steps: int, *, warmup: float = 0.1) -> Factor:
    """``min(1, (t+1) / (W+1))`` with ``W = round(warmup N)``: never zero, and at the peak from ``t = W`` on."""
    rise = _rise(num_steps, warmup)
    return lambda t: min(1.0, (t + 1) / (rise + 1))


def cosine(num_steps: int, *, warmup: float = 0.0, final: float = 0.0) -> Factor:
    """Rises as ``warmup`` does, then ``final + (1-final) (1 + cos(pi (t-W) / (N-1-W))) / 2``: at last ``final``."""
    rise = _rise(num_steps, warmup)
    fall = max(1, num_steps - 1 - rise)

    def factor(t: int) -> float:
        if t < rise:
            return (t + 1) / (rise + 1)
        return final + (1 - final) * (1 + math.cos(math.pi * (t - rise) / fall)) / 2

    return factor


def one_cycle(num_steps: int, *, warmup: float = 0.3, initial: float = 0.04, final: float = 0.0) -> Factor:
    """Straight lines through ``initial`` at ``t = 0``, 1 at ``t = W = round(warmup N)``, ``final`` at ``t = N-1``."""
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


def schedule_factor(settings: ScheduleSettings, num_steps: int) -> Factor:
    """The pure function from a step to the share of the peak learning rate, for a training of ``num_steps``.

    ``settings.name`` is a built-in schedule, or ``callable(num_steps, **settings)`` at an import path.
    """
    make = SCHEDULES[settings.name] if settings.name in SCHEDULES else load(settings.name)
    return make(**accepts(make, {"num_steps": num_steps}), **settings.model_dump(exclude={"name"}))
