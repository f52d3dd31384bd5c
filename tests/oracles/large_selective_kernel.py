"""Large Selective Kernel attention in NumPy, from Li et al., section 3.3.

U₁ is a depthwise 5×5 convolution of X, U₂ a depthwise 7×7 one with dilation 3 of U₁ (equation 2); 1×1 convolutions
give Ũ₁ and Ũ₂ (equation 3) and Ũ = [Ũ₁; Ũ₂] (equation 4). SA = σ(F²→²([P_avg(Ũ); P_max(Ũ)])) over channels (equations
5 to 7), S = F(SA₁ · Ũ₁ + SA₂ · Ũ₂) (equation 8) and Y = X · S (equation 9). F²→² is 7×7; all convolutions have biases
and Ũ₁ and Ũ₂ half the channels each, as in the released code.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import Options
from tests.support.weights import fill, filled, has_deviation, weights_of

POINTWISE = 16  # sigmoid, biases, products
OPTIONS: list[Options] = [{}]
NORMS = False


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    return 25 + 49 + channels + channels + 2 * 49 + channels + POINTWISE


def oracle(x: np.ndarray, state: dict[str, np.ndarray], *, training: bool = False) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    near = depthwise(x, state["conv0.weight"], state["conv0.bias"], 1)
    far = depthwise(near, state["conv_spatial.weight"], state["conv_spatial.bias"], 3)
    views = [pointwise(near, state, "conv1"), pointwise(far, state, "conv2")]
    assert views[0].shape[1] == views[1].shape[1] == max(1, channels // 2)

    pooled = np.empty((batch, 2, height, width))
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                column = [*views[0][b, :, i, j], *views[1][b, :, i, j]]
                pooled[b, :, i, j] = sum(column) / len(column), max(column)
    kernel, shift = state["conv_squeeze.weight"], state["conv_squeeze.bias"]
    assert kernel.shape == (2, 2, 7, 7)
    chosen = np.zeros_like(views[0])
    for i in range(height):
        for j in range(width):
            for k in (0, 1):
                logit = np.full(batch, shift[k])
                for p in range(max(0, i - 3), min(height, i + 4)):
                    for q in range(max(0, j - 3), min(width, j + 4)):
                        logit += pooled[:, :, p, q] @ kernel[k, :, p - i + 3, q - j + 3]
                chosen[:, :, i, j] += views[k][:, :, i, j] / (1 + np.exp(-logit))[:, None]
    return x * pointwise(chosen, state, "conv")


def depthwise(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, spacing: int) -> np.ndarray:
    """Each channel with its own square kernel, its cells `spacing` apart and centred; zero outside the map."""
    _, channels, height, width = x.shape
    side = {1: 5, 3: 7}[spacing]
    assert kernel.shape == (channels, 1, side, side)
    out = np.zeros_like(x) + bias[:, None, None]
    for i in range(height):
        for j in range(width):
            for p in range(side):
                for q in range(side):
                    row, column = i + (p - side // 2) * spacing, j + (q - side // 2) * spacing
                    if 0 <= row < height and 0 <= column < width:
                        out[:, :, i, j] += kernel[:, 0, p, q] * x[:, :, row, column]
    return out


def pointwise(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    return np.einsum("oc,bchw->bohw", state[f"{name}.weight"][:, :, 0, 0], x) + state[f"{name}.bias"][:, None, None]


def test_lsk_has_a_sigmoid_on_its_selection_and_none_on_its_factors() -> None:
    weights = weights_of(filled(foveate.create("lsk", 8)), torch.randn(2, 8, 9, 9))
    assert weights["selection_map"].shape == (2, 2, 9, 9)
    assert ((weights["selection_map"] >= 0) & (weights["selection_map"] <= 1)).all()
    assert weights["factor_map"].min() < 0
    assert weights["factor_map"].max() > 1


def test_lsk_squeezes_mean_and_maximum_over_both_views_together() -> None:
    """Not of each view by itself: swapping the views' channels changes nothing."""
    module = filled(foveate.create("lsk", 8))
    x = torch.randn(2, 8, 6, 7)
    fill(module.conv_spatial, 0.0)
    with torch.no_grad():
        module.conv_spatial.weight[:, 0, 3, 3] = 1.0
        module.conv_spatial.bias.zero_()  # the far view is the near one, but for the 1×1 convolutions
    before = weights_of(module, x)["selection_map"]
    one, other = (module.conv1.state_dict(), module.conv2.state_dict())
    one, other = ({key: value.clone() for key, value in state.items()} for state in (one, other))
    module.conv1.load_state_dict(other)
    module.conv2.load_state_dict(one)
    torch.testing.assert_close(weights_of(module, x)["selection_map"], before)
    views = module.gather(x)
    both = torch.cat(views, 1)
    for plane, summary in ((0, both.mean(1)), (1, both.amax(1))):  # the mean first
        fill(module.conv_squeeze, 0.0)
        fill(module.conv_squeeze, 0.0, "bias")
        with torch.no_grad():
            module.conv_squeeze.weight[:, plane, 3, 3] = 1.0
        torch.testing.assert_close(weights_of(module, x)["selection_map"][:, 0], summary.sigmoid())


def test_lsk_keeps_all_biases_and_halves_the_channels_of_its_views() -> None:
    c = 16
    module = foveate.create("lsk", c)
    assert all(layer.bias is not None for layer in module.children() if hasattr(layer, "weight"))
    depthwise_parts = 25 * c + c + 49 * c + c
    assert sum(p.numel() for p in module.parameters()) == (
        depthwise_parts + 2 * (c * c // 2 + c // 2) + 2 * 2 * 49 + 2 + c // 2 * c + c
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_lsk_of_few_channels_still_looks(channels: int) -> None:
    module = filled(foveate.create("lsk", channels))
    x = torch.randn(1, channels, 5, 5)
    assert not torch.equal(module(2 * x), 2 * module(x))


def test_lsk_starts_as_the_authors_network_does() -> None:
    module = foveate.create("lsk", 256)
    for layer, fan_out in (
        (module.conv0, 25),
        (module.conv_spatial, 49),
        (module.conv1, 128),
        (module.conv_squeeze, 98),
        (module.conv, 256),
    ):
        assert has_deviation(layer.weight, (2 / fan_out) ** 0.5)
        assert not layer.bias.any()
