"""A map gated by how far each feature lies from its channel's mean, as one operation where it was compiled."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.ops.compiled import calls
from foveate.ops.compiled.library import Kernels, usable
from foveate.ops.spread import standardised_squares


def gate_deviations(x: Float[Tensor, "b c h w"], regulariser: float) -> Float[Tensor, "b c h w"] | None:
    """The map times ``σ(squares / 4 + 1/2)``, squares of deviations standardised as there.

    Args:
        x: The map.
        regulariser: What is added to the variance.

    Returns:
        ``None`` where there is no such operation: it was not compiled, or the map is small.

    Example:
        >>> gate_deviations(torch.ones(1, 1, 1, 1), 1.0) is None
        True
    """
    kernels = usable(x)
    return None if kernels is None else _GateDeviations.apply(x, regulariser, kernels)


class _GateDeviations(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, regulariser: float, kernels: Kernels) -> Tensor:
        ctx.save_for_backward(x)
        ctx.regulariser, ctx.kernels = regulariser, kernels
        return calls.deviations_gated(kernels, x, regulariser)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (upstream,) = gradients
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled() or not usable(x, upstream):  # second derivatives, or another layout
            with torch.enable_grad():
                y = x * torch.sigmoid(standardised_squares(x, ctx.regulariser) / 4 + 0.5).to(x.dtype)
            again = torch.is_grad_enabled()
            return torch.autograd.grad(y, x, upstream, create_graph=again)[0], None, None
        return calls.deviations_gated_back(ctx.kernels, upstream, x, ctx.regulariser), None, None
