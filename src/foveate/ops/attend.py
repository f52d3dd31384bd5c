"""Softmax attention between positions, without the matrix of all pairs where PyTorch has a kernel for it."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.amp.autocast_mode import is_autocast_available

from foveate.ops.matmul import full_matmul
from foveate.ops.precision import full_precision


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
        # the kernels want each position's channels side by side, and as many axes as several heads have
        one, other, third = (full_precision(t).transpose(1, 2).unsqueeze(1).contiguous() for t in (query, key, value))
        mixed = F.scaled_dot_product_attention(one, other, third, scale=scale)
    return mixed.squeeze(1).transpose(1, 2).to(value.dtype)


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


torch.fx.wrap("_attend")  # FX cannot follow a branch on a type
