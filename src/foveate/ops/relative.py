"""From weights by relative position to weights by absolute position."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.ops.graph import eager


def relative_to_absolute(
    logits: Float[Tensor, "b cells h w"],
    mask: tuple[int, int],
    fill: float = 0.0,
) -> Float[Tensor, "b other here"]:
    """Lay every position's mask of relative weights over the map.

    Position (r, c) holds one logit for each cell of a mask centred on it: cell (i, j) is about the position
    (r + i - mask_h // 2, c + j - mask_w // 2). Cells outside the map are dropped; positions outside the mask
    get ``fill``.

    Args:
        logits: One mask a position, its cells in rows.
        mask: Height and width of the mask, both odd, so that it has a centre.
        fill: The logit of positions that the mask does not reach.

    Returns:
        For every position (last axis) the logit of every other position (middle axis), positions in rows.

    Example:
        >>> cells = torch.arange(9.0).reshape(1, 9, 1, 1).expand(1, 9, 2, 2)
        >>> relative_to_absolute(cells, (3, 3))[0, :, 0]
        tensor([4., 5., 7., 8.])
    """
    return _relative_to_absolute(logits, mask, fill)


def _relative_to_absolute(logits: Tensor, mask: tuple[int, int], fill: float) -> Tensor:
    mask_h, mask_w = mask
    height, width = logits.shape[2:]
    if eager(logits) and mask == (2 * height - 1, 2 * width - 1):
        return _whole(logits, mask)
    rows = _offsets(height, logits.device) + mask_h // 2
    columns = _offsets(width, logits.device) + mask_w // 2
    row_inside = (rows >= 0) & (rows < mask_h)
    column_inside = (columns >= 0) & (columns < mask_w)
    # axes: row and column of the other position, then row and column of this one
    inside = row_inside[:, None, :, None] & column_inside[None, :, None, :]
    cell = rows.clamp(0, mask_h - 1)[:, None, :, None] * mask_w + columns.clamp(0, mask_w - 1)[None, :, None, :]
    positions = height * width
    cell = cell.reshape(1, positions, positions).expand(logits.shape[0], positions, positions)
    absolute = logits.flatten(2).gather(1, cell)
    return absolute.masked_fill(~inside.reshape(1, positions, positions), fill)


def _whole(logits: Tensor, mask: tuple[int, int]) -> Tensor:
    """The same where every mask reaches all positions: with the positions turned around, its parts are a view."""
    batch, _, height, width = logits.shape
    turned = logits.unflatten(1, mask).flip(3, 4)
    step = turned.stride()
    strides = (*step[:3], step[3] + step[1], step[4] + step[2])
    laid = turned.as_strided((batch, height, width, height, width), strides, turned.storage_offset())
    return laid.flip(3, 4).reshape(batch, height * width, height * width)


torch.fx.wrap("_relative_to_absolute")  # FX cannot follow the sizes that it computes with


def _offsets(length: int, device: torch.device) -> Tensor:
    """Other - here, as a length × length table."""
    position = torch.arange(length, device=device)
    return position[:, None] - position[None, :]
