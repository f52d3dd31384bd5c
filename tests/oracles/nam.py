"""Normalization-based Attention in NumPy, from Liu et al., section 3, equations 1 and 2.

B_out = γ (B_in - μ) / √(σ² + ε) + β, the batch normalisation; W_c = |γ_c| / Σ_k |γ_k|; the gate is sigmoid(W · B_out).
The released code multiplies the features by it.
"""

from __future__ import annotations

import numpy as np
import torch

import foveate
from tests.support.oracles import BATCH, Options
from tests.support.weights import fill, gate

POINTWISE = 16  # norm, sigmoid, product
OPTIONS: list[Options] = [{}]
RESNETS = [
    (50, "nam", 25_587_240),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    return channels + (2 * BATCH * size[0] * size[1] if training else 0) + POINTWISE


def oracle(x: np.ndarray, state: dict[str, np.ndarray], *, training: bool = False) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    scales, shifts = state["norm.weight"], state["norm.bias"]
    total = sum(abs(scale) for scale in scales)
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        values = x[:, c]
        mean, variance = state["norm.running_mean"][c], state["norm.running_var"][c]
        if training and values.size > 1:  # one value has no statistics of its own (named on the card)
            mean = values.sum() / values.size
            variance = ((values - mean) ** 2).sum() / values.size
        normalised = scales[c] * (values - mean) / np.sqrt(variance + 1e-5) + shifts[c]
        y[:, c] = values / (1 + np.exp(-abs(scales[c]) / total * normalised))
    return y


def test_nam_divides_by_the_sum_of_the_magnitudes_of_its_scales() -> None:
    module = foveate.create("nam", 2).eval()
    fill(module.norm, 0.5, "bias")
    with torch.no_grad():
        module.norm.weight.copy_(torch.tensor([-1.0, 3.0]))
    weights = gate(module, torch.zeros(1, 2, 2, 2))  # nothing but the shift is left of the norm
    torch.testing.assert_close(weights[0, :, 0, 0], torch.tensor([0.5 / 4, 0.5 * 3 / 4]).sigmoid())


def test_nams_scales_learn_through_their_shares_too() -> None:
    module = foveate.create("nam", 2, dtype=torch.float64).eval()
    fill(module.norm, 1.0, "bias")
    x = torch.zeros(1, 2, 1, 1, dtype=torch.float64)
    gates = gate(module, x)
    assert gates.unique().numel() == 1  # all shares are one half
    weight = module.norm.weight
    slope = (gates * (1 - gates)).flatten()[0]
    # through the norm there is no gradient: the features are at its mean; d(γ₀ / (γ₀ + γ₁)) / dγ₀ = 1/4
    (gradient,) = torch.autograd.grad(module.weigh(module.gather(x))[0, 0].sum(), weight)
    torch.testing.assert_close(gradient, slope * torch.tensor([0.25, -0.25], dtype=torch.float64))


def test_nam_is_finite_where_all_scales_are_zero() -> None:
    module = foveate.create("nam", 3)
    fill(module.norm, 0.0)
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    y = module(x)
    y.sum().backward()
    torch.testing.assert_close(y, x / 2)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_nam_has_two_parameters_a_channel() -> None:
    assert {name: p.shape for name, p in foveate.create("nam", 32).named_parameters()} == {
        "norm.weight": (32,),
        "norm.bias": (32,),
    }
