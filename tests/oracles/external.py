"""External attention in NumPy, from Guo et al., section 3.2, equations 5 and 6, and their algorithm 1.

Position i and slot j have the logit ⟨m_k(j), f_i⟩. It is normalised twice: a softmax over the positions for each slot,
then a division by the sum over the slots for each position, with 10⁻⁹ beside it. Position i reads Σ_j α_ij m_v(j).
Around it, as the released network has it: a 1×1 convolution before, a 1×1 convolution and a norm after, the addition.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from foveate.errors import OptionError
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import filled, gate, has_deviation

POINTWISE = 16  # exponential, division, scale, shift
AMPLIFIED = 8
OPTIONS = product(slots=(64, 2, 5), relu=(False, True))
EVERY = 7
VARIANTS = {
    "external:slots=2": 1,
    "external:slots=7": 1,
}
REFUSED = [
    ("ea:slots=1", {}, "slots must be a whole number of at least 2"),
    ("external_attention:relu=3", {}, "relu must be true or false"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    positions = size[0] * size[1]
    until_the_norm = 3 * channels + positions + 2 * options.get("slots", 64)
    # what positions read differs less than it is large, and the norm of a batch divides by how much it differs
    return AMPLIFIED * (until_the_norm + 2 * BATCH * positions) if training else until_the_norm + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    slots: int = 64,
    relu: bool = False,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    before, after = state["conv1.weight"][:, :, 0, 0], state["conv2.0.weight"][:, :, 0, 0]
    keys, values = state["linear_0.weight"][:, :, 0], state["linear_1.weight"][:, :, 0]
    assert keys.shape == (slots, channels)
    assert values.shape == (channels, slots)

    update = np.empty_like(x)
    for b in range(batch):
        pixels = [(i, j) for i in range(height) for j in range(width)]
        logits = np.array([[keys[s] @ (before @ x[b, :, i, j]) for s in range(slots)] for i, j in pixels])
        alpha = np.empty_like(logits)
        for s in range(slots):
            exponentials = np.exp(logits[:, s] - logits[:, s].max())
            alpha[:, s] = exponentials / exponentials.sum()
        for n, (i, j) in enumerate(pixels):
            share = alpha[n] / (1e-9 + alpha[n].sum())
            read = sum(share[s] * values[:, s] for s in range(slots))
            update[b, :, i, j] = after @ read

    mean, variance = state["conv2.1.running_mean"], state["conv2.1.running_var"]
    if training and batch * height * width > 1:  # one value has no statistics (named on the card)
        mean, variance = update.mean((0, 2, 3)), update.var((0, 2, 3))
    scale, shift = state["conv2.1.weight"], state["conv2.1.bias"]
    for c in range(channels):
        update[:, c] = (update[:, c] - mean[c]) / np.sqrt(variance[c] + 1e-5) * scale[c] + shift[c]
    y = x + update
    return np.maximum(y, 0) if relu else y


def test_external_normalises_over_the_positions_and_then_over_the_slots() -> None:
    module = filled(foveate.create("external", 8, slots=5))
    x = torch.randn(2, 8, 3, 4)
    weights = gate(module, x).flatten(2)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 12))  # the last word is the slots'
    over_positions = torch.softmax(module.linear_0(module.conv1(x).flatten(2)), 2)
    ratio = over_positions / weights  # the sum over the slots, the same for all of them
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    assert not torch.allclose(weights, torch.softmax(module.linear_0(module.conv1(x).flatten(2)), 1))


def test_external_divides_by_the_sum_and_a_billionth_where_no_slot_looks() -> None:
    """Copies leave the 1e-9 out: a position that every slot all but ignores then counts as much as any."""
    module = foveate.create("external", 2, slots=2).double().eval()
    for layer, matrix in ((module.conv1, torch.eye(2)), (module.linear_0, torch.eye(2))):
        with torch.no_grad():
            layer.weight.copy_(matrix.reshape(layer.weight.shape))
    x = torch.zeros(1, 2, 1, 2, dtype=torch.float64)
    x[0, :, 0, 0] = -40.0  # its share in either slot is exp(-40) = 4e-18
    weights = gate(module, x)
    assert weights[0, :, 0, 0].max() < 1e-8
    torch.testing.assert_close(weights[0, :, 0, 1], torch.full((2,), 0.5, dtype=torch.float64), rtol=0, atol=1e-8)


def test_a_bias_before_externals_memory_would_change_nothing() -> None:
    """The reason why the first projection has none, where the authors' has one."""
    module = filled(foveate.create("external", 8)).double()
    x = torch.randn(1, 8, 4, 5, dtype=torch.float64)
    expected = gate(module, x)
    biased = nn.Conv2d(8, 8, 1).double()
    with torch.no_grad():
        biased.weight.copy_(module.conv1.weight)
    module.conv1 = biased
    torch.testing.assert_close(gate(module, x), expected)


def test_externals_keys_and_values_start_equal_and_are_two_parameters() -> None:
    module = foveate.create("external", 64, slots=256)
    assert torch.equal(module.linear_1.weight[:, :, 0], module.linear_0.weight[:, :, 0].T)
    assert module.linear_1.weight.data_ptr() != module.linear_0.weight.data_ptr()
    for layer in (module.conv1, module.linear_0, module.conv2[0]):
        assert has_deviation(layer.weight, (2 / 64) ** 0.5)


@pytest.mark.parametrize(("slots", "parameters"), [(64, 590_848), (256, 787_456)])
def test_externals_parameters_are_those_of_the_released_layer(slots: int, parameters: int) -> None:
    """EANet's: 512 channels; two projections, two memories and a norm, and without the bias that does nothing."""
    module = foveate.create("external", 512, slots=slots)
    assert sum(p.numel() for p in module.parameters()) == parameters
    assert parameters == 2 * 512 * 512 + 2 * slots * 512 + 2 * 512


def test_external_with_the_relu_of_its_network_has_no_identity() -> None:
    with pytest.raises(OptionError, match="use relu=false"):
        foveate.create("external", 8, relu=True).start_at_identity()
