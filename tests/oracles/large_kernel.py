"""Large Kernel Attention in NumPy, from Guo et al., Visual Attention Network, section 3.1.

A K×K convolution is taken apart into a depthwise (2d-1)×(2d-1) one, a depthwise ⌈K/d⌉×⌈K/d⌉ one with dilation d and a
1×1 one. Attention = Conv₁ₓ₁(DW-D-Conv(DW-Conv(F))) (equation 1), Output = Attention ⊗ F (equation 2), element by
element; no sigmoid. K = 21 and d = 3. All three have biases, as in the released code.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import Options
from tests.support.weights import filled, gate, has_deviation

POINTWISE = 16  # biases and the product
OPTIONS: list[Options] = [
    {},
    {"kernel_size": 7, "dilation": 3},
    {"kernel_size": 9, "dilation": 1},
    {"kernel_size": 6, "dilation": 2},
    {"kernel_size": 14, "dilation": 3},
]
EVERY = 2
NORMS = False
VARIANTS = {
    "large_kernel:dilation=1,kernel_size=5": 1,
}
REFUSED = [
    ("lka:kernel_size=12", {}, "9 and 15"),
    ("lka:dilation=0", {}, "at least 1"),
    ("lka:kernel_size=2.5", {}, "whole number"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    d = options.get("dilation", 3)
    return (2 * d - 1) ** 2 + (-(-options.get("kernel_size", 21) // d)) ** 2 + channels + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    kernel_size: int = 21,
    dilation: int = 3,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    near, far = 2 * dilation - 1, int(np.ceil(kernel_size / dilation))
    assert state["conv0.weight"].shape[2:] == (near, near)
    assert state["conv_spatial.weight"].shape[2:] == (far, far)
    seen = depthwise(x, state["conv0.weight"], state["conv0.bias"], 1)
    seen = depthwise(seen, state["conv_spatial.weight"], state["conv_spatial.bias"], dilation)
    mix, bias = state["conv1.weight"][:, :, 0, 0], state["conv1.bias"]
    attention = np.einsum("oc,bchw->bohw", mix, seen) + bias[:, None, None]
    return attention * x


def depthwise(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, spacing: int) -> np.ndarray:
    """Each channel with its own kernel, its cells `spacing` apart and centred; zero outside the map."""
    _, channels, height, width = x.shape
    assert kernel.shape[:2] == (channels, 1)
    out = np.zeros_like(x) + bias[:, None, None]
    for p in range(kernel.shape[2]):
        for q in range(kernel.shape[3]):
            down, right = (p - kernel.shape[2] // 2) * spacing, (q - kernel.shape[3] // 2) * spacing
            for i in range(max(0, -down), min(height, height - down)):
                for j in range(max(0, -right), min(width, width - right)):
                    out[:, :, i, j] += kernel[:, 0, p, q] * x[:, :, i + down, j + right]
    return out


def test_lka_has_no_sigmoid_on_its_factors() -> None:
    weights = gate(filled(foveate.create("lka", 4)), torch.randn(2, 4, 9, 9))
    assert weights.min() < 0
    assert weights.max() > 1


def test_lka_is_five_then_seven_with_dilation_three_and_keeps_all_biases() -> None:
    module = foveate.create("lka", 8)
    layers = {name: layer for name, layer in module.named_children() if name != "map"}
    assert {name: (layer.kernel_size, layer.dilation, layer.groups) for name, layer in layers.items()} == {
        "conv0": ((5, 5), (1, 1), 8),
        "conv_spatial": ((7, 7), (3, 3), 8),
        "conv1": ((1, 1), (1, 1), 1),
    }
    assert all(layer.bias is not None for layer in layers.values())


@pytest.mark.parametrize(("kernel_size", "dilation", "reach"), [(21, 3, 11), (9, 3, 5), (5, 1, 2)])
def test_lka_reaches_as_far_as_its_two_kernels_together(kernel_size: int, dilation: int, reach: int) -> None:
    module = foveate.create("lka", 1, kernel_size=kernel_size, dilation=dilation)
    for layer in (module.conv0, module.conv_spatial, module.conv1):
        torch.nn.init.ones_(layer.weight)
    x = torch.zeros(1, 1, 1, 41)
    x[..., 20] = 1.0
    assert gate(module, x).flatten().nonzero().flatten().tolist() == list(range(20 - reach, 21 + reach))


def test_lka_starts_as_the_authors_network_does() -> None:
    module = foveate.create("lka", 256)
    for layer, fan_out in ((module.conv0, 25), (module.conv_spatial, 49), (module.conv1, 256)):
        assert has_deviation(layer.weight, (2 / fan_out) ** 0.5)
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ("widths", "ratios", "depths", "printed"),
    [
        ((32, 64, 160, 256), (8, 8, 4, 4), (3, 3, 5, 2), 4.1),
        ((64, 128, 320, 512), (8, 8, 4, 4), (2, 2, 4, 2), 13.9),
        ((64, 128, 320, 512), (8, 8, 4, 4), (3, 3, 12, 3), 26.6),
        ((64, 128, 320, 512), (8, 8, 4, 4), (3, 5, 27, 3), 44.8),
    ],
    ids=["VAN-B0", "VAN-B1", "VAN-B2", "VAN-B3"],
)
def test_parameters_of_the_visual_attention_network(
    widths: tuple[int, ...], ratios: tuple[int, ...], depths: tuple[int, ...], printed: float
) -> None:
    """All but the gates counted by hand, as the paper's section 3.2 has them; millions, as its table 2 prints them."""
    total = widths[-1] * 1000 + 1000
    before, side = 3, 7
    for c, ratio, depth in zip(widths, ratios, depths, strict=True):
        total += before * c * side**2 + c + 2 * c  # overlapping patches and their norm
        hidden = ratio * c
        feed_forward = c * hidden + hidden + 9 * hidden + hidden + hidden * c + c
        projections = 2 * (c * c + c)
        gate_of = sum(p.numel() for p in foveate.create("lka", c).parameters())
        total += depth * (feed_forward + projections + gate_of + 2 * 2 * c + 2 * c)  # two norms, two layer scales
        total += 2 * c  # the stage's norm
        before, side = c, 3
    assert round(total / 1e6, 1) == printed
