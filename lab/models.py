"""The networks: input ``(N, C, H, W)`` float, output ``(N, num_classes)`` logits.

A parameter has the same name in every variant of a network, so that those that differ by a switch share the rest: what
a switch takes away leaves its place empty (``nn.Identity``, which holds no parameter) and renames nothing. The residual
networks are named as torchvision names its own, so that its weights load.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, pad, relu

from lab.device import lay_out


class Conv2d(nn.Conv2d):
    """torch's convolution, computed in the way that is fastest for the size of its images ``(N, C, H, W)``.

    Where the output is one pixel, it is the matrix product that it is: taps of the kernel that meet nothing but
    padding, and pixels that no tap meets, play no part and are left out (of 3 x 3 taps on one pixel, eight). Larger
    images are laid out by :func:`lab.device.lay_out`. On a CPU a kernel of one tap with a stride is one without, on the
    pixels that it meets: with channels last, oneDNN's gradients of the former write where they must not (torch 2.13,
    float32, 12 channels or fewer, 56 x 56).
    """

    padding: tuple[int, int]  # never one of the words that torch takes as well

    def forward(self, X: Tensor) -> Tensor:
        height, width = X.shape[2:]
        if self._output_size(height, 0) != 1 or self._output_size(width, 1) != 1:
            if self.kernel_size == (1, 1) and self.padding == (0, 0) and X.device.type == "cpu":
                pixels = X[:, :, :: self.stride[0], :: self.stride[1]]
                return conv2d(lay_out(pixels), self.weight, self.bias)
            return super().forward(lay_out(X))
        weight = self._taps(height, width)
        pixels = X.narrow(2, 0, weight.shape[2]).narrow(3, 0, weight.shape[3])
        return linear(pixels.flatten(1), weight.flatten(1), self.bias).unflatten(1, (-1, 1, 1))

    def macs_left_out(self, X: Tensor) -> int:
        """Counts the multiply-accumulates on images ``X`` that torch's own convolution does beyond this one."""
        height, width = X.shape[2:]
        if self._output_size(height, 0) != 1 or self._output_size(width, 1) != 1:
            return 0
        return len(X) * (self.weight.numel() - self._taps(height, width).numel())

    def _output_size(self, size: int, axis: int) -> int:
        return (size + 2 * self.padding[axis] - self.kernel_size[axis]) // self.stride[axis] + 1

    def _taps(self, height: int, width: int) -> Tensor:
        """Returns the part of the kernel that meets the image in its only position."""
        (rows, columns), (top, left) = self.kernel_size, self.padding
        crop = [-left, min(0, left + width - columns), -top, min(0, top + height - rows)]
        return pad(self.weight, crop) if any(crop) else self.weight


def initialize(network: nn.Module) -> None:
    """Fills the parameters in place, by one rule whatever switches are on.

    Convolutions: normal with variance 2 / fan_out; linear layers: normal with variance 2 / fan_in (He et al. 2015,
    equations 14 and 10; torchvision's choice for convolutions too). Biases: zero. BatchNorm: scale one and shift zero,
    as torch makes it.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            mode: Literal["fan_out", "fan_in"] = "fan_out" if isinstance(module, nn.Conv2d) else "fan_in"
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def convolution(
    in_channels: int, out_channels: int, kernel: int, *, batch_norm: bool, stride: int = 1, padding: int = 0
) -> tuple[nn.Conv2d, nn.Module]:
    """Makes a convolution and the BatchNorm after it; without BatchNorm, which shifts too, it has a bias."""
    layer = Conv2d(in_channels, out_channels, kernel, stride, padding, bias=not batch_norm)
    return layer, nn.BatchNorm2d(out_channels) if batch_norm else nn.Identity()


# --- fully connected ------------------------------------------------------------------------------------------------


class Hidden(nn.Module):
    """Linear layer, BatchNorm, ReLU, dropout: ``(N, in_width)`` to ``(N, width)``; its input is added by a shortcut."""

    def __init__(self, in_width: int, width: int, *, shortcut: bool, batch_norm: bool, dropout: float) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.linear = nn.Linear(in_width, width, bias=not batch_norm)
        self.bn = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, X: Tensor) -> Tensor:
        out = self.dropout(relu(self.bn(self.linear(X)), inplace=True))
        return X + out if self.shortcut else out


class Mlp(nn.Module):
    """Fully connected network on the flattened image.

    With ``residual`` the identity goes around each hidden layer that is as wide as the hidden layer before it, ReLU
    included: He et al. (2016, section 3.2) saw no advantage in a shortcut around a linear layer alone.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        size: int,
        *,
        hidden: Sequence[int],
        residual: bool,
        batch_norm: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        widths = [in_channels * size * size, *hidden]
        self.hidden = nn.Sequential()
        for i, (before, width) in enumerate(pairwise(widths)):
            shortcut = residual and i > 0 and before == width  # the image is no hidden layer
            self.hidden.append(Hidden(before, width, shortcut=shortcut, batch_norm=batch_norm, dropout=dropout))
        self.fc = nn.Linear(widths[-1], num_classes)
        initialize(self)

    def forward(self, X: Tensor) -> Tensor:
        return self.fc(self.hidden(X.flatten(1)))


