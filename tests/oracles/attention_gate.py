"""The attention gate in NumPy, from Oktay et al., Attention U-Net, section 2.2, equations 1 and 2.

q = ψ · relu(W_x x + W_g g + b_g) + b_ψ and α = σ(q), on a grid as coarse as the stride of W_x makes it; g and α are
resampled linearly along each axis, with the middles of cells as sampling points; the output is x · α.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from foveate.errors import FoveateError
from tests.support.oracles import Options, product
from tests.support.weights import fill, filled, has_deviation, weights_of

POINTWISE = 24  # sigmoid, and the two terms of every axis of either resampling
NORMS = False
OPTIONS = [
    *product(reduction=(1, 2, 5), stride=(1, 2, 3), normalisation=("sigmoid",)),
    *product(reduction=(2,), stride=(1, 2), normalisation=("softmax",)),
]
EVERY = 2
VARIANTS = {
    "attention_gate:stride=1": 3,
    "attention_gate:stride=3": 6,
    "attention_gate:normalisation=softmax": 4,
}
CAPTURED = ("attention_gate:stride=1", "attention_gate:normalisation=softmax")
REFUSED = [
    ("attention_gate:reduction=0", {}, "at least 1"),
    ("attention_gate:stride=0", {}, "at least 1"),
    ("attention_gate:normalisation=mean", {}, "one of 'sigmoid', 'softmax'"),
    ("attention_gate:dimensions=4", {}, "one of 1, 2, 3"),
    ("attention_gate", {"partner_channels": 0}, "at least 1"),
]


def partner(channels: int, size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """A guide from below: wider, and coarser by one half, or finer where the map is a point or a line."""
    return 2 * channels + 1, (size[0] // 2 or 2, size[1] // 2 or 3)


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    hidden = max(1, channels // options["reduction"])
    softmax = size[0] * size[1] if options["normalisation"] == "softmax" else 0
    return max(channels * options["stride"] ** 2, 2 * channels + 2) + hidden + softmax + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    partner: np.ndarray,
    training: bool = False,
    reduction: int = 2,
    stride: int = 2,
    normalisation: str = "sigmoid",
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w) or with other axes, guided by `partner`, with the module's `state`."""
    batch, channels, *size = x.shape
    assert state["theta.weight"].shape == (max(1, channels // reduction), channels, *(stride for _ in size))
    grid = [max(1, length // stride) for length in size]
    guide = np.tensordot(state["phi.weight"].reshape(state["phi.weight"].shape[:2]), partner, (1, 1))
    guide = np.moveaxis(guide, 0, 1) + state["phi.bias"].reshape(-1, *(1 for _ in size))
    guide = resampled(guide, grid)
    logits = np.empty((batch, *grid))
    for b in range(batch):
        for cell in itertools.product(*(range(length) for length in grid)):
            both = guide[(b, slice(None), *cell)].copy()
            for inside in itertools.product(range(stride), repeat=len(size)):
                at = [stride * number + offset for number, offset in zip(cell, inside, strict=True)]
                if all(number < length for number, length in zip(at, size, strict=True)):  # else beyond the edge: zero
                    both += state["theta.weight"][(slice(None), slice(None), *inside)] @ x[(b, slice(None), *at)]
            logits[(b, *cell)] = state["psi.weight"].reshape(-1) @ np.maximum(both, 0) + state["psi.bias"][0]
    if normalisation == "softmax":
        shares = np.exp(logits - logits.max(tuple(range(1, logits.ndim)), keepdims=True))
        alpha = shares / shares.sum(tuple(range(1, logits.ndim)), keepdims=True)
    else:
        alpha = 1 / (1 + np.exp(-logits))
    return x * resampled(alpha[:, None], size)


def resampled(values: np.ndarray, size: list[int]) -> np.ndarray:
    """Linear interpolation along every axis of positions; outside of the outermost middles their value goes on."""
    for axis, length in enumerate(size, 2):
        have = values.shape[axis]
        lines = []
        for number in range(length):
            at = max(0.0, (number + 0.5) * have / length - 0.5)
            low = min(int(at), have - 1)
            high, share = min(low + 1, have - 1), at - low
            lines.append((1 - share) * values.take(low, axis) + share * values.take(high, axis))
        values = np.stack(lines, axis)
    return values


def maps(channels: int = 8, guide: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, 8, 6, generator=generator), torch.randn(2, guide, 4, 3, generator=generator)


def test_attention_gate_is_one_number_for_all_channels_of_a_position() -> None:
    module = filled(foveate.create("attention_gate", 8, partner_channels=12))
    (weights,) = weights_of(module, *maps()).values()
    assert weights.shape == (2, 1, 8, 6)


def test_attention_gate_is_additive_with_one_bias_before_its_relu() -> None:
    module = foveate.create("attention_gate", 8)
    assert (module.theta.bias, module.phi.bias is not None, module.psi.bias is not None) == (None, True, True)


def test_attention_gate_starts_as_the_authors_code_does() -> None:
    module = foveate.create("attention_gate", 64, partner_channels=128)
    assert has_deviation(module.theta.weight, (2 / (64 * 4)) ** 0.5)
    assert has_deviation(module.phi.weight, (2 / 128) ** 0.5)


def test_attention_gate_without_its_guides_consent_lets_nothing_through() -> None:
    module = filled(foveate.create("attention_gate", 8, partner_channels=12))
    fill(module.psi, 1.0)
    fill(module.psi, -80.0, "bias")
    fill(module.theta, 0.0)
    fill(module.phi, 0.0)
    fill(module.phi, 0.0, "bias")
    x, guide = maps()
    assert module(x, guide).abs().max() < 1e-30
    fill(module.phi, 10.0, "bias")  # each of four channels: 40 - 80
    assert module(x, guide).abs().max() < 1e-15
    fill(module.phi, 40.0, "bias")
    torch.testing.assert_close(module(x, guide), x)


def test_attention_gate_reaches_maps_of_one_position() -> None:
    module = filled(foveate.create("attention_gate", 8, partner_channels=12))
    for size in ((1, 1), (1, 5), (3, 1)):
        assert module(torch.randn(2, 8, *size), torch.randn(2, 12, 2, 2)).isfinite().all()


def test_attention_gate_takes_a_guide_of_the_channels_it_was_made_for() -> None:
    with pytest.raises(RuntimeError, match="12 channels"):
        foveate.create("attention_gate", 8, partner_channels=12)(torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 2, 2))
    with pytest.raises(FoveateError, match="takes one map"):
        foveate.create("eca", 8, partner_channels=12)


def test_attention_gate_of_stride_1_is_monais_without_its_norms() -> None:
    networks = pytest.importorskip("monai.networks.nets.attentionunet")
    theirs = networks.AttentionBlock(spatial_dims=2, f_int=4, f_g=12, f_l=8)
    for part in (theirs.W_g, theirs.W_x, theirs.psi):
        part[1] = nn.Identity()
    ours = foveate.create("attention_gate:stride=1", 8, partner_channels=12)
    own_x, own_g, own_psi = (part[0].conv for part in (theirs.W_x, theirs.W_g, theirs.psi))
    with torch.no_grad():
        ours.theta.weight.copy_(own_x.weight)
        ours.phi.weight.copy_(own_g.weight)
        ours.phi.bias.copy_(own_g.bias + own_x.bias)  # theirs has one on either side of the sum
        ours.psi.weight.copy_(own_psi.weight)
        ours.psi.bias.copy_(own_psi.bias)
    x, guide = torch.randn(2, 8, 7, 5), torch.randn(2, 12, 7, 5)
    torch.testing.assert_close(ours(x, guide), theirs(guide, x))


@pytest.mark.parametrize("size", [(9,), (4, 6, 5)])
@pytest.mark.parametrize("stride", [1, 2])
def test_attention_gate_of_signals_and_volumes(size: tuple[int, ...], stride: int) -> None:
    generator = np.random.default_rng(0)
    options: Options = {"stride": stride, "reduction": 2, "normalisation": "sigmoid"}
    module = foveate.create("attention_gate", 6, partner_channels=5, dimensions=len(size), **options).double()
    state = {key: generator.normal(size=tuple(value.shape)) for key, value in module.state_dict().items()}
    module.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    x, guide = generator.normal(size=(2, 6, *size)), generator.normal(size=(2, 5, *(side // 2 for side in size)))
    with torch.no_grad():
        found = module(torch.from_numpy(x), torch.from_numpy(guide)).numpy()
    expected = oracle(x, state, partner=guide, **options)
    allowed = 2.0**-52 * (6 * stride ** len(size) + 5 + 3 + POINTWISE + 8)  # and two terms more of a third axis, twice
    assert np.abs(found - expected).max() <= allowed * max(1.0, np.abs(expected).max())
