"""Circular efficient channel attention in NumPy: Wang et al., section 3, on a ring of channels, as timm describes it.

Each channel's weight comes from the means of its k neighbours in channel order, itself among them, with weights that
all channels share; beyond the last channel comes the first. k is that of the paper's equation 12, and at least 3.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import Options, product
from tests.support.weights import fill, gate

POINTWISE = 16  # sigmoid
OPTIONS = product(kernel_size=(None, 1, 3, 5, 9))
NORMS = False
VARIANTS = {
    "efficient_channel_circular:kernel_size=9": 1,
}
REFUSED = [
    ("ceca:kernel_size=4", {}, "3 and 5"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    return size[0] * size[1] + (options.get("kernel_size") or 7) + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    kernel_size: int | None = None,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, _, _ = x.shape
    weight = state["conv.weight"].reshape(-1)
    k = kernel_size or (3 if channels < 128 else 5)  # equation 12: 5 from 128 channels on
    assert weight.shape == (k,)
    y = np.empty_like(x)
    for b in range(batch):
        means = [x[b, c].sum() / x[b, c].size for c in range(channels)]
        for c in range(channels):
            logit = sum(weight[j] * means[(c + j - (k - 1) // 2) % channels] for j in range(k))
            y[b, c] = x[b, c] / (1 + np.exp(-logit))
    return y


@pytest.mark.parametrize(("channels", "size"), [(1, 3), (2, 3), (127, 3), (128, 5), (2047, 5), (2048, 7)])
def test_ceca_has_a_kernel_of_at_least_three(channels: int, size: int) -> None:
    with torch.device("meta"):
        assert foveate.create("ceca", channels).conv.kernel_size == (size,)


def test_ceca_joins_the_last_channel_to_the_first() -> None:
    module = foveate.create("ceca", 8, kernel_size=3)
    fill(module.conv, 1.0)
    x = torch.zeros(1, 8, 2, 2)
    x[:, -1] = 4.0
    expected = torch.tensor([4.0, 0, 0, 0, 0, 0, 4, 4]).sigmoid()
    torch.testing.assert_close(gate(module, x).flatten(), expected)


def test_ceca_turns_its_output_when_the_channels_turn() -> None:
    module = foveate.create("ceca", 7)
    x = torch.randn(2, 7, 3, 4)
    torch.testing.assert_close(module(x.roll(3, 1)), module(x).roll(3, 1))
