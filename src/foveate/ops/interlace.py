"""A map as groups of positions: blocks, or the lattices of positions that have one place in their blocks."""

from __future__ import annotations

from jaxtyping import Shaped
from torch import Tensor


def to_blocks(x: Shaped[Tensor, "b c h w"], block: tuple[int, int]) -> Shaped[Tensor, "b group c member"]:
    """The positions of each block, in rows; blocks in rows.

    Args:
        x: A map that blocks divide.
        block: Height and width of a block.

    Example:
        >>> import torch
        >>> to_blocks(torch.arange(8.0).reshape(1, 1, 2, 4), (2, 2))[0, :, 0]
        tensor([[0., 1., 4., 5.],
                [2., 3., 6., 7.]])
    """
    batch, channels, height, width = x.shape
    tall, wide = block
    split = x.reshape(batch, channels, height // tall, tall, width // wide, wide)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels, tall * wide)


def from_blocks(
    groups: Shaped[Tensor, "b group c member"], size: tuple[int, int], block: tuple[int, int]
) -> Shaped[Tensor, "b c h w"]:
    """The map whose blocks these are.

    Example:
        >>> import torch
        >>> x = torch.arange(8.0).reshape(1, 1, 2, 4)
        >>> torch.equal(from_blocks(to_blocks(x, (2, 2)), (2, 4), (2, 2)), x)
        True
    """
    (height, width), (tall, wide) = size, block
    split = groups.reshape(groups.shape[0], height // tall, width // wide, groups.shape[2], tall, wide)
    return split.permute(0, 3, 1, 4, 2, 5).reshape(groups.shape[0], groups.shape[2], height, width)


def to_lattices(x: Shaped[Tensor, "b c h w"], block: tuple[int, int]) -> Shaped[Tensor, "b group c member"]:
    """The positions with one place in their blocks, blocks in rows; places in rows.

    Args:
        x: A map that blocks divide.
        block: Height and width of a block.

    Example:
        >>> import torch
        >>> to_lattices(torch.arange(8.0).reshape(1, 1, 2, 4), (2, 2))[0, :, 0]
        tensor([[0., 2.],
                [1., 3.],
                [4., 6.],
                [5., 7.]])
    """
    batch, channels, height, width = x.shape
    tall, wide = block
    split = x.reshape(batch, channels, height // tall, tall, width // wide, wide)
    members = (height // tall) * (width // wide)
    return split.permute(0, 3, 5, 1, 2, 4).reshape(batch, tall * wide, channels, members)


def from_lattices(
    groups: Shaped[Tensor, "b group c member"], size: tuple[int, int], block: tuple[int, int]
) -> Shaped[Tensor, "b c h w"]:
    """The map whose lattices these are.

    Example:
        >>> import torch
        >>> x = torch.arange(8.0).reshape(1, 1, 2, 4)
        >>> torch.equal(from_lattices(to_lattices(x, (2, 2)), (2, 4), (2, 2)), x)
        True
    """
    (height, width), (tall, wide) = size, block
    split = groups.reshape(groups.shape[0], tall, wide, groups.shape[2], height // tall, width // wide)
    return split.permute(0, 3, 4, 1, 5, 2).reshape(groups.shape[0], groups.shape[2], height, width)
