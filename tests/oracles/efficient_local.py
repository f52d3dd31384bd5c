"""Efficient Local Attention in NumPy, from Xu and Wan, section 3.

z_h is the mean of each row, z_w of each column. y_h = σ(GN(F(z_h))) and y_w = σ(GN(F(z_w))) with a one-dimensional
convolution F along the row or column index, zero outside, each channel by itself or eight together; the output is
x · y_h · y_w. The norm takes each group of channels of one signal together, over all of its places.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import Options, product
from tests.support.weights import fill, weights_of

POINTWISE = 16
PRINTED = {"tiny": (5, 1, 32), "base": (7, 1, 16), "small": (5, 8, 16), "large": (7, 8, 16)}
OPTIONS = product(variant=("tiny", "base", "small", "large"))
NORMS = False
EVERY = 2
VARIANTS = {
    "efficient_local:variant=large": 1,
}
REFUSED = [
    ("ela:variant=huge", {}, "variant must be one of 'tiny', 'base', 'small', 'large'"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    kernel, together, _ = PRINTED[options["variant"]]
    flat = round(4 * 1e-5**-0.5) if 1 in size else 0  # a variance of zero: the norm divides rounding by √1e-5
    return (max(size) + kernel * together + 2 * max(size) * channels + POINTWISE) + flat


def oracle(x: np.ndarray, state: dict[str, np.ndarray], *, training: bool = False, variant: str = "base") -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    rows = np.array([[channel.sum(1) / x.shape[3] for channel in sample] for sample in x])
    columns = np.array([[channel.sum(0) / x.shape[2] for channel in sample] for sample in x])
    return x * gate(rows, state, variant)[:, :, :, None] * gate(columns, state, variant)[:, :, None, :]


def gate(signal: np.ndarray, state: dict[str, np.ndarray], variant: str) -> np.ndarray:
    kernel, together, groups = PRINTED[variant]
    batch, channels, length = signal.shape
    together = max(n for n in range(1, together + 1) if channels % n == 0)
    groups = max(n for n in range(1, groups + 1) if channels % n == 0)
    weight = state["conv.weight"]
    assert weight.shape == (channels, together, kernel)
    assert set(state) == {"conv.weight", "gn.weight", "gn.bias"}
    out = np.zeros_like(signal)
    for c in range(channels):
        for n in range(together):
            for place in range(length):
                for tap in range(kernel):
                    seen = place + tap - (kernel - 1) // 2
                    if 0 <= seen < length:
                        out[:, c, place] += weight[c, n, tap] * signal[:, c // together * together + n, seen]
    width = channels // groups
    for b in range(batch):
        for g in range(groups):
            mine = slice(g * width, (g + 1) * width)
            centred = out[b, mine] - out[b, mine].sum() / out[b, mine].size
            out[b, mine] = centred / np.sqrt((centred**2).sum() / centred.size + 1e-5)
    logits = out * state["gn.weight"][:, None] + state["gn.bias"][:, None]
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize("variant", PRINTED)
def test_elas_variants_are_the_papers(variant: str) -> None:
    kernel, together, groups = PRINTED[variant]
    module = foveate.create("ela", 64, variant=variant)
    assert (module.conv.kernel_size, module.conv.groups, module.gn.num_groups) == ((kernel,), 64 // together, groups)
    assert module.conv.bias is None


def test_ela_keeps_all_channels() -> None:
    """No bottleneck, which is its point against coordinate attention."""
    assert foveate.create("ela", 64).conv.weight.shape == (64, 1, 7)


def test_ela_normalises_every_sample_by_itself() -> None:
    module = foveate.create("ela", 32).train()
    x = torch.randn(4, 32, 5, 6)
    torch.testing.assert_close(module(x)[:1], module(x[:1]))


def test_ela_gates_rows_and_columns_and_not_the_other_way_round() -> None:
    module = foveate.create("ela", 16)
    fill(module.conv, 0.0)
    with torch.no_grad():
        module.conv.weight[:, 0, 3] = 1.0  # the place itself
    x = torch.randn(2, 16, 1, 1).expand(2, 16, 5, 7).clone()
    x[:, :, 2] += 5
    weights = weights_of(module, x)
    assert weights["h_map"].shape == (2, 16, 5, 1)
    assert weights["w_map"].shape == (2, 16, 1, 7)
    assert (weights["h_map"].argmax(2) == 2).all()
    torch.testing.assert_close(weights["w_map"], torch.full_like(weights["w_map"], 0.5), rtol=1e-3, atol=1e-3)
