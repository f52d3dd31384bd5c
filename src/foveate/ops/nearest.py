"""Means of neighbourhoods, and weights of neighbourhoods brought to a map's size, quickly in either layout."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from foveate.ops import gpu
from foveate.ops.compiled import calls
from foveate.ops.compiled.library import Kernels, usable
from foveate.ops.graph import eager

# positions from which on a change of layout pays, there and back
MANY = 150


def neighbourhood_means(x: Float[Tensor, "b c h w"], extent: int) -> Float[Tensor, "b c s t"]:
    """The means of windows of 2·extent - 1 centred on every extent-th position; what is off the map does not count.

    Example:
        >>> neighbourhood_means(torch.tensor([[[[1.0, 3.0, 5.0]]]]), 2)
        tensor([[[[2., 4.]]]])
    """
    return _neighbourhood_means(x, extent)


def gate_nearest(x: Float[Tensor, "b c h w"], weights: Float[Tensor, "b c s t"]) -> Float[Tensor, "b c h w"]:
    """The map times the nearest of the weights, which have a resolution of their own.

    Where the map's sides are multiples of the weights', no weights of the map's size are made.

    Example:
        >>> gate_nearest(torch.ones(1, 1, 2, 2), torch.tensor([[[[2.0], [3.0]]]]))
        tensor([[[[2., 2.],
                  [3., 3.]]]])
    """
    return _gate_nearest(x, weights)


def _neighbourhood_means(x: Tensor, extent: int) -> Tensor:
    if x.ndim == 4 and x.is_contiguous() and (kernels := usable(x)):
        return _NeighbourhoodMeans.apply(x, extent, kernels)
    if eager(x) and x.shape[2] * x.shape[3] >= MANY:  # pooling runs in vectors along the channels, in this layout only
        x = x.contiguous(memory_format=torch.channels_last)
    return F.avg_pool2d(x, 2 * extent - 1, extent, padding=extent - 1, count_include_pad=False)


def _gate_nearest(x: Tensor, weights: Tensor) -> Tensor:
    if gpu.enabled() and (y := gpu.gate_nearest(x, weights)) is not None:
        return y
    (height, width), (rows, columns) = x.shape[2:], weights.shape[2:]
    if not eager(x, weights) or height % rows or width % columns or x.dtype != weights.dtype:
        return _plain(x, weights)
    if torch.is_grad_enabled() and (x.requires_grad or weights.requires_grad):
        return _GateNearest.apply(x, weights)
    return _multiply(x, weights)


def _plain(x: Tensor, weights: Tensor) -> Tensor:
    return x * F.interpolate(weights, size=(x.shape[2], x.shape[3]), mode="nearest")


def _multiply(x: Tensor, weights: Tensor, out: Tensor | None = None) -> Tensor:
    """The product, written into memory laid out as the map."""
    if out is None:
        if kernels := usable(x):
            return calls.nearest_gated(kernels, x, weights)
        out = torch.empty_like(x)
    rows, columns = weights.shape[2:]
    tall, wide = x.shape[2] // rows, x.shape[3] // columns
    if x.is_contiguous() and out.is_contiguous():
        # along a row weights are repeated first: a loop over two equal neighbours is too short for vectors
        wider = weights.unsqueeze(4).expand(*weights.shape, wide).reshape(*weights.shape[:2], rows, 1, x.shape[3])
        torch.mul(x.unflatten(2, (rows, tall)), wider, out=out.unflatten(2, (rows, tall)))
    else:
        cells, into = (part.unflatten(3, (columns, wide)).unflatten(2, (rows, tall)) for part in (x, out))
        torch.mul(cells, weights[:, :, :, None, :, None], out=into)
    return out


class _NeighbourhoodMeans(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, extent: int, kernels: Kernels) -> Tensor:
        ctx.save_for_backward(x)
        ctx.extent, ctx.kernels = extent, kernels
        return calls.neighbourhood_means(kernels, x, extent).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (upstream,) = gradients
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives: it is linear, so this is the gradient whatever x is
            zeros = torch.zeros_like(x, requires_grad=True)
            y = F.avg_pool2d(zeros, 2 * ctx.extent - 1, ctx.extent, ctx.extent - 1, count_include_pad=False)
            return torch.autograd.grad(y, zeros, upstream, create_graph=True)[0], None, None
        return calls.neighbourhood_means_back(ctx.kernels, upstream, x, ctx.extent), None, None


class _GateNearest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, weights)
        return _multiply(x, weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (upstream,) = gradients
        x, weights = ctx.saved_tensors
        if not torch.is_grad_enabled() and (kernels := usable(x, upstream)):
            of_map, of_weights = calls.nearest_gated_back(kernels, upstream, x, weights)
            return of_map, of_weights.to(weights.dtype)
        cell = (x.shape[2] // weights.shape[2], x.shape[3] // weights.shape[3])
        product = upstream * x
        # a sum over cells, by the one reduction that runs in vectors along the channels
        total = F.avg_pool2d(product.contiguous(memory_format=torch.channels_last), cell) * (cell[0] * cell[1])
        if torch.is_grad_enabled():  # second derivatives: nothing may be written over
            return _plain(upstream, weights), total
        return _multiply(upstream, weights, product), total


torch.fx.wrap("_neighbourhood_means")  # FX cannot follow a branch on a layout
torch.fx.wrap("_gate_nearest")
