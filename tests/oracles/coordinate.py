"""Coordinate Attention in NumPy, from Hou et al., section 3, equations 4 to 9.

z_h is the mean of each row, z_w of each column. f = δ(norm(F₁([z_h, z_w]))) with one 1×1 layer for both, f is split
again, and g_h = σ(F_h(f_h)), g_w = σ(F_w(f_w)); y(i, j) = x(i, j) · g_h(i) · g_w(j). δ is h-swish, as released.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import fill, has_deviation, weights_of

POINTWISE = 16  # h-swish, sigmoid, scale, shift, two products
OPTIONS = product(reduction=(1, 4, 32))
EVERY = 2
VARIANTS = {
    "coordinate:reduction=1": 1,
}
REFUSED = [
    ("coordinate:reduction=0", {}, "reduction must be a whole number of at least 1"),
]
RESNETS = [
    (50, "coordinate", 27_474_864),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    hidden = max(8, channels // options.get("reduction", 32))
    return max(size) + channels + hidden + (2 * BATCH * sum(size) if training else 0) + POINTWISE


def oracle(x: np.ndarray, state: dict[str, np.ndarray], *, training: bool = False, reduction: int = 32) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    weight, bias = state["conv1.weight"][:, :, 0], state["conv1.bias"]
    assert weight.shape == (max(8, channels // reduction), channels)
    hidden = np.empty((batch, len(weight), height + width))
    for i in range(height):
        hidden[:, :, i] = x[:, :, i].sum(2) / width @ weight.T + bias
    for j in range(width):
        hidden[:, :, height + j] = x[:, :, :, j].sum(2) / height @ weight.T + bias
    mean, variance = state["bn1.running_mean"], state["bn1.running_var"]
    if training:  # at least one row and one column: never a single value
        mean, variance = hidden.mean((0, 2)), hidden.var((0, 2))
    hidden = (hidden - mean[:, None]) / np.sqrt(variance[:, None] + 1e-5)
    hidden = hidden * state["bn1.weight"][:, None] + state["bn1.bias"][:, None]
    hidden = np.where(hidden <= -3, 0.0, np.where(hidden >= 3, hidden, hidden * (hidden + 3) / 6))
    y = x.copy()
    for i in range(height):
        y[:, :, i] *= gate(hidden[:, :, i], state, "conv_h")[:, :, None]
    for j in range(width):
        y[:, :, :, j] *= gate(hidden[:, :, height + j], state, "conv_w")[:, :, None]
    return y


def gate(hidden: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    return 1 / (1 + np.exp(-(hidden @ state[f"{name}.weight"][:, :, 0].T + state[f"{name}.bias"])))


def test_coordinate_has_a_sigmoid_on_both_gates() -> None:
    module = foveate.create("coordinate", 8).eval()
    for layer in (module.conv1, module.conv_h, module.conv_w):
        fill(layer, 100.0)
    for sign in (1, -1):
        for weights in weights_of(module, sign * torch.ones(1, 8, 3, 4)).values():
            assert (weights >= 0).all()
            assert (weights <= 1).all()
    for layer in (module.conv_h, module.conv_w):
        fill(layer, 0.0)
    for weights in weights_of(module, torch.randn(1, 8, 3, 4)).values():
        assert torch.equal(weights, torch.full_like(weights, 0.5))


def test_coordinate_has_h_swish_and_not_relu() -> None:
    module = foveate.create("coordinate", 1).eval()
    fill(module.conv1, 0.0)
    fill(module.conv1, -1.0, "bias")  # h-swish(-1) = -1 · 2 / 6, a ReLU would give 0
    fill(module.conv_h, 1.0)
    module.bn1.eps = 0.0
    weights = weights_of(module, torch.randn(1, 1, 3, 4))["h_map"]
    torch.testing.assert_close(weights, torch.full_like(weights, -8 / 3).sigmoid())


@pytest.mark.parametrize(("channels", "hidden"), [(1, 8), (64, 8), (256, 8), (512, 16), (2048, 64)])
def test_coordinate_has_eight_hidden_units_or_more(channels: int, hidden: int) -> None:
    assert foveate.create("coordinate", channels).conv1.out_channels == hidden


def test_coordinate_has_biases_in_all_its_layers() -> None:
    module = foveate.create("coordinate", 16)
    biases = {name for name, _ in module.named_parameters() if name.endswith("bias")}
    assert biases == {"conv1.bias", "bn1.bias", "conv_h.bias", "conv_w.bias"}


def test_coordinate_gates_rows_and_columns_and_not_the_other_way_round() -> None:
    module = foveate.create("coordinate", 4).eval()
    weights = weights_of(module, torch.randn(2, 4, 5, 7))
    assert {name: tuple(w.shape) for name, w in weights.items()} == {"h_map": (2, 4, 5, 1), "w_map": (2, 4, 1, 7)}


def test_coordinate_starts_as_the_authors_network_does() -> None:
    module = foveate.create("coordinate", 1024)
    for layer in (module.conv1, module.conv_h, module.conv_w):
        assert has_deviation(layer.weight, (2 / layer.out_channels) ** 0.5)
        assert not layer.bias.any()


def test_parameters_of_the_authors_mobilenet() -> None:
    """Their README prints 3.95M for MobileNetV2 with the module in every block that expands; it has 3.50M itself."""
    expanded = [96, 144, 144, 192, 192, 192, 384, 384, 384, 384, 576, 576, 576, 960, 960, 960]
    added = sum(p.numel() for c in expanded for p in foveate.create("coordinate", c).parameters())
    assert round((3_504_872 + added) / 1e6, 2) == 3.95
