"""Mixing the values of positions along weights between them."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor
from torch.amp.autocast_mode import is_autocast_available

from foveate.ops.precision import full_precision


def mix_values(
    value: Float[Tensor, "b k h w"], weights: Float[Tensor, "b source target"], normalization: float = 1.0
) -> Float[Tensor, "b k h w"]:
    """Sum the values of all positions at every position, in at least float32, under autocast too.

    Args:
        value: What is mixed.
        weights: The share of every source (middle axis) in every target (last axis), positions in rows.
        normalization: What the sums are divided by, before they are rounded to the values' type.

    Returns:
        The sums, in the values' type.

    Example:
        >>> value = torch.tensor([[[[1.0, 2.0]]]])
        >>> mix_values(value, torch.tensor([[[0.0, 0.5], [1.0, 0.5]]]))
        tensor([[[[2.0000, 1.5000]]]])
    """
    return _mix_values(value, weights, normalization)


def _mix_values(value: Tensor, weights: Tensor, normalization: float) -> Tensor:
    device = value.device.type
    with torch.autocast(device, enabled=False) if is_autocast_available(device) else nullcontext():
        weights = full_precision(weights)
        mixed = (value.flatten(2).to(weights.dtype) @ weights) / normalization
    return mixed.to(value.dtype).reshape(value.shape)


torch.fx.wrap("_mix_values")  # FX cannot follow a branch on a type
