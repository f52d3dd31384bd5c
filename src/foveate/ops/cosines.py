"""Sums of a map's products with cosines along its sides: coefficients of a discrete cosine transform."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.ops.adaptive import windows
from foveate.ops.precision import full_precision

# Frequencies are those of a side of seven; on a longer one they are so many times higher.
SIDE = 7


def cosine_sums(
    x: Float[Tensor, "b c h w"], frequencies: Sequence[tuple[int, int]], grid: tuple[int, int]
) -> Float[Tensor, "b c"]:
    """One coefficient of the orthonormal cosine transform for each channel, of a frequency that its group shares.

    The channels go into as many groups as there are frequencies; where they do not divide, the first groups have one
    more. The transform is that of a grid; a map of another size counts by its means over the grid's bins, which cover
    it as in adaptive average pooling. As pooling is linear it is the cosines that are pooled, so that no pooled map is
    made, and all of it is deterministic on every device.

    Args:
        x: The map.
        frequencies: Along height and along width, from 0 to 6, on a side of seven.
        grid: Height and width of the grid, at least seven each.

    Example:
        >>> cosine_sums(torch.ones(1, 2, 7, 7), [(0, 0), (0, 1)], (7, 7)).round(decimals=3).abs()
        tensor([[7., 0.]])
    """
    rows = _profiles([row for row, _ in frequencies], grid[0], x.shape[2], x)
    columns = _profiles([column for _, column in frequencies], grid[1], x.shape[3], x)
    rows, columns = _for_channels(rows, x.shape[1]), _for_channels(columns, x.shape[1])
    along_width = (full_precision(x) * columns[:, None]).sum(3)
    return (along_width * rows).sum(2).to(x.dtype)


def _profiles(frequencies: list[int], bins: int, length: int, like: Tensor) -> Tensor:
    """What every position of a side counts for at each frequency, frequencies × length."""
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    index = torch.arange(bins, device=like.device)
    inside = windows(length, bins, torch.zeros((), dtype=dtype, device=like.device))
    shares = inside / inside.sum(1, keepdim=True)

    waves = torch.arange(SIDE, device=like.device, dtype=dtype)[:, None]
    height = ((1 + (waves > 0).to(dtype)) / bins).sqrt()
    cosines = height * torch.cos(waves * (index.to(dtype) + 0.5) * (math.pi * (bins // SIDE) / bins))
    # not a matrix product, which autocast would round
    profiles = (cosines[:, :, None] * shares).sum(1)
    return torch.stack([profiles[frequency] for frequency in frequencies])


def _for_channels(profiles: Tensor, channels: int) -> Tensor:
    """One profile for each channel, channels × length."""
    each, more = divmod(channels, len(profiles))
    return torch.cat([profiles[:more].repeat_interleave(each + 1, 0), profiles[more:].repeat_interleave(each, 0)])


torch.fx.wrap("_profiles")  # FX cannot follow the sizes that they compute with
torch.fx.wrap("_for_channels")
