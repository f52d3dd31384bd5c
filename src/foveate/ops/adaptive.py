"""Means over a grid of windows that cover a map: a map of any size becomes one of a given size, smaller or larger."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor
from torch.amp.autocast_mode import is_autocast_available

from foveate.ops.precision import full_precision


def adaptive_mean(x: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c s t"]:
    """The mean of each of s × t windows, in at least float32, rounded to the features' type.

    Where a window begins and ends :func:`windows` says. These are the values of
    ``torch.nn.functional.adaptive_avg_pool2d``, by two matrix products, whose gradient is deterministic on every
    device and which ONNX has for maps of any size. The mean of equal values is that value to the bit.

    Args:
        x: The map.
        size: Rows and columns of windows.

    Example:
        >>> adaptive_mean(torch.tensor([[[[1.0, 2.0, 6.0]]]]), (1, 2))
        tensor([[[[1.5000, 4.0000]]]])
    """
    return _adaptive_mean(x, size)


def _adaptive_mean(x: Tensor, size: tuple[int, int]) -> Tensor:
    device = x.device.type
    with torch.autocast(device, enabled=False) if is_autocast_available(device) else nullcontext():
        full = full_precision(x)
        rows = windows(x.shape[2], size[0], full)
        columns = windows(x.shape[3], size[1], full)
        # the counts divide the sums: shares that are rounded first would not add up to one
        means = (rows @ full) / rows.sum(1)[:, None]
        means = (means @ columns.T) / columns.sum(1)
    return means.to(x.dtype)


def windows(length: int, count: int, like: Tensor) -> Float[Tensor, "count length"]:
    """Which of so many positions are in which of so many windows that cover them, as ones and zeros.

    Window i of s over h positions begins at position ``i·h // s`` and ends before ``(i + 1)·h / s``, rounded up:
    windows overlap where s does not divide h, and repeat positions where s is the larger.

    Args:
        length: How many positions there are.
        count: How many windows.
        like: A tensor of the type and on the device that are wanted.

    Example:
        >>> windows(3, 2, torch.zeros(()))
        tensor([[1., 1., 0.],
                [0., 1., 1.]])
    """
    window = torch.arange(count, device=like.device)[:, None]
    position = torch.arange(length, device=like.device)
    inside = (position >= window * length // count) & (position * count < (window + 1) * length)
    return inside.to(like.dtype)


torch.fx.wrap("_adaptive_mean")  # FX cannot follow a branch on a type
