"""The network of a trial, made from its seed and tried on a batch, before its optimizer is made."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lab.device import autocast, memory_format, transfer
from lab.imports import load
from lab.measure import Macs, count_macs, counting_macs
from lab.mismatches import one_example_told
from lab.networks import MODELS, build_model
from lab.outputs import tensors_of
from lab.sections import ModelSettings
from lab.streams import build, rehearse


def make_network(
    settings: ModelSettings,
    seed: int,
    *,
    in_channels: int,
    num_classes: int,
    size: int,
    batch: Callable[[], Tensor],
    device: torch.device,
    precision: str = "float32",
) -> tuple[nn.Module, Macs]:
    """Makes the network on the device, with all its parameters, and counts the multiply-accumulates per image.

    A user's network is made twice, and what is asked before training, forward passes of ``batch()`` ``(N, C, size,
    size)`` in both modes, is asked of the one that is thrown away. Where that makes parameters (lazy modules, or ones
    that a network makes in its first forward pass), it is asked of the other one as well.
    """
    make = functools.partial(build_model, settings, in_channels=in_channels, num_classes=num_classes, size=size)
    if settings.name in MODELS and not settings.replace:
        network = build(make, seed, check=False)
        return network.to(device), count_macs(network, in_channels, size)
    first = _FirstPass(batch(), device, precision)
    paths = [settings.name, *(spec.partition("(")[0] for spec in settings.replace.values())]
    made = rehearse(make, seed, first, [load(path).__module__ for path in paths if ":" in path])
    if made.note:
        print(f"model.name {settings.name!r}: {made.note}")
    _raise_if_unfinished(settings, made.network)
    if first.gave_nan:
        _raise_if_never_set(settings, made.rehearsal)
    made.network.to(device)
    return made.network, first.macs or Macs()


class _FirstPass:
    """Forward passes of a batch; ``macs`` are those per image in the first network that is asked.

    ``gave_nan`` says whether outputs held NaN, as they do where a parameter that was never given values plays a part.
    """

    def __init__(self, X: Tensor, device: torch.device, precision: str) -> None:
        self.macs: Macs | None = None
        self.gave_nan = False
        self._X, self._device, self._precision = X, device, precision
        self._training_makes_more = False

    def __call__(self, network: nn.Module) -> None:
        lazy = any(is_lazy(one) for one in [*network.parameters(), *network.buffers()])
        device = torch.device("cpu") if lazy else self._device  # what it makes has the same values on every device
        training = network.training
        network.to(device)
        network.eval()  # by itself: a method of the user's may return nothing
        with counting_macs(network) as macs:
            self._forward(network, device)
        if self.macs is None:
            self.macs = macs.per_image(len(self._X))
            names = [name for name, _ in network.named_parameters()]
            network.train()
            self._forward(network, device)
            self._training_makes_more = names != [name for name, _ in network.named_parameters()]
        elif self._training_makes_more:
            before = [(buffer, buffer.clone()) for buffer in network.buffers()]
            network.train()
            self._forward(network, device)
            for buffer, value in before:
                buffer.copy_(value)
        network.train(training)

    @torch.no_grad()
    def _forward(self, network: nn.Module, device: torch.device) -> None:
        with autocast(device, self._precision), one_example_told():
            output = network(transfer(self._X, device, memory_format(device, self._precision, network)))
        self.gave_nan = self.gave_nan or any(bool(one.isnan().any()) for one in tensors_of(output))


def _raise_if_unfinished(settings: ModelSettings, network: nn.Module) -> None:
    parameters = dict(network.named_parameters())
    lazy = [name for name, parameter in parameters.items() if is_lazy(parameter)]
    if lazy:
        rule = "must have been made by a forward pass, and was not"
        raise ValueError(f"model.name {settings.name!r}: the lazy parameter {lazy[0]} {rule}")
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ValueError(f"model.name {settings.name!r}: has no parameter that requires a gradient: nothing to train")


def _raise_if_never_set(settings: ModelSettings, network: nn.Module) -> None:
    """Raises ValueError where a parameter or buffer holds NaN, as lab.streams has it where it is given no values."""
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        if bool(value.isnan().any()):
            rule = f"{name} is never given values (torch.empty leaves whatever stood in memory), or holds NaN"
            raise ValueError(f"model.name {settings.name!r}: {rule}: fill it, as by torch.nn.init")
