"""The self-attention of bottleneck transformers in NumPy, from Srinivas et al., figure 4.

Logits q_i·k_j + q_i·(r^h + r^w), with r for the distance from i to j along height and along width; all of it over √d.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from foveate.errors import FoveateError, OptionError
from foveate.replacement import ConvShape
from tests.support.oracles import Options
from tests.support.weights import weights_of

EVERY = 9
NORMS = False
POINTWISE = 40  # softmax
OPTIONS: list[Options] = [{}, {"heads": 2, "scale_positions": False}, {"heads": 1}]
VARIANTS = {"bottleneck_attention:heads=1,scale_positions=false": 1}
REFUSED = [
    ("bottleneck_attention:heads=0", {"size": (5, 5)}, "heads must be a whole number of at least 1"),
    ("bottleneck_attention", {"size": None}, "give the map's size"),
]
RENAMES = {"pos_embed.height_rel": "rows", "pos_embed.width_rel": "columns"}


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    # logits are of the order of their terms' number, and an exponential turns their rounding into its own
    return (2 * channels) * 4 + channels * 3 + 2 * size[0] * size[1] + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    size: tuple[int, int],
    heads: int = 4,
    scale_positions: bool = True,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    heads = max(n for n in range(1, heads + 1) if channels % n == 0)
    each = channels // heads
    projected = np.einsum("oc,bchw->bohw", state["qkv.weight"][:, :, 0, 0], x)
    query, key, value = (projected[:, i * channels : (i + 1) * channels] for i in range(3))
    places = [(r, c) for r in range(height) for c in range(width)]
    y = np.zeros_like(x)
    for b in range(batch):
        for head in range(heads):
            own = slice(head * each, (head + 1) * each)
            for r, c in places:
                q = query[b, own, r, c]
                logits = np.zeros(len(places))
                for j, (s, t) in enumerate(places):
                    distance = state["rows"][s - r + height - 1] + state["columns"][t - c + width - 1]
                    position = q @ distance / (np.sqrt(each) if scale_positions else 1)
                    logits[j] = q @ key[b, own, s, t] / np.sqrt(each) + position
                shares = np.exp(logits - logits.max())
                shares /= shares.sum()
                y[b, own, r, c] = sum(share * value[b, own, s, t] for share, (s, t) in zip(shares, places, strict=True))
    return y


def test_bottleneck_attention_shows_a_relation_for_each_head() -> None:
    module = foveate.create("bottleneck_attention", 16, size=(5, 6))
    seen = weights_of(module, torch.randn(2, 16, 5, 6))
    assert list(seen) == ["maps.0", "maps.1", "maps.2", "maps.3"]
    for weights in seen.values():
        torch.testing.assert_close(weights.sum(1), torch.ones(2, 30))


def test_bottleneck_attention_has_the_most_heads_that_fit() -> None:
    found = {c: foveate.create("bottleneck_attention", c, size=(3, 3)).heads for c in (1, 6, 7, 16)}
    assert found == {1: 1, 6: 3, 7: 1, 16: 4}


def test_bottleneck_attention_strides_by_means_behind_it() -> None:
    shape = ConvShape(8, 12, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))
    strided = foveate.create("bottleneck_attention", shape, size=(5, 6), dtype=torch.float64)
    plain = foveate.create("bottleneck_attention", ConvShape(8, 12), size=(5, 6), dtype=torch.float64)
    plain.load_state_dict(strided.state_dict())
    x = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    y, found = plain(x), strided(x)
    assert found.shape == (2, 12, 3, 3)
    torch.testing.assert_close(found[:, :, 1, 2], y[:, :, 2:4, 4:6].mean((2, 3)))
    torch.testing.assert_close(found[:, :, 2, 2], y[:, :, 4:, 4:6].mean((2, 3)))


def test_bottleneck_attention_refuses_other_sizes_and_groups() -> None:
    with pytest.raises(FoveateError, match="an embedding for each distance in one map"):
        foveate.create("bottleneck_attention", 8, size=(5, 5))(torch.randn(1, 8, 5, 6))
    with pytest.raises(OptionError, match="relates all channels of a head"):
        foveate.create("bottleneck_attention", ConvShape(8, 8, groups=2), size=(5, 5))


def alone(height: int, width: int, channels: int = 4, **options: bool) -> nn.Module:
    """One head whose queries are ones and whose keys are zeros: positions alone decide."""
    module = foveate.create("bottleneck_attention", channels, size=(height, width), heads=1, **options).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.qkv.weight[:channels, 0] = 1.0
    return module


def looked(module: nn.Module) -> torch.Tensor:
    """The weights, source by target, for a map of ones."""
    (weights,) = weights_of(module, torch.ones(1, 4, *module.fixed_size, dtype=torch.float64)).values()
    return weights[0]


def test_bottleneck_attention_looks_to_the_right_with_the_embeddings_of_the_right() -> None:
    """And down with those of below; embeddings lie from the farthest on one side to the farthest on the other."""
    for table, target, source in (("columns", 4, 5), ("rows", 4, 7)):
        module = alone(3, 3)
        with torch.no_grad():
            getattr(module, table)[3] = 100.0  # one step; 2 is no step
        weights = looked(module)
        line = [s for s in range(9) if (s % 3 == 2 if table == "columns" else s // 3 == 2)]
        torch.testing.assert_close(weights[line, target].sum(), torch.tensor(1.0, dtype=torch.float64))
        assert weights[source, target] > 0.3


def test_bottleneck_attention_divides_its_products_with_positions_unless_told_not_to() -> None:
    found = []
    for scale in (True, False):
        module = alone(1, 2, scale_positions=scale)
        with torch.no_grad():
            module.columns[2] = 0.25  # times four channels: a product of one with what is to the right
        weights = looked(module)
        found.append((weights[1, 0] / weights[0, 0]).log())
    torch.testing.assert_close(torch.stack(found), torch.tensor([0.5, 1.0], dtype=torch.float64))


def test_bottleneck_attention_is_as_large_as_its_projection_and_its_embeddings() -> None:
    """Three times inputs × outputs, and an embedding of a head's width for every distance along each axis."""
    module = foveate.create("bottleneck_attention", ConvShape(16, 32, kernel_size=(3, 3), padding=(1, 1)), size=(7, 5))
    assert sum(p.numel() for p in module.parameters()) == 3 * 16 * 32 + (2 * 7 - 1 + 2 * 5 - 1) * 8
