"""Interlaced sparse self-attention in NumPy, from Huang et al., section 3, equations 4 to 9.

With blocks of P_h × P_w positions, position (i, j) is in lattice (i mod P_h, j mod P_w) and in block (⌊i / P_h⌋,
⌊j / P_w⌋). Long range: every position takes Σ softmax(⟨q, k⟩ / √d) v over its lattice, projected. Short range: the same
of the result, over its block. Queries and keys come from two 1×1 convolutions with norm and ReLU each, values from one
convolution, and the projection has a norm and a ReLU: section 4.2 and the released network. A map that blocks do not
divide lies in the middle of a larger one of zeros, one more of them at its end where their number is odd.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from foveate.errors import OptionError
from tests.support.oracles import BATCH, Options, product
from tests.support.weights import filled, weights_of

POINTWISE = 16  # exponential, division, scale, shift
OPTIONS = [
    *product(block=((4, 4), (8, 8), (2, 3)), fusion=("add", "concat")),
    *product(reduction=(1, 3), block=((3, 2),), fusion=("add", "concat")),
]
EVERY = 23
VARIANTS = {
    "interlaced_sparse:block=2+3,reduction=4": 4,
}
REFUSED = [
    ("isa:block=8", {}, "block must be a height and a width"),
    ("isa:block=0+3", {}, "block height"),
    ("isa:reduction=0", {}, "reduction"),
    ("isa:fusion=max", {}, "fusion must be one of 'add', 'concat'"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    tall, wide = options.get("block", (4, 4))
    positions = -(-size[0] // tall) * tall * -(-size[1] // wide) * wide
    statistics = 2 * BATCH * positions if training else 0
    return 2 * (5 * channels + positions + 3 * statistics) + 2 * channels + statistics + 8 * POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    block: tuple[int, int] = (4, 4),
    reduction: int = 2,
    fusion: str = "add",
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    tall, wide = block
    assert state["long_range_sa.f_key.0.weight"].shape[0] == max(1, channels // reduction)
    missing = [-height % tall, -width % wide]
    top, left = missing[0] // 2, missing[1] // 2
    padded = np.zeros((batch, channels, height + missing[0], width + missing[1]))
    padded[:, :, top : top + height, left : left + width] = x

    def lattice(i: int, j: int) -> tuple[int, int]:
        return i % tall, j % wide

    def cell(i: int, j: int) -> tuple[int, int]:
        return i // tall, j // wide

    for name, group in (("long_range_sa", lattice), ("short_range_sa", cell)):
        key, query = padded, padded
        for first in (0, 2):
            key = unit(key, state, f"{name}.f_key.{first}", f"{name}.f_key.{first + 1}.0", training)
            query = unit(query, state, f"{name}.f_query.{first}", f"{name}.f_query.{first + 1}.0", training)
        value = np.einsum("oc,bchw->bohw", state[f"{name}.f_value.weight"][:, :, 0, 0], padded)
        mixed = attend(query, key, value, group)
        padded = unit(mixed, state, f"{name}.W.0", f"{name}.W.1.0", training)
    update = padded[:, :, top : top + height, left : left + width]
    if fusion == "add":
        return x + update
    return unit(np.concatenate((x, update), 1), state, "conv_bn.0", "conv_bn.1.0", training)


def attend(query, key, value, group):
    """At every position the mix of the values of its group."""
    _, depth, height, width = query.shape
    members = {}
    for i in range(height):
        for j in range(width):
            members.setdefault(group(i, j), []).append((i, j))
    out = np.zeros_like(value)
    for positions in members.values():
        for i, j in positions:
            logits = np.array([(query[:, :, i, j] * key[:, :, k, m]).sum(1) / np.sqrt(depth) for k, m in positions])
            weights = np.exp(logits - logits.max(0))
            weights = weights / weights.sum(0)
            for (k, m), weight in zip(positions, weights, strict=True):
                out[:, :, i, j] += weight[:, None] * value[:, :, k, m]
    return out


def unit(x: np.ndarray, state: dict[str, np.ndarray], linear: str, norm: str, training: bool) -> np.ndarray:
    """1×1 convolution without bias, batch normalisation, ReLU."""
    x = np.einsum("oc,bchw->bohw", state[f"{linear}.weight"][:, :, 0, 0], x)
    mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
    if training and x.shape[0] * x.shape[2] * x.shape[3] > 1:  # one value has no statistics (named on the card)
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    each = (slice(None), None, None)
    scale, shift = state[f"{norm}.weight"][each], state[f"{norm}.bias"][each]
    return np.maximum((x - mean[each]) / np.sqrt(variance[each] + 1e-5) * scale + shift, 0)


def test_interlaced_sparses_two_steps_reach_every_position_from_every_other() -> None:
    module = foveate.create("isa", 8, block=(2, 3)).eval()
    weights = weights_of(module, torch.randn(1, 8, 6, 9))
    long, short = weights["long_map"][0], weights["short_map"][0]
    assert long.shape == short.shape == (54, 54)
    assert ((long > 0).sum(0) == 9).all()  # 3 × 3 blocks
    assert ((short > 0).sum(0) == 6).all()  # 2 × 3 positions
    assert ((long @ short) > 0).all()


def test_interlaced_sparses_weights_sum_to_one_over_the_sources() -> None:
    module = filled(foveate.create("isa", 8, block=(2, 3)))
    for name, table in weights_of(module, torch.randn(2, 8, 6, 7)).items():
        torch.testing.assert_close(table.sum(1), torch.ones(2, 54), msg=name)
        assert not torch.allclose(table.sum(2), torch.ones(2, 54)), name


def test_interlaced_sparse_looks_far_first_and_near_second() -> None:
    module = foveate.create("isa", 8, block=(2, 2)).eval()
    weights = weights_of(module, torch.randn(1, 8, 4, 4))
    reached = {name: (table[0, :, 0] > 0).nonzero().flatten().tolist() for name, table in weights.items()}
    assert reached == {"long_map": [0, 2, 8, 10], "short_map": [0, 1, 4, 5]}


def test_interlaced_sparse_pads_on_both_sides_and_the_padding_is_looked_at() -> None:
    module = foveate.create("isa", 8, block=(4, 4)).eval()
    seen = {}
    module.long_range_sa.f_value.register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0]))
    x = torch.randn(1, 8, 5, 6)
    weights = weights_of(module, x)["short_map"]
    assert torch.equal(seen["x"][:, :, 1:6, 1:7], x)  # 3 rows are missing, 1 above and 2 below; 2 columns
    assert seen["x"].shape == (1, 8, 8, 8)
    assert (weights[0, 0, 8 + 1] > 0).all()  # what the first real position takes from the padded corner of its block


def test_interlaced_sparses_parameters_are_those_of_the_released_layer() -> None:
    """ISA of 512 channels, queries and keys of 256: two steps and a fusion, without biases."""
    module = foveate.create("isa", 512, fusion="concat")
    step = 2 * (512 * 256 + 256 * 256 + 2 * 2 * 256) + 2 * 512 * 512 + 2 * 512
    assert sum(p.numel() for p in module.parameters()) == 2 * step + 1024 * 512 + 2 * 512 == 2_366_464


def test_interlaced_sparse_that_projects_the_features_has_no_identity() -> None:
    with pytest.raises(OptionError, match="use fusion=add"):
        foveate.create("isa", 8, fusion="concat").start_at_identity()
