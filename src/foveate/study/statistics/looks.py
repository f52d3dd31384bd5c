"""At which numbers of seeds to look, and how much of the error probability each look may spend."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.errors import OptionError
from foveate.study.statistics.sign_flip import fewest_seeds

MOST_LOOKS = 4


@dataclass(frozen=True)
class Look:
    """A planned test.

    Attributes:
        seeds: After how many.
        share: The part of the error probability that it may spend.
    """

    seeds: int
    share: float


def planned_looks(budget: int, level: float) -> tuple[Look, ...]:
    """Up to four looks, evenly spaced, each with twice the share of the one before, the last when the budget is spent.

    The shares are an alpha spending function in the manner of O'Brien and Fleming: little early, most at the end, so
    that the last test is hardly less than one that never looked. The first look is at the smallest number of seeds that
    can decide with its share; where the budget leaves no room for four looks there are fewer, down to one.

    Source: Lan and DeMets (1983), https://doi.org/10.1093/biomet/70.3.659; O'Brien and Fleming (1979),
    https://doi.org/10.2307/2530245.

    Args:
        budget: The largest number of seeds.
        level: Of one arm's test, at worst.

    Raises:
        OptionError: If the budget is too small to decide at all.

    Example:
        >>> [look.seeds for look in planned_looks(20, 0.05 / 5)]
        [12, 15, 17, 20]
        >>> [round(look.share, 2) for look in planned_looks(20, 0.05 / 5)]
        [0.07, 0.13, 0.27, 0.53]
        >>> planned_looks(8, 0.05 / 5)
        (Look(seeds=8, share=1.0),)
    """
    least = fewest_seeds(level)
    if budget < least:
        raise OptionError(f"{budget} seeds cannot decide, whatever they show: it takes at least {least}")
    for count in range(MOST_LOOKS, 1, -1):
        shares = [2**rank / (2**count - 1) for rank in range(count)]
        first = fewest_seeds(level * shares[0])
        if budget - first >= count - 1:
            gap = (budget - first) / (count - 1)
            return tuple(Look(first + round(rank * gap), share) for rank, share in enumerate(shares))
    return (Look(budget, 1.0),)
