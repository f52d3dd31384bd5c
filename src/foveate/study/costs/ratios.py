"""How many times as much: the ratio within rounds, how sure it is, and whether the run was too noisy to say."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from foveate.errors import MissingExtraError

CONFIDENCE = 0.95
# The smallest sample whose extremes enclose the median with 95 %: they miss it with 2 / 2ⁿ.
FEWEST = 6
# Attention costs 5 to 50 % of latency: a run that sees the baseline differ from itself by 5 % cannot tell.
NOISE = 0.05
_RESAMPLES = 1999


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, Any]:
    """The median of the ratios of each round, with its interval of 95 % (percentile bootstrap over the rounds).

    Args:
        over: One value a round.
        under: One of the same round, of the baseline.

    Returns:
        ``"ratio"`` and ``"interval"``; the latter is ``None`` for fewer than six rounds, whose extremes themselves
        enclose the median less often.

    Example:
        >>> ratio([2.0, 4.0, 6.0, 8.0, 10.0, 12.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        {'ratio': 2.0, 'interval': [2.0, 2.0]}
    """
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    return {"ratio": statistics.median(ratios), "interval": _interval(ratios)}


def noise(again: dict[str, Any]) -> float:
    """How far from itself the baseline may be: the farther end of the interval, as a share; infinite without one.

    Example:
        >>> round(noise({"ratio": 1.01, "interval": [0.98, 1.03]}), 3)
        0.03
    """
    ends = again["interval"]
    return math.inf if ends is None else max(abs(end - 1) for end in ends)


def _interval(values: Sequence[float]) -> list[float] | None:
    try:
        import numpy as np
        from scipy.stats import bootstrap
    except ImportError as error:
        raise MissingExtraError(error.name or "scipy", "compare") from error
    if len(values) < FEWEST:
        return None
    if min(values) == max(values):
        return [values[0], values[0]]
    found = bootstrap(
        (np.asarray(values),),
        np.median,
        n_resamples=_RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return [float(found.low), float(found.high)]
