"""Convolutional Block Attention Module in NumPy, from Woo et al., section 3, equations 1 to 3.

Channel: M_c(F) = σ(Σ_p W₁ relu(W₀ pool_p(F))), one network for all pools; with biases, as the released code has it.
Spatial: M_s(F) = σ(f^(k×k)([max over channels; mean over channels])), in the released code's order and with its norm.
F' = M_c(F) · F, then F'' = M_s(F') · F'.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import timm
import torch
from torch import nn

import foveate
from foveate.surgery import attach
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import fill, gate, has_deviation, logit, weights_of

POINTWISE = 16  # sigmoid, scale, shift, interpolation
POOLS = ("avg", "max", "lp", "lse")
OPTIONS = [
    *({"pools": pools} for n in range(1, 5) for pools in itertools.combinations(POOLS, n)),
    {"pools": ("max", "avg")},
    *product(parts=("both", "channel", "spatial"), norm=(True, False), kernel_size=(1, 3, 7)),
    *product(parts=("both", "channel"), reduction=(1, 5)),
]
EVERY = 3
VARIANTS = {
    "cbam:pools=avg": 1,
    "cbam:pools=max": 1,
    "cbam:pools=lp": 1,
    "cbam:pools=lse": 1,
    "cbam:pools=avg+max+lp+lse": 1,
    "cbam:parts=channel": 1,
    "cbam:parts=spatial": 1,
    "cbam:kernel_size=3,norm=false": 1,
}
CAPTURED = ("cbam:pools=avg+max+lp+lse",)
REFUSED = [
    ("cbam:kernel_size=6", {}, "5 and 7"),
    ("cbam:pools=avg+median", {}, "pools must be one of"),
    ("cbam:pools=avg+avg", {}, "each pool once"),
    ("cbam:pools=3", {}, "pools"),
    ("cbam", {"pools": None}, "pools"),
]
RENAMES = {
    "ChannelGate.mlp.1.": "channel.fc1.",
    "ChannelGate.mlp.3.": "channel.fc2.",
    "SpatialGate.spatial.conv.": "spatial.conv.",
    "SpatialGate.spatial.bn.": "spatial.norm.",
}
RESNETS = [
    (18, "cbam", 11_779_392),
    (34, "cbam", 21_960_468),
    (50, "cbam", 28_089_624),
    (101, "cbam", 49_330_172),
    (152, "cbam", 66_826_848),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    positions = size[0] * size[1]
    channel = positions + 2 * channels + len(options.get("pools", "12"))
    statistics = 2 * BATCH * positions if training else 0
    return channel + channels + 2 * options.get("kernel_size", 7) ** 2 + statistics + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    reduction: int = 16,
    pools: tuple[str, ...] = ("avg", "max"),
    kernel_size: int = 7,
    norm: bool = True,
    parts: str = "both",
    dimensions: int = 2,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), or of other dimensions, with the module's `state`."""
    assert x.ndim == 2 + dimensions
    steps = {name.split(".")[0] for name in state}
    assert steps == {"both": {"channel", "spatial"}}.get(parts, {parts})
    assert any("norm" in name for name in state) == (norm and parts != "channel")
    if parts != "spatial":
        gate = channel_gate(x, state, reduction, pools)
        x = x * gate.reshape(gate.shape + (1,) * dimensions)
    if parts != "channel":
        x = x * spatial_gate(x, state, kernel_size, norm, training)[:, None]
    return x


