"""Products with weights that broadcast: the quick backward pass against PyTorch's, in both layouts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.ops.gate import gate
from foveate.ops.nearest import gate_nearest, neighbourhood_means
from foveate.ops.pool import global_mean, project_channels, weighted_sum
from foveate.ops.sigmoid import scaled_sigmoid
from foveate.ops.spread import standardised_squares
from foveate.ops.strips import column_means, row_means

LAYOUTS = (torch.contiguous_format, torch.channels_last)
BROADCASTS = [(2, 3, 1, 1), (2, 1, 4, 5), (1, 3, 1, 1), (2, 3, 4, 1), (2, 3, 1, 5), (1, 1, 1, 1), (2, 3, 4, 5)]


def close(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], terms: int) -> None:
    """Equal to what rounding of so many summed terms allows."""
    for one, other in zip(found, expected, strict=True):
        bound = terms * torch.finfo(other.dtype).eps * max(1.0, float(other.abs().max()))
        assert float((one - other).abs().max()) <= bound


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", BROADCASTS)
def test_gate_is_the_product_with_its_gradients(shape: tuple[int, ...], layout: torch.memory_format):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=layout).requires_grad_()
    weights = torch.rand(shape).requires_grad_()
    y, expected = gate(x, weights), x * weights
    assert torch.equal(y, expected)
    assert y.is_contiguous(memory_format=layout)
    upstream = torch.randn_like(y)
    wanted = (x, weights)
    gradients = torch.autograd.grad(expected, wanted, upstream)
    for graph in (True, False):  # the way back that has derivatives itself, and the quick one
        close(torch.autograd.grad(y, wanted, upstream, create_graph=graph), gradients, x.numel())
    kept = upstream.clone()
    torch.autograd.grad(gate(x, weights), wanted, upstream)
    assert torch.equal(upstream, kept)  # what came from above is not written over


def test_gate_has_every_kind_of_derivative():
    x = torch.randn(2, 3, 2, 2, dtype=torch.double, requires_grad=True)
    weights = torch.rand(2, 3, 1, 1, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(gate, (x, weights), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(gate, (x, weights))
    gradient = torch.func.grad(lambda t: gate(t, weights.detach()).square().sum())
    (expected,) = torch.autograd.grad((x * weights).square().sum(), x)
    assert torch.allclose(gradient(x.detach()), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("size", "extent"), [((8, 8), 2), ((8, 12), 4), ((7, 9), 2), ((5, 6), 8), ((1, 1), 2)])
def test_neighbourhoods_are_averaged_and_come_back_by_the_nearest(
    size: tuple[int, int], extent: int, layout: torch.memory_format
):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=torch.double).contiguous(memory_format=layout).requires_grad_()
    means = neighbourhood_means(x, extent)
    expected = F.avg_pool2d(x, 2 * extent - 1, extent, padding=extent - 1, count_include_pad=False)
    close((means,), (expected,), extent**2 * 4)
    weights = torch.rand_like(means).requires_grad_()
    y, plain = gate_nearest(x, weights), x * F.interpolate(weights, size=size, mode="nearest")
    assert torch.equal(y, plain)
    assert torch.equal(gate_nearest(x.detach(), weights.detach()), plain)
    upstream = torch.randn_like(y)
    wanted = (x, weights)
    gradients = torch.autograd.grad(plain, wanted, upstream)
    for graph in (True, False):
        close(torch.autograd.grad(y, wanted, upstream, create_graph=graph), gradients, x.numel())


def test_nearest_gate_has_second_derivatives():
    x = torch.randn(1, 2, 4, 4, dtype=torch.double, requires_grad=True)
    weights = torch.rand(1, 2, 2, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(gate_nearest, (x, weights))
    assert torch.autograd.gradgradcheck(gate_nearest, (x, weights))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strip_and_global_means_are_means(layout: torch.memory_format):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 7).contiguous(memory_format=layout).requires_grad_()
    for found, expected in (
        (row_means(x), x.mean(3)),
        (column_means(x), x.mean(2)),
        (global_mean(x), x.mean((2, 3))),
    ):
        upstream = torch.randn_like(expected)
        close((found,), (expected,), 35)
        close(torch.autograd.grad(found, x, upstream), torch.autograd.grad(expected, x, upstream), 2)


def test_means_of_half_precision_stay_in_its_range():
    x = torch.full((1, 1, 64, 64), 100.0, dtype=torch.float16, requires_grad=True)  # their sum is out of range
    assert global_mean(x).item() == 100.0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (1, 4)])
def test_standardised_squares_are_squares_over_the_variance(size: tuple[int, int], layout: torch.memory_format):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=torch.double).contiguous(memory_format=layout).requires_grad_()
    squares = (x - x.mean((2, 3), keepdim=True)).square()
    expected = squares / (squares.sum((2, 3), keepdim=True) / max(1, size[0] * size[1] - 1) + 0.1)
    found = standardised_squares(x, 0.1)
    close((found,), (expected,), 100)
    upstream = torch.randn_like(found)
    gradients = torch.autograd.grad(expected, x, upstream, retain_graph=True)
    for graph in (True, False):
        close(torch.autograd.grad(found, x, upstream, create_graph=graph), gradients, 1000)
    assert torch.autograd.gradcheck(lambda t: standardised_squares(t, 0.1), (x,))
    assert torch.autograd.gradgradcheck(lambda t: standardised_squares(t, 0.1), (x,))
    close((scaled_sigmoid(found, 0.25, 0.5),), (torch.sigmoid(expected / 4 + 0.5),), 100)
    with torch.no_grad():
        close((scaled_sigmoid(found, 0.25, 0.5),), (torch.sigmoid(expected / 4 + 0.5),), 100)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sums_over_positions_and_over_channels_are_products(layout: torch.memory_format):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 7, dtype=torch.double).contiguous(memory_format=layout).requires_grad_()
    weights, weight, bias = (torch.randn(shape).double() for shape in ((2, 1, 5, 7), (1, 3, 1, 1), (1,)))
    for found, expected in (
        (weighted_sum(x, weights), (x * weights).sum((2, 3))),
        (project_channels(x, weight, bias), (x * weight).sum(1, keepdim=True) + bias),
        (project_channels(x, weight), (x * weight).sum(1, keepdim=True)),
    ):
        upstream = torch.randn_like(expected)
        close((found,), (expected,), 100)
        close(torch.autograd.grad(found, x, upstream), torch.autograd.grad(expected, x, upstream), 10)
