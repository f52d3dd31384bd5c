"""The strip pooling module in NumPy, from Hou et al., section 3.1.

y^h_i is the mean of row i, y^v_j that of column j (equations 1 and 2), each for every channel. A convolution of size 3
that mixes all channels runs over the rows, another over the columns; y_ij = y^h_i + y^v_j (equation 3), and
z = x · σ(f(y)) with f a 1×1 convolution (equation 4). Norms after both strip convolutions and a ReLU before f are the
released code's.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from tests.support.oracles import BATCH, Options
from tests.support.weights import fill, filled, gate, has_deviation

POINTWISE = 16  # sigmoid, scale, shift
SPREAD = 4  # four samples' means may lie as close together as a quarter: dividing by their deviation enlarges roundings
OPTIONS: list[Options] = [{}]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    side = max(size)
    statistics = SPREAD * 2 * BATCH * side if training else 0
    return side + 3 * channels + statistics + channels + POINTWISE


def oracle(x: np.ndarray, state: dict[str, np.ndarray], *, training: bool = False) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    assert state["conv1.weight"].shape == (channels, channels, 3, 1)
    assert state["conv2.weight"].shape == (channels, channels, 1, 3)
    rows = np.array([[x[b, :, i, :].sum(1) / width for i in range(height)] for b in range(batch)])
    columns = np.array([[x[b, :, :, j].sum(1) / height for j in range(width)] for b in range(batch)])
    from_rows = normed(along(rows, state["conv1.weight"][..., 0]), state, "bn1", training)
    from_columns = normed(along(columns, state["conv2.weight"][:, :, 0]), state, "bn2", training)
    last, bias = state["conv3.weight"][:, :, 0, 0], state["conv3.bias"]
    y = np.empty_like(x)
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                logits = last @ np.maximum(from_rows[b, i] + from_columns[b, j], 0) + bias
                y[b, :, i, j] = x[b, :, i, j] / (1 + np.exp(-logits))
    return y


def along(strip: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """A convolution of size 3 over vectors in a line, (b, line, c), zero beyond both ends."""
    out = np.zeros_like(strip)
    for here in range(strip.shape[1]):
        for tap in (0, 1, 2):
            there = here + tap - 1
            if 0 <= there < strip.shape[1]:
                out[:, here] += strip[:, there] @ kernel[:, :, tap].T
    return out


def normed(strip: np.ndarray, state: dict[str, np.ndarray], name: str, training: bool) -> np.ndarray:
    """With the statistics of the batch in training; of one value a channel there are none (named on the card)."""
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if training and strip.shape[0] * strip.shape[1] > 1:
        mean, variance = strip.mean((0, 1)), strip.var((0, 1))
    return (strip - mean) / np.sqrt(variance + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]


@pytest.mark.parametrize(("axis", "reached"), [("row", (4, slice(None))), ("column", (slice(None), 2))])
def test_strip_pooling_reads_whole_rows_and_whole_columns(axis: str, reached: tuple[int | slice, int | slice]) -> None:
    """Of one row only its mean counts, and it reaches no further than the convolution's neighbours."""
    module = filled(foveate.create("spm", 3)).double()
    silent = module.conv2 if axis == "row" else module.conv1
    fill(silent, 0.0)
    x = torch.randn(1, 3, 7, 6, dtype=torch.float64)
    moved = x.clone()
    moved[:, :, *reached] = moved[:, :, *reached].flip(-1)  # the mean stays
    torch.testing.assert_close(gate(module, moved), gate(module, x))
    moved[:, :, *reached] += 1
    changed = (gate(module, moved) - gate(module, x)).abs().amax((0, 1)) > 1e-12
    lines = changed.any(1) if axis == "row" else changed.any(0)
    assert lines.nonzero().flatten().tolist() == ([3, 4, 5] if axis == "row" else [1, 2, 3])


def test_strip_pooling_adds_rows_and_columns_before_the_relu() -> None:
    module = foveate.create("spm", 1).eval()
    for layer in (module.conv1, module.conv2):
        fill(layer, 0.0)
    fill(module.bn1, -3.0, "bias")
    fill(module.bn2, 4.0, "bias")
    fill(module.conv3, 1.0)
    fill(module.conv3, 0.0, "bias")
    weights = gate(module, torch.randn(1, 1, 3, 3))
    torch.testing.assert_close(weights, torch.full_like(weights, 1.0).sigmoid())


def test_strip_pooling_has_norms_where_the_authors_have_them_and_one_bias() -> None:
    c = 8
    module = foveate.create("spm", c)
    assert [name for name, layer in module.named_modules() if isinstance(layer, nn.BatchNorm2d)] == ["bn1", "bn2"]
    # two convolutions of size 3 and a 1×1 one with a bias, all with all channels, and two norms
    assert sum(p.numel() for p in module.parameters()) == 2 * 3 * c * c + c * c + c + 2 * 2 * c


def test_strip_pooling_starts_as_the_authors_network_does() -> None:
    module = foveate.create("spm", 64)
    assert has_deviation(module.conv1.weight, (2 / (3 * 64)) ** 0.5)
    assert has_deviation(module.conv2.weight, (2 / (3 * 64)) ** 0.5)
    assert has_deviation(module.conv3.weight, (2 / 64) ** 0.5)
