"""Global pooling: one number a channel from all positions of a map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.ops.precision import full_precision

GlobalPool = Callable[[Tensor], Tensor]


def global_mean(x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c"]:
    """The mean over positions, however many axes they have."""
    return _mean(x)


def global_max(x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c"]:
    """The maximum over positions. Where several are equal, the first one gets the gradient."""
    return x.flatten(2).max(2).values


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
    return x.mean(tuple(range(2, x.ndim)))


def _sum(x: Tensor) -> Tensor:
    return x.sum(tuple(range(2, x.ndim)))


torch.fx.wrap("_mean")  # FX cannot count the axes of a map that it has not seen
torch.fx.wrap("_sum")

GLOBAL_POOLS: Mapping[str, GlobalPool] = MappingProxyType(
    {"avg": global_mean, "max": global_max, "lp": global_l2, "lse": global_logsumexp}
)
