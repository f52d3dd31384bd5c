"""Global context block in NumPy, from Cao et al., section 4.

z_i = x_i + W_v2 ReLU(LN(W_v1 Σ_j α_j x_j)) with α_j = exp(W_k x_j) / Σ_m exp(W_k x_m): the same α whoever looks. LN
normalises over the bottleneck's units, with the variance of all of them and 1e-5. The ablations pool by the mean
(section 5.1, "avg") and multiply by the sigmoid ("scale"); with both fusions the authors' code multiplies first.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from tests.support.oracles import Options, product
from tests.support.weights import filled, weights_of

POINTWISE = 16  # exponential, sigmoid, root, scale, shift
OPTIONS = [
    *product(pooling=("attention", "avg"), fusion=("add", "mul", "both")),
    *product(reduction=(1, 2, 5), pooling=("attention", "avg")),
]
NORMS = False  # of the batch
EVERY = 2
VARIANTS = {
    "global_context:pooling=avg": 1,
    "global_context:fusion=mul": 1,
    "global_context:fusion=both": 1,
    "global_context:fusion=mul,pooling=avg": 1,
}
CAPTURED = ("global_context:fusion=both",)
# theirs, less the bias of each block's mask, which its softmax cancels (named on the card)
RESNETS = [
    (50, "gc", 28_105_032 - 16),
    (50, "gc:reduction=4", 35_658_360 - 16),
]
REFUSED = [
    ("gc:pooling=max", {}, "'attention', 'avg'"),
    ("gc:fusion=concat", {}, "'add', 'mul', 'both'"),
    ("gc:reduction=0", {}, "reduction"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    hidden = max(2, channels // options.get("reduction", 16))
    # two units that are nearly equal are divided by a deviation near zero: their errors grow by its inverse
    return 10 * (2 * channels + size[0] * size[1] + 4 * hidden + POINTWISE)


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    reduction: int = 16,
    pooling: str = "attention",
    fusion: str = "add",
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    y = np.empty_like(x)
    for b in range(batch):
        positions = [x[b, :, i, j] for i in range(height) for j in range(width)]
        shares = np.full(len(positions), 1 / len(positions))
        if pooling == "attention":
            key = state["conv_mask.weight"].reshape(channels)
            logits = np.array([key @ position for position in positions])
            shares = np.exp(logits - logits.max())
            shares = shares / shares.sum()
        context = np.zeros(channels)
        for share, position in zip(shares, positions, strict=True):
            context += share * position
        y[b] = x[b]
        if fusion != "add":
            y[b] *= (1 / (1 + np.exp(-bottleneck(context, state, "channel_mul_conv", reduction))))[:, None, None]
        if fusion != "mul":
            y[b] += bottleneck(context, state, "channel_add_conv", reduction)[:, None, None]
    return y


def bottleneck(context: np.ndarray, state: dict[str, np.ndarray], name: str, reduction: int) -> np.ndarray:
    hidden = state[f"{name}.0.weight"][:, :, 0, 0] @ context + state[f"{name}.0.bias"]
    assert len(hidden) == max(2, len(context) // reduction)
    variance = ((hidden - hidden.mean()) ** 2).mean()
    hidden = (hidden - hidden.mean()) / np.sqrt(variance + 1e-5)
    hidden = hidden * state[f"{name}.1.weight"].reshape(-1) + state[f"{name}.1.bias"].reshape(-1)
    return state[f"{name}.3.weight"][:, :, 0, 0] @ np.maximum(hidden, 0) + state[f"{name}.3.bias"]


def test_global_context_starts_as_the_identity_as_published() -> None:
    module = foveate.create("gc", 32)
    x = torch.randn(2, 32, 5, 6)
    assert torch.equal(module(x), x)
    last = module.channel_add_conv[3]
    assert not last.weight.any()
    assert not last.bias.any()


def test_global_context_that_multiplies_starts_with_gates_of_a_half() -> None:
    x = torch.randn(2, 32, 5, 6)
    torch.testing.assert_close(foveate.create("gc", 32, fusion="mul")(x), x / 2)


@pytest.mark.parametrize("fusion", ["add", "mul", "both"])
def test_global_context_has_a_zero_and_no_second_one_behind_the_blend(fusion: str) -> None:
    module = foveate.create("gc", 32, fusion=fusion)
    module.start_at_identity()
    for name, layer in module.named_modules():
        assert not isinstance(layer, nn.Conv2d) or layer.weight.any(), name


def test_global_contexts_weights_sum_to_one_over_the_positions() -> None:
    weights = weights_of(filled(foveate.create("gc", 8)), torch.randn(3, 8, 5, 6))["position_map"]
    assert weights.shape == (3, 1, 5, 6)
    torch.testing.assert_close(weights.sum((2, 3)), torch.ones(3, 1))


def test_global_context_normalises_before_its_relu() -> None:
    module = foveate.create("gc", 32)
    kinds = [type(layer) for layer in module.channel_add_conv]
    assert kinds == [nn.Conv2d, nn.LayerNorm, nn.ReLU, nn.Conv2d]


def test_global_context_of_few_channels_still_attends() -> None:
    """Layer normalisation of the single unit that 16 channels would have is its bias, whatever comes in."""
    module = filled(foveate.create("gc", 16))
    one, other = weights_of(module, torch.randn(2, 16, 5, 6))["shift_map"]
    assert not torch.equal(one, other)


def test_global_context_has_the_parameters_of_the_authors_block() -> None:
    """Counted from their `ContextBlock(channels, 1 / 16)`, one for each width of a ResNet-50's stages."""
    counted = {256: 8_753, 512: 33_889, 1024: 133_313, 2048: 528_769}
    for channels, expected in counted.items():
        module = foveate.create("gc", channels, device="meta")
        ours = sum(parameter.numel() for parameter in module.parameters())
        assert ours + 1 == expected, channels  # their mask has a bias, which its softmax cancels (named on the card)


def test_global_context_in_the_last_three_stages_has_the_parameters_of_the_papers_resnet_50() -> None:
    """28.08 M in the paper's table: 28,078,773 with a bias for each of the thirteen masks."""
    with torch.device("meta"):
        blocks = [foveate.create("gc", c) for c, count in ((512, 4), (1024, 6), (2048, 3)) for _ in range(count)]
    total = 25_557_032 + sum(parameter.numel() for block in blocks for parameter in block.parameters())
    assert total + len(blocks) == 28_078_773
    assert round(total / 1e6, 2) == 28.08
