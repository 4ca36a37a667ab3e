"""Built-in networks by name: the signature of each says what settings it has. Free of torch until one is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lab.imports import load
from lab.parts import accepts, arguments, is_open
from lab.sections import Fraction, ModelSettings, PositiveInt

if TYPE_CHECKING:
    from torch import nn

SIZES = {"lenet": 32, "resnet10": 224, "resnet18": 224, "resnet34": 224}  # pixels, where the grid does not say
ONLY_SIZE = {"lenet": 32}


def mlp(
    in_channels: int,
    num_classes: int,
    size: int,
    *,
    hidden: Annotated[Sequence[PositiveInt], Field(description="widths of the hidden layers")] = (256, 128),
    residual: Annotated[
        bool, Field(description="shortcut around each hidden layer as wide as the one before it")
    ] = False,
    batch_norm: Annotated[bool, Field(description="BatchNorm after each hidden linear layer")] = False,
    dropout: Annotated[Fraction, Field(description="share of hidden activations dropped in training")] = 0.0,
) -> nn.Module:
    """Fully connected network on the flattened image."""
    from lab.models import Mlp

    switches = {"residual": residual, "batch_norm": batch_norm}
    return Mlp(in_channels, num_classes, size, hidden=hidden, dropout=dropout, **switches)


def lenet(
    in_channels: int,
    num_classes: int,
    size: int = 32,
    *,
    batch_norm: Annotated[bool, Field(description="BatchNorm after each convolution; off as published")] = False,
) -> nn.Module:
    """LeNet-5 (LeCun et al. 1998) with ReLU, for images of 32 x 32."""
    from lab.models import LeNet

    return LeNet(in_channels, num_classes, size, batch_norm=batch_norm)


def resnet(
    blocks: Sequence[int],
    in_channels: int,
    num_classes: int,
    *,
    width: Annotated[
        PositiveInt, Field(description="channels of the first stage; the later ones have 2, 4 and 8 times as many")
    ] = 64,
    residual: Annotated[bool, Field(description="shortcuts; without them it is He et al.'s plain network")] = True,
    batch_norm: Annotated[
        bool, Field(description="BatchNorm after each convolution; without it they have a bias instead")
    ] = True,
    stem: Annotated[
        Literal["imagenet", "cifar"],
        Field(description="7x7 stride-2 convolution and pool, or 3x3 stride-1 convolution without pool"),
    ] = "imagenet",
) -> nn.Module:
    """Residual network of basic blocks (He et al. 2016)."""
    from lab.models import ResNet

    return ResNet(blocks, in_channels, num_classes, width=width, residual=residual, batch_norm=batch_norm, stem=stem)


MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "lenet": lenet,
    "resnet10": partial(resnet, (1, 1, 1, 1)),
    "resnet18": partial(resnet, (2, 2, 2, 2)),
    "resnet34": partial(resnet, (3, 4, 6, 3)),
}


def build_model(settings: ModelSettings, *, in_channels: int, num_classes: int, size: int) -> nn.Module:
    """Builds the network of ``settings.name``, built in or at an import path, from the counts that it asks for.

    Modules are then taken out and replaced as the settings say (:mod:`lab.surgery`). Raises ValueError where the
    network cannot take images of ``size``, where an import path gives no network, or where there is no such module.
    """
    from torch import nn

    from lab.surgery import remove_modules, replace_modules

    make = MODELS[settings.name] if settings.name in MODELS else load(settings.name)
    given = accepts(make, {"in_channels": in_channels, "num_classes": num_classes, "size": size})
    takes_none = getattr(make, "__init__", None) is nn.Module.__init__  # though its signature is open
    if is_open(make) and not takes_none:  # torchvision's take it among their keywords
        given["num_classes"] = num_classes
    network = make(**given | arguments(settings))
    if not isinstance(network, nn.Module):
        raise ValueError(f"model.name {settings.name!r}: must return a torch.nn.Module, returned {network!r}")
    remove_modules(network, settings.remove)
    replace_modules(network, settings.replace)
    return network
