"""Global Second-order Pooling in NumPy, from Gao et al., section 3.2 (the GSoP block), details from the released code.

A 1×1 convolution, batch normalisation and ReLU reduce c channels to d. Their covariance Σ, d × d, over positions j:
Σ_ik = 1/M Σ_j (z_ij - m_i)(z_kj - m_k). Row i has four filters of its own, as wide as the row, each giving one number;
a layer takes the 4d numbers to c, and a sigmoid makes gates of them. The released code also has a ReLU in front, and a
batch normalisation of the rows, row i in the place of channel i.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import fill, filled, gate, has_deviation

POINTWISE = 32  # norms, products, sigmoid, scale
OPTIONS = product(dimension=(1, 6), stride=(1, 2, 3))
EVERY = 5
ONE_SAMPLE: Options = {"dimension": 6}
VARIANTS = {
    "gsop:dimension=8": 1,
    "gsop:dimension=8,stride=2": 3,
}
REFUSED = [
    ("gsop:dimension=0", {}, "dimension must be a whole number of at least 1"),
    ("gsop:stride=0", {}, "stride must be a whole number of at least 1"),
]
RENAMES = {
    "conv_for_DR.": "reduce.",
    "bn_for_DR.": "norm.",
    "row_bn.": "row_norm.",
    "row_conv_group.": "rows.",
    "fc_adapt_channels.": "expand.",
}


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    positions, dimension = size[0] * size[1], options.get("dimension", 128)
    statistics = 2 * BATCH * (positions + dimension) if training else 0
    return channels + 2 * positions + 6 * dimension + statistics + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    dimension: int = 128,
    stride: int = 1,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels = x.shape[:2]
    assert state["reduce.weight"].shape == (dimension, channels, 1, 1)
    assert state["rows.weight"].shape == (4 * dimension, 1, dimension, 1)

    seen = np.maximum(x, 0)[:, :, ::stride, ::stride]
    reduced = np.zeros((batch, dimension, *seen.shape[2:]))
    for d in range(dimension):
        for c in range(channels):
            reduced[:, d] += state["reduce.weight"][d, c, 0, 0] * seen[:, c]
        reduced[:, d] += state["reduce.bias"][d]
    z = np.maximum(batch_norm(reduced, state, "norm", training), 0).reshape(batch, dimension, -1)

    sigma = np.zeros((batch, dimension, dimension))
    for i in range(dimension):
        for k in range(dimension):
            for b in range(batch):
                one, other = z[b, i] - z[b, i].mean(), z[b, k] - z[b, k].mean()
                sigma[b, i, k] = (one * other).sum() / z.shape[2]
    sigma = batch_norm(sigma[..., None], state, "row_norm", training)[..., 0]

    y = np.empty_like(x)
    for b in range(batch):
        numbers = [
            (state["rows.weight"][4 * i + f, 0, :, 0] * sigma[b, i]).sum() + state["rows.bias"][4 * i + f]
            for i in range(dimension)
            for f in range(4)
        ]
        logits = state["expand.weight"][:, :, 0, 0] @ np.array(numbers) + state["expand.bias"]
        for c in range(channels):
            y[b, c] = x[b, c] / (1 + np.exp(-logits[c]))
    return y


def batch_norm(x: np.ndarray, state: dict[str, np.ndarray], name: str, training: bool) -> np.ndarray:
    """With the statistics of the batch in training; of one value a channel there are none (named on the card)."""
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if training and x.shape[0] * x.shape[2] * x.shape[3] > 1:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    scale, shift = state[f"{name}.weight"], state[f"{name}.bias"]
    each = (slice(None), None, None)
    return (x - mean[each]) / np.sqrt(variance[each] + 1e-5) * scale[each] + shift[each]


def test_gsop_gathers_the_covariance_and_not_the_second_moment() -> None:
    module = foveate.create("gsop", 3, dimension=3).eval()
    with torch.no_grad():
        module.reduce.weight.copy_(torch.eye(3)[..., None, None])
        fill(module.reduce, 0.0, "bias")
    x = torch.rand(2, 3, 5, 6)
    expected = torch.stack([sample.flatten(1).cov(correction=0) for sample in x])
    torch.testing.assert_close(module.gather(x), expected, rtol=1e-4, atol=1e-6)  # the norm divides by √(1 + 1e-5)


def test_gsop_gives_every_row_four_filters_of_its_own() -> None:
    module = filled(foveate.create("gsop", 8, dimension=5))
    assert module.rows.weight.shape == (20, 1, 5, 1)
    context = torch.randn(1, 5, 5)
    numbers = module.rows(context[..., None])
    context[0, 2] += 1.0
    changed = (module.rows(context[..., None]) != numbers).flatten().nonzero().flatten().tolist()
    assert changed == [8, 9, 10, 11]


def test_gsop_is_blind_to_what_all_positions_share() -> None:
    """Second-order: the covariance of a map that is the same everywhere is zero, whatever it is."""
    module = filled(foveate.create("gsop", 6, dimension=4))
    weights = [gate(module, value * torch.ones(1, 6, 5, 5)) for value in (0.0, 1.0, 3.0)]
    torch.testing.assert_close(weights[1], weights[0])
    torch.testing.assert_close(weights[2], weights[0])


@pytest.mark.parametrize("training", [False, True])
def test_gsop_is_finite_on_one_position(training: bool) -> None:
    module = filled(foveate.create("gsop", 6, dimension=4)).train(training)
    x = torch.randn(2, 6, 1, 1, requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_gsop_starts_as_the_authors_network_does() -> None:
    module = foveate.create("gsop", 256)
    assert has_deviation(module.reduce.weight, (2 / 128) ** 0.5)
    assert has_deviation(module.rows.weight, (2 / (4 * 128 * 128)) ** 0.5)
    assert has_deviation(module.expand.weight, (2 / 256) ** 0.5)


@pytest.mark.parametrize(("plain", "count"), [(25_557_032, 28_285_224), (44_549_160, 47_277_352)])
def test_gsop_has_as_many_parameters_as_the_authors_resnets(plain: int, count: int) -> None:
    """GSoP-Net1 of 50 and of 101 layers, as the authors' code builds it: at the last block of every stage."""
    with torch.device("meta"):
        blocks = [foveate.create("gsop", channels) for channels in (256, 512, 1024, 2048)]
    assert plain + sum(p.numel() for block in blocks for p in block.parameters()) == count
