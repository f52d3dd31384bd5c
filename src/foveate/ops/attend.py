"""Softmax attention between positions, without the matrix of all pairs where PyTorch has a kernel for it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.amp.autocast_mode import is_autocast_available

from foveate.ops.blockwise import blockwise_attention
from foveate.ops.graph import eager
from foveate.ops.matmul import full_matmul
from foveate.ops.precision import full_precision

# up to so many pairs of positions (64 MB of them) their whole matrix is the quickest
FEW = 16_000_000


def attend(
    query: Float[Tensor, "b k target"],
    key: Float[Tensor, "b k source"],
    value: Float[Tensor, "b v source"],
    scale: float = 1.0,
) -> Float[Tensor, "b v target"]:
    """Every target's mean of the values, weighted by the softmax over all sources of its query's products with keys.

    In at least float32, under autocast too; the result is rounded to the values' type.

    Args:
        query: What each target looks for.
        key: What each source is found by.
        value: What each source gives.
        scale: What the products are multiplied by.

    Example:
        >>> value = torch.tensor([[[1.0, 3.0]]])
        >>> attend(torch.zeros(1, 1, 1), torch.ones(1, 1, 2), value)
        tensor([[[2.]]])
    """
    return _attend(query, key, value, scale)


def _attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    device = value.device.type
    with torch.autocast(device, enabled=False) if is_autocast_available(device) else nullcontext():
        one, other, third = (full_precision(t).transpose(1, 2) for t in (query, key, value))
        mixed = _on_cpu(one, other, third, scale) if eager(one, other, third) else _fused(one, other, third, scale)
    return mixed.transpose(1, 2).to(value.dtype)


def _on_cpu(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """The quickest of three forms, by what was measured in `benchmarks/speed/pairs.py`."""
    pairs = query.shape[0] * query.shape[1] * key.shape[1]
    if pairs < FEW:
        return torch.softmax(torch.bmm(query, key.transpose(1, 2)) * scale, 2) @ value
    graph = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
    if not graph and query.shape[2] == value.shape[2]:
        return _fused(query, key, value, scale)  # it needs no matrix of pairs where these widths are equal
    return blockwise_attention(query, key, value, scale)


def _fused(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    # the kernels want each position's channels side by side, and as many axes as several heads have
    one, other, third = (_side_by_side(t.unsqueeze(1)) for t in (query, key, value))
    return F.scaled_dot_product_attention(one, other, third, scale=scale).squeeze(1)


def _side_by_side(x: Tensor) -> Tensor:
    # a last axis of one may keep any stride when it is made contiguous, and the kernels then fall back on all pairs
    return x.contiguous() if x.shape[-1] > 1 else x.clone(memory_format=torch.contiguous_format)


def attend_weights(
    query: Float[Tensor, "b k target"], key: Float[Tensor, "b k source"], scale: float = 1.0
) -> Float[Tensor, "b source target"]:
    """The weights that :func:`attend` gives: for looking at, not for computing with.

    Example:
        >>> attend_weights(torch.zeros(1, 1, 1), torch.ones(1, 1, 2))
        tensor([[[0.5000],
                 [0.5000]]])
    """
    return torch.softmax(full_matmul(key.transpose(1, 2), query) * scale, 1)


@dataclass(frozen=True)
class AttendedPairs:
    """How much every position takes from every other: the softmax over all sources of a query's products with keys.

    Attributes:
        query: What each target looks for.
        key: What each source is found by.
        size: Height and width of the map.
        scale: What products are multiplied by.

    Example:
        >>> pairs = AttendedPairs(torch.zeros(1, 1, 2), torch.ones(1, 1, 2), (1, 2), 1.0)
        >>> pairs.mix(torch.tensor([[[[1.0, 3.0]]]]))
        tensor([[[[2., 2.]]]])
    """

    query: Float[Tensor, "b k target"]
    key: Float[Tensor, "b k source"]
    size: tuple[int, int]
    scale: float

    def mix(self, value: Float[Tensor, "b v h w"]) -> Float[Tensor, "b v h w"]:
        """Sum the values of all positions, weighted, at every position, in at least float32."""
        return attend(self.query, self.key, value.flatten(2), self.scale).reshape(value.shape)

    def dense(self) -> Float[Tensor, "b source target"]:
        """The weights as one matrix a sample."""
        return attend_weights(self.query, self.key, self.scale)


torch.fx.wrap("_attend")  # FX cannot follow a branch on a type
