"""Channel attention of DANet in NumPy, from Fu et al., section 3.3, and the authors' code.

x_ji = exp(A_i · A_j) / Σ_i exp(A_i · A_j) (equation 3), E_j = β Σ_i x_ji A_i + A_j (equation 4): A_i all positions of
channel i, β a learned number that starts at zero. The authors' code puts max_m(A_j · A_m) - A_i · A_j into the
exponential instead.
"""

from __future__ import annotations

import numpy as np
import torch

import foveate
from tests.support.oracles import Options, product
from tests.support.weights import fill, gate

POINTWISE = 16
OPTIONS = product(difference=(True, False))
NORMS = False
VARIANTS = {
    "danet_channel:difference=false": 1,
}
REFUSED = [
    ("cam:difference=1", {}, "difference must be true or false"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    positions = size[0] * size[1]
    # a product of two channels is a sum over positions of terms near two; an error of it, some roundings of that sum,
    # is one of its exponential
    return 2 * channels + 8 * positions + 4 * POINTWISE


def oracle(
    x: np.ndarray, state: dict[str, np.ndarray], *, training: bool = False, difference: bool = True
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    assert list(state) == ["gamma"]
    batch, channels, _, _ = x.shape
    y = np.empty_like(x)
    for b in range(batch):
        for j in range(channels):
            energy = np.array([(x[b, j] * x[b, i]).sum() for i in range(channels)])
            logits = energy.max() - energy if difference else energy
            shares = np.exp(logits - logits.max())
            shares = shares / shares.sum()
            total = sum(share * x[b, i] for i, share in enumerate(shares))
            y[b, j] = x[b, j] + state["gamma"][0] * total
    return y


def test_danet_channel_takes_the_largest_product_less_the_product() -> None:
    """Copies leave the difference out: a channel would take most from itself."""
    x = torch.eye(4).reshape(1, 4, 2, 2)  # every channel is like itself and like no other
    table = gate(foveate.create("cam", 4), x)[0]
    e = torch.tensor(1.0).exp()
    expected = torch.full((4, 4), e.item()).fill_diagonal_(1.0) / (1 + 3 * e)
    torch.testing.assert_close(table, expected)
    positive = gate(foveate.create("cam", 4, difference=False), x)[0]
    torch.testing.assert_close(positive, torch.ones(4, 4).fill_diagonal_(e.item()) / (3 + e))


def test_danet_channels_weights_sum_to_one_over_the_channels_taken_from() -> None:
    table = gate(foveate.create("cam", 16), 0.2 * torch.randn(2, 16, 5, 6))
    torch.testing.assert_close(table.sum(1), torch.ones(2, 16))
    assert not torch.allclose(table.sum(2), torch.ones(2, 16))


def test_danet_channel_has_one_parameter_and_starts_as_the_identity_as_published() -> None:
    module = foveate.create("cam", 16)
    assert {name: parameter.numel() for name, parameter in module.named_parameters()} == {"gamma": 1}
    x = torch.randn(2, 16, 5, 6)
    assert torch.equal(module(x), x)


def test_danet_channel_stays_finite_where_products_are_huge() -> None:
    module = foveate.create("cam", 8)
    fill(module, 1.0, "gamma")
    assert module(1e4 * torch.randn(2, 8, 16, 16)).isfinite().all()
