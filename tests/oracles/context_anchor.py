"""Context Anchor Attention in NumPy, from Cai et al., Poly Kernel Inception Network, section 3.3.

F = Conv₁ₓ₁(P_avg(X)), P_avg over 7×7 positions (equation 5); F^w a depthwise 1×k strip of F and F^h a depthwise k×1
strip of F^w (equation 6); A = σ(Conv₁ₓ₁(F^h)) (equation 7), and the features times A. As in the released code: pooling
divides by 49 at the border too, all convolutions have biases, and with norms (ε 0.001) and SiLU the 1×1 ones have
those after them, and no bias beside a norm.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import fill, gate, has_deviation

POINTWISE = 32  # sigmoids, biases, scale, shift
OPTIONS = product(kernel_size=(3, 11), norm=(False, True), activation=(False, True))
EVERY = 3
ONE_SAMPLE = {"norm": True, "activation": True}
SPREAD = 4  # four samples may lie as close together as a quarter: dividing by their deviation enlarges roundings
VARIANTS = {
    "context_anchor:activation=true,norm=true": 1,
}
REFUSED = [
    ("caa:kernel_size=10", {}, "9 and 11"),
    ("caa:norm=1", {}, "true or false"),
    ("caa:activation=none", {}, "true or false"),
]
RENAMES = {
    "conv1.conv.": "conv1.0.",
    "conv1.bn.": "conv1.1.",
    "conv2.conv.": "conv2.0.",
    "conv2.bn.": "conv2.1.",
    "h_conv.conv.": "h_conv.",
    "v_conv.conv.": "v_conv.",
}


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    statistics = SPREAD * 2 * 2 * BATCH * size[0] * size[1] if training and options.get("norm") else 0
    return 49 + 2 * channels + 2 * options.get("kernel_size", 11) + statistics + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    kernel_size: int = 11,
    norm: bool = False,
    activation: bool = False,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    _, channels, height, width = x.shape
    assert any("1.running_mean" in name for name in state) == norm
    assert ("conv1.0.bias" in state) == (not norm)
    smooth = np.zeros_like(x)
    for i in range(height):
        for j in range(width):
            for p in range(max(0, i - 3), min(height, i + 4)):
                for q in range(max(0, j - 3), min(width, j + 4)):
                    smooth[:, :, i, j] += x[:, :, p, q] / 49
    half = kernel_size // 2
    f = pointwise(smooth, state, "conv1", norm, activation, training)
    for name in ("h_conv", "v_conv"):
        cells = state[f"{name}.weight"].reshape(channels, kernel_size)
        assert state[f"{name}.weight"].shape[2 if name == "h_conv" else 3] == 1
        strip = np.zeros_like(f) + state[f"{name}.bias"][:, None, None]
        for i in range(height):
            for j in range(width):
                for t in range(-half, half + 1):
                    p, q = (i, j + t) if name == "h_conv" else (i + t, j)
                    if 0 <= p < height and 0 <= q < width:
                        strip[:, :, i, j] += cells[:, t + half] * f[:, :, p, q]
        f = strip
    return x / (1 + np.exp(-pointwise(f, state, "conv2", norm, activation, training)))


def pointwise(
    x: np.ndarray, state: dict[str, np.ndarray], name: str, norm: bool, activation: bool, training: bool
) -> np.ndarray:
    y = np.einsum("oc,bchw->bohw", state[f"{name}.0.weight"][:, :, 0, 0], x)
    if not norm:
        y = y + state[f"{name}.0.bias"][:, None, None]
    else:
        mean, variance = state[f"{name}.1.running_mean"], state[f"{name}.1.running_var"]
        if training and y.size > y.shape[1]:  # one value has no statistics of its own (named on the card)
            mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3))
        scale, shift = state[f"{name}.1.weight"], state[f"{name}.1.bias"]
        y = (y - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-3)
        y = y * scale[:, None, None] + shift[:, None, None]
    return y / (1 + np.exp(-y)) if activation else y


def test_caa_has_neither_norm_nor_activation_as_pkinet_builds_it() -> None:
    module = foveate.create("caa", 8)
    assert not [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d | nn.SiLU)]
    # two 1×1 convolutions with biases, two strips of 11 with biases
    assert sum(p.numel() for p in module.parameters()) == 2 * (8 * 8 + 8) + 2 * (8 * 11 + 8)


def test_caas_own_defaults_have_both_and_no_bias_beside_a_norm() -> None:
    module = foveate.create("caa", 8, norm=True, activation=True)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [(norm.eps, norm.momentum) for norm in norms] == [(1e-3, 0.03)] * 2
    assert sum(isinstance(layer, nn.SiLU) for layer in module.modules()) == 2
    assert module.conv1[0].bias is None
    assert module.h_conv.bias is not None


def test_caa_counts_the_border_as_zeros_when_it_smooths() -> None:
    module = foveate.create("caa", 1)
    for layer in (module.conv1[0], module.conv2[0]):
        fill(layer, 1.0)
    for layer in (module.h_conv, module.v_conv):
        fill(layer, 0.0)
        with torch.no_grad():
            layer.weight.view(-1)[5] = 1.0
    logits = torch.logit(gate(module, torch.ones(1, 1, 9, 9)))[0, 0]
    assert logits[4, 4].item() == pytest.approx(1.0, rel=1e-5)
    assert logits[0, 0].item() == pytest.approx(16 / 49, rel=1e-5)


def test_caa_multiplies_its_factor_with_the_features() -> None:
    """The authors' class returns the factor only."""
    module = foveate.create("caa", 4)
    x = torch.randn(2, 4, 5, 6)
    torch.testing.assert_close(module(x), x * gate(module, x))


def test_caa_starts_as_the_authors_network_does() -> None:
    module = foveate.create("caa", 256)
    for layer, fan_in in ((module.conv1[0], 256), (module.h_conv, 11), (module.v_conv, 11), (module.conv2[0], 256)):
        assert has_deviation(layer.weight, (1 / (3 * fan_in)) ** 0.5)
        assert not layer.bias.any()
