"""The attention-augmented convolution in NumPy, from Bello et al., section 3.

Output: [conv(x), W_o · heads], heads of logits q_i·(k_j + r^w + r^h) / √d, with r for the distance from i to j along
width and along height.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import foveate
from foveate.catalogue.attention_augmented import AttentionAugmentedConvolution
from foveate.errors import FoveateError, OptionError
from foveate.replacement import ConvShape
from tests.support.convolution import convolved
from tests.support.oracles import Options
from tests.support.weights import weights_of

EVERY = 9
NORMS = False
POINTWISE = 40  # softmax
OPTIONS: list[Options] = [
    {},
    {"relative": False, "value_share": 0.5},
    {"heads": 2, "value_share": 1.0, "min_key": 1},
    {"heads": 3, "value_share": 0.4, "key_share": 1.5, "min_key": 3},
]
VARIANTS = {
    "attention_augmented:relative=false": 1,
    "attention_augmented:heads=2,value_share=1.0,min_key=4": 1,
}
REFUSED = [
    ("attention_augmented:heads=0", {"size": (5, 5)}, "heads must be a whole number of at least 1"),
    ("attention_augmented:min_key=0", {"size": (5, 5)}, "min_key must be a whole number of at least 1"),
    ("attention_augmented:key_share=0.0", {"size": (5, 5)}, "key_share must be positive"),
    ("attention_augmented:value_share=1.5", {"size": (5, 5)}, "at most 1"),
    ("attention_augmented", {"size": None}, "give the map's size"),
]


def shares(channels: int, heads: int, value_share: float, key_share: float, min_key: int) -> tuple[int, int, int]:
    """How many heads there are, and how many channels each has of values and of keys."""
    heads = min(heads, max(1, round(channels * value_share)))
    each = min(max(1, round(channels * value_share / heads)), channels // heads)
    return heads, each, max(min_key, round(channels * key_share / heads))


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    chosen: Options = {"heads": 8, "value_share": 0.1, "key_share": 0.2, "min_key": 20} | options
    chosen.pop("relative", None)
    heads, each, keys = shares(channels, **chosen)
    # logits are of the order of their terms' number, and an exponential turns their rounding into its own
    return (channels + 3 * keys) * 4 + channels * 9 + heads * each + 2 * size[0] * size[1] + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    size: tuple[int, int],
    heads: int = 8,
    value_share: float = 0.1,
    key_share: float = 0.2,
    min_key: int = 20,
    relative: bool = True,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    heads, each, keys = shares(channels, heads, value_share, key_share, min_key)
    projected = np.einsum("oc,bchw->bohw", state["qkv.weight"][:, :, 0, 0], x)
    query, key, value = np.split(projected, (heads * keys, 2 * heads * keys), axis=1)
    places = [(r, c) for r in range(height) for c in range(width)]
    heard = np.zeros((batch, heads * each, height, width))
    for b in range(batch):
        for head in range(heads):
            own, brought = slice(head * keys, (head + 1) * keys), slice(head * each, (head + 1) * each)
            for r, c in places:
                logits = np.zeros(len(places))
                for j, (s, t) in enumerate(places):
                    looked_for = key[b, own, s, t]
                    if relative:
                        looked_for = (
                            looked_for + state["columns"][t - c + width - 1] + state["rows"][s - r + height - 1]
                        )
                    logits[j] = query[b, own, r, c] @ looked_for / np.sqrt(keys)
                weights = np.exp(logits - logits.max())
                weights /= weights.sum()
                for weight, (s, t) in zip(weights, places, strict=True):
                    heard[b, brought, r, c] += weight * value[b, brought, s, t]
    attended = np.einsum("oc,bchw->bohw", state["project.weight"][:, :, 0, 0], heard)
    if "conv.weight" not in state:
        return attended
    near = np.stack([convolved(sample, state["conv.weight"], padding=(1, 1)) for sample in x])
    return np.concatenate([near, attended], axis=1)


def made(shape: int | ConvShape, **options: Any) -> AttentionAugmentedConvolution:
    """The module."""
    module = foveate.create("attention_augmented", shape, **options)
    assert isinstance(module, AttentionAugmentedConvolution)
    return module


def test_attention_augmented_shows_a_relation_for_each_head() -> None:
    module = made(32, size=(5, 6), heads=4, value_share=0.25)
    seen = weights_of(module, torch.randn(2, 32, 5, 6))
    assert list(seen) == ["maps.0", "maps.1", "maps.2", "maps.3"]
    for weights in seen.values():
        torch.testing.assert_close(weights.sum(1), torch.ones(2, 30))


def test_attention_augmented_splits_the_channels_by_their_shares() -> None:
    found = {c: made(c, relative=False) for c in (1, 2, 7, 64, 128, 512)}
    assert {c: (m.heads, m.values) for c, m in found.items()} == {
        1: (1, 1),
        2: (1, 1),
        7: (1, 1),
        64: (6, 6),
        128: (8, 16),
        512: (8, 48),
    }
    assert found[1].conv is None
    assert found[7].conv is not None
    assert found[7].conv.out_channels == 6
    assert {m.keys for m in found.values()} == {20}  # the paper's least
    assert made(512, relative=False, key_share=0.5).keys == 32


def test_attention_augmented_has_the_parameters_of_the_published_resnet_50() -> None:
    """25.8 M (25.80 as the ECA paper quotes it), with heads in all 3×3 convolutions of the last three stages."""
    with torch.device("meta"):
        model = torchvision.models.resnet50(weights=None)
    total = sum(p.numel() for p in model.parameters())
    for stage, side in ((model.layer2, 28), (model.layer3, 14), (model.layer4, 7)):
        for conv in stage.modules():
            if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3):
                size = (side * conv.stride[0],) * 2
                module = made(ConvShape.of(conv), size=size, device="meta")
                total += sum(p.numel() for p in module.parameters()) - conv.weight.numel()
    assert round(total / 1e6, 1) == 25.8


def test_attention_augmented_keeps_positions_and_channels_of_the_heads_apart() -> None:
    """leaderj1001's code reads (position, channel) as (channel, position): channels mix."""
    module = made(8, size=(3, 3), heads=1, value_share=0.5, dtype=torch.float64)
    value = torch.zeros(1, 4, 3, 3, dtype=torch.float64)
    value[:, 2] = 1  # one channel, the same at all positions, stays that whatever the weights are
    query, key = torch.randn(2, 1, 20, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(module.weigh(query, key)[0].mix(value), value)


def test_attention_augmented_looks_to_the_right_with_the_embeddings_of_the_right() -> None:
    """A column's embedding is of that column less one's own; turned about, the weights would be to the left."""
    module = made(8, size=(2, 4), heads=1, dtype=torch.float64)
    module.rows.data.zero_()
    module.columns.data.zero_()
    module.columns.data[3 + 1] = 100  # one to the right
    query, key = torch.ones(1, 20, 2, 4, dtype=torch.float64), torch.zeros(1, 20, 2, 4, dtype=torch.float64)
    weights = module.weigh(query, key)[0].dense()[0].reshape(2, 4, 2, 4)
    for r in range(2):
        for c in range(3):
            torch.testing.assert_close(weights[:, c + 1, r, c], torch.full((2,), 0.5, dtype=torch.float64))


def test_attention_augmented_learns_relative_positions() -> None:
    """leaderj1001's first version drew them anew in each forward pass."""
    module = made(8, size=(3, 4))
    x = torch.randn(2, 8, 3, 4)
    assert torch.equal(module(x), module(x))
    module(x).square().sum().backward()
    for embedding in (module.rows, module.columns):
        assert embedding.grad is not None
        assert embedding.grad.any()


def test_attention_augmented_starts_relative_positions_around_zero() -> None:
    """The paper's listing gives TensorFlow 1/√d for their mean."""
    torch.manual_seed(0)
    module = made(8, size=(40, 40), min_key=64)
    for embedding in (module.rows, module.columns):
        assert abs(embedding.mean().item()) < 0.01
        assert abs(embedding.std().item() - 1 / 8) < 0.01


def test_attention_augmented_has_no_parameter_that_cannot_matter() -> None:
    """A bias of the keys adds the same to all logits of a position, and the softmax takes it away."""
    shape = ConvShape(8, 16, kernel_size=(3, 3), padding=(1, 1), bias=True)
    module = made(shape, size=(3, 4))
    assert [name for name, _ in module.named_parameters() if "bias" in name] == ["conv.bias", "project.bias"]


def test_attention_augmented_takes_the_kernels_of_its_convolution_that_it_has() -> None:
    conv = nn.Conv2d(8, 20, 3, stride=2, padding=1)
    module = made(ConvShape.of(conv), size=(7, 6))
    assert "attention over all positions" in module.take_over(conv)
    x = torch.randn(2, 8, 7, 6)
    found = module(x)
    assert found.shape == (2, 20, 4, 3)
    torch.testing.assert_close(found[:, :18], conv(x)[:, :18])


def test_attention_augmented_refuses_other_sizes_and_groups() -> None:
    with pytest.raises(FoveateError, match="an embedding for each distance in one map"):
        made(8, size=(5, 5))(torch.randn(1, 8, 5, 6))
    with pytest.raises(OptionError, match="heads that look at all"):
        made(ConvShape(8, 8, groups=2), size=(5, 5))
