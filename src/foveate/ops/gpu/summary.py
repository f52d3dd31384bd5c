"""Global context: the sum of all positions, weighted by a softmax of a projection to one channel, in one read.

A program holds all channels of some positions, so that it knows their logits; the softmax goes along with it.
"""
# pyright: basic, reportMissingImports=false

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

from foveate.ops.gpu.launch import AXIS, TILE, Flat, differentiable, flat, power, quotient, spans, warps
from foveate.ops.gpu.tiles import program_of


def plain(x: Tensor, weight: Tensor) -> Tensor:
    """The same in PyTorch, an operation at a time."""
    full = torch.promote_types(x.dtype, torch.float32)
    rows = x.flatten(2).to(full)
    share = torch.softmax((rows * weight.to(full)[:, None]).sum(1, keepdim=True), 2)
    return (rows * share).sum(2)


@triton.jit
def context_kernel(
    x, weight, tops, totals, sums, channels, positions, stride_b, stride_c, stride_p, spans_p, steps,
    block_c: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """A span of positions: their largest logit, and relative to it the sums of exponentials and of features."""
    sample, _, span = program_of(1, spans_p)
    c = tl.arange(0, block_c)
    of_channel = tl.load(weight + c, mask=c < channels, other=0.0).to(tl.float32)
    top, total = tl.full([1], float("-inf"), tl.float32), tl.zeros([1], tl.float32)
    features = tl.zeros([block_c], tl.float32)
    for step in range(steps):
        p = (span * steps + step) * block_p + tl.arange(0, block_p)
        inside = (c < channels)[:, None] & (p < positions)[None, :]
        at = c[:, None] * stride_c + p[None, :] * stride_p
        value = tl.load(x + sample * stride_b + at, mask=inside, other=0.0).to(tl.float32)
        logits = tl.where(p < positions, tl.sum(value * of_channel[:, None], 0), float("-inf"))
        higher = tl.maximum(top, tl.max(logits, 0))
        origin = tl.where(higher == float("-inf"), 0.0, higher)  # all of them may be
        share, before = tl.exp(logits - origin), tl.exp(top - origin)
        total = total * before + tl.sum(share, 0)
        features = features * before + tl.sum(value * share[None, :], 1)
        top = higher
    to = sample * spans_p + span + tl.arange(0, 1)
    tl.store(tops + to, top)
    tl.store(totals + to, total)
    tl.store(sums + (sample * spans_p + span) * channels + c, features, mask=c < channels)


@triton.jit
def backward_kernel(
    upstream, inner, logsum, x, weight, to_x, to_weight, channels, positions, stride_b, stride_c, stride_p,
    spans_p, steps, block_c: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """A span of positions: their gradient, and partial sums for that of the projection."""
    sample, _, span = program_of(1, spans_p)
    c = tl.arange(0, block_c)
    of_channel = tl.load(weight + c, mask=c < channels, other=0.0).to(tl.float32)
    slope = tl.load(upstream + sample * channels + c, mask=c < channels, other=0.0).to(tl.float32)
    mean, origin = tl.load(inner + sample), tl.load(logsum + sample)
    total = tl.zeros([block_c], tl.float32)
    for step in range(steps):
        p = (span * steps + step) * block_p + tl.arange(0, block_p)
        inside = (c < channels)[:, None] & (p < positions)[None, :]
        at = c[:, None] * stride_c + p[None, :] * stride_p
        value = tl.load(x + sample * stride_b + at, mask=inside, other=0.0).to(tl.float32)
        share = tl.where(p < positions, tl.exp(tl.sum(value * of_channel[:, None], 0) - origin), 0.0)
        to_logits = share * (tl.sum(value * slope[:, None], 0) - mean)
        total += tl.sum(value * to_logits[None, :], 1)
        result = slope[:, None] * share[None, :] + of_channel[:, None] * to_logits[None, :]
        tl.store(to_x + sample * stride_b + at, result.to(to_x.dtype.element_ty), mask=inside)
    tl.store(to_weight + (sample * spans_p + span) * channels + c, total, mask=c < channels)


def fits(x: Tensor) -> bool:
    """Whether a program can hold all channels of enough positions to read a sector of memory at once."""
    map_ = flat(x)
    beside = min(8, power(map_.positions)) if map_.positions_first else 1
    return power(map_.channels) * beside <= AXIS


def _tile(map_: Flat) -> tuple[int, int, int, int]:
    """All channels of some positions, how many programs share a sample, and how many tiles each takes."""
    block_c = power(map_.channels)
    block_p = min(power(map_.positions), max(8 if map_.positions_first else 1, TILE // block_c))
    spans_p, steps = spans(quotient(map_.positions, block_p), map_.samples)
    return block_c, block_p, spans_p, steps


@triton_op("foveate::gpu_context", mutates_args=())
def context(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted sum in float32, and the logarithm of the sum of exponentials.

    Args:
        x: The map, dense, ``(b, c, *positions)``, which :func:`fits`.
        weight: The projection, ``(c,)``. A bias would change nothing: the softmax takes it away.
    """
    map_ = flat(x)
    block_c, block_p, spans_p, steps = _tile(map_)
    tops, totals = (x.new_empty((map_.samples, spans_p), dtype=torch.float32) for _ in range(2))
    sums = x.new_empty((map_.samples, spans_p, map_.channels), dtype=torch.float32)
    wrap_triton(context_kernel)[(map_.samples * spans_p,)](
        x, weight.contiguous(), tops, totals, sums, map_.channels, map_.positions, *map_.strides, spans_p, steps,
        block_c=block_c, block_p=block_p, num_warps=warps(block_c * block_p),
    )  # fmt: skip
    top = tops.amax(1, keepdim=True)
    share = torch.exp(tops - top)
    total = (totals * share).sum(1, keepdim=True)
    return (sums * share[:, :, None]).sum(1) / total, (top + total.log()).squeeze(1)


@triton_op("foveate::gpu_context_backward", mutates_args=())
def backward(upstream: Tensor, inner: Tensor, logsum: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the map and the projection; ``inner`` is the product of the result and its gradient."""
    map_ = flat(x)
    block_c, block_p, spans_p, steps = _tile(map_)
    to_x = torch.empty_like(x)
    to_weight = x.new_empty((map_.samples, spans_p, map_.channels), dtype=torch.float32)
    wrap_triton(backward_kernel)[(map_.samples * spans_p,)](
        upstream.contiguous(), inner, logsum, x, weight.contiguous(), to_x, to_weight,
        map_.channels, map_.positions, *map_.strides, spans_p, steps,
        block_c=block_c, block_p=block_p, num_warps=warps(block_c * block_p),
    )  # fmt: skip
    return to_x, to_weight.sum((0, 1)).to(weight.dtype)


@context.register_fake
def _(x, _):
    return x.new_empty(x.shape[:2], dtype=torch.float32), x.new_empty(x.shape[:1], dtype=torch.float32)


@backward.register_fake
def _(_upstream, _inner, _logsum, x, weight):
    return torch.empty_like(x), torch.empty_like(weight)


def _remember(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs, *output)
    ctx.mark_non_differentiable(output[1])


def _back(ctx, upstream: Tensor, _):
    x, weight, result, logsum = ctx.saved_tensors
    if torch.is_grad_enabled():
        return differentiable(plain, (x, weight), ctx.needs_input_grad, [upstream])
    found = backward(upstream, (upstream * result).sum(1), logsum, x, weight)
    return tuple(part if want else None for part, want in zip(found, ctx.needs_input_grad, strict=True))


context.register_autograd(_back, setup_context=_remember)
