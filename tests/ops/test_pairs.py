"""Attention between all positions in blocks, against the forms that hold every pair."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from foveate.ops import attend as attending
from foveate.ops import blockwise, pointwise
from foveate.ops.attend import attend
from foveate.ops.blockwise import blockwise_attention
from foveate.ops.pointwise import PointwiseMasks

# double precision, a few hundred terms of size one: what is right differs by less than this
ROUNDING = 1e-12


def largest(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """The largest difference; not a number counts as infinite."""
    gaps = [float((one - other).abs().max()) for one, other in zip(found, expected, strict=True)]
    return max(gap if gap == gap else float("inf") for gap in gaps)


def explicit(value: Tensor, masks: PointwiseMasks) -> Tensor:
    """The same position by position: what the paper's sums say, without any view or block."""
    batch, _, height, width = value.shape
    tall, wide = masks.mask
    logits = torch.einsum("ck,bkhw->bchw", masks.bank, masks.features)
    outside = float("-inf") if masks.exclude and masks.softmax else 0.0
    table = value.new_full((batch, height, width, height, width), outside)  # source, target
    for row in range(height):
        for column in range(width):
            for other_row in range(height):
                for other_column in range(width):
                    i, j = other_row - row + tall // 2, other_column - column + wide // 2
                    if 0 <= i < tall and 0 <= j < wide:
                        logit = logits[:, i * wide + j, row, column]
                        if masks.collect:
                            table[:, other_row, other_column, row, column] = logit
                        else:
                            table[:, row, column, other_row, other_column] = logit
    weights = table.reshape(batch, height * width, height * width)
    weights = torch.softmax(weights, 1) if masks.softmax else weights
    return (value.flatten(2) @ weights).reshape(value.shape)


@pytest.mark.parametrize("block", [2, 3, 15])
@pytest.mark.parametrize("collect", [True, False])
@pytest.mark.parametrize(("softmax", "exclude"), [(True, False), (True, True), (False, False)])
@pytest.mark.parametrize(("size", "mask"), [((5, 4), (9, 7)), ((4, 5), (5, 3)), ((3, 4), (9, 13)), ((1, 1), (1, 1))])
def test_masks_in_blocks_are_the_masks(
    monkeypatch: pytest.MonkeyPatch,
    block: int,
    collect: bool,
    softmax: bool,
    exclude: bool,
    size: tuple[int, int],
    mask: tuple[int, int],
):
    monkeypatch.setattr(pointwise, "BLOCK", block)
    monkeypatch.setattr(pointwise, "FEW", 0)
    torch.manual_seed(0)
    tensors = [torch.randn(2, 3, *size), torch.randn(2, 4, *size), torch.randn(mask[0] * mask[1], 4)]
    value, features, bank = (tensor.double().requires_grad_() for tensor in tensors)
    masks = PointwiseMasks(features, bank, mask, collect, softmax, exclude)
    found, expected = masks.mix(value), explicit(value, masks)
    assert largest((found,), (expected,)) < ROUNDING
    upstream = torch.randn_like(found)
    wanted = (value, features, bank)
    gradients = torch.autograd.grad(expected, wanted, upstream)
    for graph in (True, False):  # the way back that has derivatives itself, and the quick one
        assert largest(torch.autograd.grad(found, wanted, upstream, create_graph=graph), gradients) < ROUNDING
    monkeypatch.setattr(pointwise, "FEW", 10**9)
    assert largest((masks.mix(value),), (expected,)) < ROUNDING  # the clear form


@pytest.mark.parametrize("collect", [True, False])
def test_masks_in_blocks_have_second_derivatives(monkeypatch: pytest.MonkeyPatch, collect: bool):
    monkeypatch.setattr(pointwise, "BLOCK", 2)
    monkeypatch.setattr(pointwise, "FEW", 0)
    torch.manual_seed(0)
    tensors = [torch.randn(1, 2, 2, 3), torch.randn(1, 2, 2, 3), torch.randn(15, 2)]
    operands = tuple(tensor.double().requires_grad_() for tensor in tensors)

    def mix(value: Tensor, features: Tensor, bank: Tensor) -> Tensor:
        return PointwiseMasks(features, bank, (3, 5), collect).mix(value)

    assert torch.autograd.gradcheck(mix, operands)
    assert torch.autograd.gradgradcheck(mix, operands)


def test_masks_in_blocks_hold_no_matrix_of_pairs():
    from foveate.measure import peak_memory

    side, channels = 40, 8
    value = torch.randn(1, channels, side, side)
    bank = torch.randn((2 * side - 1) ** 2, channels)
    masks = PointwiseMasks(value, bank, (2 * side - 1, 2 * side - 1), collect=True)
    matrix = side**4 * 4
    assert peak_memory(lambda: masks.mix(value)) < matrix / 1.5
    assert peak_memory(masks.dense) > 2 * matrix


@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("widths", [(3, 4), (4, 4)])
def test_attention_in_blocks_is_attention(monkeypatch: pytest.MonkeyPatch, scale: float, widths: tuple[int, int]):
    monkeypatch.setattr(blockwise, "BLOCK", 3)
    torch.manual_seed(0)
    query, key = (torch.randn(2, widths[0], n).double().requires_grad_() for n in (7, 5))
    value = torch.randn(2, widths[1], 5).double().requires_grad_()
    wanted = (query, key, value)
    expected = value @ torch.softmax(key.transpose(1, 2) @ query * scale, 1)
    upstream = torch.randn_like(expected)
    for few in (0, 10**9):  # in blocks, and with the matrix
        monkeypatch.setattr(attending, "FEW", few)
        found = attend(query, key, value, scale)
        assert largest((found,), (expected,)) < ROUNDING
        gradients = torch.autograd.grad(expected, wanted, upstream, retain_graph=True)
        for graph in (True, False):
            assert largest(torch.autograd.grad(found, wanted, upstream, create_graph=graph), gradients) < ROUNDING
        with torch.no_grad():
            assert largest((attend(query, key, value, scale),), (expected,)) < ROUNDING


def test_attention_in_blocks_has_second_derivatives(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blockwise, "BLOCK", 2)
    operands = tuple(torch.randn(1, 3, 2).double().requires_grad_() for _ in range(3))
    assert torch.autograd.gradcheck(blockwise_attention, operands)
    assert torch.autograd.gradgradcheck(blockwise_attention, operands)


def test_no_matrix_of_all_pairs_where_there_is_one_channel() -> None:
    """With one channel a transposed tensor counts as contiguous, and PyTorch's kernels refused its stride."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                self.elements = max(self.elements, result.numel())
            return result

    query, key, value = torch.randn(3, 1, 1, 4100)
    with torch.no_grad(), Largest() as seen:
        mixed = attend(query, key, value)
    assert seen.elements < 4100**2 / 100
    expected = torch.softmax(key.mT.double() @ query.double(), 1)
    # float32 sums of 4100 terms
    torch.testing.assert_close(mixed.double(), value.double() @ expected, rtol=1e-4, atol=1e-5)