# --- LeNet ----------------------------------------------------------------------------------------------------------


class LeNet(nn.Module):
    """LeNet-5 (LeCun et al. 1998, section II.B) with ReLU, a max and an average pool; ValueError where not 32 x 32."""

    def __init__(self, in_channels: int, num_classes: int, size: int, *, batch_norm: bool) -> None:
        super().__init__()
        if size != 32:
            raise ValueError(f"lenet: its last convolution must see 5 x 5, so data.size must be 32, got {size}")
        self.conv1, self.bn1 = convolution(in_channels, 6, 5, batch_norm=batch_norm)
        self.conv2, self.bn2 = convolution(6, 16, 5, batch_norm=batch_norm)
        self.conv3, self.bn3 = convolution(16, 120, 5, batch_norm=batch_norm)
        self.max_pool, self.average_pool = nn.MaxPool2d(2), nn.AvgPool2d(2)
        self.fc1, self.fc2 = nn.Linear(120, 84), nn.Linear(84, num_classes)
        initialize(self)

    def forward(self, X: Tensor) -> Tensor:
        X = self.max_pool(relu(self.bn1(self.conv1(X)), inplace=True))
        X = self.average_pool(relu(self.bn2(self.conv2(X)), inplace=True))
        X = relu(self.bn3(self.conv3(X)), inplace=True).flatten(1)
        return self.fc2(relu(self.fc1(X), inplace=True))


# --- residual networks ----------------------------------------------------------------------------------------------


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut around them (He et al. 2016, figure 2 and section 3.3, option B)."""

    def __init__(self, in_channels: int, channels: int, stride: int, *, residual: bool, batch_norm: bool) -> None:
        super().__init__()
        self.residual = residual
        conv = partial(convolution, batch_norm=batch_norm)
        self.conv1, self.bn1 = conv(in_channels, channels, 3, stride=stride, padding=1)
        self.conv2, self.bn2 = conv(channels, channels, 3, padding=1)
        self.downsample: nn.Module = nn.Identity()
        if residual and (stride != 1 or in_channels != channels):
            self.downsample = nn.Sequential(*conv(in_channels, channels, 1, stride=stride))

    def forward(self, X: Tensor) -> Tensor:
        out = self.bn2(self.conv2(relu(self.bn1(self.conv1(X)), inplace=True)))
        if self.residual:
            out = out + self.downsample(X)
        return relu(out, inplace=True)


class ResNet(nn.Module):
    """Residual network of ``blocks`` basic blocks a stage (He et al. 2016, table 1), for images of any size.

    Without ``residual`` it is the paper's plain network: neither shortcuts nor their projections. The stem's
    convolution has a bias in every variant; the others have one where no BatchNorm follows.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        in_channels: int,
        num_classes: int,
        *,
        width: int,
        residual: bool,
        batch_norm: bool,
        stem: Literal["imagenet", "cifar"],
    ) -> None:
        super().__init__()
        kernel, stride = {"imagenet": (7, 2), "cifar": (3, 1)}[stem]
        self.conv1 = Conv2d(in_channels, width, kernel, stride, kernel // 2)
        self.bn1 = nn.BatchNorm2d(width) if batch_norm else nn.Identity()
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem == "imagenet" else nn.Identity()
        stage = partial(_stage, residual=residual, batch_norm=batch_norm)
        self.layer1 = stage(blocks[0], width, width, 1)
        self.layer2 = stage(blocks[1], width, 2 * width, 2)
        self.layer3 = stage(blocks[2], 2 * width, 4 * width, 2)
        self.layer4 = stage(blocks[3], 4 * width, 8 * width, 2)
        self.fc = nn.Linear(8 * width, num_classes)
        initialize(self)

    def forward(self, X: Tensor) -> Tensor:
        X = self.maxpool(relu(self.bn1(self.conv1(X)), inplace=True))
        X = self.layer4(self.layer3(self.layer2(self.layer1(X))))
        return self.fc(X.mean((2, 3)))


def _stage(
    blocks: int, in_channels: int, channels: int, stride: int, *, residual: bool, batch_norm: bool
) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride, residual=residual, batch_norm=batch_norm)
    rest = (BasicBlock(channels, channels, 1, residual=residual, batch_norm=batch_norm) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)
