"""What the kernels' callers share: how a map lies in memory, how it is cut into tiles, and second derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

# elements of the tile that a program holds at once; of one that holds a whole axis, at most; and programs from which
# on each takes several tiles, so that partial sums stay few. Starting points, not tuned: no GPU was at hand.
TILE = 2048
AXIS = 16384
PROGRAMS = 1024


class Flat(NamedTuple):
    """A map with its positions in a row: sizes, and the strides of a tensor in either layout.

    Offsets within a sample are 32 bits wide in the kernels, those of samples 64.
    """

    samples: int
    channels: int
    positions: int
    strides: tuple[int, int, int]

    @property
    def positions_first(self) -> bool:
        """Whether the positions of a channel lie side by side, and not the channels of a position."""
        return self.strides[2] == 1


def flat(x: Tensor) -> Flat:
    """Sizes and strides of a dense map.

    Example:
        >>> flat(torch.zeros(2, 3, 4, 5).contiguous(memory_format=torch.channels_last))
        Flat(samples=2, channels=3, positions=20, strides=(60, 1, 3))
    """
    rows = x.flatten(2)
    samples, channels, positions = rows.shape
    first, second, third = rows.stride()
    return Flat(samples, channels, positions, (first, second, third))


def dense(x: Tensor) -> bool:
    """Whether a map lies in memory without gaps, positions last or channels last.

    Example:
        >>> dense(torch.zeros(2, 3, 4, 5)), dense(torch.zeros(2, 3, 4, 5)[:, :2]), dense(torch.zeros(2, 3))
        (True, False, False)
    """
    return x.ndim > 2 and (x.is_contiguous() or x.movedim(1, -1).is_contiguous())


def laid_out_as(x: Tensor, other: Tensor) -> Tensor:
    """The tensor, in memory laid out as another of its shape; copied only where it is not.

    Example:
        >>> laid_out_as(torch.ones(1).expand(2, 3), torch.zeros(2, 3)).stride()
        (3, 1)
    """
    return x if x.stride() == other.stride() else torch.empty_like(other, dtype=x.dtype).copy_(x)


def power(size: int) -> int:
    """The smallest power of two that is not below a size.

    Example:
        >>> [power(size) for size in (1, 2, 3, 64, 65)]
        [1, 2, 4, 64, 128]
    """
    return 1 << (size - 1).bit_length()


def quotient(size: int, block: int) -> int:
    """How many blocks cover a size."""
    return -(-size // block)


def blocks(map_: Flat, wide: int = 256) -> tuple[int, int]:
    """How many channels and positions a tile has: up to so many along the axis that lies side by side.

    Example:
        >>> blocks(Flat(8, 256, 3136, (802816, 3136, 1)))
        (8, 256)
        >>> blocks(Flat(8, 256, 3136, (802816, 1, 256)), 64)
        (64, 32)
    """
    channels, positions = power(map_.channels), power(map_.positions)
    if map_.positions_first:
        columns = min(positions, wide, TILE)
        return min(channels, TILE // columns), columns
    rows = min(channels, wide, TILE)
    return rows, min(positions, TILE // rows)


def spans(tiles: int, others: int) -> tuple[int, int]:
    """How many programs share the tiles of one axis, and how many tiles each takes.

    Args:
        tiles: Tiles along the axis.
        others: How many times there are as many of them.

    Example:
        >>> spans(4, 10), spans(4, 4096)
        ((4, 1), (1, 4))
    """
    steps = max(1, min(tiles, tiles * others // PROGRAMS))
    return quotient(tiles, steps), steps


def warps(elements: int) -> int:
    """Warps for a program that holds so many elements: at most 32 of them a thread, and 16 warps."""
    return min(16, max(4, elements // 1024))


def differentiable(
    plain: Callable[..., Any], inputs: Sequence[Any], wanted: Sequence[bool], upstream: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Gradients that have gradients themselves, by the plain form; None for inputs that want none.

    Example:
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> (slope, _) = differentiable(lambda t, n: t**n, (x, 3), (True, False), [torch.tensor(1.0)])
        >>> torch.autograd.grad(slope, x)
        (tensor(18.),)
    """
    chosen = [value for value, want in zip(inputs, wanted, strict=True) if want]
    if not chosen:
        return (None,) * len(inputs)
    with torch.enable_grad():
        found = iter(torch.autograd.grad(plain(*inputs), chosen, upstream, create_graph=True))
    return tuple(next(found) if want else None for want in wanted)