def channel_gate(x: np.ndarray, state: dict[str, np.ndarray], reduction: int, pools: tuple[str, ...]) -> np.ndarray:
    batch, channels = x.shape[:2]
    w0, b0 = state["channel.fc1.weight"], state["channel.fc1.bias"]
    w1, b1 = state["channel.fc2.weight"], state["channel.fc2.bias"]
    assert w0.shape == (max(1, channels // reduction), channels)
    gate = np.empty((batch, channels))
    for b in range(batch):
        logits = np.zeros(channels)
        for pool in pools:
            pooled = np.array([pool_map(pool, x[b, c].ravel()) for c in range(channels)])
            logits += w1 @ np.maximum(w0 @ pooled + b0, 0) + b1
        gate[b] = 1 / (1 + np.exp(-logits))
    return gate


def pool_map(pool: str, values: np.ndarray) -> float:
    if pool == "avg":
        return values.sum() / values.size
    if pool == "max":
        return values.max()
    if pool == "lp":
        return np.sqrt((values**2).sum())
    assert pool == "lse"
    return np.log(np.exp(values).sum())


def spatial_gate(
    x: np.ndarray, state: dict[str, np.ndarray], kernel_size: int, norm: bool, training: bool
) -> np.ndarray:
    sides = x.shape[2:]
    kernel = state["spatial.conv.weight"]
    assert kernel.shape == (1, 2, *(kernel_size for _ in sides))
    half = kernel_size // 2
    summary = (x.max(1), x.sum(1) / x.shape[1])
    logits = np.zeros((x.shape[0], *sides))
    for at in np.ndindex(sides):
        for tap in np.ndindex(kernel.shape[2:]):
            seen = tuple(i + t - half for i, t in zip(at, tap, strict=True))
            if all(0 <= i < side for i, side in zip(seen, sides, strict=True)):
                for s in (0, 1):
                    logits[(slice(None), *at)] += kernel[(0, s, *tap)] * summary[s][(slice(None), *seen)]
    if norm:
        mean, variance = state["spatial.norm.running_mean"][0], state["spatial.norm.running_var"][0]
        if training and logits.size > 1:  # one value has no statistics of its own (named on the card)
            mean, variance = logits.mean(), logits.var()
        logits = (logits - mean) / np.sqrt(variance + 1e-5)
        logits = logits * state["spatial.norm.weight"][0] + state["spatial.norm.bias"][0]
    return 1 / (1 + np.exp(-logits))


def test_cbam_concatenates_maximum_then_mean() -> None:
    module = foveate.create("cbam", 3, parts="spatial", kernel_size=1, norm=False)
    x = torch.randn(2, 3, 4, 5)
    for plane, summary in ((0, x.amax(1)), (1, x.mean(1))):
        fill(module.spatial.conv, 0.0)
        with torch.no_grad():
            module.spatial.conv.weight[0, plane] = 1.0
        torch.testing.assert_close(gate(module, x)[:, 0], summary.sigmoid())


def test_cbam_sums_the_logits_of_all_pools_from_one_network_before_one_sigmoid() -> None:
    sizes = {
        pools: sum(p.numel() for p in foveate.create("cbam", 32, pools=pools).parameters())
        for pools in (("avg",), ("avg", "max"), ("avg", "max", "lp", "lse"))
    }
    assert len(set(sizes.values())) == 1
    x = torch.randn(1, 6, 1, 1)  # one position: mean, maximum and log-sum-exp are all the value itself
    one = foveate.create("cbam", 6, pools=("avg",), parts="channel")
    three = foveate.create("cbam", 6, pools=("avg", "max", "lse"), parts="channel")
    nn.init.normal_(one.channel.fc2.bias)
    three.load_state_dict(one.state_dict())
    torch.testing.assert_close(logit(gate(three, x)), 3 * logit(gate(one, x)), rtol=1e-4, atol=1e-5)


def test_cbam_looks_where_after_it_has_chosen_what() -> None:
    module = foveate.create("cbam", 4).eval()
    fill(module.spatial.norm, 1.0)
    x = torch.randn(2, 4, 5, 6)
    between = module.channel(x)
    torch.testing.assert_close(module(x), module.spatial(between))
    assert not torch.allclose(module(x), module.channel(module.spatial(x)))


def test_cbams_spatial_norm_is_the_authors() -> None:
    module = foveate.create("cbam", 16)
    norm = module.spatial.norm
    assert (norm.momentum, norm.eps, norm.num_features) == (0.01, 1e-5, 1)
    assert module.spatial.conv.bias is None
    assert not norm.weight.any()  # so that the spatial gate starts at a half everywhere
    weights = weights_of(module, torch.randn(2, 16, 5, 5))["spatial.map"]
    assert torch.equal(weights, torch.full_like(weights, 0.5))


def test_cbam_starts_as_the_authors_network_does() -> None:
    modules = [foveate.create("cbam", 32) for _ in range(40)]
    assert has_deviation(torch.cat([m.spatial.conv.weight for m in modules]), (2 / 49) ** 0.5)
    assert not any(layer.bias.any() for m in modules for layer in (m.channel.fc1, m.channel.fc2))


def test_cbam_has_no_relu_between_norm_and_sigmoid() -> None:
    module = foveate.create("cbam", 4, parts="spatial").eval()
    fill(module.spatial.norm, -2.0, "bias")
    weights = gate(module, torch.randn(1, 4, 5, 5))
    torch.testing.assert_close(weights, torch.full_like(weights, -2.0).sigmoid())


def test_cbam_without_its_norm_is_the_convolution_alone() -> None:
    module = foveate.create("cbam", 4, norm=False)
    assert {name.rpartition(".")[0] for name, _ in module.named_parameters()} == {
        "channel.fc1",
        "channel.fc2",
        "spatial.conv",
    }


@pytest.mark.parametrize("channels", [1, 3, 15])
def test_cbam_with_fewer_channels_than_its_reduction_is_not_a_constant_gate(channels: int) -> None:
    module = foveate.create("cbam", channels, parts="channel")
    fill(module.channel.fc1, 1.0)
    fill(module.channel.fc2, 1.0)
    low, high = (gate(module, torch.full((1, channels, 2, 2), value)) for value in (0.1, 0.2))
    assert (low < high).all()


def test_cbams_lp_pool_is_the_root_of_the_sum_and_not_of_the_mean() -> None:
    module = foveate.create("cbam", 1, pools=("lp",), parts="channel")
    fill(module.channel.fc1, 1.0)
    fill(module.channel.fc2, 1.0)
    weights = gate(module, torch.tensor([[[[3.0, -4.0], [0.0, 0.0]]]]))
    torch.testing.assert_close(weights.flatten(), torch.tensor([5.0]).sigmoid())


def test_cbams_lse_pool_does_not_overflow() -> None:
    module = foveate.create("cbam", 1, pools=("lse",), parts="channel")
    fill(module.channel.fc1, 0.01)
    fill(module.channel.fc2, 1.0)
    weights = gate(module, torch.full((1, 1, 2, 2), 200.0))  # exp(200) is beyond float32
    torch.testing.assert_close(weights.flatten(), torch.tensor([0.01 * (200 + 1.3862944)]).sigmoid())


def test_cbams_lp_pool_has_a_gradient_of_zero_at_an_empty_channel() -> None:
    x = torch.zeros(1, 4, 3, 3, requires_grad=True)
    foveate.create("cbam", 4, pools=("lp",))(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_cbam_at_ties_of_a_maximum_the_first_gets_the_gradient() -> None:
    channel = foveate.create("cbam", 1, pools=("max",), parts="channel")
    fill(channel.channel.fc1, 1.0)
    fill(channel.channel.fc2, 1.0)
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    gate_of = torch.sigmoid(torch.tensor(1.0))
    channel(x).sum().backward()
    # through the features every position gets the gate; through the pool only the first gets 4 σ'(1) more
    expected = torch.full((2, 2), gate_of.item())
    expected[0, 0] += 4 * (gate_of * (1 - gate_of)).item()
    assert x.grad is not None
    torch.testing.assert_close(x.grad[0, 0], expected)

    spatial = foveate.create("cbam", 3, parts="spatial", kernel_size=1, norm=False)
    fill(spatial.spatial.conv, 0.0)
    with torch.no_grad():
        spatial.spatial.conv.weight[0, 0] = 1.0  # the maximum alone
    x = torch.ones(1, 3, 1, 1, requires_grad=True)
    spatial(x).sum().backward()
    expected = torch.full((3,), gate_of.item())
    expected[0] += 3 * (gate_of * (1 - gate_of)).item()
    assert x.grad is not None
    torch.testing.assert_close(x.grad.flatten(), expected)


def test_cbam_pools_by_the_mean_and_by_the_maximum_and_not_twice_by_the_mean() -> None:
    module = foveate.create("cbam", 1, parts="channel")
    fill(module.channel.fc1, 1.0)
    fill(module.channel.fc2, 1.0)
    weights = gate(module, torch.tensor([[[[1.0, 3.0]]]]))
    torch.testing.assert_close(weights.flatten(), torch.tensor([2.0 + 3.0]).sigmoid())


def test_cbam_looks_at_7_by_7_positions_and_adds_no_features_of_its_own() -> None:
    """A copy looks at 49×49 and adds the features to what it returns."""
    module = foveate.create("cbam", 4).eval()
    assert module.spatial.conv.kernel_size == (7, 7)
    fill(module.channel.fc2, -1000.0, "bias")  # gates of zero
    assert not module(torch.randn(2, 4, 5, 6)).any()


@pytest.mark.parametrize(("host", "millions"), [("resnext50_32x4d", 27.56), ("resnext101_32x4d", 48.96)])
def test_cbam_in_resnexts_has_the_parameters_of_the_papers_table(host: str, millions: float) -> None:
    x = torch.empty(1, 3, 224, 224, device="meta")
    with torch.device("meta"):
        model = timm.create_model(host).eval()
    attach(model, "cbam", start="paper", example=x)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == millions
