"""Gated Channel Transformation in NumPy, from Yang et al., section 3.

Embedding (equation 2):      s_c = α_c ‖x_c‖₂ = α_c √(Σ_hw x_c² + ε)
Normalisation (equation 3):  ŝ_c = √C s_c / ‖s‖₂ = s_c / √(mean_c(s²) + ε)
Gating (equation 4):         x̂_c = x_c (1 + tanh(γ_c ŝ_c + β_c))
The released code also has the l1 form, s_c = α_c Σ_hw |x_c| over mean_c |s| + ε, and the same without the magnitude.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from foveate.errors import OptionError
from foveate.surgery import attach, parameter_groups
from tests.support.oracles import Options, product
from tests.support.weights import filled, gate

POINTWISE = 16  # roots, quotient, tanh, scale
OPTIONS = product(norm=("l2", "l1", "sum"))
NORMS = False
VARIANTS = {
    "gated_channel:norm=l1": 1,
    "gated_channel:norm=sum": 1,
}
REFUSED = [
    ("gated_channel:norm=l3", {}, "norm must be one of 'l2', 'l1', 'sum'"),
]
RESNETS = [
    (50, "gated_channel", 25_602_344),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    return size[0] * size[1] + channels + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    norm: str = "l2",
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels = x.shape[:2]
    assert {key: value.size for key, value in state.items()} == dict.fromkeys(("alpha", "gamma", "beta"), channels)
    y = np.empty_like(x)
    for b in range(batch):
        embedded = []
        for c in range(channels):
            values = x[b, c].ravel()
            if norm == "l2":
                length = math.sqrt(sum(v * v for v in values) + 1e-5)
            else:
                length = sum(abs(v) if norm == "l1" else v for v in values)
            embedded.append(state["alpha"][c] * length)
        if norm == "l2":
            among = math.sqrt(sum(s * s for s in embedded) / channels + 1e-5)
        else:
            among = sum(abs(s) for s in embedded) / channels + 1e-5
        for c in range(channels):
            y[b, c] = x[b, c] * (1 + math.tanh(state["gamma"][c] * embedded[c] / among + state["beta"][c]))
    return y


def test_gct_asks_which_of_the_two_is_meant() -> None:
    with pytest.raises(OptionError, match="'gct' may mean gated_channel, gaussian_context: write which"):
        foveate.get("gct")


@pytest.mark.parametrize("norm", ["l2", "l1", "sum"])
def test_gated_channel_is_the_identity_at_its_start_as_published(norm: str) -> None:
    module = foveate.create("gated_channel", 8, norm=norm)
    assert (module.alpha == 1).all()
    assert not module.gamma.any()
    assert not module.beta.any()
    x = torch.randn(2, 8, 5, 6)
    assert torch.equal(module(x), x)


def test_gated_channel_started_at_the_identity_has_no_second_zero_beside_its_own() -> None:
    module = filled(foveate.create("gated_channel", 8))
    module.start_at_identity()
    assert module.blend is None
    x = torch.randn(2, 8, 5, 6)
    assert torch.equal(module(x), x)


def test_gated_channel_lies_between_nothing_and_twice_the_input() -> None:
    weights = gate(filled(foveate.create("gated_channel", 64)), torch.randn(4, 64, 5, 5))
    assert weights.min() < 1 < weights.max()  # a sigmoid would stay below one
    assert ((weights >= 0) & (weights <= 2)).all()


def test_gated_channel_of_equal_channels_knows_no_scale() -> None:
    """The norms are divided by their root mean square: twice the features give the same gate."""
    module = filled(foveate.create("gated_channel", 8))
    x = torch.randn(1, 8, 9, 9)
    torch.testing.assert_close(gate(module, 1000 * x), gate(module, x), rtol=1e-4, atol=1e-5)


def test_gated_channel_sums_squares_over_positions_and_does_not_average_them() -> None:
    context = foveate.create("gated_channel", 1).gather(torch.tensor([[[[3.0, -4.0], [0.0, 0.0]]]]))
    torch.testing.assert_close(context, torch.tensor([[5.0]]))


def test_gated_channel_has_a_finite_gradient_on_an_empty_map() -> None:
    for norm in ("l2", "l1", "sum"):
        x = torch.zeros(1, 4, 3, 3, requires_grad=True)
        filled(foveate.create("gated_channel", 4, norm=norm))(x).sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()


def test_gated_channels_numbers_are_spared_weight_decay() -> None:
    """The authors decay no β; decay would pull α, which starts at one, to zero as well."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    attach(model, "gated_channel", at="1", example=torch.randn(1, 3, 9, 9))
    groups = {group["name"]: group for group in parameter_groups(model, lr=0.1, weight_decay=1e-4)}
    assert "attention" not in groups
    assert sorted(p.numel() for p in groups["attention_no_decay"]["params"]) == [8, 8, 8]
    assert groups["attention_no_decay"]["weight_decay"] == 0
