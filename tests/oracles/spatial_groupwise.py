"""Spatial Group-wise Enhance in NumPy, from Li et al., section 3.

Of the C/G channels of a group, x_i at position i: g = mean of all x_i (equation 1), c_i = g · x_i (equation 2),
ĉ_i = (c_i - μ) / (s + ε) with mean μ and deviation s of all c_i (equation 3), a_i = γ ĉ_i + β (equation 4), and
x̂_i = x_i · σ(a_i) (equation 5). γ and β are one each a group. The deviation is a sample's, as in the released code.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import Options, product
from tests.support.weights import gate

POINTWISE = 16  # sigmoid, scale, shift, normalisation
OPTIONS = product(groups=(1, 2, 6, 64))
NORMS = False
VARIANTS = {
    "spatial_groupwise:groups=1": 1,
    "spatial_groupwise:groups=4": 1,
}
REFUSED = [
    ("sge:groups=0", {}, "at least 1"),
]
RESNETS = [
    (50, "spatial_groupwise", 25_559_080),
    (101, "spatial_groupwise", 44_553_384),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    # the similarities are products of sums, as large as the group has channels, and their deviation is of order one
    return 3 * size[0] * size[1] + 4 * channels + POINTWISE


def oracle(x: np.ndarray, state: dict[str, np.ndarray], *, training: bool = False, groups: int = 64) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    while channels % groups:  # the largest number that divides the channels (named on the card)
        groups -= 1
    share = channels // groups
    gamma, beta = state["weight"].ravel(), state["bias"].ravel()
    assert gamma.shape == beta.shape == (groups,)
    y = np.empty_like(x)
    for b in range(batch):
        for k in range(groups):
            first, last = k * share, (k + 1) * share
            vectors = [x[b, first:last, i, j] for i in range(height) for j in range(width)]
            whole = sum(vectors) / len(vectors)
            similar = np.array([float(np.dot(whole, vector)) for vector in vectors])
            apart = similar - similar.sum() / len(similar)
            deviation = math.sqrt((apart**2).sum() / (len(apart) - 1)) if len(apart) > 1 else 0.0
            for p, vector in enumerate(vectors):
                logit = gamma[k] * apart[p] / (deviation + 1e-5) + beta[k]
                y[b, first:last, p // width, p % width] = vector / (1 + np.exp(-logit))
    return y


def test_sge_starts_with_a_scale_of_zero_and_a_shift_of_one() -> None:
    module = foveate.create("sge", 128)
    assert not module.weight.any()
    assert (module.bias == 1).all()
    weights = gate(module, torch.randn(2, 128, 5, 6))
    torch.testing.assert_close(weights, torch.ones_like(weights).sigmoid())


def test_sge_has_two_numbers_a_group_and_64_groups() -> None:
    assert {name: p.numel() for name, p in foveate.create("sge", 256).named_parameters()} == {"weight": 64, "bias": 64}


def test_sge_divides_by_the_deviation_of_a_sample_and_adds_epsilon_outside_the_root() -> None:
    module = foveate.create("sge", 1).double()
    torch.nn.init.ones_(module.weight)
    torch.nn.init.zeros_(module.bias)
    for scale in (1.0, 1e-2, 1e-3):
        x = scale * torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64).reshape(1, 1, 1, 3)
        similar = x * x.mean()
        expected = ((similar - similar.mean()) / (similar.std(correction=1) + 1e-5)).sigmoid()
        torch.testing.assert_close(gate(module, x), expected)


def test_sge_normalises_over_positions_in_each_group_and_sample_by_itself() -> None:
    module = foveate.create("sge", 8, groups=4).double()
    torch.nn.init.ones_(module.weight)
    x = torch.randn(3, 8, 5, 6, dtype=torch.float64)
    logits = torch.logit(gate(module, x)) - 1
    torch.testing.assert_close(logits.mean((2, 3)), torch.zeros(3, 4, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(logits.std((2, 3)), torch.ones(3, 4, dtype=torch.float64), atol=1e-3, rtol=0)


@pytest.mark.parametrize("x", [torch.randn(2, 8, 1, 1), torch.ones(2, 8, 5, 6), torch.zeros(2, 8, 3, 3)])
def test_sge_is_finite_where_all_positions_are_alike(x: torch.Tensor) -> None:
    module = foveate.create("sge", 8, groups=4)
    torch.nn.init.ones_(module.weight)
    leaf = x.clone().requires_grad_()
    y = module(leaf)
    y.sum().backward()
    torch.testing.assert_close(y, x * torch.tensor(1.0).sigmoid(), rtol=1e-3, atol=1e-3)
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (3, 3), (64, 64), (96, 48), (100, 50), (67, 1), (2048, 64)])
def test_sge_takes_the_largest_number_of_groups_that_divides_the_channels(channels: int, groups: int) -> None:
    assert foveate.create("sge", channels).groups == groups
