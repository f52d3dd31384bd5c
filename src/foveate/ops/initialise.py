"""Initial values that PyTorch has no function for."""

from __future__ import annotations

import math

from torch import nn


def normal_by_fan_out(layer: nn.Conv2d) -> None:
    """Weights of deviation √(2 / f), where f counts the weights that read one input, and biases of zero.

    PyTorch's ``kaiming_normal_`` with ``mode="fan_out"`` does not know of groups: for a depthwise convolution it
    counts the weights of all channels.

    Args:
        layer: The convolution to initialise.

    Example:
        >>> layer = nn.Conv2d(64, 64, 5, groups=64)
        >>> normal_by_fan_out(layer)
        >>> bool(abs(layer.weight.std() - (2 / 25) ** 0.5) < 0.05), bool(layer.bias.any())
        (True, False)
    """
    fan_out = math.prod(layer.kernel_size) * layer.out_channels // layer.groups
    nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
