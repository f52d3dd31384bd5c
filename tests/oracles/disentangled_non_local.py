"""Disentangled non-local block in NumPy, from Yin et al., sections 3 and 4, and the authors' code.

y_i = Σ_j (σ((q_i - μ_q)ᵀ(k_j - μ_k)) + σ(m_j)) v_j, each σ a softmax over all positions j, μ the means over
positions, m a 1×1 convolution of its own. The authors' code divides the pairwise products by the root of their
channels and by a temperature, and multiplies the pairwise sum by a learned number that starts at zero.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import Options, product
from tests.support.weights import filled, has_deviation, weights_of

POINTWISE = 16
OPTIONS = [
    *product(unary=(True, False), project=(True, False)),
    *product(temperature=(0.2, 1.0), reduction=(1, 3)),
]
NORMS = False
EVERY = 3
VARIANTS = {
    "disentangled_non_local:unary=false": 1,
    "disentangled_non_local:project=true": 1,
}
REFUSED = [
    ("dnl:temperature=0", {}, "temperature must be positive"),
    ("dnl:reduction=0", {}, "reduction"),
    ("dnl:unary=1", {}, "unary must be true or false"),
    ("dnl:project=1", {}, "project must be true or false"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    hidden = max(1, channels // options.get("reduction", 2))
    positions = size[0] * size[1]
    # an error of a product is one of its exponential, times its magnitude, which the temperature raises
    products = 8 * (channels + hidden + positions) / options.get("temperature", 0.05)
    return int(3 * channels + products + 4 * positions) + 4 * POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    reduction: int = 2,
    temperature: float = 0.05,
    unary: bool = True,
    project: bool = False,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    hidden = max(1, channels // reduction)
    y = np.empty_like(x)
    for b in range(batch):
        places = [x[b, :, i, j] for i in range(height) for j in range(width)]
        query, key, value = (
            np.stack([state[f"conv_{name}.weight"][:, :, 0, 0] @ place for place in places])
            for name in ("query", "key", "value")
        )
        if project:
            value = value + state["conv_value.bias"]
        assert query.shape[1] == key.shape[1] == hidden
        assert value.shape[1] == (hidden if project else channels)
        query, key = query - query.mean(0), key - key.mean(0)
        salient = np.zeros(value.shape[1])
        if unary:
            shares = softmax(np.array([state["conv_mask.weight"].reshape(-1) @ place for place in places]))
            salient = sum(share * given for share, given in zip(shares, value, strict=True))
        for here, place in enumerate(places):
            shares = softmax(np.array([query[here] @ other for other in key]) / np.sqrt(hidden) / temperature)
            total = sum(share * given for share, given in zip(shares, value, strict=True))
            total = state["gamma"][0] * total + salient
            if project:
                total = state["conv_out.weight"][:, :, 0, 0] @ total
            y[b, :, here // width, here % width] = place + total
    return y


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


def test_disentangled_non_local_whitens_over_positions() -> None:
    """Something added to all positions alike moves no pairwise weight."""
    module = filled(foveate.create("dnl", 8))
    x = 0.1 * torch.randn(2, 8, 5, 6)
    moved = x + torch.randn(2, 8, 1, 1)
    one, other = (weights_of(module, features)["pairwise_map"] for features in (x, moved))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_disentangled_non_local_has_two_softmaxes_that_each_sum_to_one() -> None:
    shown = weights_of(filled(foveate.create("dnl", 8)), 0.1 * torch.randn(2, 8, 5, 6))
    torch.testing.assert_close(shown["pairwise_map"].sum(1), torch.ones(2, 30))
    torch.testing.assert_close(shown["unary_map"].sum((2, 3)), torch.ones(2, 1))


def test_disentangled_non_locals_number_stands_before_the_pairwise_term_alone() -> None:
    module = foveate.create("dnl", 8)
    assert not module.gamma.any()
    x = torch.randn(2, 8, 5, 6)
    shares = weights_of(module, x)["unary_map"]
    expected = x + (module.conv_value(x) * shares).sum((2, 3), keepdim=True)
    torch.testing.assert_close(module(x), expected)


def test_disentangled_non_local_starts_with_small_gaussian_weights() -> None:
    module = foveate.create("dnl", 128)
    for layer in (module.conv_query, module.conv_key, module.conv_value):
        assert has_deviation(layer.weight, 0.01)


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_disentangled_non_local_divides_by_the_temperature_and_by_the_root_of_its_channels(temperature: float) -> None:
    module = filled(foveate.create("dnl", 8, temperature=temperature)).double()
    x = 0.02 * torch.randn(1, 8, 2, 3, dtype=torch.float64)
    query, key = (layer(x).flatten(2) for layer in (module.conv_query, module.conv_key))
    query, key = query - query.mean(2, keepdim=True), key - key.mean(2, keepdim=True)
    expected = torch.softmax(key.transpose(1, 2) @ query / 4**0.5 / temperature, 1)
    torch.testing.assert_close(weights_of(module, x)["pairwise_map"], expected)
