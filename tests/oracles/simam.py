"""SimAM in NumPy, from Yang et al., section 3, equation 5, and the listing in figure 3.

With t a feature, μ the mean and σ² the variance of its channel, the smallest energy is
e = 4 (σ² + λ) / ((t - μ)² + 2σ² + 2λ), and the output is t · sigmoid(1 / e). The listing divides the variance's sum by
one less than the number of positions; of a single position it has none, and its distance from the mean is zero.
"""

from __future__ import annotations

import numpy as np
import torch

import foveate
from tests.support.oracles import Options, product
from tests.support.weights import gate

POINTWISE = 16  # sigmoid, quotient, product
OPTIONS = product(e_lambda=(1e-4, 0.1, 3.0))
NORMS = False
VARIANTS = {
    "simam:e_lambda=0.1": 1,
}
REFUSED = [
    ("simam:e_lambda=0", {}, "e_lambda must be positive"),
    ("simam:e_lambda=-0.1", {}, "e_lambda must be positive"),
]
RESNETS = [
    (50, "simam", 25_557_032),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    return 2 * size[0] * size[1] + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    e_lambda: float = 1e-4,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w)."""
    assert not state
    y = np.empty_like(x)
    for at in np.ndindex(x.shape[:2]):
        values = x[at].ravel()
        mean = sum(values) / len(values)
        others = len(values) - 1
        variance = sum((value - mean) ** 2 for value in values) / others if others else 0.0
        energy = 4 * (variance + e_lambda) / ((x[at] - mean) ** 2 + 2 * variance + 2 * e_lambda)
        y[at] = x[at] / (1 + np.exp(-1 / energy))
    return y


def test_simam_is_finite_on_one_position() -> None:
    x = torch.tensor([[[[3.0]], [[-4.0]]]], requires_grad=True)
    module = foveate.create("simam", 2)
    half = torch.tensor(0.5).sigmoid()
    y = module(x)
    torch.testing.assert_close(y, x * half)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full_like(x, half.item()))


def test_simam_divides_its_variance_by_one_less_than_the_positions() -> None:
    module = foveate.create("simam", 1, e_lambda=1e-12)
    weights = gate(module, torch.tensor([[[[1.0, 3.0]]]], dtype=torch.float64))  # distances 1, variance 2
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 8 + 1 / 2).sigmoid())


def test_simams_lambda_is_the_papers_unless_another_is_given() -> None:
    x = torch.full((1, 1, 2, 2), 1.0)
    x[0, 0, 0, 0] = 1.004
    weights = gate(foveate.create("simam", 1), x.double())
    variance = 0.004**2 / 4  # Σd = 0.004² · 3/4, over 3
    farthest = (0.004 * 0.75) ** 2 / (4 * (variance + 1e-4)) + 0.5
    torch.testing.assert_close(weights[0, 0, 0, 0], torch.tensor(farthest).double().sigmoid(), rtol=1e-6, atol=0)


def test_simam_has_nothing_to_learn() -> None:
    assert not foveate.create("simam", 4).state_dict()


def test_simam_squares_large_features_in_half_precision() -> None:
    x = torch.linspace(-600, 600, 24).reshape(1, 2, 3, 4)
    exact = foveate.create("simam", 2)(x)
    found = foveate.create("simam", 2, dtype=torch.float16)(x.half())
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), exact, rtol=4e-3, atol=0)
