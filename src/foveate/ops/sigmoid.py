"""The sigmoid of a scaled and shifted map, in one piece of memory where no gradient needs the others."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.ops.graph import eager


def scaled_sigmoid(x: Float[Tensor, "*axes"], scale: float, shift: float) -> Float[Tensor, "*axes"]:
    """``σ(scale · x + shift)``.

    Example:
        >>> scaled_sigmoid(torch.tensor([2.0]), 0.5, -1.0)
        tensor([0.5000])
    """
    return _scaled_sigmoid(x, scale, shift)


def _scaled_sigmoid(x: Tensor, scale: float, shift: float) -> Tensor:
    if not eager(x):
        return torch.sigmoid(x * scale + shift)
    logits = torch.add(torch.tensor(shift, dtype=x.dtype), x, alpha=scale)  # both in one pass
    return torch.sigmoid(logits) if torch.is_grad_enabled() else logits.sigmoid_()


torch.fx.wrap("_scaled_sigmoid")  # FX cannot follow a branch on gradients
