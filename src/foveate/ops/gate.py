"""Multiplying a map by weights that are smaller than it, with no memory of the map's size besides the gradient's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.ops import gpu
from foveate.ops.compiled import calls
from foveate.ops.compiled.library import usable
from foveate.ops.graph import eager
from foveate.ops.strips import column_means, is_channels_last, row_means

# numbers in a map from which on a way back of our own pays: calling it takes tens of microseconds
WORTHWHILE = 1 << 18


def gate(x: Float[Tensor, "b c *positions"], weights: Float[Tensor, "b _ *_"]) -> Float[Tensor, "b c *positions"]:
    """The map times the weights, which are broadcast over it.

    The gradient of the weights is a sum over what they were broadcast to, and PyTorch writes out what is summed. Here
    that memory becomes the gradient of the map: one allocation less, and it is in the cache already. Second
    derivatives, transforms of functions and captured graphs get the plain product.

    Args:
        x: The map.
        weights: One weight for each element of the map, or for all along an axis of length one.

    Example:
        >>> gate(torch.ones(1, 2, 1, 2), torch.tensor([[[[3.0]], [[4.0]]]]))
        tensor([[[[3., 3.]],
        <BLANKLINE>
                 [[4., 4.]]]])
    """
    return _gate(x, weights)


def _gate(x: Tensor, weights: Tensor) -> Tensor:
    if gpu.enabled() and (y := gpu.gate(x, weights)) is not None:
        return y
    if eager(x, weights):
        weights = lying_as(x, weights)
    worthwhile = x.requires_grad and weights.requires_grad and weights.numel() < x.numel() and x.dtype == weights.dtype
    if worthwhile and x.numel() >= WORTHWHILE and torch.is_grad_enabled() and eager(x, weights):
        return _Gate.apply(x, weights)
    return x * weights


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weights: Tensor) -> Tensor:
        return x * weights

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (upstream,) = gradients
        x, weights = ctx.saved_tensors
        wanted, weighted = ctx.needs_input_grad
        if torch.is_grad_enabled():  # second derivatives: nothing may be written over
            return (
                upstream * weights if wanted else None,
                (upstream * x).sum_to_size(weights.shape) if weighted else None,
            )
        of_channels, of_positions = spans(weights, x)
        if (of_channels or of_positions) and (kernels := usable(x, upstream)):
            by_channel, by_position = (weights if of_channels else None), (weights if of_positions else None)
            back = calls.gated_back(kernels, upstream, x, by_channel, by_position, of_map=wanted)
            total = back[1] if of_channels else back[2]
            return back[0], None if total is None else total.to(weights.dtype)
        product = upstream * x
        total = _sum_to(product, weights.shape) if weighted else None
        return torch.mul(upstream, weights, out=product) if wanted else None, total


def lying_as(x: Float[Tensor, "b c *positions"], weights: Float[Tensor, "b _ *_"]) -> Float[Tensor, "b _ *_"]:
    """The same weights, in memory as the map lies that they are to meet: a walk along its channels is one along theirs.

    That matters to weights of several channels and several positions: a few of them read out of order, once for every
    element of the map, cost more than the arithmetic.

    Example:
        >>> x = torch.ones(1, 2, 3, 3).to(memory_format=torch.channels_last)
        >>> lying_as(x, torch.ones(1, 2, 3, 1)).stride()
        (6, 1, 2, 2)
    """
    if weights.ndim != 4 or weights.shape[1] == 1 or weights.shape[2] * weights.shape[3] == 1:
        return weights
    return weights.contiguous(memory_format=torch.channels_last if is_channels_last(x) else torch.contiguous_format)


def spans(weights: Tensor, x: Tensor) -> tuple[bool, bool]:
    """Whether there is one weight for each channel of each sample, and whether there is one for each position."""
    samples, channels, *positions = x.shape
    return (
        weights.shape == (samples, channels, *([1] * len(positions))),
        weights.shape == (samples, 1, *positions),
    )


def _sum_to(product: Tensor, shape: Sequence[int]) -> Tensor:
    """Sums over the axes that the shape has a length of one in, where channels_last has a quicker way by that."""
    alone = [dim for dim in range(product.ndim) if shape[dim] == 1 and product.shape[dim] > 1]
    if is_channels_last(product) and alone == [3]:
        return (row_means(product) * product.shape[3])[:, :, :, None]
    if is_channels_last(product) and alone == [2]:
        return (column_means(product) * product.shape[2])[:, :, None]
    return product.sum_to_size(shape)


torch.fx.wrap("_gate")  # FX cannot follow a branch on what needs a gradient
