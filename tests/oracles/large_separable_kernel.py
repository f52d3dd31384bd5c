"""Large Separable Kernel Attention in NumPy, from Lau et al., section 3.

Every depthwise convolution of Large Kernel Attention becomes a row of cells followed by a column of cells: first of
2d-1 cells beside one another, then of ⌊k/d⌋ cells that lie d apart. A 1×1 convolution follows, and its output
multiplies the features, with no sigmoid. d is 2 for k = 7 and 11, and 3 for 23, 35, 41 and 53. All five convolutions
have biases, as in the released code.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import Options, product
from tests.support.weights import filled, gate, has_deviation

POINTWISE = 16  # biases and the product
SIZES_OF_KERNELS = (7, 11, 23, 35, 41, 53)
OPTIONS = product(kernel_size=SIZES_OF_KERNELS)
EVERY = 2
NORMS = False
VARIANTS = {
    "large_separable_kernel:kernel_size=53": 1,
}
REFUSED = [
    ("lska:kernel_size=21", {}, "one of 7, 11, 23, 35, 41, 53"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    k = options["kernel_size"]
    return 2 * (2 * spacing(k) - 1) + 2 * (k // spacing(k)) + channels + POINTWISE


def spacing(kernel_size: int) -> int:
    return 2 if kernel_size < 12 else 3


def oracle(x: np.ndarray, state: dict[str, np.ndarray], *, training: bool = False, kernel_size: int = 23) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    d = spacing(kernel_size)
    near, far = 2 * d - 1, kernel_size // d
    seen = x
    for name, cells, apart in (("conv0", near, 1), ("conv_spatial_", far, d)):
        horizontal, vertical = state[f"{name}h.weight"], state[f"{name}v.weight"]
        assert horizontal.shape == (x.shape[1], 1, 1, cells)
        assert vertical.shape == (x.shape[1], 1, cells, 1)
        seen = strip(seen, horizontal[:, 0, 0], apart) + state[f"{name}h.bias"][:, None, None]
        turned = strip(seen.transpose(0, 1, 3, 2), vertical[:, 0, :, 0], apart)
        seen = turned.transpose(0, 1, 3, 2) + state[f"{name}v.bias"][:, None, None]
    mix, bias = state["conv1.weight"][:, :, 0, 0], state["conv1.bias"]
    return x * (np.einsum("oc,bchw->bohw", mix, seen) + bias[:, None, None])


def strip(x: np.ndarray, kernels: np.ndarray, apart: int) -> np.ndarray:
    """Each channel with its own cells along the last axis, `apart` from one another and centred; zero outside."""
    length, cells = x.shape[3], kernels.shape[1]
    out = np.zeros_like(x)
    for here in range(length):
        for cell in range(cells):
            there = here + (cell - (cells - 1) // 2) * apart
            if 0 <= there < length:
                out[..., here] += kernels[:, cell, None] * x[..., there]
    return out


def test_lska_has_no_sigmoid_on_its_factors() -> None:
    weights = gate(filled(foveate.create("lska", 4)), torch.randn(2, 4, 9, 9))
    assert weights.min() < 0
    assert weights.max() > 1


@pytest.mark.parametrize(
    ("kernel_size", "near", "far", "dilation"),
    [(7, 3, 3, 2), (11, 3, 5, 2), (23, 5, 7, 3), (35, 5, 11, 3), (41, 5, 13, 3), (53, 5, 17, 3)],
)
def test_lska_has_the_six_published_kernels_and_keeps_all_biases(
    kernel_size: int, near: int, far: int, dilation: int
) -> None:
    module = foveate.create("lska", 8, kernel_size=kernel_size)
    layers = {name: layer for name, layer in module.named_children() if name != "map"}
    assert {name: layer.kernel_size for name, layer in layers.items()} == {
        "conv0h": (1, near),
        "conv0v": (near, 1),
        "conv_spatial_h": (1, far),
        "conv_spatial_v": (far, 1),
        "conv1": (1, 1),
    }
    assert set(module.conv_spatial_h.dilation + module.conv_spatial_v.dilation) == {dilation}
    assert all(layer.bias is not None for layer in layers.values())


@pytest.mark.parametrize("kernel_size", SIZES_OF_KERNELS)
def test_lska_sees_as_many_positions_in_a_line_as_its_name_says(kernel_size: int) -> None:
    """Near and far strips together: (2d - 1) + (⌊k/d⌋ - 1)·d cells, which is k but for rounding."""
    module = foveate.create("lska", 1, kernel_size=kernel_size)
    for name, parameter in module.named_parameters():
        torch.nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
    x = torch.zeros(1, 1, 71, 71)
    x[..., 35, 35] = 1.0
    reached = gate(module, x)[0, 0] != 0
    assert int(reached[35].sum()) == int(reached[:, 35].sum()) == kernel_size


def test_lska_starts_as_the_authors_network_does() -> None:
    module = foveate.create("lska", 256)
    for layer, fan_out in ((module.conv0h, 5), (module.conv_spatial_v, 7), (module.conv1, 256)):
        assert has_deviation(layer.weight, (2 / fan_out) ** 0.5)
        assert not layer.bias.any()
