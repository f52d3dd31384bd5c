"""Intervals for other seeds *and* other examples, where every seed was tested on the same examples.

Scores of seeds by examples are a crossed design: a row of the table may be unusual, and a column. Resampling seeds, and
then examples anew within each, is right where every seed has examples of its own; here it would take a hard example for
another one in each seed, and miss what the test set as a whole does by chance. So seeds and examples are drawn
independently of each other, once each (Owen's pigeonhole bootstrap), or their variances are added.
"""

from __future__ import annotations

import math

import numpy as np

from foveate.study.statistics.arrays import Floats, finite
from foveate.study.statistics.student import CONFIDENCE, quantile


def crossed_t(differences: Floats, *, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """A t-interval of the mean over seeds and examples, from the variances of both.

    With ``d = mean + seed + example + rest``, the squared error of the mean is estimated by the variance of the seeds'
    means over the number of seeds plus that of the examples' means over the number of examples. Both hold the variance
    of the rest, which is so counted twice: the interval is never too short for it, and at most ``sqrt(2)`` times as
    long as need be, where there is nothing but the rest. Degrees of freedom are Satterthwaite's.

    Source: Satterthwaite (1946), https://doi.org/10.2307/3002019; Cornfield and Tukey (1956),
    https://doi.org/10.1214/aoms/1177728067.

    Args:
        differences: A row a seed and a column an example.
        confidence: How often the interval is to cover the mean.

    Returns:
        The interval; ``None`` of fewer than two seeds or examples.

    Raises:
        FoveateError: If a value is not a finite number, or they are no table.
        MissingExtraError: If scipy is not installed.

    Example:
        >>> table = np.array([[0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, -1.0]])
        >>> low, high = crossed_t(table)
        >>> round(low, 2), round(high, 2)
        (-0.61, 1.11)
    """
    table = finite(differences, dimensions=2)
    seeds, examples = table.shape
    if min(seeds, examples) < 2:
        return None
    mean = float(table.mean())
    of_seeds = float(table.mean(axis=1).var(ddof=1)) / seeds
    of_examples = float(table.mean(axis=0).var(ddof=1)) / examples
    variance = of_seeds + of_examples
    if variance == 0:
        return mean, mean
    freedom = variance**2 / (of_seeds**2 / (seeds - 1) + of_examples**2 / (examples - 1))
    half = quantile(freedom, confidence) * math.sqrt(variance)
    return mean - half, mean + half


def crossed_bootstrap(
    differences: Floats, *, confidence: float = CONFIDENCE, resamples: int = 2_000, seed: int = 0
) -> tuple[float, float] | None:
    """Percentiles of the mean over resampled seeds and resampled examples.

    It asks nothing of the distribution, but knows of no more seeds than there are: their variance comes out ``(n-1)/n``
    of what it is, and normal quantiles stand for t's, so that it covers too seldom with few seeds that differ: 78 %
    with 3, 86 % with 5, 93 % with 20 (``docs/statistics.md``). No bootstrap of a crossed table is exact (McCullagh).

    Source: Owen (2007), https://doi.org/10.1214/07-AOAS122; McCullagh (2000), https://doi.org/10.2307/3318577.

    Args:
        differences: A row a seed and a column an example.
        confidence: How often the interval is to cover the mean.
        resamples: How many.
        seed: Where their chance begins.

    Returns:
        The interval; ``None`` of fewer than two seeds or examples.

    Raises:
        FoveateError: If a value is not a finite number, or they are no table.

    Example:
        >>> low, high = crossed_bootstrap(np.array([[0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, -1.0]]))
        >>> -0.5 < low < 0.25 < high < 1
        True
    """
    table = finite(differences, dimensions=2)
    seeds, examples = table.shape
    if min(seeds, examples) < 2:
        return None
    chance = np.random.default_rng(seed)
    means: list[Floats] = []
    for start in range(0, resamples, 100):  # a hundred at once, so that ten thousand examples take megabytes
        count = min(100, resamples - start)
        rows = chance.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
        columns = chance.multinomial(examples, np.full(examples, 1 / examples), size=count) / examples
        means.append(((rows @ table) * columns).sum(axis=1))
    low, high = np.quantile(np.concatenate(means), ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)
