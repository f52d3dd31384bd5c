"""Attention by masks that move with their position, a block at a time: the matrix of all pairs is never held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from foveate.ops.graph import eager
from foveate.ops.matmul import full_project
from foveate.ops.mix import mix_values
from foveate.ops.precision import full_precision
from foveate.ops.relative import relative_to_absolute
from foveate.ops.softmax import full_softmax

# positions along each side of a block: their masks overlap in all but block - 1 rows and columns, so a larger block
# shares more; a smaller one computes fewer logits that nobody uses
BLOCK = 15
# below so many logits the clear form is the faster one: measured in benchmarks/speed/pairs.py
FEW = 5_000_000


@dataclass(frozen=True)
class PointwiseMasks:
    """How much every position takes from every other, by masks that are predicted at positions and centred there.

    A position's mask is ``bank @ features`` there, a logit for each cell (see
    :func:`~foveate.ops.relative.relative_to_absolute`).

    Attributes:
        features: What masks are predicted from.
        bank: One row for each cell of the mask.
        mask: Height and width of the mask, both odd.
        collect: Whether positions take by their own masks; otherwise by their places in the masks of all others.
        softmax: Whether the weights that reach a position add up to one.
        exclude: Whether positions outside a mask get no weight from the softmax; otherwise their logit is zero.

    Example:
        >>> masks = PointwiseMasks(torch.randn(1, 2, 4, 5), torch.zeros(7 * 9, 2), (7, 9), collect=True)
        >>> value = torch.randn(1, 3, 4, 5)
        >>> torch.allclose(masks.mix(value), value.mean((2, 3), keepdim=True), atol=1e-6)  # all weights are equal
        True
    """

    features: Float[Tensor, "b k h w"]
    bank: Float[Tensor, "cells k"]
    mask: tuple[int, int]
    collect: bool
    softmax: bool = True
    exclude: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the map."""
        return self.features.shape[2], self.features.shape[3]

    def mix(self, value: Float[Tensor, "b v h w"]) -> Float[Tensor, "b v h w"]:
        """Sum the values of all positions, weighted, at every position, in at least float32; in the values' type.

        Of a large map only the logits that fall on it are computed, a block of positions at a time, and again on the
        way back; the softmax of a distribution runs online.
        """
        return _mix(value, *self._operands())

    def dense(self) -> Float[Tensor, "b source target"]:
        """The weights as one matrix a sample."""
        return _dense(*self._operands())

    def _operands(self) -> tuple[Tensor, Tensor, tuple[int, int], bool, bool, bool]:
        return self.features, self.bank, self.mask, self.collect, self.softmax, self.exclude


def _mix(
    value: Tensor,
    features: Tensor,
    bank: Tensor,
    mask: tuple[int, int],
    collect: bool,
    softmax: bool,
    exclude: bool,
) -> Tensor:
    batch, _, height, width = features.shape
    reach = (2 * height - 1) * (2 * width - 1)
    if not eager(value, features, bank) or batch * reach * height * width < FEW:
        return mix_values(value, _dense(features, bank, mask, collect, softmax, exclude))
    with torch.autocast(value.device.type, enabled=False):
        whole, outside = _fit(full_precision(bank), mask, (height, width), exclude and softmax)
        mixed = _Pointwise.apply(full_precision(value), full_precision(features), whole, outside, collect, softmax)
    return mixed.to(value.dtype)


def _dense(
    features: Tensor, bank: Tensor, mask: tuple[int, int], collect: bool, softmax: bool, exclude: bool
) -> Tensor:
    logits = full_project(features, bank)
    absolute = relative_to_absolute(logits, mask, float("-inf") if exclude and softmax else 0.0)
    if not collect:  # what position i gives to j stands in i's mask: the same table with the two positions swapped
        absolute = absolute.transpose(1, 2)
    return full_softmax(absolute, 1) if softmax else absolute


torch.fx.wrap("_mix")  # FX cannot follow a branch on a size
torch.fx.wrap("_dense")


