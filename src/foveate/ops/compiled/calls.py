"""Maps given to the compiled operations: memory for what comes out, pointers for what goes in.

A map of a sample is a matrix: channels × positions where rows of pixels follow one another in memory, positions ×
channels in channels_last. Weights, sums and gradients of weights are float32 whatever the map is.
"""

from __future__ import annotations

from typing import Any, NamedTuple, overload

import torch
from torch import Tensor

from foveate.ops.compiled.library import Kernels


class Matrix(NamedTuple):
    """How a map lies in memory: ``samples`` matrices of ``height`` rows of ``width``."""

    samples: int
    height: int
    width: int
    channels_are_rows: bool
    half: bool
    threads: int


def matrix(x: Tensor) -> Matrix:
    """The matrices that a map is in memory."""
    samples, channels = x.shape[:2]
    positions = x[0, 0].numel()
    rows = x.is_contiguous()
    height, width = (channels, positions) if rows else (positions, channels)
    return Matrix(samples, height, width, rows, x.dtype == torch.bfloat16, torch.get_num_threads())


def global_means(k: Kernels, x: Tensor) -> Tensor:
    """The means over positions, ``(b, c)``."""
    m = matrix(x)
    sums = x.new_empty(x.shape[:2], dtype=torch.float32)
    _run(k.reduce, (x, None, sums, None, None), *m[:3], m.channels_are_rows, m.half, m.threads)
    return sums.div_(x[0, 0].numel())


