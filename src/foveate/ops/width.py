"""Widths of kernels along channels."""

from __future__ import annotations

import math


def odd_width(channels: int) -> int:
    """An odd width that grows with the logarithm of the channels: ``(log₂ C + 1) / 2`` cut, one more where even.

    Example:
        >>> [odd_width(c) for c in (1, 8, 64, 128, 2048)]
        [1, 3, 3, 5, 7]
    """
    width = int((math.log2(channels) + 1) / 2)
    return width if width % 2 else width + 1
