"""Involution in NumPy, from Li et al., equations 4 to 6.

H_p = W₁ σ(W₀ x_p) with batch normalisation before the ReLU σ, one kernel of K×K for each of G groups at position p;
y_(c,p) = Σ_t H_(p,t,⌈cG/C⌉) x_(c,p+t). With a stride, x_p is the mean of the positions that the output stands for.
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
from tests.support.convolution import normed
from tests.support.oracles import EPS, Options, randomise
from tests.support.weights import fill, gate

POINTWISE = 40  # norm
EVERY = 5
OPTIONS: list[Options] = [
    {},
    {"kernel_size": 5},
    {"group_channels": 4, "reduction": 2},
    {"group_channels": 1, "kernel_size": 1},
]
VARIANTS = {"involution:group_channels=4,kernel_size=5": 1}
REFUSED = [
    ("involution:kernel_size=4", {}, "kernel_size must be odd"),
    ("involution:group_channels=0", {}, "group_channels must be a whole number of at least 1"),
    ("involution:reduction=0", {}, "reduction must be a whole number of at least 1"),
]
RENAMES = {"conv1.conv.": "reduce.", "conv1.bn.": "norm.", "conv2.conv.": "span."}


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    hidden = max(1, channels // options.get("reduction", 4))
    side = options.get("kernel_size") or 3
    return channels + hidden + side**2 + (2 * 4 * size[0] * size[1] if training else 0) + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    kernel_size: int | None = None,
    group_channels: int = 16,
    reduction: int = 4,
    stride: tuple[int, int] = (1, 1),
    dilation: int = 1,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    side = kernel_size or 3
    each = max(n for n in range(1, group_channels + 1) if channels % n == 0)
    hidden = max(1, channels // reduction)
    assert state["reduce.weight"].shape == (hidden, channels, 1, 1)
    high, broad = -(-height // stride[0]), -(-width // stride[1])
    means = np.zeros((batch, channels, high, broad))
    for p in range(high):
        for q in range(broad):
            cells = x[:, :, p * stride[0] : (p + 1) * stride[0], q * stride[1] : (q + 1) * stride[1]]
            means[:, :, p, q] = cells.sum((2, 3)) / (cells.shape[2] * cells.shape[3])
    context = np.einsum("oc,bchw->bohw", state["reduce.weight"][:, :, 0, 0], means)
    context = np.maximum(normed(context, state, "norm", training), 0)
    kernels = np.einsum("oc,bchw->bohw", state["span.weight"][:, :, 0, 0], context)
    kernels = kernels + state["span.bias"][:, None, None]
    y = np.zeros((batch, channels, high, broad))
    for c in range(channels):
        for row in range(side):
            for column in range(side):
                kernel = kernels[:, (c // each) * side**2 + row * side + column]
                for p in range(high):
                    for q in range(broad):
                        r = p * stride[0] + (row - side // 2) * dilation
                        s = q * stride[1] + (column - side // 2) * dilation
                        if 0 <= r < height and 0 <= s < width:
                            y[:, c, p, q] += kernel[:, p, q] * x[:, c, r, s]
    return y


@pytest.mark.parametrize(("stride", "dilation"), [((2, 2), 1), ((3, 2), 1), ((1, 1), 2), ((2, 1), 2)])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (6, 8)])
def test_involution_strides_over_odd_sizes(stride: tuple[int, int], dilation: int, size: tuple[int, int]) -> None:
    """The authors' code raises where the stride does not divide the size: it has fewer kernels than positions."""
    shape = ConvShape(
        6, 6, kernel_size=(3, 3), stride=stride, padding=(dilation, dilation), dilation=(dilation, dilation)
    )
    module = foveate.create("involution", shape, group_channels=2, dtype=torch.float64).eval()
    generator = np.random.default_rng(0)
    randomise(module, generator)
    state = {key: value.numpy().copy() for key, value in module.state_dict().items() if value.dim()}
    x = generator.normal(size=(2, 6, *size))
    expected = oracle(x, state, group_channels=2, stride=stride, dilation=dilation)
    with torch.no_grad():
        found = module(torch.from_numpy(x)).numpy()
    assert found.shape == expected.shape == (2, 6, *shape.out_size(size))
    assert np.abs(found - expected).max() <= EPS * 100 * np.abs(expected).max()


