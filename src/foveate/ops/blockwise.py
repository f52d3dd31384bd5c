"""Softmax attention a block of targets at a time: the matrix of all pairs is never held, nor computed by halves."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# targets in a block: enough rows for a fast matrix product, few enough for their weights to stay in the cache
BLOCK = 512


def blockwise_attention(
    query: Float[Tensor, "b target k"],
    key: Float[Tensor, "b source k"],
    value: Float[Tensor, "b source v"],
    scale: float = 1.0,
) -> Float[Tensor, "b target v"]:
    """Every target's mean of the values, weighted by the softmax over all sources of its query's products with keys.

    The memory grows with the positions, not with their square; the backward pass computes the weights again.

    Args:
        query: What each target looks for.
        key: What each source is found by.
        value: What each source gives.
        scale: What the products are multiplied by.

    Example:
        >>> value = torch.tensor([[[1.0], [3.0]]])
        >>> blockwise_attention(torch.zeros(1, 1, 1), torch.ones(1, 2, 1), value)
        tensor([[[2.]]])
    """
    return _Blockwise.apply(query, key, value, scale)


class _Blockwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        out = value.new_empty(query.shape[0], query.shape[1], value.shape[2])
        level = query.new_empty(query.shape[:2])  # the logarithm of the sum of exponentials, for the way back
        across = key.transpose(1, 2)
        for here in _blocks(query.shape[1]):
            weights = _logits(query[:, here], across, scale)
            largest = weights.amax(2, keepdim=True)
            weights = weights.sub_(largest).exp_()
            total = weights.sum(2, keepdim=True)
            out[:, here] = (weights @ value).div_(total)
            level[:, here] = total.log_().add_(largest).squeeze(2)
        ctx.save_for_backward(query, key, value, out, level)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (upstream,) = gradients
        query, key, value, out, level = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives, with the matrix
            mixed = torch.softmax(torch.bmm(query, key.transpose(1, 2)) * ctx.scale, 2) @ value
            return *torch.autograd.grad(mixed, (query, key, value), upstream, create_graph=True), None
        to_query = torch.empty_like(query)
        to_key, to_value = torch.zeros_like(key), torch.zeros_like(value)
        # a softmax's gradient is weights · (what reaches them - the mean of that under the weights)
        mean = (upstream * out).sum(2, keepdim=True)
        across, other = key.transpose(1, 2), value.transpose(1, 2)
        for here in _blocks(query.shape[1]):
            weights = _logits(query[:, here], across, ctx.scale).sub_(level[:, here, None]).exp_()
            reached = upstream[:, here]
            torch.baddbmm(to_value, weights.transpose(1, 2), reached, out=to_value)
            change = torch.bmm(reached, other).sub_(mean[:, here]).mul_(weights)
            to_query[:, here] = torch.bmm(change, key).mul_(ctx.scale)
            torch.baddbmm(to_key, change.transpose(1, 2), query[:, here], alpha=ctx.scale, out=to_key)
        return to_query, to_key, to_value, None


def _logits(query: Tensor, across: Tensor, scale: float) -> Tensor:
    products = torch.bmm(query, across)
    return products if scale == 1.0 else products.mul_(scale)


def _blocks(length: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK)]
