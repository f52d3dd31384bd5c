"""A gate of channels, then one of positions judged from what the first lets through: one map, read three times.

The three functions are called one after the other, each with the map that the one before returned. It is the same
map, handed on so that on the way back every function adds its part to one gradient, and none of them makes a map of its
own. They are for :func:`suited` maps; elsewhere the steps are taken one by one, as the mechanism says them.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.ops.compiled import calls
from foveate.ops.compiled.library import usable
from foveate.ops.graph import eager
from foveate.ops.maximum import first_argmax
from foveate.ops.pool import weighted_sum
from foveate.ops.strips import is_channels_last


def suited(x: Tensor) -> bool:
    """Whether a map is read in passes: numbers on the CPU, now, in either layout, in full precision.

    Half precision is, where the operations are compiled.
    """
    if not eager(x) or x.ndim != 4 or torch.is_autocast_enabled("cpu") or 0 in x.shape:
        return False
    if not (x.is_contiguous() or is_channels_last(x)):
        return False
    return x.dtype in (torch.float32, torch.float64) or usable(x) is not None


def pool(x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"], Float[Tensor, "b c h w"]]:
    """First pass: the maximum and the mean of every channel, and the map.

    Example:
        >>> maximum, mean, _ = pool(torch.tensor([[[[1.0, 3.0]]]]))
        >>> maximum.item(), mean.item()
        (3.0, 2.0)
    """
    return _Pool.apply(x) if _gradients(x) else (*_pool(x, where=False)[:2], x)


def extremes(
    x: Float[Tensor, "b c h w"], channel: Float[Tensor, "b c 1 1"]
) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b h w"], Float[Tensor, "b c h w"], Tensor | None]:
    """Second pass: the maximum and the mean over channels of the map times their gates, and the map.

    The last thing returned is the product, where it had to be made; for :func:`gate`, which writes over it.

    Example:
        >>> x, channel = torch.tensor([[[[1.0]], [[3.0]]]]), torch.tensor([[[[1.0]], [[0.0]]]])
        >>> maximum, mean, *_ = extremes(x, channel)
        >>> maximum.item(), mean.item()
        (1.0, 0.5)
    """
    if _gradients(x, channel):
        return _Extremes.apply(x, channel)
    most, mean, _, product = _extremes(x, channel, where=False)
    return most, mean, x, product


def gate(
    x: Float[Tensor, "b c h w"],
    channel: Float[Tensor, "b c 1 1"],
    position: Float[Tensor, "b 1 h w"],
    product: Tensor | None,
) -> Float[Tensor, "b c h w"]:
    """Third pass: the map times both gates.

    Example:
        >>> x = torch.tensor([[[[2.0]]]])
        >>> gate(x, 2 * torch.ones(1, 1, 1, 1), 3 * torch.ones(1, 1, 1, 1), None).item()
        12.0
    """
    return (_Gate.apply if _gradients(x, channel, position) else _gate)(x, channel, position, product)


def _gradients(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _positions_last(x: Tensor) -> Tensor:
    """The map as ``(b, c, positions)``, a view in either layout."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2) if is_channels_last(x) else x.flatten(2)


