"""The end of a residual block: the branch's map times its weights, plus the shortcut, and ReLU."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.ops import gpu
from foveate.ops.compiled import calls
from foveate.ops.compiled.library import Kernels, usable
from foveate.ops.gate import gate, spans
from foveate.ops.graph import eager


def gate_add(
    x: Float[Tensor, "b c *positions"],
    weights: Float[Tensor, "b _ *_"],
    shortcut: Float[Tensor, "b c *positions"],
    *,
    channel: Float[Tensor, "b c *ones"] | None = None,
    relu: bool = True,
    over: bool = False,
) -> Float[Tensor, "b c *positions"]:
    """``relu(x · weights + shortcut)``, in one pass over the maps and ReLU in its memory where no gradient is wanted.

    With gradients the sum and ReLU are written over the product, which nothing needs again: in plain PyTorch a function
    of its own for both ways gains nothing worth having, because the backward pass has to move the same maps. Where
    operations were compiled, each way is one pass.

    Args:
        x: The map that the branch ends in.
        weights: What it is multiplied by: one weight for each element, or for all along an axis of length one.
        shortcut: What is added.
        channel: Weights of channels that it is multiplied by first.
        relu: Whether ReLU follows.
        over: Whether the map's memory may be written over, where no gradient is wanted: a second map of the size takes
            the place of others in the cache.

    Example:
        >>> x, weights = torch.ones(1, 2, 1, 2), torch.tensor([[[[3.0]], [[4.0]]]])
        >>> gate_add(x, weights, torch.tensor([[[[0.0, -9.0]], [[1.0, 2.0]]]]))
        tensor([[[[3., 0.]],
        <BLANKLINE>
                 [[5., 6.]]]])
    """
    return _gate_add(x, weights, shortcut, channel, relu, over)


def joins(x: Tensor, weights: Tensor, shortcut: Tensor) -> bool:
    """Whether the three can go through one pass: plain numbers of one type, and two maps of one shape and layout."""
    alike = x.dtype == weights.dtype == shortcut.dtype and x.shape == shortcut.shape and x.stride() == shortcut.stride()
    return alike and x.is_floating_point() and weights.ndim == x.ndim and eager(x, weights, shortcut)


def _gate_add(
    x: Tensor, weights: Tensor, shortcut: Tensor, channel: Tensor | None, relu: bool, over: bool = False
) -> Tensor:
    if gpu.enabled() and channel is None and (y := gpu.gate_add(x, weights, shortcut, relu=relu)) is not None:
        return y
    given = (x, weights, shortcut) if channel is None else (x, weights, shortcut, channel)
    wanted = torch.is_grad_enabled() and any(one.requires_grad for one in given)
    if not joins(x, weights, shortcut):
        y = gate(x if channel is None else gate(x, channel), weights) + shortcut
        return torch.relu(y) if relu else y
    if (kernels := usable(x, shortcut)) and _fits(x, weights, channel):
        if wanted:
            return _GateAdd.apply(x, weights, shortcut, channel, relu, kernels)
        return calls.gated(kernels, x, *_sides(x, weights, channel), shortcut, relu, x if over else None)
    x = x if channel is None else gate(x, channel)
    if wanted:
        y = gate(x, weights).add_(shortcut)
    else:
        y = torch.addcmul(shortcut, x, weights, out=x if over or channel is not None else None)
    return y.relu_() if relu else y


def _fits(x: Tensor, weights: Tensor, channel: Tensor | None) -> bool:
    of_channels, of_positions = spans(weights, x)
    return of_positions and spans(channel, x)[0] if channel is not None else of_channels or of_positions


def _sides(x: Tensor, weights: Tensor, channel: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Weights of channels, and of positions."""
    if channel is not None or not spans(weights, x)[0]:
        return channel, weights
    return weights, None


class _GateAdd(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weights: Tensor, shortcut: Tensor, channel: Tensor | None, relu: bool, kernels: Kernels
    ) -> Tensor:
        y = calls.gated(kernels, x, *_sides(x, weights, channel), shortcut, relu)
        ctx.save_for_backward(x, weights, channel, y if relu else None)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (upstream,) = gradients
        x, weights, channel, y = ctx.saved_tensors
        of_shortcut = ctx.needs_input_grad[2]
        kernels = None if torch.is_grad_enabled() else usable(x, upstream)
        if kernels is None:  # second derivatives, or an upstream of another layout
            through = upstream if y is None else upstream * (y > 0)
            gated = x if channel is None else x * channel
            back = through * weights
            of_channel = None if channel is None else (back * x).sum_to_size(channel.shape)
            of_weights = (through * gated).sum_to_size(weights.shape)
            return back if channel is None else back * channel, of_weights, through, of_channel, None, None
        by_channel, by_position = _sides(x, weights, channel)
        of_map, of_channels, of_positions, through = calls.gated_back(
            kernels, upstream, x, by_channel, by_position, y, of_shortcut=of_shortcut and y is not None
        )
        of_weights = of_positions if by_position is weights else of_channels
        of_channel = of_channels if channel is not None else None
        return (
            of_map,
            _typed(of_weights, weights),
            (upstream if y is None else through) if of_shortcut else None,
            _typed(of_channel, channel),
            None,
            None,
        )


def _typed(gradient: Tensor | None, like: Tensor | None) -> Tensor | None:
    return None if gradient is None or like is None else gradient.to(like.dtype)


torch.fx.wrap("_gate_add")  # FX cannot follow a branch on what needs a gradient
