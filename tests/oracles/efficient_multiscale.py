"""Efficient Multi-Scale Attention in NumPy, from Ouyang et al., section 3 and its figure 3.

In each of G groups of channels, with the same weights: the means of rows and of columns pass a 1×1 convolution and a
sigmoid and multiply the features, which are normalised, each channel over its positions (u); beside it the features
pass a 3×3 convolution (v). The means of u, softmax over the group's channels, weigh the channels of v, and the other
way round; the sum of both through a sigmoid multiplies the group's features.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision

import foveate
from foveate.errors import OptionError
from foveate.measure import count_macs
from foveate.surgery import attach
from tests.support.oracles import Options, product
from tests.support.weights import gate

POINTWISE = 32  # three sigmoids, scale, shift, softmax
OPTIONS = product(factor=(None, 1))
CHANNELS = (1, 3, 7, 16, 64)
NORMS = False
EVERY = 4
VARIANTS = {
    "efficient_multiscale:factor=2": 1,
}
REFUSED = [
    (
        "ema:factor=3",
        {},
        "16 channels cannot be split into factor=3.*15 and 18 channels; for 16 it may be 2 or 4",
    ),
    ("ema:factor=0", {}, "factor must be a whole number of at least 1"),
]
RESNETS = [
    (50, "efficient_multiscale", 25_755_400),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    width = channels if options["factor"] else max(1, channels // 32)
    positions = size[0] * size[1]
    flat = round(2 * 1e-5**-0.5) if positions == 1 else 0  # a variance of zero: the norm divides rounding by √1e-5
    return 11 * width + 4 * positions + flat + POINTWISE


def oracle(
    x: np.ndarray, state: dict[str, np.ndarray], *, training: bool = False, factor: int | None = None
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    channels = x.shape[1]
    groups = max(g for g in range(1, 33) if channels % g == 0) if factor is None else factor
    width = channels // groups
    assert state["conv1x1.weight"].shape == (width, width, 1, 1)
    y = np.empty_like(x)
    for b in range(len(x)):
        for g in range(groups):
            mine = slice(g * width, (g + 1) * width)
            y[b, mine] = x[b, mine] * sigmoid(logits(x[b, mine], state))
    return y


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def logits(x: np.ndarray, state: dict[str, np.ndarray]) -> np.ndarray:
    width, height, columns = x.shape
    weight, bias = state["conv1x1.weight"][:, :, 0, 0], state["conv1x1.bias"]
    u = x.copy()
    for i in range(height):
        u[:, i] *= sigmoid(weight @ (x[:, i].sum(1) / columns) + bias)[:, None]
    for j in range(columns):
        u[:, :, j] *= sigmoid(weight @ (x[:, :, j].sum(1) / height) + bias)[:, None]
    for c in range(width):
        centred = u[c] - u[c].sum() / u[c].size
        normal = centred / np.sqrt((centred**2).sum() / centred.size + 1e-5)
        u[c] = normal * state["gn.weight"][c] + state["gn.bias"][c]

    kernel = state["conv3x3.weight"]
    padded = np.zeros((width, height + 2, columns + 2))
    padded[:, 1:-1, 1:-1] = x
    v = np.zeros_like(x) + state["conv3x3.bias"][:, None, None]
    for i in range(height):
        for j in range(columns):
            window = padded[:, i : i + 3, j : j + 3]
            v[:, i, j] += (kernel * window).sum((1, 2, 3))

    total = np.zeros((height, columns))
    for asking, asked in ((u, v), (v, u)):
        means = asking.sum((1, 2)) / (height * columns)
        share = np.exp(means - means.max())
        share /= share.sum()
        for c in range(width):
            total += share[c] * asked[c]
    return total


def test_ema_has_the_authors_32_groups_where_they_fit_and_the_most_that_do_elsewhere() -> None:
    found = {c: foveate.create("ema", c).groups for c in (1, 7, 16, 48, 64, 256, 2048)}
    assert found == {1: 1, 7: 7, 16: 16, 48: 24, 64: 32, 256: 32, 2048: 32}


def test_ema_with_the_authors_factor_says_why_48_channels_fail() -> None:
    with pytest.raises(OptionError, match="32 and 64 channels; for 48 it may be 24 or 48"):
        foveate.create("ema", 48, factor=32)


def test_ema_gates_all_channels_of_a_group_alike_and_the_groups_apart() -> None:
    module = foveate.create("ema", 16, factor=4)
    x = torch.randn(2, 16, 5, 6)
    weights = gate(module, x)
    assert weights.shape == (2, 4, 5, 6)
    torch.testing.assert_close(module(x), x * weights.repeat_interleave(4, 1))


def test_ema_weighs_each_branch_by_the_other() -> None:
    """The softmax runs over channels: with equal means it is their average, of both branches."""
    module = foveate.create("ema", 4, factor=1)
    with torch.no_grad():
        module.gn.weight.zero_()
        module.gn.bias.zero_()
        module.conv3x3.weight.zero_()
        module.conv3x3.bias.copy_(torch.tensor([4.0, 0.0, 0.0, 0.0]))
    weights = gate(module, torch.randn(1, 4, 3, 3))
    torch.testing.assert_close(weights, torch.full_like(weights, 1.0).sigmoid())


def test_ema_runs_on_one_sample_of_one_position() -> None:
    assert foveate.create("ema", 1).eval()(torch.randn(1, 1, 1, 1)).isfinite().all()


def test_ema_normalises_every_channel_of_a_group_by_itself() -> None:
    module = foveate.create("ema", 8, factor=2)
    assert (module.gn.num_groups, module.gn.num_channels) == (4, 4)
    x = torch.randn(1, 8, 5, 6)
    gated = module.gather(x).gated
    torch.testing.assert_close(gated.mean((2, 3)), torch.zeros(2, 4), rtol=0, atol=1e-5)
    assert ((gated.var((2, 3), correction=0) - 1).abs() < 1e-2).all()


def test_ema_in_resnet_50_has_the_multiply_accumulates_of_its_convolutions_and_of_its_products() -> None:
    """5.0276 billion in convolutions and linear layers; each branch's product takes one for every feature beside."""
    x = torch.empty(1, 3, 224, 224, device="meta")
    with torch.device("meta"):
        model = torchvision.models.resnet50(weights=None).eval()
    attach(model, "ema", start="paper", example=x)
    stages = ((3, 256, 56), (4, 512, 28), (6, 1024, 14), (3, 2048, 7))
    products = sum(2 * blocks * channels * side**2 for blocks, channels, side in stages)
    assert f"{(count_macs(model, x) - products) / 1e9:.4f}" == "5.0276"
