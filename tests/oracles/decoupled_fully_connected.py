"""Decoupled fully connected attention in NumPy, from Tang et al., GhostNetV2, sections 3.2 and 3.4.

The features are shrunk by average pooling of 2×2 positions and mixed by a 1×1 convolution; every channel is aggregated
along one axis and then along the other (equations 4 and 5), over a window of 5 positions, as the released code has it:
rows first, a norm after each of the three convolutions. A sigmoid gives the gates at the shrunken resolution, and each
position of the map takes the nearest one's.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import fill, gate

POINTWISE = 16  # sigmoid, scales, shifts
SPREAD = 4  # four samples may lie as close together as a quarter: dividing by their deviation enlarges roundings
OPTIONS = product(kernel_size=(3, 5), shrink=(1, 2, 3))
EVERY = 3
VARIANTS = {
    "decoupled_fully_connected:kernel_size=3,shrink=1": 1,
    "decoupled_fully_connected:shrink=3": 6,
}
REFUSED = [
    ("dfc:kernel_size=4", {}, "3 and 5"),
    ("dfc:shrink=0", {}, "at least 1"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    statistics = SPREAD * 3 * 2 * BATCH * size[0] * size[1] if training else 0
    return options.get("shrink", 2) ** 2 + channels + 2 * options.get("kernel_size", 5) + statistics + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    kernel_size: int = 5,
    shrink: int = 2,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    tall, wide = min(shrink, height), min(shrink, width)  # a side of less is one neighbourhood (named on the card)
    rows, columns = height // tall, width // wide
    small = np.empty((batch, channels, rows, columns))
    for i in range(rows):
        for j in range(columns):
            window = x[:, :, i * tall : (i + 1) * tall, j * wide : (j + 1) * wide]
            small[:, :, i, j] = window.sum((2, 3)) / (tall * wide)
    mixed = np.einsum("oc,bchw->bohw", state["branch.0.weight"][:, :, 0, 0], small)
    mixed = normed(mixed, state, "branch.1", training)
    half = kernel_size // 2
    for name, norm, step in (("branch.2", "branch.3", (0, 1)), ("branch.4", "branch.5", (1, 0))):
        cells = state[f"{name}.weight"]
        assert cells.shape[2:] == (1 + 2 * half * step[0], 1 + 2 * half * step[1])
        cells = cells.reshape(channels, kernel_size)
        aggregated = np.zeros_like(mixed)
        for i in range(rows):
            for j in range(columns):
                for t in range(-half, half + 1):
                    p, q = i + t * step[0], j + t * step[1]
                    if 0 <= p < rows and 0 <= q < columns:
                        aggregated[:, :, i, j] += cells[:, t + half] * mixed[:, :, p, q]
        mixed = normed(aggregated, state, norm, training)
    y = np.empty_like(x)
    for i in range(height):
        for j in range(width):
            logits = mixed[:, :, i * rows // height, j * columns // width]
            y[:, :, i, j] = x[:, :, i, j] / (1 + np.exp(-logits))
    return y


def normed(x: np.ndarray, state: dict[str, np.ndarray], name: str, training: bool) -> np.ndarray:
    """With the statistics of the batch in training; of one value a channel there are none (named on the card)."""
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if training and x.size > x.shape[1]:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    each = (slice(None), None, None)
    scaled = (x - mean[each]) / np.sqrt(variance[each] + 1e-5)
    return scaled * state[f"{name}.weight"][each] + state[f"{name}.bias"][each]


def test_dfc_has_three_norms_and_no_bias() -> None:
    module = foveate.create("dfc", 16)
    kinds = [type(layer).__name__ for layer in module.branch]
    assert kinds == ["Conv2d", "BatchNorm2d"] * 3
    assert [layer.kernel_size for layer in module.branch if isinstance(layer, nn.Conv2d)] == [(1, 1), (1, 5), (5, 1)]
    assert sum(p.numel() for p in module.parameters()) == 16 * 16 + 2 * 5 * 16 + 3 * 2 * 16


@pytest.mark.parametrize(("size", "pooled"), [((8, 6), (4, 3)), ((7, 9), (3, 4)), ((1, 5), (1, 2)), ((1, 1), (1, 1))])
def test_dfc_gates_neighbourhoods_of_two_by_two(size: tuple[int, int], pooled: tuple[int, int]) -> None:
    module = foveate.create("dfc", 4).eval()
    assert gate(module, torch.randn(2, 4, *size)).shape[2:] == pooled


def test_dfc_takes_the_nearest_gate_and_blurs_nothing() -> None:
    module = foveate.create("dfc", 2).eval()
    x = torch.randn(1, 2, 6, 8)
    expected = gate(module, x).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(module(x), x * expected)


def test_dfc_has_no_relu_before_its_sigmoid() -> None:
    module = foveate.create("dfc", 4).eval()
    fill(module.branch[5], 0.0)
    fill(module.branch[5], -2.0, "bias")
    weights = gate(module, torch.randn(1, 4, 6, 6))
    torch.testing.assert_close(weights, torch.full_like(weights, -2.0).sigmoid())