def global_extremes(k: Kernels, x: Tensor, *, where: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Maxima and means over positions, ``(b, c)``, and at which position the first maximum is."""
    m = matrix(x)
    return _extremes(k, x, None, x.shape[:2], x[0, 0].numel(), m.channels_are_rows, where)


def channel_extremes(k: Kernels, x: Tensor, weights: Tensor, *, where: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Maxima and means over channels of the map times weights of them, ``(b, *positions)``, and the first's channel."""
    m, weights = matrix(x), _full(weights)
    shape = (x.shape[0], *x.shape[2:])
    return _extremes(k, x, weights, shape, x.shape[1], not m.channels_are_rows, where)


def _extremes(
    k: Kernels, x: Tensor, weights: Tensor | None, shape: tuple[int, ...], count: int, along: bool, where: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    m = matrix(x)
    most, sums = x.new_empty(shape, dtype=torch.float32), x.new_empty(shape, dtype=torch.float32)
    index = x.new_empty(shape, dtype=torch.int32) if where else None
    _run(k.reduce, (x, weights, sums, most, index), *m[:3], along, m.half, m.threads)
    return most, sums.div_(count), index


def channel_sums(k: Kernels, x: Tensor, weights: Tensor) -> Tensor:
    """Sums over channels of the map times the same weights for all samples, ``(b, *positions)``."""
    return _weighted(k, x, weights.float().expand(x.shape[0], -1).contiguous(), (x.shape[0], *x.shape[2:]), False)


def weighted_sums(k: Kernels, x: Tensor, weights: Tensor) -> Tensor:
    """Sums over positions, weighted by the same weights for all channels, ``(b, c)``."""
    return _weighted(k, x, weights.float().contiguous(), tuple(x.shape[:2]), True)


def _weighted(k: Kernels, x: Tensor, weights: Tensor, shape: tuple[int, ...], over_positions: bool) -> Tensor:
    m, sums = matrix(x), x.new_empty(shape, dtype=torch.float32)
    along = m.channels_are_rows == over_positions
    _run(k.reduce, (x, weights, sums, None, None), *m[:3], along, m.half, m.threads)
    return sums


def gated(
    k: Kernels,
    x: Tensor,
    channel: Tensor | None,
    position: Tensor | None,
    shortcut: Tensor | None,
    relu: bool,
    into: Tensor | None = None,
) -> Tensor:
    """The map times weights of channels, of positions or both; plus a shortcut; rectified; written into a map."""
    m, y = matrix(x), torch.empty_like(x) if into is None else into
    rows, columns = _sides(m, _full(channel), _full(position))
    _run(k.gate, (x, rows, columns, shortcut, y), relu, *m[:3], m.half, m.threads)
    return y


def gated_back(
    k: Kernels,
    upstream: Tensor,
    x: Tensor,
    channel: Tensor | None,
    position: Tensor | None,
    output: Tensor | None = None,
    *,
    of_map: bool = True,
    of_shortcut: bool = False,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """What comes back to the map, to the weights of channels and of positions, and to the shortcut.

    Args:
        k: The compiled operations.
        upstream: The gradient of the output, laid out as the map.
        x: The map.
        channel: Weights of channels, ``(b, c)`` numbers, or ``None``.
        position: Weights of positions, or ``None``.
        output: The output, if it was rectified.
        of_map: Whether the map's gradient is wanted.
        of_shortcut: Whether the shortcut's is, where it is not the output's own.
    """
    m, dx = matrix(x), torch.empty_like(x) if of_map else None
    channel, position = _full(channel), _full(position)
    d_channel = None if channel is None else torch.empty_like(channel)
    d_position = None if position is None else torch.empty_like(position)
    d_shortcut = torch.empty_like(x) if of_shortcut else None
    rows, columns = _sides(m, channel, position)
    d_rows, d_columns = _sides(m, d_channel, d_position)
    _run(
        k.gate_back, (upstream, x, rows, columns, output, dx, d_rows, d_columns, d_shortcut), *m[:3], m.half, m.threads
    )
    return dx, d_channel, d_position, d_shortcut


def channel_extremes_back(
    k: Kernels, of_max: Tensor, of_mean: Tensor, where: Tensor, x: Tensor, weights: Tensor, into: Tensor
) -> Tensor:
    """Adds to a map's gradient what comes back of :func:`channel_extremes`; returns the gradient of the weights."""
    m, weights = matrix(x), _full(weights)
    d_weights = torch.empty_like(weights)
    share = of_mean.float().contiguous() / x.shape[1]
    _run(
        k.extremes_back,
        (_full(of_max), share, where, x, weights, into, d_weights),
        not m.channels_are_rows,
        *m[:3],
        m.half,
        m.threads,
    )
    return d_weights


def deviations_gated(k: Kernels, x: Tensor, regulariser: float) -> Tensor:
    """The map times the sigmoid of its standardised squared deviations, a quarter of them and a half."""
    m, y = matrix(x), torch.empty_like(x)
    _run(k.gate_deviations, (x, y), regulariser, m.channels_are_rows, *m[:3], m.half, m.threads)
    return y


def deviations_gated_back(k: Kernels, upstream: Tensor, x: Tensor, regulariser: float) -> Tensor:
    """The gradient of the map."""
    m, dx = matrix(x), torch.empty_like(x)
    _run(k.gate_deviations_back, (upstream, x, dx), regulariser, m.channels_are_rows, *m[:3], m.half, m.threads)
    return dx


def nearest_gated(k: Kernels, x: Tensor, weights: Tensor) -> Tensor:
    """The map times the nearest of weights whose resolution divides its own."""
    m, y, weights = matrix(x), torch.empty_like(x), _laid(weights, x)
    sides = (*x.shape, *weights.shape[2:])
    _run(k.gate_nearest, (x, weights, y), not m.channels_are_rows, *sides, m.half, m.threads)
    return y


def nearest_gated_back(k: Kernels, upstream: Tensor, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the map and of the weights."""
    m, dx, weights = matrix(x), torch.empty_like(x), _laid(weights, x)
    d_weights = torch.empty_like(weights)
    sides = (*x.shape, *weights.shape[2:])
    _run(k.gate_nearest_back, (upstream, x, weights, dx, d_weights), not m.channels_are_rows, *sides, m.half, m.threads)
    return dx, d_weights


def neighbourhood_means(k: Kernels, x: Tensor, extent: int) -> Tensor:
    """Means of windows of 2·extent - 1 around every extent-th position, where rows of pixels follow one another."""
    m, (samples, channels, height, width) = matrix(x), x.shape
    rows, columns = (height + extent - 1) // extent, (width + extent - 1) // extent
    y = x.new_empty((samples, channels, rows, columns), dtype=torch.float32)
    _run(k.neighbourhood_means, (x, y), extent, samples * channels, height, width, rows, columns, m.half, m.threads)
    return y


def neighbourhood_means_back(k: Kernels, upstream: Tensor, like: Tensor, extent: int) -> Tensor:
    """The gradient of the map that the means were of."""
    upstream = upstream.float().contiguous()
    samples, channels, height, width = like.shape
    dx = torch.empty_like(like)
    _run(
        k.neighbourhood_means_back,
        (upstream, dx),
        extent,
        samples * channels,
        height,
        width,
        *upstream.shape[2:],
        like.dtype == torch.bfloat16,
        torch.get_num_threads(),
    )
    return dx


def _sides(m: Matrix, channel: Tensor | None, position: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    return (channel, position) if m.channels_are_rows else (position, channel)


@overload
def _full(weights: Tensor) -> Tensor: ...
@overload
def _full(weights: None) -> None: ...
@overload
def _full(weights: Tensor | None) -> Tensor | None: ...
def _full(weights: Tensor | None) -> Tensor | None:
    return None if weights is None else weights.float().contiguous()


def _laid(weights: Tensor, x: Tensor) -> Tensor:
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    return weights.float().contiguous(memory_format=layout)


def _run(function: Any, tensors: tuple[Tensor | None, ...], *numbers: float) -> None:
    """Call a kernel: pointers first, then numbers. What the pointers point at lives until it returns."""
    function(*(None if tensor is None else tensor.data_ptr() for tensor in tensors), *numbers)


def squeeze_gated(
    k: Kernels,
    x: Tensor,
    first: tuple[Tensor, Tensor | None],
    second: tuple[Tensor, Tensor | None],
    blend: Tensor | None,
) -> Tensor:
    """The map times gates from its channels' means, through two layers with a ReLU between them and a sigmoid."""
    m, y = matrix(x), torch.empty_like(x)
    gates = x.new_empty(x.shape[:2])
    _run(
        k.squeeze_gate, (x, *first, *second, blend, gates, y), first[0].shape[0], m.channels_are_rows, *m[:3], m.threads
    )
    return y
