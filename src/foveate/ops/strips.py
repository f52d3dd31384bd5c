"""Means of rows and of columns of a map, quickly in either layout."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from foveate.ops.graph import eager


def row_means(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h"]:
    """The mean of every row.

    Example:
        >>> row_means(torch.tensor([[[[1.0, 3.0], [5.0, 5.0]]]]))
        tensor([[[2., 5.]]])
    """
    return _means(x, 3)


def column_means(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c w"]:
    """The mean of every column.

    Example:
        >>> column_means(torch.tensor([[[[1.0, 3.0], [5.0, 5.0]]]]))
        tensor([[[3., 4.]]])
    """
    return _means(x, 2)


def _means(x: Tensor, dim: int) -> Tensor:
    return _MeansAcross.apply(x, dim) if x.ndim == 4 and eager(x) else x.mean(dim)


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a position lie side by side in memory, and those of a row or column do not."""
    return x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


class _MeansAcross(torch.autograd.Function):
    """Means along rows or columns, read and given back in one walk.

    In channels_last and full precision it is pooling, which reads as the map lies, where a general reduction skips from
    channel to channel. On the way back every mean's share is laid as the map lies.
    """

    @staticmethod
    def forward(x: Tensor, dim: int) -> Tensor:
        if not is_channels_last(x) or x.dtype not in (torch.float32, torch.float64):
            return x.mean(dim)
        window = (1, x.shape[3]) if dim == 3 else (x.shape[2], 1)
        return F.avg_pool2d(x, window).squeeze(dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:  # noqa: ARG004
        x, ctx.dim = inputs
        ctx.shape, ctx.across = x.shape, is_channels_last(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        share = gradients[0] / ctx.shape[ctx.dim]
        share = share.transpose(1, 2).contiguous().transpose(1, 2) if ctx.across else share.contiguous()
        return share.unsqueeze(ctx.dim).expand(ctx.shape), None


torch.fx.wrap("_means")  # FX cannot follow a branch on a layout
