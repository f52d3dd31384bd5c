"""How a cost grows with a size: the exponent of the power that fits best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Power:
    """A cost that grows as ``size ** exponent``.

    Attributes:
        exponent: 1 where twice the size costs twice as much.
        residual: How far the points lie from the power on average (root of the mean square), as a share of it.
    """

    exponent: float
    residual: float


def power(sizes: Sequence[float], costs: Sequence[float]) -> Power:
    """Least squares of the logarithms: ``log cost = exponent · log size + constant``.

    Args:
        sizes: At least two different ones, above zero.
        costs: One for each, above zero.

    Example:
        >>> power([1, 2, 4], [5, 20, 80])
        Power(exponent=2.0, residual=0.0)
    """
    xs, ys = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread
    left = [y - y_mean - slope * (x - x_mean) for x, y in zip(xs, ys, strict=True)]
    residual = math.sqrt(sum(value**2 for value in left) / len(left))
    return Power(round(slope, 4), round(math.expm1(residual), 4))
