"""Attentional feature fusion in NumPy, from Dai et al., Attentional Feature Fusion, sections 3.2 and 3.3.

M(U) = σ(L(U) + G(U)), L a bottleneck of 1×1 convolutions at every position (equation 3), G the same with weights of its
own on the mean over positions. Z = M(X + Y) ⊗ X + (1 - M(X + Y)) ⊗ Y (equation 4), twice that in the released code.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from foveate.errors import FoveateError
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import fill, filled, weights_of

POINTWISE = 20  # sum, sigmoid, scale, shift, weighted sum
OPTIONS = product(reduction=(1, 4, 5), doubled=(True, False))
EVERY = 3
VARIANTS = {
    "attentional_fusion:reduction=32": 1,
    "attentional_fusion:doubled=false": 1,
}
REFUSED = [
    ("aff:reduction=0", {}, "at least 1"),
    ("aff:doubled=2", {}, "true or false"),
    ("aff", {"partner_channels": 3}, "equal channels"),
]
RENAMES = {
    "local_att.": "context.here.",
    "global_att.1.": "context.everywhere.0.",
    "global_att.2.": "context.everywhere.1.",
    "global_att.4.": "context.everywhere.3.",
    "global_att.5.": "context.everywhere.4.",
}


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    positions = size[0] * size[1]
    statistics = 2 * 2 * BATCH * positions if training else 0
    # of few values with an offset the deviation is a part of their size: each of two norms magnifies what came before
    magnified = 4**2 if training else 1
    return (positions + 2 * channels + POINTWISE) * magnified + statistics


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    partner: np.ndarray,
    training: bool = False,
    reduction: int = 4,
    doubled: bool = True,
) -> np.ndarray:
    """What becomes of `x` and `partner`, of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    hidden = max(1, channels // reduction)
    total = x + partner
    here = [[total[b, :, i, j] for i in range(height) for j in range(width)] for b in range(batch)]
    means = [[sum(vectors) / len(vectors)] for vectors in here]
    local = bottleneck(here, state, "context.here", hidden, training)
    everywhere = bottleneck(means, state, "context.everywhere", hidden, training)
    z = np.empty_like(x)
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                m = 1 / (1 + np.exp(-(local[b][i * width + j] + everywhere[b][0])))
                z[b, :, i, j] = m * x[b, :, i, j] + (1 - m) * partner[b, :, i, j]
    return 2 * z if doubled else z


def bottleneck(
    samples: list[list[np.ndarray]], state: dict[str, np.ndarray], name: str, hidden: int, training: bool
) -> list[list[np.ndarray]]:
    """Every vector to fewer channels and back, with a norm after either convolution and ReLU between them."""
    for step, (convolution, norm, width) in enumerate((("0", "1", hidden), ("3", "4", samples[0][0].size))):
        weight, bias = state[f"{name}.{convolution}.weight"], state[f"{name}.{convolution}.bias"]
        assert weight.shape == (width, samples[0][0].size, 1, 1)
        samples = [[weight[:, :, 0, 0] @ vector + bias for vector in vectors] for vectors in samples]
        every = np.array([vector for vectors in samples for vector in vectors])
        mean, variance = state[f"{name}.{norm}.running_mean"], state[f"{name}.{norm}.running_var"]
        if training and len(every) > 1:  # of one value there are no statistics (named on the card)
            mean, variance = every.mean(0), ((every - every.mean(0)) ** 2).mean(0)
        scale, shift = state[f"{name}.{norm}.weight"] / np.sqrt(variance + 1e-5), state[f"{name}.{norm}.bias"]
        samples = [[(vector - mean) * scale + shift for vector in vectors] for vectors in samples]
        if step == 0:
            samples = [[np.maximum(vector, 0) for vector in vectors] for vectors in samples]
    return samples


def pair(channels: int = 8, *size: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (2, channels, *(size or (5, 6)))
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def parameters(spec: str, channels: int) -> int:
    return sum(parameter.numel() for parameter in foveate.create(spec, channels).parameters())


def test_aff_reduces_by_four_and_doubles_unless_told_otherwise() -> None:
    module = foveate.create("aff", 64).eval()
    assert module.context.here[0].out_channels == 16
    for part in (module.context.here, module.context.everywhere):
        fill(part[4], 0.0)
    x, y = pair(64)
    torch.testing.assert_close(module(x, y), x + y)  # weights of a half
    torch.testing.assert_close(foveate.create("aff:doubled=false", 64).eval()(x, x), x)


def test_aff_gives_the_second_map_what_the_first_has_not() -> None:
    module = foveate.create("aff", 4).eval()
    x, y = pair(4)
    for bias, left in ((60.0, x), (-60.0, y)):
        for part in (module.context.here, module.context.everywhere):
            fill(part[4], 0.0)
            fill(part[4], bias, "bias")
        torch.testing.assert_close(module(x, y), 2 * left)


def test_aff_judges_by_the_sum_of_both_maps() -> None:
    module = filled(foveate.create("aff", 8))
    x, y = pair()
    (shown,) = weights_of(module, x, y).values()
    (moved,) = weights_of(module, x + 1, y - 1).values()
    torch.testing.assert_close(shown, moved, atol=1e-5, rtol=1e-5)
    (other,) = weights_of(module, x + 1, y).values()
    assert not torch.allclose(shown, other, atol=1e-2)


def test_aff_refuses_maps_of_unlike_shapes_instead_of_broadcasting() -> None:
    module = foveate.create("aff", 8)
    for other in (torch.zeros(2, 8, 1, 1), torch.zeros(1, 8, 5, 6), torch.zeros(2, 8, 6, 5)):
        with pytest.raises(FoveateError, match=r"one shape, and these have 2×8×5×6 and"):
            module(torch.zeros(2, 8, 5, 6), other)


def test_aff_resnet_50_has_the_published_parameters() -> None:
    """30.3 million in the authors' README: their log says r=16 from the third stage on. Digits after are cut off."""
    added = 6 * parameters("aff:reduction=16", 1024) + 3 * parameters("aff:reduction=16", 2048)
    assert (25_557_032 + added) // 10**5 == 303


def test_aff_trains_on_one_sample_where_copies_fail_in_their_global_norm() -> None:
    module = foveate.create("aff", 8).train()
    x, y = pair()
    assert module(x[:1], y[:1]).isfinite().all()
