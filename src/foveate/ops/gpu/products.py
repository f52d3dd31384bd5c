"""A map times weights of channels, of positions, or both, with a shortcut and a ReLU: one pass, and one back."""
# pyright: basic, reportMissingImports=false

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

from foveate.ops.gpu.launch import blocks, differentiable, flat, laid_out_as, quotient, spans
from foveate.ops.gpu.tiles import program_of


def plain(x: Tensor, channel: Tensor | None, position: Tensor | None, shortcut: Tensor | None, relu: bool) -> Tensor:
    """The same in PyTorch, an operation at a time."""
    y = x
    if channel is not None:
        y = y * channel.reshape(*channel.shape, *[1] * (x.ndim - 2))
    if position is not None:
        y = y * position.reshape(x.shape[0], 1, *x.shape[2:])
    if shortcut is not None:
        y = y + shortcut
    return torch.relu(y) if relu else y


@triton.jit
def apply_kernel(
    x, channel, position, shortcut, y, channels, positions, stride_b, stride_c, stride_p, tiles_c, tiles_p,
    by_channel: tl.constexpr, by_position: tl.constexpr, add: tl.constexpr, relu: tl.constexpr,
    block_c: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """One tile of the product."""
    sample, tile_c, tile_p = program_of(tiles_c, tiles_p)
    c, p = tile_c * block_c + tl.arange(0, block_c), tile_p * block_p + tl.arange(0, block_p)
    inside = (c < channels)[:, None] & (p < positions)[None, :]
    base, at = sample * stride_b, c[:, None] * stride_c + p[None, :] * stride_p
    value = tl.load(x + base + at, mask=inside).to(tl.float32)
    if by_channel:
        value *= tl.load(channel + sample * channels + c, mask=c < channels).to(tl.float32)[:, None]
    if by_position:
        value *= tl.load(position + sample * positions + p, mask=p < positions).to(tl.float32)[None, :]
    if add:
        value += tl.load(shortcut + base + at, mask=inside).to(tl.float32)
    if relu:
        value = tl.where(value <= 0, 0.0, value)  # this way round, what is not a number stays so
    tl.store(y + base + at, value.to(y.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(
    upstream, y, x, channel, position, to_x, to_shortcut, to_channel, to_position, channels, positions,
    stride_b, stride_c, stride_p, tiles_c, spans_p, steps,
    by_channel: tl.constexpr, by_position: tl.constexpr, add: tl.constexpr, relu: tl.constexpr,
    block_c: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """Some channels of some tiles of positions: gradients of the maps, and partial sums for those of the weights."""
    sample, tile_c, span = program_of(tiles_c, spans_p)
    c = tile_c * block_c + tl.arange(0, block_c)
    base = sample * stride_b
    total = tl.zeros([block_c], tl.float32)
    if by_channel:
        of_channel = tl.load(channel + sample * channels + c, mask=c < channels, other=0.0).to(tl.float32)
    for step in range(steps):
        p = (span * steps + step) * block_p + tl.arange(0, block_p)
        inside = (c < channels)[:, None] & (p < positions)[None, :]
        at = c[:, None] * stride_c + p[None, :] * stride_p
        slope = tl.load(upstream + base + at, mask=inside, other=0.0).to(tl.float32)
        if relu:
            slope = tl.where(tl.load(y + base + at, mask=inside, other=0.0).to(tl.float32) <= 0, 0.0, slope)
            if add:
                tl.store(to_shortcut + base + at, slope.to(to_shortcut.dtype.element_ty), mask=inside)
        product = slope * tl.load(x + base + at, mask=inside, other=0.0).to(tl.float32)
        if by_position:
            of_position = tl.load(position + sample * positions + p, mask=p < positions, other=0.0).to(tl.float32)
            partial = tl.sum(product * of_channel[:, None] if by_channel else product, 0)
            tl.store(to_position + (sample * tiles_c + tile_c) * positions + p, partial, mask=p < positions)
            slope *= of_position[None, :]
            product *= of_position[None, :]
        if by_channel:
            total += tl.sum(product, 1)
            slope *= of_channel[:, None]
        tl.store(to_x + base + at, slope.to(to_x.dtype.element_ty), mask=inside)
    if by_channel:
        tl.store(to_channel + (sample * channels + c) * spans_p + span, total, mask=c < channels)


@triton_op("foveate::gpu_gate", mutates_args=())
def apply(x: Tensor, channel: Tensor | None, position: Tensor | None, shortcut: Tensor | None, relu: bool) -> Tensor:
    """``relu(x · channel · position + shortcut)``, without the parts that are None.

    Args:
        x: The map, dense, ``(b, c, *positions)``.
        channel: ``(b, c)``.
        position: ``(b, positions)``, their axes in a row.
        shortcut: As the map.
        relu: Whether negative values become zero.
    """
    y, map_ = torch.empty_like(x), flat(x)
    block_c, block_p = blocks(map_)
    tiles_c, tiles_p = quotient(map_.channels, block_c), quotient(map_.positions, block_p)
    wrap_triton(apply_kernel)[(map_.samples * tiles_c * tiles_p,)](
        x, None if channel is None else channel.contiguous(), None if position is None else position.contiguous(),
        None if shortcut is None else laid_out_as(shortcut, x), y,
        map_.channels, map_.positions, *map_.strides, tiles_c, tiles_p,
        by_channel=channel is not None, by_position=position is not None, add=shortcut is not None, relu=relu,
        block_c=block_c, block_p=block_p,
    )  # fmt: skip
    return y


@triton_op("foveate::gpu_gate_backward", mutates_args=())
def backward(
    upstream: Tensor, y: Tensor | None, x: Tensor, channel: Tensor | None, position: Tensor | None, add: bool
) -> list[Tensor]:
    """Gradients of the map, the shortcut (behind a ReLU), the channels and the positions; empty where there is none.

    ``y`` is given where there was a ReLU. The sums for the weights have a second stage, a sum of few numbers in a
    fixed order: results are the same in every run.
    """
    upstream, map_ = laid_out_as(upstream, x), flat(x)
    block_c, block_p = blocks(map_, 256 if position is None else 64)
    tiles_c = quotient(map_.channels, block_c)
    spans_p, steps = spans(quotient(map_.positions, block_p), map_.samples * tiles_c)
    none = (0,)
    to_x = torch.empty_like(x)
    to_shortcut = torch.empty_like(x) if add and y is not None else x.new_empty(none)
    shape_c = none if channel is None else (map_.samples, map_.channels, spans_p)
    shape_p = none if position is None else (map_.samples, tiles_c, map_.positions)
    to_channel, to_position = (x.new_empty(shape, dtype=torch.float32) for shape in (shape_c, shape_p))
    wrap_triton(backward_kernel)[(map_.samples * tiles_c * spans_p,)](
        upstream, y, x, None if channel is None else channel.contiguous(),
        None if position is None else position.contiguous(), to_x, to_shortcut, to_channel, to_position,
        map_.channels, map_.positions, *map_.strides, tiles_c, spans_p, steps,
        by_channel=channel is not None, by_position=position is not None, add=add, relu=y is not None,
        block_c=block_c, block_p=block_p,
    )  # fmt: skip
    return [
        to_x,
        to_shortcut,
        to_channel if channel is None else to_channel.sum(2).to(channel.dtype),
        to_position if position is None else to_position.sum(1).to(position.dtype),
    ]


@apply.register_fake
def _(x, *_):
    return torch.empty_like(x)


@backward.register_fake
def _(_upstream, y, x, channel, position, add):
    def like(weights: Tensor | None) -> Tensor:
        return x.new_empty((0,), dtype=torch.float32) if weights is None else torch.empty_like(weights)

    return [torch.empty_like(x), torch.empty_like(x) if add and y is not None else x.new_empty((0,)),
            like(channel), like(position)]  # fmt: skip


def _remember(ctx, inputs, output) -> None:
    x, channel, position, shortcut, relu = inputs
    ctx.added = shortcut is not None
    ctx.save_for_backward(x, channel, position, output if relu else None)


def _back(ctx, upstream: Tensor):
    x, channel, position, y = ctx.saved_tensors
    if torch.is_grad_enabled():  # whether a value was above zero has no derivative, and y says it
        through = upstream if y is None else torch.where(y <= 0, 0.0, upstream)
        wanted = ctx.needs_input_grad[:3]
        inputs = (x, channel, position, None, False)
        found = differentiable(plain, inputs, (*wanted, False, False), [through])[:3]
        return *found, through if ctx.added else None, None
    to_x, to_shortcut, to_channel, to_position = backward(upstream, y, x, channel, position, ctx.added)
    found = (to_x, to_channel, to_position, upstream if y is None else to_shortcut, None)
    return tuple(part if want else None for part, want in zip(found, ctx.needs_input_grad, strict=True))


apply.register_autograd(_back, setup_context=_remember)
