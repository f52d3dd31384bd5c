"""How far each feature of a plane lies from the plane's mean, over its variance, and the gate that SimAM makes of it.

A program holds whole planes, so the map is read once, and once more on the way back with its gradient.
"""
# pyright: basic, reportMissingImports=false

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

from foveate.ops.gpu.launch import AXIS, TILE, differentiable, flat, laid_out_as, power, quotient, warps
from foveate.ops.gpu.tiles import program_of


def plain(x: Tensor, regulariser: float, scale: float, shift: float, gated: bool) -> Tensor:
    """The same in PyTorch, an operation at a time."""
    full = torch.promote_types(x.dtype, torch.float32)
    rows = x.flatten(2).to(full)
    squares = (rows - rows.mean(2, keepdim=True)).square()
    variance = squares.sum(2, keepdim=True) / max(1, rows.shape[2] - 1)
    squares = (squares / (variance + regulariser)).reshape(x.shape)
    return x * torch.sigmoid(squares * scale + shift).to(x.dtype) if gated else squares


@triton.jit
def distances(value, inside, positions, regulariser):
    """Distances from the mean, one over the regularised variance, and what the variance was divided by."""
    distance = tl.where(inside, value - (tl.sum(value, 1) / positions)[:, None], 0.0)
    freedom = tl.maximum(positions - 1, 1)
    return distance, 1 / (tl.sum(distance * distance, 1) / freedom + regulariser), freedom


@triton.jit
def standardise_kernel(
    x, y, channels, positions, stride_b, stride_c, stride_p, tiles_c, regulariser, scale, shift,
    gated: tl.constexpr, block_c: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """Some planes, whole."""
    sample, tile_c, _ = program_of(tiles_c, 1)
    c, p = tile_c * block_c + tl.arange(0, block_c), tl.arange(0, block_p)
    inside = (c < channels)[:, None] & (p < positions)[None, :]
    at = c[:, None] * stride_c + p[None, :] * stride_p
    value = tl.load(x + sample * stride_b + at, mask=inside, other=0.0).to(tl.float32)
    distance, factor, _ = distances(value, inside, positions, regulariser)
    result = distance * distance * factor[:, None]
    if gated:
        result = value * tl.sigmoid(result * scale + shift)
    tl.store(y + sample * stride_b + at, result.to(y.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(
    upstream, x, to_x, channels, positions, stride_b, stride_c, stride_p, tiles_c, regulariser, scale, shift,
    gated: tl.constexpr, block_c: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """The gradient of some planes, whole."""
    sample, tile_c, _ = program_of(tiles_c, 1)
    c, p = tile_c * block_c + tl.arange(0, block_c), tl.arange(0, block_p)
    inside = (c < channels)[:, None] & (p < positions)[None, :]
    at = c[:, None] * stride_c + p[None, :] * stride_p
    value = tl.load(x + sample * stride_b + at, mask=inside, other=0.0).to(tl.float32)
    slope = tl.load(upstream + sample * stride_b + at, mask=inside, other=0.0).to(tl.float32)
    distance, factor, freedom = distances(value, inside, positions, regulariser)
    direct = tl.zeros([block_c, block_p], tl.float32)
    if gated:
        weights = tl.sigmoid(distance * distance * factor[:, None] * scale + shift)
        direct = slope * weights
        slope = direct * value * (1 - weights) * scale
    first = slope * distance  # through the square, half of it
    # through the variance: all squares of the channel shrink together; and the mean moves with every position
    shrink = tl.sum(first * distance, 1) * factor * factor / freedom
    first = (first - (tl.sum(first, 1) / positions)[:, None]) * factor[:, None]
    result = 2 * (first - distance * shrink[:, None]) + direct
    tl.store(to_x + sample * stride_b + at, result.to(to_x.dtype.element_ty), mask=inside)


def fits(x: Tensor) -> bool:
    """Whether a program can hold planes: in channels_last, enough of them to read a sector of memory at once."""
    map_ = flat(x)
    beside = 1 if map_.positions_first else min(8, power(map_.channels))
    return power(map_.positions) * beside <= AXIS


def _grid(x: Tensor) -> tuple[tuple[int, ...], tuple[int, ...], int, int]:
    """The grid, sizes and strides, and a tile: whole planes, some at once where they are small or interleaved."""
    map_ = flat(x)
    block_p = power(map_.positions)
    beside = max(1, TILE // block_p) if map_.positions_first else max(1, min(32, AXIS // block_p))
    block_c = min(power(map_.channels), beside)
    tiles_c = quotient(map_.channels, block_c)
    return (map_.samples * tiles_c,), (map_.channels, map_.positions, *map_.strides, tiles_c), block_c, block_p


@triton_op("foveate::gpu_standardise", mutates_args=())
def standardise(x: Tensor, regulariser: float, scale: float, shift: float, gated: bool) -> Tensor:
    """Standardised squares ``s`` in float32, or gated ``x · σ(scale · s + shift)`` in the map's type.

    Args:
        x: The map, dense, ``(b, c, *positions)``, which :func:`fits`.
        regulariser: What is added to the variance.
        scale: Of the gate's logits.
        shift: Of the gate's logits.
        gated: Whether the map is multiplied by the gate.
    """
    grid, sizes, block_c, block_p = _grid(x)
    y = torch.empty_like(x, dtype=x.dtype if gated else torch.float32)
    wrap_triton(standardise_kernel)[grid](
        x, y, *sizes, regulariser, scale, shift,
        gated=gated, block_c=block_c, block_p=block_p, num_warps=warps(block_c * block_p),
    )  # fmt: skip
    return y


@triton_op("foveate::gpu_standardise_backward", mutates_args=())
def backward(upstream: Tensor, x: Tensor, regulariser: float, scale: float, shift: float, gated: bool) -> Tensor:
    """The gradient of the map."""
    grid, sizes, block_c, block_p = _grid(x)
    to_x = torch.empty_like(x)
    wrap_triton(backward_kernel)[grid](
        laid_out_as(upstream, x), x, to_x, *sizes, regulariser, scale, shift,
        gated=gated, block_c=block_c, block_p=block_p, num_warps=warps(block_c * block_p),
    )  # fmt: skip
    return to_x


@standardise.register_fake
def _(x, _regulariser, _scale, _shift, gated):
    return torch.empty_like(x, dtype=x.dtype if gated else torch.float32)


@backward.register_fake
def _(_upstream, x, *_):
    return torch.empty_like(x)


def _remember(ctx, inputs, output) -> None:  # noqa: ARG001
    x, *ctx.numbers = inputs
    ctx.save_for_backward(x)


def _back(ctx, upstream: Tensor):
    (x,) = ctx.saved_tensors
    if torch.is_grad_enabled():
        return differentiable(plain, (x, *ctx.numbers), ctx.needs_input_grad, [upstream])
    return backward(upstream, x, *ctx.numbers), None, None, None, None


standardise.register_autograd(_back, setup_context=_remember)
