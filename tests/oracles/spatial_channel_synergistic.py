"""Spatial and Channel Synergistic Attention in NumPy, from Si et al., section 3.

SMSA: the means of rows and of columns, in four parts of the channels, through depthwise convolutions of four lengths
that rows and columns share; group normalisation in four groups, one for rows and one for columns; σ; both multiply.
PCSA: what is left is pooled by windows, those cut off by the edge left out, and normalised over all of a sample;
every channel has one factor each for query, key and value. softmax(Q Kᵀ / √d) V among the channels of a head; the mean
over positions, σ, multiplies the channel.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from foveate.errors import OptionError
from tests.support.oracles import Options, product
from tests.support.weights import weights_of

POINTWISE = 48
OPTIONS = [
    *product(heads=(1, 2), window=(7, 2, None), pool=("avg", "max")),
    *product(bias=(False, True), kernel_sizes=((3, 5, 7, 9), (1, 3, 1, 5))),
]
CHANNELS = (4, 8, 16)
SIZES = ((1, 1), (1, 5), (7, 5), (9, 15))
NORMS = False
EVERY = 13
VARIANTS = {
    "spatial_channel_synergistic:window=2,heads=4,bias=true": 4,
    "spatial_channel_synergistic:window=none": 1,
    "spatial_channel_synergistic:pool=max": 14,
}
CAPTURED = ("spatial_channel_synergistic:pool=max",)
REFUSED = [
    ("scsa:heads=3", {}, "16 channels cannot be split into heads=3.*15 and 18 channels; for 16 it may be 2 or 4"),
    ("scsa:window=0", {}, "window must be a whole number of at least 1"),
    ("scsa:kernel_sizes=3+5+7", {}, "four odd lengths"),
    ("scsa:kernel_sizes=3+5+7+8", {}, "7 and 9"),
    ("scsa:kernel_sizes=3", {}, "four odd lengths"),
    ("scsa:pool=lse", {}, "pool must be one of"),
    ("scsa:bias=1", {}, "true or false"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    flat = round(4 * 1e-5**-0.5) if 1 in size else 0  # a variance of zero: the norm divides rounding by √1e-5
    return 3 * max(size) * channels + 49 + 2 * channels + size[0] * size[1] + flat + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    heads: int = 1,
    window: int | None = 7,
    kernel_sizes: tuple[int, ...] = (3, 5, 7, 9),
    pool: str = "avg",
    bias: bool = False,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    assert any(name == "channel.q.bias" for name in state) == bias
    out = np.empty_like(x)
    for b, sample in enumerate(x):
        rows = line_gate(sample.sum(2) / sample.shape[2], state, kernel_sizes, "norm_h")
        columns = line_gate(sample.sum(1) / sample.shape[1], state, kernel_sizes, "norm_w")
        gated = sample * rows[:, :, None] * columns[:, None, :]
        out[b] = gated * channel_gate(gated, state, heads, window, pool)[:, None, None]
    return out


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def group_norm(values: np.ndarray, state: dict[str, np.ndarray], name: str, groups: int) -> np.ndarray:
    out = np.empty_like(values)
    width = len(values) // groups
    for g in range(groups):
        mine = slice(g * width, (g + 1) * width)
        centred = values[mine] - values[mine].sum() / values[mine].size
        out[mine] = centred / np.sqrt((centred**2).sum() / centred.size + 1e-5)
    each = (slice(None), *(None,) * (values.ndim - 1))
    return out * state[f"{name}.weight"][each] + state[f"{name}.bias"][each]


def line_gate(means: np.ndarray, state: dict[str, np.ndarray], kernel_sizes: tuple[int, ...], norm: str) -> np.ndarray:
    channels, length = means.shape
    convolved = np.zeros_like(means)
    for c in range(channels):
        part, within = divmod(c, channels // 4)
        kernel = state[f"spatial.convs.{part}.weight"][within, 0]
        assert kernel.shape == (kernel_sizes[part],)
        for place in range(length):
            convolved[c, place] = state[f"spatial.convs.{part}.bias"][within]
            for tap, weight in enumerate(kernel):
                seen = place + tap - (len(kernel) - 1) // 2
                if 0 <= seen < length:
                    convolved[c, place] += weight * means[c, seen]
    return sigmoid(group_norm(convolved, state, f"spatial.{norm}", 4))


def channel_gate(x: np.ndarray, state: dict[str, np.ndarray], heads: int, window: int | None, pool: str) -> np.ndarray:
    channels, height, width = x.shape
    tall, wide = (height, width) if window is None else (min(window, height), min(window, width))
    pooled = np.empty((channels, height // tall, width // wide))
    for i in range(height // tall):
        for j in range(width // wide):
            cells = x[:, i * tall : (i + 1) * tall, j * wide : (j + 1) * wide].reshape(channels, -1)
            pooled[:, i, j] = cells.max(1) if pool == "max" else cells.sum(1) / cells.shape[1]
    pooled = group_norm(pooled, state, "channel.norm", 1).reshape(channels, -1)
    query, key, value = (
        pooled * state[f"channel.{name}.weight"].reshape(-1, 1)
        + state.get(f"channel.{name}.bias", np.zeros(1))[:, None]
        for name in ("q", "k", "v")
    )
    found = np.empty(channels)
    width = channels // heads
    for head in range(heads):
        for c in range(width):
            own = head * width + c
            logits = np.array([query[own] @ key[head * width + d] / np.sqrt(width) for d in range(width)])
            share = np.exp(logits - logits.max())
            share /= share.sum()
            mixed = sum(share[d] * value[head * width + d] for d in range(width))
            found[own] = mixed.sum() / mixed.size
    return sigmoid(found)


@pytest.mark.parametrize(("channels", "nearest"), [(1, "can: 4$"), (6, "can: 4 and 8"), (31, "can: 28 and 32")])
def test_scsa_refuses_channels_that_are_no_multiple_of_four(channels: int, nearest: str) -> None:
    """The authors' check reads `dim // 4` and lets 6 pass."""
    with pytest.raises(OptionError, match=nearest):
        foveate.create("scsa", channels)


