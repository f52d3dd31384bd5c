"""Windows that cover an image, for networks that are made for one size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

STRIDE = 2 / 3  # of a window, between one and the next, as in PSANet's own evaluation


@dataclass(frozen=True)
class Windows:
    """Where square windows lie on an image, so that every pixel is in at least one.

    A window is at most two thirds of its side away from the next; the last ones end where the image ends. An image
    smaller than a window is in the top left corner of its only one.

    Attributes:
        height: Of the image.
        width: Of the image.
        side: Of a window.
        corners: Row and column of the first pixel of each window.

    Example:
        >>> Windows.over(96, 150, 96).corners
        ((0, 0), (0, 54))
        >>> windows = Windows.over(5, 9, 4)
        >>> image = torch.rand(3, 5, 9)
        >>> torch.allclose(windows.merge(windows.cut(image)), image)
        True
    """

    height: int
    width: int
    side: int
    corners: tuple[tuple[int, int], ...]

    @classmethod
    def over(cls, height: int, width: int, side: int) -> Windows:
        """Lay windows of a side over an image."""
        rows, columns = (_starts(length, side) for length in (height, width))
        return cls(height, width, side, tuple((row, column) for row in rows for column in columns))

    def cut(self, x: Float[Tensor, "c h w"]) -> Float[Tensor, "n c side side"]:
        """The windows of an image; beyond it there are zeros."""
        below, right = max(0, self.side - self.height), max(0, self.side - self.width)
        padded = F.pad(x, (0, right, 0, below))
        return torch.stack([padded[:, top : top + self.side, left : left + self.side] for top, left in self.corners])

    def merge(self, parts: Float[Tensor, "n c side side"]) -> Float[Tensor, "c h w"]:
        """One map from what was found in each window, the mean where several lie over a pixel."""
        shape = max(self.side, self.height), max(self.side, self.width)
        total, count = parts.new_zeros(parts.shape[1], *shape), parts.new_zeros(shape)
        for part, (top, left) in zip(parts, self.corners, strict=True):
            total[:, top : top + self.side, left : left + self.side] += part
            count[top : top + self.side, left : left + self.side] += 1
        return (total / count)[:, : self.height, : self.width]


def _starts(length: int, side: int) -> list[int]:
    stride = math.ceil(side * STRIDE)
    count = math.ceil(max(0, length - side) / stride) + 1
    return [max(0, min(number * stride, length - side)) for number in range(count)]
