"""Skip-Squeeze-Excitation in NumPy, from Goyal et al., section 3.1, with the layers of the released code.

z is the batch-normalised skip connection; its gate is σ of one layer, without bias, on the means of z over positions.
"""

from __future__ import annotations

import numpy as np
import torch

import foveate
from tests.support.oracles import BATCH, Options
from tests.support.weights import fill, gate

POINTWISE = 16  # norm, sigmoid, product
OPTIONS: list[Options] = [{}]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    positions = size[0] * size[1]
    return positions + channels + (2 * BATCH * positions if training else 0) + POINTWISE


def oracle(x: np.ndarray, state: dict[str, np.ndarray], *, training: bool = False) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels = x.shape[:2]
    z = np.empty_like(x)
    for c in range(channels):
        values = x[:, c]
        mean, variance = state["norm.running_mean"][c], state["norm.running_var"][c]
        if training and values.size > 1:  # one value has no statistics of its own (named on the card)
            mean = values.sum() / values.size
            variance = ((values - mean) ** 2).sum() / values.size
        z[:, c] = state["norm.weight"][c] * (values - mean) / np.sqrt(variance + 1e-5) + state["norm.bias"][c]
    layer = state["fc.weight"]
    assert layer.shape == (channels, channels)
    y = np.empty_like(x)
    for b in range(batch):
        squeezed = [plane.sum() / plane.size for plane in z[b]]
        for c in range(channels):
            logit = sum(layer[c, k] * squeezed[k] for k in range(channels))
            y[b, c] = z[b, c] / (1 + np.exp(-logit))
    return y


def test_skip_squeeze_excite_has_one_layer_without_bottleneck_and_without_bias() -> None:
    assert {name: p.shape for name, p in foveate.create("sse", 32).named_parameters()} == {
        "norm.weight": (32,),
        "norm.bias": (32,),
        "fc.weight": (32, 32),
    }


def test_skip_squeeze_excite_weighs_and_judges_the_normalised_features() -> None:
    module = foveate.create("sse", 2).eval()
    fill(module.norm, 0.0)
    with torch.no_grad():
        module.norm.bias.copy_(torch.tensor([1.0, -2.0]))
        module.fc.weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
    x = torch.randn(1, 2, 3, 3)
    gates = torch.tensor([-1.0, -2.0]).sigmoid()
    torch.testing.assert_close(gate(module, x).flatten(), gates)
    expected = (gates * module.norm.bias)[None, :, None, None].expand_as(x)
    torch.testing.assert_close(module(x), expected)