@pytest.mark.parametrize(("depth", "blocks", "millions"), [(50, (3, 4, 6, 3), 15.54), (101, (3, 4, 23, 3), 25.65)])
def test_involution_has_the_parameters_of_the_published_rednets(
    depth: int, blocks: tuple[int, ...], millions: float
) -> None:
    """README of d-li14/involution: 7×7 in every block, and a stem of 3×3 convolutions around one involution."""
    with torch.device("meta"):
        model = getattr(torchvision.models, f"resnet{depth}")(weights=None)
        stem = [
            nn.Conv2d(3, 32, 3, bias=False),
            nn.BatchNorm2d(32),
            foveate.create("involution", 32),
            nn.BatchNorm2d(32),
            nn.Conv2d(32, 64, 3, bias=False),
        ]

    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    total = count(model) - count(model.conv1) + sum(map(count, stem))
    replaced = 0
    for conv in model.modules():
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3):
            with torch.device("meta"):
                total += count(foveate.create("involution", ConvShape.of(conv), kernel_size=7)) - count(conv)
            replaced += 1
    assert replaced == sum(blocks)
    assert round(total / 1e6, 2) == millions


def test_involution_shares_a_kernel_among_the_most_channels_that_fit() -> None:
    groups = {c: foveate.create("involution", c).groups for c in (1, 7, 16, 24, 34, 64)}
    assert groups == {1: 1, 7: 1, 16: 1, 24: 2, 34: 17, 64: 4}


def test_involution_shows_a_kernel_for_each_position() -> None:
    x = torch.randn(2, 32, 5, 6)
    assert gate(foveate.create("involution", 32), x).shape == (2, 2, 9, 5, 6)
    assert gate(foveate.create("involution", ConvShape.same(32, 7)), x).shape == (2, 2, 49, 5, 6)


@pytest.mark.parametrize("bias", [False, True])
def test_involution_takes_over_a_depthwise_convolution(bias: bool) -> None:
    shape = ConvShape(6, 6, kernel_size=(3, 5), stride=(2, 1), padding=(1, 2), groups=6, bias=bias)
    module = foveate.create("involution", shape, group_channels=1, dtype=torch.float64)
    conv = shape.convolution().double()
    assert module.take_over(conv) is None
    x = torch.randn(4, 6, 7, 8, dtype=torch.float64)
    torch.testing.assert_close(module(x), conv(x))
    assert not stuck_at_start(module.train(), x)


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        (ConvShape(8, 16, kernel_size=(3, 3), padding=(1, 1)), "returns as many as it is given"),
        (ConvShape(8, 8, kernel_size=(3, 3)), "needs the padding 1×1, not 0×0"),
        (ConvShape(8, 8, kernel_size=(2, 2), stride=(2, 2)), "has no cell in its middle"),
    ],
)
def test_involution_refuses_convolutions_that_it_cannot_stand_for(shape: ConvShape, why: str) -> None:
    with pytest.raises(OptionError, match=why):
        foveate.create("involution", shape)


def test_involution_has_a_norm_and_a_relu_between_its_two_layers() -> None:
    """A copy has neither norm: there the kernels are those of the features' size."""
    module = foveate.create("involution", 8, group_channels=8).eval()
    torch.nn.init.normal_(module.span.bias)
    fill(module.norm, 0.0)
    fill(module.norm, -1.0, "bias")  # nothing passes the ReLU behind it
    weights = gate(module, torch.randn(2, 8, 4, 5))
    torch.testing.assert_close(weights, module.span.bias.detach()[:, None, None].expand_as(weights))
    fill(module.norm, 1.0, "bias")
    weights = gate(module, torch.randn(2, 8, 4, 5))
    expected = module.span.weight.detach().sum((1, 2, 3)) + module.span.bias.detach()
    torch.testing.assert_close(weights, expected[:, None, None].expand_as(weights))
