"""A mean, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from foveate.errors import FoveateError
from foveate.study.statistics.student import student


@dataclass(frozen=True)
class Estimate:
    """A mean and the interval that it was estimated with.

    Attributes:
        mean: The mean of the values.
        interval: Student's t-interval of 95 % for the mean; ``None`` if there is one value only, which says nothing
            about how far another would lie.
        count: How many values there were.
    """

    mean: float
    interval: tuple[float, float] | None
    count: int

    def __str__(self) -> str:
        """The estimate in words.

        Example:
            >>> print(estimate([1.0, 2.0, 3.0]))
            2 (95 % interval -0.484 to 4.48, 3 values)
            >>> print(estimate([1.0]))
            1 (one value: no interval)
        """
        if self.interval is None:
            return f"{self.mean:.3g} (one value: no interval)"
        low, high = self.interval
        return f"{self.mean:.3g} (95 % interval {low:.3g} to {high:.3g}, {self.count} values)"


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of independent values, with its t-interval.

    The interval assumes that the values scatter normally; of few values nobody can tell whether they do. A width of
    zero means that all values were equal, not that the mean is certain.

    Args:
        values: One a seed.

    Raises:
        FoveateError: If there is no value, or one is not a finite number.
        MissingExtraError: If scipy is not installed.

    Example:
        >>> estimate([1.0, 2.0, 3.0]).mean
        2.0
    """
    if not values:
        raise FoveateError("there is no value to take the mean of")
    if not all(math.isfinite(value) for value in values):
        raise FoveateError(f"there is no mean of values that are not finite numbers: {list(values)}")
    return Estimate(math.fsum(values) / len(values), student(values), len(values))


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """The mean of the differences to a baseline, pair by pair, with its t-interval.

    Args:
        values: One a seed.
        baseline: One for the same seed, in the same order.

    Raises:
        FoveateError: If the two do not pair, or a value is not a finite number.
        MissingExtraError: If scipy is not installed.

    Example:
        >>> paired_difference([2.0, 3.0], [1.0, 2.5]).mean
        0.75
    """
    if len(values) != len(baseline):
        raise FoveateError(f"{len(values)} values and {len(baseline)} of the baseline do not pair")
    return estimate([value - base for value, base in zip(values, baseline, strict=True)])
