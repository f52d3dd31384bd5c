"""Global pooling: one number a channel from all positions of a map."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from foveate.ops.compiled import calls
from foveate.ops.compiled.library import Kernels, usable
from foveate.ops.graph import eager
from foveate.ops.matmul import full_matmul
from foveate.ops.maximum import first_max
from foveate.ops.precision import full_precision
from foveate.ops.strips import is_channels_last

GlobalPool = Callable[[Tensor], Tensor]
# numbers from which on compiled weighted sums are quicker than matrix products
MANY = 1 << 17
# and compiled means, in float32
LARGE = 1 << 20


def global_mean(x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c"]:
    """The mean over positions, however many axes they have."""
    return _mean(x)


def weighted_sum(x: Float[Tensor, "b c h w"], weights: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b c"]:
    """The sum over positions, weighted by the same weights for all channels, in at least float32.

    Example:
        >>> weighted_sum(torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[0.5, 2.0]]]]))
        tensor([[6.5000]])
    """
    return _weighted_sum(x, weights)


def project_channels(
    x: Float[Tensor, "b c h w"], weight: Float[Tensor, "1 c 1 1"], bias: Float[Tensor, 1] | None = None
) -> Float[Tensor, "b 1 h w"]:
    """A 1×1 convolution to one channel, as the product with a vector that it is.

    Example:
        >>> project_channels(torch.ones(1, 3, 1, 1), torch.full((1, 3, 1, 1), 2.0)).item()
        6.0
    """
    return _project_channels(x, weight, bias)


def global_max(x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c"]:
    """The maximum over positions. Where several are equal, the first one gets the gradient."""
    return first_max(x.flatten(2), 2)


def global_l2(x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c"]:
    """The root of the sum of squares over positions. Its gradient where all are zero is zero."""
    squares = _sum(full_precision(x).square())
    # sqrt has an infinite slope at zero; the inner `where` keeps that branch out of the backward pass
    zero = squares == 0
    root = torch.where(zero, torch.ones_like(squares), squares).sqrt()
    return torch.where(zero, torch.zeros_like(root), root).to(x.dtype)


def global_logsumexp(x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c"]:
    """The logarithm of the sum of exponentials over positions: a maximum with soft edges."""
    return torch.logsumexp(full_precision(x).flatten(2), 2).to(x.dtype)


def _mean(x: Tensor) -> Tensor:
    positions = tuple(range(2, x.ndim))
    graded = torch.is_grad_enabled() and x.requires_grad
    # PyTorch's own sum along rows of float32 is as quick as memory
    if x.ndim > 2 and (x.dtype == torch.bfloat16 or (is_channels_last(x) and x.numel() >= LARGE)) and (k := usable(x)):
        return _Means.apply(x, k) if graded else calls.global_means(k, x).to(x.dtype)
    if graded and eager(x):
        # the gradient of a mean is written out at the map's size; that of a sum is one number a channel, repeated
        full = torch.promote_types(x.dtype, torch.float32)
        return (x.sum(positions, dtype=full) / math.prod(x.shape[2:])).to(x.dtype)
    return x.mean(positions)


class _Means(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Kernels) -> Tensor:
        ctx.shape = x.shape
        return calls.global_means(kernels, x).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        samples, channels, *positions = ctx.shape
        share = gradients[0] / math.prod(positions)
        return share.view(samples, channels, *([1] * len(positions))).expand(ctx.shape), None


def _sum(x: Tensor) -> Tensor:
    return x.sum(tuple(range(2, x.ndim)))


def _weighted_sum(x: Tensor, weights: Tensor) -> Tensor:
    without = not (torch.is_grad_enabled() and (x.requires_grad or weights.requires_grad))
    if without and weights.dtype == x.dtype and (kernels := usable(x, at_least=MANY)):
        return calls.weighted_sums(kernels, x, weights)
    if eager(x, weights) and is_channels_last(x):
        return full_matmul(weights.flatten(2), x.permute(0, 2, 3, 1).flatten(1, 2)).squeeze(1)
    return full_matmul(x.flatten(2), weights.flatten(2).transpose(1, 2)).squeeze(2)


def _project_channels(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not eager(x, weight) or torch.is_autocast_enabled(x.device.type):
        return F.conv2d(x, weight, bias)
    without = not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
    if without and weight.dtype == x.dtype and (kernels := usable(x, at_least=MANY)):
        logits = calls.channel_sums(kernels, x, weight.flatten()).to(x.dtype).unsqueeze(1)
        return logits if bias is None else logits + bias
    if is_channels_last(x):
        logits = (x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]) @ weight.flatten()).view(x.shape[0], 1, *x.shape[2:])
    else:
        logits = (weight.flatten(1).expand(x.shape[0], 1, -1) @ x.flatten(2)).unflatten(2, x.shape[2:])
    return logits if bias is None else logits + bias


torch.fx.wrap("_weighted_sum")  # FX cannot follow a branch on a layout
torch.fx.wrap("_project_channels")
torch.fx.wrap("_mean")  # FX cannot count the axes of a map that it has not seen
torch.fx.wrap("_sum")

GLOBAL_POOLS: Mapping[str, GlobalPool] = MappingProxyType(
    {"avg": global_mean, "max": global_max, "lp": global_l2, "lse": global_logsumexp}
)
