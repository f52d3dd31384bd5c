"""The maximum, with where it comes first, and the mean, in one read: over positions, or over gated channels."""
# pyright: basic, reportMissingImports=false

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

from foveate.ops.gpu.launch import blocks, differentiable, flat, quotient, spans
from foveate.ops.gpu.tiles import first_of, program_of


def plain(x: Tensor, weights: Tensor | None, over_channels: bool) -> tuple[Tensor, Tensor]:
    """The same in PyTorch, an operation at a time."""
    rows = x.flatten(2)
    if weights is not None:
        rows = rows * weights[:, :, None]
    dim = 1 if over_channels else 2
    return rows.max(dim).values, rows.mean(dim)


# One axis goes, the other is kept: g and k. They are channels and positions, or the other way round.


@triton.jit
def extremes_kernel(
    x, weights, maxima, indices, sums, kept, gone, stride_b, stride_k, stride_g, tiles_k, spans_g, steps,
    gated: tl.constexpr, block_k: tl.constexpr, block_g: tl.constexpr,
):  # fmt: skip
    """The statistics of some of what is kept, over a span of what goes."""
    sample, tile_k, span = program_of(tiles_k, spans_g)
    k = tile_k * block_k + tl.arange(0, block_k)
    lane = span * steps * block_g + tl.arange(0, block_g)
    best = tl.full([block_k, block_g], float("-inf"), tl.float32)
    index = lane[None, :] + tl.zeros([block_k, block_g], tl.int32)
    total = tl.zeros([block_k, block_g], tl.float32)
    for step in range(steps):
        g = lane + step * block_g
        inside = (k < kept)[:, None] & (g < gone)[None, :]
        at = k[:, None] * stride_k + g[None, :] * stride_g
        value = tl.load(x + sample * stride_b + at, mask=inside, other=0.0).to(tl.float32)
        if gated:
            value *= tl.load(weights + sample * gone + g, mask=g < gone, other=0.0).to(tl.float32)[None, :]
        total += value
        value = tl.where(inside, value, float("-inf"))
        better = (value > best) | ((value != value) & (best == best))
        best, index = tl.where(better, value, best), tl.where(better, g[None, :], index)
    top, first = first_of(best, index)
    to = (sample * kept + k) * spans_g + span
    tl.store(maxima + to, top, mask=k < kept)
    tl.store(indices + to, first, mask=k < kept)
    tl.store(sums + to, tl.sum(total, 1), mask=k < kept)


@triton.jit
def backward_kernel(
    of_max, of_mean, index, x, weights, to_x, to_weights, kept, gone, stride_b, stride_k, stride_g,
    tiles_g, spans_k, steps, gated: tl.constexpr, block_k: tl.constexpr, block_g: tl.constexpr,
):  # fmt: skip
    """The gradient of a span of what was kept, and partial sums for that of the weights."""
    sample, tile_g, span = program_of(tiles_g, spans_k)
    g = tile_g * block_g + tl.arange(0, block_g)
    base = sample * stride_b
    total = tl.zeros([block_g], tl.float32)
    if gated:
        of_weights = tl.load(weights + sample * gone + g, mask=g < gone, other=0.0).to(tl.float32)
    for step in range(steps):
        k = (span * steps + step) * block_k + tl.arange(0, block_k)
        there, small = k < kept, sample * kept + k
        inside = there[:, None] & (g < gone)[None, :]
        at = k[:, None] * stride_k + g[None, :] * stride_g
        share = tl.load(of_mean + small, mask=there, other=0.0).to(tl.float32) / gone
        whole = tl.load(of_max + small, mask=there, other=0.0).to(tl.float32)
        first = tl.load(index + small, mask=there, other=0)
        slope = share[:, None] + tl.where(first[:, None] == g[None, :], whole[:, None], 0.0)
        if gated:
            total += tl.sum(slope * tl.load(x + base + at, mask=inside, other=0.0).to(tl.float32), 0)
            slope *= of_weights[None, :]
        tl.store(to_x + base + at, slope.to(to_x.dtype.element_ty), mask=inside)
    if gated:
        tl.store(to_weights + (sample * gone + g) * spans_k + span, total, mask=g < gone)


def _axes(x: Tensor, over_channels: bool) -> tuple[int, int, int, int, int]:
    """What is kept, what goes, and the strides of samples and of both."""
    map_ = flat(x)
    first, second, third = map_.strides
    if over_channels:
        return map_.positions, map_.channels, first, third, second
    return map_.channels, map_.positions, first, second, third


