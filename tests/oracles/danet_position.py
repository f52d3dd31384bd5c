"""Position attention of DANet in NumPy, from Fu et al., section 3.2.

s_ji = exp(B_i · C_j) / Σ_i exp(B_i · C_j) (equation 1), E_j = α Σ_i s_ji D_i + A_j (equation 2), with B, C and D from
1×1 convolutions of A, and α a learned number that starts at zero. Queries and keys have an eighth of the channels in
the authors' code.
"""

from __future__ import annotations

import numpy as np
import torch

import foveate
from tests.support.oracles import Options, product
from tests.support.weights import filled, gate

POINTWISE = 16
OPTIONS = product(reduction=(1, 3, 8))
NORMS = False
EVERY = 3
REFUSED = [
    ("pam:reduction=0", {}, "reduction"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    hidden = max(1, channels // options.get("reduction", 8))
    # an error of a product is one of its exponential, times the product's magnitude: a few times its number of terms
    return 3 * channels + 8 * hidden + 2 * size[0] * size[1] + 4 * POINTWISE


def oracle(x: np.ndarray, state: dict[str, np.ndarray], *, training: bool = False, reduction: int = 8) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    y = np.empty_like(x)
    for b in range(batch):
        places = [x[b, :, i, j] for i in range(height) for j in range(width)]
        query, key, value = (
            np.stack([state[f"{name}.weight"][:, :, 0, 0] @ place + state[f"{name}.bias"] for place in places])
            for name in ("query_conv", "key_conv", "value_conv")
        )
        assert query.shape[1] == key.shape[1] == max(1, channels // reduction)
        for here, place in enumerate(places):
            logits = np.array([query[here] @ other for other in key])
            shares = np.exp(logits - logits.max())
            shares = shares / shares.sum()
            total = sum(share * given for share, given in zip(shares, value, strict=True))
            y[b, :, here // width, here % width] = place + state["gamma"][0] * total
    return y


def test_danet_position_has_an_eighth_of_the_channels_in_its_queries_and_keys() -> None:
    """Copies give them all: 12,481 parameters for 64 channels."""
    module = foveate.create("pam", 64)
    assert module.query_conv.out_channels == module.key_conv.out_channels == 8
    assert sum(parameter.numel() for parameter in module.parameters()) == 5_201


def test_danet_position_starts_as_the_identity_as_published() -> None:
    module = foveate.create("pam", 16)
    x = torch.randn(2, 16, 5, 6)
    assert torch.equal(module(x), x)
    assert not module.gamma.any()


def test_danet_position_takes_any_channels_and_any_size() -> None:
    """A copy has 512 channels and 7×7 positions whatever it is told."""
    for channels, size in ((3, (4, 9)), (20, (1, 1)), (64, (7, 7))):
        assert foveate.create("pam", channels)(torch.randn(2, channels, *size)).shape == (2, channels, *size)


def test_danet_positions_weights_sum_to_one_over_the_sources() -> None:
    table = gate(filled(foveate.create("pam", 16)), 0.2 * torch.randn(2, 16, 5, 6))
    torch.testing.assert_close(table.sum(1), torch.ones(2, 30))
    assert not torch.allclose(table.sum(2), torch.ones(2, 30))
