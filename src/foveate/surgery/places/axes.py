"""Which axis of a tensor counts channels, followed through the operations that move it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

_LAST = {"linear", "layer_norm", "rms_norm"}
_SECOND = {"conv", "batch_norm", "group_norm", "instance_norm", "pool", "interpolate", "pixel_shuffle", "grid_sample"}
_MOVES = {"permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis"}
_RESHAPES = {"reshape", "view", "flatten", "unflatten"}


class _Known(Protocol):
    shape: tuple[int, ...]
    axis: int
    from_input: bool


def channel_axis(
    operation: str, args: tuple[Any, ...], kwargs: dict[str, Any], sources: Sequence[_Known], out: Tensor
) -> int:
    """The channel axis of what an operation returns.

    Args:
        operation: The operation's name.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        sources: What is known of the tensors among them.
        out: The tensor it returned.
    """
    if out.ndim < 3:
        return min(1, out.ndim - 1) if out.ndim else 0
    x = next((source for source in sources if source.from_input), None)
    if x is None:
        return 1
    if operation in _LAST:
        return out.ndim - 1
    if any(name in operation for name in _SECOND):
        return 1
    if len(x.shape) == out.ndim and operation in _MOVES:
        return _moved(
            operation,
            [*args[1:], *(value for value in kwargs.values() if not isinstance(value, Tensor))],
            x.axis,
            out.ndim,
        )
    if operation in _RESHAPES or len(x.shape) != out.ndim:
        return _reshaped(x, out)
    return x.axis


def _moved(operation: str, how: list[Any], axis: int, axes: int) -> int:
    flat = [int(number) % axes for part in how for number in (part if isinstance(part, list | tuple) else [part])]
    if operation == "permute":
        return flat.index(axis)
    source, target = flat[: len(flat) // 2], flat[len(flat) // 2 :]
    if operation in {"movedim", "moveaxis"}:
        order = [number for number in range(axes) if number not in source]
        for to, number in sorted(zip(target, source, strict=True)):
            order.insert(to, number)
        return order.index(axis)
    swap = dict(zip(flat, reversed(flat), strict=True))
    return swap.get(axis, axis)


def _reshaped(x: _Known, out: Tensor) -> int:
    """After a reshape: channels that were last stay so where their number does; all others are taken to be second."""
    last = out.ndim - 1
    if x.axis != len(x.shape) - 1:
        return 1
    return last if out.shape[last] == x.shape[x.axis] or out.shape[1] != x.shape[x.axis] else 1