def _blocks(x: Tensor, over_channels: bool, back: bool) -> tuple[int, int]:
    """A tile's width along what is kept and what goes: wide along what lies side by side, if that is summed."""
    map_ = flat(x)
    summed = over_channels == map_.positions_first if back else over_channels != map_.positions_first
    block_c, block_p = blocks(map_, 256 if summed else 64)
    return (block_p, block_c) if over_channels else (block_c, block_p)


@triton_op("foveate::gpu_extremes", mutates_args=())
def extremes(x: Tensor, weights: Tensor | None, over_channels: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Maximum, mean, and the index of the first maximum.

    Args:
        x: The map, dense, ``(b, c, *positions)``.
        weights: ``(b, c)``, by which the channels are multiplied first; only over channels.
        over_channels: Whether channels go and ``(b, positions)`` is left, or positions, and ``(b, c)``.
    """
    kept, gone, *strides = _axes(x, over_channels)
    block_k, block_g = _blocks(x, over_channels, back=False)
    samples, tiles_k = x.shape[0], quotient(kept, block_k)
    spans_g, steps = spans(quotient(gone, block_g), samples * tiles_k)
    maxima, sums = (x.new_empty((samples, kept, spans_g), dtype=torch.float32) for _ in range(2))
    indices = x.new_empty((samples, kept, spans_g), dtype=torch.int32)
    wrap_triton(extremes_kernel)[(samples * tiles_k * spans_g,)](
        x, None if weights is None else weights.contiguous(), maxima, indices, sums, kept, gone, *strides,
        tiles_k, spans_g, steps, gated=weights is not None, block_k=block_k, block_g=block_g,
    )  # fmt: skip
    top, span = maxima.max(2, keepdim=True)  # the first span of several, as PyTorch promises
    mean = sums.sum(2) / gone
    return top.squeeze(2).to(x.dtype), mean.to(x.dtype), indices.gather(2, span).squeeze(2)


@triton_op("foveate::gpu_extremes_backward", mutates_args=())
def backward(
    of_max: Tensor, of_mean: Tensor, index: Tensor, x: Tensor, weights: Tensor | None, over_channels: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of the map and of the weights (empty where there are none); without weights the map is not read."""
    kept, gone, *strides = _axes(x, over_channels)
    block_k, block_g = _blocks(x, over_channels, back=True)
    samples, tiles_g = x.shape[0], quotient(gone, block_g)
    spans_k, steps = spans(quotient(kept, block_k), samples * tiles_g)
    to_x = torch.empty_like(x)
    to_weights = x.new_empty((0,) if weights is None else (samples, gone, spans_k), dtype=torch.float32)
    wrap_triton(backward_kernel)[(samples * tiles_g * spans_k,)](
        of_max.contiguous(), of_mean.contiguous(), index, x, None if weights is None else weights.contiguous(),
        to_x, to_weights, kept, gone, *strides, tiles_g, spans_k, steps,
        gated=weights is not None, block_k=block_k, block_g=block_g,
    )  # fmt: skip
    return to_x, to_weights if weights is None else to_weights.sum(2).to(weights.dtype)


@extremes.register_fake
def _(x, _weights, over_channels):
    shape = (x.shape[0], x.flatten(2).shape[2] if over_channels else x.shape[1])
    return x.new_empty(shape), x.new_empty(shape), x.new_empty(shape, dtype=torch.int32)


@backward.register_fake
def _(_of_max, _of_mean, _index, x, weights, _over_channels):
    nothing = x.new_empty((0,), dtype=torch.float32)
    return torch.empty_like(x), nothing if weights is None else torch.empty_like(weights)


def _remember(ctx, inputs, output) -> None:
    x, weights, ctx.over_channels = inputs
    ctx.save_for_backward(x, weights, output[2])
    ctx.mark_non_differentiable(output[2])


def _back(ctx, of_max: Tensor, of_mean: Tensor, _):
    x, weights, index = ctx.saved_tensors
    if torch.is_grad_enabled():
        inputs = (x, weights, ctx.over_channels)
        return differentiable(plain, inputs, ctx.needs_input_grad, [of_max, of_mean])
    to_x, to_weights = backward(of_max, of_mean, index, x, weights, ctx.over_channels)
    to, weighted, _ = ctx.needs_input_grad
    return to_x if to else None, to_weights if weighted else None, None


extremes.register_autograd(_back, setup_context=_remember)
