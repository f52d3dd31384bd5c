"""The maximum whose gradient goes to the first of several equal ones, against PyTorch's own loop."""

from __future__ import annotations

import pytest
import torch

from foveate.ops.extremes import max_and_mean
from foveate.ops.maximum import first_max

# lengths with and without a block that divides them, in both layouts: each way of finding an index is taken
SHAPES = [(2, 256, 3, 5), (2, 7, 16, 16), (1, 300, 2, 2), (3, 5, 1, 1), (2, 4, 23, 13)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_first_of_equal_ones_gets_the_gradient(shape: tuple[int, ...], layout: torch.memory_format):
    torch.manual_seed(0)
    few = torch.randn(shape).mul(4).round().double().contiguous(memory_format=layout)  # ties, and rare maxima
    for dim, view in ((1, lambda x: x), (2, lambda x: x.flatten(2)), (3, lambda x: x)):
        x = few.clone().requires_grad_()
        y = first_max(view(x), dim if view(x).ndim == 4 or dim < 3 else 2)
        upstream = torch.randn_like(y)
        (found,) = torch.autograd.grad(y, x, upstream)
        again = few.clone().requires_grad_()
        values = view(again).max(dim).values
        (expected,) = torch.autograd.grad(values, again, upstream)
        assert torch.equal(y, values)
        assert torch.equal(found, expected)


def test_not_a_number_is_not_lost():
    x = torch.zeros(1, 256, 2, 2)
    x[0, 70, 1, 0] = float("nan")
    for layout in (torch.contiguous_format, torch.channels_last):
        y = x.contiguous(memory_format=layout)
        for gradients in (False, True):
            found = first_max(y.clone().requires_grad_(gradients), 1)
            assert found.isnan().tolist() == [[[False, False], [True, False]]]


def test_derivatives_of_any_order_and_kind():
    x = torch.randn(2, 64, 2, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: first_max(t, 1), (x,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda t: first_max(t, 1).square(), (x,))
    each = torch.func.vmap(torch.func.grad(lambda t: first_max(t, 0).sum()))(x.detach())
    (expected,) = torch.autograd.grad(x.max(1).values.sum(), x)
    assert torch.equal(each, expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_maximum_and_mean_share_a_gradient(dim: int, layout: torch.memory_format):
    torch.manual_seed(0)
    x = torch.randn(2, 6, 5, 4).mul(2).round().double().contiguous(memory_format=layout).requires_grad_()
    found, expected = max_and_mean(x, dim), (x.max(dim).values, x.mean(dim))
    assert torch.equal(found[0], expected[0])
    assert torch.allclose(found[1], expected[1], rtol=1e-14)
    upstream = tuple(torch.randn_like(part) for part in expected)
    (other,) = torch.autograd.grad(expected, x, upstream)
    for graph in (True, False):  # the way back that has derivatives itself, and the quick one
        (gradient,) = torch.autograd.grad(found, x, upstream, create_graph=graph)
        assert torch.allclose(gradient, other, rtol=1e-14, atol=1e-15)
    apart = torch.randn(1, 3, 2, 2, dtype=torch.double, requires_grad=True)  # no ties, where it is not smooth
    assert torch.autograd.gradcheck(lambda t: max_and_mean(t, dim), (apart,))
    assert torch.autograd.gradgradcheck(lambda t: max_and_mean(t, dim), (apart,))
