"""The contextual transformer in NumPy, from Li et al., section 3.2, with the layers of the released code.

K¹ = ReLU(BN(conv(x))) is the static context; A = GN(conv(ReLU(BN(conv([x, K¹]))))) has a kernel for each position and
group of channels; K² = SiLU(BN(A ⊛ BN(conv(x)))) sums the neighbours with it; a softmax in each channel joins the two.
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
from tests.support.convolution import convolved, normed
from tests.support.oracles import Options
from tests.support.weights import weights_of

EVERY = 5
OPTIONS: list[Options] = [{}, {"share_channels": 4}, {"key_groups": 2, "share_channels": 1}]
VARIANTS = {"contextual_transformer:share_channels=4": 1}
REFUSED = [
    ("contextual_transformer:share_channels=0", {}, "share_channels must be a whole number of at least 1"),
    ("contextual_transformer:key_groups=0", {}, "key_groups must be a whole number of at least 1"),
]
POINTWISE = 150  # norms, SiLU, softmax


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    positions = size[0] * size[1]
    layers = 9 * channels + 2 * channels + channels + 9 + channels + max(channels // 2, 32)
    return layers + 2 * 9 * positions + positions + (2 * 4 * 4 * positions if training else 0) + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    share_channels: int = 8,
    key_groups: int = 4,
    stride: int = 1,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    if stride > 1:
        ones = np.ones((x.shape[1], 1, 3, 3)) / 9
        x = np.stack([convolved(i, ones, stride=(stride, stride), padding=(1, 1), groups=len(i)) for i in x])
    batch, channels, height, width = x.shape

    def fitting(most: int) -> int:
        return max(n for n in range(1, most + 1) if channels % n == 0)

    def pointwise(z: np.ndarray, name: str) -> np.ndarray:
        y = np.einsum("oc,bchw->bohw", state[f"{name}.weight"][:, :, 0, 0], z)
        return y + state[f"{name}.bias"][:, None, None] if f"{name}.bias" in state else y

    key = state["key_embed.0.weight"]
    static = np.stack([convolved(image, key, padding=(1, 1), groups=fitting(key_groups)) for image in x])
    static = np.maximum(normed(static, state, "key_embed.1", training), 0)
    hidden = pointwise(np.concatenate([x, static], 1), "embed.0")
    logits = pointwise(np.maximum(normed(hidden, state, "embed.1", training), 0), "embed.3")
    groups = channels // fitting(share_channels)
    kernels = logits.reshape(batch, groups, -1)
    mean = kernels.sum(2, keepdims=True) / kernels.shape[2]
    variance = ((kernels - mean) ** 2).sum(2, keepdims=True) / kernels.shape[2]
    kernels = ((kernels - mean) / np.sqrt(variance + 1e-5)).reshape(batch, groups * 9, height, width)
    kernels = kernels * state["embed.4.weight"][:, None, None] + state["embed.4.bias"][:, None, None]
    value = normed(pointwise(x, "conv1x1.0"), state, "conv1x1.1", training)
    summed = np.zeros_like(value)
    for c in range(channels):
        for row in range(3):
            for column in range(3):
                kernel = kernels[:, (c % groups) * 9 + row * 3 + column]
                for p in range(height):
                    for q in range(width):
                        r, s = p + row - 1, q + column - 1
                        if 0 <= r < height and 0 <= s < width:
                            summed[:, c, p, q] += kernel[:, p, q] * value[:, c, r, s]
    summed = normed(summed, state, "bn", training)
    dynamic = summed / (1 + np.exp(-summed))
    means = ((static + dynamic).sum((2, 3)) / (height * width))[:, :, None, None]
    context = np.maximum(normed(pointwise(means, "se.0"), state, "se.1", training), 0)
    votes = np.exp(pointwise(context, "se.3")[:, :, 0, 0])
    y = np.zeros_like(x)
    for c in range(channels):
        share = votes[:, 2 * c] / (votes[:, 2 * c] + votes[:, 2 * c + 1])
        y[:, c] = share[:, None, None] * dynamic[:, c] + (1 - share)[:, None, None] * static[:, c]
    return y


@pytest.mark.parametrize(("depth", "millions"), [(50, 22.2), (101, 38.3)])
def test_contextual_transformer_has_the_parameters_of_the_published_cotnets(depth: int, millions: float) -> None:
    """README of JDAI-CV/CoTNet; its bottlenecks have no norm behind it, as it ends in sums of normalised maps."""
    with torch.device("meta"):
        model = getattr(torchvision.models, f"resnet{depth}")(weights=None)
    total = sum(p.numel() for p in model.parameters())
    for conv in model.modules():
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3):
            with torch.device("meta"):
                module = foveate.create("contextual_transformer", ConvShape.of(conv))
            total += sum(p.numel() for p in module.parameters()) - conv.weight.numel() - 2 * conv.out_channels
    assert round(total / 1e6, 1) == millions


def test_contextual_transformer_looks_at_neighbours_and_not_at_all_positions() -> None:
    """Its weights are those of a 3×3 kernel, and no softmax: some are negative, and they do not add up to one."""
    module = foveate.create("contextual_transformer", 16)
    weights = weights_of(module, torch.randn(2, 16, 5, 6))["local_map"]
    assert weights.shape == (2, 2, 9, 5, 6)
    assert (weights < 0).any()
    assert not torch.allclose(weights.sum(2), torch.ones(2, 2, 5, 6))


def test_contextual_transformer_weighs_its_two_contexts_by_a_softmax() -> None:
    shares = weights_of(foveate.create("contextual_transformer", 16), torch.randn(2, 16, 5, 6))["branch_map"]
    assert shares.shape == (2, 16, 2)
    torch.testing.assert_close(shares.sum(2), torch.ones(2, 16))


@pytest.mark.parametrize("size", [(7, 5), (6, 8)])
def test_contextual_transformer_strides_by_a_mean_of_nine(size: tuple[int, int]) -> None:
    shape = ConvShape(8, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))
    module = foveate.create("contextual_transformer", shape, dtype=torch.float64).eval()
    state = {key: value.numpy().copy() for key, value in module.state_dict().items() if value.dim()}
    x = np.random.default_rng(0).normal(size=(2, 8, *size))
    with torch.no_grad():
        found = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, oracle(x, state, stride=2), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        (ConvShape(8, 16, kernel_size=(3, 3), padding=(1, 1)), "returns as many channels as it is given"),
        (ConvShape(8, 8, kernel_size=(3, 3), padding=(1, 1), groups=2), "has groups of its own"),
        (ConvShape(8, 8, kernel_size=(3, 3)), "needs the padding 1×1, not 0×0"),
    ],
)
def test_contextual_transformer_refuses_convolutions_that_it_cannot_stand_for(shape: ConvShape, why: str) -> None:
    with pytest.raises(OptionError, match=why):
        foveate.create("contextual_transformer", shape)
