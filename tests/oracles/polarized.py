"""Polarized Self-Attention in NumPy, from Liu et al., section 3, and the three forms that were printed or released.

Channel branch: softmax of a one-channel query over all positions; the values' mean with those weights; layers; σ.
  paper: one layer, then layer normalisation. Released, parallel: one layer. Released, sequential: a layer to C / 8,
  layer normalisation, ReLU, a layer back, with biases.
Spatial branch: the mean over positions of a query times the values at each position; σ.
  paper: softmax of the mean query over its channels. Released, parallel: softmax of the product over positions.
  Released, sequential: softmax of each channel of the values over positions.
Parallel: x · A_ch + x · A_sp. Sequential: the spatial branch sees, and gates, what the channel branch has gated.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from foveate.errors import OptionError
from tests.support.oracles import Options, product
from tests.support.weights import weights_of

POINTWISE = 24
OPTIONS = product(arrangement=("parallel", "sequential"), definition=("released", "paper"))
NORMS = False
EVERY = 3
VARIANTS = {
    "polarized:arrangement=sequential": 1,
    "polarized:definition=paper": 1,
    "polarized:arrangement=sequential,definition=paper": 1,
}
CAPTURED = ("polarized:arrangement=sequential",)
REFUSED = [
    ("polarized:arrangement=both", {}, "arrangement must be one of 'parallel', 'sequential'"),
    ("polarized:definition=code", {}, "definition must be one of 'released', 'paper'"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another; a norm of two near values divides what is left by √1e-5 at most."""
    normed = (options["arrangement"], options["definition"]) != ("parallel", "released")
    return (2 * size[0] * size[1] + 5 * channels) * (20 if normed else 1) + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    arrangement: str = "parallel",
    definition: str = "released",
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    form = "paper" if definition == "paper" else arrangement
    y = np.empty_like(x)
    for b, sample in enumerate(x):
        flat = sample.reshape(len(sample), -1)
        if arrangement == "parallel":
            own = {name.removeprefix("both."): tensor for name, tensor in state.items()}
            total = flat * channel_gate(flat, own, "channel", form)[:, None] + flat * spatial_gate(
                flat, own, "spatial", form
            )
        else:
            total = flat * channel_gate(flat, state, "channel.branch", form)[:, None]
            total = total * spatial_gate(total, state, "spatial.branch", form)
        y[b] = total.reshape(sample.shape)
    return y


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def layer_norm(values: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = values - values.sum() / values.size
    normal = centred / np.sqrt((centred**2).sum() / values.size + 1e-5)
    return normal * state[f"{name}.weight"] + state[f"{name}.bias"]


def channel_gate(x: np.ndarray, state: dict[str, np.ndarray], name: str, form: str) -> np.ndarray:
    query, value = state[f"{name}.q.weight"][:, :, 0, 0], state[f"{name}.v.weight"][:, :, 0, 0]
    assert query.shape == (1, len(x))
    assert value.shape == (max(1, len(x) // 2), len(x))
    pooled = (value @ x) @ softmax((query @ x)[0])
    logits = state[f"{name}.up.0.weight"] @ pooled
    if form == "paper":
        logits = layer_norm(logits, state, f"{name}.up.1")
    elif form == "sequential":
        logits = layer_norm(logits + state[f"{name}.up.0.bias"], state, f"{name}.up.1")
        assert len(logits) == max(2, len(value) // 4)
        logits = state[f"{name}.up.3.weight"] @ np.maximum(logits, 0) + state[f"{name}.up.3.bias"]
    return sigmoid(logits)


def spatial_gate(x: np.ndarray, state: dict[str, np.ndarray], name: str, form: str) -> np.ndarray:
    query = (state[f"{name}.q.weight"][:, :, 0, 0] @ x).sum(1) / x.shape[1]
    values = state[f"{name}.v.weight"][:, :, 0, 0] @ x
    if form == "paper":
        return sigmoid(softmax(query) @ values)
    if form == "parallel":
        return sigmoid(softmax(query @ values))
    return sigmoid(query @ np.array([softmax(channel) for channel in values]))


@pytest.mark.parametrize(("arrangement", "count"), [("parallel", 8256), ("sequential", 7064)])
def test_polarized_has_as_many_parameters_as_the_authors_modules(arrangement: str, count: int) -> None:
    """With 64 channels; a much-copied catalogue has 8545 in both."""
    module = foveate.create("polarized", 64, arrangement=arrangement)
    assert sum(p.numel() for p in module.parameters()) == count


def test_polarized_in_parallel_adds_and_in_sequence_multiplies() -> None:
    x = torch.randn(2, 8, 4, 5)
    for definition in ("released", "paper"):
        for arrangement in ("parallel", "sequential"):
            module = foveate.create("polarized", 8, arrangement=arrangement, definition=definition)
            channel, spatial = weights_of(module, x).values()
            expected = x * channel + x * spatial if arrangement == "parallel" else x * channel * spatial
            torch.testing.assert_close(module(x), expected)


def test_polarizeds_released_parallel_softmax_stands_after_the_product_and_the_papers_before() -> None:
    x = 50 * torch.randn(1, 8, 4, 5)  # large, so that the product is far from zero
    released, paper = (
        weights_of(foveate.create("polarized", 8, definition=definition), x)["both.spatial_map"]
        for definition in ("released", "paper")
    )
    logits = torch.log(released / (1 - released))
    torch.testing.assert_close(logits.sum(), torch.tensor(1.0), rtol=1e-3, atol=1e-3)
    assert (released >= 0.5).all()
    assert (paper < 0.4).any()


def test_polarizeds_released_sequential_values_sum_to_one_over_positions() -> None:
    module = foveate.create("polarized", 8, arrangement="sequential")
    x = torch.randn(2, 8, 4, 5)
    gated = module.channel(x)
    weights = weights_of(module, x)["spatial.map"]
    query = module.spatial.branch.q(gated).mean((2, 3))
    torch.testing.assert_close(torch.log(weights / (1 - weights)).sum((1, 2, 3)), query.sum(1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "arrangement"),
    [(1, "parallel"), (2, "parallel"), (3, "parallel"), (8, "sequential"), (15, "sequential")],
)
def test_polarized_with_few_channels_is_not_a_constant_gate(channels: int, arrangement: str) -> None:
    module = foveate.create("polarized", channels, arrangement=arrangement)
    weights = next(iter(weights_of(module, torch.randn(8, channels, 3, 4)).values()))
    assert weights.std(0).max() > 1e-4


def test_psa_may_mean_two_mechanisms() -> None:
    with pytest.raises(OptionError, match=r"'psa' may mean .*polarized.*psanet.*: write which"):
        foveate.get("psa")
    assert foveate.get("polarized_self_attention").card.name == "polarized"
