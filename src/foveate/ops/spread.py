"""How far features lie from their mean, in at least float32; zero where there is only one of them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.ops import gpu
from foveate.ops.graph import eager
from foveate.ops.precision import full_precision


def squared_deviations(
    x: Float[Tensor, "b c *positions"],
) -> tuple[Float[Tensor, "b c *positions"], Float[Tensor, "b c *ones"]]:
    """Each position's squared distance from its channel's mean, and their sum over one less than the positions.

    A map of one position has no such variance; its only distance is zero, and so is what is returned.

    Example:
        >>> squares, variance = squared_deviations(torch.tensor([[[[1.0, 3.0]]]]))
        >>> squares.flatten().tolist(), variance.item()
        ([1.0, 1.0], 2.0)
    """
    return _squared_deviations(x)


def standardised_squares(x: Float[Tensor, "b c *positions"], regulariser: float) -> Float[Tensor, "b c *positions"]:
    """Each position's squared distance from its channel's mean, over the channel's variance plus a number.

    The variance divides by one less than the positions; a map of one position has none, and its distance is zero. On
    the CPU the gradient is one formula that holds the map, and nothing else of its size, from the forward pass.

    Args:
        x: The map.
        regulariser: What is added to the variance.

    Example:
        >>> standardised_squares(torch.tensor([[[[1.0, 3.0]]]]), 2.0)
        tensor([[[[0.2500, 0.2500]]]])
    """
    return _standardised_squares(x, regulariser)


def standard_deviation(x: Float[Tensor, "*axes"], dims: tuple[int, ...]) -> Float[Tensor, "*left"]:
    """The root of the unbiased variance over some axes. Where it is zero, so is its gradient.

    Example:
        >>> standard_deviation(torch.tensor([[1.0, 3.0], [5.0, 5.0]]), (1,))
        tensor([1.4142, 0.0000])
        >>> standard_deviation(torch.ones(2, 1), (1,))
        tensor([0., 0.])
    """
    return _standard_deviation(x, dims)


def _squared_deviations(x: Tensor) -> tuple[Tensor, Tensor]:
    x = full_precision(x)
    positions = tuple(range(2, x.ndim))
    squares = (x - x.mean(positions, keepdim=True)).square()
    return squares, squares.sum(positions, keepdim=True) / _freedom(x, positions)


def _standardised_squares(x: Tensor, regulariser: float) -> Tensor:
    if gpu.enabled() and (squares := gpu.standardised_squares(x, regulariser)) is not None:
        return squares
    full = full_precision(x)
    if eager(full):
        return _StandardisedSquares.apply(full, regulariser)
    squares, variance = _squared_deviations(full)
    return squares / (variance + regulariser)


class _StandardisedSquares(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, regulariser: float) -> Tensor:
        positions = tuple(range(2, x.ndim))
        mean = x.mean(positions, keepdim=True)
        squares = (x - mean).square_()
        scale = 1 / (squares.sum(positions, keepdim=True) / _freedom(x, positions) + regulariser)
        ctx.save_for_backward(x, mean, scale)
        ctx.regulariser = regulariser
        return squares.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (upstream,) = gradients
        x, mean, scale = ctx.saved_tensors
        positions = tuple(range(2, x.ndim))
        if torch.is_grad_enabled():  # second derivatives, by the clear form
            squares, variance = _squared_deviations(x)
            y = squares / (variance + ctx.regulariser)
            return torch.autograd.grad(y, x, upstream, create_graph=True)[0], None
        distances = x - mean
        first = upstream * distances  # through the square, half of it
        # through the variance: all squares of the channel shrink together
        shrink = (first * distances).sum(positions, keepdim=True) * scale.square() / _freedom(x, positions)
        first.sub_(first.mean(positions, keepdim=True)).mul_(2 * scale)  # the mean moves with every position
        return first.addcmul_(distances, shrink, value=-2), None


def _standard_deviation(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    x = full_precision(x)
    squares = (x - x.mean(dims, keepdim=True)).square().sum(dims)
    # sqrt has an infinite slope at zero; the inner `where` keeps that branch out of the backward pass
    zero = squares == 0
    root = torch.where(zero, torch.ones_like(squares), squares / _freedom(x, dims)).sqrt()
    return torch.where(zero, torch.zeros_like(root), root)


def _freedom(x: Tensor, dims: tuple[int, ...]) -> Any:
    """One less than the values along some axes, and at least one; a symbol while a graph is captured."""
    count = 1
    for dim in dims:
        count = count * x.shape[dim]
    return torch.sym_max(count - 1, 1)


torch.fx.wrap("_squared_deviations")  # FX cannot count the axes of a map that it has not seen
torch.fx.wrap("_standardised_squares")
torch.fx.wrap("_standard_deviation")
