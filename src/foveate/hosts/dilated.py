"""The backbone of PSANet and PSPNet: a residual network with a deep stem that keeps one eighth of the resolution."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions beside a shortcut; the branch ends in ``bn3``, before the addition.

    Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, with the stride in the 3×3.

    Args:
        inputs: Channels in.
        width: Channels of the 3×3 convolution; four times as many come out.
        stride: Of the 3×3 convolution.
        dilation: Of the 3×3 convolution.

    Example:
        >>> import torch
        >>> Bottleneck(64, 32, dilation=2)(torch.zeros(1, 64, 9, 9)).shape
        torch.Size([1, 128, 9, 9])
    """

    def __init__(self, inputs: int, width: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _ _ _"]:
        """Add the branch to the shortcut."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(out + shortcut)


def deep_stem(in_channels: int = 3, width: int = 64) -> nn.Sequential:
    """Three 3×3 convolutions where the plain network has one 7×7; then the pooling.

    Args:
        in_channels: Channels of the images.
        width: Channels of the first two convolutions; the third has twice as many.

    Example:
        >>> import torch
        >>> deep_stem()(torch.zeros(1, 3, 65, 65)).shape
        torch.Size([1, 128, 17, 17])
    """
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((in_channels, width, 2), (width, width, 1), (width, 2 * width, 1)):
        convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(3, stride=2, padding=1))


def stage(inputs: int, width: int, blocks: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Bottlenecks in a row. All of them are dilated, the first one too, as in the authors' code.

    Example:
        >>> import torch
        >>> stage(128, 64, 3)(torch.zeros(1, 128, 5, 5)).shape
        torch.Size([1, 256, 5, 5])
    """
    first = Bottleneck(inputs, width, stride=stride, dilation=dilation)
    return nn.Sequential(first, *(Bottleneck(4 * width, width, dilation=dilation) for _ in range(blocks - 1)))
