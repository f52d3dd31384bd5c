"""A mean over images and how sure it is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from foveate.errors import FoveateError, MissingExtraError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Effect:
    """The mean of one value an image, and an interval of 95 % for what it would be over all such images.

    Student's t-interval. Where all images have the same value, it says nothing of images that were not there, so the
    interval is that of an event that n images did not show: its probability is below 1 - 0.05 ** (1 / n), about 3 / n
    (the rule of three), and it would move the mean by at most ``most``. Nor does it say much where answers are right or
    wrong and few of them change: then the interval is the adjusted Wald interval of a difference of paired proportions,
    with one image more that changes either way.

    Source: Bonett and Price (2012), https://doi.org/10.3102/1076998611411915.

    Attributes:
        mean: The mean.
        low: The interval's lower end.
        high: The upper end.
        count: How many images there were.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def apart(self) -> bool:
        """Whether zero lies outside of the interval."""
        return self.low > 0 or self.high < 0

    def within(self, margin: float) -> bool:
        """Whether the whole interval lies nearer to zero than a margin."""
        return -margin < self.low and self.high < margin

    def points(self) -> str:
        """In hundredths, as shares are compared.

        Example:
            >>> Effect(0.001, -0.004, 0.006, 50).points()
            '+0.1 points (-0.4 to +0.6)'
        """
        mean, low, high = (fixed(100 * value, 1, sign="+") for value in (self.mean, self.low, self.high))
        return f"{mean} points ({low} to {high})"

    def __str__(self) -> str:
        """As it is.

        Example:
            >>> print(Effect(-0.11, -0.16, -0.06, 16))
            -0.11 (-0.16 to -0.06)
        """
        return f"{self.mean:z.3g} ({self.low:z.3g} to {self.high:z.3g})"

    def as_dict(self) -> dict[str, float | int | None]:
        """Plain values, ready for JSON, which has no infinity."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


def fixed(value: float, digits: int, *, sign: str = "-") -> str:
    """A number with so many digits; nothing has no sign.

    Example:
        >>> fixed(-0.004, 2), fixed(0.04, 1, sign="+"), fixed(0.4, 1, sign="+"), fixed(-0.4, 1)
        ('0.00', '0.0', '+0.4', '-0.4')
    """
    told = f"{value:{sign}.{digits}f}"
    return told if float(told) else f"{0:.{digits}f}"


def effect(values: Sequence[float], *, most: float = 1.0, together: int = 1) -> Effect:
    """The mean of values of independent images, or of differences between two values of each.

    Args:
        values: One an image.
        most: The largest that a value can be.
        together: Of how many intervals this is one that all hold at once in 95 % of cases (Bonferroni).

    Raises:
        FoveateError: If there is none, or one is not a finite number.
        MissingExtraError: If scipy is not installed.

    Example:
        >>> one = effect([1.0, 2.0, 3.0])
        >>> one.mean, round(one.low, 2), round(one.high, 2)
        (2.0, -0.48, 4.48)
        >>> print(effect([0.0] * 58))
        0 (-0.0503 to 0.0503)
    """
    if not values:
        raise FoveateError("there is no image to take a mean over")
    if not all(math.isfinite(value) for value in values):
        raise FoveateError("there is no mean of values that are not finite numbers")
    count, miss = len(values), (1 - CONFIDENCE) / together
    mean = math.fsum(values) / count
    if len(set(values)) == 1:
        half = most * (1 - miss ** (1 / count))
    else:
        half = _quantile(count - 1, miss) * statistics.stdev(values) / math.sqrt(count)
    return Effect(mean, mean - half, mean + half, count)


def _of_answers(changes: Sequence[float], most: float, together: int) -> Effect:
    """The mean of changes that are each ``-most``, 0 or ``most``, not all alike."""
    count, more = len(changes), len(changes) + 2
    up, down = ((sum(change * sign > 0 for change in changes) + 1) / more for sign in (1, -1))
    half = _quantile(math.inf, (1 - CONFIDENCE) / together) * math.sqrt((up + down - (up - down) ** 2) / more)
    return Effect(math.fsum(changes) / count, most * (up - down - half), most * (up - down + half), count)


def paired(values: Sequence[float], others: Sequence[float], *, most: float = 1.0, together: int = 1) -> Effect:
    """The mean difference between two values of each image; where all are 0 or ``most``, they are answers.

    Example:
        >>> paired([2.0, 3.0], [1.0, 2.5]).mean
        0.75
        >>> paired([0.0] + 319 * [1.0], 320 * [1.0]).points()  # one answer in 320 changed
        '-0.3 points (-1.4 to +0.7)'
    """
    if len(values) != len(others):
        raise FoveateError(f"{len(values)} values and {len(others)} do not pair")
    changes = [value - other for value, other in zip(values, others, strict=True)]
    if len(set(changes)) > 1 and {*values, *others} <= {0.0, most}:
        return _of_answers(changes, most, together)
    return effect(changes, most=most, together=together)


def _quantile(degrees: float, miss: float) -> float:
    try:
        from scipy.stats import t
    except ImportError as error:
        raise MissingExtraError("scipy", "explain") from error
    return float(t.ppf(1 - miss / 2, degrees))  # with infinitely many degrees the normal distribution's
