"""Linear Context Transform in NumPy, from Ruan et al., section 3.

Aggregation: z_k, the mean of channel k over positions. Normalisation: ẑ_k = (z_k - μ_i) / σ_i with the mean and
deviation of the group i of channels that k is in. Transform: u_k = w_k ẑ_k + b_k. Gate: Y_k = X_k sigmoid(u_k).
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import Options
from tests.support.weights import filled, gate

POINTWISE = 16  # root, quotient, sigmoid, scale
SPREAD = 2  # the means of two channels may lie close together: dividing by their deviation enlarges roundings
OPTIONS: list[Options] = [{}, {"groups": 1}]
NORMS = False
VARIANTS = {
    "linear_context:groups=1": 1,
}
REFUSED = [
    ("lct:groups=5", {}, "16 channels cannot be split into groups=5"),
    ("lct:groups=0", {}, "groups must be a whole number of at least 1"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    return SPREAD * (size[0] * size[1] + 2 * channels + POINTWISE)


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    groups: int | None = None,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    if groups is None:  # named on the card
        groups = {1: 1, 3: 1, 7: 1, 16: 8, 64: 32}[channels]
    assert {key: value.size for key, value in state.items()} == {"weight": channels, "bias": channels}
    each = channels // groups
    y = np.empty_like(x)
    for b in range(batch):
        z = [sum(x[b, k].ravel()) / (height * width) for k in range(channels)]
        for k in range(channels):
            first = k // each * each
            group = z[first : first + each]
            mean = sum(group) / each
            sigma = math.sqrt(sum((value - mean) ** 2 for value in group) / each + 1e-5)
            u = state["weight"][k] * (z[k] - mean) / sigma + state["bias"][k]
            y[b, k] = x[b, k] / (1 + math.exp(-u))
    return y


def test_lct_starts_with_weights_of_zero_and_biases_of_one() -> None:
    module = foveate.create("lct", 8)
    assert not module.weight.any()
    assert (module.bias == 1).all()
    weights = gate(module, torch.randn(2, 8, 5, 5))
    assert torch.equal(weights, torch.full_like(weights, 1.0).sigmoid())


def test_lct_has_two_numbers_a_channel() -> None:
    assert sum(p.numel() for p in foveate.create("lct", 256).parameters()) == 2 * 256


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_lct_sees_only_the_channels_of_its_group(groups: int) -> None:
    module = filled(foveate.create("lct", 8, groups=groups))
    x = torch.randn(1, 8, 5, 5)
    before = gate(module, x)
    x[:, 5] += 3
    changed = (gate(module, x) != before).flatten().nonzero().flatten().tolist()
    each = 8 // groups
    assert changed == list(range(5 // each * each, 5 // each * each + each))


@pytest.mark.parametrize(("channels", "groups"), [(2048, 64), (128, 64), (64, 32), (48, 24), (7, 1), (1, 1)])
def test_lct_leaves_two_channels_in_each_group_unless_told_otherwise(channels: int, groups: int) -> None:
    assert foveate.create("lct", channels).groups == groups


def test_lct_has_a_finite_gradient_where_all_means_are_equal() -> None:
    x = torch.ones(1, 4, 3, 3, requires_grad=True)
    filled(foveate.create("lct", 4))(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
