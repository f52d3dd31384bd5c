"""Efficient Channel Attention in NumPy, from Wang et al., section 3.

Each channel's weight comes from the means of its k neighbours in channel order, itself among them, with weights that
all channels share (equations 7 to 9); beyond the first and last channel there is nothing, which counts as zero.
The kernel size is the odd number nearest to (log₂ C)/γ + b/γ with γ = 2 and b = 1 (equation 12), the larger of two.
"""

from __future__ import annotations

import numpy as np


def equation_12(channels: int) -> int:
    """The odd k with k - 1 ≤ (log₂ C + 1)/2 < k + 1, in whole numbers: the first with C < 2^(2k + 1)."""
    k = 1
    while channels >= 2 ** (2 * k + 1):
        k += 2
    return k


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    kernel_size: int | None = None,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, _, _ = x.shape
    k = equation_12(channels) if kernel_size is None else kernel_size
    assert list(state) == ["conv.weight"]
    weight = state["conv.weight"].reshape(-1)
    assert weight.shape == (k,)

    y = np.empty_like(x)
    for b in range(batch):
        means = [x[b, c].sum() / x[b, c].size for c in range(channels)]
        for c in range(channels):
            logit = 0.0
            for j in range(k):
                neighbour = c + j - (k - 1) // 2
                if 0 <= neighbour < channels:
                    logit += weight[j] * means[neighbour]
            y[b, c] = x[b, c] / (1 + np.exp(-logit))
    return y
