"""Gather-Excite in NumPy, from Hu et al., sections 2 and 3, and the figures of their GENet repository.

Gather: position u of the summary stands for the neighbourhood {E·u + δ : |δ| ≤ ⌊(2E - 1)/2⌋} of the map.
  θ⁻  the mean of the positions of the neighbourhood that are inside the map; with global extent, of all
  θ   log₂ E depthwise 3×3 convolutions of stride 2, each with a norm, ReLU between them; with global extent one
      depthwise convolution as large as the map, with a norm
  θ⁺  θ, then ReLU, a 1×1 convolution to C/16 channels, ReLU, a 1×1 convolution to C channels
Excite: x · σ(interp(summary)), interp the nearest neighbour.
"""

from __future__ import annotations

import numpy as np


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    size: tuple[int, int] | None = None,
    variant: str = "theta",
    extent: int | str = 8,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    if variant == "theta_minus":
        assert not state
        summary = x.mean((2, 3), keepdims=True) if extent == "global" else neighbourhood_means(x, int(extent))
    elif extent == "global":
        assert size == x.shape[2:]
        kernel = state["pool.0.weight"]
        assert kernel.shape == (x.shape[1], 1, *size)
        summary = np.einsum("bchw,chw->bc", x, kernel[:, 0])[:, :, None, None]
        summary = batch_norm(summary, state, "pool.1", training)
    else:
        summary = x
        steps = {2: 1, 4: 2, 8: 3}[int(extent)]
        for step in range(steps):
            if step > 0:
                summary = np.maximum(summary, 0)
            summary = strided_depthwise(summary, state[f"pool.{3 * step}.weight"])
            summary = batch_norm(summary, state, f"pool.{3 * step + 1}", training)

    if variant == "theta_plus":
        assert state["excite.1.weight"].shape[0] == max(1, x.shape[1] // 16)
        for layer in ("excite.1", "excite.3"):
            weight, bias = state[f"{layer}.weight"][:, :, 0, 0], state[f"{layer}.bias"]
            summary = np.einsum("oc,bchw->bohw", weight, np.maximum(summary, 0)) + bias[:, None, None]

    height, width = x.shape[2:]
    rows, columns = summary.shape[2:]
    y = np.empty_like(x)
    for i in range(height):
        for j in range(width):
            nearest = summary[:, :, i * rows // height, j * columns // width]
            y[:, :, i, j] = x[:, :, i, j] / (1 + np.exp(-nearest))
    return y


def neighbourhood_means(x: np.ndarray, extent: int) -> np.ndarray:
    batch, channels, height, width = x.shape
    rows, columns = -(-height // extent), -(-width // extent)
    means = np.empty((batch, channels, rows, columns))
    for p in range(rows):
        for q in range(columns):
            total, count = np.zeros((batch, channels)), 0
            for i in range(height):
                for j in range(width):
                    if abs(i - extent * p) <= extent - 1 and abs(j - extent * q) <= extent - 1:
                        total += x[:, :, i, j]
                        count += 1
            means[:, :, p, q] = total / count
    return means


def strided_depthwise(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Each channel with its own 3×3 kernel, centred on every second position; zero outside the map."""
    batch, channels, height, width = x.shape
    assert kernel.shape == (channels, 1, 3, 3)
    out = np.zeros((batch, channels, -(-height // 2), -(-width // 2)))
    for p in range(out.shape[2]):
        for q in range(out.shape[3]):
            for di in (-1, 0, 1):
                for dj in (-1, 0, 1):
                    i, j = 2 * p + di, 2 * q + dj
                    if 0 <= i < height and 0 <= j < width:
                        out[:, :, p, q] += x[:, :, i, j] * kernel[:, 0, di + 1, dj + 1]
    return out


def batch_norm(x: np.ndarray, state: dict[str, np.ndarray], name: str, training: bool) -> np.ndarray:
    """With the statistics of the batch in training; of one value a channel there are none (named on the card)."""
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if training and x.shape[0] * x.shape[2] * x.shape[3] > 1:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    scale, shift = state[f"{name}.weight"], state[f"{name}.bias"]
    each = (slice(None), None, None)
    return (x - mean[each]) / np.sqrt(variance[each] + 1e-5) * scale[each] + shift[each]
