"""Concurrent squeeze-and-excitation in NumPy, from Roy et al., section 2.

cSE: each channel times σ(W₂ δ(W₁ z)), z the means of all channels, δ the ReLU, with biases as the released code has.
sSE: each position times σ of the projection of its channels to one number, with a bias.
scSE: the larger of the two at each element, as in the released code, or their sum, as in the paper's equation.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from tests.support.oracles import Options, product
from tests.support.weights import fill, weights_of

POINTWISE = 16  # sigmoid, product, merge
OPTIONS = [
    *product(parts=("both",), merge=("max", "add"), reduction=(1, 2, 16)),
    *product(parts=("channel", "spatial")),
]
NORMS = False
EVERY = 2
VARIANTS = {
    "scse:merge=add,reduction=16": 1,
    "scse:parts=channel": 1,
    "scse:parts=spatial": 1,
}
REFUSED = [
    ("scse:reduction=0", {}, "reduction must be a whole number of at least 1"),
    ("scse:parts=cse", {}, "parts must be one of 'both', 'channel', 'spatial'"),
    ("scse:merge=sum", {}, "merge must be one of 'max', 'add'"),
]
RESNETS = [
    (50, "scse", 45_714_360),
    (50, "scse:reduction=16", 28_103_144),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    return size[0] * size[1] + 2 * channels + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    reduction: int = 2,
    parts: str = "both",
    merge: str = "max",
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    layers = {"channel": {"fc1", "fc2"}, "spatial": {"projection"}, "both": {"fc1", "fc2", "projection"}}[parts]
    assert set(state) == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    results = []
    if parts != "spatial":
        results.append(channel_part(x, state, max(1, x.shape[1] // reduction)))
    if parts != "channel":
        results.append(spatial_part(x, state))
    if len(results) == 1:
        return results[0]
    return np.where(results[0] > results[1], *results) if merge == "max" else results[0] + results[1]


def channel_part(x: np.ndarray, state: dict[str, np.ndarray], hidden: int) -> np.ndarray:
    w1, w2 = state["fc1.weight"], state["fc2.weight"]
    assert (w1.shape, w2.shape) == ((hidden, x.shape[1]), (x.shape[1], hidden))
    y = np.empty_like(x)
    for b in range(len(x)):
        z = np.array([plane.sum() / plane.size for plane in x[b]])
        hat = w2 @ np.maximum(w1 @ z + state["fc1.bias"], 0) + state["fc2.bias"]
        for c in range(x.shape[1]):
            y[b, c] = x[b, c] / (1 + np.exp(-hat[c]))
    return y


def spatial_part(x: np.ndarray, state: dict[str, np.ndarray]) -> np.ndarray:
    weight = state["projection.weight"].reshape(-1)
    y = np.empty_like(x)
    for b, i, j in np.ndindex(x.shape[0], *x.shape[2:]):
        q = sum(weight[c] * x[b, c, i, j] for c in range(x.shape[1])) + state["projection.bias"][0]
        y[b, :, i, j] = x[b, :, i, j] / (1 + np.exp(-q))
    return y


def test_scse_takes_the_maximum_of_the_features_and_not_of_the_gates() -> None:
    module = foveate.create("scse", 4)
    x = torch.randn(2, 4, 5, 6)
    gates = weights_of(module, x)
    smaller, larger = (choose(*gates.values()) for choose in (torch.minimum, torch.maximum))
    torch.testing.assert_close(module(x), torch.where(x < 0, x * smaller, x * larger))


def test_scse_has_a_reduction_of_two_and_merges_by_the_maximum_unless_told() -> None:
    module = foveate.create("scse", 32)
    assert module.fc1.out_features == 16
    assert (foveate.create("scse", 32, merge="add")(torch.ones(1, 32, 2, 2)) > 0).all()
    assert (module(torch.ones(1, 32, 2, 2)) <= 1).all()


def test_scse_where_both_results_are_equal_each_gets_half_the_gradient() -> None:
    module = foveate.create("scse", 2)
    for layer, value in ((module.fc2, 1.0), (module.projection, -1.0)):
        fill(layer, 0.0)
        fill(layer, value, "bias")
    x = torch.zeros(1, 2, 1, 1, requires_grad=True)  # behind a ReLU most ties are zeros
    module(x).sum().backward()
    gates = torch.tensor([1.0, -1.0]).sigmoid()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full_like(x, gates.mean().item()))


@pytest.mark.parametrize("channels", [1, 3])
def test_scse_with_fewer_channels_than_its_reduction_is_not_a_constant_gate(channels: int) -> None:
    module = foveate.create("scse", channels, reduction=16, parts="channel")
    for layer in (module.fc1, module.fc2):
        fill(layer, 1.0)
        fill(layer, 0.0, "bias")
    (weights,) = weights_of(module, torch.full((1, channels, 2, 2), 0.3)).values()
    torch.testing.assert_close(weights, torch.full_like(weights, 0.3 * channels).sigmoid())


def test_scse_added_is_the_one_of_segmentation_models() -> None:
    modules = pytest.importorskip("segmentation_models_pytorch.base.modules")
    theirs: nn.Module = modules.SCSEModule(32).double()
    ours = foveate.create("scse", 32, merge="add", reduction=16, dtype=torch.float64)
    named = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    for mine, value in named:
        mine.copy_(value.reshape(mine.shape))
    x = torch.randn(2, 32, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-14, atol=1e-14)
