"""Criss-Cross Attention in NumPy, from Huang et al., section 3.2, and the recurrence of its section 3.3.

H'_u = Σ_i A_(i,u) Φ_(i,u) + H_u (equation 2): Φ_u are the values of the h + w - 1 positions in the row and column of u,
u itself once, A the softmax over them of the products of u's query with their keys (equation 1). Queries and keys
have an eighth of the channels. The authors' code multiplies the sum by a learned number that starts at zero.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import Options, product
from tests.support.weights import filled, weights_of

POINTWISE = 16
OPTIONS = product(reduction=(1, 3, 8), recurrence=(1, 2, 3))
NORMS = False
EVERY = 5
VARIANTS = {
    "criss_cross:recurrence=1": 1,
    "criss_cross:recurrence=3": 1,
}
REFUSED = [
    ("cc:recurrence=0", {}, "recurrence"),
    ("cc:reduction=0", {}, "reduction"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    hidden = max(1, channels // options.get("reduction", 8))
    once = 2 * channels + 4 * hidden + 2 * sum(size) + POINTWISE
    # every application feeds the next, whose products square its values: errors grow with them
    return once * 16 ** (options.get("recurrence", 2) - 1)


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    reduction: int = 8,
    recurrence: int = 2,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    for _ in range(recurrence):
        x = once(x, state)
    return x


def once(x: np.ndarray, state: dict[str, np.ndarray]) -> np.ndarray:
    batch, _, height, width = x.shape
    query, key, value = (
        np.einsum("oc,bchw->bohw", state[f"{name}.weight"][:, :, 0, 0], x) + state[f"{name}.bias"][:, None, None]
        for name in ("query_conv", "key_conv", "value_conv")
    )
    y = np.empty_like(x)
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                cross = [(i, n) for n in range(width)] + [(m, j) for m in range(height) if m != i]
                assert len(cross) == height + width - 1
                logits = np.array([query[b, :, i, j] @ key[b, :, m, n] for m, n in cross])
                shares = np.exp(logits - logits.max())
                shares = shares / shares.sum()
                total = sum(share * value[b, :, m, n] for share, (m, n) in zip(shares, cross, strict=True))
                y[b, :, i, j] = x[b, :, i, j] + state["gamma"][0] * total
    return y


def relations(recurrence: int, size: tuple[int, int] = (5, 6)) -> dict[str, torch.Tensor]:
    module = filled(foveate.create("criss_cross", 8, recurrence=recurrence))
    return weights_of(module, 0.3 * torch.randn(2, 8, *size))


def test_criss_cross_counts_the_crossing_once() -> None:
    """Without -inf in one of the two, a position's share in itself would be that of two."""
    module = filled(foveate.create("criss_cross", 8, recurrence=1))
    torch.nn.init.zeros_(module.query_conv.weight)
    torch.nn.init.zeros_(module.query_conv.bias)  # all products are zero
    (table,) = weights_of(module, torch.randn(1, 8, 4, 5)).values()
    torch.testing.assert_close(table[0].diagonal(), torch.full((20,), 1 / 8))
    torch.testing.assert_close(table.sum(1), torch.ones(1, 20))


def test_criss_cross_looks_along_row_and_column_only() -> None:
    (table,) = relations(1).values()
    for target in range(30):
        row, column = divmod(target, 6)
        seen = {source for source in range(30) if (table[:, source, target] > 0).any()}
        assert seen <= {s for s in range(30) if s // 6 == row or s % 6 == column}
        assert len(seen) > 6  # beyond the row


def test_criss_cross_reaches_every_position_in_two_applications_and_shares_their_parameters() -> None:
    one, two = (foveate.create("criss_cross", 8, recurrence=recurrence) for recurrence in (1, 2))
    assert one.state_dict().keys() == two.state_dict().keys()
    for module, reached in ((one, 5 + 6 - 1), (two, 30)):
        filled(module)
        x = (0.1 * torch.randn(1, 8, 5, 6, dtype=torch.float64)).requires_grad_()
        module.double()(x)[0, :, 2, 3].sum().backward()
        assert x.grad is not None
        assert int((x.grad != 0).any(1).sum()) == reached


def test_criss_cross_is_the_same_applied_twice() -> None:
    one, two = (filled(foveate.create("criss_cross", 8, recurrence=recurrence)).double() for recurrence in (1, 2))
    two.load_state_dict(one.state_dict())
    x = 0.1 * torch.randn(2, 8, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(two(x), one(one(x)))


def test_criss_cross_starts_as_the_identity_as_published() -> None:
    module = foveate.create("criss_cross", 16)
    x = torch.randn(2, 16, 5, 6)
    assert torch.equal(module(x), x)
    assert not module.gamma.any()


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (6, 1)])
def test_criss_cross_is_finite_where_a_column_holds_the_position_alone(size: tuple[int, int]) -> None:
    for table in relations(2, size).values():
        assert table.isfinite().all()
        torch.testing.assert_close(table.sum(1), torch.ones(2, size[0] * size[1]))


def test_criss_cross_makes_its_mask_where_its_input_is() -> None:
    """Copies make it on the CPU, the authors' code on CUDA; the meta device stands for any other."""
    module = foveate.create("criss_cross", 8, device="meta")
    assert module(torch.empty(2, 8, 5, 6, device="meta")).is_meta


def test_criss_cross_relates_no_pair_off_the_crosses_in_its_forward_pass() -> None:
    """On a map of 24×24 the largest tensor is that of features, not of 576×576 pairs."""
    from foveate.testing.watch import Operations

    with Operations() as operations, torch.no_grad():
        foveate.create("criss_cross", 8)(torch.randn(1, 8, 24, 24))
    assert max(result.numel() for _, results in operations.seen for result in results) <= 24 * 24 * (24 + 24)
