"""The end of a residual block: the branch's map times its weights, plus the shortcut, and ReLU."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.ops.gate import gate
from foveate.ops.graph import eager


def gate_add(
    x: Float[Tensor, "b c *positions"],
    weights: Float[Tensor, "b _ *_"],
    shortcut: Float[Tensor, "b c *positions"],
    *,
    relu: bool = True,
) -> Float[Tensor, "b c *positions"]:
    """``relu(x · weights + shortcut)``, in one pass over the maps and ReLU in its memory where no gradient is wanted.

    With gradients the sum and ReLU are written over the product, which nothing needs again. A function of its own for
    both ways was measured: in plain PyTorch it gains nothing over that, because the backward pass has to move the same
    maps.

    Args:
        x: The map that the branch ends in.
        weights: What it is multiplied by: one weight for each element, or for all along an axis of length one.
        shortcut: What is added.
        relu: Whether ReLU follows.

    Example:
        >>> x, weights = torch.ones(1, 2, 1, 2), torch.tensor([[[[3.0]], [[4.0]]]])
        >>> gate_add(x, weights, torch.tensor([[[[0.0, -9.0]], [[1.0, 2.0]]]]))
        tensor([[[[3., 0.]],
        <BLANKLINE>
                 [[5., 6.]]]])
    """
    return _gate_add(x, weights, shortcut, relu)


def joins(x: Tensor, weights: Tensor, shortcut: Tensor) -> bool:
    """Whether the three can go through one pass: plain numbers of one type, and two maps of one shape and layout."""
    alike = x.dtype == weights.dtype == shortcut.dtype and x.shape == shortcut.shape and x.stride() == shortcut.stride()
    return alike and x.is_floating_point() and weights.ndim == x.ndim and eager(x, weights, shortcut)


def _gate_add(x: Tensor, weights: Tensor, shortcut: Tensor, relu: bool) -> Tensor:
    wanted = torch.is_grad_enabled() and (x.requires_grad or weights.requires_grad or shortcut.requires_grad)
    if not joins(x, weights, shortcut):
        y = gate(x, weights) + shortcut
        return torch.relu(y) if relu else y
    y = gate(x, weights).add_(shortcut) if wanted else torch.addcmul(shortcut, x, weights)
    return y.relu_() if relu else y


torch.fx.wrap("_gate_add")  # FX cannot follow a branch on what needs a gradient
