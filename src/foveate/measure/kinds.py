"""What an operation is to a machine: kinds that take different times for the same bytes and products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

_BATCHED = ("bmm", "baddbmm", "_scaled_dot_product")
_SUMS = ("mean", "sum", "var", "std", "linalg_vector_norm", "norm", "prod", "logsumexp")
_EXTREMES = ("amax", "amin", "any", "all")
_WHERE = ("max", "min", "argmax", "argmin", "topk", "sort", "cumsum")
_FUNCTIONS = ("sigmoid", "exp", "expm1", "tanh", "log", "log1p", "gelu", "silu", "softplus", "erf", "pow", "sin", "cos")
_COPIES = ("clone", "copy", "_to_copy", "cat", "stack", "index", "index_select", "gather", "repeat")
_WINDOWS = ("avg_pool", "max_pool", "upsample", "adaptive", "_adaptive", "im2col", "col2im", "grid_sampler", "pad",
            "reflection_pad", "constant_pad")  # fmt: skip
NARROW = 4  # channels that a convolution may have and be narrow
SHORT = 64  # values: four vectors of the widest instructions, of which PyTorch takes extremes at once


def kind_of(packet: Any, args: Sequence[Any], given: Sequence[Tensor], made: Sequence[Tensor]) -> str:
    """The kind of an operation.

    Args:
        packet: The operation, without its overload.
        args: What it was given, in order.
        given: The tensors among that.
        made: The tensors that it returned.
    """
    name = packet.__name__.rstrip("_")
    if packet is torch.ops.aten.convolution:
        return _convolution(args[0], args[1], args[8])
    if packet in flop_registry:
        return "batched matrix product" if name.startswith(_BATCHED) else "matrix product"
    if name in _WHERE:
        return "extreme with its place"
    if "batch_norm" in name or "group_norm" in name or "layer_norm" in name:
        return "norm"
    if name in (*_SUMS, *_EXTREMES):
        along = "within" if _within(args, given[0]) else "across"
        if name in _EXTREMES and along == "across" and given[0].numel() < SHORT * runs_of(args, given, made):
            return "extreme across short runs"
        return f"sum {along}" if name in _SUMS else f"extreme {along}"
    if "softmax" in name:
        return "softmax within" if args[1] % args[0].ndim == args[0].ndim - 1 else "softmax across"
    if name in _FUNCTIONS:
        return "function"
    if name in ("flip", "roll"):
        return "rearranged copy"
    if name in _COPIES:
        return "copy" if _straight(given[:1], made) else "rearranged copy"
    if name.startswith(_WINDOWS):
        return "window"
    return "elementwise"


def runs_of(args: Sequence[Any], given: Sequence[Tensor], made: Sequence[Tensor]) -> int:
    """How many stretches of memory an operation goes through, where it goes through its largest tensor in order.

    Axes are taken together from the last, as long as every tensor lies behind them without a step.
    """
    everything = [*given, *made]
    if not everything:
        return 0
    largest = max(everything, key=Tensor.numel)
    if largest.numel() == 0:
        return 0
    reduced = _axes(args, largest) if largest.numel() > max((one.numel() for one in made), default=0) else set[int]()
    order = sorted(range(largest.ndim), key=lambda axis: (-largest.stride(axis), axis))
    strides = [
        [0 if axis in reduced else stride for axis, stride in enumerate(largest.stride())],
        *(_broadcast(one, largest) for one in everything),
    ]
    run, inner = 1, None
    for axis in reversed(order):
        size = largest.shape[axis]
        if size == 1:
            continue
        if inner is not None and any(row[axis] != row[inner] * largest.shape[inner] for row in strides):
            break
        run, inner = run * size, axis
    return largest.numel() // run


def _broadcast(tensor: Tensor, largest: Tensor) -> list[int]:
    """Its strides, seen as having the largest tensor's shape; those of the largest where it cannot be seen so."""
    missing = largest.ndim - tensor.ndim
    if missing < 0:
        return list(largest.stride())
    shape = (1,) * missing + tuple(tensor.shape)
    if any(one not in (1, other) for one, other in zip(shape, largest.shape, strict=True)):
        return list(largest.stride())
    strides = (0,) * missing + tensor.stride()
    return [0 if size == 1 else stride for size, stride in zip(shape, strides, strict=True)]


def _convolution(x: Tensor, weight: Tensor, groups: int) -> str:
    if weight.ndim == 3 and max(weight.shape[:2]) <= NARROW:  # of one sample PyTorch has another form
        return "signal's convolution" if len(x) == 1 else "signals' convolution"
    if groups > 1:
        return "depthwise convolution"
    if max(weight.shape[:2]) <= NARROW:
        return "narrow convolution"
    return "pointwise convolution" if math.prod(weight.shape[2:]) == 1 else "convolution"


def _axes(args: Sequence[Any], x: Tensor) -> set[int]:
    """The axes that a reduction takes away: its second argument, or all of them."""
    axes = args[1] if len(args) > 1 else None
    if isinstance(axes, int) and not isinstance(axes, bool):
        axes = [axes]
    if not isinstance(axes, list | tuple) or not all(isinstance(axis, int) for axis in axes) or not axes:
        return set(range(x.ndim))
    return {axis % x.ndim for axis in axes} if x.ndim else set()


def _within(args: Sequence[Any], x: Tensor) -> bool:
    """Whether a reduction runs along memory: the closest neighbours are summed up."""
    closest = min((axis for axis in range(x.ndim) if x.shape[axis] > 1), key=lambda axis: x.stride(axis), default=0)
    return closest in _axes(args, x)


def _straight(given: Sequence[Tensor], made: Sequence[Tensor]) -> bool:
    """Whether what is copied lies in the same order as its copy."""
    return all(_order(one) == _order(other) for one, other in zip(given, made, strict=False) if one.ndim == other.ndim)


def _order(tensor: Tensor) -> list[int]:
    axes = [axis for axis in range(tensor.ndim) if tensor.shape[axis] > 1 and tensor.stride(axis) > 0]
    return sorted(axes, key=lambda axis: -tensor.stride(axis))
