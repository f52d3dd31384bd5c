"""Weighted sums of the cells around each position, with weights of each position's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from foveate.ops.layout import laid_like
from foveate.ops.precision import full_precision

Pair = tuple[int, int]


def local_sum(
    x: Float[Tensor, "b c h w"],
    weights: Float[Tensor, "b g taps p q"],
    kernel_size: Pair,
    *,
    stride: Pair = (1, 1),
    dilation: Pair = (1, 1),
    interleaved: bool = False,
) -> Float[Tensor, "b c p q"]:
    """At every position the sum of the cells around it, each times its weight; cells outside the map are zero.

    The sum is taken in at least float32 and rounded to the features' type; channels_last memory stays so. It goes
    cell by cell, so that no copy of the map for every cell is held.

    Args:
        x: The map.
        weights: For every group of channels a weight for each cell of the kernel, cells in rows, at each position.
        kernel_size: Height and width of the kernel, odd.
        stride: Distance between the positions that are summed around; the first is the map's first.
        dilation: Distance between neighbouring cells.
        interleaved: Whether channel i belongs to group i mod g, instead of neighbours being of one group.

    Example:
        >>> x = torch.tensor([[[[1.0, 2.0, 3.0]]]])
        >>> local_sum(x, torch.ones(1, 1, 3, 1, 3), (1, 3))
        tensor([[[[3., 6., 5.]]]])
    """
    return _local_sum(x, weights, kernel_size, stride, dilation, interleaved)


def _local_sum(
    x: Tensor, weights: Tensor, kernel_size: Pair, stride: Pair, dilation: Pair, interleaved: bool
) -> Tensor:
    groups, height, width = weights.shape[1], weights.shape[3], weights.shape[4]
    each = x.shape[1] // groups
    above, left = (step * (cells - 1) // 2 for step, cells in zip(dilation, kernel_size, strict=True))
    padded = F.pad(x, (left, left, above, above))
    weights = full_precision(weights)
    parts: list[Tensor] = []
    for tap in range(kernel_size[0] * kernel_size[1]):
        row, column = tap // kernel_size[1] * dilation[0], tap % kernel_size[1] * dilation[1]
        seen = padded[
            :,
            :,
            row : row + stride[0] * (height - 1) + 1 : stride[0],
            column : column + stride[1] * (width - 1) + 1 : stride[1],
        ]
        if interleaved:
            part = seen.unflatten(1, (each, groups)) * weights[:, None, :, tap]
        else:
            part = seen.unflatten(1, (groups, each)) * weights[:, :, None, tap]
        parts = [parts[0] + part] if parts else [part]
    return laid_like(parts[0].flatten(1, 2).to(x.dtype), x)  # groups beside the channels undo channels_last


torch.fx.wrap("_local_sum")  # FX cannot follow the sizes that it computes with
