"""Channel Prior Convolutional Attention in NumPy, from Huang et al., section 3, equations 1 to 4.

CA(F) = σ(MLP(mean)) + σ(MLP(max)), F_c = CA(F) · F. SA(F_c) = Conv₁ₓ₁(Σ_i Branch_i(DwConv(F_c))), branch 0 the
identity, the others a row strip and a column strip of 7, 11 and 21; the output is SA(F_c) · F_c. The released module
projects before, with GELU, and after, all three times with the 1×1 convolution of SA.
"""

from __future__ import annotations

import math

import numpy as np
import torch

import foveate
from foveate.testing import check_mechanism, checks
from tests.support.oracles import Options, product
from tests.support.weights import fill, weights_of

POINTWISE = 64  # GELU, two sigmoids, products
OPTIONS = product(reduction=(1, 4), definition=("released", "paper"))
CHANNELS = (1, 3, 7, 16)
GRAPHS = ("compiles", "exports", "exports_to_onnx")  # captured elsewhere, with the default form
NORMS = False
EVERY = 5
VARIANTS = {
    "channel_prior:reduction=2": 1,
}
REFUSED = [
    ("cpca:reduction=0", {}, "reduction must be a whole number of at least 1"),
    ("cpca:definition=code", {}, "definition must be one of 'released', 'paper'"),
]


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    return 5 * channels + size[0] * size[1] + 25 + 42 + POINTWISE


def oracle(
    x: np.ndarray,
    state: dict[str, np.ndarray],
    *,
    training: bool = False,
    reduction: int = 4,
    definition: str = "released",
) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    released = definition == "released"
    error = np.vectorize(math.erf)
    out = []
    for sample in x:
        f = sample
        if released:
            f = project(f, state)
            f = f * (1 + error(f / math.sqrt(2))) / 2
        weights = np.zeros(len(f))
        for pooled in (f.sum((1, 2)) / f[0].size, f.max((1, 2))):
            hidden = np.maximum(state["fc1.weight"] @ pooled + state["fc1.bias"], 0)
            assert len(hidden) == max(1, len(f) // reduction)
            weights += 1 / (1 + np.exp(-(state["fc2.weight"] @ hidden + state["fc2.bias"])))
        f = f * weights[:, None, None]
        local = depthwise(f, state, "local")
        total = local.copy()
        for i, length in enumerate((7, 11, 21)):
            assert state[f"strips.{i}.0.weight"].shape[2:] == (1, length)
            assert state[f"strips.{i}.1.weight"].shape[2:] == (length, 1)
            total += depthwise(depthwise(local, state, f"strips.{i}.0"), state, f"strips.{i}.1")
        y = f * project(total, state)
        out.append(project(y, state) if released else y)
    return np.array(out)


def project(x: np.ndarray, state: dict[str, np.ndarray]) -> np.ndarray:
    return np.einsum("oc,chw->ohw", state["project.weight"][:, :, 0, 0], x) + state["project.bias"][:, None, None]


def depthwise(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    kernel = state[f"{name}.weight"]
    rows, columns = kernel.shape[2:]
    height, width = x.shape[1:]
    padded = np.zeros((len(x), height + rows - 1, width + columns - 1))
    padded[:, rows // 2 : rows // 2 + height, columns // 2 : columns // 2 + width] = x
    out = np.zeros_like(x) + state[f"{name}.bias"][:, None, None]
    for i in range(rows):
        for j in range(columns):
            out += kernel[:, 0, i, j, None, None] * padded[:, i : i + height, j : j + width]
    return out


def test_cpca_adds_two_sigmoids_and_not_two_logits() -> None:
    module = foveate.create("cpca", 8)
    fill(module.fc2, 0.0)
    fill(module.fc2, 1.0, "bias")
    weights = weights_of(module, torch.randn(1, 8, 5, 6))["channel_map"]
    torch.testing.assert_close(weights, torch.full_like(weights, 2 * torch.tensor(1.0).sigmoid().item()))


def test_cpcas_spatial_weights_have_no_sigmoid_and_differ_between_channels() -> None:
    weights = weights_of(foveate.create("cpca", 8, definition="paper"), 20 * torch.randn(1, 8, 5, 6))["spatial_map"]
    assert weights.shape == (1, 8, 5, 6)
    assert weights.min() < 0
    assert weights.max() > 1


def test_cpca_as_released_has_one_projection_for_three_places() -> None:
    module = foveate.create("cpca", 8)
    fill(module.project, 0.0)
    fill(module.project, 2.0, "bias")
    x = torch.randn(1, 8, 5, 6)
    weights = weights_of(module, x)["spatial_map"]
    torch.testing.assert_close(weights, torch.full_like(weights, 2.0))
    torch.testing.assert_close(module(x), torch.full_like(x, 2.0))


def test_cpcas_parameters_are_those_of_the_authors_block() -> None:
    """Seven depthwise kernels with biases, one 1×1 layer, a bottleneck of a quarter."""
    c = 96
    depthwise = c * (25 + 2 * (7 + 11 + 21) + 7)
    count = depthwise + c * c + c + 2 * c * (c // 4) + c // 4 + c
    assert sum(p.numel() for p in foveate.create("cpca", c).parameters()) == count


def test_cpca_as_in_the_paper_meets_the_whole_contract() -> None:
    """The card exempts the released form from one check; this form needs no exemption."""
    results = check_mechanism("cpca:definition=paper", exemptions={}, only=[n for n in checks() if n not in GRAPHS])
    assert [str(result) for result in results if result.outcome != "passed"] == []


def test_cpca_with_fewer_channels_than_its_reduction_has_a_hidden_unit() -> None:
    assert foveate.create("cpca", 3).fc1.out_features == 1