def test_scsa_shares_its_convolutions_between_rows_and_columns_and_not_its_norms() -> None:
    module = foveate.create("scsa", 16)
    assert [conv.kernel_size for conv in module.spatial.convs] == [(3,), (5,), (7,), (9,)]
    x = torch.randn(2, 16, 8, 8)
    rows = weights_of(module, x)["spatial.h_map"]
    columns = weights_of(module, x.transpose(2, 3))["spatial.w_map"]
    torch.testing.assert_close(rows, columns.transpose(2, 3))
    assert (module.spatial.norm_h.num_groups, module.spatial.norm_w.num_groups) == (4, 4)
    assert module.spatial.norm_h.weight is not module.spatial.norm_w.weight


def test_scsas_channels_look_at_the_channels_of_their_head() -> None:
    module = foveate.create("scsa", 16, heads=4)
    dense = weights_of(module, torch.randn(2, 16, 14, 14))["channel.channels_map"]
    torch.testing.assert_close(dense.sum(1), torch.ones(2, 16))
    head = torch.arange(16) // 4
    assert (dense[:, head[:, None] != head] == 0).all()
    assert (dense[:, head[:, None] == head] > 0).all()


def test_scsa_runs_on_maps_smaller_than_its_window() -> None:
    module = foveate.create("scsa", 8).eval()
    for size in ((1, 1), (3, 9), (6, 6)):
        assert module(torch.randn(1, 8, *size)).isfinite().all()


def test_scsas_parameters_are_sixteen_a_channel() -> None:
    """Kernels and biases of four quarters (7), two norms (4), one norm (2), query, key and value (3)."""
    for channels in (16, 256):
        assert sum(p.numel() for p in foveate.create("scsa", channels).parameters()) == 16 * channels


def test_scsa_pools_by_windows_of_seven_and_leaves_out_what_the_edge_cuts_off() -> None:
    gate = foveate.create("scsa", 8).channel
    x = torch.randn(1, 8, 15, 16)
    query = gate.gather(x).query
    assert query.shape == (1, 8, 2, 2)
    beyond = x.clone()
    beyond[..., 14:, :] += 10.0
    beyond[..., 14:] -= 10.0
    assert torch.equal(gate.gather(beyond).query, query)
    means = x[..., :14, :14].unflatten(3, (2, 7)).unflatten(2, (2, 7)).mean((3, 5))
    torch.testing.assert_close(query, gate.q(gate.norm(means)))
