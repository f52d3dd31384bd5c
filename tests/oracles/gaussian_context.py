"""Gaussian Context Transformer in NumPy, from Ruan et al., section 3.

Context: z_k, the mean of channel k over positions. Normalisation: ẑ = (z - μ) / σ with the mean μ of all z_k and the
root σ of their mean squared distance from it. Excitation: g = exp(-ẑ² / (2c²)), and Y = g X. c is 2 (B0), or
α sigmoid(θ) + β with one learned θ that starts at zero (B1), α = 3 and β = 1.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import Options, product
from tests.support.weights import fill, gate, weights_of

POINTWISE = 16  # root, quotient, exponential, scale
SPREAD = 2  # the means of a few channels may lie close together: dividing by their deviation enlarges roundings
OPTIONS = product(deviation=(2.0, 0.7, 3, "learned"))
NORMS = False
VARIANTS = {
    "gaussian_context:deviation=learned": 1,
}
REFUSED = [
    ("gaussian_context:deviation=0", {}, "deviation must be positive"),
    ("gaussian_context:deviation=learnt", {}, "must be one of 'learned'"),
    ("gaussian_context", {"deviation": None}, "deviation must be positive"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    return SPREAD * (size[0] * size[1] + 2 * channels + POINTWISE)


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    deviation: float | str = 2.0,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    if deviation == "learned":
        assert state["theta"].shape == (1,)
        c = 3 / (1 + math.exp(-state["theta"][0])) + 1
    else:
        assert not state
        c = deviation
    y = np.empty_like(x)
    for b in range(batch):
        z = [sum(x[b, k].ravel()) / (height * width) for k in range(channels)]
        mean = sum(z) / channels
        sigma = math.sqrt(sum((value - mean) ** 2 for value in z) / channels + 1e-5)
        for k in range(channels):
            y[b, k] = x[b, k] * math.exp(-(((z[k] - mean) / sigma) ** 2) / (2 * c**2))
    return y


def test_gaussian_context_divides_by_twice_the_square_of_its_deviation() -> None:
    """And does not multiply by it: two channels lie one deviation from their mean, and exp(-1/8) is not exp(-1)."""
    x = torch.tensor([-100.0, 100.0]).reshape(1, 2, 1, 1)
    for c in (2.0, 0.5):
        weights = gate(foveate.create("gaussian_context", 2, deviation=c), x)
        torch.testing.assert_close(weights.flatten(), torch.full((2,), math.exp(-1 / (2 * c * c))))


def test_gaussian_context_has_nothing_to_learn_or_one_number() -> None:
    assert not list(foveate.create("gaussian_context", 64).parameters())
    (theta,) = foveate.create("gaussian_context:deviation=learned", 64).parameters()
    assert theta.shape == (1,)
    assert not theta.any()


@pytest.mark.parametrize(("theta", "deviation"), [(0.0, 2.5), (-50.0, 1.0), (50.0, 4.0)])
def test_gaussian_context_learns_within_bounds(theta: float, deviation: float) -> None:
    module = foveate.create("gaussian_context:deviation=learned", 8)
    fill(module, theta, "theta")
    x = torch.randn(2, 8, 5, 5)
    fixed = foveate.create("gaussian_context", 8, deviation=deviation)
    torch.testing.assert_close(gate(module, x), gate(fixed, x))


def test_gaussian_context_gives_most_to_the_channel_in_the_middle() -> None:
    x = torch.tensor([-3.0, 0.0, 3.0, 1.0, -1.0]).reshape(1, 5, 1, 1)
    weights = gate(foveate.create("gaussian_context", 5), x).flatten()
    assert weights[1] == 1
    torch.testing.assert_close(weights[[0, 4]], weights[[2, 3]])
    assert weights[2] < weights[3] < weights[1]


def test_gaussian_context_normalises_over_channels_of_one_sample() -> None:
    """Over the batch, a sample would change with its neighbours; over positions, one position would have none."""
    x = torch.randn(3, 8, 5, 5)
    module = foveate.create("gaussian_context", 8)
    alone = torch.cat([gate(module, sample[None]) for sample in x])
    torch.testing.assert_close(gate(module, x), alone)
    context = module.gather(x)
    torch.testing.assert_close(context.square().mean(1), torch.ones(3), rtol=1e-2, atol=0)


def test_gaussian_context_has_a_finite_gradient_where_all_means_are_equal() -> None:
    x = torch.ones(1, 4, 3, 3, requires_grad=True)
    module = foveate.create("gaussian_context", 4)
    module(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (weights_of(module, x)["map"] == 1).all()
