"""The maximum and the mean along an axis, with one gradient for both."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.ops import gpu
from foveate.ops.graph import eager
from foveate.ops.maximum import first_argmax, first_max


def max_and_mean(x: Float[Tensor, "*axes"], dim: int) -> tuple[Float[Tensor, "*left"], Float[Tensor, "*left"]]:
    """The maximum along an axis, and the mean; where several are the largest, the first one gets the gradient.

    Each alone would write a gradient of the map's size, mostly zeros for the maximum; here it is one.

    Args:
        x: The map.
        dim: The axis that goes.

    Example:
        >>> max_and_mean(torch.tensor([[1.0, 3.0, 5.0]]), 1)
        (tensor([5.]), tensor([3.]))
    """
    return _max_and_mean(x, dim)


def _max_and_mean(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    if gpu.enabled() and (both := gpu.max_and_mean(x, dim)) is not None:
        return both
    if eager(x) and torch.is_grad_enabled() and x.requires_grad:
        return _MaxAndMean.apply(x, dim)
    return first_max(x, dim), x.mean(dim)


class _MaxAndMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        index = first_argmax(x, dim)
        ctx.save_for_backward(x, index)
        ctx.dim = dim
        return x.gather(dim, index).squeeze(dim), x.mean(dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x, index = ctx.saved_tensors
        of_max, of_mean = (gradient.unsqueeze(ctx.dim) for gradient in gradients)
        share = (of_mean / x.shape[ctx.dim]).expand(x.shape)
        if torch.is_grad_enabled():  # second derivatives: nothing may be written over
            return share.scatter_add(ctx.dim, index, of_max), None
        return torch.empty_like(x).copy_(share).scatter_add_(ctx.dim, index, of_max), None


torch.fx.wrap("_max_and_mean")  # FX cannot follow a branch on gradients
