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

    Window i of s over h rows begins at row ``i·h // s`` and ends before row ``(i + 1)·h / s``, rounded up: windows
    overlap where s does not divide h, and repeat rows where s is the larger. These are the values of
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
        rows = _windows(x.shape[2], size[0], full)
        columns = _windows(x.shape[3], size[1], full)
        # the counts divide the sums: shares that are rounded first would not add up to one
        means = (rows @ full) / rows.sum(1)[:, None]
        means = (means @ columns.T) / columns.sum(1)
    return means.to(x.dtype)


def _windows(length: int, count: int, like: Tensor) -> Tensor:
    """Which of so many positions are in which of so many windows, as ones and zeros."""
    window = torch.arange(count, device=like.device)[:, None]
    position = torch.arange(length, device=like.device)
    inside = (position >= window * length // count) & (position * count < (window + 1) * length)
    return inside.to(like.dtype)


torch.fx.wrap("_adaptive_mean")  # FX cannot follow a branch on a type
