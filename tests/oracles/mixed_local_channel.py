"""Mixed Local Channel Attention in NumPy, from Wan et al. and the indices of the released code.

Local means: of s × s regions, region i of a side of n the positions from ⌊i n / s⌋ up to, without, ⌈(i + 1) n / s⌉.
Global mean: of the local means. Each is convolved along channels, the local ones as one sequence, region after region;
σ makes gates, (1 - λ) global + λ local of each region mixes them. At a position of the map stands the mean of the
regions that the same rule gives with the map's side and s exchanged; it multiplies the feature.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import foveate
from foveate.ops.adaptive import adaptive_mean
from tests.support.oracles import Options, product
from tests.support.weights import fill, gate

POINTWISE = 24  # two sigmoids, mixture, mean of up to nine regions, product
OPTIONS = [
    *product(local_size=(5, 2), local_weight=(0.5, 0.2)),
    {"kernel_size": 5},
    {"local_size": 3, "kernel_size": 1},
]
NORMS = False
EVERY = 2
VARIANTS = {
    "mlca:local_size=3,local_weight=0.25": 1,
}
REFUSED = [
    ("mlca:local_size=1", {}, "local_size must be a whole number of at least 2"),
    ("mlca:local_weight=0.0", {}, "local_weight must be positive"),
    ("mlca:local_weight=1", {}, "local_weight must be below 1"),
    ("mlca:kernel_size=4", {}, "3 and 5"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    regions = options.get("local_size", 5) ** 2
    return size[0] * size[1] + 2 * regions + 7 + POINTWISE


def window(index: int, length: int, count: int) -> range:
    """The positions of one of so many windows over a length."""
    return range(index * length // count, -(-(index + 1) * length // count))


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    local_size: int = 5,
    local_weight: float = 0.5,
    kernel_size: int | None = None,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    whole, local = (state[f"{name}.weight"].reshape(-1) for name in ("conv", "conv_local"))
    k = kernel_size or next(k for k in (1, 3, 5, 7) if channels < 2 ** (2 * k + 1))
    assert len(whole) == len(local) == k
    cells = [(p, q) for p in range(local_size) for q in range(local_size)]
    y = np.empty_like(x)
    for b in range(batch):
        means = np.empty((local_size * local_size, channels))
        for r, (p, q) in enumerate(cells):
            members = [x[b, :, i, j] for i in window(p, height, local_size) for j in window(q, width, local_size)]
            means[r] = sum(members) / len(members)
        overall = convolved(list(means.sum(0) / len(means)), whole)
        own = convolved(list(means.reshape(-1)), local).reshape(means.shape)
        mixed = (1 - local_weight) / (1 + np.exp(-overall)) + local_weight / (1 + np.exp(-own))
        for i, j in np.ndindex(height, width):
            seen = [(p, q) for p in window(i, local_size, height) for q in window(j, local_size, width)]
            weights = sum(mixed[cells.index(cell)] for cell in seen) / len(seen)
            y[b, :, i, j] = x[b, :, i, j] * weights
    return y


def convolved(values: list[float], kernel: np.ndarray) -> np.ndarray:
    out = np.zeros(len(values))
    for at in range(len(values)):
        for tap, weight in enumerate(kernel):
            neighbour = at + tap - len(kernel) // 2
            if 0 <= neighbour < len(values):
                out[at] += weight * values[neighbour]
    return out


def test_mlcas_local_convolution_runs_on_from_one_region_into_the_next() -> None:
    module = foveate.create("mlca", 4, local_size=2, kernel_size=3, dtype=torch.float64)
    fill(module.conv, 0.0)
    fill(module.conv_local, 1.0)
    base = torch.zeros(1, 4, 2, 2, dtype=torch.float64)
    last = base.clone()
    last[0, 3, 0, 0] = 1.0  # the last channel of the first region
    changed = (gate(module, last) != gate(module, base))[0].nonzero().tolist()
    assert changed == [[0, 0, 1], [2, 0, 0], [3, 0, 0]]  # and the first channel of the second


def test_mlcas_global_mean_is_that_of_its_regions_and_not_of_the_map() -> None:
    module = foveate.create("mlca", 1, local_size=2, kernel_size=1, dtype=torch.float64)
    fill(module.conv, 1.0)
    fill(module.conv_local, 0.0)
    x = torch.zeros(1, 1, 1, 3, dtype=torch.float64)
    x[..., 1] = 1.0  # in both regions of a row of three: a half in each, a third in the map
    weights = gate(module, x)
    torch.testing.assert_close(weights, (torch.full_like(weights, 0.5).sigmoid() + 0.5) / 2)


def test_mlcas_kernel_is_that_of_efficient_channel_attention() -> None:
    for channels in (1, 4, 7, 8, 64, 127, 128, 2048):
        kernel = foveate.create("eca", channels).conv.kernel_size
        module = foveate.create("mlca", channels)
        assert module.conv.kernel_size == module.conv_local.kernel_size == kernel, channels


def test_mlca_says_nothing_while_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    foveate.create("mlca", 8)(torch.randn(1, 8, 7, 9))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("side", "count"), [(1, 5), (3, 5), (5, 5), (7, 5), (10, 5), (13, 4)])
def test_regions_are_those_of_pytorchs_adaptive_pooling(side: int, count: int) -> None:
    x = torch.randn(2, 3, side, side + 1, dtype=torch.float64)
    torch.testing.assert_close(adaptive_mean(x, (count, 3)), F.adaptive_avg_pool2d(x, (count, 3)))
    ones = torch.ones(1, 1, side, side + 1)
    assert torch.equal(adaptive_mean(ones, (count, 7)), torch.ones(1, 1, count, 7))
