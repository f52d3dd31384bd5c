"""Non-local block in NumPy, from Wang et al., section 3.

y_i = 1/C(x) Σ_j f(x_i, x_j) g(x_j) (equation 1), z_i = W_z y_i + x_i (equation 6), with θ, φ, g and W_z 1×1
convolutions and half as many channels inside. f is a Gaussian of the features (2), of their embeddings (3), a product
of embeddings (4) or a ReLU of a learned sum of both (5); C is the sum of f for the Gaussians and the number of sources
for the other two. Subsampled, x_j is the maximum over a cell of 2×2 positions. Batch normalisation follows W_z
(section 4.1). The authors divide the embedded Gaussian's products by the root of their number of channels.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import filled, gate, has_deviation

POINTWISE = 16  # exponential, scale, shift
MODES = ("embedded_gaussian", "gaussian", "dot_product", "concatenation")
OPTIONS = [
    *product(mode=MODES, subsample=(True, False), norm=(True, False)),
    *product(scale=(False,), subsample=(True, False)),
    *product(mode=MODES, reduction=(1, 5)),
]
EVERY = 9
VARIANTS = {
    "non_local:subsample=false": 1,
    "non_local:norm=false": 4,
    "non_local:mode=gaussian": 4,
    "non_local:mode=dot_product": 4,
    "non_local:mode=dot_product,subsample=false": 1,
    "non_local:mode=concatenation": 4,
    "non_local:mode=concatenation,subsample=false": 1,
}
CAPTURED = (
    "non_local:subsample=false",
    "non_local:mode=dot_product",
    "non_local:mode=concatenation",
)
REFUSED = [
    ("non_local:mode=cosine", {}, "embedded_gaussian"),
    ("non_local:reduction=0", {}, "reduction"),
    ("non_local:subsample=2", {}, "subsample must be true or false"),
    ("non_local:scale=2", {}, "scale must be true or false"),
    ("non_local:norm=2", {}, "norm must be true or false"),
]
RENAMES = {"concat_project.0": "project", "W.0": "out", "W.1": "norm", "W.": "out."}


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    positions = size[0] * size[1]
    # an error of a product of embeddings is one of its exponential, times the product's magnitude: a few times its
    # number of terms, whose squares are near one
    compared = channels if options.get("mode") == "gaussian" else max(1, channels // options.get("reduction", 2))
    return 3 * channels + 8 * compared + 2 * positions + (6 * BATCH * positions if training else 0) + 4 * POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    mode: str = "embedded_gaussian",
    reduction: int = 2,
    scale: bool = True,
    subsample: bool = True,
    norm: bool = True,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    inner = max(1, channels // reduction)
    targets = [x[:, :, i, j] for i in range(height) for j in range(width)]
    sources = targets
    if subsample:
        tall, wide = 2 if height > 1 else 1, 2 if width > 1 else 1
        sources = []
        for i in range(height // tall):
            for j in range(width // wide):
                cell = x[:, :, tall * i : tall * i + tall, wide * j : wide * j + wide]
                sources.append(cell.max((2, 3)))

    given = np.stack([linear(source, state, "g") for source in sources], 1)  # (b, source, inner)
    assert given.shape[2] == inner
    queries, keys = targets, sources
    if mode != "gaussian":
        queries = [linear(target, state, "theta") for target in targets]
        keys = [linear(source, state, "phi") for source in sources]

    y = np.empty_like(x)
    for position, query in enumerate(queries):
        pairs = np.empty((batch, len(keys)))
        for j, key in enumerate(keys):
            if mode == "concatenation":
                both = np.concatenate([query, key], 1)
                pairs[:, j] = np.maximum(both @ state["project.weight"][0, :, 0, 0], 0)
            else:
                pairs[:, j] = (query * key).sum(1)
        if "gaussian" in mode:
            if scale and mode == "embedded_gaussian":
                pairs = pairs / np.sqrt(inner)
            pairs = np.exp(pairs - pairs.max(1, keepdims=True))
            pairs = pairs / pairs.sum(1, keepdims=True)
        else:
            pairs = pairs / len(keys)
        response = (pairs[:, :, None] * given).sum(1)
        y[:, :, position // width, position % width] = linear(response, state, "out")
    if norm:
        y = batch_norm(y, state, training)
    return x + y


def linear(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    return x @ state[f"{name}.weight"][:, :, 0, 0].T + state[f"{name}.bias"]


def batch_norm(x: np.ndarray, state: dict[str, np.ndarray], training: bool) -> np.ndarray:
    mean, variance = state["norm.running_mean"], state["norm.running_var"]
    if training and x.shape[0] * x.shape[2] * x.shape[3] > 1:  # one value has no statistics (named on the card)
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    each = (slice(None), None, None)
    x = (x - mean[each]) / np.sqrt(variance[each] + 1e-5)
    return x * state["norm.weight"][each] + state["norm.bias"][each]


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_non_local_starts_as_the_identity_as_published(mode: str, norm: bool) -> None:
    module = foveate.create("nl", 16, mode=mode, norm=norm)
    x = torch.randn(2, 16, 6, 7)
    for training in (True, False):
        assert torch.equal(module.train(training)(x), x)
    blocking = module.norm if norm else module.out
    assert not blocking.weight.any()


def test_non_local_starts_with_small_gaussian_weights_and_no_biases() -> None:
    module = foveate.create("non_local", 256, mode="concatenation")
    for layer in (module.theta, module.phi, module.g, module.out, module.project):
        assert has_deviation(layer.weight, 0.01)
        assert layer.bias is None or not layer.bias.any()


def test_non_local_has_a_zero_and_no_second_one_behind_the_blend() -> None:
    for norm in (True, False):
        module = foveate.create("non_local", 16, norm=norm)
        module.start_at_identity()
        assert module.out.weight.any()
        assert not norm or (module.norm.weight == 1).all()


def test_non_local_divides_by_the_root_of_the_embeddings_channels() -> None:
    x = 0.05 * torch.randn(1, 16, 3, 4)  # with larger features the plain softmax has weights of zero
    plain, scaled = (filled(foveate.create("non_local", 16, subsample=False, scale=scale)) for scale in (False, True))
    one, other = gate(plain, x).log(), gate(scaled, x).log()
    differences = [table[:, :1] - table[:, 1:] for table in (one, other)]
    torch.testing.assert_close(differences[0] / 8**0.5, differences[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["embedded_gaussian", "gaussian"])
@pytest.mark.parametrize("subsample", [False, True])
def test_non_locals_weights_sum_to_one_over_the_sources(mode: str, subsample: bool) -> None:
    table = gate(filled(foveate.create("non_local", 8, mode=mode, subsample=subsample)), torch.randn(2, 8, 5, 6))
    torch.testing.assert_close(table.sum(1), torch.ones(2, 30))
    assert not torch.allclose(table.sum(2), torch.ones(2, 30))


def test_non_local_pools_the_features_and_not_their_embeddings() -> None:
    module = filled(foveate.create("non_local", 4, mode="dot_product", norm=False))
    nn.init.constant_(module.g.weight, -1.0)  # the embedding is smallest where the features are largest
    nn.init.zeros_(module.g.bias)
    x = torch.rand(1, 4, 2, 2)
    expected = -x.amax((2, 3)).sum(1)
    torch.testing.assert_close(module.gather(x).value.flatten(), expected.expand(2))


def test_non_local_gives_no_weight_to_a_row_and_column_that_no_cell_has() -> None:
    table = gate(filled(foveate.create("non_local", 8)), torch.randn(1, 8, 5, 7))[0].reshape(5, 7, 35)
    assert not table[4].any()
    assert not table[:, 6].any()
    assert (table[:4, :6] > 0).all()
    torch.testing.assert_close(table[::2, ::2][:2, :3], table[1::2, 1::2])


@pytest.mark.parametrize("mode", ["dot_product", "concatenation"])
def test_non_local_without_softmax_divides_by_the_number_of_sources(mode: str) -> None:
    module = filled(foveate.create("non_local", 8, mode=mode, subsample=False))
    x = torch.randn(1, 8, 1, 3)
    repeated = gate(module, x.repeat(1, 1, 1, 2))
    torch.testing.assert_close(2 * repeated[:, :3, :3], gate(module, x))


def test_non_local_has_the_parameters_of_the_authors_layer_list() -> None:
    """dim_in 1024 and dim_inner 512, as before the last block of res4: four convolutions with biases, and a norm."""
    module = foveate.create("non_local", 1024, device="meta")
    expected = 3 * (1024 * 512 + 512) + (512 * 1024 + 1024) + 2 * 1024
    assert sum(parameter.numel() for parameter in module.parameters()) == expected == 2_101_760
