"""A map times the nearest of coarser weights, in one pass, and both gradients in one pass back."""
# pyright: basic, reportMissingImports=false

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

from foveate.ops.gpu.launch import blocks, dense, differentiable, flat, laid_out_as, quotient
from foveate.ops.gpu.tiles import program_of

# a side from which on rounding may move a cell's border by more than one position
LONG = 2048


def plain(x: Tensor, weights: Tensor) -> Tensor:
    """The same in PyTorch, with weights of the map's size."""
    return x * F.interpolate(weights, size=tuple(x.shape[2:]), mode="nearest")


@triton.jit
def nearest(index, ratio, cells):
    """The cell of a row or column, by PyTorch's rule and rounding."""
    return tl.minimum((index.to(tl.float32) * ratio).to(tl.int32), cells - 1)


@triton.jit
def apply_kernel(
    x, weights, y, channels, height, width, rows, columns, tall, wide, stride_b, stride_c, stride_p,
    weights_b, weights_c, weights_p, tiles_c, tiles_p, block_c: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """One tile of the product."""
    sample, tile_c, tile_p = program_of(tiles_c, tiles_p)
    c, p = tile_c * block_c + tl.arange(0, block_c), tile_p * block_p + tl.arange(0, block_p)
    inside = (c < channels)[:, None] & (p < height * width)[None, :]
    at = c[:, None] * stride_c + p[None, :] * stride_p
    cell = nearest(p // width, tall, rows) * columns + nearest(p % width, wide, columns)
    of_cell = c[:, None] * weights_c + cell[None, :] * weights_p
    value = tl.load(x + sample * stride_b + at, mask=inside).to(tl.float32)
    value *= tl.load(weights + sample * weights_b + of_cell, mask=inside).to(tl.float32)
    tl.store(y + sample * stride_b + at, value.to(y.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(
    upstream, x, weights, to_x, to_weights, channels, height, width, rows, columns, tall, wide,
    stride_b, stride_c, stride_p, weights_b, weights_c, weights_p, tiles_c, tiles_p, reach_h, reach_w,
    block_c: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """Some cells: a lane walks through the positions that its cell may have, and takes those that it has."""
    sample, tile_c, tile_p = program_of(tiles_c, tiles_p)
    c, cell = tile_c * block_c + tl.arange(0, block_c), tile_p * block_p + tl.arange(0, block_p)
    inside = (c < channels)[:, None] & (cell < rows * columns)[None, :]
    row, column = cell // columns, cell % columns
    of_cell = c[:, None] * weights_c + cell[None, :] * weights_p
    weight = tl.load(weights + sample * weights_b + of_cell, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros([block_c, block_p], tl.float32)
    for step in range(reach_h * reach_w):
        h, w = row * height // rows + step // reach_w, column * width // columns + step % reach_w
        own = (nearest(h, tall, rows) == row) & (nearest(w, wide, columns) == column) & (h < height) & (w < width)
        at = c[:, None] * stride_c + (h * width + w)[None, :] * stride_p
        here = inside & own[None, :]
        slope = tl.load(upstream + sample * stride_b + at, mask=here, other=0.0).to(tl.float32)
        total += slope * tl.load(x + sample * stride_b + at, mask=here, other=0.0).to(tl.float32)
        tl.store(to_x + sample * stride_b + at, (slope * weight).to(to_x.dtype.element_ty), mask=here)
    tl.store(to_weights + sample * weights_b + of_cell, total.to(to_weights.dtype.element_ty), mask=inside)


def fits(x: Tensor, weights: Tensor) -> bool:
    """Whether the weights are coarser than the map along both sides, and no side too long."""
    same = x.ndim == weights.ndim == 4 and x.shape[:2] == weights.shape[:2] and dense(weights)
    return same and all(few <= many < LONG for few, many in zip(weights.shape[2:], x.shape[2:], strict=True))


def _sizes(x: Tensor, weights: Tensor) -> tuple[int | float, ...]:
    (height, width), (rows, columns) = x.shape[2:], weights.shape[2:]
    return x.shape[1], height, width, rows, columns, rows / height, columns / width


@triton_op("foveate::gpu_gate_nearest", mutates_args=())
def apply(x: Tensor, weights: Tensor) -> Tensor:
    """The product.

    Args:
        x: The map, dense, ``(b, c, h, w)``.
        weights: ``(b, c, s, t)``, dense, which :func:`fits`.
    """
    y, map_ = torch.empty_like(x), flat(x)
    block_c, block_p = blocks(map_)
    tiles_c, tiles_p = quotient(map_.channels, block_c), quotient(map_.positions, block_p)
    wrap_triton(apply_kernel)[(map_.samples * tiles_c * tiles_p,)](
        x, weights, y, *_sizes(x, weights), *map_.strides, *flat(weights).strides, tiles_c, tiles_p,
        block_c=block_c, block_p=block_p,
    )  # fmt: skip
    return y


@triton_op("foveate::gpu_gate_nearest_backward", mutates_args=())
def backward(upstream: Tensor, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the map and of the weights."""
    map_ = flat(x)
    to_x, to_weights = torch.empty_like(x), torch.empty_like(weights)
    block_c, block_p = blocks(flat(weights))
    tiles_c, tiles_p = quotient(map_.channels, block_c), quotient(weights[0, 0].numel(), block_p)
    reach_h, reach_w = (quotient(many, few) + 2 for many, few in zip(x.shape[2:], weights.shape[2:], strict=True))
    wrap_triton(backward_kernel)[(map_.samples * tiles_c * tiles_p,)](
        laid_out_as(upstream, x), x, weights, to_x, to_weights, *_sizes(x, weights), *map_.strides,
        *flat(weights).strides, tiles_c, tiles_p, reach_h, reach_w, block_c=block_c, block_p=block_p,
    )  # fmt: skip
    return to_x, to_weights


@apply.register_fake
def _(x, _weights):
    return torch.empty_like(x)


@backward.register_fake
def _(_upstream, x, weights):
    return torch.empty_like(x), torch.empty_like(weights)


def _remember(ctx, inputs, output) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs)


def _back(ctx, upstream: Tensor):
    x, weights = ctx.saved_tensors
    if torch.is_grad_enabled():
        return differentiable(plain, (x, weights), ctx.needs_input_grad, [upstream])
    found = backward(upstream, x, weights)
    return tuple(part if want else None for part, want in zip(found, ctx.needs_input_grad, strict=True))


apply.register_autograd(_back, setup_context=_remember)
