"""A convolution in NumPy, by its definition, for oracles of what stands in a convolution's place."""

from __future__ import annotations

import numpy as np


def convolved(
    x: np.ndarray,
    kernel: np.ndarray,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> np.ndarray:
    """One sample `x` of shape (c, h, w) with a kernel of shape (o, c / groups, kh, kw)."""
    channels, height, width = x.shape
    out, inside, rows, columns = kernel.shape
    assert inside * groups == channels
    wide = np.zeros((channels, height + 2 * padding[0], width + 2 * padding[1]))
    wide[:, padding[0] : padding[0] + height, padding[1] : padding[1] + width] = x
    high = (wide.shape[1] - dilation[0] * (rows - 1) - 1) // stride[0] + 1
    broad = (wide.shape[2] - dilation[1] * (columns - 1) - 1) // stride[1] + 1
    y = np.zeros((out, high, broad))
    for p in range(high):
        for q in range(broad):
            top, left = p * stride[0], q * stride[1]
            seen = wide[
                :,
                top : top + dilation[0] * (rows - 1) + 1 : dilation[0],
                left : left + dilation[1] * (columns - 1) + 1 : dilation[1],
            ]
            for g in range(groups):
                own = slice(g * out // groups, (g + 1) * out // groups)
                given = seen[g * inside : (g + 1) * inside]
                y[own, p, q] = (kernel[own] * given).sum((1, 2, 3))
    return y


def normed(x: np.ndarray, state: dict[str, np.ndarray], name: str, training: bool, eps: float = 1e-5) -> np.ndarray:
    """Batch normalisation of (b, c, ...): by the batch in training, unless it has one value a channel."""
    axes = (0, *range(2, x.ndim))
    side = (1, -1, *(1 for _ in range(2, x.ndim)))
    count = x.size // x.shape[1]
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if training and count > 1:
        mean = x.sum(axes) / count
        variance = ((x - mean.reshape(side)) ** 2).sum(axes) / count
    scaled = (x - mean.reshape(side)) / np.sqrt(variance.reshape(side) + eps)
    return scaled * state[f"{name}.weight"].reshape(side) + state[f"{name}.bias"].reshape(side)
