"""Could chance have done this? The sign-flip test of paired differences."""

from __future__ import annotations

import math

import numpy as np

from foveate.study.statistics.arrays import Floats, Numbers, finite

EXACT = 40
# sums this close, as a share of the sum of all magnitudes, count as equal: scores like 0.912 are rounded before they
# are subtracted, which moves a difference by 1e-16. Counting more as equal can only raise the p-value.
TIE = 1e-9


def sign_flip(differences: Numbers, *, draws: int = 99_999, seed: int = 0) -> float:
    """The two-sided p-value of the mean of paired differences, where every sign could as well have been the other.

    If an arm does what the baseline does, each seed's difference is as probable as its negative, whatever it is
    distributed like. Of all ``2ⁿ`` ways to put the signs, this is the share whose sum is at least as far from zero as
    the one that was seen. No other assumption is made, and the level is kept exactly at every ``n``. A difference of
    zero stays zero under both signs, so it decides nothing: with ``k`` others the smallest p-value is ``2 / 2ᵏ``.

    The mean orders the ways as Student's t does, because the sum of squares is the same under all signs.

    Up to 40 differences all ways are counted: each half is enumerated, and pairs of halves are counted by bisection
    (Horowitz and Sahni, 1974), which takes ``2^(n/2)`` steps. Beyond, ways are drawn, and the one seen is one of them
    (Phipson and Smyth, 2010), which keeps the level too.

    Source: Fisher (1935), The Design of Experiments, section 21; https://doi.org/10.1145/321812.321823;
    https://doi.org/10.2202/1544-6115.1585.

    Args:
        differences: One a seed.
        draws: How many ways are drawn beyond 40 differences.
        seed: Where their chance begins.

    Raises:
        FoveateError: If there is no difference, or one is not a finite number.

    Example:
        >>> sign_flip([1.0, 2.0, 3.0])  # 2 of 8 ways
        0.25
        >>> sign_flip([1.0, 2.0, 3.0, 0.0])
        0.25
    """
    values = finite(differences)
    moved = values[values != 0]  # flipping a zero gives the same sum twice, which leaves the share as it is
    tie = TIE * np.abs(moved).sum()
    reached = abs(moved.sum()) - tie
    if reached <= 0:
        return 1.0
    if moved.size <= EXACT:
        return 2 * _sums_from(moved, reached) / 2**moved.size
    chance, beyond = np.random.default_rng(seed), 0
    for start in range(0, draws, 10_000):
        signs = chance.choice((-1.0, 1.0), (min(10_000, draws - start), moved.size))
        beyond += int((np.abs(signs @ moved) >= reached).sum())
    return (beyond + 1) / (draws + 1)


def fewest_seeds(level: float) -> int:
    """The smallest number of seeds whose test can have a p-value of ``level`` at all: ``2 / 2ⁿ <= level``.

    Example:
        >>> fewest_seeds(0.05), fewest_seeds(0.05 / 5), fewest_seeds(0.05 / 11)
        (6, 8, 9)
    """
    seeds = max(1, math.floor(1 - math.log2(level)) - 1)  # a seed less than needed, so that rounding cannot matter
    while 2 / 2**seeds > level:
        seeds += 1
    return seeds


def _sums_from(values: Floats, least: float) -> int:
    """Of the sums with all signs, how many are at least this."""
    left, right = _sums(values[::2]), _sums(values[1::2])
    return int((right.size - np.searchsorted(right, least - left)).sum())


def _sums(values: Floats) -> Floats:
    """With all signs, in ascending order."""
    sums = np.zeros(1)
    for value in np.abs(values):
        sums = np.concatenate((sums - value, sums + value))
        sums.sort(kind="stable")  # merges two halves that are in order
    return sums
