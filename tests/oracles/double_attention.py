"""Double attention block in NumPy, from Chen et al., section 3.

A, B and V are 1×1 convolutions of X. Descriptors are gathered as g_i = Σ_j softmax(b_i)_j a_j, the softmax over all
positions, one for each map b_i; each position receives z_j = Σ_i softmax(v_j)_i g_i, the softmax
over the descriptors. A convolution brings the result to the channels of X, and it is added.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import filled, gate

POINTWISE = 16
OPTIONS = [*product(norm=(True, False), descriptors=(None, 1, 5)), *product(reduction=(1, 3), norm=(True, False))]
EVERY = 9
VARIANTS = {
    "double_attention:norm=false": 1,
    "double_attention:descriptors=3": 1,
}
REFUSED = [
    ("a2:descriptors=0", {}, "descriptors"),
    ("a2:reduction=0", {}, "reduction"),
    ("a2:norm=1", {}, "norm must be true or false"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    positions = size[0] * size[1]
    return 6 * channels + 2 * positions + (6 * BATCH * positions if training else 0) + 4 * POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    reduction: int = 2,
    descriptors: int | None = None,
    norm: bool = True,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    inner = max(1, channels // reduction)
    y = np.empty_like(x)
    for b in range(batch):
        places = [x[b, :, i, j] for i in range(height) for j in range(width)]
        value, gathering, distribution = (
            np.stack([state[f"{name}.weight"][:, :, 0, 0] @ place for place in places])
            for name in ("value", "gathering", "distribution")
        )
        value, distribution = value + state["value.bias"], distribution + state["distribution.bias"]
        assert value.shape[1] == inner
        assert gathering.shape[1] == distribution.shape[1] == (descriptors or inner)
        gathered = [
            sum(share * given for share, given in zip(softmax(gathering[:, n]), value, strict=True))
            for n in range(gathering.shape[1])
        ]
        for here in range(len(places)):
            z = sum(share * g for share, g in zip(softmax(distribution[here]), gathered, strict=True))
            y[b, :, here // width, here % width] = state["out.weight"][:, :, 0, 0] @ z + state["out.bias"]
    if norm:
        mean, variance = state["norm.running_mean"], state["norm.running_var"]
        if training and batch * height * width > 1:  # one value has no statistics (named on the card)
            mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3))
        each = (slice(None), None, None)
        y = (y - mean[each]) / np.sqrt(variance[each] + 1e-5) * state["norm.weight"][each] + state["norm.bias"][each]
    return x + y


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


def test_double_attention_keeps_samples_apart() -> None:
    """A softmax without an axis runs over the batch in a copy: an image's output changes with its neighbours."""
    module = filled(foveate.create("a2", 8))
    x = torch.randn(3, 8, 5, 6)
    torch.testing.assert_close(module(x)[:1], module(x[:1]))


def test_double_attention_gathers_over_positions_and_distributes_over_descriptors() -> None:
    module = filled(foveate.create("a2", 8, descriptors=3))
    weights = module.weigh(module.gather(torch.randn(2, 8, 5, 6)))
    torch.testing.assert_close(weights.gathering.sum(2), torch.ones(2, 3))
    torch.testing.assert_close(weights.distribution.sum(1), torch.ones(2, 30))
    table = gate(module, torch.randn(2, 8, 5, 6))
    torch.testing.assert_close(table.sum(1), torch.ones(2, 30))
    assert torch.linalg.matrix_rank(table.double(), rtol=1e-5).tolist() == [3, 3]


def test_double_attention_adds_to_the_features_and_starts_as_the_identity() -> None:
    x = torch.randn(2, 16, 5, 6)
    for norm in (True, False):
        module = foveate.create("a2", 16, norm=norm)
        assert torch.equal(module(x), x)


def test_double_attention_has_a_zero_and_no_second_one_behind_the_blend() -> None:
    for norm in (True, False):
        module = foveate.create("a2", 16, norm=norm)
        module.start_at_identity()
        assert module.out.weight.any()
        assert not norm or (module.norm.weight == 1).all()


@pytest.mark.parametrize("size", [(24, 24), (12, 48)])
def test_double_attention_never_makes_the_matrix_of_all_pairs(size: tuple[int, int]) -> None:
    from foveate.testing.watch import Operations

    with Operations() as operations, torch.no_grad():
        foveate.create("a2", 8)(torch.randn(1, 8, *size))
    assert max(result.numel() for _, results in operations.seen for result in results) <= 8 * 576
