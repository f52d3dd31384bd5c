"""Selective kernel in NumPy, from Li et al., section 3.1 (equations 1 to 6).

Split: Ũ = F̃(X), Û = F̂(X), each convolution, batch normalisation, ReLU; the 5×5 is a 3×3 of dilation 2.
Fuse: U = Ũ + Û, s_c = mean(U_c), z = δ(B(W s)) with d = max(C / r, L) units.
Select: a_c = e^{A_c z} / (e^{A_c z} + e^{B_c z}), V_c = a_c Ũ_c + b_c Û_c.
"""

from __future__ import annotations

import numpy as np
import timm
import torch
import torchvision
from torch import nn

import foveate
from foveate.replacement import ConvShape
from tests.support.convolution import convolved, normed
from tests.support.oracles import Options
from tests.support.weights import fill, gate

POINTWISE = 60  # two norms, softmax
EVERY = 5
OPTIONS: list[Options] = [{}, {"branches": 3, "reduction": 2, "min_hidden": 3}]
VARIANTS = {"selective_kernel:branches=3": 1}
REFUSED = [
    ("sk:branches=1", {}, "branches must be a whole number of at least 2"),
    ("sk:min_hidden=0", {}, "min_hidden must be a whole number of at least 1"),
]
RENAMES = {
    "paths.": "branches.",
    ".conv.": ".0.",
    "attn.bn.": "norm.",
    ".bn.": ".1.",
    "attn.fc_reduce.": "reduce.",
    "attn.fc_select.": "select.",
}


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    hidden = max(channels // options.get("reduction", 16), options.get("min_hidden", 32))
    return 10 * size[0] * size[1] + 10 * channels + hidden + options.get("branches", 2) + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    branches: int = 2,
    reduction: int = 16,
    min_hidden: int = 32,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    split: list[np.ndarray] = []
    for m in range(branches):
        reach = (m + 1, m + 1)
        kernel = state[f"branches.{m}.0.weight"]
        maps = np.stack([convolved(x[b], kernel, padding=reach, dilation=reach) for b in range(batch)])
        split.append(np.maximum(normed(maps, state, f"branches.{m}.1", training), 0))
    fused = sum(split).sum((2, 3)) / (height * width)
    assert state["reduce.weight"].shape == (max(channels // reduction, min_hidden), channels)
    z = np.maximum(normed(fused @ state["reduce.weight"].T, state, "norm", training), 0)
    y = np.zeros_like(x)
    for b in range(batch):
        for c in range(channels):
            odds = [np.exp(state["select.weight"][m * channels + c] @ z[b]) for m in range(branches)]
            for m in range(branches):
                y[b, c] += odds[m] / sum(odds) * split[m][b, c]
    return y


def selective(model: nn.Module) -> int:
    """Parameters of a network whose 3×3 convolutions, with the norms behind them, are selective kernels."""
    total = sum(p.numel() for p in model.parameters())
    for conv in model.modules():
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3):
            module = foveate.create("sk", ConvShape.of(conv))
            total += sum(p.numel() for p in module.parameters()) - conv.weight.numel() - 2 * conv.out_channels
    return total


def test_selective_kernel_has_the_parameters_of_the_published_sknet50() -> None:
    """27.5 M in the paper's table 2; timm's skresnext50_32x4d has the same blocks."""
    with torch.device("meta"):
        ours = selective(torchvision.models.resnext50_32x4d(weights=None))
        theirs = sum(p.numel() for p in timm.create_model("skresnext50_32x4d").parameters())
    assert ours == theirs
    assert round(ours / 1e6, 1) == 27.5


def test_selective_kernel_has_no_bias_but_the_norms() -> None:
    module = foveate.create("sk", ConvShape(8, 8, kernel_size=(3, 3), padding=(1, 1), bias=True))
    biased = [name for name, _ in module.named_parameters() if name.endswith("bias")]
    assert biased == ["branches.0.1.bias", "branches.1.1.bias", "norm.bias"]


def test_selective_kernel_reaches_five_positions_with_a_dilated_three() -> None:
    module = foveate.create("sk", 4)
    assert [(branch[0].kernel_size, branch[0].dilation) for branch in module.branches] == [
        ((3, 3), (1, 1)),
        ((3, 3), (2, 2)),
    ]


def test_selective_kernel_has_at_least_thirty_two_hidden_units() -> None:
    assert [foveate.create("sk", c).reduce.out_features for c in (16, 512, 1024)] == [32, 32, 64]


def test_selective_kernel_shares_add_up_to_one() -> None:
    weights = gate(foveate.create("sk", 6).eval(), torch.randn(2, 6, 5, 5))
    assert weights.shape == (2, 2, 6)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 6))


def test_selective_kernel_says_why_it_refuses_a_convolution() -> None:
    for shape, sentence in (
        (ConvShape(4, 4), "one position"),
        (ConvShape(4, 4, kernel_size=(2, 2)), "no centre"),
    ):
        try:
            foveate.create("sk", shape)
        except foveate.FoveateError as error:
            assert sentence in str(error)
        else:
            raise AssertionError(shape)


def test_selective_kernel_has_a_norm_and_a_relu_in_its_bottleneck() -> None:
    """Where nothing passes the ReLU, all branches have equal shares; copies without it give others."""
    module = foveate.create("sk", 8).eval()
    fill(module.norm, 0.0)
    fill(module.norm, -1.0, "bias")
    weights = gate(module, torch.randn(2, 8, 5, 5))
    torch.testing.assert_close(weights, torch.full_like(weights, 0.5))


def test_selective_kernel_has_the_groups_and_the_stride_of_the_convolution_it_stands_for() -> None:
    """A copy has 32 groups whatever the channels, so that 48 fail, and no stride."""
    shape = ConvShape(48, 48, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), groups=3)
    module = foveate.create("sk", shape)
    assert [branch[0].groups for branch in module.branches] == [3, 3]
    assert module(torch.randn(2, 48, 7, 8)).shape == (2, 48, 4, 4)


def test_selective_kernel_trains_on_one_sample() -> None:
    assert foveate.create("sk", 8).train()(torch.randn(1, 8, 5, 5)).isfinite().all()
