"""Squeeze-and-Excitation in NumPy, from Hu et al., section 3.

Squeeze (equation 2):    z_c = 1/(H W) Σ_ij u_c(i, j)
Excitation (equation 3): s = σ(W₂ δ(W₁ z)), δ the ReLU; the released networks add a bias to each layer
Scale (equation 4):      x̃_c = s_c u_c
"""

from __future__ import annotations

import numpy as np


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    reduction: int = 16,
    bias: bool = True,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    hidden = max(1, channels // reduction)
    w1, w2 = state["fc1.weight"], state["fc2.weight"]
    assert w1.shape == (hidden, channels)
    assert w2.shape == (channels, hidden)
    assert ("fc1.bias" in state, "fc2.bias" in state) == (bias, bias)

    y = np.empty_like(x)
    for b in range(batch):
        z = np.zeros(channels)
        for i in range(height):
            for j in range(width):
                z += x[b, :, i, j] / (height * width)
        excited = w1 @ z
        if bias:
            excited = excited + state["fc1.bias"]
        excited = w2 @ np.maximum(excited, 0)
        if bias:
            excited = excited + state["fc2.bias"]
        s = 1 / (1 + np.exp(-excited))
        for c in range(channels):
            y[b, c] = s[c] * x[b, c]
    return y
