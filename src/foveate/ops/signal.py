"""Convolutions of signals at each position alone."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.ops.graph import watched


def at_each(layer: nn.Conv1d, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n o"]:
    """What a convolution of kernel 1 says of every position, given and returned with channels last.

    It is a matrix product. The convolution itself wants positions last: beside a map in channels_last everything that
    is computed with its result, and a compiler fuses with it, then walks through memory against the grain.

    Args:
        layer: The convolution, with a kernel of 1 and one group; called as ever where somebody watches it.
        x: The signals.

    Example:
        >>> import torch
        >>> at_each(nn.Conv1d(2, 3, 1), torch.ones(1, 5, 2)).shape
        torch.Size([1, 5, 3])
    """
    if type(layer) is nn.Conv1d and not watched(layer):
        return F.linear(x, layer.weight.squeeze(2), layer.bias)
    return layer(x.transpose(1, 2)).transpose(1, 2)
