"""Says in words of the settings what torch raises where network, batch size, clipping and optimizer do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

ONE_VALUE = "Expected more than 1 value per channel"  # as torch.nn.functional begins what it raises then


@contextmanager
def one_example_told() -> Iterator[None]:
    """Raises ValueError that names ``data.batch_size`` where a normalisation is given one example to train on."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith(ONE_VALUE):
            raise
        rule = "data.batch_size must be at least 2: one example has no deviation that a batch normalisation could use"
        raise ValueError(f"{rule}; or use another one, such as GroupNorm ({error})") from error


@contextmanager
def sparse_gradients_told(network: nn.Module, setting: str) -> Iterator[None]:
    """Raises ValueError that names ``setting`` and the parameter where sparse gradients are what cannot be handled."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError) as error:
        sparse = [name for name, one in network.named_parameters() if one.grad is not None and one.grad.is_sparse]
        if not sparse:
            raise
        rule = f"{setting} does not go with the sparse gradient of {sparse[0]}"
        how = "make that module without `sparse=True`, or change the setting"
        raise ValueError(f"{rule}: {how} ({error})") from error
