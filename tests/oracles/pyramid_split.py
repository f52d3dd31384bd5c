"""Pyramid split attention in NumPy, from Zhang et al., equations 3 to 9, and the order of the released code.

F_i = W_i * x for kernels that grow; Z_i = σ(W₁ ReLU(W₀ mean(F_i))), the layers the same for all i; att = softmax_i(Z);
the output is att_i ⊙ F_i, last branch first.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import foveate
from foveate.errors import OptionError
from foveate.replacement import ConvShape
from foveate.testing.gradients import stuck_at_start
from tests.support.convolution import convolved
from tests.support.oracles import Options
from tests.support.weights import gate

POINTWISE = 40  # sigmoid, softmax
NORMS = False
CHANNELS = (4, 8, 16, 64)
EVERY = 5
OPTIONS: list[Options] = [
    {},
    {"kernels": (3, 5), "groups": (1, 2)},
    {"reduction": 4, "kernels": (1, 3, 3, 5)},
    {"groups": (1, 1, 1, 1)},
]
VARIANTS = {"pyramid_split:groups=1+1,kernels=3+5": 1}
REFUSED = [
    ("pyramid_split", {"channels": 6}, "6 channels cannot be split into 4 branches; the nearest that can: 4 and 8"),
    ("pyramid_split:kernels=3+4+5+7", {}, "each of kernels must be odd"),
    ("pyramid_split:kernels=3+5", {}, "each branch needs a kernel and groups, and there are 2 and 4"),
    ("pyramid_split:kernels=3", {}, "kernels must be whole numbers, one for each branch"),
    ("pyramid_split:groups=1+0+1+1", {}, "each of groups must be a whole number of at least 1"),
    ("pyramid_split:reduction=0", {}, "reduction must be a whole number of at least 1"),
]
RENAMES = {
    "conv_1.": "branches.0.",
    "conv_2.": "branches.1.",
    "conv_3.": "branches.2.",
    "conv_4.": "branches.3.",
    "se.fc1.": "reduce.",
    "se.fc2.": "expand.",
}


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    each = channels // len(options.get("kernels", (3, 5, 7, 9)))
    return 81 * channels + size[0] * size[1] + 2 * each + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    kernels: tuple[int, ...] = (3, 5, 7, 9),
    groups: tuple[int, ...] = (1, 4, 8, 16),
    reduction: int = 16,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    each = channels // len(kernels)
    assert state["reduce.weight"].shape == (max(1, each // reduction), each)
    parts, logits = [], []
    for i, (side, most) in enumerate(zip(kernels, groups, strict=True)):
        fitting = max(g for g in range(1, most + 1) if channels % g == 0 and each % g == 0)
        kernel = state[f"branches.{i}.weight"]
        padding = (side // 2, side // 2)
        part = np.stack([convolved(image, kernel, padding=padding, groups=fitting) for image in x])
        hidden = part.sum((2, 3)) / (height * width) @ state["reduce.weight"].T + state["reduce.bias"]
        weight = np.maximum(hidden, 0) @ state["expand.weight"].T + state["expand.bias"]
        parts.append(part)
        logits.append(np.exp(1 / (1 + np.exp(-weight))))
    y = np.zeros((batch, channels, height, width))
    for i in range(len(kernels)):
        place = len(kernels) - 1 - i
        share = logits[i] / sum(logits)
        y[:, place * each : (place + 1) * each] = share[:, :, None, None] * parts[i]
    return y


@pytest.mark.parametrize(("depth", "millions"), [(50, 22.56), (101, 38.90)])
def test_pyramid_split_has_the_parameters_of_the_published_epsanets(depth: int, millions: float) -> None:
    """README of murufeng/EPSANet, the small networks: in place of every 3×3 convolution in a bottleneck."""
    with torch.device("meta"):
        model = getattr(torchvision.models, f"resnet{depth}")(weights=None)
    total = sum(p.numel() for p in model.parameters())
    for conv in model.modules():
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3):
            with torch.device("meta"):
                module = foveate.create("pyramid_split", ConvShape.of(conv))
            total += sum(p.numel() for p in module.parameters()) - conv.weight.numel()
    assert abs(total / 1e6 - millions) < 0.01


def test_pyramid_split_registers_its_branches() -> None:
    """A copy that many use keeps its layers in plain lists: no optimiser sees them, and no checkpoint holds them."""
    module = foveate.create("pyramid_split", 64)
    named = dict(module.named_parameters())
    assert [named[f"branches.{i}.weight"].shape for i in range(4)] == [
        (16, 64, 3, 3),
        (16, 16, 5, 5),
        (16, 8, 7, 7),
        (16, 4, 9, 9),
    ]
    assert set(named) == set(module.state_dict())


def test_pyramid_split_takes_a_leaf_and_leaves_it_as_it_was() -> None:
    """The same copy writes into its input, and so raises on a tensor that wants a gradient."""
    x = torch.randn(2, 16, 5, 6, requires_grad=True)
    before = x.detach().clone()
    foveate.create("pyramid_split", 16)(x).sum().backward()
    assert torch.equal(x.detach(), before)
    assert x.grad is not None


def test_pyramid_split_weighs_all_branches_with_the_same_layers() -> None:
    module = foveate.create("pyramid_split", 64)
    assert sum(p.numel() for name, p in module.named_parameters() if "branches" not in name) == 16 + 1 + 16 + 16


def test_pyramid_split_puts_the_last_branch_first() -> None:
    module = foveate.create("pyramid_split", 8).eval()
    nn.init.zeros_(module.get_parameter("branches.3.weight"))
    silent = module(torch.randn(2, 8, 5, 6)).abs().amax((0, 2, 3)) == 0
    assert silent.tolist() == [True] * 2 + [False] * 6


def test_pyramid_split_softmaxes_what_a_sigmoid_has_bounded() -> None:
    """So that a branch never counts for more than e times another."""
    module = foveate.create("pyramid_split", 16)
    nn.init.normal_(module.get_parameter("expand.weight"), std=1000)
    weights = gate(module, torch.randn(4, 16, 5, 6))
    torch.testing.assert_close(weights.sum(1), torch.ones(4, 4))
    assert (weights.amax(1) / weights.amin(1)).max() < 2.7183


@pytest.mark.parametrize("stride", [1, 2])
def test_pyramid_split_takes_over_a_convolution_where_it_can(stride: int) -> None:
    torch.manual_seed(0)
    shape = ConvShape(6, 8, kernel_size=(3, 1), stride=(stride, stride), padding=(1, 0), bias=True)
    module = foveate.create("pyramid_split", shape, groups=(1, 1, 1, 1), dtype=torch.float64)
    conv = shape.convolution().double()
    assert module.take_over(conv) is None
    x = torch.randn(4, 6, 7, 8, dtype=torch.float64)
    torch.testing.assert_close(module(x), conv(x))
    assert not stuck_at_start(module.train(), x)
    narrow = foveate.create("pyramid_split", shape, groups=(1, 1), kernels=(1, 3), dtype=torch.float64)
    assert "smaller kernel" in str(narrow.take_over(conv))


def test_pyramid_split_refuses_a_convolution_of_groups() -> None:
    with pytest.raises(OptionError, match="have groups of their own"):
        foveate.create("pyramid_split", ConvShape(8, 8, kernel_size=(3, 3), padding=(1, 1), groups=2))
