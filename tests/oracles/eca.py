"""Efficient Channel Attention in NumPy, from Wang et al., section 3.

Each channel's weight comes from the means of its k neighbours in channel order, itself among them, with weights that
all channels share (equations 7 to 9); beyond the first and last channel there is nothing, which counts as zero.
The kernel size is the odd number nearest to (log₂ C)/γ + b/γ with γ = 2 and b = 1 (equation 12), the larger of two.
"""

from __future__ import annotations

import numpy as np
import torch

import foveate
from tests.support.oracles import Options, product
from tests.support.weights import fill, gate

POINTWISE = 16  # sigmoid, scale, shift, interpolation
OPTIONS = product(kernel_size=(None, 1, 3, 5, 7, 9))
NORMS = False
VARIANTS = {
    "eca:kernel_size=9": 1,
}
REFUSED = [
    ("eca:kernel_size=4", {}, "3 and 5"),
]
RESNETS = [
    (50, "eca", 25_557_118),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    return size[0] * size[1] + (options.get("kernel_size") or 7) + POINTWISE


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


def test_eca_kernel_size_is_the_printed_table_for_every_number_of_channels() -> None:
    printed = {range(1, 8): 1, range(8, 128): 3, range(128, 2048): 5, range(2048, 4097): 7}
    for channels, size in printed.items():
        for c in channels:
            with torch.device("meta"):
                assert foveate.create("eca", c).conv.kernel_size == (size,), c


def test_eca_has_one_weight_for_each_neighbour_and_no_bias() -> None:
    assert {name: p.shape for name, p in foveate.create("eca", 256).named_parameters()} == {"conv.weight": (1, 1, 5)}


def test_eca_pads_with_zeros_and_not_around_the_circle() -> None:
    module = foveate.create("eca", 8, kernel_size=3)
    fill(module.conv, 1.0)
    x = torch.zeros(1, 8, 2, 2)
    x[:, -1] = 4.0
    expected = torch.tensor([0.0, 0, 0, 0, 0, 0, 4, 4]).sigmoid()
    torch.testing.assert_close(gate(module, x).flatten(), expected)


def test_eca_has_the_sigmoid_that_the_papers_listing_leaves_out() -> None:
    module = foveate.create("eca", 8)
    fill(module.conv, 100.0)
    assert (gate(module, torch.ones(1, 8, 2, 2)) <= 1).all()