def _fit(
    bank: Tensor, mask: tuple[int, int], size: tuple[int, int], exclude: bool
) -> tuple[Float[Tensor, "rows columns k"], Tensor | None]:
    """The bank for a mask that reaches from every position to every other; what was outside has logit zero."""
    whole = bank.unflatten(0, mask)
    reach = [2 * side - 1 for side in size]
    if list(mask) == reach:
        return whole, None
    margin = [(want - have) // 2 for want, have in zip(reach, mask, strict=True)]
    edges = (margin[1], margin[1], margin[0], margin[0])
    whole = F.pad(whole, (0, 0, *edges))
    if not exclude:
        return whole, None
    # finite, so that a block whose positions are all out of reach has a maximum to subtract
    never = torch.finfo(bank.dtype).min / 2
    return whole, F.pad(torch.zeros(mask, dtype=bank.dtype, device=bank.device), edges, value=never)


class _Block(NamedTuple):
    """A block of positions, and the cells of the bank that reach the map from any of them."""

    rows: slice
    columns: slice
    bank_rows: slice
    bank_columns: slice


def _blocks(height: int, width: int) -> Iterator[_Block]:
    for top in _starts(height):
        for left in _starts(width):
            rows, columns = slice(*top), slice(*left)
            yield _Block(
                rows,
                columns,
                slice(height - rows.stop, 2 * height - 1 - rows.start),
                slice(width - columns.stop, 2 * width - 1 - columns.start),
            )


def _starts(length: int) -> Iterator[tuple[int, int]]:
    count = -(-length // BLOCK)
    for number in range(count):
        yield length * number // count, length * (number + 1) // count


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, value: Tensor, features: Tensor, bank: Tensor, outside: Tensor | None, collect: bool, softmax: bool
    ) -> Tensor:
        out, scale = (_collect if collect else _distribute)(_rows(value), features, bank, outside, softmax)
        ctx.save_for_backward(value, features, bank, outside, out, scale)
        ctx.collect = collect
        return out.transpose(1, 2).reshape(value.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        value, features, bank, outside, out, scale = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives, by the clear form
            mixed = _clear(value, features, bank, outside, ctx.collect, scale is not None)
            found = torch.autograd.grad(mixed, (value, features, bank), gradients[0], create_graph=True)
        else:
            found = _backward(_rows(value), features, bank, outside, out, scale, _rows(gradients[0]), ctx.collect)
        return *found, None, None, None


def _rows(x: Tensor) -> Float[Tensor, "b positions c"]:
    """Positions in rows."""
    return x.flatten(2).transpose(1, 2).contiguous()


def _clear(
    value: Tensor, features: Tensor, bank: Tensor, outside: Tensor | None, collect: bool, softmax: bool
) -> Tensor:
    logits = bank.flatten(0, 1) @ features.flatten(2)
    if outside is not None:
        logits = logits + outside.flatten()[:, None]
    weights = relative_to_absolute(logits.unflatten(2, features.shape[2:]), (bank.shape[0], bank.shape[1]))
    weights = weights if collect else weights.transpose(1, 2)
    return mix_values(value, torch.softmax(weights, 1) if softmax else weights)


def _logits(features: Tensor, bank: Tensor, outside: Tensor | None, block: _Block) -> Tensor:
    """The logits of a block's positions for all positions of the map: ``(b, block, h·w)``."""
    height, width = features.shape[2:]
    window = bank[block.bank_rows, block.bank_columns]
    here = _turned(features, block)
    # (b, t·u, rows·columns): one product for the block, of which each position uses its own part
    products = here.flatten(2).transpose(1, 2) @ window.flatten(0, 1).T
    if outside is not None:
        products = products + outside[block.bank_rows, block.bank_columns].flatten()
    return _parts(products, here.shape[2:], window.shape[:2], (height, width)).flatten(3).flatten(1, 2)


def _turned(x: Tensor, block: _Block) -> Tensor:
    """A block of a map, last row and column first, so that its masks' parts step forward through the window."""
    return x[:, :, block.rows, block.columns].flip(2, 3)


def _parts(products: Tensor, block: Sequence[int], window: Sequence[int], size: Sequence[int]) -> Tensor:
    """A view: ``(b, t, u, h, w)``, position (t, u) of a turned block beginning t rows and u columns into the window."""
    rows, columns = window
    batch, area = products.shape[0], rows * columns
    strides = (block[0] * block[1] * area, block[1] * area + columns, area + 1, columns, 1)
    return products.as_strided((batch, *block, *size), strides, products.storage_offset())


def _collect(
    value: Tensor, features: Tensor, bank: Tensor, outside: Tensor | None, softmax: bool
) -> tuple[Tensor, Tensor | None]:
    batch, _, height, width = features.shape
    out = value.new_empty(batch, height, width, value.shape[2])
    scale = value.new_empty(batch, height, width) if softmax else None
    for block in _blocks(height, width):
        weights = _logits(features, bank, outside, block)
        shape = (batch, *_sides(block))
        if scale is not None:
            largest = weights.amax(2, keepdim=True)
            weights = weights.sub_(largest).exp_()
            total = weights.sum(2, keepdim=True)
            mixed = (weights @ value).div_(total)
            scale[:, block.rows, block.columns] = total.log_().add_(largest).reshape(shape).flip(1, 2)
        else:
            mixed = weights @ value
        out[:, block.rows, block.columns] = mixed.reshape(*shape, -1).flip(1, 2)
    return out.flatten(1, 2), None if scale is None else scale.flatten(1)


def _distribute(
    value: Tensor, features: Tensor, bank: Tensor, outside: Tensor | None, softmax: bool
) -> tuple[Tensor, Tensor | None]:
    batch, _, height, width = features.shape
    spots = value.unflatten(1, (height, width))
    out = torch.zeros_like(value)
    largest = value.new_full((batch, height * width), float("-inf")) if softmax else None
    total = value.new_zeros(batch, height * width)
    for block in _blocks(height, width):
        weights = _logits(features, bank, outside, block)
        given = spots[:, block.rows, block.columns].flip(1, 2).flatten(1, 2)
        if largest is not None:
            higher = torch.maximum(largest, weights.amax(1))
            weights = weights.sub_(higher[:, None]).exp_()
            shrink = largest.sub_(higher).exp_()
            largest = higher
            total.mul_(shrink).add_(weights.sum(1))
            out.mul_(shrink[:, :, None])
        torch.baddbmm(out, weights.transpose(1, 2), given, out=out)
    if largest is None:
        return out, None
    return out.div_(total[:, :, None]), total.log_().add_(largest)


def _backward(
    value: Tensor,
    features: Tensor,
    bank: Tensor,
    outside: Tensor | None,
    out: Tensor,
    scale: Tensor | None,
    upstream: Tensor,
    collect: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, _, *size = features.shape
    to_value = torch.zeros_like(value)
    to_features = torch.empty_like(features)
    to_bank = torch.zeros_like(bank)
    # a softmax's gradient is weights · (what reaches them - the mean of that under the weights)
    mean = (upstream * out).sum(2) if scale is not None else None

    def own(table: Tensor, block: _Block) -> Tensor:
        """The rows of a block's positions, in the order of `_turned`."""
        return table.unflatten(1, size)[:, block.rows, block.columns].flip(1, 2).flatten(1, 2)

    for block in _blocks(*size):
        weights = _logits(features, bank, outside, block)
        if scale is not None:
            level = own(scale, block)[:, :, None] if collect else scale[:, None]
            weights = weights.sub_(level).exp_()
        if collect:
            reached = own(upstream, block)
            torch.baddbmm(to_value, weights.transpose(1, 2), reached, out=to_value)
            change = reached @ value.transpose(1, 2)
        else:
            back = (weights @ upstream).unflatten(1, _sides(block)).flip(1, 2)
            to_value.unflatten(1, size)[:, block.rows, block.columns] = back
            change = own(value, block) @ upstream.transpose(1, 2)
        if mean is not None:
            change = change.sub_(own(mean, block)[:, :, None] if collect else mean[:, None]).mul_(weights)
        here = _turned(features, block)
        window = bank[block.bank_rows, block.bank_columns]
        spread = change.new_zeros(batch, here.shape[2] * here.shape[3], window.shape[0] * window.shape[1])
        laid = _parts(spread, here.shape[2:], window.shape[:2], size)
        laid.copy_(change.unflatten(2, size).unflatten(1, here.shape[2:]))
        gradient = (spread @ window.flatten(0, 1)).transpose(1, 2).unflatten(2, here.shape[2:])
        to_features[:, :, block.rows, block.columns] = gradient.flip(2, 3)
        to_window = spread.flatten(0, 1).T @ here.flatten(2).transpose(1, 2).flatten(0, 1)
        to_bank[block.bank_rows, block.bank_columns] += to_window.unflatten(0, window.shape[:2])
    return to_value.transpose(1, 2).reshape(batch, -1, *size), to_features, to_bank


def _sides(block: _Block) -> tuple[int, int]:
    return block.rows.stop - block.rows.start, block.columns.stop - block.columns.start
