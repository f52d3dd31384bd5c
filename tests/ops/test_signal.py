"""A pointwise convolution as a matrix product: the same numbers, and a layer that is watched is called."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from foveate.ops.gate import gate, lying_as
from foveate.ops.signal import at_each


def test_at_each_is_the_convolution_and_so_are_its_gradients() -> None:
    layer = nn.Conv1d(3, 5, 1).double()
    x = torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True)
    wanted = [x, *layer.parameters()]
    y, reference = at_each(layer, x), layer(x.transpose(1, 2)).transpose(1, 2)
    # sums of three products in float64: a few units in the last place of values near one
    assert torch.allclose(y, reference, rtol=0, atol=1e-14)
    upstream = torch.randn_like(y)
    ours, theirs = (torch.autograd.grad(one, wanted, upstream) for one in (y, reference))
    assert all(torch.allclose(a, b, rtol=0, atol=1e-13) for a, b in zip(ours, theirs, strict=True))


def test_a_watched_layer_is_called() -> None:
    layer, seen = nn.Conv1d(3, 5, 1), []
    layer.register_forward_hook(lambda module, given, result: seen.append(result.shape))
    assert at_each(layer, torch.randn(2, 7, 3)).shape == (2, 7, 5)
    assert seen == [(2, 5, 7)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(2, 3, 4, 1), (2, 3, 1, 5), (2, 3, 4, 5)])
def test_weights_lie_as_their_map_whatever_they_were(layout: torch.memory_format, shape: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=layout)
    for before in (torch.contiguous_format, torch.channels_last):
        weights = torch.randn(shape).contiguous(memory_format=before)
        assert lying_as(x, weights).is_contiguous(memory_format=layout)
        assert torch.equal(gate(x, weights), x * weights)
        assert gate(x, weights).is_contiguous(memory_format=layout)
