"""Student's t-interval of a mean."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from foveate.errors import MissingExtraError

CONFIDENCE = 0.95


def student(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """The t-interval of the mean of independent values; ``None`` of fewer than two.

    Exact at any number of normally distributed values; ``docs/statistics.md`` has how often it covers of others.

    Source: Student (1908), https://doi.org/10.1093/biomet/6.1.1.

    Args:
        values: Finite numbers, one a seed.
        confidence: How often the interval is to cover the mean.

    Raises:
        MissingExtraError: If scipy is not installed.

    Example:
        >>> low, high = student([1.0, 2.0, 3.0])
        >>> round(low, 2), round(high, 2)
        (-0.48, 4.48)
    """
    count = len(values)
    if count < 2:
        return None
    mean = math.fsum(values) / count
    half = quantile(count - 1, confidence) * statistics.stdev(values) / math.sqrt(count)
    return mean - half, mean + half


@lru_cache(maxsize=1024)
def quantile(degrees: float, confidence: float = CONFIDENCE) -> float:
    """Between minus this and this lies Student's t of so many degrees of freedom, in that share of cases.

    Raises:
        MissingExtraError: If scipy is not installed.

    Example:
        >>> round(quantile(2), 3)
        4.303
    """
    return float(distributions().t.ppf((1 + confidence) / 2, degrees))


def distributions() -> Any:
    """``scipy.stats``, imported when it is needed.

    Raises:
        MissingExtraError: If scipy is not installed.

    Example:
        >>> float(distributions().norm.cdf(0.0))
        0.5
    """
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingExtraError("scipy", "compare") from error
    return stats
