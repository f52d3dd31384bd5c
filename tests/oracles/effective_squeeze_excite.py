"""Effective Squeeze-Excitation in NumPy, from Lee and Park (CenterMask), section 3.3, equation 1 and the text below it.

A_eSE = s(W F_gap(X)), one matrix of C rows and C columns, F_gap the mean over positions; X_refine = A_eSE ⊗ X.
The released code adds a bias and has the hard sigmoid for s, which is 0 below -3, 1 above 3 and straight between.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import Options, product
from tests.support.weights import fill, gate, has_deviation

POINTWISE = 16  # gate, scale, shift
OPTIONS = product(gate=("hard_sigmoid", "sigmoid"))
NORMS = False
VARIANTS = {
    "effective_squeeze_excite:gate=sigmoid": 1,
}
REFUSED = [
    ("ese:gate=tanh", {}, "gate must be one of 'hard_sigmoid', 'sigmoid'"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    return size[0] * size[1] + channels + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    gate: str = "hard_sigmoid",
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    weight, bias = state["fc.weight"], state["fc.bias"]
    assert weight.shape == (channels, channels)
    y = np.empty_like(x)
    for b in range(batch):
        means = [sum(x[b, c].ravel()) / (height * width) for c in range(channels)]
        for c in range(channels):
            logit = bias[c]
            for k in range(channels):
                logit += weight[c, k] * means[k]
            if gate == "sigmoid":
                share = 1 / (1 + np.exp(-logit))
            elif logit <= -3:
                share = 0.0
            elif logit >= 3:
                share = 1.0
            else:
                share = (logit + 3) / 6
            y[b, c] = share * x[b, c]
    return y


def test_ese_is_one_layer_with_a_bias_and_no_bottleneck() -> None:
    for channels in (1, 3, 64):
        shapes = {name: tuple(p.shape) for name, p in foveate.create("ese", channels).named_parameters()}
        assert shapes == {"fc.weight": (channels, channels), "fc.bias": (channels,)}


def test_ese_gates_with_a_hard_sigmoid_and_not_with_a_sigmoid() -> None:
    module = foveate.create("ese", 7)
    fill(module.fc, 0.0)
    with torch.no_grad():
        module.fc.bias.copy_(torch.tensor([-9.0, -3.0, -1.5, 0.0, 1.5, 3.0, 9.0]))
    weights = gate(module, torch.randn(1, 7, 2, 2)).flatten()
    torch.testing.assert_close(weights, torch.tensor([0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0]))


def test_ese_starts_as_the_authors_network_does() -> None:
    assert has_deviation(foveate.create("ese", 256).fc.weight, (2 / 256) ** 0.5)


@pytest.mark.parametrize(("network", "count"), [("ese_vovnet19b_dw", 6_543_080), ("ese_vovnet39b", 24_568_936)])
def test_ese_has_as_many_parameters_as_in_the_networks_of_timm(network: str, count: int) -> None:
    """VoVNetV2's widths are in CenterMask's table 1; timm has trained weights of these two."""
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        model = timm.create_model(network)
        for stage, channels in zip(model.stages, (256, 512, 768, 1024), strict=True):
            stage.blocks[-1].attn = foveate.create("ese", channels)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
