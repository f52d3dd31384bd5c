"""Multi-scale channel attention in NumPy, from Dai et al., Attentional Feature Fusion, section 3.2.

L(X) = B(PWConv₂(δ(B(PWConv₁(X))))) at every position, with PWConv₁ from C to C/r channels and PWConv₂ back (equation
3); G is the same on the mean over positions, with weights of its own. M(X) = σ(L(X) + G(X)), broadcast, and
X' = X · M(X) (equation 2). B is batch normalisation, δ ReLU; the convolutions have biases, as in the released code.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import fill, filled, gate

POINTWISE = 16  # sigmoid, scale, shift
SPREAD = 4  # four samples' means may lie as close together as a quarter: dividing by their deviation enlarges roundings
OPTIONS = product(reduction=(1, 4, 5))
REFUSED = [
    ("ms_cam:reduction=0", {}, "at least 1"),
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
    statistics = SPREAD * 2 * 2 * BATCH * positions if training else 0
    return positions + 2 * channels + statistics + POINTWISE


def oracle(x: np.ndarray, state: dict[str, np.ndarray], *, training: bool = False, reduction: int = 4) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    hidden = max(1, channels // reduction)
    positions = np.array([[x[b, :, i, j] for i in range(height) for j in range(width)] for b in range(batch)])
    means = np.array([[positions[b].sum(0) / (height * width)] for b in range(batch)])
    local = context(positions, state, "context.here", hidden, training)
    everywhere = context(means, state, "context.everywhere", hidden, training)
    y = np.empty_like(x)
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                logits = local[b, i * width + j] + everywhere[b, 0]
                y[b, :, i, j] = x[b, :, i, j] / (1 + np.exp(-logits))
    return y


def context(vectors: np.ndarray, state: dict[str, np.ndarray], name: str, hidden: int, training: bool) -> np.ndarray:
    """A bottleneck on vectors of shape (sample, position, channel)."""
    first, second = state[f"{name}.0.weight"][:, :, 0, 0], state[f"{name}.3.weight"][:, :, 0, 0]
    assert first.shape == (hidden, vectors.shape[2])
    between = normed(vectors @ first.T + state[f"{name}.0.bias"], state, f"{name}.1", training)
    return normed(np.maximum(between, 0) @ second.T + state[f"{name}.3.bias"], state, f"{name}.4", training)


def normed(vectors: np.ndarray, state: dict[str, np.ndarray], name: str, training: bool) -> np.ndarray:
    """With the statistics of the batch in training; of one value a channel there are none (named on the card)."""
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if training and vectors.shape[0] * vectors.shape[1] > 1:
        mean, variance = vectors.mean((0, 1)), vectors.var((0, 1))
    return (vectors - mean) / np.sqrt(variance + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]


def test_ms_cam_adds_the_logits_of_both_contexts_before_one_sigmoid() -> None:
    module = filled(foveate.create("ms_cam", 8))
    x = torch.randn(2, 8, 5, 6)
    context = module.context
    logits = context.here(x) + context.everywhere(x.mean((2, 3), keepdim=True))
    torch.testing.assert_close(gate(module, x), logits.sigmoid())


def test_ms_cams_two_contexts_have_weights_of_their_own() -> None:
    shapes = [
        {name: p.shape for name, p in part.named_parameters()}
        for part in (foveate.create("ms_cam", 16).context.here, foveate.create("ms_cam", 16).context.everywhere)
    ]
    assert shapes[0] == shapes[1]
    # twice: 1×1 convolutions there and back with biases, and their norms
    r = 16 // 4
    expected = 2 * (16 * r + r + 2 * r + r * 16 + 16 + 2 * 16)
    assert sum(p.numel() for p in foveate.create("ms_cam", 16).parameters()) == expected


def test_ms_cam_reduces_by_four_unless_told_otherwise() -> None:
    assert foveate.create("ms_cam", 64).context.here[0].out_channels == 16


@pytest.mark.parametrize("channels", [1, 3])
def test_ms_cam_with_fewer_channels_than_its_reduction_is_not_a_constant_gate(channels: int) -> None:
    module = foveate.create("ms_cam", channels).eval()
    for part in (module.context.here, module.context.everywhere):
        fill(part[0], 1.0)
        fill(part[3], 1.0)
        fill(part[0], 0.0, "bias")
    low, high = (gate(module, torch.full((1, channels, 2, 2), value)) for value in (0.1, 0.2))
    assert (low < high).all()


def test_ms_cam_has_a_norm_and_no_relu_before_its_sigmoid() -> None:
    module = foveate.create("ms_cam", 4).eval()
    for part in (module.context.here, module.context.everywhere):
        fill(part[4], 0.0)
        fill(part[4], -1.0, "bias")
    weights = gate(module, torch.randn(1, 4, 5, 5))
    torch.testing.assert_close(weights, torch.full_like(weights, -2.0).sigmoid())
