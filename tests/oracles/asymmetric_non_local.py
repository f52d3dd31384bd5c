"""The asymmetric pyramid non-local block in NumPy, from Zhu et al., section 3, equations 5 to 9, and their figure 4.

φ = relu(norm(1×1 convolution)) gives queries and keys alike, θ (a 1×1 convolution) the values. Keys and values are
sampled by the pyramid: for every n in (1, 3, 6, 8) the map is cut into n × n bins, which may share a row or column of
positions where n does not divide the side, and each bin gives its mean: S = 110 points. Position i takes
Σ_s softmax_s(⟨q_i, k_s⟩ / √d) v_s, projected by W_o; it is added to the features, or put before them and projected.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from foveate.errors import OptionError
from foveate.ops.adaptive import adaptive_mean
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import filled, gate

POINTWISE = 16  # exponential, division, scale, shift
OPTIONS = [
    *product(sizes=((1, 3, 6, 8), (2,), (5, 1)), fusion=("add", "concat")),
    *product(reduction=(1, 3), fusion=("add", "concat")),
]
EVERY = 23
VARIANTS = {
    "asymmetric_non_local:sizes=2": 1,
    "asymmetric_non_local:reduction=5,sizes=1+2": 1,
}
REFUSED = [
    ("apnb:sizes=0+3", {}, "each of sizes must be a whole number of at least 1"),
    ("apnb:sizes=all", {}, "each of sizes"),
    ("apnb", {"sizes": ()}, "at least one grid"),
    ("apnb:sizes=1", {}, "name a finer grid"),
    ("apnb:reduction=0", {}, "reduction"),
    ("apnb:fusion=max", {}, "fusion must be one of 'add', 'concat'"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    positions, bins = size[0] * size[1], sum(n * n for n in options.get("sizes", (1, 3, 6, 8)))
    statistics = 2 * BATCH * positions if training else 0
    return 6 * channels + positions + 2 * bins + 2 * statistics + 3 * POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    sizes: tuple[int, ...] = (1, 3, 6, 8),
    reduction: int = 2,
    fusion: str = "add",
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    embedded = np.maximum(norm(linear(x, state, "f_key.0"), state, "f_key.1.0", training), 0)
    values = linear(x, state, "f_value")
    depth = embedded.shape[1]
    assert depth == values.shape[1] == max(1, channels // reduction)

    update = np.zeros((batch, depth, height, width))
    for b in range(batch):
        keys, sampled = pyramid(embedded[b], sizes), pyramid(values[b], sizes)
        for i in range(height):
            for j in range(width):
                logits = np.array([key @ embedded[b, :, i, j] for key in keys]) / np.sqrt(depth)
                weights = np.exp(logits - logits.max())
                for weight, value in zip(weights / weights.sum(), sampled, strict=True):
                    update[b, :, i, j] += weight * value
    update = linear(update, state, "W")
    if fusion == "add":
        return x + update
    joined = linear(np.concatenate((update, x), 1), state, "conv_bn_dropout.0")
    return np.maximum(norm(joined, state, "conv_bn_dropout.1.0", training), 0)


def pyramid(x: np.ndarray, sizes: tuple[int, ...]) -> list[np.ndarray]:
    """The means of all bins of all grids: a bin holds every position that it touches."""
    found = []
    for n in sizes:
        for p in range(n):
            for q in range(n):
                rows, columns = touched(p, n, x.shape[1]), touched(q, n, x.shape[2])
                found.append(sum(x[:, i, j] for i in rows for j in columns) / (len(rows) * len(columns)))
    return found


def touched(index: int, bins: int, length: int) -> list[int]:
    """The positions on a side, one apart, that a bin of it touches."""
    return [i for i in range(length) if i * bins < (index + 1) * length and (i + 1) * bins > index * length]


def linear(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    """A 1×1 convolution with its bias."""
    weight, bias = state[f"{name}.weight"][:, :, 0, 0], state[f"{name}.bias"]
    return np.einsum("oc,bchw->bohw", weight, x) + bias[:, None, None]


def norm(x: np.ndarray, state: dict[str, np.ndarray], name: str, training: bool) -> np.ndarray:
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if training and x.shape[0] * x.shape[2] * x.shape[3] > 1:  # one value has no statistics (named on the card)
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    each = (slice(None), None, None)
    scale, shift = state[f"{name}.weight"][each], state[f"{name}.bias"][each]
    return (x - mean[each]) / np.sqrt(variance[each] + 1e-5) * scale + shift


def test_asymmetric_non_local_looks_at_110_bins_and_its_weights_sum_to_one_over_them() -> None:
    weights = gate(filled(foveate.create("apnb", 8)), torch.randn(2, 8, 9, 11))
    assert weights.shape == (2, 110, 9, 11)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 9, 11))


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (5, 13), (24, 8)])
def test_asymmetric_non_locals_bins_are_those_of_adaptive_pooling(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    for bins in (1, 3, 6, 8):
        torch.testing.assert_close(adaptive_mean(x, (bins, bins)), nn.functional.adaptive_avg_pool2d(x, bins))


def test_asymmetric_non_local_shares_one_embedding_between_queries_and_keys() -> None:
    names = {name for name, _ in foveate.create("apnb", 8).named_parameters()}
    assert not any("query" in name for name in names)
    assert sum("f_key" in name for name in names) == 4


def test_asymmetric_non_local_starts_at_zero_as_published() -> None:
    module = foveate.create("apnb", 8).eval()
    x = torch.randn(2, 8, 5, 6)
    assert not module.W.weight.any()
    assert torch.equal(module(x), x)


def test_asymmetric_non_local_started_at_the_identity_has_rows_that_differ() -> None:
    module = foveate.create("apnb", 8)
    module.start_at_identity()
    assert module.W.weight.flatten(1).unique(dim=0).shape[0] == 8


def test_asymmetric_non_local_moves_the_shared_statistics_as_two_passes_do() -> None:
    module = foveate.create("apnb", 8).train()
    twice = nn.BatchNorm2d(module.f_key[0].out_channels)
    x = torch.randn(3, 8, 5, 6)
    for _ in range(2):
        twice(module.f_key[0](x))
    module(x)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(module.f_key[1][0].get_buffer(name), twice.get_buffer(name))


def test_asymmetric_non_local_that_projects_the_features_has_no_identity() -> None:
    with pytest.raises(OptionError, match="use fusion=add"):
        foveate.create("apnb", 8, fusion="concat").start_at_identity()


def test_asymmetric_non_locals_parameters_are_those_of_the_released_layer() -> None:
    """ANN's APNB of 512 channels, keys and values of 256: four convolutions with biases and two norms."""
    module = foveate.create("apnb", 512, fusion="concat")
    assert sum(p.numel() for p in module.parameters()) == 920_576
    assert 920_576 == 2 * (512 * 256 + 256) + 2 * 256 + 256 * 512 + 512 + 1024 * 512 + 512 + 2 * 512