def _pool(x: Tensor, *, where: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    if kernels := usable(x):
        most, mean, index = calls.global_extremes(kernels, x, where=where)
        return most.to(x.dtype), mean.to(x.dtype), None if index is None else index.long().unsqueeze(2)
    flat = _positions_last(x)
    if not where:
        return flat.amax(2), x.mean((2, 3)), None
    index = first_argmax(flat, 2)
    return flat.gather(2, index).squeeze(2), x.mean((2, 3)), index


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        most, mean, index = _pool(x, where=True)
        ctx.save_for_backward(index)
        return most, mean, x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        of_most, of_mean, of_map = gradients
        (index,) = ctx.saved_tensors
        share = of_mean[:, :, None, None] / (of_map.shape[2] * of_map.shape[3])
        if torch.is_grad_enabled():  # second derivatives: nothing may be written over
            flat = (of_map + share).flatten(2)
            return flat.scatter_add(2, index, of_most.unsqueeze(2)).unflatten(2, of_map.shape[2:])
        of_map.add_(share)  # the second pass made it, and nobody else has it
        _positions_last(of_map).scatter_add_(2, index, of_most.unsqueeze(2))
        return of_map


def _extremes(x: Tensor, channel: Tensor, *, where: bool) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    if kernels := usable(x):
        most, mean, index = calls.channel_extremes(kernels, x, channel, where=where)
        return most.to(x.dtype), mean.to(x.dtype), index, None
    product = x * channel
    if not where:
        return product.amax(1), product.mean(1), None, product
    index = first_argmax(product, 1)
    return product.gather(1, index).squeeze(1), product.mean(1), index, product


class _Extremes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, channel: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        most, mean, index, product = _extremes(x, channel, where=True)
        ctx.save_for_backward(x, channel, index)
        if product is not None:
            ctx.mark_non_differentiable(product)
        return most, mean, x.view_as(x), product

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        of_most, of_mean, of_map, _ = gradients
        x, channel, index = ctx.saved_tensors
        if not torch.is_grad_enabled() and index.dtype == torch.int32 and (kernels := usable(x, of_map)):
            back = calls.channel_extremes_back(kernels, of_most, of_mean, index, x, channel, of_map)
            return of_map, back.to(channel.dtype)
        index = index.long().view(x.shape[0], 1, *x.shape[2:])
        of_most, share = of_most.unsqueeze(1), of_mean.unsqueeze(1) / x.shape[1]
        which = index.flatten(1)
        gates = channel.flatten(1).gather(1, which).view_as(index)
        total = weighted_sum(x, share).scatter_add(1, which, (of_most * x.gather(1, index)).flatten(1))
        total = total.view_as(channel).to(channel.dtype)
        if torch.is_grad_enabled():  # second derivatives: nothing may be written over
            return (of_map + share * channel).scatter_add(1, index, of_most * gates), total
        of_map.addcmul_(share, channel)  # the third pass made it, and nobody else has it
        return of_map.scatter_add_(1, index, of_most * gates), total


def _gate(x: Tensor, channel: Tensor, position: Tensor, product: Tensor | None) -> Tensor:
    if kernels := usable(x):
        return calls.gated(kernels, x, channel, position, None, False)
    return product.mul_(position) if product is not None else x * channel * position


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, channel: Tensor, position: Tensor, product: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, channel, position)
        if product is not None:
            ctx.mark_dirty(product)
        return _gate(x, channel, position, product)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (upstream,) = gradients
        x, channel, position = ctx.saved_tensors
        if not torch.is_grad_enabled() and (kernels := usable(x, upstream)):
            of_map, of_channel, of_position, _ = calls.gated_back(kernels, upstream, x, channel, position)
            assert of_map is not None and of_channel is not None and of_position is not None  # noqa: S101
            return of_map, of_channel.to(channel.dtype), of_position.to(position.dtype), None
        product = upstream * x
        of_channel = weighted_sum(product, position).view_as(channel).to(channel.dtype)
        of_position = _channel_sum(product, channel)
        if torch.is_grad_enabled():  # second derivatives: nothing may be written over
            return upstream * channel * position, of_channel, of_position, None
        return torch.mul(upstream, channel, out=product).mul_(position), of_channel, of_position, None


def _channel_sum(x: Tensor, weights: Tensor) -> Tensor:
    """The sum over channels, weighted by the same weights at all positions."""
    samples, channels, height, width = x.shape
    if is_channels_last(x):
        total = x.permute(0, 2, 3, 1).flatten(1, 2) @ weights.view(samples, channels, 1)
    else:
        total = weights.view(samples, 1, channels) @ x.flatten(2)
    return total.view(samples, 1, height, width)
