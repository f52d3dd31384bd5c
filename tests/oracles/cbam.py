"""Convolutional Block Attention Module in NumPy, from Woo et al., section 3, equations 1 to 3.

Channel: M_c(F) = σ(Σ_p W₁ relu(W₀ pool_p(F))), one network for all pools; with biases, as the released code has it.
Spatial: M_s(F) = σ(f^(k×k)([max over channels; mean over channels])), in the released code's order and with its norm.
F' = M_c(F) · F, then F'' = M_s(F') · F'.
"""

from __future__ import annotations

import numpy as np


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    reduction: int = 16,
    pools: tuple[str, ...] = ("avg", "max"),
    kernel_size: int = 7,
    norm: bool = True,
    parts: str = "both",
    dimensions: int = 2,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), or of other dimensions, with the module's `state`."""
    assert x.ndim == 2 + dimensions
    steps = {name.split(".")[0] for name in state}
    assert steps == {"both": {"channel", "spatial"}}.get(parts, {parts})
    assert any("norm" in name for name in state) == (norm and parts != "channel")
    if parts != "spatial":
        gate = channel_gate(x, state, reduction, pools)
        x = x * gate.reshape(gate.shape + (1,) * dimensions)
    if parts != "channel":
        x = x * spatial_gate(x, state, kernel_size, norm, training)[:, None]
    return x


def channel_gate(x: np.ndarray, state: dict[str, np.ndarray], reduction: int, pools: tuple[str, ...]) -> np.ndarray:
    batch, channels = x.shape[:2]
    w0, b0 = state["channel.fc1.weight"], state["channel.fc1.bias"]
    w1, b1 = state["channel.fc2.weight"], state["channel.fc2.bias"]
    assert w0.shape == (max(1, channels // reduction), channels)
    gate = np.empty((batch, channels))
    for b in range(batch):
        logits = np.zeros(channels)
        for pool in pools:
            pooled = np.array([pool_map(pool, x[b, c].ravel()) for c in range(channels)])
            logits += w1 @ np.maximum(w0 @ pooled + b0, 0) + b1
        gate[b] = 1 / (1 + np.exp(-logits))
    return gate


def pool_map(pool: str, values: np.ndarray) -> float:
    if pool == "avg":
        return values.sum() / values.size
    if pool == "max":
        return values.max()
    if pool == "lp":
        return np.sqrt((values**2).sum())
    assert pool == "lse"
    return np.log(np.exp(values).sum())


def spatial_gate(
    x: np.ndarray, state: dict[str, np.ndarray], kernel_size: int, norm: bool, training: bool
) -> np.ndarray:
    sides = x.shape[2:]
    kernel = state["spatial.conv.weight"]
    assert kernel.shape == (1, 2, *(kernel_size for _ in sides))
    half = kernel_size // 2
    summary = (x.max(1), x.sum(1) / x.shape[1])
    logits = np.zeros((x.shape[0], *sides))
    for at in np.ndindex(sides):
        for tap in np.ndindex(kernel.shape[2:]):
            seen = tuple(i + t - half for i, t in zip(at, tap, strict=True))
            if all(0 <= i < side for i, side in zip(seen, sides, strict=True)):
                for s in (0, 1):
                    logits[(slice(None), *at)] += kernel[(0, s, *tap)] * summary[s][(slice(None), *seen)]
    if norm:
        mean, variance = state["spatial.norm.running_mean"][0], state["spatial.norm.running_var"][0]
        if training and logits.size > 1:  # one value has no statistics of its own (named on the card)
            mean, variance = logits.mean(), logits.var()
        logits = (logits - mean) / np.sqrt(variance + 1e-5)
        logits = logits * state["spatial.norm.weight"][0] + state["spatial.norm.bias"][0]
    return 1 / (1 + np.exp(-logits))
