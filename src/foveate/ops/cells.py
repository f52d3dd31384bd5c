"""Cells of 2×2 positions, and back: the last row and column of an odd map belong to none."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def cell_maxima(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c s t"]:
    """The largest value in each cell; along a side of one position a cell has one.

    Example:
        >>> cell_maxima(torch.arange(6.0).reshape(1, 1, 2, 3))
        tensor([[[[4.]]]])
    """
    return _cell_maxima(x)


def cell_means(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c s t"]:
    """The mean of each cell; along a side of one position a cell has one.

    Example:
        >>> cell_means(torch.arange(6.0).reshape(1, 1, 2, 3))
        tensor([[[[2.]]]])
    """
    return _cell_means(x)


def spread_cells(cells: Float[Tensor, "b c s t"], size: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    """Each cell's value at all of its positions, and zero at those that belong to no cell.

    Args:
        cells: One value a cell.
        size: Height and width of the map.

    Example:
        >>> spread_cells(torch.tensor([[[[4.0]]]]), (2, 3))
        tensor([[[[4., 4., 0.],
                  [4., 4., 0.]]]])
    """
    return _spread_cells(cells, size)


def _window(height: int, width: int) -> tuple[int, int]:
    return min(2, height), min(2, width)


def _cell_maxima(x: Tensor) -> Tensor:
    return F.max_pool2d(x, _window(x.shape[2], x.shape[3]))


def _cell_means(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, _window(x.shape[2], x.shape[3]))


def _spread_cells(cells: Tensor, size: tuple[int, int]) -> Tensor:
    batch, channels, rows, columns = cells.shape
    tall, wide = _window(*size)
    spread = cells[:, :, :, None, :, None].expand(batch, channels, rows, tall, columns, wide)
    spread = spread.reshape(batch, channels, rows * tall, columns * wide)
    return F.pad(spread, (0, size[1] - columns * wide, 0, size[0] - rows * tall))


torch.fx.wrap("_cell_maxima")  # FX cannot follow a branch on a size
torch.fx.wrap("_cell_means")
torch.fx.wrap("_spread_cells")
