"""The residual networks for small images: ResNet-20, 32, 44, 56, 110 of He et al. 2016, section 4.2."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.errors import OptionError, check_at_least


class ResNet(nn.Module):
    """A residual network of 6n + 2 weighted layers for 32×32 images.

    A 3×3 convolution, three stages of n residual blocks with 16, 32 and 64 channels, the second and third
    starting with stride 2, the mean over the map, and a linear layer. Shortcuts have no parameters (option
    A). Any image size will do.

    Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2.

    Args:
        depth: 6n + 2: 8, 14, 20, 32, 44, 56, 110, ...
        classes: Outputs.
        in_channels: Channels of the image.

    Attributes:
        input_shape: Channels, height and width of the images that it was designed for.

    Shape:
        ``(b, in_channels, h, w)`` in, ``(b, classes)`` out: one logit a class.

    Raises:
        OptionError: If there is no network of that depth, with the nearest depths.

    Example:
        >>> import torch
        >>> ResNet(20, classes=10)(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 10])
    """

    def __init__(self, depth: int = 20, *, classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        blocks = blocks_of(depth)
        check_at_least("classes", classes, 1)
        check_at_least("in_channels", in_channels, 1)
        self.input_shape = (in_channels, 32, 32)
        self.conv1 = _conv3x3(in_channels, 16, 1)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights from a normal distribution of variance 2 / inputs, as the paper prescribes; biases zero."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Classify."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


class Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut; the branch ends in ``bn2``, before the addition.

    Example:
        >>> import torch
        >>> Block(16, 32, stride=2)(torch.zeros(1, 16, 9, 9)).shape
        torch.Size([1, 32, 5, 5])
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv3x3(outputs, outputs, 1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.added = outputs - inputs

    def shortcut(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _ _ _"]:
        """Option A: every other position, and zeros for the new channels, half of them on either side."""
        if self.stride == 1 and not self.added:
            return x
        before = self.added // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.added - before))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _ _ _"]:
        """Add the branch to the shortcut."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


def blocks_of(depth: int) -> int:
    """How many blocks each stage has, n of 6n + 2.

    Raises:
        OptionError: If there is no network of that depth, with the nearest depths.

    Example:
        >>> blocks_of(20)
        3
    """
    check_at_least("depth", depth, 8)
    blocks, rest = divmod(depth - 2, 6)
    if rest:
        raise OptionError(
            f"these networks have 6n + 2 layers: {depth} is not, {6 * blocks + 2} and {6 * blocks + 8} are"
        )
    return blocks


def _conv3x3(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


def _stage(inputs: int, outputs: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = Block(inputs, outputs, stride=stride)
    return nn.Sequential(first, *(Block(outputs, outputs) for _ in range(blocks - 1)))
