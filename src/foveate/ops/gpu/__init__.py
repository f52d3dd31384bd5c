"""Triton kernels for the operations that mechanisms share: one family a file, each beside its plain form.

Importing this imports no triton; its kernels are loaded where one is first used. Each function here has the signature
of an operation of :mod:`foveate.ops` and returns None where the plain form is to be used, see :func:`usable`.

The kernels are checked by Triton's interpreter and by its compiler, and have run on no GPU yet: until somebody has
measured them they are used where :func:`enable` was called, and nowhere else.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from foveate.ops.gpu.launch import dense
from foveate.ops.graph import eager

DEVICE = "cuda"
TYPES = (torch.float32, torch.bfloat16, torch.float16)

_enabled = False


def enable(on: bool = True) -> None:
    """Use the kernels where they can be used, or no longer.

    Example:
        >>> enable()
        >>> usable(torch.zeros(1, 1, 2, 2))  # on the CPU
        False
        >>> enable(False)
    """
    global _enabled
    _enabled = on


def enabled() -> bool:
    """Whether :func:`enable` was called: operations ask this first, because it costs nothing."""
    return _enabled


def usable(x: Tensor, *others: Tensor) -> bool:
    """Whether kernels can take a map, and what goes with it.

    They take plain tensors on one NVIDIA GPU (Ampere or later) while numbers are computed at once, in float32, bfloat16
    or float16; the map is dense, in either layout, not empty, and a sample has fewer than 2³¹ elements.

    Example:
        >>> usable(torch.zeros(1, 1, 2, 2))
        False
    """
    if not _enabled or x.device.type != DEVICE or not eager():
        return False
    alike = all(type(one) in (Tensor, torch.nn.Parameter) and one.device == x.device for one in (x, *others))
    known = all(one.dtype in TYPES for one in (x, *others))
    return alike and known and dense(x) and 0 < x.numel() < 2**31 * x.shape[0] and _capable(x.device)


def gate(x: Tensor, weights: Tensor) -> Tensor | None:
    """:func:`foveate.ops.gate.gate`, for weights of channels or of positions.

    Second derivatives are those of the plain form, here and below.
    """
    return _apply(x, *_by(x, weights), None, False) if x.dtype == weights.dtype else None


def gates(x: Tensor, channel: Tensor, position: Tensor) -> Tensor | None:
    """The map times ``(b, c, 1, 1)`` and ``(b, 1, h, w)`` in one pass."""
    of_channel, of_position = _by(x, channel)[0], _by(x, position)[1]
    if x.dtype != channel.dtype or x.dtype != position.dtype or of_channel is None or of_position is None:
        return None
    return _apply(x, of_channel, of_position, None, False)


def gate_add(x: Tensor, weights: Tensor, shortcut: Tensor, *, relu: bool = True) -> Tensor | None:
    """``relu(x · weights + shortcut)``, for weights of channels or of positions and a shortcut like the map."""
    if not x.dtype == weights.dtype == shortcut.dtype or x.shape != shortcut.shape:
        return None
    return _apply(x, *_by(x, weights), shortcut, relu)


def max_and_mean(x: Tensor, dim: int, weights: Tensor | None = None) -> tuple[Tensor, Tensor] | None:
    """:func:`foveate.ops.extremes.max_and_mean` over channels, which ``(b, c, 1, 1)`` weights may multiply first."""
    if dim != 1 or not usable(x, *(() if weights is None else (weights,))):
        return None
    of_channel = None if weights is None else _by(x, weights)[0]
    if weights is not None and (of_channel is None or x.dtype != weights.dtype):
        return None
    from foveate.ops.gpu.statistics import extremes

    with _on(x):
        top, mean, _ = extremes(x, of_channel, True)
    return top.reshape(x.shape[0], *x.shape[2:]), mean.reshape(x.shape[0], *x.shape[2:])


def global_max_and_mean(x: Tensor) -> tuple[Tensor, Tensor] | None:
    """Maximum and mean over all positions, ``(b, c)`` both, in one read."""
    if not usable(x):
        return None
    from foveate.ops.gpu.statistics import extremes

    with _on(x):
        top, mean, _ = extremes(x, None, False)
    return top, mean


def standardised_squares(x: Tensor, regulariser: float) -> Tensor | None:
    """:func:`foveate.ops.spread.standardised_squares`, in float32, for maps that one program can hold planes of."""
    return _standardise(x, regulariser, 1.0, 0.0, gated=False)


def standardised_gate(x: Tensor, regulariser: float, scale: float, shift: float) -> Tensor | None:
    """``x · σ(scale · s + shift)``, ``s`` the standardised squares: all of SimAM in one read and one write."""
    return _standardise(x, regulariser, scale, shift, gated=True)


def gate_nearest(x: Tensor, weights: Tensor) -> Tensor | None:
    """:func:`foveate.ops.nearest.gate_nearest`, for weights of any coarser size, with PyTorch's rounding."""
    if x.dtype != weights.dtype or not usable(x, weights):
        return None
    from foveate.ops.gpu.cells import apply, fits

    if not fits(x, weights):
        return None
    with _on(x):
        return apply(x, weights)


def global_context(x: Tensor, weight: Tensor) -> Tensor | None:
    """The sum over positions weighted by the softmax of a projection ``(1, c, 1, 1)``: ``(b, c)`` in float32."""
    if not usable(x, weight):
        return None
    from foveate.ops.gpu.summary import context, fits

    if not fits(x):
        return None
    with _on(x):
        return context(x, weight.flatten())[0]


def _by(x: Tensor, weights: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The weights as ``(b, c)`` if they vary over channels, as ``(b, positions)`` if over positions."""
    if weights.ndim != x.ndim or weights.shape[0] not in (1, x.shape[0]):
        return None, None
    if weights.shape[1] == x.shape[1] and all(side == 1 for side in weights.shape[2:]):
        return weights.expand(x.shape[0], *weights.shape[1:]).flatten(1), None
    if weights.shape[1] == 1 and weights.shape[2:] == x.shape[2:]:
        return None, weights.expand(x.shape[0], *weights.shape[1:]).flatten(1)
    return None, None


def _apply(
    x: Tensor, channel: Tensor | None, position: Tensor | None, shortcut: Tensor | None, relu: bool
) -> Tensor | None:
    given = [one for one in (channel, position) if one is not None]
    if not given or not usable(x, *given, *(() if shortcut is None else (shortcut,))):
        return None
    from foveate.ops.gpu.products import apply

    with _on(x):
        return apply(x, channel, position, shortcut, relu)


def _standardise(x: Tensor, regulariser: float, scale: float, shift: float, *, gated: bool) -> Tensor | None:
    if not usable(x):
        return None
    from foveate.ops.gpu.planes import fits, standardise

    if not fits(x):
        return None
    with _on(x):
        return standardise(x, regulariser, scale, shift, gated)


def _on(x: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device, whatever its arguments are on."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


@cache
def _capable(device: torch.device) -> bool:
    if find_spec("triton") is None or torch.version.hip is not None:
        return False
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)
