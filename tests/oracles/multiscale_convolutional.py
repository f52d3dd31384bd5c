"""Multi-scale convolutional attention in NumPy, from Guo et al., SegNeXt, section 3.1.

Att = Conv₁ₓ₁(Σ_i Scale_i(DW-Conv(F))) (equation 1) and Out = Att ⊗ F (equation 2), element by element; no sigmoid.
DW-Conv is a depthwise 5×5 convolution, Scale₀ the identity, and Scale₁ to Scale₃ depthwise strips, along the rows and
then along the columns, of lengths 7, 11 and 21. All convolutions have biases, as in the released code.
"""

from __future__ import annotations

import numpy as np
import torch

import foveate
from tests.support.oracles import Options, product
from tests.support.weights import fill, filled, gate, has_deviation

POINTWISE = 16  # biases and the product
OPTIONS = product(kernel_sizes=((7, 11, 21), (3,), (5, 1), (21, 7)))
EVERY = 2
NORMS = False
VARIANTS = {
    "multiscale_convolutional:kernel_sizes=3": 1,
}
REFUSED = [
    ("msca:kernel_sizes=7+10", {}, "9 and 11"),
    ("msca:kernel_sizes=7+7", {}, "each length once"),
    ("msca", {"kernel_sizes": ()}, "at least one"),
]
RENAMES = {f"conv{branch}_{part}.": f"strips.{branch}.{part - 1}." for branch in (0, 1, 2) for part in (1, 2)}


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    lengths = options["kernel_sizes"]
    return 25 + 2 * max(lengths) + len(lengths) + channels + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    kernel_sizes: tuple[int, ...] = (7, 11, 21),
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    channels = x.shape[1]
    near = depthwise(x, state["conv0.weight"], state["conv0.bias"], (5, 5))
    scales = [near]
    for i, length in enumerate(kernel_sizes):
        row = depthwise(near, state[f"strips.{i}.0.weight"], state[f"strips.{i}.0.bias"], (1, length))
        scales.append(depthwise(row, state[f"strips.{i}.1.weight"], state[f"strips.{i}.1.bias"], (length, 1)))
    assert len(state) == 4 * len(kernel_sizes) + 4
    mix = state["conv3.weight"].reshape(channels, channels)
    y = np.empty_like(x)
    for b in range(len(x)):
        for o in range(channels):
            seen = sum(mix[o, c] * scale[b, c] for scale in scales for c in range(channels))
            y[b, o] = x[b, o] * (seen + state["conv3.bias"][o])
    return y


def depthwise(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Each channel with its own kernel, centred; zero outside the map."""
    batch, channels, height, width = x.shape
    rows, columns = shape
    assert kernel.shape == (channels, 1, rows, columns)
    framed = np.zeros((batch, channels, height + rows - 1, width + columns - 1))
    framed[:, :, rows // 2 : rows // 2 + height, columns // 2 : columns // 2 + width] = x
    out = np.empty_like(x)
    for i in range(height):
        for j in range(width):
            window = framed[:, :, i : i + rows, j : j + columns]
            out[:, :, i, j] = (window * kernel[:, 0]).sum((2, 3)) + bias
    return out


def test_msca_has_no_sigmoid_on_its_factors() -> None:
    weights = gate(filled(foveate.create("msca", 4)), torch.randn(2, 4, 9, 9))
    assert weights.min() < 0
    assert weights.max() > 1


def test_msca_has_strips_of_7_11_and_21_and_keeps_all_biases() -> None:
    module = foveate.create("msca", 8)
    kernels = [[part.kernel_size for part in strip] for strip in module.strips]
    assert kernels == [[(1, 7), (7, 1)], [(1, 11), (11, 1)], [(1, 21), (21, 1)]]
    # every depthwise convolution has a weight a cell and a bias for each channel
    assert sum(p.numel() for p in module.parameters()) == 8 * (25 + 1 + 2 * (7 + 11 + 21) + 6) + 8 * 8 + 8


def test_msca_adds_the_neighbourhood_itself_to_its_strips() -> None:
    module = foveate.create("msca", 1)
    for strip in module.strips:
        for part in strip:
            fill(part, 0.0)
    fill(module.conv3, 1.0)
    x = torch.randn(1, 1, 6, 7)
    torch.testing.assert_close(module(x), x * module.conv0(x))


def test_msca_starts_as_the_authors_network_does() -> None:
    module = foveate.create("msca", 512)
    for layer, fan_out in (
        (module.conv0, 25),
        (module.strips[0][0], 7),
        (module.strips[2][1], 21),
        (module.conv3, 512),
    ):
        assert has_deviation(layer.weight, (2 / fan_out) ** 0.5)
        assert not layer.bias.any()
