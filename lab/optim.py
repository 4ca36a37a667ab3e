"""Optimizers by name: the signature of each says what settings it has. Free of torch until one is made.

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

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lab.imports import load
from lab.parts import arguments
from lab.sections import Fraction, NonNegativeFloat, OptimizerSettings, PositiveFloat

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    Parameters = Iterable[nn.Parameter]

L2 = Annotated[NonNegativeFloat, Field(description="L2 penalty added to the gradient")]
Rho = Annotated[Fraction, Field(description="share of the last step that is kept (rho)")]
NesterovRho = Annotated[float, Field(gt=0, lt=1, description="share of the last step that is kept (rho)")]
Betas = Annotated[
    Sequence[Fraction],
    Field(min_length=2, max_length=2, description="decay of the running means of gradients and of squared gradients"),
]
Eps = Annotated[PositiveFloat, Field(description="added to the denominator")]

# Where torch updates all parameters in one kernel. RMSprop has none: torch groups its operations where that pays.
FUSED_DEVICES = {"cpu", "cuda", "mps"}


def fused(kind: str, params: Parameters, **settings: Any) -> Optimizer:
    """Makes the optimizer of ``torch.optim``, with its fused kernel where torch has one for these parameters."""
    from torch import optim

    params = list(params)
    return getattr(optim, kind)(params, fused=all(map(_can_be_fused, params)) or None, **settings)


def _can_be_fused(parameter: nn.Parameter) -> bool:
    """Tells whether torch's fused kernels update a parameter rightly (torch 2.13).

    They take it for one block of memory, and write past a slice or an expanded value; on a CPU they lose the updates of
    one in half precision.
    """
    from torch import empty_like, float32, float64

    fits = parameter.dtype in (float32, float64) and parameter.device.type in FUSED_DEVICES
    return fits and empty_like(parameter, device="meta").stride() == parameter.stride()  # as only a block keeps it


def gradient_descent(params: Parameters, **settings: Any) -> Optimizer:
    """torch's SGD, whose fused kernel is kept from what it can't do: sparse gradients, and momenta that start later.

    A parameter's momentum starts at zero with its first gradient, where torch would copy the gradient: the same step.
    """
    from torch import zeros_like

    optimizer = fused("SGD", params, **settings)
    late = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def start(optimizer: Optimizer, args: object, kwargs: object) -> None:
        begun = [one for one in late if one.grad is not None]
        for group in optimizer.param_groups:
            group["fused"] = group["fused"] and not any(one.grad.is_sparse for one in begun)
        for parameter in begun if settings.get("momentum") else []:
            optimizer.state[parameter].setdefault("momentum_buffer", zeros_like(parameter))
        late[:] = [one for one in late if one.grad is None]

    optimizer.register_step_pre_hook(start)
    return optimizer


def sgd(params: Parameters, lr: float, *, weight_decay: L2 = 0.0) -> Optimizer:
    """Gradient descent on mini-batches, without momentum: ``d_t = -lr g_t``."""
    return gradient_descent(params, lr=lr, weight_decay=weight_decay)


def momentum(params: Parameters, lr: float, *, weight_decay: L2 = 0.0, momentum: Rho = 0.9) -> Optimizer:
    """SGD with heavy-ball momentum: ``d_t = rho d_(t-1) - lr g_t`` (Polyak 1964)."""
    return gradient_descent(params, lr=lr, weight_decay=weight_decay, momentum=momentum)


def nesterov(params: Parameters, lr: float, *, weight_decay: L2 = 0.0, momentum: NesterovRho = 0.9) -> Optimizer:
    """SGD with Nesterov's momentum: ``d_t = rho d_(t-1) - lr g(w + rho d_(t-1))`` (Sutskever et al. 2013).

    torch's weights are the ``w + rho d``.
    """
    return gradient_descent(params, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=True)


def rmsprop(
    params: Parameters,
    lr: float,
    *,
    weight_decay: L2 = 0.0,
    alpha: Annotated[Fraction, Field(description="decay of the running mean of squared gradients (beta)")] = 0.99,
    eps: Eps = 1e-8,
    momentum: Annotated[Fraction, Field(description="share of the last step that is kept")] = 0.0,
) -> Optimizer:
    """RMSprop: ``d_t = rho d_(t-1) - lr g_t / (sqrt(G_t) + eps)`` with ``alpha`` as beta (Tieleman and Hinton 2012)."""
    from torch.optim import RMSprop

    return RMSprop(params, lr, weight_decay=weight_decay, alpha=alpha, eps=eps, momentum=momentum)


def adam(
    params: Parameters, lr: float, *, weight_decay: L2 = 0.0, betas: Betas = (0.9, 0.999), eps: Eps = 1e-8
) -> Optimizer:
    """Adam: ``d_t = -lr M^_t / (sqrt(G^_t) + eps)``, means corrected for their start at zero (Kingma and Ba 2015)."""
    return fused("Adam", params, lr=lr, weight_decay=weight_decay, betas=tuple(betas), eps=eps)


def adamw(
    params: Parameters,
    lr: float,
    *,
    weight_decay: Annotated[
        NonNegativeFloat, Field(description="decay of the weights, apart from the gradient")
    ] = 0.01,
    betas: Betas = (0.9, 0.999),
    eps: Eps = 1e-8,
) -> Optimizer:
    """Adam on the bare gradient, with decoupled weight decay ``lr weight_decay w`` (Loshchilov and Hutter 2019)."""
    return fused("AdamW", params, lr=lr, weight_decay=weight_decay, betas=tuple(betas), eps=eps)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
}


def build_optimizer(settings: OptimizerSettings, parameters: Parameters) -> Optimizer:
    """Makes the optimizer of ``settings.name``: built in, or ``callable(params, lr=..., **own)`` at an import path.

    Raises ValueError where an import path gives no optimizer.
    """
    from torch.optim import Optimizer

    make = OPTIMIZERS[settings.name] if settings.name in OPTIMIZERS else load(settings.name)
    optimizer = make(parameters, lr=settings.lr, **arguments(settings))
    if not isinstance(optimizer, Optimizer):
        rule = "must return a torch.optim.Optimizer"
        raise ValueError(f"optimizer.name {settings.name!r}: {rule}, returned {optimizer!r}")
    return optimizer


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether its ``step`` cannot be called without a closure, as that of L-BFGS."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def set_mode(optimizer: Any, *, training: bool) -> None:
    """Lets an optimizer that trains other weights than it evaluates (Defazio et al. 2024) put those into the network.

    The others have no such methods.
    """
    if callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None)):
        (optimizer.train if training else optimizer.eval)()


def learning_rates(optimizer: Optimizer) -> list[Any]:
    if any("lr" not in group for group in optimizer.param_groups):
        raise ValueError(
            f"{type(optimizer).__name__} has parameters without a learning rate: no schedule can change it"
        )
    return [group["lr"] for group in optimizer.param_groups]
