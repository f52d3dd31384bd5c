"""Frequency Channel Attention in NumPy, from Qin et al., section 3, equations 5 to 10, and the released orders.

Basis (equation 5, with the factors that make it orthonormal): B_uv(h, w) = k_u cos(π u (h + 1/2) / H) ·
k_v cos(π v (w + 1/2) / W), k_0 = √(1/H) and √(2/H) else. Channels go into n groups; group i has the frequency that is
i-th in its order. f_c = Σ_hw x_c B; att = sigmoid(W₂ relu(W₁ f)). Frequencies are those of a map of 7×7, on a larger
one ⌊H/7⌋ times as high. A map of another size than the basis is pooled to it, adaptively.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import Options, product
from tests.support.weights import fill, gate

POINTWISE = 24  # cosines, factors, sigmoid, scale
# the place of each frequency in its order, frequencies of the height in rows, of the width in columns; -1: not ranked
PLACES = {
    "top": [
        [0, 1, 4, 13, 11, 3, 12],
        [5, -1, 6, 31, -1, -1, 9],
        [29, 21, 15, 28, -1, -1, -1],
        [10, 26, 25, 18, -1, 14, -1],
        [7, 27, -1, -1, -1, -1, 16],
        [8, -1, 23, 19, 24, 20, -1],
        [2, 22, -1, 17, -1, 30, -1],
    ],
    "low": [
        [0, 1, 4, 9, 12, 15, 21],
        [2, 3, 7, 13, 16, 22, 28],
        [5, 6, 8, 17, 23, 29, -1],
        [10, 14, 18, 24, 30, -1, -1],
        [11, 19, 25, 31, -1, -1, -1],
        [20, 26, -1, -1, -1, -1, -1],
        [27, -1, -1, -1, -1, -1, -1],
    ],
    "bottom": [
        [-1, -1, -1, -1, -1, -1, -1],
        [-1, 6, -1, 17, 1, 11, -1],
        [19, 27, -1, 20, 7, 14, 4],
        [-1, 22, 23, 30, 2, -1, 3],
        [-1, 21, 12, 5, 8, 9, -1],
        [-1, 15, 25, 29, 24, 28, 10],
        [-1, 26, 13, 31, 16, 18, 0],
    ],
}
OPTIONS = [
    *product(selection=("top", "low", "bottom"), frequencies=(1, 4, 16, 32)),
    *product(reduction=(1, 5)),
]
NORMS = False
EVERY = 3
VARIANTS = {
    "fcanet:selection=low,frequencies=4": 1,
}
REFUSED = [
    ("fca:selection=middle", {}, "selection must be one of"),
    ("fca:frequencies=33", {}, "up to 32"),
    ("fca:frequencies=0", {}, "frequencies"),
    ("fca:reduction=0", {}, "reduction"),
    ("fca", {"size": (0, 7)}, "size"),
]
RENAMES = {"fc.0.": "fc1.", "fc.2.": "fc2."}
RESNETS = [
    (34, "fcanet", 21_954_856),
    (50, "fcanet", 28_071_976),
    (101, "fcanet", 49_292_328),
    (152, "fcanet", 66_770_984),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path; a basis makes sums √(h w) times a mean."""
    positions = max(7, size[0]) * max(7, size[1])
    return 2 * positions + channels + max(1, channels // options.get("reduction", 16)) + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    size: tuple[int, int] | None = None,
    selection: str = "top",
    frequencies: int = 16,
    reduction: int = 16,
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    batch, channels, height, width = x.shape
    grid = tuple(max(7, side) for side in (size or (7, 7)))  # named on the card
    assert set(state) == {"fc1.weight", "fc2.weight"}
    assert state["fc1.weight"].shape == (max(1, channels // reduction), channels)

    pooled = np.empty((batch, channels, *grid))
    for i in range(grid[0]):
        for j in range(grid[1]):
            rows = slice(math.floor(i * height / grid[0]), math.ceil((i + 1) * height / grid[0]))
            columns = slice(math.floor(j * width / grid[1]), math.ceil((j + 1) * width / grid[1]))
            pooled[:, :, i, j] = x[:, :, rows, columns].mean((2, 3))

    f = np.empty((batch, channels))
    sizes = [channels // frequencies + (i < channels % frequencies) for i in range(frequencies)]
    group_of = [i for i, many in enumerate(sizes) for _ in range(many)]
    for c in range(channels):
        (u,), (v,) = np.nonzero(np.array(PLACES[selection]) == group_of[c])
        total = np.zeros(batch)
        for i in range(grid[0]):
            for j in range(grid[1]):
                basis = cosine(u * (grid[0] // 7), i, grid[0]) * cosine(v * (grid[1] // 7), j, grid[1])
                total += pooled[:, c, i, j] * basis
        f[:, c] = total

    y = np.empty_like(x)
    for b in range(batch):
        logits = state["fc2.weight"] @ np.maximum(state["fc1.weight"] @ f[b], 0)
        for c in range(channels):
            y[b, c] = x[b, c] / (1 + np.exp(-logits[c]))
    return y


def cosine(frequency: int, position: int, length: int) -> float:
    factor = 1 if frequency == 0 else 2
    return math.sqrt(factor / length) * math.cos(math.pi * frequency * (position + 0.5) / length)


def bases(side: int, frequencies: int = 16) -> torch.Tensor:
    """What each position of a map counts for, by channel: the sums for maps of a single one."""
    module = foveate.create("fca", 16, size=(side, side), frequencies=frequencies).double()
    ones = torch.eye(side * side, dtype=torch.float64).reshape(-1, 1, side, side).expand(-1, 16, -1, -1)
    return module.gather(ones).T


@pytest.mark.parametrize("side", [7, 10, 14, 28])
def test_fca_has_sixteen_orthonormal_bases(side: int) -> None:
    found = bases(side)
    torch.testing.assert_close(found @ found.T, torch.eye(16, dtype=torch.float64))


@pytest.mark.parametrize("side", [3, 5, 6])
def test_fca_has_different_frequencies_on_a_map_below_seven(side: int) -> None:
    """Scaled by ⌊side / 7⌋ they would all be zero, and every channel's coefficient its mean."""
    found = bases(side, frequencies=4)
    assert len({tuple(basis.tolist()) for basis in found.round(decimals=9)}) == 4


def test_fca_sums_and_does_not_average() -> None:
    module = foveate.create("fca", 1, size=(14, 14))
    torch.testing.assert_close(module.gather(torch.full((1, 1, 14, 14), 3.0)), torch.tensor([[3.0 * 14]]))


def test_fca_scales_its_frequencies_to_the_map() -> None:
    """On 14×14 the second frequency of `top`, one half wave across a map of 7×7, is a whole wave."""
    wave = torch.cos(math.pi * 2 * (torch.arange(14.0) + 0.5) / 14).expand(1, 2, 14, 14)
    found = foveate.create("fca", 2, size=(14, 14)).gather(wave)
    torch.testing.assert_close(found, torch.tensor([[0.0, 14 / 2**0.5]]), rtol=1e-5, atol=1e-4)


def test_fca_with_one_frequency_is_squeeze_and_excitation_of_a_multiple_of_the_means() -> None:
    fca = foveate.create("fca:frequencies=1", 32, size=(7, 7))
    se = foveate.create("se:bias=false", 32)
    se.load_state_dict(fca.state_dict())
    x = torch.randn(2, 32, 7, 7)
    torch.testing.assert_close(gate(fca, x), gate(se, 7 * x))


@pytest.mark.parametrize(
    ("channels", "groups"), [(16, [1] * 16), (3, [1] * 3), (19, [2] * 3 + [1] * 13), (64, [4] * 16)]
)
def test_fca_takes_any_number_of_channels(channels: int, groups: list[int]) -> None:
    x = torch.randn(1, 1, 7, 7).expand(1, channels, 7, 7)
    found = foveate.create("fca", channels).gather(x)[0]
    assert torch.unique_consecutive(found, return_counts=True)[1].tolist() == groups


def test_fca_has_no_biases_and_a_hidden_unit_at_least() -> None:
    assert {n: tuple(p.shape) for n, p in foveate.create("fca", 8).named_parameters()} == {
        "fc1.weight": (1, 8),
        "fc2.weight": (8, 1),
    }


def test_fca_uses_the_maps_own_size_and_pools_others_to_it() -> None:
    module = foveate.create("fca", 16, size=(7, 7)).double()
    fill(module.fc1, 0.1)
    x = torch.randn(2, 16, 9, 12, dtype=torch.float64)
    pooled = torch.nn.functional.adaptive_avg_pool2d(x, (7, 7))
    torch.testing.assert_close(module.gather(x), module.gather(pooled))
