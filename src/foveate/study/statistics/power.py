"""What a number of seeds can see, for a sign-flip test at a level, if differences scatter normally."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from foveate.errors import OptionError
from foveate.study.statistics.arrays import Floats
from foveate.study.statistics.sign_flip import fewest_seeds
from foveate.study.statistics.student import distributions, quantile

POWER = 0.8
MOST = 100_000
SMALL = 12
_DRAWS = 4_000


def power(effect: float, seeds: int, level: float) -> float:
    """How probably an arm that is truly better, by so many standard deviations of the differences, is called so.

    A sign-flip test of ``n`` seeds has p-values in steps of ``2 / 2ⁿ``, so it works at the last step up to the level.
    Beyond 12 seeds its power is that of the t-test at this step, from the noncentral t (Lehmann and Romano, 2005, 15.2;
    simulations in ``docs/statistics.md``). Up to 12 it is less, as there are few ways to put signs, and counted instead
    over 4,000 normal samples, which is right to 0.6 %: a sample shifted by the effect is called better at step ``k``
    exactly if the ``k`` th smallest mean of its subsets is above zero (Hartigan, 1969).

    Source: https://doi.org/10.1007/0-387-27605-X; https://doi.org/10.1080/01621459.1969.10501057.

    Args:
        effect: Mean over standard deviation of the differences; positive.
        seeds: How many.
        level: Of the two-sided test of this one arm; after Holm, at worst ``alpha`` over the number of arms.

    Raises:
        MissingExtraError: If scipy is not installed.

    Example:
        >>> power(0.5, 34, 0.05) > 0.8 > power(0.5, 33, 0.05)
        True
        >>> power(100.0, 5, 0.05)  # 5 seeds cannot decide
        0.0
    """
    step = attained(seeds, level)
    if step == 0:
        return 0.0
    if seeds <= SMALL:
        return float(np.searchsorted(_thresholds(seeds, round(step * 2 ** (seeds - 1))), effect) / _DRAWS)
    critical, shift = quantile(seeds - 1, 1 - step), effect * math.sqrt(seeds)
    if shift > critical + 10:  # above it all but surely; scipy's series ends in NaN far out
        return 1.0
    return float(distributions().nct.sf(critical, seeds - 1, shift))


@lru_cache(maxsize=1024)
def detectable_effect(seeds: int, level: float, chance: float = POWER) -> float | None:
    """The smallest effect, in standard deviations of the differences, that is seen with this probability.

    Returns:
        The effect; ``None`` where the seeds are too few to see any.

    Raises:
        MissingExtraError: If scipy is not installed.

    Example:
        >>> round(detectable_effect(20, 0.05 / 5), 2)
        0.84
        >>> detectable_effect(7, 0.05 / 5) is None
        True
    """
    if attained(seeds, level) == 0:
        return None
    low, high = 0.0, 100.0  # 0.8^(1/12) of normal values lie above -2.1, so nothing near 100 is ever needed
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, seeds, level) < chance else (low, middle)
    return high


def seeds_needed(effect: float, level: float, chance: float = POWER) -> int | None:
    """The smallest number of seeds that sees an effect with this probability; ``None`` above 100,000.

    Raises:
        MissingExtraError: If scipy is not installed.
        OptionError: If the effect is not positive.

    Example:
        >>> seeds_needed(0.5, 0.05)
        34
        >>> seeds_needed(10.0, 0.05 / 5)
        8
    """
    if not effect > 0:
        raise OptionError(f"an effect to be seen must be above zero, not {effect}")
    high = low = fewest_seeds(level)
    while power(effect, high, level) < chance:
        low, high = high + 1, high * 2
        if high > MOST:
            return None
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if power(effect, middle, level) < chance else (low, middle)
    return high


def attained(seeds: int, level: float) -> float:
    """The largest p-value up to a level that a sign-flip test of so many seeds can have; 0 if there is none.

    Example:
        >>> attained(8, 0.01) == 2 / 2**8, attained(7, 0.01)
        (True, 0.0)
    """
    if seeds > 50:  # steps finer than rounding
        return level
    return math.floor(level * 2 ** (seeds - 1)) / 2 ** (seeds - 1)


@lru_cache(maxsize=256)
def _thresholds(seeds: int, ways: int) -> Floats:
    """By how much each of many standard normal samples must be shifted to be called better, in ascending order."""
    samples = np.random.default_rng(0).standard_normal((_DRAWS, seeds))
    subsets = (np.arange(1, 2**seeds)[:, None] >> np.arange(seeds)) & 1
    weights = (subsets / subsets.sum(axis=1, keepdims=True)).T
    needed = [np.partition(part @ weights, ways - 1, axis=1)[:, ways - 1] for part in np.array_split(samples, 20)]
    return np.sort(-np.concatenate(needed))
