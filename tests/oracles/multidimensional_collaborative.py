"""Multidimensional Collaborative Attention in NumPy, from Yu et al., section 3, and the released code's constants.

Squeeze: of every slice across an axis, the mean and the standard deviation (unbiased; of one value, zero).
Combine: ½ (mean + deviation) + α mean + β deviation, α and β sigmoids of two learned numbers.
Excite: a convolution along the axis, 3 wide along height and width, k wide along channels, then a sigmoid.
Integrate: the mean of the features that the gates of all axes have weighed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import Options, product
from tests.support.weights import fill, weights_of

POINTWISE = 24  # root, combination, sigmoid, mean of three, product
OPTIONS = product(no_spatial=(False, True))
NORMS = False
VARIANTS = {
    "multidimensional_collaborative:no_spatial=true": 1,
}
REFUSED = [
    ("mca:no_spatial=1", {}, "no_spatial must be true or false"),
]
RESNETS = [
    (18, "mca", 11_689_640),
    (50, "mca", 25_557_310),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    slices = max(channels * max(size), size[0] * size[1])
    return 2 * slices + 7 + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    no_spatial: bool = False,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    axes = {"height": 1, "width": 2} | ({} if no_spatial else {"channel": 0})  # of one sample
    assert {name.split(".")[0] for name in state} == set(axes)
    y = np.empty_like(x)
    for b, sample in enumerate(x):
        weighed = []
        for name, axis in axes.items():
            kernel = state[f"{name}.conv.weight"].reshape(-1)
            assert len(kernel) == (paper_kernel(x.shape[1]) if name == "channel" else 3)
            alpha, beta = 1 / (1 + np.exp(-state[f"{name}.weight"]))
            pooled = []
            for at in range(sample.shape[axis]):
                values = np.take(sample, at, axis).ravel()
                mean = values.sum() / values.size
                deviation = 0.0
                if values.size > 1:
                    deviation = math.sqrt(((values - mean) ** 2).sum() / (values.size - 1))
                pooled.append((mean + deviation) / 2 + alpha * mean + beta * deviation)
            gates = np.zeros(len(pooled))
            for at in range(len(pooled)):
                for tap, value in enumerate(kernel):
                    neighbour = at + tap - len(kernel) // 2
                    if 0 <= neighbour < len(pooled):
                        gates[at] += value * pooled[neighbour]
            shape = [1, 1, 1]
            shape[axis] = -1
            weighed.append(sample / (1 + np.exp(-gates)).reshape(shape))
        y[b] = sum(weighed) / len(weighed)
    return y


def paper_kernel(channels: int) -> int:
    """The odd k ≤ K, K the whole number nearest to (log₂ C - 1)/1.5, that is 2^(3K/2 + 1/4) < C < 2^(3K/2 + 7/4)."""
    nearest = next(k for k in range(20) if channels < 2 ** (1.5 * k + 1.75))
    if channels == 1:  # (0 - 1)/1.5, without its sign
        nearest = 1
    return nearest if nearest % 2 else max(1, nearest - 1)


def test_mcas_kernel_is_rounded_and_one_less_where_that_is_even() -> None:
    printed = {1: 1, 2: 1, 3: 1, 4: 1, 8: 1, 16: 1, 32: 3, 64: 3, 128: 3, 256: 5, 512: 5, 1024: 5, 2048: 7}
    for channels, size in printed.items():
        assert foveate.create("mca", channels).channel.conv.kernel_size == (size,), channels


def test_mca_is_finite_on_one_position_and_in_a_flat_map() -> None:
    for x in (torch.full((1, 1, 1, 1), 2.0), torch.randn(2, 3, 1, 1), torch.ones(2, 3, 4, 5)):
        module = foveate.create("mca", x.shape[1])
        leaf = x.clone().requires_grad_()
        y = module(leaf)
        y.sum().backward()
        assert y.isfinite().all()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_mcas_deviation_is_the_unbiased_one() -> None:
    module = foveate.create("mca", 1)
    for direction in (module.height, module.width, module.channel):
        fill(direction.conv, 0.0)
        fill(direction, 0.0)
    fill(module.channel.conv, 1.0)
    x = torch.tensor([[[[1.0, 3.0]]]])  # mean 2, deviation √2; all shares are ½ + σ(0)
    weights = weights_of(module, x)
    torch.testing.assert_close(weights["channel_map"].flatten(), torch.tensor([2 + 2**0.5]).sigmoid())


def test_mca_without_spatial_leaves_out_the_channels_and_not_what_the_name_says() -> None:
    x = torch.randn(1, 16, 4, 5)
    assert list(weights_of(foveate.create("mca", 16), x)) == ["height_map", "width_map", "channel_map"]
    assert list(weights_of(foveate.create("mca", 16, no_spatial=True), x)) == ["height_map", "width_map"]


@pytest.mark.parametrize("no_spatial", [False, True])
def test_mca_takes_the_mean_of_its_gates(no_spatial: bool) -> None:
    module = foveate.create("mca", 8, no_spatial=no_spatial)
    x = torch.randn(2, 8, 4, 5)
    gates = weights_of(module, x).values()
    torch.testing.assert_close(module(x), sum(x * gate for gate in gates) / len(gates))
