"""Global Response Normalization in NumPy, from Woo et al., section 3.2, equations 1 to 3 and algorithm 1.

G(X)_i = ‖X_i‖, the root of the sum of squares of channel i; N_i = ‖X_i‖ / (mean_j ‖X_j‖ + 1e-6);
the output is γ (X N) + β + X.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foveate
from tests.support.oracles import Options
from tests.support.weights import fill, gate

POINTWISE = 16  # root, quotient, scale, shift, sum
OPTIONS: list[Options] = [{}]
NORMS = False


def terms(options: Options, channels: int, size: tuple[int, int], training: bool) -> int:
    """How many terms are added one after another on the longest path from input to output."""
    return size[0] * size[1] + channels + POINTWISE


def oracle(x: np.ndarray, state: dict[str, np.ndarray], *, training: bool = False) -> np.ndarray:
    """The output for `x` of shape (b, c, h, w), with the module's `state`."""
    gamma, beta = state["weight"], state["bias"]
    y = np.empty_like(x)
    for b in range(len(x)):
        sizes = [np.sqrt(sum(value**2 for value in plane.ravel())) for plane in x[b]]
        mean = sum(sizes) / len(sizes)
        for c, size in enumerate(sizes):
            y[b, c] = gamma[c] * (x[b, c] * size / (mean + 1e-6)) + beta[c] + x[b, c]
    return y


def test_grn_starts_with_scale_and_shift_of_zero_and_so_as_the_identity() -> None:
    module = foveate.create("grn", 8)
    assert not module.weight.any()
    assert not module.bias.any()
    x = torch.randn(2, 8, 5, 6)
    assert torch.equal(module(x), x)


def test_grn_relates_a_channels_size_to_the_mean_of_all_and_not_to_their_sum() -> None:
    x = torch.zeros(1, 2, 2, 2)
    x[0, 0, 0] = torch.tensor([3.0, 4.0])  # of size 5
    x[0, 1, 1, 1] = 15.0
    weights = gate(foveate.create("grn", 2), x)
    torch.testing.assert_close(weights.flatten(), torch.tensor([0.5, 1.5]), rtol=1e-6, atol=1e-6)


def test_grn_is_finite_where_all_features_are_zero() -> None:
    module = foveate.create("grn", 3)
    fill(module, 1.0)
    x = torch.zeros(2, 3, 4, 4, requires_grad=True)
    y = module(x)
    y.sum().backward()
    assert not y.any()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))


def test_grn_squares_large_features_in_half_precision() -> None:
    x = torch.linspace(-600, 600, 24).reshape(1, 2, 3, 4)
    modules = [foveate.create("grn", 2, dtype=dtype) for dtype in (torch.float32, torch.float16)]
    for module in modules:
        fill(module, 1.0)
    exact, found = modules[0](x), modules[1](x.half())
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), exact, rtol=4e-3, atol=0)


def test_grn_is_the_one_of_timm_and_as_large_in_all_of_convnext_v2() -> None:
    timm = pytest.importorskip("timm")
    grn = pytest.importorskip("timm.layers.grn")
    theirs = grn.GlobalResponseNorm(6, channels_last=False).double()
    norm = foveate.create("grn", 6, dtype=torch.float64)
    for name in ("weight", "bias"):
        value = torch.randn(6, dtype=torch.float64)
        for module in (norm, theirs):
            module.get_parameter(name).data.copy_(value)
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(norm(x), theirs(x), rtol=1e-14, atol=1e-14)

    dims, depths = (40, 80, 160, 320), (2, 2, 6, 2)  # of ConvNeXt V2-Atto, each norm on four times the width
    with torch.device("meta"):
        network = timm.create_model("convnextv2_atto")
        modules = [foveate.create("grn", 4 * dim) for dim in dims]
    published = sum(p.numel() for name, p in network.named_parameters() if ".grn." in name)
    ours = [sum(p.numel() for p in module.parameters()) for module in modules]
    assert published == sum(size * depth for size, depth in zip(ours, depths, strict=True)) == 14_720
