"""Style-based Recalibration in NumPy, from Lee et al., section 3.

Style pooling (equations 1 to 3):     t_c = [μ_c, σ_c], mean and standard deviation over positions
Style integration (equations 4 to 6): z_c = w_c · t_c;  ẑ_c = batch normalisation of z_c;  g_c = sigmoid(ẑ_c)
Recalibration (equation 7):           x̂_c = g_c x_c
The released code's variance divides by one less than the positions, and has 1e-5 added to it.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import BATCH, Options
from tests.support.weights import fill, filled, gate

POINTWISE = 16  # root, norm, sigmoid, scale
SPREAD = 2  # the styles of four samples may lie close together: dividing by their deviation enlarges roundings
OPTIONS: list[Options] = [{}]
ONE_SAMPLE: Options = {}
RESNETS = [
    (50, "style_recalibration", 25_617_448),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    gathered = 2 * size[0] * size[1] + POINTWISE
    return SPREAD * (gathered + BATCH) if training else gathered


def oracle(x: np.ndarray, state: dict[str, np.ndarray], *, training: bool = False) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    positions = height * width
    assert state["cfc"].shape == (channels, 2)
    style = np.zeros((batch, channels))
    for b in range(batch):
        for c in range(channels):
            values = x[b, c].ravel()
            mean = sum(values) / positions
            squares = sum((value - mean) ** 2 for value in values)
            variance = squares / (positions - 1) if positions > 1 else 0.0  # named on the card
            u, v = state["cfc"][c]
            style[b, c] = u * mean + v * np.sqrt(variance + 1e-5)
    y = np.empty_like(x)
    for c in range(channels):
        mean, variance = state["bn.running_mean"][c], state["bn.running_var"][c]
        if training and batch > 1:  # one sample has no statistics of its own (named on the card)
            mean = style[:, c].sum() / batch
            variance = ((style[:, c] - mean) ** 2).sum() / batch
        for b in range(batch):
            normed = (style[b, c] - mean) / np.sqrt(variance + 1e-5) * state["bn.weight"][c] + state["bn.bias"][c]
            y[b, c] = x[b, c] / (1 + np.exp(-normed))
    return y


@pytest.mark.parametrize("training", [False, True])
def test_srm_is_finite_on_one_position(training: bool) -> None:
    module = filled(foveate.create("srm", 5)).train(training)
    x = torch.randn(3, 5, 1, 1, requires_grad=True)
    y = module(x)
    y.square().sum().backward()
    assert y.isfinite().all()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in (x, *module.parameters()))


def test_srm_has_a_finite_gradient_where_a_channel_is_constant() -> None:
    module = filled(foveate.create("srm", 3))
    x = torch.full((2, 3, 4, 4), 2.0, requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_srms_deviation_is_unbiased() -> None:
    context = foveate.create("srm", 1).gather(torch.tensor([[[[1.0, 3.0]]]]))
    torch.testing.assert_close(context, torch.tensor([[[2.0, (2 + 1e-5) ** 0.5]]]))  # biased, it would be 1


def test_srm_starts_with_weights_of_zero_and_a_gate_of_a_half() -> None:
    module = foveate.create("srm", 8)
    assert not module.cfc.any()
    assert module.cfc.shape == (8, 2)
    weights = gate(module.train(), torch.randn(4, 8, 5, 5))
    assert torch.equal(weights, torch.full_like(weights, 0.5))


def test_srm_keeps_channels_apart() -> None:
    module = filled(foveate.create("srm", 4))
    x = torch.randn(2, 4, 5, 5)
    before = gate(module, x)
    x[:, 2] *= 3
    changed = (gate(module, x) != before).any(0).flatten().tolist()
    assert changed == [False, False, True, False]


def test_srm_has_a_norm_between_its_weights_and_the_sigmoid() -> None:
    module = foveate.create("srm", 4).eval()
    assert sum(p.numel() for p in module.parameters()) == 4 * 4  # two weights, and the norm's two
    fill(module.bn, -2.0, "bias")
    weights = gate(module, torch.randn(1, 4, 5, 5))
    torch.testing.assert_close(weights, torch.full_like(weights, -2.0).sigmoid())
